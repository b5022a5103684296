//! Whose an address, container or cgroup is.
//!
//! ```text
//! watches ─▶ IndexWriter ─(publishes)─▶ Tables ◀─(reads, no locks)─ Index
//!            what it needs to derive it:          what is asked for
//!            ownerReferences, claims on addresses
//! ```
//! Readers see each object as it was before a change or after it, never between.

mod claims;
mod departed;
mod names;
mod nodes;
mod owners;
mod pods;
mod services;
mod tables;
mod tracker;
mod writer;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use crate::object::{AddressKind, ContainerKind, Node, Phase, Pod, ServiceAddress, Text};

pub use tracker::Source;
pub use writer::IndexWriter;

use tables::{Address, Port, Tables, Versions};

/// Tells the time in nanoseconds of unix time.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What an [`Index`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pods, of all nodes.
    pub pods: u64,
    /// Pods of this node.
    pub local_pods: u64,
    /// Services.
    pub services: u64,
    /// Endpoints of Services that are no pods.
    pub endpoints: u64,
    /// Nodes.
    pub nodes: u64,
    /// ReplicaSets, Jobs and StatefulSets.
    pub owners: u64,
    /// Addresses that several pods have at this moment.
    pub conflicts: u64,
    /// Addresses that could not be read, since the start.
    pub skipped_addresses: u64,
    /// Objects that had no name or uid, since the start.
    pub skipped_objects: u64,
}

/// Whose an address, container or cgroup is; read without locks. Cloning shares it.
#[derive(Clone)]
pub struct Index(Arc<Tables>);

impl Index {
    /// Makes an empty index and its only writer.
    #[must_use]
    pub fn new() -> (Self, IndexWriter) {
        Self::with_clock(Arc::new(unix_ns))
    }

    /// Makes an empty index with a clock of its own.
    #[must_use]
    pub fn with_clock(clock: Clock) -> (Self, IndexWriter) {
        let tables = Arc::new(Tables::new());
        (Self(Arc::clone(&tables)), IndexWriter::new(tables, clock))
    }

    /// Returns a number that changes after every change that a reader could see. That what is long
    /// gone is forgotten is none: who looked it up while it was known need not ask again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Returns a pod by uid, or a static one by the uid that the kubelet gave it. A pod of this
    /// node stays known for ten minutes after it is gone.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        let guard = self.0.guard();
        let known = self.0.pods.get(uid, &guard).or_else(|| {
            let mirror = self.0.static_pods.get(uid, &guard)?;
            self.0.pods.get(mirror, &guard)
        })?;
        Some(Arc::clone(&known.pod))
    }

    /// Whether a pod is there now and has not ended, by uid as for [`Self::pod`].
    #[must_use]
    pub fn has_pod(&self, uid: &str) -> bool {
        let guard = self.0.guard();
        let known = self.0.pods.get(uid, &guard).or_else(|| {
            let mirror = self.0.static_pods.get(uid, &guard)?;
            self.0.pods.get(mirror, &guard)
        });
        known.is_some_and(|known| !known.is_gone && known.pod.phase != Phase::Ended)
    }

    /// Returns a container of this node by the runtime's id: its pod, name and kind. It stays known
    /// for ten minutes after it is gone.
    #[must_use]
    pub fn container(&self, id: &str) -> Option<(Arc<Pod>, Text, ContainerKind)> {
        let guard = self.0.guard();
        let located = self.0.containers.get(id, &guard)?;
        Some((Arc::clone(&located.pod), Arc::clone(&located.name), located.kind))
    }

    /// Returns the pod that had an address at a time, in nanoseconds of unix time. Who had it is
    /// remembered for ten minutes.
    #[must_use]
    pub fn pod_at(&self, ip: IpAddr, unix_ns: u64) -> Option<Arc<Pod>> {
        let guard = self.0.guard();
        let versions = self.0.addresses.get(&Address::from(ip), &guard)?;
        versions.at(unix_ns).map(Arc::clone)
    }

    /// Returns the Service of an address, by IP protocol number and port. Where only the address is
    /// a Service's, the answer has no port. A node port or an endpoint is a Service's where it is
    /// asked: a client may have that port by chance.
    #[must_use]
    pub fn service_at(&self, ip: IpAddr, protocol: u8, port: u16) -> Option<Arc<ServiceAddress>> {
        let guard = self.0.guard();
        let address = Address::from(ip);
        let port = Port { protocol, number: port };
        let known = self.0.services.get(&address, &guard);
        let exact = known.and_then(|known| known.at(port));
        let is_cluster = exact.is_some_and(|exact| exact.kind == AddressKind::Cluster);
        // Whoever may make a Service may name any address in it: a pod's is the pod's.
        if !is_cluster && self.0.addresses.get(&address, &guard).is_some_and(Versions::is_held) {
            return None;
        }
        // What a node does on its other ports is its own, though a load balancer uses its address.
        let other = || match self.0.node_addresses.contains_key(&address, &guard) {
            true => self.0.node_ports.get(&port, &guard),
            false => known.and_then(|known| known.whole.as_ref()),
        };
        exact.or_else(other).map(Arc::clone)
    }

    /// Returns the node that has an address.
    #[must_use]
    pub fn node_at(&self, ip: IpAddr) -> Option<Arc<Node>> {
        self.0.node_addresses.get(&Address::from(ip), &self.0.guard()).map(Arc::clone)
    }

    /// Returns a node by name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.0.nodes.get(name, &self.0.guard()).map(Arc::clone)
    }

    /// Returns all nodes, in no order.
    #[must_use]
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        let guard = self.0.guard();
        self.0.nodes.values(&guard).map(Arc::clone).collect()
    }

    /// Returns all pods that there are now, in no order.
    #[must_use]
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        let guard = self.0.guard();
        let present = self.0.pods.values(&guard).filter(|known| !known.is_gone);
        present.map(|known| Arc::clone(&known.pod)).collect()
    }

    /// Returns what it holds.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.figures.counts()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// A clock before 1970 reads 0.
fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
