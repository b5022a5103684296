use super::*;
use crate::v1::{DnsExchange, Endpoint, Protocol, Workload};

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// `ml/trainer-0` asks the cluster's server for a name that is not there, and waits 60 ms.
fn exchange() -> DnsExchange {
    let workload =
        Workload { namespace: "ml".into(), pod: "trainer-0".into(), ..Default::default() };
    DnsExchange {
        client: Some(Endpoint {
            ip: vec![10, 0, 0, 5],
            port: 40_000,
            workload: Some(workload),
            ..Endpoint::default()
        }),
        server: Some(Endpoint { ip: vec![10, 96, 0, 10], port: 53, ..Endpoint::default() }),
        protocol: Protocol::Udp.into(),
        side: DnsSide::Client.into(),
        name: "db.ml.svc.cluster.local".into(),
        query_type: 28,
        outcome: DnsOutcome::Answered.into(),
        rcode: Some(3),
        latency_ns: 60_000_000,
        ..Default::default()
    }
}

fn timeout() -> DnsExchange {
    DnsExchange { outcome: DnsOutcome::Timeout.into(), rcode: None, latency_ns: 0, ..exchange() }
}

fn matches(filter: DnsFilter) -> bool {
    matches_of(filter, &exchange())
}

fn matches_of(filter: DnsFilter, exchange: &DnsExchange) -> bool {
    DnsMatcher::new(&[filter], &[]).unwrap().matches(exchange)
}

#[test]
fn each_field_is_any_of_its_values() {
    let all = DnsFilter::default;
    assert!(matches(all()) && DnsMatcher::default().matches(&exchange()));
    assert!(matches(DnsFilter { name: strings(&["x", "*.SVC"]), ..all() }));
    assert!(!matches(DnsFilter { name: strings(&["*.example.com"]), ..all() }));
    assert!(matches(DnsFilter { rcode: strings(&["servfail", "nxdomain"]), ..all() }));
    assert!(!matches(DnsFilter { rcode: strings(&["0"]), ..all() }));
    assert!(matches(DnsFilter { query_type: strings(&["A", "aaaa"]), ..all() }));
    assert!(!matches(DnsFilter { query_type: strings(&["65"]), ..all() }));
    assert!(matches(DnsFilter { side: vec![DnsSide::Client.into()], ..all() }));
    assert!(!matches(DnsFilter { side: vec![DnsSide::Server.into()], ..all() }));
    assert!(matches(DnsFilter { outcome: vec![DnsOutcome::Answered.into()], ..all() }));
    assert!(!matches(DnsFilter { outcome: vec![DnsOutcome::Timeout.into()], ..all() }));
}

#[test]
fn a_filter_is_all_of_its_fields() {
    let filter = |rcode: &str| DnsFilter {
        name: strings(&["*.svc"]),
        rcode: strings(&[rcode]),
        ..Default::default()
    };
    assert!(matches(filter("NXDOMAIN")) && !matches(filter("SERVFAIL")));
    let matcher = DnsMatcher::new(&[filter("NXDOMAIN")], &[filter("3")]).unwrap();
    assert!(!matcher.matches(&exchange()), "excluded by the same");
}

#[test]
fn the_client_is_the_source() {
    let of = |flow| matches(DnsFilter { flow: Some(flow), ..Default::default() });
    let pod = strings(&["ml/trainer-0"]);
    assert!(of(FlowFilter { source_pod: pod.clone(), ..Default::default() }));
    assert!(!of(FlowFilter { destination_pod: pod, ..Default::default() }));
    assert!(of(FlowFilter { destination_ip: strings(&["10.96.0.0/16"]), ..Default::default() }));
    assert!(of(FlowFilter { destination_port: vec![53], ..Default::default() }));
    assert!(!of(FlowFilter { protocol: vec![Protocol::Tcp.into()], ..Default::default() }));
}

#[test]
fn slow_is_what_took_long_and_what_never_came() {
    let slow = |least| DnsFilter { min_latency_ns: Some(least), ..Default::default() };
    assert!(matches(slow(60_000_000)) && !matches(slow(60_000_001)));
    assert!(matches_of(slow(u64::MAX), &timeout()));
    let forged = DnsExchange { outcome: DnsOutcome::Unasked.into(), ..exchange() };
    assert!(!matches_of(slow(1), &forged), "nobody waited for it");
}

#[test]
fn a_timeout_has_no_rcode() {
    for rcode in 0..16 {
        let filter = DnsFilter { rcode: vec![format!("{rcode}")], ..Default::default() };
        assert!(!matches_of(filter, &timeout()));
    }
}

#[test]
fn what_cannot_be_understood_is_named() {
    let error = |filter| DnsMatcher::new(&[], &[filter]).unwrap_err().to_string();
    let none = DnsFilter::default;
    let bad_rcode = error(DnsFilter { rcode: strings(&["NXDOMAIN", "NXDOMAIM"]), ..none() });
    assert_eq!(bad_rcode, "rcode: `NXDOMAIM` is not a response code like NXDOMAIN, or 0 to 4095");
    let bad_type = error(DnsFilter { query_type: strings(&["AAAAA"]), ..none() });
    assert_eq!(bad_type, "query_type: `AAAAA` is not a record type like AAAA, or 0 to 65535");
    assert_eq!(
        error(DnsFilter { name: strings(&[""]), ..none() }),
        "name: a name must not be empty"
    );
    assert_eq!(error(DnsFilter { side: vec![9], ..none() }), "side: 9 is none of its values");
    assert_eq!(error(DnsFilter { outcome: vec![0], ..none() }), "outcome: 0 is none of its values");
    let flow = FlowFilter { ip: strings(&["nonsense"]), ..Default::default() };
    assert!(error(DnsFilter { flow: Some(flow), ..none() }).contains("`nonsense`"));
}

#[test]
fn a_summary_has_owners_and_no_addresses() {
    let compile = |flow: FlowFilter| {
        let filter = DnsFilter { flow: Some(flow), ..Default::default() };
        DnsMatcher::for_summaries(&[filter], &[])
    };
    assert!(compile(FlowFilter { namespace: strings(&["ml"]), ..Default::default() }).is_ok());
    let of_pod = FlowFilter {
        label: strings(&["app=web"]),
        source_workload: strings(&["deploy/web"]),
        destination_node: strings(&["worker-1"]),
        ..Default::default()
    };
    assert!(compile(of_pod).is_ok());
    let of_address = compile(FlowFilter { service: strings(&["db"]), ..Default::default() });
    assert_eq!(of_address.unwrap_err().field, "service", "it would match none, without a word");
    let error = compile(FlowFilter { source_port: vec![1], ..Default::default() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "source_port: summaries have no such thing; it filters streams only"
    );
}
