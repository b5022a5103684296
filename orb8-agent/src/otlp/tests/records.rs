//! What records say, without a wire.

use std::sync::Arc;

use super::samples::*;
use super::*;
use crate::event::{DnsSide, Reason, ResetBy, Signal, TcpKind};
use crate::gpu::event::AllocationKind;
use crate::gpu::sample::ThrottleReason;
use crate::gpu::share::Owner;
use crate::gpu::{GpuEventKind, xid};
use crate::identity::{Ends, Party};
use crate::otlp::logs::{Record, Severity, accelerator, event, exchange as dns_record, flow, lost};
use crate::otlp::names;
use crate::pipeline::{DnsEvent, FlowStep, Lost, TcpEvent};
use crate::store::{Added, EndReason, InterfaceNames, Label};
use orb8_proto::filter::End;

fn ends() -> Ends {
    Ends { source: web(), destination: db() }
}

fn flow_record() -> Record {
    let mut told = flow_event(40_000, FlowStep::End(EndReason::Fin), 2, 12);
    told.row.flow.ends = ends();
    let label = Label { name: "db.shop".into(), addr: end(2, 0).addr, learned: at(0), ttl: 5 };
    told.row.flow.label = Some(Arc::new(label));
    flow(at(9), &told, Added { packets: 2, bytes: 200 }, &InterfaceNames::default())
}

fn dns_records() -> Vec<Record> {
    let event = |exchange| DnsEvent { exchange: Box::new(exchange), ends: ends() };
    let late = {
        let mut late = exchange("a.example");
        late.response.as_mut().unwrap().late = true;
        late
    };
    let unasked = crate::event::DnsExchange {
        outcome: crate::event::DnsOutcome::Unasked,
        asked: None,
        side: DnsSide::Server,
        ..exchange("a.example")
    };
    let samples = [
        exchange("a.example"),
        missing("a.example"),
        refused("a.example"),
        timeout("a.example"),
        late,
        unasked,
    ];
    let record = |exchange| dns_record(at(9), &event(exchange), &InterfaceNames::default());
    samples.into_iter().map(record).collect()
}

fn tcp_record(kind: TcpKind) -> Option<Record> {
    let sample = Box::new(tcp_sample(40_000, kind));
    let told = TcpEvent {
        sample,
        ends: ends(),
        local: Some(End::Source),
        health: Some(Arc::default()),
        label: None,
        self_traffic: false,
        in_our_network: false,
    };
    event(at(9), &told, &InterfaceNames::default())
}

fn tcp_kinds() -> Vec<TcpKind> {
    let reason = || Reason { id: 3, name: "NO_SOCKET".into() };
    vec![
        TcpKind::Connect { handshake_ns: Some(1) },
        TcpKind::Accept { handshake_ns: None },
        TcpKind::Close { errno: 0 },
        TcpKind::Close { errno: 110 },
        TcpKind::Fail { errno: 0 },
        TcpKind::Fail { errno: 111 },
        TcpKind::Retransmit { segments: 3, total: 7 },
        TcpKind::Reset { by: ResetBy::Remote, reason: Some(reason()) },
        TcpKind::Drop {
            reason: reason(),
            location: Some("tcp_v4_rcv".into()),
            weight: 32,
            tcp_flags: 2,
            bytes: 60,
        },
        TcpKind::Overflow { overflows: 4, queue: 129, limit: 128 },
    ]
}

fn gpu_record(kind: GpuEventKind) -> Record {
    accelerator(at(9), &gpu_event(kind))
}

