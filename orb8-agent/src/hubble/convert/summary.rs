//! One line about a flow, in the words of Hubble's own.

use std::borrow::Cow;
use std::fmt::Write;

use orb8_proto::dns::{rcode_name, type_name};
use orb8_proto::hubble::flow::Dns;
use orb8_proto::icmp;
use orb8_proto::v1::{IcmpType, Protocol};

use super::super::observed::{
    ACK, FIN, ICMP, ICMPV6, IGMP, Observed, RST, SCTP, SYN, Subject, TCP, UDP, VRRP,
};
use super::{CWR, ECE, PSH, URG, dns, query_name};
use crate::event::{DnsExchange, DnsOutcome};

/// In the order that Hubble prints them.
const FLAGS: [(u8, &str); 8] = [
    (SYN, "SYN"),
    (ACK, "ACK"),
    (RST, "RST"),
    (FIN, "FIN"),
    (PSH, "PSH"),
    (URG, "URG"),
    (ECE, "ECE"),
    (CWR, "CWR"),
];

/// Returns the line. Writing to it cannot fail.
pub(in crate::hubble) fn summary(observed: &Observed<'_>) -> String {
    match observed.subject {
        Subject::Query(exchange) => query(exchange),
        Subject::Response(exchange) => response(exchange),
        Subject::Packets { packets, bytes } => {
            let mut line = layer4(observed).into_owned();
            if packets > 0 {
                let s = if packets == 1 { "" } else { "s" };
                let _ = write!(line, "; {packets} packet{s}, {bytes} bytes");
            }
            line
        }
        Subject::Drop { reason, location, weight } => {
            let mut line = layer4(observed).into_owned();
            let _ = write!(line, "; {}", reason.name);
            if let Some(location) = location {
                let _ = write!(line, " in {location}");
            }
            if weight > 1 {
                let _ = write!(line, "; stands for {weight} packets");
            }
            line
        }
    }
}

fn layer4(observed: &Observed<'_>) -> Cow<'static, str> {
    match observed.protocol {
        TCP => tcp(observed.tcp_flags.unwrap_or_default()).into(),
        UDP => "UDP".into(),
        SCTP => "SCTP".into(),
        VRRP => "VRRP".into(),
        IGMP => "IGMP".into(),
        ICMP => icmp_message("ICMPv4", Protocol::Icmp, observed.icmp).into(),
        ICMPV6 => icmp_message("ICMPv6", Protocol::Icmpv6, observed.icmp).into(),
        other => format!("IP protocol {other}").into(),
    }
}

fn tcp(flags: u8) -> String {
    let set = FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
    let names: Vec<&str> = set.map(|(_, name)| *name).collect();
    if names.is_empty() { "TCP".to_owned() } else { format!("TCP Flags: {}", names.join(", ")) }
}

fn icmp_message(version: &str, protocol: Protocol, message: Option<(u8, u8)>) -> String {
    let Some((r#type, code)) = message else { return version.to_owned() };
    let (r#type, code) = (u32::from(r#type), u32::from(code));
    match icmp::name(protocol, IcmpType { r#type, code }) {
        Some(name) => format!("{version} {name}"),
        None => format!("{version} type {type} code {code}"),
    }
}

fn query(exchange: &DnsExchange) -> String {
    let Some(question) = &exchange.question else {
        return "DNS message that does not parse".to_owned();
    };
    let mut line = format!("DNS Query {} {}", query_name(&question.name), type_name(question.kind));
    if exchange.outcome == DnsOutcome::Timeout {
        let waited = exchange.latency_ns as f64 / 1e9;
        let _ = write!(line, "; no answer within {waited:.1}s");
        if exchange.retries > 0 {
            let _ = write!(line, ", asked {} times", u64::from(exchange.retries) + 1);
        }
    }
    line
}

fn response(exchange: &DnsExchange) -> String {
    let Dns { query, ips, ttl, cnames, rcode, qtypes, .. } = dns(exchange, true);
    let rcode = u16::try_from(rcode).unwrap_or_default();
    let answer = match (rcode, ips.is_empty(), cnames.is_empty()) {
        (0, false, true) => format!("{:?} ", ips.join(",")),
        (0, true, false) => format!("CNAMEs: {:?} ", cnames.join(",")),
        (0, false, false) => format!("{:?} CNAMEs: {:?} ", ips.join(","), cnames.join(",")),
        (0, true, true) => String::new(),
        (other, ..) => format!("RCode: {} ", rcode_name(other)),
    };
    let asked = if qtypes.is_empty() { query } else { format!("{query} {}", qtypes.join(",")) };
    let mut line = format!("DNS Answer {answer}TTL: {ttl} ({asked})");
    match exchange.outcome {
        DnsOutcome::Unasked => line.push_str("; nobody asked"),
        _ if exchange.response.as_ref().is_some_and(|response| response.late) => {
            line.push_str("; too late");
        }
        _ => {}
    }
    line
}
