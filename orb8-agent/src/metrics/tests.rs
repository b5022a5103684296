use std::collections::BTreeSet;
use std::time::Instant;

use orb8_common::packet::protocol;
use orb8_k8s::index::{Counts, Source};
use orb8_k8s::resources::RESOURCES;
use orb8_k8s::watch::{WatchHealth, WatchState};

use super::*;
use crate::config::Config;
use crate::conntrack::{Tracking, Translations, Tuple, Wanted};
use crate::event::{Signal, SocketEnd};
use crate::otlp::{OtlpStatus, Protocol};
use crate::pipeline::{LocalAddresses, Pipeline};
use crate::status::{
    AdminCounters, BpfRun, DnsCounters, ProgramRun, RingStatus, SourceStatus, TcpCounters,
};
use traffic::TRAFFIC;

fn board() -> StatusBoard {
    let board = StatusBoard::default();
    board.update(|status| {
        status.rings = vec![RingStatus {
            probe: "network",
            size_bytes: 1 << 20,
            events: 5,
            drops: 2,
            utilization: 0.25,
        }];
        let reason = "no".to_owned();
        status.sources = vec![
            SourceStatus::running(Signal::Flow, Vec::new()),
            SourceStatus::skipped(Signal::Dns, reason),
        ];
        status.otlp = Some(OtlpStatus::new(Protocol::Grpc, &"http://c".parse().unwrap()));
        status.kernel_counters.lost_packets = 3;
        status.kernel_counters.lost_bytes = 300;
        status.map_bytes.set(Signal::Flow, 4000);
        status.map_bytes.set(Signal::Dns, 96);
        let run = BpfRun { run_ns: 1_500_000_000, runs: 10 };
        status.bpf_run.set(Signal::Flow, run);
        let idle = ProgramRun { name: "tcp_drop".into(), run: BpfRun::default() };
        status.set_programs(vec![ProgramRun { name: "flow_tc_egress".into(), run }, idle]);
        status.set_programs(vec![ProgramRun { name: "flow_tc_egress".into(), run }]);
        status.kubernetes.watches = vec![WatchHealth {
            source: Source::LocalPods,
            resource: &RESOURCES[0],
            state: WatchState::Connected,
            synced: true,
            lists: 1,
            reconnections: 4,
            stalls: 3,
            bad_objects: 6,
            last_sync: Some(1_700_000_000),
            objects: 12,
            error: None,
        }];
        status.kubernetes.counts = Counts {
            pods: 40,
            conflicts: 1,
            skipped_addresses: 7,
            skipped_objects: 8,
            ..Counts::default()
        };
    });
    board
}

fn pipeline() -> Pipeline {
    Pipeline::new(&Config::in_process().unwrap(), LocalAddresses::default())
}

fn render(board: StatusBoard) -> String {
    String::from_utf8(Metrics::new(pipeline().shared(), board).render(Format::Text)).unwrap()
}

#[test]
fn every_metric_of_the_table_is_there_under_its_name() {
    let text = render(board());
    let mut names = BTreeSet::new();
    for metric in METRICS {
        assert!(names.insert(metric.name), "{} is there twice", metric.name);
        assert!(metric.name.starts_with("orb8_") && metric.help.ends_with('.'), "{}", metric.name);
        let label = metric.labels.first().map_or(String::new(), |label| format!("{{{label}=\""));
        let start = format!("\n{}{label}", metric.name);
        assert!(text.contains(&start), "no {start:?} in:\n{text}");
    }
    let traffic: BTreeSet<&str> = TRAFFIC.iter().map(|metric| metric.name).collect();
    assert!(names.is_disjoint(&traffic));
}

#[test]
fn every_loss_is_in_one_place() {
    let board = board();
    board.update(|status| {
        status.kernel_counters.lost_moments = 3;
        status.dns = DnsCounters { lost: 4, evicted: 5, unread: 6, ..DnsCounters::default() };
        status.tcp = TcpCounters { lost: 7, untracked: 8, ..TcpCounters::default() };
        status.set_ring(RingStatus { probe: "tcp", drops: 6, ..RingStatus::default() });
        let mut otlp = OtlpStatus::new(Protocol::Grpc, &"http://c".parse().unwrap());
        (otlp.logs.dropped, otlp.metrics.dropped) = ([1, 2, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]);
        status.otlp = Some(otlp);
        status.admin = AdminCounters { open: 9, full: 1, slow_readers: 2, ..status.admin };
    });
    let text = render(board);
    for (cause, count) in [
        ("ring_network", 2),
        ("ring_tcp", 6),
        ("kernel_table", 3),
        // Of 3 + 4 + 7 records the rings lost 2 + 6.
        ("undecoded", 6),
        ("unread_dns", 6),
        ("evicted_query", 5),
        ("untracked_connection", 8),
        ("subscriber", 0),
        ("admin", 3),
        ("otlp", 4),
    ] {
        let line = format!("orb8_agent_drops_total{{cause=\"{cause}\"}} {count}");
        assert!(text.lines().any(|is| is == line), "no line {line:?} in:\n{text}");
    }
}