/// Each kind with how much it matters.
fn gpu_kinds() -> Vec<(GpuEventKind, Severity)> {
    use GpuEventKind as Kind;
    use Severity::{Error, Info, Warn};
    let lasted = Duration::from_secs(600);
    let took = Duration::from_millis(1_500);
    let (communicator, rank) = (0xfeed, 3);
    let reasons = || vec![ThrottleReason::PowerCap, ThrottleReason::HardwareThermal];
    let straggler = |is_missing| Kind::Straggler { communicator, rank, behind: 7, is_missing };
    vec![
        (Kind::Xid(xid::describe(79)), Error),
        (Kind::Xid(xid::describe(31)), Warn),
        (Kind::Throttle { began: true, reasons: reasons() }, Warn),
        (Kind::Throttle { began: false, reasons: reasons() }, Info),
        (Kind::EccUncorrected { count: 2 }, Error),
        (Kind::RowRemap { is_pending: true, has_failed: false }, Warn),
        (Kind::RowRemap { is_pending: true, has_failed: true }, Error),
        (Kind::RowRemap { is_pending: false, has_failed: false }, Info),
        (Kind::Lost { reason: "it fell off the bus".into() }, Error),
        (Kind::Appeared, Info),
        (Kind::Removed, Warn),
        (Kind::Idle { began: true, lasted }, Warn),
        (Kind::Idle { began: false, lasted }, Info),
        (Kind::Unallocated { began: true }, Warn),
        (Kind::Unallocated { began: false }, Info),
        (Kind::Allocated { bytes: 1, how: AllocationKind::Pool }, Info),
        (Kind::AllocationFailed { bytes: 1, error: 2 }, Warn),
        (Kind::Launches { rate: 9.5, graph_rate: 1.0, is_sampled: true }, Info),
        (Kind::ModuleLoaded { took }, Info),
        (Kind::Leak { outstanding: 9, growth: 1.5 }, Warn),
        (Kind::Collectives { communicator, rank: Some(rank), calls: 2, bytes: 3 }, Info),
        (Kind::CommunicatorInit { communicator, rank, ranks: 8, took }, Info),
        (Kind::CommunicatorAbort { communicator: 0, rank: None }, Error),
        (straggler(false), Warn),
        (straggler(true), Error),
        (Kind::Sampling { began: true, what: "launches", part: 0.1 }, Info),
        (Kind::Sampling { began: false, what: "launches", part: 1.0 }, Info),
    ]
}

fn lost_records() -> Vec<Record> {
    vec![
        lost(at(9), Some(Signal::Flow), Lost::Kernel { packets: 5, bytes: 500 }),
        lost(at(9), Some(Signal::Dns), Lost::Ring { events: 6 }),
        lost(at(9), Some(Signal::Tcp), Lost::Subscriber { events: 7 }),
        lost(at(9), None, Lost::Subscriber { events: 8 }),
    ]
}

fn attributes(record: Record) -> Vec<KeyValue> {
    record.attributes.into_messages()
}

#[test]
fn every_attribute_is_in_the_table_and_in_a_record_once() {
    let tcp = tcp_kinds().into_iter().filter_map(tcp_record);
    let records = dns_records().into_iter().chain(tcp).chain(lost_records()).chain([flow_record()]);
    let records = records.chain(gpu_kinds().into_iter().map(|(kind, _)| gpu_record(kind)));
    let mut count = 0;
    for record in records {
        let name = record.name;
        let mut keys: Vec<String> = attributes(record).into_iter().map(|pair| pair.key).collect();
        count += keys.len();
        keys.sort();
        for pair in keys.windows(2) {
            assert_ne!(pair[0], pair[1], "{name}");
        }
        for key in &keys {
            assert!(names::is_known(key), "{key} of {name} is in no table");
        }
    }
    assert!(count > 300, "{count}");
}

