#![no_main]

#[path = "../src/live.rs"]
mod live;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(live::run(bytes, |_| {})));
