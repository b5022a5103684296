//! Filters: any client may send any protobuf.
//!
//! An input is the length of an encoded filter (a byte), the filter, and what it is applied to,
//! encoded. Each is read as every signal's.

use std::collections::BTreeMap;
use std::fmt::Debug;

use orb8_proto::filter::{DnsMatcher, FilterError, Matcher, PodMatcher, TcpMatcher};
use orb8_proto::v1::{
    Controller, DnsExchange, DnsFilter, Endpoint, Flow, FlowFilter, Interface, Pod, PodSource,
    ServiceAddress, TcpEvent, TcpEventKind, TcpFilter, Workload,
};
use prost::Message;

/// Compiles filters and applies them.
pub fn run(data: &[u8]) {
    let Some((&len, rest)) = data.split_first() else {
        return;
    };
    let (filter, of) = rest.split_at(rest.len().min(len.into()));
    // What comes from a newer peer may have anything in it.
    let flow = Flow::decode(of).unwrap_or_else(|_| seed_flow());
    check(filter, Matcher::new, |matcher| matcher.matches(&flow));
    let exchange = DnsExchange::decode(of).unwrap_or_default();
    check(filter, DnsMatcher::new, |matcher| matcher.matches(&exchange));
    let mut event = TcpEvent::decode(of).unwrap_or_default();
    if event.kind() == TcpEventKind::State {
        // Told to those who ask for it only: leaving something else out is not asking.
        event.kind = TcpEventKind::Close.into();
    }
    check(filter, TcpMatcher::new, |matcher| matcher.matches(&event));
    let pod = Pod::decode(of).unwrap_or_default();
    check(filter, PodMatcher::new, |matcher| matcher.matches(&pod));
}

/// Whether a filter, where it compiles, is consistent.
fn check<F: Message + Default + Clone + Debug, M>(
    bytes: &[u8],
    compile: impl Fn(&[F], &[F]) -> Result<M, FilterError>,
    matches: impl Fn(&M) -> bool,
) {
    let Ok(filter) = F::decode(bytes) else {
        return;
    };
    let filters = std::slice::from_ref(&filter);
    let Ok(include) = compile(filters, &[]) else {
        return;
    };
    let exclude = compile(&[], filters).expect("a filter includes and excludes alike");
    assert_ne!(matches(&include), matches(&exclude), "{filter:?}");
    let both = compile(filters, filters).expect("a filter includes and excludes alike");
    assert!(!matches(&both), "excluded, and yet matched: {filter:?}");
    let twice = compile(&[filter.clone(), filter], &[]).expect("compiled before");
    assert_eq!(matches(&include), matches(&twice), "a filter twice is the filter");
}

/// Filters of every kind of field, each with a flow that has every field.
pub fn seeds() -> Vec<Vec<u8>> {
    let text = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let filters = [
        FlowFilter::default(),
        FlowFilter { namespace: text(&["shop", "prod-*"]), ..Default::default() },
        FlowFilter { pod: text(&["shop/cart-*", "cart", "shop/"]), ..Default::default() },
        FlowFilter { container: text(&["cart", "0123456789ab"]), ..Default::default() },
        FlowFilter { ip: text(&["10.0.0.0/8", "fd00::/8", "::1"]), ..Default::default() },
        FlowFilter { port: vec![53, 8080], source_port: vec![40000], ..Default::default() },
        FlowFilter { protocol: vec![1, 6], direction: vec![2], ..Default::default() },
        FlowFilter { destination_ip: text(&["10.2.0.7"]), ..Default::default() },
        FlowFilter { label: text(&["app=cart,tier!=db", "!gpu"]), ..Default::default() },
        FlowFilter { label: text(&["app in (cart, web),env notin ()"]), ..Default::default() },
        FlowFilter { source_label: text(&["a.b/c==", "x=,y"]), ..Default::default() },
        FlowFilter { workload: text(&["deploy/cart", "jobs.batch/*"]), ..Default::default() },
        FlowFilter { destination_service: text(&["shop/db", "shop/"]), ..Default::default() },
        FlowFilter { node: text(&["worker-*"]), ..Default::default() },
    ];
    let flow = seed_flow();
    let seed = |filter: FlowFilter| pair(&filter, &flow);
    filters.into_iter().map(seed).chain([seed_dns(), seed_tcp(), seed_pod()]).collect()
}

fn seed_pod() -> Vec<u8> {
    let filter = FlowFilter {
        label: vec!["app in (cart,web),!gpu".into()],
        workload: vec!["deployments.apps/cart".into()],
        ip: vec!["10.1.0.0/16".into()],
        ..Default::default()
    };
    let pod = Pod {
        name: "cart-7d9f".into(),
        labels: labels(),
        controller: Some(controller()),
        ips: vec![vec![10, 1, 0, 9]],
        sources: vec![PodSource::Api.into()],
        ..Default::default()
    };
    pair(&filter, &pod)
}

fn labels() -> BTreeMap<String, String> {
    [("app", "cart"), ("a.b/c", "")].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn controller() -> Controller {
    Controller { kind: "Deployment".into(), name: "cart".into() }
}

fn seed_dns() -> Vec<u8> {
    let filter = DnsFilter {
        name: vec!["*.svc".into(), "a*b*.example".into()],
        rcode: vec!["NXDOMAIN".into(), "5".into()],
        query_type: vec!["AAAA".into()],
        min_latency_ns: Some(1),
        ..Default::default()
    };
    let exchange = DnsExchange {
        name: "web.ml.svc.cluster.local".into(),
        query_type: 28,
        outcome: 1,
        rcode: Some(3),
        latency_ns: 5,
        ..Default::default()
    };
    pair(&filter, &exchange)
}

fn seed_tcp() -> Vec<u8> {
    let filter = TcpFilter {
        kind: vec![TcpEventKind::Drop.into()],
        reason: vec!["NO_*".into()],
        ..Default::default()
    };
    let kind = TcpEventKind::Drop.into();
    pair(&filter, &TcpEvent { kind, reason: "NO_SOCKET".into(), ..Default::default() })
}

fn pair(filter: &impl Message, of: &impl Message) -> Vec<u8> {
    let mut bytes = filter.encode_to_vec();
    bytes.insert(0, bytes.len() as u8);
    bytes.extend(of.encode_to_vec());
    bytes
}

fn seed_flow() -> Flow {
    let workload = Workload {
        namespace: "shop".into(),
        pod: "cart-7d9f".into(),
        container: "cart".into(),
        container_id: "0123456789abcdef".repeat(4),
        unit: "cart.service".into(),
        labels: labels(),
        controller: Some(controller()),
        node_name: "worker-1".into(),
        ..Default::default()
    };
    let service =
        Some(ServiceAddress { namespace: "shop".into(), name: "db".into(), ..Default::default() });
    let end = |ip: &[u8], port, workload| Endpoint {
        ip: ip.to_vec(),
        port,
        workload,
        ..Default::default()
    };
    Flow {
        source: Some(end(&[10, 1, 0, 9], 40000, Some(workload))),
        destination: Some(Endpoint { service, ..end(&[10, 2, 0, 7], 8080, None) }),
        protocol: 1,
        ip_protocol: 6,
        direction: 2,
        interface: Some(Interface { index: 2, name: "eth0".into() }),
        local_end: 1,
        ..Default::default()
    }
}
