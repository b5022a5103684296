//! What happened, as Hubble would tell it: the one place that decides which event is what flow.
//!
//! | event | flow |
//! |---|---|
//! | a flow is new, moved, or ended with counts that nothing told; a FIN or RST was seen | `L3_L4`, `FORWARDED` |
//! | the kernel dropped a TCP packet | `L3_L4`, `DROPPED` |
//! | a DNS query was answered | two of `L7`: `REQUEST` and `RESPONSE`, `FORWARDED` |
//! | nobody answered | `L7`, `REQUEST`, `ERROR` |
//! | an answer that was too late, or that nobody asked for | `L7`, `RESPONSE`, `FORWARDED` |
//! | a DNS message that does not parse | `L7`, `ERROR` |
//!
//! All of it is borrowed: filters look at every event, and few are told.

use std::net::IpAddr;

use orb8_common::flow::{DIRECTION_EGRESS, HOOK_SOCKET};
use orb8_proto::filter::{End, FlowFields};
use orb8_proto::hubble::flow::{TraceObservationPoint as Point, TrafficDirection, Verdict};

use super::drop_reason;
use super::id::EventId;
use super::who::Who;
use crate::event::{
    DnsExchange, DnsOutcome, DnsSide, Reason, SocketEnd, TcpKind, TcpSample, UnixNanos,
};
use crate::identity::Party;
use crate::pipeline::{DnsEvent, DnsView, FlowEvent, FlowStep, TcpEvent, TcpView};
use crate::store::{FlowView, InterfaceNames, ip_of};

mod reply;

/// IP protocol numbers.
pub(super) const ICMP: u8 = 1;
pub(super) const IGMP: u8 = 2;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
pub(super) const VRRP: u8 = 112;
pub(super) const SCTP: u8 = 132;

/// TCP flags as in the header.
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// Numbers of Cilium's monitor messages.
pub(super) const MESSAGE_DROP: i32 = 1;
pub(super) const MESSAGE_TRACE: i32 = 4;
pub(super) const MESSAGE_ACCESS_LOG: i32 = 129;

/// One flow of Hubble's.
#[derive(Clone, Debug)]
pub(super) struct Observed<'a> {
    pub(super) id: EventId,
    pub(super) time: UnixNanos,
    pub(super) subject: Subject<'a>,
    pub(super) source: Side<'a>,
    pub(super) destination: Side<'a>,
    /// IP protocol number.
    pub(super) protocol: u8,
    pub(super) icmp: Option<(u8, u8)>,
    /// TCP only, where they are known.
    pub(super) tcp_flags: Option<u8>,
    /// Whether it goes to who asked; `None` where that is not known.
    pub(super) is_reply: Option<bool>,
    /// The end that is a socket of this node, where that is known.
    pub(super) local: Option<End>,
    /// Where it was seen, but for DNS.
    pub(super) point: Point,
    /// Index, and name where it is one of this agent's namespace.
    pub(super) interface: Option<(u32, Option<&'a str>)>,
    pub(super) cookie: u64,
    pub(super) cgroup_id: u64,
}

/// What it is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// What was counted since the flow was told of last; nothing for a moment.
    Packets {
        packets: u64,
        bytes: u64,
    },
    /// A packet that was dropped, and how many it stands for.
    Drop {
        reason: &'a Reason,
        location: Option<&'a str>,
        weight: u32,
    },
    Query(&'a DnsExchange),
    Response(&'a DnsExchange),
}

/// One end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side<'a> {
    pub(super) ip: IpAddr,
    /// Where the protocol has ports.
    pub(super) port: Option<u16>,
    pub(super) who: Who<'a>,
    /// Namespace and name of the Service that has the address.
    pub(super) service: Option<(&'a str, &'a str)>,
    /// The name that a DNS answer gave the address, where it is nobody's of the cluster.
    pub(super) name: Option<&'a str>,
}

impl<'a> Side<'a> {
    fn new(
        at: SocketEnd,
        port: Option<u16>,
        party: &'a Party,
        name: Option<&'a str>,
        node: &str,
    ) -> Self {
        let ip = ip_of(at.addr);
        let who = Who::new(party, ip, node);
        let service = party.service().map(|address| &*address.service);
        Self {
            ip,
            port,
            who,
            service: service.map(|service| (&*service.namespace, &*service.name)),
            name: name.filter(|_| who.is_world()),
        }
    }
}

