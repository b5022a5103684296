//! Flows, events and states that cover what output has to cope with.

use std::net::IpAddr;

use orb8_proto::v1::{
    Accounting, AttachedInterface, Attachment, Attribution, Check, CheckState, Cost, Direction,
    DnsLabel, EndReason, Endpoint, EventKind, Flow, GetStatusResponse, Health, Hook, IcmpType,
    Interface, LocalEnd, Lost, LostSource, Protocol, RingStatus, Runtime, SourceState,
    SourceStatus, StreamEventsResponse, Workload,
};

pub(crate) mod dns;
pub(crate) mod gpu;
pub(super) mod kubernetes;
pub(crate) mod tcp;
pub(crate) mod workloads;

/// 2026-01-31T12:34:56.789012345Z.
pub(crate) const NOON: u64 = 1_769_862_896_789_012_345;
const SECOND: u64 = 1_000_000_000;

fn endpoint(ip: &str, port: u32, workload: Option<Workload>) -> Endpoint {
    let ip = match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    Endpoint { ip, port, workload, ..Endpoint::default() }
}

fn named(ip: &str, port: u32, name: &str) -> Endpoint {
    let label = DnsLabel { name: name.into(), learned_ns: NOON - 60 * SECOND, ttl_seconds: 300 };
    Endpoint { dns: Some(label), ..endpoint(ip, port, None) }
}

fn pod(namespace: &str, pod: &str) -> Option<Workload> {
    Some(Workload {
        namespace: namespace.into(),
        pod: pod.into(),
        pod_uid: "0d9f8c1e-1111-2222-3333-444455556666".into(),
        container: "main".into(),
        container_id: "3f2a9c01d4e5b6a7988776655443322110ffeeddccbbaa998877665544332211".into(),
        runtime: Runtime::Containerd.into(),
        cgroup_path: "/kubepods.slice/kubepods-pod0d9f8c1e.slice".into(),
        attribution: Attribution::Cgroup.into(),
        ..Workload::default()
    })
}

fn flow(protocol: Protocol, source: Endpoint, destination: Endpoint) -> Flow {
    Flow {
        source: Some(source),
        destination: Some(destination),
        protocol: protocol.into(),
        ip_protocol: match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Icmp => 1,
            Protocol::Icmpv6 => 58,
            Protocol::Sctp => 132,
            Protocol::Other | Protocol::Unspecified => 0,
        },
        direction: Direction::Egress.into(),
        hook: Hook::Socket.into(),
        bytes: 1440,
        packets: 12,
        first_seen_ns: NOON - 90 * SECOND,
        last_seen_ns: NOON,
        local_end: LocalEnd::Source.into(),
        cgroup_id: 4711,
        socket_cookie: 8211,
        interface: Some(Interface { index: 2, name: "eth0".into() }),
        node_name: "worker-1".into(),
        bytes_per_second: 120,
        packets_per_second: 1,
        ..Flow::default()
    }
}

/// A trainer that pushes gradients, and nearly fills the line.
pub(super) fn trainer() -> Flow {
    Flow {
        bytes: 98_765_432_100,
        packets: 68_000_000,
        bytes_per_second: 1_234_567_890,
        packets_per_second: 850_000,
        tcp_flags: 0x1a,
        tcp: Some(tcp::health()),
        ..flow(
            Protocol::Tcp,
            endpoint("10.244.1.12", 51_000, pod("ml", "llama-trainer-0")),
            endpoint("10.244.200.107", 29_500, pod("ml", "llama-trainer-1")),
        )
    }
}

/// A host process behind a systemd unit.
pub(super) fn ssh() -> Flow {
    let unit = Workload {
        unit: "ssh.service".into(),
        process: "sshd".into(),
        cgroup_path: "/system.slice/ssh.service".into(),
        attribution: Attribution::Cgroup.into(),
        ..Workload::default()
    };
    Flow {
        direction: Direction::Ingress.into(),
        local_end: LocalEnd::Destination.into(),
        tcp_flags: 0x1b,
        ..flow(
            Protocol::Tcp,
            endpoint("192.168.100.23", 60_022, None),
            endpoint("192.168.100.200", 22, Some(unit)),
        )
    }
}

/// IPv6, and a container that belongs to no pod.
pub(super) fn dns() -> Flow {
    let container = Workload {
        container: "3f2a9c01d4e5".into(),
        runtime: Runtime::Docker.into(),
        attribution: Attribution::Cgroup.into(),
        ..Workload::default()
    };
    flow(
        Protocol::Udp,
        endpoint("2001:db8:1234:5678:9abc:def0:1234:5678", 40_123, Some(container)),
        endpoint("2001:db8::53", 53, None),
    )
}

/// A destination that was found by its name.
pub(super) fn download() -> Flow {
    let mut flow = flow(
        Protocol::Tcp,
        endpoint("10.244.1.12", 51_234, pod("ml", "llama-trainer-0")),
        named("93.184.216.34", 443, "models.example.com"),
    );
    flow.bytes = 4_200_000;
    flow
}

