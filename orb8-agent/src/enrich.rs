//! Who is at both ends of what happened: the one place that decides it.
//!
//! | an end is, in this order | told by |
//! |---|---|
//! | a container, unit or process of this node | the cgroup of its socket: the record's own, or the one that has the same connection from the other side |
//! | a Service, and who answered | the address and port, and this node's connection tracking |
//! | a pod | the address that it had at that time |
//! | a node, and who is behind it | the address, and this node's connection tracking where it masquerades |
//!
//! What is none of these is left to the names of DNS answers, or to its address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orb8_k8s::index::Index;
use orb8_k8s::object::{AddressKind, Node, Pod, ServiceAddress};
use orb8_proto::filter::End;

use crate::conntrack::{Translations, Tuple, Wanted};
use crate::event::{SocketEnd, UnixNanos};
use crate::identity::{Address, Behind, Ends, Front, Party, Resolver, Workload};
use crate::pipeline::LocalAddresses;
use crate::store::ip_of;
use found::Found;
use listeners::Listeners;
use scope::Scope;

mod found;
mod listeners;
mod scope;

/// The pod of a new container may be known to the node before it is known to the API server's
/// watchers. Events wait no longer.
const WAIT: Duration = Duration::from_secs(10);

/// One end, and what is known of the connection or exchange that it is an end of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// The end that is asked about.
    pub(crate) end: SocketEnd,
    /// The other one.
    pub(crate) other: SocketEnd,
    /// IP protocol number.
    pub(crate) protocol: u8,
    /// When it began.
    pub(crate) began: UnixNanos,
    /// The owner of the other end, where that is a socket of this node.
    pub(crate) beside: Option<&'a Workload>,
    /// What the end is to the other one, where that is known.
    pub(crate) role: Option<Role>,
}

/// What an end is to the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It opened the connection, or sent the query.
    Asks,
    /// The other one did.
    Asked,
}

impl Role {
    /// Returns the role of an end, where it is known which end asks.
    pub(crate) fn of(end: End, asking: Option<End>) -> Option<Self> {
        asking.map(|asking| if end == asking { Self::Asks } else { Self::Asked })
    }
}

/// Whose an address is.
#[derive(Debug)]
struct Holder {
    pod: Option<Arc<Pod>>,
    node: Option<Arc<Node>>,
    /// Whether this node may put it in place of another.
    is_translated: bool,
}

/// Finds the cgroups of this node's sockets by connection.
pub(crate) trait Sockets {
    /// Visits the cgroup id of each socket that is at `end` and talks to `other`.
    fn visit(&self, protocol: u8, end: SocketEnd, other: SocketEnd, visit: &mut dyn FnMut(u64));
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Enricher {
    identity: Resolver,
    kubernetes: Option<Index>,
    listeners: Listeners,
    translations: Option<Translations>,
    addresses: LocalAddresses,
    /// Name of this node, as the Kubernetes API has it.
    node_name: Arc<str>,
    /// Changes when everything is known anew.
    epoch: u32,
}

impl Enricher {
    /// Knows what this node tells, until [`Self::set_kubernetes`].
    pub(crate) fn new(identity: Resolver, addresses: LocalAddresses, node_name: &str) -> Self {
        Self {
            identity,
            kubernetes: None,
            listeners: Listeners::default(),
            translations: None,
            addresses,
            node_name: node_name.into(),
            epoch: 0,
        }
    }

    /// Asks the index of the Kubernetes API from now on.
    pub(crate) fn set_kubernetes(&mut self, index: Index) {
        self.identity.set_kubernetes(index.clone(), WAIT);
        self.kubernetes = Some(index);
    }

    /// Asks connection tracking from now on.
    pub(crate) fn set_translations(&mut self, translations: Translations) {
        self.translations = Some(translations);
    }

    /// Returns what connection tracking tells, where it is asked.
    pub(crate) const fn translations(&self) -> Option<&Translations> {
        self.translations.as_ref()
    }

