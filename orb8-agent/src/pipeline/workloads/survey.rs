//! Adding up.
//!
//! Owners and peers are looked at once each: after that, the address of what is shared tells who it is.
//! So it is kept as long as the survey lasts, lest somebody else gets that address.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use orb8_common::flow::DIRECTION_EGRESS;
use orb8_proto::filter::{End, FlowFields};
use orb8_proto::v1;

use super::who::pod_uid;
use super::{DnsSums, Peer, Traffic, Who, WorkloadCounts, WorkloadQuery, is_here};
use crate::event::DnsSide;
use crate::identity::Party;
use crate::store::dns::DnsSummary;
use crate::store::tcp::Connection;
use crate::store::{Added, Flow, Label, owner_fields};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A look at what every workload does, which takes its time. See the [module above](super).
#[derive(Debug)]
pub struct WorkloadSurvey {
    pub(super) query: WorkloadQuery,
    pub(super) stage: Stage,
    node_name: Arc<str>,
    pub(super) rows: Vec<Row>,
    /// By [`Who::key`].
    by_key: Map<String, u32>,
    /// `None` for those that are not wanted.
    owners: Map<Shared, Option<u32>>,
    /// Keeps the addresses in `owners` and `peers` theirs.
    kept: Vec<Kept>,
    pub(super) peers: Vec<Peer>,
    peer_keys: Map<PeerKey, u32>,
    by_peer: Map<PeerId, u32>,
    pub(super) pairs: Vec<Pair>,
    by_pair: Map<(u32, u32), u32>,
    pods: HashSet<(u32, String)>,
    pub(super) interval: Duration,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Flows { from: u32 },
    Connections,
    Dns,
    Done,
}

#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) who: Who,
    pub(super) counts: WorkloadCounts,
}

/// A row and one of its peers, by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    pub(super) row: u32,
    pub(super) peer: u32,
    pub(super) sent: Traffic,
    pub(super) received: Traffic,
    pub(super) active_flows: u64,
}

/// The address of what many ends share, 0 for nobody.
type Shared = usize;

#[derive(Debug)]
#[expect(dead_code, reason = "it is held, and never read")]
enum Kept {
    Party(Party),
    Name(Arc<str>),
}

/// A peer as a flow has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PeerId {
    Shared(Shared),
    Addr([u8; 16]),
}

/// What tells a named peer from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum PeerKey {
    Who(String),
    Service(String, String),
    Node(String),
    Name(Arc<str>),
    Addr([u8; 16]),
}

/// Which way a flow goes, seen from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Sent,
    Received,
}

impl WorkloadSurvey {
    pub(super) fn new(query: WorkloadQuery, node_name: Arc<str>) -> Self {
        Self {
            query,
            stage: Stage::Flows { from: 0 },
            node_name,
            rows: Vec::new(),
            by_key: Map::default(),
            owners: Map::default(),
            kept: Vec::new(),
            peers: Vec::new(),
            peer_keys: Map::default(),
            by_peer: Map::default(),
            pairs: Vec::new(),
            by_pair: Map::default(),
            pods: HashSet::new(),
            interval: Duration::ZERO,
        }
    }

    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Adds a flow, with what it moved in the last interval.
    pub(super) fn add_flow(&mut self, flow: &Flow, moved: Added) {
        if flow.self_traffic && !self.query.include_self_traffic {
            return;
        }
        if let Some(local) = flow.local_end() {
            return self.add_end(flow, local, flow.ends.get(local), moved);
        }
        // Seen on an interface: it may be of two pods here, and nobody else's record has it.
        let mut is_told = false;
        for end in End::BOTH {
            let party = flow.ends.get(end);
            if is_here(party, &self.node_name) {
                self.add_end(flow, end, party, moved);
                is_told = true;
            }
        }
        if !is_told {
            let is_sent = flow.key.direction == DIRECTION_EGRESS;
            let end = if is_sent { End::Source } else { End::Destination };
            self.add_end(flow, end, &Party::Unknown, moved);
        }
    }

    fn add_end(&mut self, flow: &Flow, end: End, owner: &Party, moved: Added) {
        let Some(row) = self.row(owner) else { return };
        let way = match end {
            End::Source => Way::Sent,
            End::Destination => Way::Received,
        };
        let is_active = u64::from(flow.end.is_none());
        let peer = self.peer(flow, end.other());
        let pairs = self.pairs.len() as u32;
        let at = *self.by_pair.entry((row, peer)).or_insert(pairs);
        if at == pairs {
            self.pairs.push(Pair { row, peer, ..Pair::default() });
        }
        let counts = &mut self.rows[row as usize].counts;
        counts.peers += u64::from(at == pairs);
        counts.active_flows += is_active;
        counts.last = counts.last.max(flow.last);
        let pair = &mut self.pairs[at as usize];
        pair.active_flows += is_active;
        let (of_row, of_pair) = match way {
            Way::Sent => (&mut counts.sent, &mut pair.sent),
            Way::Received => (&mut counts.received, &mut pair.received),
        };
        of_row.add(flow, moved);
        of_pair.add(flow, moved);
    }

    /// Adds a connection, seen from its local end.
    pub(super) fn add_connection(&mut self, connection: &Connection) {
        if connection.self_traffic && !self.query.include_self_traffic {
            return;
        }
        let Some(row) = self.row(&connection.subject) else { return };
        let health = connection.health();
        let counts = &mut self.rows[row as usize].counts;
        counts.connections += 1;
        counts.open += u64::from(health.closed.is_none());
        counts.retransmits += u64::from(health.retransmits);
        if let Some(rtt) = health.srtt_ns {
            counts.rtt.record(rtt);
        }
    }