#[test]
fn values_are_those_of_the_moment() {
    let board = board();
    let text = render(board.clone());
    for line in [
        "orb8_ring_buffer_drops_total{probe=\"network\"} 2",
        "orb8_ring_buffer_events_total{probe=\"network\"} 5",
        "orb8_ring_buffer_utilization{probe=\"network\"} 0.25",
        "orb8_ring_buffer_size_bytes{probe=\"network\"} 1048576.0",
        "orb8_agent_lost_packets_total 3",
        "orb8_agent_lost_bytes_total 300",
        "orb8_agent_source_up{source=\"flow\"} 1.0",
        "orb8_agent_source_up{source=\"dns\"} 0.0",
        "orb8_agent_map_memory_bytes 4096.0",
        "orb8_agent_bpf_seconds_total 1.5",
        "orb8_agent_bpf_program_seconds_total{program=\"flow_tc_egress\"} 1.5",
        "orb8_agent_bpf_program_runs_total{program=\"flow_tc_egress\"} 10",
        "# TYPE orb8_agent_bpf_program_runs_total counter",
        "orb8_agent_flows 0.0",
        "orb8_k8s_watch_connected{resource=\"pods\"} 1.0",
        "orb8_k8s_watch_reconnections_total{resource=\"pods\"} 4",
        "orb8_k8s_last_sync_timestamp{resource=\"pods\"} 1700000000.0",
        "orb8_k8s_watch_stalls_total{resource=\"pods\"} 3",
        "orb8_k8s_bad_objects_total{resource=\"pods\"} 6",
        "orb8_k8s_pods_tracked 40.0",
        "orb8_k8s_address_conflicts 1.0",
        "orb8_k8s_skipped_addresses_total 7",
        "orb8_k8s_skipped_objects_total 8",
    ] {
        assert!(text.lines().any(|is| is == line), "no line {line:?} in:\n{text}");
    }
    board.update(|status| status.bpf_run.set(Signal::Flow, BpfRun::default()));
    let text = render(board);
    assert!(!text.contains("\norb8_agent_bpf_seconds_total "), "absent, not zero");
    assert!(!text.contains("tcp_drop"), "it did not run");
}

#[derive(Debug)]
struct Untracked;

impl Tracking for Untracked {
    fn opposite_of(&mut self, _tuple: &Tuple) -> std::io::Result<Option<Tuple>> {
        Ok(None)
    }
}

#[test]
fn questions_that_are_left_out_are_told() {
    let mut translations = Translations::new(|| Ok(Box::new(Untracked)));
    let now = Instant::now();
    for port in 1..5000 {
        let source = SocketEnd { port, ..SocketEnd::default() };
        let tuple = Tuple { source, protocol: protocol::TCP, ..Tuple::default() };
        translations.opposite(&Wanted { tuple, ..Wanted::default() }, now);
    }
    let skipped = translations.skipped();
    assert!(skipped > 0);
    let mut pipeline = pipeline();
    pipeline.set_translations(translations);
    let page = Metrics::new(pipeline.shared(), board()).render(Format::Text);
    let text = String::from_utf8(page).unwrap();
    let line = format!("orb8_agent_conntrack_skipped_total {skipped}");
    assert!(text.lines().any(|is| is == line), "no line {line:?} in:\n{text}");
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

#[test]
fn the_page_is_up_to_date() {
    if std::env::var_os("ORB8_BLESS").is_some() {
        std::fs::write(PAGE, markdown()).unwrap();
        return;
    }
    assert!(
        std::fs::read_to_string(PAGE).is_ok_and(|old| old == markdown()),
        "docs/metrics.md is stale; run `ORB8_BLESS=1 cargo test -p orb8-agent --lib metrics`"
    );
}

/// A page with every metric of the agent and, of a pod, every metric of traffic.
pub(super) fn everything() -> Vec<u8> {
    let mut families = Metrics::new(pipeline().shared(), board()).gather();
    families.extend(traffic::tests::of_one_pod());
    assert_eq!(families.len(), METRICS.len() + TRAFFIC.len());
    Format::Text.encode(families)
}
