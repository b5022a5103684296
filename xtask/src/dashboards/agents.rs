//! The agents themselves: what they cost, lose and know.

use super::model::{Dashboard, Panel, Row, Scope, Unit};
use super::query::{NODES, rate, total};

const JOB: &str = r#"job="orb8-agent""#;

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "orb8-agents",
        title: "orb8 / agents",
        description: "Whether the agents run, what they cost, what they lose, and what they know.",
        scope: Scope::Nodes,
        rows: vec![now(), fleet(), cost(), losses(), bounds(), kubernetes(), exports()],
    }
}

fn now() -> Row {
    Row {
        title: "Now",
        panels: vec![
            Panel::number("Agents up", Unit::Count, "Agents that answer scrapes.")
                .query("up", total("up", &[JOB, NODES], "")),
            Panel::number("Agents down", Unit::Count, "Agents that do not.")
                .query("down", format!("sum(up{{{JOB}, {NODES}}} == bool 0)"))
                .fail_from(1.0),
            Panel::number(
                "Sources skipped",
                Unit::Count,
                "Signals that an agent was to observe and does not; `orb8 status` says why.",
            )
            .query("skipped", format!("sum(orb8_agent_source_up{{{NODES}}} == bool 0)"))
            .warn_from(1.0),
            Panel::number("Lost packets", Unit::PacketsPerSecond, "Packets that are in no flow.")
                .query("lost", rate("orb8_agent_lost_packets_total", &[NODES], ""))
                .fail_from(0.001),
            Panel::number(
                "Dropped",
                Unit::PerSecond,
                "What was dropped for want of room, all causes.",
            )
            .query("dropped", rate("orb8_agent_drops_total", &[NODES], ""))
            .fail_from(0.001),
            Panel::number("Watches down", Unit::Count, "Watches of the Kubernetes API not open.")
                .query("down", format!("sum(orb8_k8s_watch_connected{{{NODES}}} == bool 0)"))
                .fail_from(1.0),
        ],
    }
}

fn fleet() -> Row {
    const AGENT: &str = "node, instance";
    Row {
        title: "Fleet",
        panels: vec![
            Panel::table("Agents", "One row for each; its node leads to it alone.")
                .column("CPU", Unit::Ratio, rate("orb8_agent_cpu_seconds_total", &[NODES], AGENT))
                .column(
                    "Memory",
                    Unit::Bytes,
                    total("orb8_agent_resident_memory_bytes", &[NODES], AGENT),
                )
                .column("Maps", Unit::Bytes, total("orb8_agent_map_memory_bytes", &[NODES], AGENT))
                .column("Flows", Unit::Count, total("orb8_agent_flows", &[NODES], AGENT))
                .column("Series", Unit::Count, total("orb8_metrics_series", &[NODES], AGENT))
                .column("Dropped", Unit::PerSecond, rate("orb8_agent_drops_total", &[NODES], AGENT))
                .column(
                    "Version",
                    Unit::Count,
                    total("orb8_agent_build_info", &[NODES], "node, instance, version"),
                ),
        ],
    }
}

fn cost() -> Row {
    const STATISTICS: &str = "needs kernel.bpf_stats_enabled=1 on the nodes";
    let runs = rate("orb8_agent_bpf_program_runs_total", &[NODES], "program");
    let seconds = rate("orb8_agent_bpf_program_seconds_total", &[NODES], "program");
    Row {
        title: "Cost",
        panels: vec![
            Panel::lines("Processor time", Unit::Ratio, "Of a core, without the programs.")
                .query("{{node}}", rate("orb8_agent_cpu_seconds_total", &[NODES], "node"))
                .warn_from(0.05)
                .fail_from(0.2),
            Panel::lines(
                "Memory",
                Unit::Bytes,
                "Resident memory and kernel maps: what the container's limit is for. The dashed \
                 line is four fifths of 512 MiB, the limit of deploy/base.",
            )
            .query(
                "{{node}}",
                format!(
                    "sum by (node) (orb8_agent_resident_memory_bytes{{{NODES}}} + \
                     orb8_agent_map_memory_bytes{{{NODES}}})"
                ),
            )
            .fail_from(0.8 * 512.0 * 1024.0 * 1024.0),
            Panel::stack(
                "Processor time of programs",
                Unit::Ratio,
                "Of a core, in whatever sends or receives.",
            )
            .wide(8)
            .query("{{program}}", seconds.clone())
            .without_data(STATISTICS),
            Panel::lines("Time of a program's run", Unit::Nanos, "Mean, of each program.")
                .wide(8)
                .query("{{program}}", format!("{seconds} / {runs} * 1e9"))
                .without_data(STATISTICS),
            Panel::lines(
                "Scrapes",
                Unit::Seconds,
                "How long Prometheus waits for the metrics of a node.",
            )
            .wide(8)
            .query("{{node}}", format!("max by (node) (scrape_duration_seconds{{{JOB}, {NODES}}})"))
            .warn_from(0.1)
            .fail_from(1.0),
        ],
    }
}

