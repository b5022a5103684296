//! What is fuzzed, for two runners.
//!
//! ```text
//! fuzz_targets/*.rs ──▶ targets ◀── bounded
//! (cargo +nightly fuzz run <target>)  (cargo xtask fuzz --seconds 60)
//! ```
//!
//! A target takes any bytes and panics where a promise is broken. libFuzzer finds its way by
//! coverage; the bounded runner, on stable Rust and in CI, mutates each target's seeds.

pub mod mutate;
pub mod targets;

/// One thing to fuzz.
#[derive(Clone, Copy)]
pub struct Target {
    /// As `cargo fuzz run` names it.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Inputs that reach deep; what the bounded runner starts from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "cgroup_path",
        run: targets::cgroup_path::run,
        seeds: targets::cgroup_path::seeds,
    },
    Target { name: "dcgm", run: targets::dcgm::run, seeds: targets::dcgm::seeds },
    Target { name: "dns", run: targets::dns::run, seeds: targets::dns::seeds },
    Target { name: "filters", run: targets::filters::run, seeds: targets::filters::seeds },
    Target { name: "packet", run: targets::packet::run, seeds: targets::packet::seeds },
    Target { name: "recording", run: targets::recording::run, seeds: targets::recording::seeds },
    Target { name: "records", run: targets::records::run, seeds: targets::records::seeds },
    Target { name: "tcp", run: targets::tcp::run, seeds: targets::tcp::seeds },
];
