//! A TOML text read key by key, so that every refusal can name its file and line.
//!
//! Reading goes on after a fault: an operator gets all of them at once.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text and what was found wrong with it so far.
pub(super) struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    faults: RefCell<Vec<(usize, String)>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, faults: RefCell::default() }
    }

    /// Notes that `what` is wrong in `line`.
    pub(super) fn fault(&self, line: usize, what: impl Display) {
        let sentence = format!("{}:{line}: {what}", self.path.display());
        self.faults.borrow_mut().push((line, sentence));
    }

    /// Every fault in the order of lines.
    pub(super) fn into_faults(self) -> Vec<String> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|(line, _)| *line);
        faults.into_iter().map(|(_, sentence)| sentence).collect()
    }

    /// The text as a table; a text that is no TOML is a fault.
    pub(super) fn parse(&self) -> Option<DeTable<'a>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(table.into_inner()),
            Err(error) => {
                let line = error.span().map_or(1, |span| self.line(&span));
                let what = error.message().lines().collect::<Vec<_>>().join(", ");
                self.fault(line, format_args!("this is not TOML: {what}"));
                None
            }
        }
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// A table of the text, or one that is left out.
pub(super) struct Section<'s, 't> {
    source: &'s Source<'t>,
    /// As it is written: `[port]`; of the topmost table: `the file`.
    name: String,
    line: usize,
    table: Option<&'s DeTable<'t>>,
    known: RefCell<Vec<&'static str>>,
}

impl<'s, 't> Section<'s, 't> {
    pub(super) fn top(source: &'s Source<'t>, table: &'s DeTable<'t>) -> Self {
        let known = RefCell::default();
        Self { source, name: "the file".into(), line: 1, table: Some(table), known }
    }

