//! libFuzzer's entry to [`orb8_fuzz::targets::dcgm`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| orb8_fuzz::targets::dcgm::run(data));