    /// Adds all exchanges of an owner for a name.
    pub(super) fn add_dns(&mut self, summary: &DnsSummary) {
        let owner = Party::from(summary.workload.clone());
        let Some(row) = self.row(&owner) else { return };
        let counts = &mut self.rows[row as usize].counts;
        let sums = match summary.side {
            DnsSide::Client | DnsSide::Transit => &mut counts.dns,
            DnsSide::Server => &mut counts.dns_served,
        };
        sums.add(summary);
    }

    /// Returns the row of an owner, `None` where it is not wanted.
    fn row(&mut self, owner: &Party) -> Option<u32> {
        let shared = shared(owner);
        if let Some(known) = self.owners.get(&shared) {
            return *known;
        }
        let row = self.find_row(owner);
        self.keep(owner);
        self.owners.insert(shared, row);
        row
    }

    fn find_row(&mut self, owner: &Party) -> Option<u32> {
        let WorkloadQuery { matcher, group, keys, .. } = &self.query;
        let who = Who::of(owner, *group);
        let is_named = keys.is_empty() || keys.binary_search(&who.key).is_ok();
        if !is_named || !(matcher.is_empty() || matcher.matches(&OwnerView(&who.party))) {
            return None;
        }
        let row = match self.by_key.get(&who.key) {
            Some(row) => *row,
            None => {
                let row = self.rows.len() as u32;
                self.by_key.insert(who.key.clone(), row);
                self.rows.push(Row { who, ..Row::default() });
                row
            }
        };
        if let Some(uid) = pod_uid(owner)
            && self.pods.insert((row, uid.to_owned()))
        {
            self.rows[row as usize].counts.pods += 1;
        }
        Some(row)
    }

    /// Returns the number of who is at the other end.
    fn peer(&mut self, flow: &Flow, end: End) -> u32 {
        let party = flow.ends.get(end);
        let name = flow.label(end).map(|label: &Label| &label.name);
        let addr = match end {
            End::Source => flow.key.source_addr,
            End::Destination => flow.key.destination_addr,
        };
        let id = match (shared(party), name) {
            (0, Some(name)) => PeerId::Shared(name.as_ptr() as Shared),
            (0, None) => PeerId::Addr(addr),
            (shared, _) => PeerId::Shared(shared),
        };
        if let Some(known) = self.by_peer.get(&id) {
            return *known;
        }
        let (key, peer) = self.look(party, name, addr);
        let peers = self.peers.len() as u32;
        let number = *self.peer_keys.entry(key).or_insert(peers);
        if number == peers {
            self.peers.push(peer);
        }
        // What an address alone tells is no more than its key.
        if let PeerId::Shared(_) = id {
            match name.filter(|_| shared(party) == 0) {
                Some(name) => self.kept.push(Kept::Name(Arc::clone(name))),
                None => self.keep(party),
            }
        }
        self.by_peer.insert(id, number);
        number
    }

    fn look(&self, party: &Party, name: Option<&Arc<str>>, addr: [u8; 16]) -> (PeerKey, Peer) {
        if let Some(service) = party.service() {
            let service = &service.service;
            let key = PeerKey::Service(service.namespace.to_string(), service.name.to_string());
            return (key, Peer::Party(party.clone()));
        }
        let who = Who::of(party, self.query.group);
        if !who.key.is_empty() {
            return (PeerKey::Who(who.key.clone()), Peer::Who(who));
        }
        if let Some(node) = party.node() {
            return (PeerKey::Node(node.name.to_string()), Peer::Party(party.clone()));
        }
        match name {
            Some(name) => (PeerKey::Name(Arc::clone(name)), Peer::Name(Arc::clone(name))),
            None => (PeerKey::Addr(addr), Peer::Addr(addr)),
        }
    }

    fn keep(&mut self, party: &Party) {
        self.kept.push(Kept::Party(party.clone()));
    }
}

/// Returns the address of what tells who is at an end.
fn shared(party: &Party) -> Shared {
    match party {
        Party::Unknown => 0,
        Party::Workload(workload) => Arc::as_ptr(workload) as Shared,
        Party::Pod(pod) => Arc::as_ptr(pod) as Shared,
        Party::Node(node) => Arc::as_ptr(node) as Shared,
        Party::Front(front) => Arc::as_ptr(front) as Shared,
    }
}

impl Traffic {
    fn add(&mut self, flow: &Flow, moved: Added) {
        self.bytes += flow.bytes;
        self.packets += flow.packets;
        self.bytes_per_second += moved.bytes;
        self.packets_per_second += moved.packets;
    }
}

impl DnsSums {
    fn add(&mut self, summary: &DnsSummary) {
        let counts = &summary.counts;
        self.queries += counts.queries;
        self.responses += counts.responses;
        self.errors += counts.errors();
        self.timeouts += counts.timeouts;
        self.latency.merge(&counts.latency);
    }
}

/// An owner as filters see it.
struct OwnerView<'a>(&'a Party);

impl OwnerView<'_> {
    fn party(&self, end: End) -> Option<&Party> {
        Some(self.0).filter(|_| end == End::Source)
    }
}

impl FlowFields for OwnerView<'_> {
    fn ip(&self, _: End) -> Option<std::net::IpAddr> {
        None
    }

    fn port(&self, _: End) -> Option<u16> {
        None
    }

    owner_fields! {}

    fn protocol(&self) -> v1::Protocol {
        v1::Protocol::Unspecified
    }

    fn direction(&self) -> v1::Direction {
        v1::Direction::Unspecified
    }

    fn interface(&self) -> Option<&str> {
        None
    }
}