#[test]
fn accelerators_are_told_with_what_to_do_and_whose_they_are() {
    for (kind, severity) in gpu_kinds() {
        let record = gpu_record(kind.clone());
        assert_eq!(record.severity, severity, "{kind:?}");
        assert!(record.name.starts_with("orb8.gpu.") && record.body.contains(": "), "{record:?}");
    }
    let record = gpu_record(GpuEventKind::Xid(xid::describe(79)));
    assert_eq!(
        record.body,
        "GPU 3, shop/web-1, python3[77]: XID 79 (GPU has fallen off the bus), what to do: reboot"
    );
    assert_attributes(
        &attributes(record),
        &[
            ("orb8.gpu.id", "GPU-1"),
            ("orb8.gpu.index", "3"),
            ("orb8.gpu.xid.code", "79"),
            ("orb8.gpu.xid.class", "hardware"),
            ("orb8.gpu.xid.action", "reboot"),
            ("process.pid", "77"),
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "web-1"),
        ],
    );
    let mut shared = gpu_event(GpuEventKind::Removed);
    shared.process = None;
    let other = Owner { pod: Some("other".into()), ..shared.owners[0].clone() };
    shared.owners.push(other);
    let record = accelerator(at(9), &shared);
    assert_eq!(record.body, "GPU 3, shop/web-1 and 1 more: it was taken away");
    let attributes = attributes(record);
    assert_eq!(attribute(&attributes, "k8s.pod.name"), None, "nobody is the one");
    assert!(attributes.iter().any(|pair| pair.key == "orb8.gpu.owners"));
}

#[test]
fn a_flow_is_told_with_both_ends_and_in_the_conventions_words() {
    let record = flow_record();
    assert_eq!((record.name, record.severity), ("orb8.flow.end", Severity::Info));
    assert_eq!(
        record.body,
        "shop/web-1:40000 -> service shop/db:443 tcp 2 packets, 200 bytes, ended (fin)"
    );
    let attributes = attributes(record);
    assert_attributes(
        &attributes,
        &[
            ("source.address", "10.0.0.1"),
            ("source.port", "40000"),
            ("destination.address", "10.0.0.2"),
            ("destination.port", "443"),
            ("network.transport", "tcp"),
            ("network.type", "ipv4"),
            ("network.io.direction", "transmit"),
            ("source.k8s.namespace.name", "shop"),
            ("source.k8s.pod.name", "web-1"),
            ("source.k8s.deployment.name", "web"),
            ("source.k8s.node.name", "node-2"),
            ("destination.k8s.service.name", "db"),
            ("destination.k8s.namespace.name", "shop"),
            ("orb8.destination.domain", "db.shop"),
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "web-1"),
            ("k8s.pod.uid", "11111111-2222-3333-4444-555555555555"),
            ("k8s.container.name", "web"),
            ("k8s.deployment.name", "web"),
            ("container.id", &"ab".repeat(32)),
            ("container.runtime.name", "containerd"),
            ("orb8.flow.packets", "2"),
            ("orb8.flow.bytes", "200"),
            ("orb8.flow.total.packets", "12"),
            ("orb8.flow.total.bytes", "1200"),
            ("orb8.flow.duration", "3"),
            ("orb8.flow.end_reason", "fin"),
            ("orb8.hook", "socket"),
        ],
    );
    for absent in
        ["container.name", "orb8.systemd.unit", "process.linux.cgroup", "orb8.workload.name"]
    {
        assert_eq!(attribute(&attributes, absent), None, "{absent}");
    }
}

#[test]
fn what_has_no_name_has_none() {
    let told = flow_event(40_000, FlowStep::Update, 1, 1);
    let record = flow(at(9), &told, Added { packets: 1, bytes: 100 }, &InterfaceNames::default());
    assert_eq!(record.name, "orb8.flow.update");
    assert_eq!(record.body, "10.0.0.1:40000 -> 10.0.0.2:443 tcp 1 packets, 100 bytes");
    let attributes = attributes(record);
    assert!(attributes.iter().all(|pair| !pair.key.contains("k8s")), "{attributes:#?}");
}

#[test]
fn a_controller_without_a_convention_is_ours() {
    let mut told = flow_event(40_000, FlowStep::Update, 1, 1);
    told.row.flow.ends.source = Party::Pod(Arc::new(pod("PyTorchJob", "train")));
    let record = flow(at(9), &told, Added::default(), &InterfaceNames::default());
    assert_attributes(
        &attributes(record),
        &[
            ("orb8.workload.kind", "PyTorchJob"),
            ("orb8.workload.name", "train"),
            ("k8s.pod.name", "web-1"),
        ],
    );
}