fn losses() -> Row {
    let lost = rate("orb8_agent_lost_packets_total", &[NODES], "node");
    let counted = rate("orb8_agent_counted_packets_total", &[NODES], "node");
    Row {
        title: "Losses",
        panels: vec![
            Panel::stack(
                "Dropped by cause",
                Unit::PerSecond,
                "Everything that found no room, whatever it was: docs/troubleshooting.md says of \
                 each cause what is missing by it.",
            )
            .query("{{cause}}", rate("orb8_agent_drops_total", &[NODES], "cause")),
            Panel::lines(
                "Lost packets by node",
                Unit::Ratio,
                "Part of the packets that is in no flow. What the alert Orb8PacketsLost compares.",
            )
            .query("{{node}}", format!("{lost} / ({counted} + {lost})"))
            .fail_from(0.0001),
            Panel::lines(
                "Fullest ring",
                Unit::Ratio,
                "Fullest state of each ring within an interval: it drops when it is full.",
            )
            .wide(8)
            .query("{{probe}}", format!("max by (probe) (orb8_ring_buffer_utilization{{{NODES}}})"))
            .warn_from(0.5)
            .fail_from(0.9),
            Panel::lines("Records by ring", Unit::PerSecond, "What the programs tell the agent.")
                .wide(8)
                .query("{{probe}}", rate("orb8_ring_buffer_events_total", &[NODES], "probe")),
            Panel::lines(
                "Events without a name",
                Unit::PerSecond,
                "Events that waited for a pod's name in vain. `waiting` is how many wait now.",
            )
            .wide(8)
            .query("without a name", rate("orb8_agent_unnamed_events_total", &[NODES], ""))
            .query("waiting", total("orb8_agent_waiting_events", &[NODES], "")),
        ],
    }
}

fn bounds() -> Row {
    let of_node = |metric| total(metric, &[NODES], "node");
    Row {
        title: "What is held",
        panels: vec![
            Panel::lines("Flows", Unit::Count, "In the store of each node (`--max-flows`).")
                .wide(6)
                .query("{{node}}", of_node("orb8_agent_flows")),
            Panel::lines("TCP connections", Unit::Count, "In the table of each node.")
                .wide(6)
                .query("{{node}}", of_node("orb8_agent_connections")),
            Panel::lines(
                "Series",
                Unit::Count,
                "Label sets of each node (`--metrics-max-series`).",
            )
            .wide(6)
            .query("{{node}}", of_node("orb8_metrics_series")),
            Panel::lines(
                "Series without room",
                Unit::PerSecond,
                "Label sets that were counted under `other`.",
            )
            .wide(6)
            .query("{{node}}", rate("orb8_metrics_overflow_total", &[NODES], "node"))
            .fail_from(0.001),
        ],
    }
}

fn kubernetes() -> Row {
    Row {
        title: "Kubernetes",
        panels: vec![
            Panel::lines("Pods known", Unit::Count, "Of all nodes, by each agent.")
                .wide(6)
                .query("{{node}}", total("orb8_k8s_pods_tracked", &[NODES], "node")),
            Panel::lines("Open watches", Unit::Count, "By resource, of all agents.")
                .wide(6)
                .query("{{resource}}", total("orb8_k8s_watch_connected", &[NODES], "resource")),
            Panel::lines(
                "Watches opened again",
                Unit::PerSecond,
                "After they failed, or fell silent.",
            )
            .wide(6)
            .query(
                "{{resource}} failed",
                rate("orb8_k8s_watch_reconnections_total", &[NODES], "resource"),
            )
            .query(
                "{{resource}} silent",
                rate("orb8_k8s_watch_stalls_total", &[NODES], "resource"),
            ),
            Panel::lines(
                "Last word",
                Unit::Seconds,
                "How long ago the API server last said anything; the longest of all agents.",
            )
            .wide(6)
            .query(
                "{{resource}}",
                format!("time() - min by (resource) (orb8_k8s_last_sync_timestamp{{{NODES}}} > 0)"),
            ),
        ],
    }
}

fn exports() -> Row {
    const OFF: &str = "no agent exports by OTLP (`--otlp-endpoint`)";
    Row {
        title: "Consumers",
        panels: vec![
            Panel::lines("Subscribers", Unit::Count, "Open event streams.")
                .wide(6)
                .query("{{node}}", total("orb8_agent_subscribers", &[NODES], "node")),
            Panel::lines("OTLP: exported", Unit::PerSecond, "What collectors took, by kind.")
                .wide(6)
                .query("{{kind}}", rate("orb8_otlp_exported_total", &[NODES], "kind"))
                .without_data(OFF),
            Panel::lines(
                "OTLP: failures",
                Unit::PerSecond,
                "Exports that failed, and records dropped.",
            )
            .wide(6)
            .query("failures", rate("orb8_otlp_failures_total", &[NODES], ""))
            .query("dropped: {{cause}}", rate("orb8_otlp_dropped_total", &[NODES], "cause"))
            .fail_from(0.001)
            .without_data(OFF),
            Panel::lines("OTLP: queue", Unit::Count, "Records that wait for the collector.")
                .wide(6)
                .query("{{node}}", total("orb8_otlp_queue", &[NODES], "node"))
                .without_data(OFF),
        ],
    }
}
