//! Simulations from seeds: whatever the weather, whoever the peer, however little memory there is.
//! `XTCP_SEED=n` replays one seed, `XTCP_SEEDS=n` tries that many of each; `make soak` runs all of
//! them for as long as a night.
//!
//! # What must hold, and where it is held
//!
//! `audit` is `Stack::audit`, which all of these ask at every step (with many connections, every few),
//! and the fuzz target `live` after every choice: it counts the books anew and holds every connection
//! against the rules in `src/audit/rules.rs`. "Sends" are assertions in debug builds where a segment is
//! sent or a timer set, so every test holds them.
//!
//! | | what | where |
//! |---|---|---|
//! | I1 | what is delivered is what was sent, in order, to the end or to a told abort | every byte: `sim::app`, `live`; the end: each test here |
//! | I2 | SND.UNA <= SND.NXT <= the furthest sent <= SND.UNA + the largest window | `audit`; from outside in `live` |
//! | I3 | nothing beyond the offered window but one number | `audit`; from outside in `live` |
//! | I4 | few answers to a segment, none unasked, no end of sending | `live` (`hand_in`, `deliver`); time goes on in every simulation |
//! | I5 | no RST is answered, two that disagree rest | `live` (`reset`); `tests/tcp/handshake.rs`, `windows.rs` |
//! | I6 | the next deadline is later than now | `live`, `sim::net`, `scarce`, `smoltcp`, `sim::peer` |
//! | I7 | buffers, records and chunks within shares, and all back at the end | `audit`; `assert_nothing_held`, `live` (`tear_down`) |
//! | I8 | steps for a segment are logarithmic at worst | `tests/tcp/steps.rs` |
//! | I9 | text goes only while flight <= cwnd + 3 MSS; cwnd >= 1 MSS | sends (`depart`); `audit` |
//! | I10 | the timeout never falls while it backs off, and has a limit | sends (`rtt`); `audit` |
//! | I11 | no panic, no overflow, no allocation | overflow checks in every build; the stack has no heap |
//! | I12 | one seed, one trace | `weather::a_seed_replays`, `hostile::a_seed_replays` |
//! | I13 | every frame is well formed to another parser | `sim::assert_well_formed` in every simulation and in `live` |
//! | I14 | half-open, TIME-WAIT, neighbour and reassembly tables are bounded | `live`; `tests/tcp/limits.rs`, `tests/hostile` |
//! | I15 | initial sequence numbers of one pair move on, those of others say nothing | `tests/tcp/handshake.rs`, `tests/hostile/handshakes.rs` |

#[path = "../sim/mod.rs"]
mod sim;

#[expect(unreachable_pub, reason = "it is public to the fuzz target")]
#[path = "../../fuzz/src/live.rs"]
mod live;

mod crowd;
mod hostile;
mod kept;
mod scarce;
mod silences;
mod smoltcp;
mod soak;
mod stalls;
mod weather;