/// No ports, no owner, a tag, seen at an interface.
pub(super) fn ping() -> Flow {
    Flow {
        icmp: Some(IcmpType { r#type: 8, code: 0 }),
        hook: Hook::Interface.into(),
        local_end: LocalEnd::Unspecified.into(),
        cgroup_id: 0,
        socket_cookie: 0,
        vlan: Some(100),
        bytes: 84,
        packets: 1,
        ..flow(Protocol::Icmp, endpoint("10.244.1.12", 0, None), endpoint("1.1.1.1", 0, None))
    }
}

/// The agent's own traffic.
pub(super) fn own() -> Flow {
    Flow {
        self_traffic: true,
        ..flow(
            Protocol::Tcp,
            endpoint("127.0.0.1", 9090, None),
            endpoint("127.0.0.1", 45_678, None),
        )
    }
}

pub(crate) fn flows() -> Vec<Flow> {
    vec![trainer(), ssh(), dns(), download(), ping(), own()]
}

pub(super) fn event(kind: EventKind, flow: Flow) -> StreamEventsResponse {
    StreamEventsResponse {
        time_ns: NOON,
        node_name: "worker-1".into(),
        kind: kind.into(),
        delta_bytes: 0,
        delta_packets: 0,
        flow: Some(flow),
        lost: None,
        end_reason: EndReason::Unspecified.into(),
    }
}

pub(super) fn lost(source: LostSource) -> StreamEventsResponse {
    let lost = Lost { source: source.into(), events: 17, packets: 0, bytes: 0 };
    let lost = match source {
        LostSource::Kernel => Lost { events: 0, packets: 1234, bytes: 98_765, ..lost },
        _ => lost,
    };
    StreamEventsResponse {
        time_ns: NOON,
        node_name: "worker-1".into(),
        kind: EventKind::Lost.into(),
        lost: Some(lost),
        ..StreamEventsResponse::default()
    }
}

pub(super) fn events() -> Vec<StreamEventsResponse> {
    let update = StreamEventsResponse {
        delta_bytes: 1_234_567,
        delta_packets: 850,
        ..event(EventKind::FlowUpdate, trainer())
    };
    let end = |reason: EndReason, flow| StreamEventsResponse {
        end_reason: reason.into(),
        delta_bytes: 100,
        delta_packets: 1,
        ..event(EventKind::FlowEnd, flow)
    };
    vec![
        event(EventKind::FlowNew, Flow { bytes: 0, packets: 0, ..trainer() }),
        update,
        event(EventKind::FlowNew, dns()),
        lost(LostSource::Kernel),
        lost(LostSource::Ring),
        lost(LostSource::Subscriber),
        end(EndReason::Rst, ssh()),
        end(EndReason::Idle, ping()),
        end(EndReason::Fin, own()),
    ]
}

pub(crate) fn status() -> GetStatusResponse {
    GetStatusResponse {
        node_name: "worker-1".into(),
        version: "0.1.0".into(),
        health: Health::Degraded.into(),
        uptime_ns: 3_600 * SECOND,
        active_flows: 34,
        events_processed: 48_201,
        events_dropped: 17,
        accounting: Some(Accounting {
            counted_packets: 123_456_789,
            counted_bytes: 98_765_432_100,
            lost_packets: 1234,
            lost_bytes: 98_765,
            other_packets: 42,
            other_bytes: 1764,
            lost_moments: 3,
            evicted_flows: 5,
            evicted_packets: 50,
            evicted_bytes: 5000,
            ..Accounting::default()
        }),
        sources: vec![running("flow", ""), running("dns", ""), running("tcp", ""), skipped("gpu")],
        attachment: Some(Attachment {
            requested: "auto".into(),
            in_force: "both".into(),
            reason: "a sandboxed pod has no local socket".into(),
            cgroup_root: "/sys/fs/cgroup".into(),
            interfaces: vec![AttachedInterface {
                index: 2,
                name: "eth0".into(),
                mechanism: "tcx".into(),
            }],
            socket_storage: true,
        }),
        checks: checks(),
        cost: Some(Cost {
            cpu_ns: 4_321_000_000,
            rss_bytes: 23 << 20,
            map_bytes: 25 << 20,
            bpf_ns: Some(5_300_000_000),
            bpf_runs: Some(100_000_000),
        }),
        kernel: "6.12.0".into(),
        rings: vec![RingStatus {
            probe: "network".into(),
            size_bytes: 1 << 20,
            events: 48_201,
            drops: 3,
            utilization: 0.125,
        }],
        subscribers: 1,
        workloads_known: 57,
        pods_tracked: 12,
        kubernetes: Some(kubernetes::disconnected()),
    }
}

pub(crate) fn running(name: &str, missing: &str) -> SourceStatus {
    SourceStatus { name: name.into(), state: SourceState::Running.into(), reason: missing.into() }
}

pub(crate) fn skipped(name: &str) -> SourceStatus {
    SourceStatus {
        name: name.into(),
        state: SourceState::Skipped.into(),
        reason: "the kernel has no ring buffer: use 5.8 or later".into(),
    }
}

pub(super) fn checks() -> Vec<Check> {
    let check = |name: &str, state: CheckState, detail: &str, remedy: &str| Check {
        name: name.into(),
        state: state.into(),
        detail: detail.into(),
        remedy: remedy.into(),
    };
    vec![
        check("kernel", CheckState::Ok, "6.12.0, 5.10 or later", ""),
        check("cgroup v2", CheckState::Ok, "/sys/fs/cgroup", ""),
        check("tcx", CheckState::Absent, "the kernel has none; clsact serves", ""),
        check(
            "privileges",
            CheckState::Failed,
            "CAP_BPF is missing",
            "run it as root: sudo orb8 …",
        ),
    ]
}
