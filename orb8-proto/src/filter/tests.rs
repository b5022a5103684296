use std::net::IpAddr;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{End, FilterError, FlowFields, Matcher, Problem};
use crate::v1::{Direction, Endpoint, Flow, FlowFilter, Interface, Protocol, Workload};

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn pod(namespace: &str, pod: &str, container: &str) -> Workload {
    Workload {
        namespace: namespace.into(),
        pod: pod.into(),
        container: container.into(),
        container_id: "3f2a9c01d4e5b6a7988776655443322110ffeeddccbbaa998877665544332211".into(),
        ..Workload::default()
    }
}

fn endpoint(ip: &str, port: u32, workload: Option<Workload>) -> Endpoint {
    let ip = match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    Endpoint { ip, port, workload, ..Endpoint::default() }
}

/// `ml/trainer-0` talks HTTPS to `web/front-1`, seen at the client.
fn flow() -> Flow {
    Flow {
        source: Some(endpoint("10.0.0.5", 51_000, Some(pod("ml", "trainer-0", "main")))),
        destination: Some(endpoint("10.0.1.7", 443, Some(pod("web", "front-1", "nginx")))),
        protocol: Protocol::Tcp.into(),
        direction: Direction::Egress.into(),
        interface: Some(Interface { index: 2, name: "eth0".into() }),
        ..Flow::default()
    }
}

fn matches(filter: FlowFilter) -> bool {
    Matcher::new(&[filter], &[]).unwrap().matches(&flow())
}

#[test]
fn nothing_set_matches_everything() {
    let all = Matcher::new(&[], &[]).unwrap();
    assert!(all.is_empty());
    assert!(all.matches(&flow()));
    assert!(matches(FlowFilter::default()));
}

#[test]
fn a_field_is_any_of_its_values() {
    assert!(matches(FlowFilter { pod: strings(&["x", "trainer-0"]), ..Default::default() }));
    assert!(!matches(FlowFilter { pod: strings(&["x", "y"]), ..Default::default() }));
}

#[test]
fn a_filter_is_all_of_its_fields() {
    let both =
        |port| FlowFilter { pod: strings(&["trainer-0"]), port: vec![port], ..Default::default() };
    assert!(matches(both(443)), "a port may match at the other end");
    assert!(!matches(both(80)));
}

#[test]
fn an_owner_is_one_end() {
    let owner = |namespace: &str, pod: &str| FlowFilter {
        namespace: strings(&[namespace]),
        pod: strings(&[pod]),
        ..Default::default()
    };
    assert!(matches(owner("ml", "trainer-0")));
    assert!(!matches(owner("web", "trainer-0")));
}

#[test]
fn sides_are_kept_apart() {
    assert!(matches(FlowFilter { source_port: vec![51_000], ..Default::default() }));
    assert!(!matches(FlowFilter { source_port: vec![443], ..Default::default() }));
    assert!(matches(FlowFilter {
        destination_ip: strings(&["10.0.1.0/24"]),
        ..Default::default()
    }));
    assert!(!matches(FlowFilter { source_ip: strings(&["10.0.1.0/24"]), ..Default::default() }));
    assert!(matches(FlowFilter { source_pod: strings(&["ml/train*"]), ..Default::default() }));
    assert!(!matches(FlowFilter { destination_pod: strings(&["ml/"]), ..Default::default() }));
    assert!(matches(FlowFilter {
        destination_container: strings(&["nginx"]),
        ..Default::default()
    }));
    assert!(matches(FlowFilter { destination_namespace: strings(&["w*"]), ..Default::default() }));
}

#[test]
fn names_match_exactly_or_as_prefixes() {
    for (value, expected) in
        [("trainer-0", true), ("trainer", false), ("trainer*", true), ("*", true), ("web/*", true)]
    {
        assert_eq!(matches(FlowFilter { pod: strings(&[value]), ..Default::default() }), expected);
    }
}

#[test]
fn a_container_is_found_by_name_or_id() {
    for (value, expected) in [
        ("main", true),
        ("3f2a9c01d4e5", true),
        ("3f2a9c01d4", false),
        ("3f2a*", false),
        ("3f2a9c01d4e5*", true),
        ("ffffffffffff", false),
    ] {
        let filter = FlowFilter { source_container: strings(&[value]), ..Default::default() };
        assert_eq!(matches(filter), expected, "{value}");
    }
}

#[test]
fn an_absent_owner_matches_no_name() {
    let mut flow = flow();
    flow.source.as_mut().unwrap().workload = None;
    let filter = FlowFilter { source_namespace: strings(&["*"]), ..Default::default() };
    assert!(!Matcher::new(&[filter], &[]).unwrap().matches(&flow));
}

