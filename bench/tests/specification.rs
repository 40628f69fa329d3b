//! The table of the specification's sentences and claims, `docs/xtcp.md`, is whole, and what it names
//! exists.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How many sentences of each section, and how many claims, there are.
const ROWS: [(&str, usize); 6] = [("P", 16), ("A", 36), ("F", 13), ("O", 28), ("M", 5), ("", 44)];

/// What the page calls the parts.
const PARTS: [(&str, &str); 4] = [
    ("stack/", "dataplane/stack/"),
    ("engine/", "dataplane/engine/"),
    ("xtcp/", "ffi/xtcp/"),
    ("ring/", "ffi/ring/"),
];

/// One sentence or claim.
#[derive(Debug)]
struct Row {
    id: String,
    what: String,
    code: String,
    tests: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rows of all tables; the head and the line below it are none.
fn rows() -> Vec<Row> {
    let page = fs::read_to_string(root().join("docs/xtcp.md")).expect("the page");
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, what, code, tests] = cells[..] else { panic!("not four cells: {line}") };
        if id.ends_with(|last: char| last.is_ascii_digit()) {
            let [id, what, code, tests] = [id, what, code, tests].map(str::to_owned);
            rows.push(Row { id, what, code, tests });
        }
    }
    rows
}

/// What `text` has between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The text of a file by what the page calls it, if it is there.
fn read(name: &str) -> Option<String> {
    let known =
        PARTS.iter().find_map(|(short, long)| Some(format!("{long}{}", name.strip_prefix(short)?)));
    fs::read_to_string(root().join(known.unwrap_or_else(|| name.to_owned()))).ok()
}

#[test]
fn every_sentence_and_every_claim_is_there_once_and_in_its_order() {
    let expected = ROWS
        .iter()
        .flat_map(|(section, count)| (1..=*count).map(move |number| format!("{section}{number}")));
    let rows = rows();
    let mut found = rows.iter().map(|row| &row.id);
    for id in expected {
        assert_eq!(found.next(), Some(&id), "left is where right should be");
    }
    assert_eq!(found.next(), None, "there are no more");
}

#[test]
fn no_cell_is_empty() {
    for Row { id, what, code, tests } in rows() {
        assert!(!what.is_empty(), "{id}: it says not what it is about");
        assert!(quoted(&code).next().is_some(), "{id}: no file has it");
        assert!(quoted(&tests).nth(1).is_some(), "{id}: no test shows it");
    }
}

#[test]
fn the_code_that_is_named_exists() {
    for Row { id, code, .. } in rows() {
        for file in quoted(&code) {
            assert!(read(file).is_some(), "{id}: there is no {file}");
            assert!(!file.contains("/tests"), "{id}: {file} is a test, not code");
        }
    }
}

#[test]
fn the_tests_that_are_named_exist() {
    let mut texts: HashMap<String, String> = HashMap::new();
    for Row { id, tests, .. } in rows() {
        let mut file = None;
        let mut named = 0;
        for name in quoted(&tests) {
            if name.contains('/') {
                assert!(file.is_none() || named > 0, "{id}: no test of {file:?} is named");
                let text = read(name).unwrap_or_else(|| panic!("{id}: there is no {name}"));
                texts.entry(name.to_owned()).or_insert(text);
                (file, named) = (Some(name), 0);
                continue;
            }
            let file = file.unwrap_or_else(|| panic!("{id}: {name} is in no file"));
            assert!(is_a_test(&texts[file], name), "{id}: {file} has no test {name}");
            named += 1;
        }
        assert!(named > 0, "{id}: no test of {file:?} is named");
    }
}

/// Whether a function of this name stands below `#[test]`, with nothing but attributes and comments
/// between.
fn is_a_test(text: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let mut after_test = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            after_test = true;
        } else if line.starts_with(&head) {
            return after_test;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            after_test = false;
        }
    }
    false
}
