//! What one pod did: flows each way, a DNS exchange, and a connection.

use std::net::Ipv4Addr;

use orb8_agent::event::{
    DnsExchange, DnsOutcome, DnsResponse, DnsSide, Event, FlowSample, Payload, SampleKind,
    SocketEnd, TcpFigures, TcpKind, TcpRole, TcpSample, UnixNanos,
};
use orb8_common::{
    flow::{DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, HOOK_SOCKET},
    tcp::RTT_BUCKETS,
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// When all of it was.
const TIME: UnixNanos = UnixNanos(1_767_225_600_000_000_000);

/// Of the name server, and of whom the pod talks to.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Returns what the pod's sockets told.
pub(super) fn events(pod: u32, cgroup_id: u64) -> Vec<Event> {
    let own = Ipv4Addr::from_bits(Ipv4Addr::new(10, 88, 0, 0).to_bits() + pod);
    let mut payloads = Vec::new();
    for protocol in [TCP, UDP] {
        for direction in [DIRECTION_EGRESS, DIRECTION_INGRESS] {
            payloads.push(Payload::Flow(flow(own, cgroup_id, protocol, direction)));
        }
    }
    payloads.push(Payload::Dns(Box::new(exchange(own, cgroup_id, pod))));
    payloads.extend(connection(own, cgroup_id, pod).map(|sample| Payload::Tcp(Box::new(sample))));
    let event = |payload| Event { time: TIME, subject: None, payload };
    payloads.into_iter().map(event).collect()
}

fn flow(own: Ipv4Addr, cgroup_id: u64, protocol: u8, direction: u8) -> FlowSample {
    let ends = [(own, 40_000), (SERVER, 80)];
    let [source, destination] = match direction {
        DIRECTION_EGRESS => ends,
        _ => [ends[1], ends[0]],
    };
    let key = FlowKey {
        source_addr: octets(source.0),
        destination_addr: octets(destination.0),
        source_port: source.1,
        destination_port: destination.1,
        ifindex: 0,
        cgroup_id,
        protocol,
        direction,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    };
    FlowSample {
        key,
        kind: SampleKind::Counted,
        cgroup_id,
        cookie: 0,
        ifindex: 0,
        packets: 10,
        bytes: 12_345,
        first: TIME,
        last: TIME,
        tcp_flags: 0,
    }
}

fn exchange(own: Ipv4Addr, cgroup_id: u64, pod: u32) -> DnsExchange {
    DnsExchange {
        client: end(own, 50_000),
        server: end(SERVER, 53),
        transport: UDP,
        side: DnsSide::Client,
        cgroup_id,
        cookie: 0,
        ifindex: 0,
        id: 1,
        question: None,
        outcome: DnsOutcome::Answered,
        response: Some(DnsResponse::default()),
        asked: Some(TIME),
        latency_ns: 1_000_000 + u64::from(pod) * 1_000,
        retries: 0,
        told_retries: None,
        query_bytes: 40,
    }
}

/// Its beginning, and what it measured.
fn connection(own: Ipv4Addr, cgroup_id: u64, pod: u32) -> [TcpSample; 2] {
    let sample = |kind, figures| TcpSample {
        kind,
        local: end(own, 40_000),
        remote: end(SERVER, 80),
        of_packet: false,
        local_end: None,
        cgroup_id,
        cookie: u64::from(pod) + 1,
        netns: 0,
        ifindex: 0,
        role: TcpRole::Client,
        state: 1,
        old_state: 0,
        srtt_ns: None,
        figures,
    };
    let mut rtt = [0; RTT_BUCKETS];
    (rtt[8], rtt[9], rtt[10]) = (5, 3, 1);
    let figures = TcpFigures {
        rtt,
        rtt_samples: 9,
        rtt_sum_us: 3_000,
        rtt_min_us: 130,
        rtt_max_us: 900,
        retransmits: 1,
        ..TcpFigures::default()
    };
    let begun = TcpKind::Connect { handshake_ns: Some(500_000 + u64::from(pod) * 100) };
    [sample(begun, None), sample(TcpKind::Progress, Some(Box::new(figures)))]
}

fn end(ip: Ipv4Addr, port: u16) -> SocketEnd {
    SocketEnd { addr: octets(ip), port }
}

fn octets(ip: Ipv4Addr) -> [u8; 16] {
    ip.to_ipv6_mapped().octets()
}