#[test]
fn dns_is_as_severe_as_what_the_client_got() {
    use Severity::{Error, Info, Warn};
    let expected = [
        ("orb8.dns.answered", Info, None),
        ("orb8.dns.answered", Info, Some("NXDOMAIN")),
        ("orb8.dns.answered", Error, Some("REFUSED")),
        ("orb8.dns.timeout", Error, Some("timeout")),
        ("orb8.dns.answered", Warn, Some("late")),
        ("orb8.dns.unasked", Warn, Some("unasked")),
    ];
    let records = dns_records();
    assert_eq!(records.len(), expected.len());
    for (record, (name, severity, error)) in records.iter().zip(expected) {
        assert_eq!((record.name, record.severity), (name, severity), "{record:#?}");
        let attributes = attributes(record.clone());
        assert_eq!(attribute(&attributes, "error.type").as_deref(), error, "{record:#?}");
    }
    assert_eq!(
        records[0].body,
        "shop/web-1:40000 -> service shop/db:53 AAAA a.example NOERROR 2.5ms"
    );
    assert_attributes(
        &attributes(records[0].clone()),
        &[
            ("dns.question.name", "a.example"),
            ("dns.answers", "fd00::1"),
            ("orb8.dns.question.type", "AAAA"),
            ("orb8.dns.response.code", "NOERROR"),
            ("orb8.dns.duration", "0.0025"),
            ("orb8.dns.retries", "1"),
            ("orb8.dns.side", "client"),
            ("network.protocol.name", "dns"),
            ("network.transport", "udp"),
        ],
    );
}

#[test]
fn tcp_is_as_severe_as_what_happened() {
    use Severity::{Error, Info, Warn};
    let expected = [
        ("orb8.tcp.connect", Info, None),
        ("orb8.tcp.accept", Info, None),
        ("orb8.tcp.close", Info, None),
        ("orb8.tcp.close", Error, Some("ETIMEDOUT")),
        ("orb8.tcp.fail", Warn, Some("cancelled")),
        ("orb8.tcp.fail", Error, Some("ECONNREFUSED")),
        ("orb8.tcp.retransmit", Warn, None),
        ("orb8.tcp.reset", Warn, Some("reset")),
        ("orb8.tcp.drop", Warn, Some("drop")),
        ("orb8.tcp.overflow", Error, Some("overflow")),
    ];
    for (kind, (name, severity, error)) in tcp_kinds().into_iter().zip(expected) {
        let record = tcp_record(kind).unwrap();
        assert_eq!((record.name, record.severity), (name, severity), "{record:#?}");
        let attributes = attributes(record);
        assert_eq!(attribute(&attributes, "error.type").as_deref(), error, "{name}");
        assert_attributes(&attributes, &[("network.connection.state", "established")]);
    }
    assert!(tcp_record(TcpKind::State).is_none(), "six to a connection");
    let drop = tcp_record(tcp_kinds().remove(8)).unwrap();
    assert!(drop.body.ends_with("32 packets dropped NO_SOCKET"), "{}", drop.body);
    assert_attributes(
        &attributes(drop),
        &[
            ("orb8.tcp.reason", "NO_SOCKET"),
            ("orb8.tcp.location", "tcp_v4_rcv"),
            ("orb8.tcp.dropped.packets", "32"),
            ("orb8.tcp.role", "client"),
            ("orb8.tcp.rtt", "0.003"),
        ],
    );
}

#[test]
fn losses_are_alerts() {
    let places = ["kernel", "ring", "behind", "queue"];
    for (record, place) in lost_records().into_iter().zip(places) {
        assert!(record.is_alert());
        assert_attributes(&attributes(record), &[("orb8.lost.at", place)]);
    }
}
