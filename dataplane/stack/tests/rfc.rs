//! The ledger of RFC 9293's requirements, `docs/rfc.md`, is whole, and what it names exists; so does
//! what the page of hostile input, `docs/hostile.md`, names.

use std::fs;
use std::path::Path;

/// How many requirements Appendix B has of each kind.
const KINDS: [(&str, usize); 4] = [("MUST", 69), ("SHLD", 31), ("MAY", 18), ("REC", 1)];

/// One requirement of the ledger.
struct Row {
    id: String,
    what: String,
    state: String,
    /// Where it is done, or why not.
    remark: String,
}

/// What `text` has between backticks and ends in `.rs`.
fn files(text: &str) -> impl Iterator<Item = &str> {
    quoted(text).filter(|name| name.ends_with(".rs"))
}

/// What else `text` has between backticks.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    quoted(text).filter(|name| !name.ends_with(".rs"))
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_source(file: &str) -> bool {
    file.starts_with("src/") && !file.ends_with("tests.rs")
}

/// A file by its path from this crate's folder.
fn read_ours(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Kind and number of a requirement, if `cell` names one.
fn parse_id(cell: &str) -> Option<(&str, usize)> {
    let (kind, number) = cell.split_once('-')?;
    let known = KINDS.iter().any(|(name, _)| *name == kind);
    number.parse().ok().filter(|_| known).map(|number| (kind, number))
}

/// The rows of the tables that begin with the name of a requirement.
fn ledger() -> Vec<Row> {
    let page = read_ours("../../docs/rfc.md");
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if parse_id(cells[0]).is_none() {
            continue;
        }
        let [id, what, state, remark] = cells[..] else { panic!("not four cells: {line}") };
        let [id, what, state, remark] = [id, what, state, remark].map(str::to_owned);
        rows.push(Row { id, what, state, remark });
    }
    rows
}

#[test]
fn every_requirement_is_there_once_and_in_its_order() {
    let expected = KINDS
        .iter()
        .flat_map(|(kind, count)| (1..=*count).map(move |number| format!("{kind}-{number}")));
    let rows = ledger();
    let mut found = rows.iter().map(|row| &row.id);
    for id in expected {
        assert_eq!(found.next(), Some(&id), "left is where right should be");
    }
    assert_eq!(found.next(), None, "there are no more");
}

#[test]
fn every_requirement_has_a_state_and_a_reason() {
    for row in ledger() {
        let known = ["done", "exception", "not applicable", "open"];
        assert!(known.contains(&row.state.as_str()), "{}: state {:?}", row.id, row.state);
        assert!(!row.what.is_empty(), "{}: it says not what it is about", row.id);
        let words = row.remark.split_whitespace().filter(|word| !word.contains('`')).count();
        assert!(row.state == "done" || words >= 2, "{}: no reason {:?}", row.id, row.remark);
    }
}

#[test]
fn what_the_ledger_names_exists() {
    for row in ledger() {
        let contents: Vec<String> = files(&row.remark).map(read_ours).collect();
        for test in tests(&row.remark) {
            let head = format!("fn {test}(");
            let found = contents.iter().any(|text| text.contains(&head));
            assert!(found, "{}: no {test} in the files it names", row.id);
        }
    }
}

#[test]
fn what_is_done_names_who_does_it_and_who_would_miss_it() {
    for Row { id, remark, .. } in ledger().iter().filter(|row| row.state == "done") {
        let parts = remark.split_once('·');
        let (source, test) = parts.unwrap_or_else(|| panic!("{id}: no dot in {remark:?}"));
        assert!(files(source).any(is_source), "{id}: no source file");
        assert!(files(test).any(|file| read_ours(file).contains("#[test]")), "{id}: no test file");
        assert!(tests(test).next().is_some(), "{id}: no test is named");
    }
}

/// As of the ledger, so of its companions, where they name tests.
#[test]
fn what_the_companions_name_exists() {
    let page = read_ours("../../docs/rfc.md");
    let (_, companions) = page.split_once("## Companions").expect("they are there");
    for line in companions.lines().filter(|line| line.contains(" · ")) {
        let contents: Vec<String> = files(line).map(read_ours).collect();
        for test in tests(line) {
            let head = format!("fn {test}(");
            assert!(contents.iter().any(|text| text.contains(&head)), "no {test}: {line}");
        }
    }
}

/// Each file in a table's last cell is followed by the tests in it.
#[test]
fn what_the_page_of_hostile_input_names_exists() {
    let page = read_ours("../../docs/hostile.md");
    let mut tests = 0;
    for line in page.lines().filter(|line| line.starts_with('|') && line.contains(".rs`")) {
        let cell = line.trim_matches('|').rsplit('|').next().unwrap_or_default();
        let mut text = None;
        for name in quoted(cell) {
            if name.ends_with(".rs") {
                text = Some(read_ours(&format!("../../{name}")));
                continue;
            }
            let text = text.as_ref().unwrap_or_else(|| panic!("{name} is in no file: {line}"));
            assert!(text.contains(&format!("fn {name}(")), "no {name} where it is said to be");
            tests += 1;
        }
    }
    assert!(tests > 70, "only {tests} tests are named");
}
