//! Rows as an aligned table, for people.

use serde_json::Value;
use xtcp_ring::message::Row;

/// Characters of a line that people can still follow; a wider table is one paragraph for each row.
const WIDE: usize = 320;

/// The rows under their headings; numbers to the right. Columns come in the order in which rows
/// first have them. A table that would be very wide is written as one paragraph for each row.
#[must_use]
pub fn render(rows: &[Row]) -> String {
    let mut headings: Vec<&str> = Vec::new();
    for heading in rows.iter().flat_map(Row::keys) {
        if !headings.contains(&heading.as_str()) {
            headings.push(heading);
        }
    }
    let columns = headings.iter().map(|heading| Column::new(heading, rows)).collect::<Vec<_>>();
    if columns.iter().map(|column| column.width + 2).sum::<usize>() > WIDE {
        return rows.iter().map(render_one).collect::<Vec<_>>().join("\n");
    }
    let mut text = String::new();
    for line in 0..=rows.len() {
        let cells = columns.iter().map(|column| column.cell(line));
        let joined = cells.collect::<Vec<_>>().join("  ");
        text.push_str(joined.trim_end());
        text.push('\n');
    }
    text
}

/// One row as `heading: value` lines.
#[must_use]
pub fn render_one(row: &Row) -> String {
    let width = row.keys().map(|heading| heading.chars().count()).max().unwrap_or(0);
    row.iter().map(|(heading, value)| format!("{heading:width$}  {}\n", plain(value))).collect()
}

struct Column {
    /// The heading, then a cell for each row.
    cells: Vec<String>,
    width: usize,
    right: bool,
}

impl Column {
    fn new(heading: &str, rows: &[Row]) -> Self {
        let values = || rows.iter().map(|row| row.get(heading).unwrap_or(&Value::Null));
        let mut cells = vec![heading.to_owned()];
        cells.extend(values().map(plain));
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        let right = values().all(|value| value.is_number() || value.is_null());
        Self { cells, width, right }
    }

    fn cell(&self, line: usize) -> String {
        let (cell, width) = (&self.cells[line], self.width);
        if self.right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    }
}

/// A value without JSON's quotation marks. Control characters could rewrite the terminal's screen
/// and become dots.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { '.' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Row> {
        serde_json::from_str(text).expect("rows")
    }

    #[test]
    fn columns_are_aligned_and_numbers_stand_right() {
        let rows = rows(
            r#"[{"name":"chat","connections":5,"rate/s":1.5},
                {"name":"x","connections":12345,"extra":null}]"#,
        );
        let expected = "\
name  connections  rate/s  extra
chat            5     1.5      -
x           12345       -      -
";
        assert_eq!(render(&rows), expected);
    }

    #[test]
    fn one_row_stands_upright() {
        let rows = rows(r#"[{"state":"running","workers":2,"addresses":["a","b"]}]"#);
        assert_eq!(render_one(&rows[0]), "state      running\nworkers    2\naddresses  a, b\n");
    }

    #[test]
    fn a_very_wide_table_is_paragraphs() {
        let wide = format!(r#"[{{"name":"{}","n":1}},{{"name":"x","n":22}}]"#, "w".repeat(WIDE));
        let text = render(&rows(&wide));
        let second = text.split("\n\n").nth(1).expect("two paragraphs");
        assert_eq!(second, "name  x\nn     22\n");
    }

    #[test]
    fn nothing_rewrites_the_screen() {
        let rows = rows(r#"[{"name":"\u001b[2Jx\n"}]"#);
        assert_eq!(render(&rows), "name\n.[2Jx.\n");
    }
}
