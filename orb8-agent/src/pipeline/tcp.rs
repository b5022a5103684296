//! TCP health: owner, connections, sums, hub.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use orb8_proto::filter::{End, FlowFields, TcpFields};
use orb8_proto::v1;

use super::Pipeline;
use super::hub::Weight;
use super::sockets::NodeSockets;
use super::unnamed::{Held, Owned};
use crate::enrich::{Role, Seen};
use crate::event::{SocketEnd, TcpKind, TcpRole, TcpSample, UnixNanos};
use crate::identity::{Ends, Party, Workload};
use crate::metrics::traffic::Moment;
use crate::store::tcp::{Connection, ConnectionOwner, TcpHealth, TcpPage, TcpQuery, TcpTotals};
use crate::store::{InterfaceNames, Label, ip_of, owner_fields, state_of};

/// IP protocol number.
const TCP: u8 = 6;

/// Something that happened to a connection, listener or packet, and whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpEvent {
    /// What.
    pub sample: Box<TcpSample>,
    /// Who is at both ends.
    pub ends: Ends,
    /// Which of the two ends is local, where that is known.
    pub local: Option<End>,
    /// What is known of the connection.
    pub health: Option<Arc<TcpHealth>>,
    /// The name by which its owner found the other end.
    pub label: Option<Arc<Label>>,
    /// Whether it is the agent's own API traffic.
    pub self_traffic: bool,
    /// Whether the interface's index is of this agent's network namespace.
    pub in_our_network: bool,
}

impl Weight for TcpEvent {
    /// Owner, name and reason are the tables'; its health is its own as soon as there is another.
    fn heap_bytes(&self) -> usize {
        size_of::<TcpSample>() + self.health.as_deref().map_or(0, size_of_val)
    }
}

impl Owned for TcpEvent {
    fn local(&self) -> Option<End> {
        self.local
    }

    fn ends(&mut self) -> &mut Ends {
        &mut self.ends
    }
}

impl Pipeline {
    /// Returns the connections that a query asks for.
    #[must_use]
    pub fn query_tcp(&mut self, query: &TcpQuery) -> TcpPage {
        let (enrich, now) = (&mut self.enrich, Instant::now());
        self.connections.find_owners(|cgroup_id| enrich.owner(cgroup_id, now));
        self.connections.query(query)
    }

    /// Returns what all connections add up to.
    #[must_use]
    pub fn tcp_totals(&self) -> TcpTotals {
        self.connections.totals().clone()
    }

    /// Closes the connections that were open before a time and whose sockets are not live, after
    /// records of closes were lost. `live` must know every socket that was live then.
    pub fn close_missing_connections(&mut self, live: &impl Fn(u64) -> bool, before: UnixNanos) {
        self.connections.close_missing(live, before, Instant::now());
    }

    pub(super) fn take_tcp(&mut self, time: UnixNanos, mut sample: Box<TcpSample>, now: Instant) {
        // Not at the end of a cycle only: flows may be off.
        self.connections.expire(now);
        let mut is_reversed = None;
        let mut is_own = false;
        let mut known = None;
        if let Some(found) = self.connections.find(&sample) {
            is_reversed = Some(found.is_reversed);
            is_own = found.connection.self_traffic;
            if sample.cgroup_id == 0 {
                sample.cgroup_id = found.connection.cgroup_id;
            }
            if sample.role == TcpRole::Unknown {
                sample.role = found.connection.health().role;
            }
            let Connection { subject, peer, looked, .. } = found.connection;
            let began = found.connection.health().opened.unwrap_or(time);
            let (subject, peer) = (subject.clone(), peer.clone());
            known = Some(Remembered { subject, peer, looked: *looked, began });
        }
        let local = local_end(&sample, is_reversed);
        let subject = self.enrich.owner(sample.cgroup_id, now);
        let ends = self.tcp_ends(time, &sample, local, subject.as_ref(), known, now);
        // Its `local` is the local end, whatever is told as the source.
        let own = if sample.of_packet { local } else { Some(End::Source) };
        let self_traffic = self.self_traffic.includes_connection(&sample, own, subject.as_deref());
        let label = self.label_of(time, &sample);
        let of = |end: Option<End>| end.map(|end| ends.get(end).clone()).unwrap_or_default();
        let (own, peer) = (of(local), of(local.map(End::other)));
        let looked = self.enrich.epoch();
        let owner = ConnectionOwner { subject: own, peer, looked, label, self_traffic };
        let known = self.connections.apply(time, &sample, owner, now);
        if !self_traffic && !is_own {
            let added = self.connections.added();
            let at = Moment { time, now };
            self.traffic.count_tcp(&sample, added, (&ends, local), &self.enrich, at);
        }
        if sample.kind == TcpKind::Progress || !self.hubs.tcp.is_wanted() {
            return;
        }
        // What they tell is known by now, and events are kept.
        sample.figures = None;
        let in_our_network = subject.as_ref().is_some_and(|owner| owner.host_network)
            || self.own_netns == Some(sample.netns);
        let (health, label) = known.map(|known| (known.health, known.label)).unzip();
        let label = label.flatten();
        let cgroup_id = sample.cgroup_id;
        let event = TcpEvent { sample, ends, local, health, label, self_traffic, in_our_network };
        let Self { unnamed, hubs, enrich, .. } = self;
        unnamed.tcp.send(Held { cgroup_id, time, event }, &mut hubs.tcp, enrich, now);
    }

