//! DNS, as clients wait for it and as servers answer.

use super::model::{Dashboard, Panel, Row, Scope, Unit};
use super::query::{NEEDS_RULES, RECORDED, WORKLOADS, quantile, rate, ratio, top};

const CLIENT: &str = r#"side="client""#;
const SERVER: &str = r#"side="server""#;
const ERROR: &str = r#"rcode!~"NOERROR|NXDOMAIN""#;
const WORKLOAD: &str = "{{namespace}}/{{workload}}";
const OWNER: &str = "namespace, workload";

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "orb8-dns",
        title: "orb8 / DNS",
        description: "DNS, as clients wait for it and as servers answer.",
        scope: Scope::Workloads,
        rows: vec![now(), all(), latency(), failures()],
    }
}

fn of_client(metric: &str, by: &str) -> String {
    rate(metric, &[CLIENT, WORKLOADS], by)
}

fn now() -> Row {
    let answers = of_client("orb8_dns_responses_total", "");
    let errors = rate("orb8_dns_responses_total", &[CLIENT, ERROR, WORKLOADS], "");
    let missing = rate("orb8_dns_responses_total", &[CLIENT, r#"rcode="NXDOMAIN""#, WORKLOADS], "");
    let timeouts = of_client("orb8_dns_timeouts_total", "");
    let queries = of_client("orb8_dns_queries_total", "");
    Row {
        title: "Now",
        panels: vec![
            Panel::number("Queries", Unit::PerSecond, "Queries of clients, without retries.")
                .query("queries", queries.clone()),
            Panel::number("Errors", Unit::Ratio, "Part of the answers; NXDOMAIN is no error.")
                .query("errors", ratio(&errors, &answers))
                .warn_from(0.01)
                .fail_from(0.05),
            Panel::number("Timeouts", Unit::Ratio, "Part of the queries that got no answer.")
                .query("timeouts", ratio(&timeouts, &queries))
                .warn_from(0.001)
                .fail_from(0.01),
            Panel::number(
                "NXDOMAIN",
                Unit::Ratio,
                "Part of the answers that say that there is no such name: most of them are search \
                 domains that are tried in turn (ndots).",
            )
            .query("NXDOMAIN", ratio(&missing, &answers)),
            Panel::number(
                "p50",
                Unit::Seconds,
                "Half of the clients' queries are answered within.",
            )
            .query("p50", quantile("0.5", "orb8_dns_latency_seconds", &[CLIENT, WORKLOADS], "")),
            Panel::number("p99", Unit::Seconds, "All but one in a hundred are answered within.")
                .query(
                    "p99",
                    quantile("0.99", "orb8_dns_latency_seconds", &[CLIENT, WORKLOADS], ""),
                )
                .warn_from(0.1)
                .fail_from(0.5),
        ],
    }
}

fn all() -> Row {
    Row {
        title: "Queries and answers",
        panels: vec![
            Panel::lines(
                "Queries by side",
                Unit::PerSecond,
                "client and server: sockets of these nodes. transit: what only passes an interface.",
            )
            .wide(8)
            .query("{{side}}", rate("orb8_dns_queries_total", &[WORKLOADS], "side")),
            Panel::stack("Answers by response code", Unit::PerSecond, "As clients get them.")
                .wide(8)
                .query("{{rcode}}", of_client("orb8_dns_responses_total", "rcode")),
            Panel::lines(
                "Who asks most",
                Unit::PerSecond,
                "The 10 workloads with most queries: candidates for a cache.",
            )
            .wide(8)
            .query(WORKLOAD, top(10, &of_client("orb8_dns_queries_total", OWNER))),
        ],
    }
}

fn latency() -> Row {
    let of = |side, at| quantile(at, "orb8_dns_latency_seconds", &[side, WORKLOADS], "");
    Row {
        title: "Latency",
        panels: vec![
            Panel::lines("What clients wait", Unit::Seconds, "From the first query to its answer.")
                .wide(8)
                .query("p50", of(CLIENT, "0.5"))
                .query("p90", of(CLIENT, "0.9"))
                .query("p99", of(CLIENT, "0.99"))
                .fail_from(0.5),
            Panel::lines(
                "What servers take",
                Unit::Seconds,
                "Servers on these nodes, what they ask others included. Where it is far below what \
                 clients wait, look at the way between.",
            )
            .wide(8)
            .query("p50", of(SERVER, "0.5"))
            .query("p90", of(SERVER, "0.9"))
            .query("p99", of(SERVER, "0.99")),
            Panel::lines(
                "p99 by workload",
                Unit::Seconds,
                "The 10 that wait longest. What the alert Orb8DnsLatencyHigh compares.",
            )
            .wide(8)
            .query(
                WORKLOAD,
                top(10, &format!("workload:orb8_dns_latency_seconds:p99_rate5m{{{RECORDED}}}")),
            )
            .fail_from(0.5)
            .without_data(NEEDS_RULES),
        ],
    }
}

fn failures() -> Row {
    let recorded = |name: &str| top(10, &format!("workload:{name}:ratio_rate5m{{{RECORDED}}}"));
    let by_node = ratio(
        &of_client("orb8_dns_timeouts_total", "node"),
        &of_client("orb8_dns_queries_total", "node"),
    );
    Row {
        title: "Failures",
        panels: vec![
            Panel::lines(
                "Errors by workload",
                Unit::Ratio,
                "Part of the answers, worst 10. What the alert Orb8DnsErrors compares.",
            )
            .query(WORKLOAD, recorded("orb8_dns_errors"))
            .fail_from(0.05)
            .without_data(NEEDS_RULES),
            Panel::lines(
                "Timeouts by workload",
                Unit::Ratio,
                "Part of the queries, worst 10. What the alert Orb8DnsTimeouts compares.",
            )
            .query(WORKLOAD, recorded("orb8_dns_timeouts"))
            .fail_from(0.01)
            .without_data(NEEDS_RULES),
            Panel::lines(
                "Timeouts by node",
                Unit::Ratio,
                "One node alone: its network, its connection tracking, or its own cache.",
            )
            .wide(8)
            .query("{{node}}", by_node),
            Panel::lines(
                "Retries by workload",
                Unit::PerSecond,
                "Queries that were asked again before an answer came, most of them after seconds.",
            )
            .wide(8)
            .query(WORKLOAD, top(10, &of_client("orb8_dns_retries_total", OWNER))),
            Panel::lines(
                "NXDOMAIN by workload",
                Unit::PerSecond,
                "Fully qualified names, or a lower ndots, save these queries.",
            )
            .wide(8)
            .query(
                WORKLOAD,
                top(
                    10,
                    &rate(
                        "orb8_dns_responses_total",
                        &[CLIENT, r#"rcode="NXDOMAIN""#, WORKLOADS],
                        OWNER,
                    ),
                ),
            ),
        ],
    }
}
