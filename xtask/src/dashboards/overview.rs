//! Who talks how much, and what goes wrong anywhere.

use super::model::{Dashboard, Panel, Row, Scope, Unit};
use super::query::{NEEDS_RULES, NODES, RECORDED, WORKLOADS, rate, ratio, top, total};

const EGRESS: &str = r#"direction="egress""#;
const INGRESS: &str = r#"direction="ingress""#;

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "orb8-overview",
        title: "orb8 / network overview",
        description: "Who talks how much, and what goes wrong: start here.",
        scope: Scope::Workloads,
        rows: vec![now(), traffic(), workloads(), trouble()],
    }
}

fn now() -> Row {
    Row {
        title: "Now",
        panels: vec![
            Panel::number("Sent", Unit::BytesPerSecond, "IP bytes that local sockets send.")
                .query("sent", rate("orb8_flow_bytes_total", &[EGRESS, WORKLOADS], "")),
            Panel::number("Received", Unit::BytesPerSecond, "IP bytes that local sockets receive.")
                .query("received", rate("orb8_flow_bytes_total", &[INGRESS, WORKLOADS], "")),
            Panel::number(
                "Active flows",
                Unit::Count,
                "Flows that have not ended, one for each direction.",
            )
            .query("flows", total("orb8_active_flows", &[WORKLOADS], "")),
            Panel::number(
                "Agents",
                Unit::Count,
                "Agents that answer scrapes: as many as there are nodes.",
            )
            .query("agents", total("up", &[r#"job="orb8-agent""#, NODES], "")),
            Panel::number(
                "Lost packets",
                Unit::PacketsPerSecond,
                "Packets that are in no flow since the kernel's table and the ring were full. \
                 Anything but 0 means that the figures here are too low; see agents.",
            )
            .query("lost", rate("orb8_agent_lost_packets_total", &[NODES], ""))
            .fail_from(0.001),
            Panel::number(
                "Watches down",
                Unit::Count,
                "Watches of the Kubernetes API that are not open: names of new pods are missing.",
            )
            .query("down", format!("sum(orb8_k8s_watch_connected{{{NODES}}} == bool 0)"))
            .fail_from(1.0),
        ],
    }
}

fn traffic() -> Row {
    let bytes = |direction, by| rate("orb8_flow_bytes_total", &[direction, WORKLOADS], by);
    Row {
        title: "Traffic",
        panels: vec![
            Panel::stack(
                "Sent by namespace",
                Unit::BytesPerSecond,
                "The 15 namespaces that send most. Without a name: processes of the nodes, and \
                 traffic whose owner is not known.",
            )
            .query("{{namespace}}", top(15, &bytes(EGRESS, "namespace"))),
            Panel::stack(
                "Received by namespace",
                Unit::BytesPerSecond,
                "The 15 namespaces that receive most.",
            )
            .query("{{namespace}}", top(15, &bytes(INGRESS, "namespace"))),
            Panel::stack("Packets by protocol", Unit::PacketsPerSecond, "Wire packets, both ways.")
                .wide(8)
                .query(
                    "{{protocol}} {{direction}}",
                    rate("orb8_flow_packets_total", &[WORKLOADS], "protocol, direction"),
                ),
            Panel::stack(
                "Active flows by protocol",
                Unit::Count,
                "Many flows with few packets are short connections, or a scan.",
            )
            .wide(8)
            .query("{{protocol}}", total("orb8_active_flows", &[WORKLOADS], "protocol")),
            Panel::stack("Sent by node", Unit::BytesPerSecond, "The 15 nodes that send most.")
                .wide(8)
                .query("{{node}}", top(15, &bytes(EGRESS, "node"))),
        ],
    }
}

fn workloads() -> Row {
    const OWNER: &str = "namespace, workload";
    let sent = rate("orb8_flow_bytes_total", &[EGRESS, WORKLOADS], OWNER);
    // Of the same workloads in every column.
    let of_those = |expression: String| {
        format!("{expression} and on (namespace, workload) {}", top(50, &sent))
    };
    let tcp = [EGRESS, r#"protocol="TCP""#, WORKLOADS];
    let again = ratio(
        &rate("orb8_tcp_retransmitted_segments_total", &[WORKLOADS], OWNER),
        &rate("orb8_flow_packets_total", &tcp, OWNER),
    );
    Row {
        title: "Workloads",
        panels: vec![
            Panel::table(
                "Busiest workloads",
                "The 50 workloads that send most. A workload is what made the pods, or a systemd \
                 unit; it leads to its details.",
            )
            .column("Sent", Unit::BytesPerSecond, top(50, &sent))
            .column(
                "Received",
                Unit::BytesPerSecond,
                of_those(rate("orb8_flow_bytes_total", &[INGRESS, WORKLOADS], OWNER)),
            )
            .column(
                "Active flows",
                Unit::Count,
                of_those(total("orb8_active_flows", &[WORKLOADS], OWNER)),
            )
            .column("Segments sent again", Unit::Ratio, of_those(format!("({again})")))
            .column(
                "DNS queries",
                Unit::PerSecond,
                of_those(rate("orb8_dns_queries_total", &[r#"side="client""#, WORKLOADS], OWNER)),
            ),
        ],
    }
}

fn trouble() -> Row {
    let worst = |recorded: &str| top(10, &format!("{recorded}{{{RECORDED}}}"));
    const WORKLOAD: &str = "{{namespace}}/{{workload}}";
    Row {
        title: "What goes wrong",
        panels: vec![
            Panel::lines(
                "Alerts",
                Unit::Count,
                "Alerts of orb8 that fire, or will if it goes on. docs/troubleshooting.md says of \
                 each what to do.",
            )
            .query(
                "{{alertname}} {{alertstate}}",
                r#"count by (alertname, alertstate) (ALERTS{alertname=~"Orb8.+"})"#,
            )
            .without_data("no alert of orb8 is pending or fires"),
            Panel::lines(
                "DNS errors",
                Unit::Ratio,
                "Part of the answers that are errors (NXDOMAIN is none), worst 10. What the alert \
                 Orb8DnsErrors compares.",
            )
            .query(WORKLOAD, worst("workload:orb8_dns_errors:ratio_rate5m"))
            .fail_from(0.05)
            .without_data(NEEDS_RULES),
            Panel::lines(
                "TCP segments sent again",
                Unit::Ratio,
                "Part of the segments that had to be sent again, worst 10. What the alert \
                 Orb8TcpRetransmits compares.",
            )
            .query(WORKLOAD, worst("workload:orb8_tcp_retransmits:ratio_rate5m"))
            .fail_from(0.02)
            .without_data(NEEDS_RULES),
            Panel::lines(
                "Connections that fail",
                Unit::Ratio,
                "Part of the connections that were asked for and failed, worst 10. What the alert \
                 Orb8TcpConnectFailures compares.",
            )
            .query(WORKLOAD, worst("workload:orb8_tcp_connect_failures:ratio_rate5m"))
            .fail_from(0.1)
            .without_data(NEEDS_RULES),
        ],
    }
}
