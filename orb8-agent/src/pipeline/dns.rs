//! DNS: owner, names, sums, hub.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use orb8_proto::filter::{DnsFields, End, FlowFields};
use orb8_proto::v1;

use super::Pipeline;
use super::hub::Weight;
use super::sockets::NodeSockets;
use super::unnamed::{Held, Owned};
use crate::enrich::{Role, Seen};
use crate::event::{DnsAnswer, DnsData, DnsExchange, DnsOutcome, DnsSide, SocketEnd, UnixNanos};
use crate::identity::{Ends, Party, Workload};
use crate::metrics::traffic::Moment;
use crate::store::dns::{DnsPage, DnsQuery};
use crate::store::{InterfaceNames, ip_of, owner_fields, protocol_of};

/// What became of a query, and whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsEvent {
    /// What became of it.
    pub exchange: Box<DnsExchange>,
    /// Who is at both ends: the client is the source, the server the destination.
    pub ends: Ends,
}

impl DnsEvent {
    /// Returns which end is this node's. Of what was seen on an interface, the socket that is known
    /// is taken for the client's: servers are rarely in a sandbox.
    #[must_use]
    pub const fn local(&self) -> End {
        local_end(self.exchange.side)
    }

    /// Returns the owner of the local end.
    #[must_use]
    pub fn subject(&self) -> Option<&Workload> {
        self.ends.get(self.local()).workload()
    }
}

impl Owned for DnsEvent {
    fn local(&self) -> Option<End> {
        Some(local_end(self.exchange.side))
    }

    fn ends(&mut self) -> &mut Ends {
        &mut self.ends
    }
}

const fn local_end(side: DnsSide) -> End {
    match side {
        DnsSide::Client | DnsSide::Transit => End::Source,
        DnsSide::Server => End::Destination,
    }
}

impl Weight for DnsEvent {
    fn heap_bytes(&self) -> usize {
        let DnsExchange { question, response, .. } = &*self.exchange;
        let question = question.as_ref().map(|question| &question.name);
        let answers = response.as_ref().map_or(&[][..], |response| &response.answers);
        let mut bytes =
            size_of::<DnsExchange>() + size_of_val(answers) + question.map_or(0, |name| name.len());
        // A name that comes again and again is there once.
        let mut last = question;
        for name in answers.iter().flat_map(names) {
            if last.is_none_or(|last| !Arc::ptr_eq(last, name)) {
                bytes += name.len();
            }
            last = Some(name);
        }
        bytes
    }
}

/// The names of a record.
fn names(answer: &DnsAnswer) -> impl Iterator<Item = &Arc<str>> {
    let target = match &answer.data {
        DnsData::Name(target) => Some(target),
        DnsData::Address(_) | DnsData::Other => None,
    };
    std::iter::once(&answer.name).chain(target)
}

impl Pipeline {
    /// Returns the DNS summaries that a query asks for.
    #[must_use]
    pub fn query_dns(&mut self, query: &DnsQuery) -> DnsPage {
        let (enrich, now) = (&mut self.enrich, Instant::now());
        self.dns.find_owners(|cgroup_id| enrich.owner(cgroup_id, now), now);
        self.dns.query(query)
    }

    pub(super) fn take_dns(&mut self, time: UnixNanos, exchange: Box<DnsExchange>, now: Instant) {
        let subject = self.enrich.owner(exchange.cgroup_id, now);
        // Not at the end of a cycle only: flows may be off.
        self.names.expire(time);
        self.names.learn(time, &exchange);
        self.dns.apply(time, &exchange, subject.as_ref(), now);
        let is_wanted = self.hubs.dns.is_wanted();
        let ends = match is_wanted || subject.is_none() || self.traffic.has_peer() {
            true => self.dns_ends(time, &exchange, subject, now),
            false => {
                let mut ends = Ends::default();
                *ends.get_mut(local_end(exchange.side)) = subject.into();
                ends
            }
        };
        self.traffic.count_dns(&exchange, &ends, &self.enrich, Moment { time, now });
        if is_wanted {
            let Self { unnamed, hubs, enrich, .. } = self;
            let held =
                Held { cgroup_id: exchange.cgroup_id, time, event: DnsEvent { exchange, ends } };
            unnamed.dns.send(held, &mut hubs.dns, enrich, now);
        }
    }

