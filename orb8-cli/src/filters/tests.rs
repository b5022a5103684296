use orb8_proto::v1::{Direction, FlowFilter, Protocol};

use super::{FilterArgs, FromArgMatches};

fn try_parse(line: &str) -> Result<FilterArgs, String> {
    let command = <FilterArgs as clap::Args>::augment_args(clap::Command::new("test"));
    let args = std::iter::once("test").chain(line.split_whitespace());
    let matches = command.try_get_matches_from(args).map_err(|error| error.to_string())?;
    FilterArgs::from_arg_matches(&matches).map_err(|error| error.to_string())
}

fn parse(line: &str) -> FilterArgs {
    try_parse(line).unwrap()
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn no_flags_filter_nothing() {
    assert_eq!(parse(""), FilterArgs::default());
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
    assert_eq!(filters, FilterArgs { include: vec![expected], exclude: vec![] });
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
