use orb8_common::flow::{DIRECTION_INGRESS, FlowKey, HOOK_INTERFACE};

use super::*;
use crate::event::{DnsResponse, Signal, TcpRole};
use crate::hubble::tests::samples::*;
use crate::identity::Ends;
use crate::store::EndReason;

fn reply(key: FlowKey) -> Option<bool> {
    let event = flow_event(key, FlowStep::New, Ends::default());
    let interfaces = interfaces();
    of_flow(&event, &interfaces).unwrap().is_reply
}

#[test]
fn moments_tell_their_flags_once() {
    let interfaces = interfaces();
    let flags = |step| {
        let event = flow_event(key(), step, Ends::default());
        of_flow(&event, &interfaces).map(|observed| observed.tcp_flags.unwrap())
    };
    let psh_ack = 0x18;
    assert_eq!(flags(FlowStep::New), Some(psh_ack | SYN));
    assert_eq!(flags(FlowStep::Update), Some(psh_ack));
    assert_eq!(flags(FlowStep::Closing(EndReason::Fin)), Some(psh_ack | FIN));
    assert_eq!(flags(FlowStep::Closing(EndReason::Rst)), Some(psh_ack | RST));
    for reason in [EndReason::Fin, EndReason::Rst, EndReason::Idle, EndReason::Evicted] {
        assert_eq!(flags(FlowStep::End(reason)), Some(psh_ack), "the last counts");
        let event = flow_event(key(), FlowStep::End(reason), Ends::default());
        let silent = FlowEvent { packets: 0, bytes: 0, ..event };
        assert!(of_flow(&silent, &interfaces).is_none(), "no packet is behind it");
    }
    let udp = flow_event(FlowKey { protocol: 17, ..key() }, FlowStep::New, Ends::default());
    assert_eq!(of_flow(&udp, &interfaces).unwrap().tcp_flags, None);
    let mut own = flow_event(key(), FlowStep::New, Ends::default());
    own.row.flow.self_traffic = true;
    assert!(of_flow(&own, &interfaces).is_none(), "a client's own stream is not its subject");
}

#[test]
fn who_asked_tells_what_is_a_reply() {
    let interfaces = interfaces();
    let mut event = flow_event(key(), FlowStep::Update, Ends::default());
    event.row.flow.asking = Some(End::Destination);
    let observed = of_flow(&event, &interfaces).unwrap();
    // It goes out, as an answer to who came in.
    assert_eq!(observed.is_reply, Some(true));
    assert_eq!(observed.direction(), TrafficDirection::Ingress);
    event.row.flow.asking = Some(End::Source);
    let observed = of_flow(&event, &interfaces).unwrap();
    assert_eq!(observed.is_reply, Some(false));
    assert_eq!(observed.direction(), TrafficDirection::Egress);
}