#[test]
fn the_rest_of_the_fields() {
    assert!(matches(FlowFilter { protocol: vec![Protocol::Tcp.into()], ..Default::default() }));
    assert!(!matches(FlowFilter { protocol: vec![Protocol::Udp.into()], ..Default::default() }));
    assert!(!matches(FlowFilter {
        direction: vec![Direction::Ingress.into()],
        ..Default::default()
    }));
    assert!(matches(FlowFilter { ip_version: vec![4], ..Default::default() }));
    assert!(!matches(FlowFilter { ip_version: vec![6], ..Default::default() }));
    assert!(matches(FlowFilter { ip_version: vec![6, 4], ..Default::default() }));
    assert!(matches(FlowFilter { interface: strings(&["eth*"]), ..Default::default() }));
    assert!(!matches(FlowFilter { unit: strings(&["*"]), ..Default::default() }));
}

#[test]
fn a_mapped_address_is_ipv4() {
    let mut flow = flow();
    flow.source = Some(endpoint("::ffff:10.0.0.5", 1, None));
    for value in ["10.0.0.5", "::ffff:10.0.0.5", "::ffff:10.0.0.0/104"] {
        let filter = FlowFilter { source_ip: strings(&[value]), ..Default::default() };
        assert!(Matcher::new(&[filter], &[]).unwrap().matches(&flow), "{value}");
    }
}

#[test]
fn a_flow_without_ports_matches_none() {
    let mut flow = flow();
    flow.protocol = Protocol::Icmp.into();
    assert_eq!(flow.port(End::Destination), None);
    flow.protocol = Protocol::Tcp.into();
    flow.fragment = true;
    assert_eq!(flow.port(End::Destination), None);
}

#[test]
fn bad_values_are_named() {
    let error = |filter: FlowFilter| Matcher::new(&[filter], &[]).unwrap_err().to_string();
    let cases = [
        (
            FlowFilter { source_ip: strings(&["10.0.0.0/33"]), ..Default::default() },
            "source_ip: `10.0.0.0/33` is neither an address nor a prefix like 10.0.0.0/8",
        ),
        (
            FlowFilter { port: vec![70_000], ..Default::default() },
            "port: 70000 is not a port (1 to 65535)",
        ),
        (
            FlowFilter { pod: strings(&["a*b"]), ..Default::default() },
            "pod: `a*b` has a `*` that is not at its end",
        ),
        (
            FlowFilter { source_pod: strings(&["a/b/c"]), ..Default::default() },
            "source_pod: `a/b/c` is neither NAME nor NAMESPACE/NAME like shop/web",
        ),
        (
            FlowFilter { node: strings(&["Node 1"]), ..Default::default() },
            "node: `Node 1` is no name in Kubernetes: those are lower-case letters and digits, with \
             `-` and `.` between them",
        ),
        (
            FlowFilter { destination_namespace: strings(&["a b"]), ..Default::default() },
            "destination_namespace: `a b` is no name in Kubernetes: those are lower-case letters and \
             digits, with `-` and `.` between them",
        ),
        (
            FlowFilter { unit: strings(&[""]), ..Default::default() },
            "unit: a name must not be empty",
        ),
        (
            FlowFilter { protocol: vec![99], ..Default::default() },
            "protocol: 99 is none of its values",
        ),
        (
            FlowFilter { ip_version: vec![5], ..Default::default() },
            "ip_version: 5 is neither 4 nor 6",
        ),
    ];
    for (filter, message) in cases {
        assert_eq!(error(filter), message);
    }
    let unspecified = FlowFilter { direction: vec![0], ..Default::default() };
    assert_eq!(
        Matcher::new(&[], &[unspecified]),
        Err(FilterError { field: "direction", problem: Problem::NotAValue(0) })
    );
}

fn any_name() -> impl Strategy<Value = String> {
    select(vec!["a", "ab", "b", "a*", "*", "kube-system"]).prop_map(str::to_owned)
}

fn any_workload() -> impl Strategy<Value = Option<Workload>> {
    let name = || select(vec!["", "a", "ab", "b", "kube-system"]).prop_map(str::to_owned);
    let labels = btree_map(name(), name(), 0..3);
    let names = (name(), name(), name(), name(), name());
    option::of((names, labels).prop_map(
        |((namespace, pod, container, unit, node_name), labels)| Workload {
            namespace,
            pod,
            container,
            unit,
            node_name,
            labels,
            ..Workload::default()
        },
    ))
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let ip = select(vec!["10.0.0.1", "10.1.0.1", "fd00::1", "::ffff:10.0.0.1"]);
    (ip, select(vec![53_u32, 80, 443]), any_workload())
        .prop_map(|(ip, port, workload)| endpoint(ip, port, workload))
}