    fn dns_ends(
        &mut self,
        time: UnixNanos,
        exchange: &DnsExchange,
        subject: Option<Arc<Workload>>,
        now: Instant,
    ) -> Ends {
        let Self { enrich, store, connections, arriving, .. } = self;
        let sockets = NodeSockets { flows: store, connections, arriving };
        let mut ends = Ends::default();
        let local = local_end(exchange.side);
        for end in [local, local.other()] {
            let (at, other) = match end {
                End::Source => (exchange.client, exchange.server),
                End::Destination => (exchange.server, exchange.client),
            };
            let seen = Seen {
                end: at,
                other,
                protocol: exchange.transport,
                began: exchange.asked.unwrap_or(time),
                beside: subject.as_deref().filter(|_| end != local),
                role: Role::of(end, Some(End::Source)),
            };
            let party = ends.get_mut(end);
            *party = subject.clone().filter(|_| end == local).into();
            if end != local || !party.is_socket() {
                party.learn(enrich.party(&seen, &sockets, now));
            }
        }
        ends
    }
}

/// An exchange as filters see it: the client is the source, the server the destination.
#[derive(Clone, Copy, Debug)]
pub struct DnsView<'a> {
    /// The exchange.
    pub event: &'a DnsEvent,
    /// Names of interfaces.
    pub interfaces: &'a InterfaceNames,
}

impl<'a> DnsView<'a> {
    /// Returns one end.
    #[must_use]
    pub fn end(&self, end: End) -> SocketEnd {
        match end {
            End::Source => self.event.exchange.client,
            End::Destination => self.event.exchange.server,
        }
    }

    /// Returns who is at one end.
    #[must_use]
    pub fn party(&self, end: End) -> Option<&'a Party> {
        Some(self.event.ends.get(end))
    }
}

impl FlowFields for DnsView<'_> {
    fn ip(&self, end: End) -> Option<IpAddr> {
        Some(ip_of(self.end(end).addr))
    }

    fn port(&self, end: End) -> Option<u16> {
        Some(self.end(end).port)
    }

    owner_fields! {}

    fn protocol(&self) -> v1::Protocol {
        protocol_of(self.event.exchange.transport)
    }

    fn direction(&self) -> v1::Direction {
        v1::DnsSide::from(self.event.exchange.side).direction()
    }

    /// Only where the index is of this agent's namespace: a socket's may be another one's.
    fn interface(&self) -> Option<&str> {
        let is_ours = self.event.exchange.side == DnsSide::Transit
            || self.event.subject().is_some_and(|owner| owner.host_network);
        self.interfaces.get(self.event.exchange.ifindex).filter(|_| is_ours)
    }
}

impl DnsFields for DnsView<'_> {
    fn name(&self) -> Option<&str> {
        self.event.exchange.question.as_ref().map(|question| &*question.name)
    }

    fn has_rcode(&self, rcode: u16) -> bool {
        self.event.exchange.response.as_ref().is_some_and(|response| response.rcode == rcode)
    }

    fn has_type(&self, query_type: u16) -> bool {
        let question = self.event.exchange.question.as_ref();
        question.is_some_and(|question| question.kind == query_type)
    }

    fn has_outcome(&self, outcome: v1::DnsOutcome) -> bool {
        v1::DnsOutcome::from(self.event.exchange.outcome) == outcome
    }

    fn side(&self) -> v1::DnsSide {
        self.event.exchange.side.into()
    }

    fn latency_ns(&self) -> Option<u64> {
        let exchange = &self.event.exchange;
        (exchange.outcome == DnsOutcome::Answered).then_some(exchange.latency_ns)
    }
}
