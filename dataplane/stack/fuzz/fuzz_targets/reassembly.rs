#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| xtcp_stack_fuzz::reassembly(bytes));
