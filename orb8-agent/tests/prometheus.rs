//! What Prometheus makes of the agent: the rules by promtool, and every panel of the dashboards, every
//! rule, and the values themselves by a Prometheus that scrapes an agent under traffic.
//!
//! It runs as root, in network namespaces and cgroups of its own, and takes less than a minute. What
//! needs a program that is not there (Debian's package `prometheus` has both) says `SKIPPED`;
//! `ORB8_REQUIRE=prometheus,promtool` makes that a failure.

#[expect(dead_code, reason = "the kernel tests' tools, of which some are of use here")]
#[path = "kernel"]
mod kernel {
    pub(crate) mod support;
}

mod prometheus {
    mod agent;
    mod dashboards;
    mod gpus;
    mod live;
    mod monitors;
    mod rules;
    mod server;
    mod traffic;
}
