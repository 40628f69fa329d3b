//! Live connections under whatever chance makes of the fuzz target's choices, on every machine.
//! What they must keep is in `fuzz/src/live.rs`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use xtcp_stack::Counters;

use crate::live;
use crate::sim::rng::Rng;
use crate::sim::{assert_well_formed, for_each_seed, variable};

/// A hostile network and a hostile application; what was counted. `look` is shown every frame sent.
fn run(seed: u64, look: impl Fn(&[u8])) -> Counters {
    let mut rng = Rng::new(seed);
    let len = 200 + rng.below(6000);
    let input: Vec<u8> = (0..len).map(|_| u8::try_from(rng.below(256)).expect("small")).collect();
    live::run(&input, look)
}

/// A hostile network and a hostile application.
pub(crate) fn hostile(seed: u64) {
    run(seed, assert_well_formed);
}

/// Counters that no seed makes rise, or hardly any, and why.
const SELDOM: [(&str, &str); 5] = [
    ("aborted-silently", "a RST would have to find no active record"),
    ("addresses-given-up", "nobody is asked who else has our addresses"),
    ("neighbour-table-full", "more hosts than answer would have to be asked for at once"),
    ("neighbours-evicted", "as few hosts are there"),
    ("no-route", "all hosts are on the link"),
];

/// What is counted is reached, or said above to be out of reach.
#[test]
fn nothing_the_network_or_the_application_does_breaks_the_stack() {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for_each_seed(1_000, |seed| {
        for (name, _, value) in run(seed, assert_well_formed).rows() {
            *sums.entry(name).or_default() += value;
        }
    });
    let is_known = |name: &str| SELDOM.iter().any(|(known, _)| *known == name);
    let unseen =
        |(name, sum): (&&'static str, &u64)| (*sum == 0 && !is_known(name)).then_some(*name);
    let unseen: Vec<_> = sums.iter().filter_map(unseen).collect();
    let single = variable("XTCP_SEED").is_some() || variable("XTCP_SEEDS").is_some();
    assert!(single || unseen.is_empty(), "never reached: {unseen:#?}");
}

/// I12: the same choices make the same frames.
#[test]
fn a_seed_replays() {
    let trace = |seed| {
        let hasher = RefCell::new(DefaultHasher::new());
        run(seed, |frame| frame.hash(&mut *hasher.borrow_mut()));
        hasher.into_inner().finish()
    };
    for_each_seed(20, |seed| assert_eq!(trace(seed), trace(seed)));
    assert_ne!(trace(1), trace(2));
}
