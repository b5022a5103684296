//! TCP health: owner, connections, sums, hub.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use orb8_proto::filter::{End, FlowFields, TcpFields};
use orb8_proto::v1;

use super::Pipeline;
use super::hub::Weight;
use crate::event::{SocketEnd, TcpKind, TcpRole, TcpSample, UnixNanos};
use crate::identity::Workload;
use crate::store::tcp::{ConnectionOwner, TcpHealth, TcpPage, TcpQuery, TcpTotals};
use crate::store::{InterfaceNames, Label, ip_of, owner_fields, state_of};

/// Something that happened to a connection, listener or packet, and whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpEvent {
    /// What.
    pub sample: Box<TcpSample>,
    /// The owner of the local end.
    pub subject: Option<Arc<Workload>>,
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

impl Pipeline {
    /// Returns the connections that a query asks for.
    #[must_use]
    pub fn query_tcp(&mut self, query: &TcpQuery) -> TcpPage {
        let (identity, now) = (&mut self.identity, Instant::now());
        self.connections.find_owners(|cgroup_id| identity.resolve(cgroup_id, now));
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
        if let Some(found) = self.connections.find(&sample) {
            is_reversed = Some(found.is_reversed);
            if sample.cgroup_id == 0 {
                sample.cgroup_id = found.connection.cgroup_id;
            }
            if sample.role == TcpRole::Unknown {
                sample.role = found.connection.health().role;
            }
        }
        let local = local_end(&sample, is_reversed);
        let subject = self.identity.resolve(sample.cgroup_id, now);
        // Its `local` is the local end, whatever is told as the source.
        let own = if sample.of_packet { local } else { Some(End::Source) };
        let self_traffic = self.self_traffic.includes_connection(&sample, own, subject.as_deref());
        let label = self.label_of(time, &sample);
        let owner = ConnectionOwner { subject: subject.clone(), label, self_traffic };
        let known = self.connections.apply(time, &sample, owner, now);
        if sample.kind == TcpKind::Progress || !self.hubs.tcp.is_wanted() {
            return;
        }
        // What they tell is known by now, and events are kept.
        sample.figures = None;
        let in_our_network = subject.as_ref().is_some_and(|owner| owner.host_network)
            || self.own_netns == Some(sample.netns);
        let (health, label) = known.map(|known| (known.health, known.label)).unzip();
        let label = label.flatten();
        let event =
            TcpEvent { sample, subject, local, health, label, self_traffic, in_our_network };
        self.hubs.tcp.push(time, event);
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
        let TcpSample { local, remote, of_packet, role, .. } = &*self.event.sample;
        let is_reversed = !of_packet && matches!(role, TcpRole::Server | TcpRole::Listener);
        if *role == TcpRole::Listener && !of_packet && end == End::Source {
            return None;
        }
        Some(if (end == End::Source) == is_reversed { *remote } else { *local })
    }

    /// Returns the name of one end.
    #[must_use]
    pub fn label(&self, end: End) -> Option<&'a Label> {
        let is_remote = self.event.local.is_some_and(|local| local != end);
        self.event.label.as_deref().filter(|_| is_remote)
    }

    /// Returns the owner of one end.
    #[must_use]
    pub fn workload(&self, end: End) -> Option<&'a Workload> {
        self.event.subject.as_deref().filter(|_| self.event.local == Some(end))
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
