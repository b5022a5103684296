//! TCP health: connections, and what is lost of them.

use super::model::{Dashboard, Panel, Row, Scope, Unit};
use super::query::{NEEDS_RULES, RECORDED, WORKLOADS, quantile, rate, ratio, top};

const WORKLOAD: &str = "{{namespace}}/{{workload}}";
const OWNER: &str = "namespace, workload";
const SENT: [&str; 3] = [r#"direction="egress""#, r#"protocol="TCP""#, WORKLOADS];

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "orb8-tcp",
        title: "orb8 / TCP",
        description: "TCP connections: whether they come about, how fast they are, and what is lost.",
        scope: Scope::Workloads,
        rows: vec![now(), connections(), speed(), losses()],
    }
}

fn again(by: &str) -> String {
    ratio(
        &rate("orb8_tcp_retransmitted_segments_total", &[WORKLOADS], by),
        &rate("orb8_flow_packets_total", &SENT, by),
    )
}

fn failing() -> String {
    let failures = rate("orb8_tcp_connect_failures_total", &[WORKLOADS], "");
    let connects = rate("orb8_tcp_connects_total", &[WORKLOADS], "");
    format!("({failures} or vector(0)) / (({failures} or vector(0)) + {connects})")
}

fn now() -> Row {
    Row {
        title: "Now",
        panels: vec![
            Panel::number("New connections", Unit::PerSecond, "That clients here made.")
                .query("connects", rate("orb8_tcp_connects_total", &[WORKLOADS], "")),
            Panel::number("Failures", Unit::Ratio, "Part of the connections that were asked for.")
                .query("failures", failing())
                .warn_from(0.01)
                .fail_from(0.1),
            Panel::number("Sent again", Unit::Ratio, "Part of the segments that were sent.")
                .query("sent again", again(""))
                .warn_from(0.005)
                .fail_from(0.02),
            Panel::number("Resets", Unit::PerSecond, "Connections that one end broke off.")
                .query("resets", rate("orb8_tcp_resets_total", &[WORKLOADS], "")),
            Panel::number("Drops", Unit::PacketsPerSecond, "TCP packets that the kernel dropped.")
                .query("drops", rate("orb8_tcp_dropped_packets_total", &[WORKLOADS], "")),
            Panel::number(
                "Listener overflows",
                Unit::PerSecond,
                "Connections that found a listener's queue full.",
            )
            .query("overflows", rate("orb8_tcp_listener_overflows_total", &[WORKLOADS], ""))
            .fail_from(0.001),
        ],
    }
}

fn connections() -> Row {
    Row {
        title: "Connections",
        panels: vec![
            Panel::lines(
                "Connections",
                Unit::PerSecond,
                "Made by clients, accepted by servers, and ended.",
            )
            .wide(8)
            .query("connects", rate("orb8_tcp_connects_total", &[WORKLOADS], ""))
            .query("accepts", rate("orb8_tcp_accepts_total", &[WORKLOADS], ""))
            .query("closes", rate("orb8_tcp_closes_total", &[WORKLOADS], "")),
            Panel::stack(
                "Failures by errno",
                Unit::PerSecond,
                "ECONNREFUSED: nobody listens there. ETIMEDOUT: a firewall, a NetworkPolicy or a \
                 dead node. EHOSTUNREACH: no way there.",
            )
            .wide(8)
            .query("{{errno}}", rate("orb8_tcp_connect_failures_total", &[WORKLOADS], "errno")),
            Panel::lines(
                "Failures by workload",
                Unit::Ratio,
                "Part of what it asks for, worst 10. What the alert Orb8TcpConnectFailures compares.",
            )
            .wide(8)
            .query(
                WORKLOAD,
                top(10, &format!("workload:orb8_tcp_connect_failures:ratio_rate5m{{{RECORDED}}}")),
            )
            .fail_from(0.1)
            .without_data(NEEDS_RULES),
        ],
    }
}

fn speed() -> Row {
    let of = |metric, at| quantile(at, metric, &[WORKLOADS], "");
    let worst = |metric| top(10, &format!("({})", quantile("0.99", metric, &[WORKLOADS], OWNER)));
    Row {
        title: "Speed",
        panels: vec![
            Panel::lines(
                "Round-trip time",
                Unit::Seconds,
                "As the kernel measures it, delayed acknowledgements included.",
            )
            .query("p50", of("orb8_tcp_rtt_seconds", "0.5"))
            .query("p90", of("orb8_tcp_rtt_seconds", "0.9"))
            .query("p99", of("orb8_tcp_rtt_seconds", "0.99")),
            Panel::lines(
                "Round-trip time p99 by workload",
                Unit::Seconds,
                "The 10 with the longest.",
            )
            .query(WORKLOAD, worst("orb8_tcp_rtt_seconds")),
            Panel::lines(
                "Handshake",
                Unit::Seconds,
                "From SYN to established. A second and more is a SYN that was sent again.",
            )
            .query("p50", of("orb8_tcp_handshake_seconds", "0.5"))
            .query("p90", of("orb8_tcp_handshake_seconds", "0.9"))
            .query("p99", of("orb8_tcp_handshake_seconds", "0.99")),
            Panel::lines("Handshake p99 by workload", Unit::Seconds, "The 10 with the longest.")
                .query(WORKLOAD, worst("orb8_tcp_handshake_seconds")),
        ],
    }
}

fn losses() -> Row {
    Row {
        title: "Losses",
        panels: vec![
            Panel::lines(
                "Segments sent again by workload",
                Unit::Ratio,
                "Part of what it sends, worst 10. What the alert Orb8TcpRetransmits compares.",
            )
            .query(
                WORKLOAD,
                top(10, &format!("workload:orb8_tcp_retransmits:ratio_rate5m{{{RECORDED}}}")),
            )
            .fail_from(0.02)
            .without_data(NEEDS_RULES),
            Panel::lines(
                "Segments sent again by node",
                Unit::Ratio,
                "One node alone: its network card, cable or switch.",
            )
            .query("{{node}}", again("node"))
            .fail_from(0.02),
            Panel::stack(
                "Drops by reason",
                Unit::PacketsPerSecond,
                "The kernel's own words. NETFILTER_DROP: a firewall or NetworkPolicy. NO_SOCKET: \
                 nobody listens. SOCKET_BACKLOG, SOCKET_RCVBUFF: a receiver that is too slow.",
            )
            .wide(8)
            .query("{{reason}}", rate("orb8_tcp_dropped_packets_total", &[WORKLOADS], "reason")),
            Panel::lines(
                "Resets by workload",
                Unit::PerSecond,
                "The 10 with most, and by which end.",
            )
            .wide(8)
            .query(
                "{{namespace}}/{{workload}} by {{by}}",
                top(10, &rate("orb8_tcp_resets_total", &[WORKLOADS], "namespace, workload, by")),
            ),
            Panel::lines(
                "Listener overflows by workload",
                Unit::Count,
                "Within ten minutes, worst 10. What the alert Orb8TcpListenerOverflows compares.",
            )
            .wide(8)
            .query(
                WORKLOAD,
                top(10, &format!("workload:orb8_tcp_listener_overflows:increase10m{{{RECORDED}}}")),
            )
            .fail_from(10.0)
            .without_data("no listener overflowed, or the rules of deploy/prometheus are missing"),
        ],
    }
}
