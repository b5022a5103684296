//! Who is at an end, in Hubble's words.
//!
//! | an end is | identity | labels |
//! |---|---|---|
//! | a pod, of this node or another | a number made of its workload | `k8s:` and each of the pod's |
//! | a Service whose backend is not known | a number made of its name | its namespace |
//! | the API server, by its Service | 7 | `reserved:kube-apiserver` |
//! | another process of this node, or its address | 1 | `reserved:host` |
//! | another node's address | 6 | `reserved:remote-node` |
//! | a pod that nothing names yet | 5 | `reserved:init` |
//! | none of these | 2 | `reserved:world` |

use std::net::IpAddr;

use orb8_k8s::object::{Controller, Pod, Service};
use orb8_proto::hubble::flow;

use crate::identity::{Address, Party};

/// The cluster that Hubble's clients take everything to be in unless told otherwise.
pub(super) const CLUSTER: &str = "default";

/// The label that Hubble's clients read a pod's namespace from.
const NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// Labels of which each pod of a workload has its own value.
const OF_ONE_POD: [&str; 5] = [
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
    "controller-revision-hash",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
];

/// Who is at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who<'a> {
    Pod {
        /// Empty where only its name is known.
        namespace: &'a str,
        name: &'a str,
        /// What the Kubernetes API says of it.
        api: Option<&'a Pod>,
    },
    Service(&'a Service),
    Reserved(Reserved),
}

/// Those that are no workloads of the cluster. The numbers are Hubble's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserved {
    Host = 1,
    World = 2,
    Init = 5,
    RemoteNode = 6,
    KubeApiserver = 7,
}

impl Reserved {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::World => "world",
            Self::Init => "init",
            Self::RemoteNode => "remote-node",
            Self::KubeApiserver => "kube-apiserver",
        }
    }
}

impl<'a> Who<'a> {
    /// Finds who has an address. `node` is the name of this node.
    pub(super) fn new(party: &'a Party, ip: IpAddr, node: &str) -> Self {
        if let Some(name) = party.pod_name() {
            let namespace = party.namespace().unwrap_or_default();
            return Self::Pod { namespace, name, api: party.pod() };
        }
        if let Some(workload) = party.workload() {
            let is_pod = workload.pod_uid.is_some();
            return Self::Reserved(if is_pod { Reserved::Init } else { Reserved::Host });
        }
        match party.service().map(|address| &*address.service) {
            Some(service) if is_api_server(service) => Self::Reserved(Reserved::KubeApiserver),
            Some(service) => Self::Service(service),
            None => Self::Reserved(reserved(party, ip, node)),
        }
    }

    /// Whether it is nobody of the cluster.
    pub(super) const fn is_world(&self) -> bool {
        matches!(self, Self::Reserved(Reserved::World))
    }

    pub(super) const fn is_pod(&self) -> bool {
        matches!(self, Self::Pod { .. })
    }

    /// Returns the namespace and name that filters of pods see.
    pub(super) fn pod(&self) -> Option<(&'a str, &'a str)> {
        match *self {
            Self::Pod { namespace, name, .. } => Some((namespace, name)),
            Self::Service(service) => Some((&service.namespace, "")),
            Self::Reserved(_) => None,
        }
    }

    /// Returns the kind and name of the controller; a pod that nothing made is its own.
    pub(super) fn workload(&self) -> Option<(&'a str, &'a str)> {
        match *self {
            Self::Pod { name, api: Some(pod), .. } => Some(match &pod.controller {
                Some(Controller { kind, name }) => (kind, name),
                None => ("Pod", name),
            }),
            Self::Pod { api: None, .. } | Self::Service(_) | Self::Reserved(_) => None,
        }
    }

