//! What readers read.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use papaya::ResizeMode;
use seize::{Collector, LocalGuard};

use super::Counts;
use crate::object::{ContainerKind, Node, Pod, ServiceAddress, Text};

/// Versions of an address that are kept besides the latest: it changes hands more often within ten
/// minutes only where pods live for seconds.
const MAX_ENDED: usize = 4;

/// The `until` of a version that has not ended.
const OPEN: u64 = u64::MAX;

/// A map that is read without locks.
pub(super) type Map<K, V> = papaya::HashMap<K, V, RandomState>;

/// What readers read, and one writer changes.
pub(super) struct Tables {
    pub(super) generation: AtomicU64,
    /// One for all maps, so that one guard serves a question that needs several.
    collector: Arc<Collector>,
    /// By uid.
    pub(super) pods: Map<Text, Known>,
    /// From the uid that the kubelet gave a static pod to its mirror's.
    pub(super) static_pods: Map<Text, Text>,
    /// By the runtime's id.
    pub(super) containers: Map<Box<str>, Located>,
    pub(super) addresses: Map<Address, Versions>,
    pub(super) services: Map<Address, AddressServices>,
    /// Ports of every node.
    pub(super) node_ports: Map<Port, Arc<ServiceAddress>>,
    /// By name.
    pub(super) nodes: Map<Text, Arc<Node>>,
    pub(super) node_addresses: Map<Address, Arc<Node>>,
    pub(super) figures: Figures,
}

impl Tables {
    pub(super) fn new() -> Self {
        let collector = Arc::new(Collector::new());
        Self {
            generation: AtomicU64::new(0),
            pods: map(&collector),
            static_pods: map(&collector),
            containers: map(&collector),
            addresses: map(&collector),
            services: map(&collector),
            node_ports: map(&collector),
            nodes: map(&collector),
            node_addresses: map(&collector),
            figures: Figures::default(),
            collector,
        }
    }

    /// Keeps what is read alive while it is used.
    pub(super) fn guard(&self) -> LocalGuard<'_> {
        self.collector.enter()
    }
}

/// Resizes block writers, of which there is one, and no readers; done in steps, they would have
/// readers look in two tables until enough is written.
fn map<K: Send + 'static, V: Send + 'static>(collector: &Arc<Collector>) -> Map<K, V> {
    papaya::HashMap::builder()
        .hasher(RandomState::default())
        .resize_mode(ResizeMode::Blocking)
        .shared_collector(Arc::clone(collector))
        .build()
}

/// A pod that is, or was until lately.
pub(super) struct Known {
    pub(super) pod: Arc<Pod>,
    pub(super) is_gone: bool,
}

/// A container's place.
pub(super) struct Located {
    pub(super) pod: Arc<Pod>,
    pub(super) name: Text,
    pub(super) kind: ContainerKind,
}

/// An address as a key: an IPv4 address equals its mapped one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address(u128);

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self(ip.to_ipv6_mapped().to_bits()),
            IpAddr::V6(ip) => Self(ip.to_bits()),
        }
    }
}

/// A protocol and a port of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Port {
    /// IP protocol number.
    pub(super) protocol: u8,
    pub(super) number: u16,
}

/// The Services that have an address. All of them change at once, so that a reader finds no port
/// without its Service's address or the reverse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AddressServices {
    /// Whose the address is on other ports.
    pub(super) whole: Option<Arc<ServiceAddress>>,
    /// In order.
    pub(super) ports: Box<[(Port, Arc<ServiceAddress>)]>,
}

impl AddressServices {
    pub(super) fn at(&self, port: Port) -> Option<&Arc<ServiceAddress>> {
        let found = self.ports.binary_search_by_key(&port, |(port, _)| *port).ok()?;
        Some(&self.ports[found].1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_none() && self.ports.is_empty()
    }
}

/// Who had an address, and when. Each version begins where the one before ended.
#[derive(Clone)]
pub(super) struct Versions {
    latest: Version,
    /// The oldest first.
    ended: Box<[Version]>,
}

/// Times are nanoseconds of unix time.
#[derive(Clone)]
struct Version {
    pod: Arc<Pod>,
    /// 0 for the first one: flows precede what is known of their pod.
    from: u64,
    until: u64,
    /// When it surely had the address still; before `until` where nobody watched.
    held: u64,
}

/// How a version ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// When it was noticed.
    pub(super) noticed: u64,
    /// When the pod surely had the address still.
    pub(super) held: u64,
}

