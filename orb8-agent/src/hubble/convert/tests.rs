use orb8_common::flow::FlowKey;

use super::*;
use crate::event::{DnsOutcome, Signal};
use crate::hubble::tests::samples::*;
use crate::identity::{Ends, Party};
use crate::pipeline::FlowStep;

fn convert(observed: &Observed<'_>) -> flow::Flow {
    flow(observed, NODE, &instance())
}

fn of_key(key: FlowKey) -> flow::Flow {
    let (event, interfaces) = (flow_event(key, FlowStep::Update, Ends::default()), interfaces());
    convert(&of_flow(&event, &interfaces).unwrap())
}

fn of_exchange(exchange: DnsExchange, part: u8) -> flow::Flow {
    let (event, interfaces) = (dns_event(exchange), interfaces());
    let id = id(Signal::Dns, part);
    let time = UnixNanos(2 * SECOND);
    convert(&Observed::of_dns(id, time, &event, &interfaces, NODE).unwrap())
}

#[test]
#[expect(deprecated, reason = "older clients read these")]
fn flows_are_told_in_full() {
    let (interfaces, web, db) = (interfaces(), web(), service("shop", "db", Some(db())));
    let mut event = flow_event(key(), FlowStep::New, ends(web.clone(), db.clone()));
    (event.packets, event.bytes) = (0, 0);
    event.row.flow.asking = Some(End::Source);
    let told = convert(&of_flow(&event, &interfaces).unwrap());
    let who = |party| super::super::who::Who::new(party, "10.0.0.1".parse().unwrap(), NODE);
    let expected = flow::Flow {
        time: Some(Timestamp { seconds: 3, nanos: 0 }),
        uuid: instance().uuid(id(Signal::Flow, 0)),
        emitter: Some(flow::Emitter {
            name: "orb8".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        }),
        verdict: flow::Verdict::Forwarded.into(),
        ip: Some(flow::Ip {
            source: "10.0.0.1".into(),
            destination: "10.0.0.2".into(),
            ip_version: flow::IpVersion::IPv4.into(),
        }),
        l4: Some(flow::Layer4 {
            protocol: Some(Protocol::Tcp(flow::Tcp {
                source_port: 40_000,
                destination_port: 443,
                flags: Some(flow::TcpFlags {
                    syn: true,
                    psh: true,
                    ack: true,
                    ..flow::TcpFlags::default()
                }),
            })),
        }),
        source: Some(who(&web).endpoint()),
        destination: Some(who(&db).endpoint()),
        r#type: flow::FlowType::L3L4.into(),
        node_name: NODE.into(),
        is_reply: Some(false),
        event_type: Some(flow::CiliumEventType { r#type: 4, sub_type: 5 }),
        destination_service: Some(flow::Service { name: "db".into(), namespace: "shop".into() }),
        traffic_direction: flow::TrafficDirection::Egress.into(),
        trace_observation_point: flow::TraceObservationPoint::FromEndpoint.into(),
        // A socket's interface may be another namespace's.
        interface: Some(flow::NetworkInterface { index: 7, name: String::new() }),
        socket_cookie: 9,
        cgroup_id: 5,
        summary: "TCP Flags: SYN, ACK, PSH".into(),
        ..flow::Flow::default()
    };
    assert_eq!(told, expected);
    assert_eq!(told.destination.unwrap().pod_name, "db-0");
}

#[test]
#[expect(deprecated, reason = "older clients read these")]
fn every_protocol_has_its_layer() {
    let layer = |protocol, source_port, destination_port| {
        let told = of_key(FlowKey { protocol, source_port, destination_port, ..key() });
        (told.l4.map(|l4| l4.protocol.unwrap()), told.summary)
    };
    let ports = (1_000, 2_000);
    let (udp, line) = layer(17, ports.0, ports.1);
    let expected = flow::Udp { source_port: 1_000, destination_port: 2_000 };
    assert_eq!(udp, Some(Protocol::Udp(expected)));
    assert_eq!(line, "UDP; 12 packets, 3400 bytes");
    let expected = flow::Sctp { source_port: 1_000, destination_port: 2_000 };
    assert_eq!(layer(132, ports.0, ports.1).0, Some(Protocol::Sctp(expected)));
    let (icmp, line) = layer(1, 3, 4);
    assert_eq!(icmp, Some(Protocol::IcmPv4(flow::IcmPv4 { r#type: 3, code: 4 })));
    assert_eq!(line, "ICMPv4 frag-needed; 12 packets, 3400 bytes");
    let (icmp, line) = layer(58, 200, 1);
    assert_eq!(icmp, Some(Protocol::IcmPv6(flow::IcmPv6 { r#type: 200, code: 1 })));
    assert_eq!(line, "ICMPv6 type 200 code 1; 12 packets, 3400 bytes");
    assert_eq!(layer(112, 0, 0).0, Some(Protocol::Vrrp(flow::Vrrp {})));
    assert_eq!(layer(2, 0, 0).0, Some(Protocol::Igmp(flow::Igmp {})));
    assert_eq!(layer(47, 0, 0), (None, "IP protocol 47; 12 packets, 3400 bytes".into()));
    let v6 = of_key(FlowKey { source_addr: [0xfd; 16], destination_addr: [0xfe; 16], ..key() });
    let ip = v6.ip.unwrap();
    assert_eq!(ip.ip_version(), flow::IpVersion::IPv6);
    assert_eq!(ip.source, "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd");
}

#[test]
fn flags_have_the_same_bits_both_ways() {
    for bit in 0..8 {
        assert_eq!(flag_bits(&tcp_flags(1 << bit)), 1 << bit);
    }
    let syn_ack = flow::TcpFlags { syn: true, ack: true, ..flow::TcpFlags::default() };
    assert_eq!((flag_bits(&syn_ack), tcp_flags(0x12)), (0x12, syn_ack));
}

#[test]
#[expect(deprecated, reason = "older clients read these")]
fn an_answered_query_is_two_flows() {
    let query = of_exchange(exchange(DnsOutcome::Answered), 0);
    let layer = |told: &flow::Flow| {
        let l7 = told.l7.clone().unwrap();
        let Some(Record::Dns(dns)) = l7.record.clone() else { panic!("{l7:?}") };
        (l7.r#type(), l7.latency_ns, dns)
    };
    let asked = flow::Dns {
        query: "api.example.".into(),
        qtypes: vec!["AAAA".into()],
        observation_source: "socket".into(),
        ..flow::Dns::default()
    };
    assert_eq!(layer(&query), (flow::L7FlowType::Request, 0, asked.clone()));
    assert_eq!(query.summary, "DNS Query api.example. AAAA");
    assert_eq!(query.r#type(), flow::FlowType::L7);
    assert_eq!(query.event_type.unwrap().r#type, 129);
    assert_eq!((query.time.unwrap().seconds, query.is_reply), (1, Some(false)));
    assert_eq!(query.source.unwrap().pod_name, "web-1");
    assert!(matches!(query.l4.unwrap().protocol, Some(Protocol::Udp(_))));

    let response = of_exchange(exchange(DnsOutcome::Answered), 1);
    let answered = flow::Dns {
        ips: vec!["fd00::1".into(), "fd00::2".into()],
        ttl: 20,
        cnames: vec!["edge.example.".into()],
        rrtypes: vec!["CNAME".into(), "AAAA".into(), "AAAA".into()],
        ..asked
    };
    assert_eq!(layer(&response), (flow::L7FlowType::Response, 2_000_000, answered));
    let line =
        r#"DNS Answer "fd00::1,fd00::2" CNAMEs: "edge.example." TTL: 20 (api.example. AAAA)"#;
    assert_eq!(response.summary, line);
    assert_eq!((response.time.unwrap().seconds, response.is_reply), (2, Some(true)));
    assert_eq!(response.destination.unwrap().pod_name, "web-1");
    assert_ne!(response.uuid, query.uuid);
}

#[test]
#[expect(deprecated, reason = "older clients read these")]
fn what_went_wrong_with_a_query_is_in_its_line() {
    let mut missing = exchange(DnsOutcome::Answered);
    let response = missing.response.as_mut().unwrap();
    (response.rcode, response.answers) = (3, Vec::new());
    let told = of_exchange(missing.clone(), 1);
    assert_eq!(told.summary, "DNS Answer RCode: NXDOMAIN TTL: 0 (api.example. AAAA)");
    missing.response.as_mut().unwrap().late = true;
    assert!(of_exchange(missing, 1).summary.ends_with("; too late"));
    let timeout = DnsExchange { latency_ns: 5 * SECOND, ..exchange(DnsOutcome::Timeout) };
    let told = of_exchange(timeout, 0);
    let line = "DNS Query api.example. AAAA; no answer within 5.0s, asked 2 times";
    assert_eq!((told.summary.as_str(), told.verdict()), (line, flow::Verdict::Error));
    assert_eq!(told.l7.unwrap().latency_ns, 5 * SECOND);
    assert!(of_exchange(exchange(DnsOutcome::Unasked), 1).summary.ends_with("; nobody asked"));
    let malformed = DnsExchange { question: None, ..exchange(DnsOutcome::Malformed) };
    let told = of_exchange(malformed, 0);
    assert_eq!(told.summary, "DNS message that does not parse");
    assert_eq!(told.l7.unwrap().r#type(), flow::L7FlowType::UnknownL7Type);
}

#[test]
#[expect(deprecated, reason = "older clients read these")]
fn drops_have_the_kernels_reason_and_hubbles() {
    let interfaces = interfaces();
    for (name, reason, number) in [
        ("NETFILTER_DROP", flow::DropReason::PolicyDenied, 133),
        ("QDISC_DROP", flow::DropReason::Unknown, 0),
    ] {
        let event = tcp_event(drop_sample(name, 0x02), ends(Party::Unknown, web()));
        let id = id(Signal::Tcp, 0);
        let time = UnixNanos(SECOND);
        let told = convert(&Observed::of_tcp(id, time, &event, &interfaces, NODE).unwrap());
        assert_eq!(told.verdict(), flow::Verdict::Dropped);
        assert_eq!((told.drop_reason_desc(), told.drop_reason), (reason, number));
        let line = format!("TCP Flags: SYN; {name} in nf_hook_slow; stands for 3 packets");
        assert_eq!(told.summary, line);
        let interface = flow::NetworkInterface { index: 7, name: "veth7".into() };
        assert_eq!(told.interface, Some(interface));
        assert_eq!(told.trace_observation_point(), flow::TraceObservationPoint::UnknownPoint);
        assert_eq!(told.source.unwrap().labels, ["reserved:world"]);
    }
}

#[test]
fn losses_say_where_and_when() {
    let time = UnixNanos(5 * SECOND);
    let kernel = lost(Lost::Kernel { packets: 3, bytes: 9 }, None, time);
    assert_eq!(kernel.source(), flow::LostEventSource::PerfEventRingBuffer);
    assert_eq!((kernel.num_events_lost, kernel.first, kernel.last), (3, None, None));
    let ring = lost(Lost::Ring { events: 4 }, None, time);
    assert_eq!(ring.source(), flow::LostEventSource::PerfEventRingBuffer);
    let slow = lost(Lost::Subscriber { events: 5 }, Some(UnixNanos(SECOND)), time);
    assert_eq!(slow.source(), flow::LostEventSource::HubbleRingBuffer);
    assert_eq!((slow.num_events_lost, slow.first.unwrap().seconds), (5, 1));
    assert_eq!(slow.last.unwrap().seconds, 5);
}
