//! Whose traffic it is: cgroup id → cgroup path → container, pod or systemd unit.
//!
//! ```text
//! cgroup id ──(told, handle, else tree walk)──▶ path ──(grammar)──▶ ids ──▶ names
//!             resolver                                  path              ├ the Kubernetes API's pods
//!                                                                         └ the runtime's files (names)
//! ```
//!
//! The kernel tells the cgroup of a local socket, so the owner is exact. Names need no Kubernetes
//! API: the container runtimes leave them on disk. Where there is one, it adds labels, the
//! controller and the node, and who is at the other end: see [`Party`].

use std::sync::Arc;

use orb8_k8s::object::{ContainerKind, Pod};

mod changes;
mod handle;
mod names;
mod party;
mod path;
mod resolver;
mod tree;

pub use changes::{Change, Changes};
pub use names::Names;
pub use party::{Address, Behind, Ends, Front, Party};
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
    /// What the Kubernetes API says of the pod, once it does.
    pub api: Option<Arc<Pod>>,
    /// Container name.
    pub container: Option<String>,
    /// What the container is for, where the Kubernetes API says so.
    pub container_kind: Option<ContainerKind>,
    /// Container id, in full.
    pub container_id: Option<String>,
    /// Who runs the container.
    pub runtime: Option<Runtime>,
    /// systemd unit of a process that is in no container.
    pub unit: Option<String>,
    /// Id of its cgroup.
    pub cgroup_id: u64,
    /// Path below the cgroup v2 root, `/` for the root itself.
    pub cgroup_path: String,
    /// A process of the cgroup, for owners that are neither container nor unit.
    pub process: Option<String>,
    /// Whether the files of its runtime named it.
    pub is_named_by_runtime: bool,
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

    /// Whether it is a pod's, and the Kubernetes API has not told of that pod or, as its status comes
    /// later, of that container, if there is one. A sandbox's is never told.
    #[must_use]
    pub const fn awaits_names(&self) -> bool {
        let awaits_kind = self.container_id.is_some() && self.container_kind.is_none();
        self.pod_uid.is_some() && (self.api.is_none() || awaits_kind)
    }

    /// Whether it is the root cgroup: the machine's own processes, and what the kernel itself sends in
    /// any network.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.cgroup_path == "/"
    }

    /// Whether it is one of a pod's.
    #[must_use]
    pub fn is_of(&self, pod: &Pod) -> bool {
        let uid = self.api.as_ref().map(|pod| &*pod.uid).or(self.pod_uid.as_deref());
        uid == Some(&*pod.uid)
    }

    /// Returns what is the same when it is started again, as far as that can be told.
    #[must_use]
    pub fn identity(&self) -> Identity<'_> {
        let Self { pod_uid, container, container_id, unit, cgroup_path, .. } = self;
        match (pod_uid, container, container_id, unit) {
            (Some(pod_uid), Some(container), ..) => Identity::OfPod { pod_uid, container },
            (_, _, Some(id), _) => Identity::Container(id),
            // Two users' managers may have units of one name; cgroups below a unit are the unit's.
            (.., Some(unit)) => Identity::Path(
                cgroup_path.rfind(unit).map_or(unit, |at| &cgroup_path[..at + unit.len()]),
            ),
            _ => Identity::Path(cgroup_path),
        }
    }
}

/// What tells one workload from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity<'a> {
    /// A container of a pod, whichever instance.
    OfPod {
        /// Pod uid.
        pod_uid: &'a str,
        /// Container name.
        container: &'a str,
    },
    /// One instance of a container, by its id.
    Container(&'a str),
    /// A cgroup path, of a unit or of anything else.
    Path(&'a str),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_started_again_is_the_same_workload() {
        let some = |text: &str| Some(text.to_owned());
        let pod = |id: &str| Workload {
            pod_uid: some("u"),
            container: some("web"),
            container_id: some(id),
            ..Workload::default()
        };
        assert_eq!(pod("1").identity(), pod("2").identity());
        let unnamed = |id| Workload { container: None, ..pod(id) };
        assert_ne!(unnamed("1").identity(), unnamed("2").identity());
        let at = |unit: Option<&str>, path: &str| Workload {
            unit: unit.map(str::to_owned),
            cgroup_path: path.into(),
            ..Workload::default()
        };
        let unit = at(Some("a.service"), "/user.slice/user-1.slice/a.service");
        let below = at(Some("a.service"), "/user.slice/user-1.slice/a.service/worker");
        let others = at(Some("a.service"), "/user.slice/user-2.slice/a.service");
        assert_eq!(unit.identity(), below.identity());
        assert_ne!(unit.identity(), others.identity());
        assert_ne!(at(None, "/jobs/1").identity(), at(None, "/jobs/2").identity());
    }
}