    /// Tells who is at the ends, in the order of what is told.
    fn tcp_ends(
        &mut self,
        time: UnixNanos,
        sample: &TcpSample,
        local: Option<End>,
        subject: Option<&Arc<Workload>>,
        known: Option<Remembered>,
        now: Instant,
    ) -> Ends {
        let Self { enrich, store, connections, arriving, .. } = self;
        let sockets = NodeSockets { flows: store, connections, arriving };
        let mut ends = Ends::default();
        for end in End::BOTH {
            let Some(at) = end_of(sample, end) else { continue };
            let is_local = local == Some(end);
            let owner = subject.filter(|_| is_local);
            let party = ends.get_mut(end);
            if let Some(known) = known.as_ref().filter(|_| local.is_some()) {
                *party = known.get(is_local).clone();
            }
            if let Some(owner) = owner {
                party.learn(Party::Workload(Arc::clone(owner)));
            }
            if is_final(party, owner, sample, known.as_ref(), enrich.epoch()) {
                continue;
            }
            let seen = Seen {
                end: at,
                other: end_of(sample, end.other()).unwrap_or_default(),
                protocol: TCP,
                began: known.as_ref().map_or(time, |known| known.began),
                beside: subject.map(|subject| &**subject).filter(|_| !is_local),
                role: Role::of(end, asking_end(sample, local)),
            };
            party.learn(enrich.party(&seen, &sockets, now));
        }
        ends
    }

    /// Returns the name by which a client found the server, when it connects or fails to.
    fn label_of(&self, time: UnixNanos, sample: &TcpSample) -> Option<Arc<Label>> {
        let took = match sample.kind {
            TcpKind::Connect { handshake_ns } => handshake_ns.unwrap_or(0),
            TcpKind::Fail { .. } => {
                let opened = sample.figures.as_ref().and_then(|figures| figures.opened);
                opened.map_or(0, |opened| time.0.saturating_sub(opened.0))
            }
            _ => return None,
        };
        let began = UnixNanos(time.0.saturating_sub(took));
        self.names.label_of(sample.cgroup_id, sample.local.addr, sample.remote.addr, began)
    }
}

/// What a connection's table says of it.
struct Remembered {
    subject: Party,
    peer: Party,
    looked: u32,
    began: UnixNanos,
}

impl Remembered {
    const fn get(&self, is_local: bool) -> &Party {
        if is_local { &self.subject } else { &self.peer }
    }
}

/// Whether another look tells no more of an end: the owner of a local socket is known by its cgroup,
/// if at all, and what is only counted is no news.
fn is_final(
    party: &Party,
    owner: Option<&Arc<Workload>>,
    sample: &TcpSample,
    known: Option<&Remembered>,
    epoch: u32,
) -> bool {
    let is_counted = || sample.kind == TcpKind::Progress;
    let was_looked_for = || known.is_some_and(|known| known.looked == epoch);
    owner.is_some_and(|owner| !owner.is_root())
        || party.is_settled()
        || (is_counted() && was_looked_for())
}

/// Returns one end of what is told: the source is who opened the connection, or sent the packet. A
/// listener has one only.
fn end_of(sample: &TcpSample, end: End) -> Option<SocketEnd> {
    let TcpSample { local, remote, of_packet, role, .. } = *sample;
    let is_reversed = !of_packet && matches!(role, TcpRole::Server | TcpRole::Listener);
    if role == TcpRole::Listener && !of_packet && end == End::Source {
        return None;
    }
    Some(if (end == End::Source) == is_reversed { remote } else { local })
}

/// Which end opened the connection, where that is known.
fn asking_end(sample: &TcpSample, local: Option<End>) -> Option<End> {
    match sample.role {
        TcpRole::Client => local,
        TcpRole::Server | TcpRole::Listener => local.map(End::other),
        TcpRole::Unknown => None,
    }
}

