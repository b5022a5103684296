//! Whose traffic it is: cgroup id → cgroup path → container, pod or systemd unit.
//!
//! ```text
//! cgroup id ──(tree walk)──▶ path ──(grammar)──▶ ids ──(runtime's files)──▶ names
//!             resolver               path                names
//! ```
//!
//! The kernel tells the cgroup of a local socket, so the owner is exact. Names need no Kubernetes
//! API: the container runtimes leave them on disk.

mod names;
mod path;
mod resolver;
mod tree;

pub use names::Names;
pub use path::{PathParts, parse};
pub use resolver::{Resolver, ResolverConfig};

/// Digits of a container id that people read.
const SHORT_ID: usize = 12;

/// The owner of a local socket. What is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Kubernetes namespace.
    pub namespace: Option<String>,
    /// Pod name.
    pub pod: Option<String>,
    /// Pod uid as the API server prints it.
    pub pod_uid: Option<String>,
    /// Container name.
    pub container: Option<String>,
    /// Container id, in full.
    pub container_id: Option<String>,
    /// Who runs the container.
    pub runtime: Option<Runtime>,
    /// systemd unit of a process that is in no container.
    pub unit: Option<String>,
    /// Path below the cgroup v2 root, `/` for the root itself.
    pub cgroup_path: String,
    /// A process of the cgroup, for owners that are neither container nor unit.
    pub process: Option<String>,
    /// Whether its processes share this agent's network namespace, so that an interface index of
    /// theirs means the same interface here.
    pub host_network: bool,
}

impl Workload {
    /// Returns the container's name, else its short id.
    #[must_use]
    pub fn container_label(&self) -> Option<&str> {
        let short = || self.container_id.as_deref().map(|id| id.get(..SHORT_ID).unwrap_or(id));
        self.container.as_deref().or_else(short)
    }
}

/// Container runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// containerd, under Kubernetes, nerdctl or ctr.
    Containerd,
    /// CRI-O.
    Crio,
    /// Docker.
    Docker,
    /// Podman.
    Podman,
}
