//! libFuzzer's entry to [`orb8_fuzz::targets::cgroup_path`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| orb8_fuzz::targets::cgroup_path::run(data));
