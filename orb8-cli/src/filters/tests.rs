use orb8_proto::v1::{
    Direction, DnsFilter, DnsOutcome, DnsSide, FlowFilter, Protocol, TcpEventKind, TcpFilter,
    TcpState,
};

use super::{
    Connections, DnsExchanges, DnsSummaries, FilterArgs, FilterKind, Flows, FromArgMatches,
    TcpEvents,
};

fn try_parse_as<K: FilterKind>(line: &str) -> Result<FilterArgs<K>, String> {
    let command = <FilterArgs<K> as clap::Args>::augment_args(clap::Command::new("test"));
    let args = std::iter::once("test").chain(line.split_whitespace());
    let matches = command.try_get_matches_from(args).map_err(|error| error.to_string())?;
    FilterArgs::from_arg_matches(&matches).map_err(|error| error.to_string())
}

fn try_parse(line: &str) -> Result<FilterArgs<Flows>, String> {
    try_parse_as(line)
}

fn parse(line: &str) -> FilterArgs<Flows> {
    try_parse(line).unwrap()
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn no_flags_filter_nothing() {
    for line in ["", "-A", "--all-namespaces"] {
        let filters = parse(line);
        assert!(filters.include.is_empty() && filters.exclude.is_empty());
    }
    assert!(try_parse("-A -n ml").unwrap_err().contains("cannot be used with"));
}

#[test]
fn flags_are_anded_and_values_are_ored() {
    let filters = parse("-n ml --pod a --pod b,c --port 443 --protocol TCP --direction egress -4");
    let expected = FlowFilter {
        namespace: texts(&["ml"]),
        pod: texts(&["a", "b", "c"]),
        port: vec![443],
        protocol: vec![Protocol::Tcp.into()],
        direction: vec![Direction::Egress.into()],
        ip_version: vec![4],
        ..FlowFilter::default()
    };
    assert_eq!(filters.include, [expected]);
    assert!(filters.exclude.is_empty());
}

#[test]
fn sides_have_flags_of_their_own() {
    let filters = parse(
        "--from-namespace a --from-pod b --from-container c --from-ip 10.0.0.1 --from-port 1 \
         --to-namespace d --to-pod e --to-container f --to-ip fd00::/8 --to-port 2 \
         --container g --unit h --ip 10.0.0.0/8 --interface eth*",
    );
    let expected = FlowFilter {
        source_namespace: texts(&["a"]),
        source_pod: texts(&["b"]),
        source_container: texts(&["c"]),
        source_ip: texts(&["10.0.0.1"]),
        source_port: vec![1],
        destination_namespace: texts(&["d"]),
        destination_pod: texts(&["e"]),
        destination_container: texts(&["f"]),
        destination_ip: texts(&["fd00::/8"]),
        destination_port: vec![2],
        container: texts(&["g"]),
        unit: texts(&["h"]),
        ip: texts(&["10.0.0.0/8"]),
        interface: texts(&["eth*"]),
        ..FlowFilter::default()
    };
    assert_eq!(filters.include, [expected]);
}

#[test]
fn not_negates_the_next_flag_only() {
    let filters = parse("--pod a --not --pod b --pod c --not --port 53,123 -6");
    let include =
        FlowFilter { pod: texts(&["a", "c"]), ip_version: vec![6], ..FlowFilter::default() };
    let exclude = [
        FlowFilter { pod: texts(&["b"]), ..FlowFilter::default() },
        FlowFilter { port: vec![53, 123], ..FlowFilter::default() },
    ];
    assert_eq!(filters.include, [include]);
    assert_eq!(filters.exclude, exclude);
}

#[test]
fn not_negates_flags_without_values_and_with_equals_signs() {
    let filters = parse("--not -6 --not --port=53 --port=80");
    assert_eq!(filters.include, [FlowFilter { port: vec![80], ..FlowFilter::default() }]);
    let exclude = [
        FlowFilter { ip_version: vec![6], ..FlowFilter::default() },
        FlowFilter { port: vec![53], ..FlowFilter::default() },
    ];
    assert_eq!(filters.exclude, exclude);
}

#[test]
fn not_needs_a_filter() {
    for line in ["--not", "--pod a --not", "--not --not --pod a"] {
        let error = try_parse(line).unwrap_err();
        assert!(error.contains("--not negates the next filter"), "{error}");
    }
}

#[test]
fn ports_have_names() {
    assert_eq!(parse("--port https,6443").include[0].port, [443, 6443]);
    assert_eq!(parse("--port http-alt").include[0].port, [8008, 8080]);
}

#[test]
fn bad_values_are_named_with_their_flag() {
    for (line, expected) in [
        (
            "--from-ip 10.0.0.0/33",
            "'10.0.0.0/33' for '--from-ip <ADDRESS>': `10.0.0.0/33` is neither",
        ),
        ("--port 70000", "'70000' for '--port <PORT>': 70000 is not a port (1 to 65535)"),
        ("--port nonsense", "neither a port (1 to 65535) nor the name of a well-known one"),
        ("--pod a*b", "has a `*` that is not at its end"),
        ("--protocol tpc", "[possible values: tcp, udp, icmp, icmpv6, sctp, other]"),
        ("--direction up", "[possible values: ingress, egress]"),
    ] {
        let error = try_parse(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn dns_flags_go_with_those_of_flows() {
    let filters = try_parse_as::<DnsExchanges>(
        "--name *.svc,API.* --type A,65 --rcode nxdomain --outcome timeout --side client --slow 50ms \
         -n ml --not --name a.b --not --to-ip 10.0.0.1",
    )
    .unwrap();
    let expected = DnsFilter {
        flow: Some(FlowFilter { namespace: texts(&["ml"]), ..FlowFilter::default() }),
        name: texts(&["*.svc", "API.*"]),
        rcode: texts(&["nxdomain"]),
        query_type: texts(&["A", "65"]),
        outcome: vec![DnsOutcome::Timeout.into()],
        side: vec![DnsSide::Client.into()],
        min_latency_ns: Some(50_000_000),
    };
    assert_eq!(filters.include, [expected]);
    let address = FlowFilter { destination_ip: texts(&["10.0.0.1"]), ..FlowFilter::default() };
    let exclude = [
        DnsFilter { name: texts(&["a.b"]), ..DnsFilter::default() },
        DnsFilter { flow: Some(address), ..DnsFilter::default() },
    ];
    assert_eq!(filters.exclude, exclude);
}

#[test]
fn tcp_flags_go_with_those_of_flows() {
    let filters = try_parse_as::<TcpEvents>(
        "--events connect,Reset --event drop --reason NETFILTER* --state syn-sent --slow 1s --pod a",
    )
    .unwrap();
    let kinds =
        [TcpEventKind::Connect, TcpEventKind::Fail, TcpEventKind::Reset, TcpEventKind::Drop];
    let expected = TcpFilter {
        flow: Some(FlowFilter { pod: texts(&["a"]), ..FlowFilter::default() }),
        kind: kinds.map(i32::from).to_vec(),
        min_latency_ns: Some(1_000_000_000),
        reason: texts(&["NETFILTER*"]),
        state: vec![TcpState::SynSent.into()],
    };
    assert_eq!(filters.include, [expected]);
}

#[test]
fn lists_lack_what_only_streams_have() {
    for line in ["--ip 10.0.0.1", "--port 53", "--from-pod a"] {
        assert!(try_parse_as::<DnsSummaries>(line).unwrap_err().contains("unexpected argument"));
    }
    for line in ["--events close", "--reason A", "--interface eth0"] {
        assert!(try_parse_as::<Connections>(line).unwrap_err().contains("unexpected argument"));
    }
}

#[test]
fn bad_values_of_dns_and_tcp_are_named_with_their_flag() {
    let dns = |line| try_parse_as::<DnsExchanges>(line).unwrap_err();
    let tcp = |line| try_parse_as::<TcpEvents>(line).unwrap_err();
    for (error, expected) in [
        (dns("--rcode NXDOMAIM"), "'NXDOMAIM' for '--rcode <RCODE>': `NXDOMAIM` is not a response"),
        (dns("--type AAAAA"), "'AAAAA' for '--type <TYPE>': `AAAAA` is not a record type"),
        (dns("--name="), "'--name <PATTERN>"),
        (dns("--slow fast"), "'fast' for '--slow <DURATION>': give a duration"),
        (dns("--slow 50"), "the unit is missing"),
        (dns("--side middle"), "[possible values: client, server, transit]"),
        (dns("--outcome lost"), "[possible values: answered, timeout, unasked, malformed]"),
        (tcp("--events open"), "[possible values: connect, accept, fail, close, retransmit,"),
        (tcp("--state open"), "[possible values: established, syn-sent,"),
        (tcp("--reason A*B"), "has a `*` that is not at its end"),
    ] {
        assert!(error.contains(expected), "{error}");
    }
}
