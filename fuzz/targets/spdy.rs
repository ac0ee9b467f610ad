#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| berth::cri::streaming::spdy::fuzz::session(bytes));