#[test]
fn ports_tell_where_nobody_saw_who_asked() {
    let ports = |protocol, source_port, destination_port| {
        reply(FlowKey { protocol, source_port, destination_port, ..key() })
    };
    assert_eq!(ports(17, 40_000, 53), Some(false));
    assert_eq!(ports(17, 53, 40_000), Some(true));
    assert_eq!(ports(6, 443, 20_000), Some(true), "one that has a name serves");
    assert_eq!(ports(17, 12_345, 50_000), Some(true), "one that no client is given serves");
    assert_eq!(ports(17, 50_000, 50_001), None);
    assert_eq!(ports(17, 53, 53), None);
    assert_eq!(ports(17, 1_111, 2_222), None);
    let icmp = |protocol, r#type| {
        reply(FlowKey { protocol, source_port: r#type, destination_port: 0, ..key() })
    };
    assert_eq!((icmp(1, 8), icmp(1, 0), icmp(1, 3)), (Some(false), Some(true), None));
    assert_eq!((icmp(58, 128), icmp(58, 129), icmp(58, 135)), (Some(false), Some(true), None));
    assert_eq!(reply(FlowKey { protocol: 47, ..key() }), None);
}

#[test]
fn where_it_was_seen_is_told_as_cilium_would() {
    let interfaces = interfaces();
    let point = |hook, direction, ends| {
        let cgroup_id = if hook == HOOK_SOCKET { 5 } else { 0 };
        let key = FlowKey { hook, direction, cgroup_id, ..key() };
        let mut event = flow_event(key, FlowStep::New, ends);
        event.row.flow.asking = Some(End::Source);
        let observed = of_flow(&event, &interfaces).unwrap();
        (observed.point, observed.event_type(), observed.direction())
    };
    let (out, into) = (DIRECTION_EGRESS, DIRECTION_INGRESS);
    let (egress, ingress) = (TrafficDirection::Egress, TrafficDirection::Ingress);
    let unknown = TrafficDirection::Unknown;
    let pods = || ends(web(), db());
    let host = || ends(process("a.service"), process("b.service"));
    for (hook, direction, ends, expected) in [
        (HOOK_SOCKET, out, pods(), (Point::FromEndpoint, (4, 5), egress)),
        (HOOK_SOCKET, into, pods(), (Point::ToEndpoint, (4, 0), ingress)),
        (HOOK_SOCKET, out, host(), (Point::FromHost, (4, 7), egress)),
        (HOOK_SOCKET, into, host(), (Point::ToHost, (4, 2), ingress)),
        (HOOK_INTERFACE, out, pods(), (Point::ToNetwork, (4, 11), unknown)),
        (HOOK_INTERFACE, into, pods(), (Point::FromNetwork, (4, 10), unknown)),
    ] {
        assert_eq!(point(hook, direction, ends), expected);
    }
}

#[test]
fn names_are_those_of_the_world() {
    let interfaces = interfaces();
    let name = |destination: Party| {
        let mut event = flow_event(key(), FlowStep::New, ends(web(), destination));
        let label = crate::store::Label {
            name: "api.example".into(),
            addr: mapped(2),
            learned: UnixNanos(0),
            ttl: 1,
        };
        event.row.flow.label = Some(label.into());
        of_flow(&event, &interfaces).unwrap().destination.name.map(str::to_owned)
    };
    assert_eq!(name(Party::Unknown).as_deref(), Some("api.example"));
    // Hubble's UI leaves out what goes to a Service, or to a cluster's name, and has a name as well.
    assert_eq!(name(db()), None);
    assert_eq!(name(service("shop", "db", None)), None);
}

#[test]
fn dns_is_told_in_two() {
    let interfaces = interfaces();
    let parts = |exchange: DnsExchange| {
        let event = dns_event(exchange);
        [0, 1].map(|part| {
            let id = id(Signal::Dns, part);
            let observed = Observed::of_dns(id, UnixNanos(9 * SECOND), &event, &interfaces, NODE)?;
            Some((observed.time.0 / SECOND, observed.verdict(), observed.source.ip.to_string()))
        })
    };
    let [query, response] = parts(exchange(DnsOutcome::Answered));
    assert_eq!(query, Some((1, Verdict::Forwarded, "10.0.0.1".into())));
    assert_eq!(response, Some((9, Verdict::Forwarded, "10.0.0.53".into())));
    let [query, response] = parts(exchange(DnsOutcome::Timeout));
    assert_eq!((query, response), (Some((9, Verdict::Error, "10.0.0.1".into())), None));
    let [query, response] = parts(exchange(DnsOutcome::Unasked));
    assert_eq!((query, response), (None, Some((9, Verdict::Forwarded, "10.0.0.53".into()))));
    let malformed = DnsExchange { question: None, ..exchange(DnsOutcome::Malformed) };
    let [query, response] = parts(malformed);
    assert_eq!((query.map(|(_, verdict, _)| verdict), response), (Some(Verdict::Error), None));
    // Its query was told with the timeout.
    let response = Some(DnsResponse { late: true, ..DnsResponse::default() });
    let [query, response] = parts(DnsExchange { response, ..exchange(DnsOutcome::Answered) });
    assert!(query.is_none() && response.is_some());
}

#[test]
fn dns_goes_the_way_of_its_query() {
    let interfaces = interfaces();
    for (side, direction, point) in [
        (DnsSide::Client, TrafficDirection::Egress, End::Source),
        (DnsSide::Server, TrafficDirection::Ingress, End::Destination),
    ] {
        let event = dns_event(DnsExchange { side, ..exchange(DnsOutcome::Answered) });
        for part in [0, 1] {
            let id = id(Signal::Dns, part);
            let observed = Observed::of_dns(id, UnixNanos(0), &event, &interfaces, NODE).unwrap();
            assert_eq!(observed.direction(), direction, "{side:?} {part}");
            assert_eq!(observed.is_reply, Some(part == 1));
            let local = if part == 0 { point } else { point.other() };
            assert_eq!(observed.local, Some(local));
        }
    }
    let event = dns_event(DnsExchange { side: DnsSide::Transit, ..exchange(DnsOutcome::Answered) });
    let observed =
        Observed::of_dns(id(Signal::Dns, 0), UnixNanos(0), &event, &interfaces, NODE).unwrap();
    assert_eq!(observed.direction(), TrafficDirection::Unknown);
    assert_eq!(observed.interface, Some((7, Some("veth7"))));
}

#[test]
fn of_connections_drops_are_told() {
    let interfaces = interfaces();
    let read = |sample: TcpSample| {
        let event = tcp_event(sample, ends(Party::Unknown, web()));
        let id = id(Signal::Tcp, 0);
        Observed::of_tcp(id, UnixNanos(1), &event, &interfaces, NODE)
            .map(|observed| (observed.is_reply, observed.direction(), observed.event_type()))
    };
    let ingress = TrafficDirection::Ingress;
    let syn = drop_sample("NETFILTER_DROP", SYN);
    assert_eq!(read(syn.clone()), Some((Some(false), ingress, (1, 133))));
    // An answer to who is here went out first.
    let answer = drop_sample("NO_SUCH_REASON", SYN | ACK);
    assert_eq!(read(answer), Some((Some(true), TrafficDirection::Egress, (1, 255))));
    let of_server = TcpSample { role: TcpRole::Server, ..drop_sample("TCP_CSUM", ACK) };
    assert_eq!(read(of_server), Some((Some(false), ingress, (1, 134))));
    let of_client = TcpSample { role: TcpRole::Client, ..drop_sample("TCP_CSUM", ACK) };
    let egress = TrafficDirection::Egress;
    assert_eq!(read(of_client), Some((Some(true), egress, (1, 134))));
    for kind in
        [TcpKind::Connect { handshake_ns: None }, TcpKind::Close { errno: 0 }, TcpKind::State]
    {
        assert_eq!(read(TcpSample { kind, ..syn.clone() }), None);
    }
    let mut own = tcp_event(syn, Ends::default());
    own.self_traffic = true;
    let id = id(Signal::Tcp, 0);
    assert!(Observed::of_tcp(id, UnixNanos(1), &own, &interfaces, NODE).is_none());
}
