//! Live connections under whatever chance makes of the fuzz target's choices, on every machine.
//! What they must keep is in `fuzz/src/live.rs`.

use crate::live;
use crate::sim::rng::Rng;
use crate::sim::{assert_well_formed, for_each_seed};

/// A hostile network and a hostile application.
pub(crate) fn hostile(seed: u64) {
    let mut rng = Rng::new(seed);
    let len = 200 + rng.below(6000);
    let input: Vec<u8> = (0..len).map(|_| u8::try_from(rng.below(256)).expect("small")).collect();
    live::run(&input, assert_well_formed);
}

#[test]
fn nothing_the_network_or_the_application_does_breaks_the_stack() {
    for_each_seed(1_000, hostile);
}
