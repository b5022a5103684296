//! Cells of DNS.

use super::format;
use crate::columns::{Tone, dns};
use crate::v1::dns_answer::Data;
use crate::v1::{
    DnsAnswer, DnsExchange, DnsOutcome, DnsRcodeCount, DnsSide, DnsSummary, Endpoint, Histogram,
    Workload,
};

fn exchange() -> DnsExchange {
    let end = |last, port, unit: &str| Endpoint {
        ip: vec![10, 0, 0, last],
        port,
        workload: Some(Workload { unit: unit.into(), ..Workload::default() }),
        ..Endpoint::default()
    };
    DnsExchange {
        client: Some(end(1, 40_000, "client")),
        server: Some(end(53, 53, "server")),
        side: DnsSide::Client.into(),
        outcome: DnsOutcome::Answered.into(),
        rcode: Some(0),
        rcode_name: "NOERROR".into(),
        latency_ns: 1_234_000,
        ..DnsExchange::default()
    }
}

fn cell(name: &str, exchange: &DnsExchange) -> Option<String> {
    let column = dns::EXCHANGES.wide.iter().find(|column| column.name == name).unwrap();
    (column.value)(exchange, &format())
}

fn tone(name: &str, exchange: &DnsExchange) -> Tone {
    let column = dns::EXCHANGES.wide.iter().find(|column| column.name == name).unwrap();
    (column.tone)(exchange)
}

fn answer(data: Option<Data>) -> DnsAnswer {
    DnsAnswer { data, ..DnsAnswer::default() }
}

#[test]
fn the_result_is_a_code_or_what_came_of_it() {
    let code = |rcode, name: &str, late| DnsExchange {
        rcode: Some(rcode),
        rcode_name: name.into(),
        late,
        ..exchange()
    };
    let outcome = |outcome: DnsOutcome| DnsExchange { outcome: outcome.into(), ..exchange() };
    for (exchange, text, expected) in [
        (exchange(), "NOERROR", Tone::Plain),
        (code(3, "NXDOMAIN", false), "NXDOMAIN", Tone::Warn),
        (code(2, "SERVFAIL", true), "SERVFAIL late", Tone::Bad),
        (code(0, "NOERROR", true), "NOERROR late", Tone::Warn),
        (outcome(DnsOutcome::Timeout), "TIMEOUT", Tone::Bad),
        (outcome(DnsOutcome::Unasked), "UNASKED", Tone::Warn),
        (outcome(DnsOutcome::Malformed), "MALFORMED", Tone::Warn),
    ] {
        assert_eq!(cell("rcode", &exchange).unwrap(), text);
        assert_eq!(tone("rcode", &exchange), expected, "{text}");
    }
}

#[test]
fn only_what_was_waited_for_has_a_latency() {
    assert_eq!(cell("latency", &exchange()).unwrap(), "1.2ms");
    assert_eq!(tone("latency", &exchange()), Tone::Plain);
    let slow = DnsExchange { latency_ns: 5_000_000_000, ..exchange() };
    assert_eq!(
        (cell("latency", &slow).unwrap().as_str(), tone("latency", &slow)),
        ("5.0s", Tone::Warn)
    );
    let unasked = DnsExchange { outcome: DnsOutcome::Unasked.into(), ..exchange() };
    assert_eq!(cell("latency", &unasked), None);
}

#[test]
fn the_owner_is_at_the_side_that_saw_it() {
    let seen = |side: DnsSide| DnsExchange { side: side.into(), ..exchange() };
    assert_eq!(cell("owner", &seen(DnsSide::Client)).unwrap(), "client");
    assert_eq!(cell("owner", &seen(DnsSide::Server)).unwrap(), "server");
    let mut transit = seen(DnsSide::Transit);
    transit.client.as_mut().unwrap().workload = None;
    assert_eq!(cell("owner", &transit).unwrap(), "server");
}

#[test]
fn the_usual_port_is_not_worth_the_room() {
    let mut exchange = exchange();
    assert_eq!(cell("server", &exchange).unwrap(), "server");
    exchange.server.as_mut().unwrap().workload = None;
    assert_eq!(cell("server", &exchange).unwrap(), "10.0.0.53");
    exchange.server.as_mut().unwrap().port = 5353;
    assert_eq!(cell("server", &exchange).unwrap(), "10.0.0.53:5353");
    assert_eq!(cell("client", &exchange).unwrap(), "10.0.0.1:40000");
}

#[test]
fn addresses_come_before_names() {
    let mut exchange = exchange();
    assert_eq!(cell("answers", &exchange), None);
    exchange.answer_count = 1;
    assert_eq!(cell("answers", &exchange).unwrap(), "1 record");
    exchange.answers = vec![
        answer(Some(Data::Target("edge.example.net".into()))),
        answer(Some(Data::Ip(vec![192, 0, 2, 1]))),
        answer(None),
    ];
    exchange.answer_count = 5;
    assert_eq!(cell("answers", &exchange).unwrap(), "192.0.2.1 edge.example.net +3");
}

#[test]
fn a_summary_counts_what_went_wrong() {
    let count = |rcode, count| DnsRcodeCount { rcode, count, name: String::new() };
    let cell = |name: &str, row: &DnsSummary| {
        let column = dns::TOP.wide.iter().find(|column| column.name == name).unwrap();
        (column.value)(row, &format())
    };
    let mut row = DnsSummary {
        queries: 100,
        responses: 90,
        rcodes: vec![count(0, 60), count(3, 20), count(2, 10)],
        latency: Some(Histogram { counts: vec![90], p99: 1_500_000, ..Histogram::default() }),
        ..DnsSummary::default()
    };
    assert_eq!(cell("errors", &row).unwrap(), "33%");
    assert_eq!(cell("nxdomain", &row).unwrap(), "20");
    assert_eq!(cell("servfail", &row).unwrap(), "10");
    assert_eq!(cell("timeouts", &row), None);
    assert_eq!(cell("p99", &row).unwrap(), "1.5ms");
    row.latency = Some(Histogram::default());
    row.other = true;
    assert_eq!(cell("p99", &row), None, "no values");
    assert_eq!(cell("name", &row).unwrap(), "(other)");
}