    /// The table `key` of this one.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let value = self.get(key);
        let table = value.and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                self.fault(key, format_args!("`{key}` is no table; write [{key}] on a line"));
            }
            table
        });
        Self {
            source: self.source,
            name: format!("[{key}]"),
            line: self.line_of(key),
            table,
            known: RefCell::default(),
        }
    }

    /// Notes that `what` is wrong with `key`, in its line or the section's if it is left out.
    pub(super) fn fault(&self, key: &str, what: impl Display) {
        self.source.fault(self.line_of(key), what);
    }

    /// Notes that `what` is wrong in a line of [`Self::array`].
    pub(super) fn fault_in(&self, line: usize, what: impl Display) {
        self.source.fault(line, what);
    }

    /// The line where `key` is set, or where its section begins.
    pub(super) fn line_of(&self, key: &str) -> usize {
        let entry = self.table.and_then(|table| table.get_key_value(key));
        entry.map_or(self.line, |(name, _)| self.source.line(&name.span()))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// A whole number.
    pub(super) fn integer(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(key)?.get_ref();
        let allowed = format!("{} to {}", range.start(), range.end());
        let Some(number) = value.as_integer() else {
            return self.wrong_type(key, value, &format!("an integer, {allowed}"));
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => self.wrong(key, number.as_str(), &allowed),
        }
    }

    /// A number of bytes: an integer, or a string such as `"64MiB"`.
    pub(super) fn bytes(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(key)?.get_ref();
        let allowed = format!(
            "{} to {}, written like \"64MiB\" or as a number of bytes",
            Size(*range.start()),
            Size(*range.end())
        );
        let (text, bytes) = match value {
            DeValue::Integer(number) => {
                let text = number.as_str().to_owned();
                let bytes = u64::from_str_radix(&text, number.radix()).ok();
                (text, bytes)
            }
            DeValue::String(text) => (text.to_string(), parse_bytes(text)),
            other => return self.wrong_type(key, other, &allowed),
        };
        match bytes {
            Some(bytes) if range.contains(&bytes) => Some(bytes),
            _ => self.wrong(key, &text, &allowed),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?.get_ref();
        match value.as_bool() {
            Some(value) => Some(value),
            None => self.wrong_type(key, value, "true or false"),
        }
    }

    /// A string.
    pub(super) fn text(&self, key: &'static str) -> Option<&'s str> {
        let value = self.get(key)?.get_ref();
        match value.as_str() {
            Some(text) => Some(text),
            None => self.wrong_type(key, value, "a string in quotation marks"),
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*choice);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        self.wrong(key, text, &words.join(" or "))
    }

    /// The elements of an array of 1 to `max` with their lines; each is read by `read`, which says
    /// `None` of what is of the wrong type.
    pub(super) fn array<T>(
        &self,
        key: &'static str,
        max: usize,
        of: &str,
        read: impl Fn(&'s DeValue<'t>) -> Option<T>,
    ) -> Option<Vec<(usize, T)>> {
        let value = self.get(key)?.get_ref();
        let Some(array) = value.as_array() else {
            return self.wrong_type(key, value, &format!("a list of {of} in brackets"));
        };
        let (count, name) = (array.len(), &self.name);
        if !(1..=max).contains(&count) {
            self.fault(
                key,
                format_args!("`{key}` in {name} holds {count}; it can hold 1 to {max}"),
            );
        }
        let mut elements = Vec::new();
        for element in array {
            let line = self.source.line(&element.span());
            match read(element.get_ref()) {
                Some(value) => elements.push((line, value)),
                None => {
                    let is = element.get_ref().type_str();
                    let name = &self.name;
                    let what =
                        format!("`{key}` in {name} holds a value of type {is}; it must hold {of}");
                    self.source.fault(line, what);
                }
            }
        }
        Some(elements)
    }

    /// Every key nobody asked for is a fault. Call it last.
    pub(super) fn finish(self) {
        let known = self.known.into_inner();
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let hint = match nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            let what = format!("unknown key `{name}` in {}; {hint}", self.name);
            self.source.fault(self.source.line(&key.span()), what);
        }
    }

    fn get(&self, key: &'static str) -> Option<&'s Spanned<DeValue<'t>>> {
        self.known.borrow_mut().push(key);
        self.table?.get(key)
    }

    fn wrong<T>(&self, key: &str, is: &str, allowed: &str) -> Option<T> {
        self.fault(key, format_args!("`{key}` in {} is {is}; it can be {allowed}", self.name));
        None
    }

    fn wrong_type<T>(&self, key: &str, value: &DeValue<'_>, wanted: &str) -> Option<T> {
        let is = value.type_str();
        let name = &self.name;
        self.fault(key, format_args!("`{key}` in {name} is of type {is}; it must be {wanted}"));
        None
    }
}

/// A number of bytes as people write it.
pub(super) struct Size(pub(super) u64);

impl Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.0;
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if bytes >> shift > 0 && bytes.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", bytes >> shift);
            }
        }
        write!(f, "{bytes}")
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The known key that was probably meant.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let nearest = known.iter().map(|known| (distance(key, known), *known)).min()?;
    (nearest.0 <= 1 + key.len() / 3).then_some(nearest.1)
}

/// How many letters must be changed, added or left out to make one word the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, wanted) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key() {
        assert_eq!(distance("windw_max", "window_max"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        let known = ["window_max", "window_scale", "rto_min_ms"];
        assert_eq!(nearest("windw_max", &known), Some("window_max"));
        assert_eq!(nearest("rto_min", &known), Some("rto_min_ms"));
        assert_eq!(nearest("colour", &known), None);
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("4096", 4096), ("7B", 7), ("2TiB", 2 << 40)]
        {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "64MB", "-1", "1.5GiB", "99999999TiB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
        assert_eq!(Size(64 << 20).to_string(), "64MiB");
        assert_eq!(Size(1536).to_string(), "1536");
        assert_eq!(Size(3 << 10).to_string(), "3KiB");
    }
}
