#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| berth::kubelet::api::fuzz::manifest(bytes));
