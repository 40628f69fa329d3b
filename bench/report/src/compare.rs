//! Two runs side by side.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

/// A table of every number that both have in the same place, with the second as a multiple of the
/// first. Numbers of single seconds are left out.
#[must_use]
pub fn table(a: &Value, b: &Value) -> String {
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    gather(a, "", &mut left);
    gather(b, "", &mut right);
    let mut text = format!("{:<58} {:>16} {:>16} {:>8}\n", "", "A", "B", "B/A");
    for (name, first) in &left {
        if let Some(second) = right.get(name) {
            let ratio =
                if *first == 0.0 { String::new() } else { format!("{:.3}", second / first) };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<58} {first:>16.3} {second:>16.3} {ratio:>8}");
        }
    }
    for (name, only) in [("A", missing(&left, &right)), ("B", missing(&right, &left))] {
        if !only.is_empty() {
            let _ = writeln!(text, "only in {name}: {}", only.join(", "));
        }
    }
    text
}

fn missing(these: &BTreeMap<String, f64>, those: &BTreeMap<String, f64>) -> Vec<String> {
    these.keys().filter(|name| !those.contains_key(*name)).cloned().collect()
}

/// All numbers with the path to each; the elements of a list go by their names if they have some.
fn gather(value: &Value, path: &str, into: &mut BTreeMap<String, f64>) {
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
    match value {
        Value::Number(number) => {
            into.extend(number.as_f64().map(|number| (path.to_owned(), number)));
        }
        Value::Object(fields) => {
            for (name, value) in
                fields.iter().filter(|(name, _)| *name != "seconds" || value_is_plain(fields))
            {
                gather(value, &below(name), into);
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                let name =
                    element.get("step").or_else(|| element.get("name")).and_then(Value::as_str);
                gather(element, &below(name.unwrap_or(&index.to_string())), into);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// `seconds` is a number in a step and the list of all seconds in a run.
fn value_is_plain(fields: &serde_json::Map<String, Value>) -> bool {
    fields.get("seconds").is_some_and(Value::is_number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_found_by_the_names_of_their_steps() {
        let a = json!({ "steps": [{ "step": "load", "rate": 200.0 }, { "step": "idle", "rate": 0 }],
                        "seconds": [{ "answers": 5 }] });
        let b = json!({ "steps": [{ "step": "x", "n": 1 }, { "step": "load", "rate": 300.0 }] });
        let table = table(&a, &b);
        let row = table.lines().find(|line| line.starts_with("steps/load/rate")).unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>()[1..],
            ["200.000", "300.000", "1.500"]
        );
        assert!(
            table.contains("only in A: steps/idle/rate") && table.contains("only in B: steps/x/n")
        );
        assert!(!table.contains("answers"), "seconds do not compare");
    }
}
