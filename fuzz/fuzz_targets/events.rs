#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| autoprof_fuzz::events::check(data));