prop_compose! {
    fn any_flow()(
        source in option::of(any_endpoint()),
        destination in option::of(any_endpoint()),
        protocol in 0..7_i32,
        direction in 0..3_i32,
    ) -> Flow {
        Flow { source, destination, protocol, direction, ..Flow::default() }
    }
}

prop_compose! {
    fn any_filter()(
        namespace in vec(any_name(), 0..2),
        pod in vec(any_name(), 0..2),
        source_pod in vec(any_name(), 0..2),
        ip in vec(select(vec!["10.0.0.0/16", "10.0.0.1", "fd00::/8"]).prop_map(str::to_owned), 0..2),
        destination_port in vec(select(vec![53_u32, 443]), 0..2),
        protocol in vec(1..7_i32, 0..2),
        direction in vec(1..3_i32, 0..2),
        ip_version in vec(select(vec![4_u32, 6]), 0..2),
        label in vec(select(vec!["a", "!a", "a!=b", "a in (a,b)"]).prop_map(str::to_owned), 0..2),
        node in vec(any_name(), 0..2),
    ) -> FlowFilter {
        FlowFilter {
            namespace, pod, source_pod, ip, destination_port, protocol, direction, ip_version,
            label, node,
            ..FlowFilter::default()
        }
    }
}

fn swapped(flow: &Flow) -> Flow {
    Flow { source: flow.destination.clone(), destination: flow.source.clone(), ..flow.clone() }
}

proptest! {
    #[test]
    fn include_is_or_and_exclude_drops(
        flow in any_flow(),
        include in vec(any_filter(), 0..3),
        exclude in vec(any_filter(), 0..3),
    ) {
        let alone = |filter: &FlowFilter| {
            Matcher::new(std::slice::from_ref(filter), &[]).unwrap().matches(&flow)
        };
        let expected = (include.is_empty() || include.iter().any(alone)) && !exclude.iter().any(alone);
        prop_assert_eq!(Matcher::new(&include, &exclude).unwrap().matches(&flow), expected);
    }

    #[test]
    fn one_more_field_never_matches_more(flow in any_flow(), filter in any_filter()) {
        let with = Matcher::new(std::slice::from_ref(&filter), &[]).unwrap();
        let without = FlowFilter { protocol: Vec::new(), namespace: Vec::new(), ..filter };
        let without = Matcher::new(&[without], &[]).unwrap();
        prop_assert!(!with.matches(&flow) || without.matches(&flow));
    }

    #[test]
    fn one_more_value_never_matches_less(flow in any_flow(), filter in any_filter(), pod in any_name()) {
        prop_assume!(!filter.pod.is_empty());
        let narrow = Matcher::new(std::slice::from_ref(&filter), &[]).unwrap();
        let mut wide = filter;
        wide.pod.push(pod);
        let wide = Matcher::new(&[wide], &[]).unwrap();
        prop_assert!(!narrow.matches(&flow) || wide.matches(&flow));
    }

    #[test]
    fn fields_without_a_side_do_not_see_sides(flow in any_flow(), filter in any_filter()) {
        let filter = FlowFilter {
            source_pod: Vec::new(),
            destination_port: Vec::new(),
            ..filter
        };
        let matcher = Matcher::new(&[filter], &[]).unwrap();
        prop_assert_eq!(matcher.matches(&flow), matcher.matches(&swapped(&flow)));
    }

    #[test]
    fn a_prefix_matches_what_starts_with_it(name in "[a-z]{1,8}", length in 0_usize..8) {
        let length = length.min(name.len());
        let mut flow = flow();
        flow.source.as_mut().unwrap().workload.as_mut().unwrap().pod = name.clone();
        let filter = FlowFilter { source_pod: vec![format!("{}*", &name[..length])], ..Default::default() };
        prop_assert!(Matcher::new(&[filter], &[]).unwrap().matches(&flow));
    }

    #[test]
    fn an_address_is_in_each_of_its_prefixes(bits: u128, length in 0_u8..=128) {
        let addr = std::net::Ipv6Addr::from(bits);
        let mut flow = flow();
        flow.source = Some(endpoint(&addr.to_string(), 1, None));
        let value = format!("{addr}/{length}");
        let filter = FlowFilter { source_ip: vec![value], ..Default::default() };
        prop_assert!(Matcher::new(&[filter], &[]).unwrap().matches(&flow));
    }

    #[test]
    fn no_filter_makes_compiling_panic(
        pod in vec(".*", 0..3), ip in vec(".*", 0..3), port in vec(any::<u32>(), 0..3),
        protocol in vec(any::<i32>(), 0..3), ip_version in vec(any::<u32>(), 0..3),
    ) {
        let filter = FlowFilter { pod, ip, port, protocol, ip_version, ..FlowFilter::default() };
        if let Ok(matcher) = Matcher::new(&[filter], &[]) {
            matcher.matches(&flow());
        }
    }
}