    /// Returns the name of this node.
    pub(crate) fn node_name(&self) -> Arc<str> {
        Arc::clone(&self.node_name)
    }

    /// Returns the owners by cgroup.
    pub(crate) fn identity(&mut self) -> &mut Resolver {
        &mut self.identity
    }

    /// Returns the owners by cgroup, to look at.
    pub(crate) const fn owners(&self) -> &Resolver {
        &self.identity
    }

    /// Returns what the Kubernetes API tells, where there is one.
    pub(crate) const fn kubernetes(&self) -> Option<&Index> {
        self.kubernetes.as_ref()
    }

    /// Notes that everything is known anew: what is still unknown is worth another look.
    pub(crate) const fn renew(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Returns how often everything was known anew.
    pub(crate) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Returns the owner of a cgroup's sockets.
    pub(crate) fn owner(&mut self, cgroup_id: u64, now: Instant) -> Option<Arc<Workload>> {
        self.identity.resolve(cgroup_id, now)
    }

    /// Whether the owner of a cgroup's sockets is worth waiting for.
    pub(crate) fn is_pending(&self, cgroup_id: u64, now: Instant) -> bool {
        self.identity.is_pending(cgroup_id, now)
    }

    /// Whether a cgroup was removed.
    pub(crate) fn is_gone(&self, cgroup_id: u64) -> bool {
        self.identity.is_gone(cgroup_id)
    }

    /// Remembers that a cgroup's socket answers at an address.
    pub(crate) fn listens(&mut self, protocol: u8, at: SocketEnd, cgroup_id: u64, now: Instant) {
        if cgroup_id != 0 && Scope::of(ip_of(at.addr)) == Scope::Routed {
            self.listeners.learn(protocol, at, cgroup_id, now);
        }
    }

    /// Names whoever is at both ends and has a name by now.
    pub(crate) fn rename(&mut self, ends: &mut Ends, now: Instant) {
        let mut find = |workload: &Workload| self.identity.resolve(workload.cgroup_id, now);
        ends.source.rename(&mut find);
        ends.destination.rename(&mut find);
    }

    /// Tells who is at an end.
    pub(crate) fn party(&mut self, seen: &Seen<'_>, sockets: &impl Sockets, now: Instant) -> Party {
        let ip = ip_of(seen.end.addr);
        let socket = self.socket(seen, sockets, now);
        if !Scope::of(ip).is_told_by_address(ip) {
            return socket.into();
        }
        if let Some(service) = self.service(seen, now) {
            let behind = match socket {
                Some(workload) => Some(Behind { at: None, party: Party::Workload(workload) }),
                None => {
                    let opposite = self.opposite(seen, true, now);
                    opposite.map(|opposite| self.behind(seen, &opposite, sockets, now))
                }
            };
            return Party::Front(Arc::new(Front { address: Address::Service(service), behind }));
        }
        let party = match socket {
            Some(workload) => Party::Workload(workload),
            None => self.at_address(seen, sockets, now),
        };
        match self.service_asked(seen, now).filter(|_| party.front().is_none()) {
            Some(service) => {
                let address = Address::Service(service);
                Party::Front(Arc::new(Front { address, behind: Some(Behind { at: None, party }) }))
            }
            None => party,
        }
    }

    /// Returns the owner of this node's socket at an end, where there is exactly one.
    fn socket(
        &mut self,
        seen: &Seen<'_>,
        sockets: &impl Sockets,
        now: Instant,
    ) -> Option<Arc<Workload>> {
        let Seen { end, other, protocol, began, beside, .. } = *seen;
        let ip = ip_of(end.addr);
        let scope = Scope::of(ip);
        let is_own = self.addresses.contains(ip);
        let mut found = Found::default();
        let identity = &mut self.identity;
        sockets.visit(protocol, end, other, &mut |cgroup_id| {
            let owner = identity.resolve(cgroup_id, now).filter(|owner| !owner.is_root());
            let Some(workload) = owner else { return };
            let is_reached = match scope {
                Scope::Routed => true,
                Scope::Link if ip.is_ipv4() && is_own && workload.host_network => true,
                Scope::Host | Scope::Link => {
                    beside.is_some_and(|beside| shares_network(beside, &workload))
                }
                Scope::Nobody => false,
            };
            if is_reached {
                found.add(workload, !identity.is_gone(cgroup_id));
            }
        });
        match found.workload {
            Some(workload) => {
                let is_one = found.is_one && !self.is_anothers(ip, began, &workload);
                is_one.then_some(workload)
            }
            None => self.listener(seen, now),
        }
    }

    /// Returns the owner of the socket that answers at an end, whoever asks. Networks may have the
    /// same addresses, and addresses get other owners: it has to be the address's.
    fn listener(&mut self, seen: &Seen<'_>, now: Instant) -> Option<Arc<Workload>> {
        let Seen { end, protocol, began, .. } = *seen;
        let ip = ip_of(end.addr);
        let cgroup_id = self.listeners.at(protocol, end, now)?;
        let workload = self.identity.resolve(cgroup_id, now)?;
        let is_pods = || {
            let pod = self.kubernetes.as_ref()?.pod_at(ip, began.0)?;
            Some(workload.is_of(&pod))
        };
        let has_address = match self.addresses.contains(ip) {
            true => workload.host_network,
            false => is_pods() == Some(true),
        };
        let is_there = has_address && !workload.is_root() && !self.identity.is_gone(cgroup_id);
        is_there.then_some(workload)
    }

    /// Whether the Kubernetes API gives an address to another pod than the one whose socket has it:
    /// then that one is in another network with the same addresses. A pod of which it has not told
    /// may have got the address just now.
    fn is_anothers(&self, ip: IpAddr, began: UnixNanos, workload: &Workload) -> bool {
        let has_it = workload.api.as_ref().is_some_and(|pod| pod.ips.contains(&ip));
        let is_new = workload.pod_uid.is_some() && workload.api.is_none();
        let holder = || self.kubernetes.as_ref()?.pod_at(ip, began.0);
        !has_it && !is_new && holder().is_some_and(|pod| !workload.is_of(&pod))
    }

    /// Tells who has an address, or who is behind it.
    fn at_address(&mut self, seen: &Seen<'_>, sockets: &impl Sockets, now: Instant) -> Party {
        let Holder { pod, node, is_translated } = self.holder(seen, now);
        let opposite = is_translated.then(|| self.opposite(seen, false, now)).flatten();
        if let Some(opposite) = opposite {
            let behind = self.behind(seen, &opposite, sockets, now);
            match (behind, &pod) {
                // A client on this node whose socket talks to a Service's address.
                (Behind { at: None, party: party @ Party::Workload(_) }, _) => return party,
                (Behind { at: None, .. }, _) | (_, Some(_)) => {}
                (behind, None) => {
                    let address = node.map_or(Address::Own, Address::Node);
                    return Party::Front(Arc::new(Front { address, behind: Some(behind) }));
                }
            }
        }
        pod.map(Party::Pod).or(node.map(Party::Node)).unwrap_or_default()
    }

    /// Tells whose the address of an end is.
    fn holder(&self, seen: &Seen<'_>, now: Instant) -> Holder {
        let ip = ip_of(seen.end.addr);
        let index = self.kubernetes.as_ref();
        let pod = index.and_then(|index| index.pod_at(ip, seen.began.0));
        let is_own = self.addresses.contains(ip);
        let node = index.and_then(|index| {
            index.node_at(ip).or_else(|| is_own.then(|| index.node(&self.node_name)).flatten())
        });
        let is_translated = is_own
            || match &pod {
                Some(pod) => pod.node.as_ref() == Some(&self.node_name),
                // Perhaps a pod that the API server is yet to tell of.
                None => self.listeners.at(seen.protocol, seen.other, now).is_some(),
            };
        Holder { pod, node, is_translated }
    }

    /// Returns the Service of an end. All but its own address may be others' as well, and a client's:
    /// they are the Service's only where they are asked.
    fn service(&self, seen: &Seen<'_>, now: Instant) -> Option<Arc<ServiceAddress>> {
        let Seen { end, protocol, .. } = *seen;
        let found = self.kubernetes.as_ref()?.service_at(ip_of(end.addr), protocol, end.port)?;
        let is_own = match found.kind {
            AddressKind::Cluster => true,
            AddressKind::External | AddressKind::NodePort | AddressKind::Endpoint => {
                self.is_asked(seen, now)
            }
        };
        is_own.then_some(found)
    }

    /// Whether an end is the one that the other one asks. Where its role is not known: the end that is
    /// known to answer there, else the one with the lower port, since clients have theirs from a range
    /// above all others. A node that masquerades may give a client any port.
    fn is_asked(&self, seen: &Seen<'_>, now: Instant) -> bool {
        let Seen { end, other, protocol, role, .. } = *seen;
        let answers = |at| self.listeners.at(protocol, at, now).is_some();
        match role {
            Some(role) => role == Role::Asked,
            None => answers(end) || (!answers(other) && end.port < other.port),
        }
    }

    /// Returns the Service that a process of the host's network asked for: what it sends is seen
    /// when it has the backend's address already.
    fn service_asked(&mut self, seen: &Seen<'_>, now: Instant) -> Option<Arc<ServiceAddress>> {
        let is_client =
            seen.beside.is_some() && seen.role != Some(Role::Asks) && self.kubernetes.is_some();
        let other = ip_of(seen.other.addr);
        if !is_client || other.is_loopback() || !self.addresses.contains(other) {
            return None;
        }
        let Seen { end, other, protocol, began, .. } = *seen;
        let answer = Tuple { source: end, destination: other, protocol };
        let wanted = Wanted { tuple: answer, began, is_service: false };
        let sent = self.translations.as_mut()?.opposite(&wanted, now)?;
        let asked = Seen { end: sent.destination, other: sent.source, ..*seen };
        self.service(&asked, now).filter(|_| sent.destination != seen.end)
    }

    /// Returns what comes from an end, as it is sent there, where this node translates it.
    fn opposite(&mut self, seen: &Seen<'_>, is_service: bool, now: Instant) -> Option<Tuple> {
        let Seen { end, other, protocol, began, .. } = *seen;
        let tuple = Tuple { source: other, destination: end, protocol };
        self.translations.as_mut()?.opposite(&Wanted { tuple, began, is_service }, now)
    }

    /// Tells who sends what comes from an end.
    fn behind(
        &mut self,
        seen: &Seen<'_>,
        opposite: &Tuple,
        sockets: &impl Sockets,
        now: Instant,
    ) -> Behind {
        let Tuple { source: at, destination: other, .. } = *opposite;
        let there = Seen { end: at, other, ..*seen };
        let ip = ip_of(at.addr);
        let socket = self.socket(&there, sockets, now);
        let index = self.kubernetes.as_ref();
        let party = socket.map(Party::Workload).or_else(|| {
            let pod = || index?.pod_at(ip, seen.began.0).map(Party::Pod);
            let node = || index?.node_at(ip).map(Party::Node);
            pod().or_else(node)
        });
        Behind { at: (at != seen.end).then_some(at), party: party.unwrap_or_default() }
    }
}

/// Whether two owners are known to share a network namespace.
fn shares_network(one: &Workload, other: &Workload) -> bool {
    let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
    same(&one.pod_uid, &other.pod_uid)
        || same(&one.container_id, &other.container_id)
        || one.cgroup_path == other.cgroup_path
        || (one.host_network && other.host_network)
}

#[cfg(test)]
mod tests;
