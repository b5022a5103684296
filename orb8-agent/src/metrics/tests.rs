use std::collections::BTreeSet;

use super::*;
use crate::config::Config;
use crate::pipeline::{LocalAddresses, Pipeline};
use crate::status::{BpfRun, RingStatus, SourceStatus};

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
            SourceStatus {
                name: "flow",
                state: SourceState::Running,
            },
            SourceStatus {
                name: "dns",
                state: SourceState::Skipped { reason },
            },
        ];
        status.kernel_counters.lost_packets = 3;
        status.kernel_counters.lost_bytes = 300;
        status.map_bytes = 4096;
        status.bpf_run = Some(BpfRun {
            run_ns: 1_500_000_000,
            runs: 10,
        });
    });
    board
}

fn render(board: StatusBoard) -> String {
    let pipeline = Pipeline::new(&Config::in_process().unwrap(), LocalAddresses::default());
    Metrics::new(pipeline.shared(), board).render()
}

#[test]
fn every_metric_of_the_table_is_there_under_its_name() {
    let text = render(board());
    let mut names = BTreeSet::new();
    for metric in METRICS {
        assert!(names.insert(metric.name), "{} is there twice", metric.name);
        assert!(
            metric.name.starts_with("orb8_") && metric.help.ends_with('.'),
            "{}",
            metric.name
        );
        let label = metric
            .label
            .map_or(String::new(), |label| format!("{{{label}=\""));
        let start = format!("\n{}{label}", metric.name);
        assert!(text.contains(&start), "no {start:?} in:\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
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
        "orb8_agent_flows 0.0",
    ] {
        assert!(
            text.lines().any(|is| is == line),
            "no line {line:?} in:\n{text}"
        );
    }
    board.update(|status| status.bpf_run = None);
    let text = render(board);
    assert!(
        !text.contains("\norb8_agent_bpf_seconds_total "),
        "absent, not zero"
    );
}
