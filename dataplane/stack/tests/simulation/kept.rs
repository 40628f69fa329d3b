//! N42: every seed that ever found something is tried again, for ever.
//!
//! What a seed does changes with the simulations, so each finding is a test of its own as well, whose
//! frames are written down: `docs/hostile.md` names them. A new finding adds a line here, and one
//! there.

use crate::sim::variable;
use crate::soak::SIMULATIONS;

/// Of which simulation, which seed, and the test that tells what it found. Where the choices of a seed
/// have changed so far that it finds nothing of the kind any more, one follows that does today.
const KEPT: [(&str, u64, &str); 2] = [
    (
        "hostile::nothing_the_network_or_the_application_does_breaks_the_stack",
        281,
        "tests/tcp/rack.rs: what_was_sent_long_ago_is_late",
    ),
    (
        "hostile::nothing_the_network_or_the_application_does_breaks_the_stack",
        65,
        "tests/tcp/rack.rs: what_was_sent_long_ago_is_late",
    ),
];

#[test]
fn every_seed_that_found_something_is_tried_again() {
    // Whoever replays one seed wants that one.
    if variable("XTCP_SEED").is_some() {
        return;
    }
    for (simulation, seed, found) in KEPT {
        let (_, run) = SIMULATIONS
            .iter()
            .find(|(name, _)| *name == simulation)
            .unwrap_or_else(|| panic!("{simulation} is gone: move its seeds to what follows it"));
        println!("{simulation} {seed}, which found: {found}");
        run(seed);
    }
}

/// What is named there exists.
#[test]
fn every_finding_is_a_test_of_its_own() {
    for (_, seed, found) in KEPT {
        let (file, test) = found.split_once(": ").expect("a file and a test");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "seed {seed}: no {test} in {file}");
    }
}