impl<'a> Observed<'a> {
    /// Reads what happened with a flow; `None` for what tells of no packet.
    pub(super) fn of_flow(
        id: EventId,
        time: UnixNanos,
        event: &'a FlowEvent,
        interfaces: &'a InterfaceNames,
        node: &str,
    ) -> Option<Self> {
        let FlowEvent { step, row, packets, bytes } = event;
        let flow = &row.flow;
        // Its FIN or RST was told, and nothing was counted since.
        let is_silent = matches!(step, FlowStep::End(_)) && *packets == 0;
        if flow.self_traffic || is_silent {
            return None;
        }
        let key = &flow.key;
        let view = FlowView { flow, interfaces };
        let side = |end, port| {
            let at = SocketEnd { addr: view.raw_ip(end), port };
            let name = flow.label(end).map(|label| &*label.name);
            Side::new(at, view.port(end), flow.ends.get(end), name, node)
        };
        let source = side(End::Source, key.source_port);
        let destination = side(End::Destination, key.destination_port);
        let icmp = view.has_icmp_type();
        // A type and a code have a byte each.
        let icmp = icmp.then_some((key.source_port as u8, key.destination_port as u8));
        let asking = flow.asking.map(|asking| asking == End::Destination);
        let is_egress = key.direction == DIRECTION_EGRESS;
        let local = flow.local_end();
        let point = match (key.hook == HOOK_SOCKET, is_egress) {
            (true, true) => at_socket(&source, true),
            (true, false) => at_socket(&destination, false),
            (false, true) => Point::ToNetwork,
            (false, false) => Point::FromNetwork,
        };
        Some(Self {
            id,
            time,
            subject: Subject::Packets { packets: *packets, bytes: *bytes },
            is_reply: asking.or_else(|| reply::guess(key.protocol, icmp, &source, &destination)),
            source,
            destination,
            protocol: key.protocol,
            icmp,
            tcp_flags: (key.protocol == TCP).then(|| flags_of(*step, flow.tcp_flags)),
            local,
            point,
            interface: interface(flow.ifindex, view.interface().is_some(), interfaces),
            cookie: flow.cookie,
            cgroup_id: flow.cgroup_id,
        })
    }

    /// Reads a dropped packet; `None` for what else happens to connections, which flows tell.
    pub(super) fn of_tcp(
        id: EventId,
        time: UnixNanos,
        event: &'a TcpEvent,
        interfaces: &'a InterfaceNames,
        node: &str,
    ) -> Option<Self> {
        let TcpKind::Drop { reason, location, weight, tcp_flags, bytes: _ } = &event.sample.kind
        else {
            return None;
        };
        if event.self_traffic {
            return None;
        }
        let view = TcpView { event, interfaces };
        let side = |end| {
            let at = view.end(end)?;
            let name = view.label(end).map(|label| &*label.name);
            Some(Side::new(at, Some(at.port), event.ends.get(end), name, node))
        };
        let (source, destination) = (side(End::Source)?, side(End::Destination)?);
        let TcpSample { ifindex, cookie, cgroup_id, .. } = *event.sample;
        let point = match event.local {
            Some(End::Source) => at_socket(&source, true),
            Some(End::Destination) => at_socket(&destination, false),
            None => Point::UnknownPoint,
        };
        Some(Self {
            id,
            time,
            subject: Subject::Drop { reason, location: location.as_deref(), weight: *weight },
            is_reply: reply::of_drop(event, *tcp_flags)
                .or_else(|| reply::guess(TCP, None, &source, &destination)),
            source,
            destination,
            protocol: TCP,
            icmp: None,
            tcp_flags: Some(*tcp_flags),
            local: event.local,
            point,
            interface: interface(ifindex, view.interface().is_some(), interfaces),
            cookie,
            cgroup_id,
        })
    }

