//! The `dns` signal: what real programs and contrived ones ask and get, as subscribers are told it.

use orb8_agent::config::{AttachStrategy, Config};

use super::support::{agent, cgroup::Cgroup};

mod exchanges;
mod messages;
mod places;
mod resolver;
mod sums;
mod translation;

/// The agent's settings where sockets below a cgroup are looked at.
fn config(cgroup: &Cgroup) -> Config {
    agent::config(AttachStrategy::Cgroup, Some(cgroup))
}
