//! Messages with one thing wrong: for everybody who takes messages from others.

use serde_json::{Map, Value, json};

/// What no field wants.
fn oddities() -> Vec<Value> {
    let mut deep = json!([]);
    for _ in 0..60 {
        deep = json!([deep]);
    }
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(256),
        json!(65_536),
        json!(u64::MAX),
        json!(1.5e308),
        json!(""),
        json!("\u{0}/../\u{1b}[2J"),
        json!("x".repeat(5000)),
        json!([]),
        json!({}),
        json!({"": 0}),
        deep,
    ]
}

/// Every message that is `message` with one value replaced, one field left out, or one too many.
pub(crate) fn of(message: &Value) -> Vec<Value> {
    let mut mutants = oddities();
    match message {
        Value::Object(fields) => {
            mutants.push(with(fields, "unheard_of", json!(1)));
            for (name, value) in fields {
                let mut fewer = fields.clone();
                fewer.remove(name);
                mutants.push(Value::Object(fewer));
                mutants.extend(of(value).into_iter().map(|value| with(fields, name, value)));
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                for item in of(item) {
                    let mut items = items.clone();
                    items[place] = item;
                    mutants.push(Value::Array(items));
                }
            }
        }
        _ => {}
    }
    mutants
}

fn with(fields: &Map<String, Value>, name: &str, value: Value) -> Value {
    let mut fields = fields.clone();
    fields.insert(name.to_owned(), value);
    Value::Object(fields)
}
