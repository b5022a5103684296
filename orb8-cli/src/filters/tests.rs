use orb8_proto::v1::{
    Direction, DnsFilter, DnsOutcome, DnsSide, FlowFilter, Protocol, TcpEventKind, TcpFilter,
    TcpState,
};

use super::{
    Connections, DnsExchanges, DnsSummaries, FilterArgs, FilterKind, Flows, FromArgMatches, Pods,
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
fn who_it_is_has_flags_for_each_side() {
    let filters = parse(
        "-l app=web,tier!=db --selector gpu --label !x --workload deploy/web,job/ --service shop/db,web \
         --node a,b --from-selector c=d --from-label e --from-workload f --from-service g \
         --from-node h --to-selector i,j --to-workload k --to-service l/ --to-node m*",
    );
    let expected = FlowFilter {
        label: texts(&["app=web,tier!=db", "gpu", "!x"]),
        workload: texts(&["deploy/web", "job/"]),
        service: texts(&["shop/db", "web"]),
        node: texts(&["a", "b"]),
        source_label: texts(&["c=d", "e"]),
        source_workload: texts(&["f"]),
        source_service: texts(&["g"]),
        source_node: texts(&["h"]),
        destination_label: texts(&["i,j"]),
        destination_workload: texts(&["k"]),
        destination_service: texts(&["l/"]),
        destination_node: texts(&["m*"]),
        ..FlowFilter::default()
    };
    assert_eq!(filters.include, [expected]);
    let filters = parse("--not -l a,b -l c");
    assert_eq!(filters.exclude[0].label, ["a,b"]);
    assert_eq!(filters.include[0].label, ["c"]);
}

#[test]
fn pods_are_filtered_by_what_they_are() {
    let filters = try_parse_as::<Pods>(
        "-n shop --pod web* -l app --workload sts/db --node a --ip fd00::/8 --container main",
    )
    .unwrap();
    assert_eq!(filters.include[0].ip, ["fd00::/8"]);
}

#[test]
fn pods_say_what_they_lack() {
    for (line, flag) in [
        ("--port 53", "'--port <PORT>'"),
        ("--from-pod a", "'--from-pod <[NS/]NAME>'"),
        ("--to-label a=b", "'--to-selector <SELECTOR>'"),
        ("--protocol tcp", "'--protocol <PROTOCOL>'"),
        ("--not --service a", "'--service <[NS/]NAME>'"),
        ("--unit a", "'--unit <NAME>'"),
        ("--interface a", "'--interface <NAME>'"),
        ("-4", "'--ipv4'"),
    ] {
        let error = try_parse_as::<Pods>(line).unwrap_err();
        let expected = "pods have no such thing; it filters their traffic";
        assert!(error.contains(&format!("for {flag}: {expected}")), "{line}: {error}");
    }
    let mut help = <FilterArgs<Pods> as clap::Args>::augment_args(clap::Command::new("test"));
    assert!(!help.render_long_help().to_string().contains("--port"));
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
        ("-l app=web*", "'app=web*' for '--selector <SELECTOR>': `app=web*` is no label selector"),
        ("--to-label a=b=c", "`,` or the end must stand where `=` does"),
        ("--workload a/b/c", "`a/b/c` is neither NAME nor KIND/NAME like deploy/web"),
        ("--service shop/a*b", "has a `*` that is not at its end"),
        (
            "--pod a/b/c",
            "'a/b/c' for '--pod <[NS/]NAME>': `a/b/c` is neither NAME nor NAMESPACE/NAME",
        ),
        (
            "--to-namespace Shop",
            "'Shop' for '--to-namespace <NAME>': `Shop` is no name in Kubernetes",
        ),
        ("--node a_b*", "`a_b*` is no name in Kubernetes"),
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
    for line in ["--ip 10.0.0.1", "--port 53", "--from-port 53", "--service a", "-6"] {
        let error = try_parse_as::<DnsSummaries>(line).unwrap_err();
        assert!(error.contains("summaries have no such thing; it filters streams only"), "{error}");
    }
    for line in ["--events close", "--reason A", "--interface eth0"] {
        let error = try_parse_as::<Connections>(line).unwrap_err();
        assert!(error.contains("connections have no such thing; it filters streams"), "{error}");
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
