//! The `tcp` signal: what becomes of connections, compared with the kernel's own figures.

use orb8_agent::config::{AttachStrategy, Config};

use super::support::{agent, cgroup::Cgroup};

mod connections;
mod drops;
mod failures;
mod figures;
mod running;

/// The agent's settings where sockets below a cgroup are followed. Its tracepoints see the whole
/// machine: tests look at their own ports.
fn config(cgroup: &Cgroup) -> Config {
    agent::config(AttachStrategy::Cgroup, Some(cgroup))
}