    /// Returns the name of the cluster; the world is in none.
    pub(super) const fn cluster(&self) -> &'static str {
        if self.is_world() { "" } else { CLUSTER }
    }

    /// Returns the number by which clients group flows: the same on every node, for every pod of a
    /// workload, and as long as that is.
    pub(super) fn identity(&self) -> u32 {
        match *self {
            Self::Reserved(reserved) => reserved as u32,
            Self::Service(Service { namespace, name }) => {
                number(["service", namespace, name].into_iter())
            }
            Self::Pod { namespace, name, api } => {
                let own = ["pod", namespace];
                let by_name = || number(own.into_iter().chain([name]));
                let Some(pod) = api else { return by_name() };
                if let Some(Controller { kind, name }) = &pod.controller {
                    return number(own.into_iter().chain([&**kind, name]));
                }
                let shared = pod.labels.iter().filter(|(key, _)| !OF_ONE_POD.contains(&&**key));
                let mut labels = shared.flat_map(|(key, value)| [&**key, value]).peekable();
                match labels.peek() {
                    Some(_) => number(own.into_iter().chain(labels)),
                    None => by_name(),
                }
            }
        }
    }

    /// Returns the labels, `source:key=value`, by key.
    pub(super) fn labels(&self) -> Vec<String> {
        let namespace_label = |namespace: &str| format!("k8s:{NAMESPACE}={namespace}");
        match *self {
            Self::Reserved(reserved) => vec![format!("reserved:{}", reserved.name())],
            Self::Service(service) => vec![namespace_label(&service.namespace)],
            Self::Pod { namespace, api, .. } => {
                let of_pod = api.map(|pod| &*pod.labels).unwrap_or_default();
                let of_pod = of_pod.iter().map(|(key, value)| format!("k8s:{key}={value}"));
                let mut labels: Vec<String> = of_pod.collect();
                labels.extend((!namespace.is_empty()).then(|| namespace_label(namespace)));
                labels.sort_unstable();
                labels
            }
        }
    }

    /// Returns the value of a label whose key begins with its source: `k8s.app`, `reserved.host`, or
    /// `any.app` for whichever.
    pub(super) fn label(&self, key: &str) -> Option<&'a str> {
        let (source, key) = key.split_once('.')?;
        match *self {
            Self::Reserved(reserved) => {
                (matches!(source, "any" | "reserved") && key == reserved.name()).then_some("")
            }
            _ if !matches!(source, "any" | "k8s") => None,
            Self::Service(service) => (key == NAMESPACE).then_some(&*service.namespace),
            Self::Pod { namespace, api, .. } => {
                let own = (key == NAMESPACE && !namespace.is_empty()).then_some(namespace);
                own.or_else(|| api?.label(key))
            }
        }
    }

    pub(super) fn endpoint(&self) -> flow::Endpoint {
        let (namespace, pod_name) = self.pod().unwrap_or_default();
        let workload = self.workload();
        let workload =
            workload.map(|(kind, name)| flow::Workload { name: name.into(), kind: kind.into() });
        flow::Endpoint {
            identity: self.identity(),
            cluster_name: self.cluster().to_owned(),
            namespace: namespace.to_owned(),
            labels: self.labels(),
            pod_name: pod_name.to_owned(),
            workloads: workload.into_iter().collect(),
        }
    }
}

/// The Service that every cluster makes for its API server.
fn is_api_server(service: &Service) -> bool {
    (&*service.namespace, &*service.name) == ("default", "kubernetes")
}

fn reserved(party: &Party, ip: IpAddr, node: &str) -> Reserved {
    if let Some(name) = party.node_name() {
        return if name == node { Reserved::Host } else { Reserved::RemoteNode };
    }
    let is_own = party.front().is_some_and(|front| front.address == Address::Own);
    if is_own || ip.is_loopback() { Reserved::Host } else { Reserved::World }
}

/// Makes a number of texts, far from Hubble's own: those are below 2^24, with a scope above.
fn number<'a>(texts: impl Iterator<Item = &'a str>) -> u32 {
    // FNV-1a: nodes and versions must agree, which hash tables' functions do not promise.
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    // No text has a zero byte, so that one ends it.
    let hash = texts.fold(BASIS, |hash, text| step(text.bytes().fold(hash, step), 0));
    1 << 31 | (hash >> 33) as u32
}

#[cfg(test)]
mod tests;
