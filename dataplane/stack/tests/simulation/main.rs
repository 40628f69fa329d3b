//! Simulations from seeds: whatever the weather, whoever the peer, however little memory there is.
//! `XTCP_SEED=n` replays one seed, `XTCP_SEEDS=n` tries that many of each; `make soak` runs all of
//! them for as long as a night.

#[path = "../sim/mod.rs"]
mod sim;

#[expect(unreachable_pub, reason = "it is public to the fuzz target")]
#[path = "../../fuzz/src/live.rs"]
mod live;

mod hostile;
mod scarce;
mod smoltcp;
mod soak;
mod stalls;
mod weather;
