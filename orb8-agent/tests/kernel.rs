//! The programs in the real kernel: loaded, attached, fed with real traffic, and compared with what
//! was sent and with what the kernel itself counted.
//!
//! Each test makes its own network namespaces and cgroup, attaches only there, and leaves nothing
//! behind. They run as root, one after another whatever the harness is told, and on every kernel
//! that `cargo xtask vm-test` boots.
//!
//! | variable | meaning |
//! |---|---|
//! | `ORB8_TEST_SCALE` | factor of packet counts and durations: 0.1 for an emulated machine |
//! | `ORB8_TEST_LATENCY_MS` | bound of a moment's way to a subscriber, 10 unless set |
//! | `ORB8_REQUIRE` | comma-separated features whose absence fails a test instead of skipping it |
//!
//! A test that the kernel cannot run says `SKIPPED <test>: <reason>` on standard error.

mod kernel {
    mod accounting;
    mod cgroups;
    mod conntrack;
    mod cuda;
    mod devices;
    mod dns;
    mod flows;
    mod gpu;
    mod history;
    mod hubble;
    mod identity;
    mod interfaces;
    mod lifecycle;
    mod moments;
    mod otlp;
    mod sockets;
    mod support;
    mod tcp;
}
