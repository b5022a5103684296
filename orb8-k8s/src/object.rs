//! What is kept of each object: a few hundred bytes, not its manifest.

use std::net::IpAddr;
use std::sync::Arc;

/// A name that many objects share; the index keeps one copy of each.
pub type Text = Arc<str>;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Namespace.
    pub namespace: Text,
    /// Name.
    pub name: Text,
    /// Uid as the API server prints it. Of a static pod: of its mirror, see [`Self::config_hash`].
    pub uid: Text,
    /// The uid that the kubelet gave a static pod of this node, which is the one in its cgroup path.
    pub config_hash: Option<Text>,
    /// The node that it was scheduled to.
    pub node: Option<Text>,
    /// In the order of their keys.
    pub labels: Labels,
    /// The controller at the top of its ownerReferences, as far as they are known.
    pub controller: Option<Controller>,
    /// It has the node's addresses, which therefore do not tell it.
    pub host_network: bool,
    /// Addresses of its own: none for the host network, and none before it has some.
    pub ips: Box<[IpAddr]>,
    /// What runs in it; empty for pods of other nodes.
    pub containers: Box<[Container]>,
    /// Where it is in its life.
    pub phase: Phase,
}

/// Labels, shared by the pods that have the same ones.
pub type Labels = Arc<[(Text, Text)]>;

/// A controller, by the kind and name of an ownerReference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Controller {
    /// As in the reference: `Deployment`, `Job`, `PyTorchJob`.
    pub kind: Text,
    /// Its name, in the pod's namespace.
    pub name: Text,
}

/// A container of a pod of this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// The runtime's id, without the scheme; `None` until it was made.
    pub id: Option<Box<str>>,
    /// Name in the pod.
    pub name: Text,
    /// What it is for.
    pub kind: ContainerKind,
}

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerKind {
    /// One of `spec.containers`.
    Main,
    /// One of `spec.initContainers` that ends before the others start.
    Init,
    /// One of `spec.initContainers` that runs beside the others (`restartPolicy: Always`).
    Sidecar,
    /// One of `spec.ephemeralContainers`.
    Ephemeral,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not all of it runs yet, or the API server does not say.
    #[default]
    Pending,
    /// It runs.
    Running,
    /// It ended, and its addresses are free, though the object stays.
    Ended,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Namespace.
    pub namespace: Text,
    /// Name.
    pub name: Text,
}

/// An address of a Service with a port, or with all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAddress {
    /// Whose address it is.
    pub service: Arc<Service>,
    /// The Service's port; `None` where the address alone was found.
    pub port: Option<u16>,
    /// That port's name.
    pub port_name: Option<Text>,
    /// What kind of address it is.
    pub kind: AddressKind,
}

/// How an address belongs to a Service; an address that belongs to several is the first kind's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressKind {
    /// One of `spec.clusterIPs`.
    Cluster,
    /// One of `spec.externalIPs`, or the load balancer's.
    External,
    /// A node's address with the Service's node port.
    NodePort,
    /// An endpoint that is no pod's address: what a Service without a selector, or the API server's
    /// own, leads to.
    Endpoint,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Name.
    pub name: Text,
    /// Internal and external addresses.
    pub ips: Box<[IpAddr]>,
}

impl Pod {
    /// Returns the value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(label, _)| (**label).cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }
}
