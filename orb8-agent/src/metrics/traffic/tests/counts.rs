//! What is counted.

use super::*;

#[test]
fn exchanges_are_counted_as_the_table_of_names_does() {
    let mut bench = Bench::new("pod", 100);
    let ends = ends(owner(1, "web-1"), Party::Unknown);
    let count = |bench: &mut Bench, exchange: DnsExchange| {
        let at = bench.at();
        bench.traffic.count_dns(&exchange, &ends, &bench.world, at);
    };
    count(&mut bench, DnsExchange { retries: 2, ..exchange(DnsOutcome::Answered, Some(0)) });
    count(&mut bench, exchange(DnsOutcome::Answered, Some(3)));
    count(&mut bench, exchange(DnsOutcome::Answered, Some(4_000)));
    count(&mut bench, DnsExchange { retries: 1, ..exchange(DnsOutcome::Timeout, None) });
    // Late, after another repeat.
    let late = exchange(DnsOutcome::Answered, Some(0));
    count(&mut bench, DnsExchange { retries: 2, told_retries: Some(1), ..late });
    count(&mut bench, exchange(DnsOutcome::Unasked, Some(0)));
    count(&mut bench, exchange(DnsOutcome::Malformed, None));
    let value = |name: &str, labels: &str| {
        bench.value(&format!("orb8_dns_{name}{{pod=web-1,side=client{labels}}}"))
    };
    assert_eq!(value("queries_total", ""), Some(4));
    assert_eq!(value("timeouts_total", ""), Some(1));
    assert_eq!(value("retries_total", ""), Some(4));
    assert_eq!(value("responses_total", ",rcode=NOERROR"), Some(2));
    assert_eq!(value("responses_total", ",rcode=NXDOMAIN"), Some(1));
    assert_eq!(value("responses_total", ",rcode=other"), Some(1));
    let families = bench.families();
    let latency = families.iter().find(|family| family.name == "orb8_dns_latency_seconds").unwrap();
    let Value::Histogram(latency) = &latency.samples[0].value else { panic!() };
    let bucket = latency.bounds.iter().position(|bound| *bound >= 0.003).unwrap();
    assert_eq!((latency.count, latency.counts[bucket]), (4, 4), "3 ms each");
    assert!((latency.sum - 0.012).abs() < 1e-12);
}

/// Counts one of everything for a pod's connections.
fn tell_connections(bench: &mut Bench, owner: &Party) {
    let none = OfConnection::default();
    let mut tell = |kind| bench.tcp(owner, kind, none);
    tell(TcpKind::Connect { handshake_ns: Some(2_000_000) });
    tell(TcpKind::Accept { handshake_ns: None });
    tell(TcpKind::Close { errno: 104 });
    [111, 111, 0, 60_000].into_iter().for_each(|errno| tell(TcpKind::Fail { errno }));
    tell(TcpKind::Reset { by: ResetBy::Remote, reason: None });
    tell(TcpKind::Overflow { overflows: 5, queue: 1, limit: 1 });
    let reason = Reason { id: 2, name: "NO_SOCKET".into() };
    let drop = TcpKind::Drop { reason, location: None, weight: 7, tcp_flags: 2, bytes: 40 };
    tell(drop);
    tell(TcpKind::State);
    let mut counts = [0; RTT_BUCKETS];
    counts[11] = 4;
    let round_trips = Some(RoundTrips { counts: &counts, sum_us: 6_000 });
    bench.tcp(owner, TcpKind::Progress, OfConnection { resent: 3, round_trips });
}

/// Every metric of traffic, for one pod.
pub(in crate::metrics) fn of_one_pod() -> Vec<Family> {
    let mut bench = Bench::new("namespace,pod", 100);
    let owner = owner(1, "web-1");
    bench.count(&mut flow(&owner), 1, 10);
    let (ends, at) = (ends(owner.clone(), Party::Unknown), bench.at());
    let answered = exchange(DnsOutcome::Answered, Some(0));
    bench.traffic.count_dns(&answered, &ends, &bench.world, at);
    tell_connections(&mut bench, &owner);
    bench.families()
}

#[test]
fn connections_are_counted_by_what_became_of_them() {
    let mut bench = Bench::new("pod", 100);
    tell_connections(&mut bench, &owner(1, "web-1"));
    let value =
        |name: &str, labels: &str| bench.value(&format!("orb8_tcp_{name}{{pod=web-1{labels}}}"));
    assert_eq!(value("connects_total", ""), Some(1));
    assert_eq!(value("accepts_total", ""), Some(1));
    assert_eq!(value("closes_total", ""), Some(1));
    assert_eq!(value("connect_failures_total", ",errno=ECONNREFUSED"), Some(2));
    assert_eq!(value("connect_failures_total", ",errno=none"), Some(1));
    assert_eq!(value("connect_failures_total", ",errno=other"), Some(1));
    assert_eq!(value("resets_total", ",by=remote"), Some(1));
    assert_eq!(value("resets_total", ",by=local"), Some(0));
    assert_eq!(value("dropped_packets_total", ",reason=NO_SOCKET"), Some(7));
    assert_eq!(value("listener_overflows_total", ""), Some(5));
    assert_eq!(value("retransmitted_segments_total", ""), Some(3));
    let families = bench.families();
    let times = |name: &str| {
        let family = families.iter().find(|family| family.name == name).unwrap();
        let Value::Histogram(times) = &family.samples[0].value else { panic!() };
        Arc::clone(times)
    };
    assert_eq!(times("orb8_tcp_handshake_seconds").count, 1);
    let rtt = times("orb8_tcp_rtt_seconds");
    assert!(rtt.count == 4 && (rtt.sum - 0.006).abs() < 1e-12, "{rtt:?}");
}

#[test]
fn every_traffic_metric_has_a_place_in_the_contract() {
    let mut names = HashSet::new();
    for metric in TRAFFIC {
        assert!(names.insert(metric.name), "{} is there twice", metric.name);
        assert!(metric.name.starts_with("orb8_") && metric.help.ends_with('.'), "{}", metric.name);
        let is_counter = metric.name.ends_with("_total");
        assert_eq!(is_counter, kind_of(metric) == crate::metrics::family::Kind::Counter);
        assert!(metric.labels.len() <= 2);
    }
}