/// Which end of an event is local: its source, unless the other end connected. Of a packet it is
/// what the kernel says, else what its connection says.
fn local_end(sample: &TcpSample, is_reversed: Option<bool>) -> Option<End> {
    match (sample.of_packet, sample.role) {
        (true, _) => sample.local_end.or(is_reversed.map(|is_reversed| match is_reversed {
            true => End::Destination,
            false => End::Source,
        })),
        (false, TcpRole::Client | TcpRole::Unknown) => Some(End::Source),
        (false, TcpRole::Server | TcpRole::Listener) => Some(End::Destination),
    }
}

/// An event as filters see it.
#[derive(Clone, Copy, Debug)]
pub struct TcpView<'a> {
    /// The event.
    pub event: &'a TcpEvent,
    /// Names of interfaces.
    pub interfaces: &'a InterfaceNames,
}

impl<'a> TcpView<'a> {
    /// Returns one end. A listener has one only.
    #[must_use]
    pub fn end(&self, end: End) -> Option<SocketEnd> {
        end_of(&self.event.sample, end)
    }

    /// Returns the name of one end.
    #[must_use]
    pub fn label(&self, end: End) -> Option<&'a Label> {
        let is_remote = self.event.local.is_some_and(|local| local != end);
        self.event.label.as_deref().filter(|_| is_remote)
    }

    /// Returns who is at one end.
    #[must_use]
    pub fn party(&self, end: End) -> Option<&'a Party> {
        Some(self.event.ends.get(end))
    }
}

impl FlowFields for TcpView<'_> {
    fn ip(&self, end: End) -> Option<IpAddr> {
        Some(ip_of(self.end(end)?.addr))
    }

    fn port(&self, end: End) -> Option<u16> {
        Some(self.end(end)?.port)
    }

    owner_fields! {}

    fn protocol(&self) -> v1::Protocol {
        v1::Protocol::Tcp
    }

    fn direction(&self) -> v1::Direction {
        orb8_proto::tcp::direction(self.event.local)
    }

    fn interface(&self) -> Option<&str> {
        self.interfaces.get(self.event.sample.ifindex).filter(|_| self.event.in_our_network)
    }
}

impl TcpFields for TcpView<'_> {
    fn kind(&self) -> Option<v1::TcpEventKind> {
        Some(match self.event.sample.kind {
            // Told to nobody.
            TcpKind::Progress => return None,
            TcpKind::Connect { .. } => v1::TcpEventKind::Connect,
            TcpKind::Accept { .. } => v1::TcpEventKind::Accept,
            TcpKind::Fail { .. } => v1::TcpEventKind::Fail,
            TcpKind::Close { .. } => v1::TcpEventKind::Close,
            TcpKind::State => v1::TcpEventKind::State,
            TcpKind::Retransmit { .. } => v1::TcpEventKind::Retransmit,
            TcpKind::Reset { .. } => v1::TcpEventKind::Reset,
            TcpKind::Drop { .. } => v1::TcpEventKind::Drop,
            TcpKind::Overflow { .. } => v1::TcpEventKind::Overflow,
        })
    }

    fn state(&self) -> v1::TcpState {
        state_of(self.event.sample.state)
    }

    fn reason(&self) -> Option<&str> {
        match &self.event.sample.kind {
            TcpKind::Drop { reason, .. } | TcpKind::Reset { reason: Some(reason), .. } => {
                Some(&reason.name)
            }
            _ => None,
        }
    }

    fn latency_ns(&self) -> Option<u64> {
        self.event.health.as_ref()?.latency_ns().max(self.event.sample.srtt_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_packet_goes_first() {
        let at = SocketEnd { addr: [0; 16], port: 0 };
        let sample = |of_packet, local_end, role| TcpSample {
            kind: TcpKind::State,
            local: at,
            remote: at,
            of_packet,
            local_end,
            cgroup_id: 0,
            cookie: 0,
            netns: 0,
            ifindex: 0,
            role,
            state: 0,
            old_state: 0,
            srtt_ns: None,
            figures: None,
        };
        let packet = |named, found| local_end(&sample(true, named, TcpRole::Unknown), found);
        assert_eq!(packet(Some(End::Destination), Some(false)), Some(End::Destination));
        assert_eq!(packet(Some(End::Source), None), Some(End::Source));
        assert_eq!(packet(None, Some(true)), Some(End::Destination));
        assert_eq!(packet(None, None), None);
        let event = |role| local_end(&sample(false, None, role), None);
        assert_eq!(event(TcpRole::Client), Some(End::Source));
        assert_eq!(event(TcpRole::Server), Some(End::Destination));
    }
}