    /// Reads one part of a DNS exchange, the query or the response; `None` where it has no such.
    pub(super) fn of_dns(
        id: EventId,
        time: UnixNanos,
        event: &'a DnsEvent,
        interfaces: &'a InterfaceNames,
        node: &str,
    ) -> Option<Self> {
        let exchange = &*event.exchange;
        let is_late = exchange.response.as_ref().is_some_and(|response| response.late);
        let is_response = id.part != 0;
        let time = match (exchange.outcome, is_response) {
            (DnsOutcome::Answered, false) => exchange.asked.filter(|_| !is_late)?,
            (DnsOutcome::Answered | DnsOutcome::Unasked, true) => time,
            (DnsOutcome::Timeout | DnsOutcome::Malformed, false) => time,
            (DnsOutcome::Unasked, false) | (DnsOutcome::Timeout | DnsOutcome::Malformed, true) => {
                return None;
            }
        };
        let view = DnsView { event, interfaces };
        let side = |end| {
            let at = view.end(end);
            Side::new(at, Some(at.port), event.ends.get(end), None, node)
        };
        let (client, server) = (side(End::Source), side(End::Destination));
        let (source, destination) = if is_response { (server, client) } else { (client, server) };
        let local = match exchange.side {
            DnsSide::Client => Some(End::Source),
            DnsSide::Server => Some(End::Destination),
            DnsSide::Transit => None,
        };
        Some(Self {
            id,
            time,
            subject: match is_response {
                true => Subject::Response(exchange),
                false => Subject::Query(exchange),
            },
            source,
            destination,
            protocol: exchange.transport,
            icmp: None,
            tcp_flags: None,
            is_reply: Some(is_response),
            local: local.map(|local| if is_response { local.other() } else { local }),
            point: Point::UnknownPoint,
            interface: interface(exchange.ifindex, view.interface().is_some(), interfaces),
            cookie: exchange.cookie,
            cgroup_id: exchange.cgroup_id,
        })
    }

    pub(super) const fn side(&self, end: End) -> &Side<'a> {
        match end {
            End::Source => &self.source,
            End::Destination => &self.destination,
        }
    }

    pub(super) const fn dns(&self) -> Option<&'a DnsExchange> {
        match self.subject {
            Subject::Query(exchange) | Subject::Response(exchange) => Some(exchange),
            Subject::Packets { .. } | Subject::Drop { .. } => None,
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.subject {
            Subject::Packets { .. } | Subject::Response(_) => Verdict::Forwarded,
            Subject::Drop { .. } => Verdict::Dropped,
            Subject::Query(exchange) => match exchange.outcome {
                DnsOutcome::Timeout | DnsOutcome::Malformed => Verdict::Error,
                DnsOutcome::Answered | DnsOutcome::Unasked => Verdict::Forwarded,
            },
        }
    }

    /// Returns which way the connection goes, seen from this node's socket: the way of its requests.
    pub(super) fn direction(&self) -> TrafficDirection {
        let is_reply = self.is_reply.unwrap_or(false);
        match self.local {
            None => TrafficDirection::Unknown,
            Some(local) if (local == End::Source) != is_reply => TrafficDirection::Egress,
            Some(_) => TrafficDirection::Ingress,
        }
    }

    /// Returns type and sub-type of the monitor message that would tell the same.
    pub(super) fn event_type(&self) -> (i32, i32) {
        match self.subject {
            Subject::Packets { .. } => (MESSAGE_TRACE, sub_type(self.point)),
            Subject::Drop { reason, .. } => {
                (MESSAGE_DROP, drop_reason::sub_type(drop_reason::of(&reason.name)))
            }
            Subject::Query(_) | Subject::Response(_) => (MESSAGE_ACCESS_LOG, 0),
        }
    }
}

/// The number of a point in monitor messages, which begin to count at another one than flows do.
const fn sub_type(point: Point) -> i32 {
    match point {
        Point::ToEndpoint => 0,
        other => other as i32,
    }
}

fn at_socket(local: &Side<'_>, is_egress: bool) -> Point {
    match (local.who.is_pod(), is_egress) {
        (true, true) => Point::FromEndpoint,
        (true, false) => Point::ToEndpoint,
        (false, true) => Point::FromHost,
        (false, false) => Point::ToHost,
    }
}

fn interface(
    index: u32,
    has_name: bool,
    interfaces: &InterfaceNames,
) -> Option<(u32, Option<&str>)> {
    (index != 0).then(|| (index, interfaces.get(index).filter(|_| has_name)))
}

/// Which flags a flow's event is about. A flow has all flags that it ever had, and its moments tell of
/// the first SYN, FIN and RST: what comes later does not repeat them.
const fn flags_of(step: FlowStep, all: u8) -> u8 {
    use crate::store::EndReason;
    match step {
        FlowStep::New => all,
        FlowStep::Update | FlowStep::End(_) => all & !(SYN | FIN | RST),
        FlowStep::Closing(EndReason::Rst) => all & !(SYN | FIN) | RST,
        FlowStep::Closing(_) => all & !(SYN | RST) | FIN,
    }
}

#[cfg(test)]
mod tests;
