//! What was observed → `flow.Flow`.

use std::net::IpAddr;

use orb8_proto::dns::type_name;
use orb8_proto::filter::End;
use orb8_proto::hubble::flow;
use orb8_proto::hubble::flow::layer4::Protocol;
use orb8_proto::hubble::flow::layer7::Record;
use prost_types::Timestamp;

use super::drop_reason;
use super::id::Instance;
use super::observed::{
    ACK, FIN, ICMP, ICMPV6, IGMP, Observed, RST, SCTP, SYN, Subject, TCP, UDP, VRRP,
};
use crate::event::{DnsAnswer, DnsData, DnsExchange, DnsSide, UnixNanos};
use crate::pipeline::Lost;

mod summary;

pub(super) use summary::summary;

/// More TCP flags as in the header.
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// What this program is called, as [`flow::Emitter`] asks for it.
const EMITTER: &str = "orb8";

/// Converts to what clients get.
pub(super) fn flow(observed: &Observed<'_>, node: &str, instance: &Instance) -> flow::Flow {
    let Observed {
        id,
        time,
        subject,
        source,
        destination,
        protocol: _,
        icmp: _,
        tcp_flags: _,
        is_reply,
        local: _,
        point,
        interface,
        cookie,
        cgroup_id,
    } = observed;
    let reason = match subject {
        Subject::Drop { reason, .. } => drop_reason::of(&reason.name),
        _ => flow::DropReason::Unknown,
    };
    let (event_type, sub_type) = observed.event_type();
    let names = |end| observed.side(end).name.map(dotless).into_iter().collect();
    let service = |end| {
        let (namespace, name) = observed.side(end).service?;
        Some(flow::Service { name: name.to_owned(), namespace: namespace.to_owned() })
    };
    let is_l7 = observed.dns().is_some();
    #[expect(deprecated, reason = "older clients read these")]
    flow::Flow {
        time: Some(timestamp(*time)),
        uuid: instance.uuid(*id),
        emitter: Some(flow::Emitter {
            name: EMITTER.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }),
        verdict: observed.verdict().into(),
        drop_reason: u32::try_from(i32::from(reason)).unwrap_or_default(),
        drop_reason_desc: reason.into(),
        ip: Some(ip(source.ip, destination.ip)),
        l4: layer4(observed),
        source: Some(source.who.endpoint()),
        destination: Some(destination.who.endpoint()),
        r#type: if is_l7 { flow::FlowType::L7 } else { flow::FlowType::L3L4 }.into(),
        node_name: node.to_owned(),
        source_names: names(End::Source),
        destination_names: names(End::Destination),
        l7: layer7(subject),
        reply: is_reply.unwrap_or(false),
        is_reply: *is_reply,
        event_type: Some(flow::CiliumEventType { r#type: event_type, sub_type }),
        source_service: service(End::Source),
        destination_service: service(End::Destination),
        traffic_direction: observed.direction().into(),
        trace_observation_point: match subject {
            Subject::Packets { .. } => (*point).into(),
            _ => flow::TraceObservationPoint::UnknownPoint.into(),
        },
        interface: interface.map(|(index, name)| flow::NetworkInterface {
            index,
            name: name.unwrap_or_default().to_owned(),
        }),
        socket_cookie: *cookie,
        cgroup_id: *cgroup_id,
        summary: summary(observed),
    }
}

/// Converts what is missing. `since` is when the last event before it happened.
pub(super) fn lost(lost: Lost, since: Option<UnixNanos>, time: UnixNanos) -> flow::LostEvent {
    let (source, events) = match lost {
        Lost::Kernel { packets, bytes: _ } => (flow::LostEventSource::PerfEventRingBuffer, packets),
        Lost::Ring { events } => (flow::LostEventSource::PerfEventRingBuffer, events),
        Lost::Subscriber { events } => (flow::LostEventSource::HubbleRingBuffer, events),
    };
    flow::LostEvent {
        source: source.into(),
        num_events_lost: events,
        // The loss is all CPUs'.
        cpu: None,
        first: since.map(timestamp),
        last: since.map(|_| timestamp(time)),
    }
}

pub(super) fn timestamp(UnixNanos(nanos): UnixNanos) -> Timestamp {
    const SECOND: u64 = 1_000_000_000;
    Timestamp {
        seconds: i64::try_from(nanos / SECOND).unwrap_or(i64::MAX),
        nanos: (nanos % SECOND) as i32,
    }
}

/// Names of addresses have no last dot in Hubble, unlike those that are asked for.
fn dotless(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

fn ip(source: IpAddr, destination: IpAddr) -> flow::Ip {
    flow::Ip {
        source: source.to_string(),
        destination: destination.to_string(),
        ip_version: version(source).into(),
    }
}

pub(super) const fn version(ip: IpAddr) -> flow::IpVersion {
    match ip {
        IpAddr::V4(_) => flow::IpVersion::IPv4,
        IpAddr::V6(_) => flow::IpVersion::IPv6,
    }
}

fn layer4(observed: &Observed<'_>) -> Option<flow::Layer4> {
    let source_port = observed.source.port.unwrap_or_default().into();
    let destination_port = observed.destination.port.unwrap_or_default().into();
    let (r#type, code) = observed.icmp.unwrap_or_default();
    let (r#type, code) = (r#type.into(), code.into());
    let protocol = match observed.protocol {
        TCP => Protocol::Tcp(flow::Tcp {
            source_port,
            destination_port,
            flags: observed.tcp_flags.map(tcp_flags),
        }),
        UDP => Protocol::Udp(flow::Udp { source_port, destination_port }),
        SCTP => Protocol::Sctp(flow::Sctp { source_port, destination_port }),
        ICMP => Protocol::IcmPv4(flow::IcmPv4 { r#type, code }),
        ICMPV6 => Protocol::IcmPv6(flow::IcmPv6 { r#type, code }),
        VRRP => Protocol::Vrrp(flow::Vrrp {}),
        IGMP => Protocol::Igmp(flow::Igmp {}),
        _ => return None,
    };
    Some(flow::Layer4 { protocol: Some(protocol) })
}

fn tcp_flags(flags: u8) -> flow::TcpFlags {
    let has = |flag| flags & flag != 0;
    flow::TcpFlags {
        fin: has(FIN),
        syn: has(SYN),
        rst: has(RST),
        psh: has(PSH),
        ack: has(ACK),
        urg: has(URG),
        ece: has(ECE),
        cwr: has(CWR),
        // It is in another byte, which nothing here reads.
        ns: false,
    }
}

/// The bits of the flags that a filter names.
pub(super) fn flag_bits(flags: &flow::TcpFlags) -> u8 {
    // Exhaustive: a flag that is not looked at would match everything.
    let flow::TcpFlags { fin, syn, rst, psh, ack, urg, ece, cwr, ns: _ } = *flags;
    let bits = [
        (fin, FIN),
        (syn, SYN),
        (rst, RST),
        (psh, PSH),
        (ack, ACK),
        (urg, URG),
        (ece, ECE),
        (cwr, CWR),
    ];
    bits.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, bit)| all | bit)
}

fn layer7(subject: &Subject<'_>) -> Option<flow::Layer7> {
    let (kind, exchange) = match subject {
        Subject::Query(exchange) if exchange.question.is_none() => {
            (flow::L7FlowType::UnknownL7Type, exchange)
        }
        Subject::Query(exchange) => (flow::L7FlowType::Request, exchange),
        Subject::Response(exchange) => (flow::L7FlowType::Response, exchange),
        Subject::Packets { .. } | Subject::Drop { .. } => return None,
    };
    let is_waited_for = exchange.response.is_none() || kind == flow::L7FlowType::Response;
    Some(flow::Layer7 {
        r#type: kind.into(),
        latency_ns: if is_waited_for { exchange.latency_ns } else { 0 },
        record: Some(Record::Dns(dns(exchange, kind == flow::L7FlowType::Response))),
    })
}

fn dns(exchange: &DnsExchange, is_response: bool) -> flow::Dns {
    let question = exchange.question.as_ref();
    let asked = flow::Dns {
        query: question.map(|question| query_name(&question.name)).unwrap_or_default(),
        qtypes: question
            .map(|question| type_name(question.kind).into_owned())
            .into_iter()
            .collect(),
        observation_source: match exchange.side {
            DnsSide::Client | DnsSide::Server => "socket",
            DnsSide::Transit => "interface",
        }
        .to_owned(),
        ..flow::Dns::default()
    };
    let Some(response) = exchange.response.as_ref().filter(|_| is_response) else {
        return asked;
    };
    let answers = &response.answers;
    let ips = answers.iter().filter_map(|DnsAnswer { data, .. }| match data {
        DnsData::Address(ip) => Some(ip.to_canonical().to_string()),
        DnsData::Name(_) | DnsData::Other => None,
    });
    let cnames = answers.iter().filter_map(|DnsAnswer { kind, data, .. }| match data {
        DnsData::Name(name) if *kind == CNAME => Some(query_name(name)),
        DnsData::Name(_) | DnsData::Address(_) | DnsData::Other => None,
    });
    flow::Dns {
        ips: ips.collect(),
        cnames: cnames.collect(),
        ttl: answers.iter().map(|answer| answer.ttl).min().unwrap_or_default(),
        rcode: response.rcode.into(),
        rrtypes: answers.iter().map(|answer| type_name(answer.kind).into_owned()).collect(),
        ..asked
    }
}

/// The type of a record that gives a name another.
const CNAME: u16 = 5;

/// A name as Hubble has those that are asked for: with the last dot.
pub(super) fn query_name(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

#[cfg(test)]
mod tests;