impl Versions {
    /// Gives an address that nobody had to a pod.
    pub(super) fn first(pod: Arc<Pod>) -> Self {
        let latest = Version { pod, from: 0, until: OPEN, held: 0 };
        Self { latest, ended: Box::default() }
    }

    pub(super) fn at(&self, unix_ns: u64) -> Option<&Arc<Pod>> {
        if unix_ns >= self.latest.from {
            return (unix_ns < self.latest.until).then_some(&self.latest.pod);
        }
        let found = self.ended.iter().find(|version| unix_ns < version.until)?;
        (unix_ns >= found.from).then_some(&found.pod)
    }

    pub(super) fn is_held(&self) -> bool {
        self.latest.until == OPEN
    }

    pub(super) fn holder(&self) -> Option<&Arc<Pod>> {
        self.is_held().then_some(&self.latest.pod)
    }

    /// The holder as it is now.
    pub(super) fn updated(&self, pod: Arc<Pod>) -> Self {
        Self { latest: Version { pod, ..self.latest.clone() }, ended: self.ended.clone() }
    }

    /// Ends the holder's version.
    pub(super) fn released(&self, end: End) -> Self {
        let until = end.noticed.max(self.latest.from);
        let held = end.held.clamp(self.latest.from, until);
        Self { latest: Version { until, held, ..self.latest.clone() }, ended: self.ended.clone() }
    }

    /// Gives the address, after it was released, to a pod that started at a time. Where nobody
    /// watched it change hands, it did so at that time, as far as what was seen allows: clocks of
    /// other machines may differ.
    pub(super) fn opened(&self, pod: Arc<Pod>, started: Option<u64>) -> Self {
        let Version { held, until, .. } = self.latest;
        let from = started.map_or(until, |started| started.clamp(held, until));
        let before = Version { until: from, ..self.latest.clone() };
        // One that began and ended at once was never the answer.
        let lasted = before.until > before.from;
        let ended = self.ended.iter().cloned().chain(lasted.then_some(before));
        let mut ended: Vec<_> = ended.collect();
        let excess = ended.len().saturating_sub(MAX_ENDED);
        ended.drain(..excess);
        Self { latest: Version { pod, from, until: OPEN, held: from }, ended: ended.into() }
    }

    /// What is left without the versions that ended by a time; `None` without any.
    pub(super) fn since(&self, unix_ns: u64) -> Option<Self> {
        if self.latest.until <= unix_ns {
            return None;
        }
        let kept = self.ended.iter().filter(|version| version.until > unix_ns);
        Some(Self { latest: self.latest.clone(), ended: kept.cloned().collect() })
    }
}

#[cfg(test)]
impl Versions {
    /// When each began and ended, the oldest first.
    pub(super) fn spans(&self) -> Vec<(u64, u64)> {
        let all = self.ended.iter().chain([&self.latest]);
        all.map(|version| (version.from, version.until)).collect()
    }
}

/// [`Counts`], as the writer last knew them.
#[derive(Default)]
pub(super) struct Figures {
    pods: AtomicU64,
    local_pods: AtomicU64,
    services: AtomicU64,
    endpoints: AtomicU64,
    nodes: AtomicU64,
    owners: AtomicU64,
    conflicts: AtomicU64,
    skipped_addresses: AtomicU64,
    skipped_objects: AtomicU64,
}

impl Figures {
    pub(super) fn counts(&self) -> Counts {
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        Counts {
            pods: get(&self.pods),
            local_pods: get(&self.local_pods),
            services: get(&self.services),
            endpoints: get(&self.endpoints),
            nodes: get(&self.nodes),
            owners: get(&self.owners),
            conflicts: get(&self.conflicts),
            skipped_addresses: get(&self.skipped_addresses),
            skipped_objects: get(&self.skipped_objects),
        }
    }

    pub(super) fn set(&self, counts: Counts) {
        let Counts {
            pods,
            local_pods,
            services,
            endpoints,
            nodes,
            owners,
            conflicts,
            skipped_addresses,
            skipped_objects,
        } = counts;
        let set = |figure: &AtomicU64, value| figure.store(value, Ordering::Relaxed);
        set(&self.pods, pods);
        set(&self.local_pods, local_pods);
        set(&self.services, services);
        set(&self.endpoints, endpoints);
        set(&self.nodes, nodes);
        set(&self.owners, owners);
        set(&self.conflicts, conflicts);
        set(&self.skipped_addresses, skipped_addresses);
        set(&self.skipped_objects, skipped_objects);
    }
}
