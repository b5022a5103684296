//! One workload: what it sends and receives, and how its DNS and TCP are.

use super::model::{Dashboard, Panel, Row, Scope, Unit};
use super::query::{WORKLOADS, quantile, rate, ratio, top, total};

const EGRESS: &str = r#"direction="egress""#;
const CLIENT: &str = r#"side="client""#;

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "orb8-workload",
        title: "orb8 / workload",
        description: "A workload's traffic, DNS and TCP. Choose it above, or come from a table.",
        scope: Scope::Workloads,
        rows: vec![traffic(), peers(), dns(), connections(), quality()],
    }
}

fn traffic() -> Row {
    let bytes = rate("orb8_flow_bytes_total", &[WORKLOADS], "direction");
    let packets = rate("orb8_flow_packets_total", &[WORKLOADS], "direction");
    Row {
        title: "Traffic",
        panels: vec![
            Panel::lines(
                "Bytes",
                Unit::BytesPerSecond,
                "IP bytes that its sockets send and receive.",
            )
            .query("{{direction}}", bytes.clone()),
            Panel::lines("Packets", Unit::PacketsPerSecond, "Wire packets.").query(
                "{{protocol}} {{direction}}",
                rate("orb8_flow_packets_total", &[WORKLOADS], "protocol, direction"),
            ),
            Panel::lines(
                "Active flows",
                Unit::Count,
                "Flows that have not ended. One that only grows is a leak of connections.",
            )
            .wide(8)
            .query(
                "{{protocol}} {{direction}}",
                total("orb8_active_flows", &[WORKLOADS], "protocol, direction"),
            ),
            Panel::lines(
                "Packet size",
                Unit::Bytes,
                "Mean. Bulk is above 1,000 bytes; many small ones cost processor time.",
            )
            .wide(8)
            .query("{{direction}}", format!("{bytes} / {packets}")),
            Panel::stack(
                "Sent by node",
                Unit::BytesPerSecond,
                "Where its pods are, and whether one does most of the work.",
            )
            .wide(8)
            .query("{{node}}", rate("orb8_flow_bytes_total", &[EGRESS, WORKLOADS], "node")),
        ],
    }
}

/// Only where the labels were chosen so.
fn peers() -> Row {
    const KNOWN: &str = r#"peer_workload!="""#;
    const LACKS: &str = "needs peer-namespace and peer-workload among the agents' --metrics-labels";
    let by_peer = |direction| {
        let bytes = rate(
            "orb8_flow_bytes_total",
            &[direction, KNOWN, WORKLOADS],
            "peer_namespace, peer_workload",
        );
        top(15, &bytes)
    };
    Row {
        title: "Peers",
        panels: vec![
            Panel::stack("Sent to", Unit::BytesPerSecond, "The 15 workloads that get most of it.")
                .query("{{peer_namespace}}/{{peer_workload}}", by_peer(EGRESS))
                .without_data(LACKS),
            Panel::stack("Received from", Unit::BytesPerSecond, "The 15 that send it most.")
                .query("{{peer_namespace}}/{{peer_workload}}", by_peer(r#"direction="ingress""#))
                .without_data(LACKS),
        ],
    }
}

fn dns() -> Row {
    let latency = |of| quantile(of, "orb8_dns_latency_seconds", &[CLIENT, WORKLOADS], "");
    Row {
        title: "DNS, as the client has it",
        panels: vec![
            Panel::lines(
                "Queries",
                Unit::PerSecond,
                "Retries and timeouts are queries that got no answer in time.",
            )
            .wide(8)
            .query("queries", rate("orb8_dns_queries_total", &[CLIENT, WORKLOADS], ""))
            .query("retries", rate("orb8_dns_retries_total", &[CLIENT, WORKLOADS], ""))
            .query("timeouts", rate("orb8_dns_timeouts_total", &[CLIENT, WORKLOADS], "")),
            Panel::stack(
                "Answers",
                Unit::PerSecond,
                "By response code. NXDOMAIN in multiples of NOERROR is search domains at work.",
            )
            .wide(8)
            .query("{{rcode}}", rate("orb8_dns_responses_total", &[CLIENT, WORKLOADS], "rcode")),
            Panel::lines("Latency", Unit::Seconds, "From the first query to its answer.")
                .wide(8)
                .query("p50", latency("0.5"))
                .query("p90", latency("0.9"))
                .query("p99", latency("0.99"))
                .fail_from(0.5),
        ],
    }
}

fn connections() -> Row {
    Row {
        title: "TCP connections",
        panels: vec![
            Panel::lines(
                "Connections",
                Unit::PerSecond,
                "Asked for and made, accepted, and ended.",
            )
            .wide(8)
            .query("connects", rate("orb8_tcp_connects_total", &[WORKLOADS], ""))
            .query("accepts", rate("orb8_tcp_accepts_total", &[WORKLOADS], ""))
            .query("closes", rate("orb8_tcp_closes_total", &[WORKLOADS], "")),
            Panel::stack(
                "Failures to connect",
                Unit::PerSecond,
                "ECONNREFUSED: nobody listens there. ETIMEDOUT: a firewall, a NetworkPolicy or a \
                 dead node. EHOSTUNREACH: no way there.",
            )
            .wide(8)
            .query("{{errno}}", rate("orb8_tcp_connect_failures_total", &[WORKLOADS], "errno")),
            Panel::lines(
                "Listener overflows",
                Unit::PerSecond,
                "Connections that found the listener's queue full: it accepts too slowly.",
            )
            .wide(8)
            .query("overflows", rate("orb8_tcp_listener_overflows_total", &[WORKLOADS], ""))
            .fail_from(0.001),
        ],
    }
}

fn quality() -> Row {
    let again = ratio(
        &rate("orb8_tcp_retransmitted_segments_total", &[WORKLOADS], ""),
        &rate("orb8_flow_packets_total", &[EGRESS, r#"protocol="TCP""#, WORKLOADS], ""),
    );
    let of = |metric, quantiles: [(&'static str, &'static str); 3], panel: Panel| {
        quantiles.into_iter().fold(panel, |panel, (name, at)| {
            panel.query(name, quantile(at, metric, &[WORKLOADS], ""))
        })
    };
    const QUANTILES: [(&str, &str); 3] = [("p50", "0.5"), ("p90", "0.9"), ("p99", "0.99")];
    Row {
        title: "TCP quality",
        panels: vec![
            Panel::lines(
                "Segments sent again",
                Unit::Ratio,
                "Part of what it sends that had to be sent again.",
            )
            .query("sent again", again)
            .fail_from(0.02),
            Panel::stack(
                "Resets and drops",
                Unit::PerSecond,
                "Connections that one end broke off, and packets that the kernel dropped, by reason.",
            )
            .query("reset by {{by}}", rate("orb8_tcp_resets_total", &[WORKLOADS], "by"))
            .query(
                "dropped: {{reason}}",
                rate("orb8_tcp_dropped_packets_total", &[WORKLOADS], "reason"),
            ),
            of(
                "orb8_tcp_rtt_seconds",
                QUANTILES,
                Panel::lines(
                    "Round-trip time",
                    Unit::Seconds,
                    "As the kernel measures it, delayed acknowledgements included.",
                ),
            ),
            of(
                "orb8_tcp_handshake_seconds",
                QUANTILES,
                Panel::lines(
                    "Handshake",
                    Unit::Seconds,
                    "From SYN to established. A second and more is a SYN that was sent again.",
                ),
            ),
        ],
    }
}
