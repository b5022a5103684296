//! Flow filters: any client may send any protobuf.
//!
//! An input is the length of an encoded `FlowFilter` (a byte), the filter, and an encoded `Flow`.

use orb8_proto::filter::Matcher;
use orb8_proto::v1::{Endpoint, Flow, FlowFilter, Interface, Workload};
use prost::Message;

/// Compiles a filter and applies it to a flow.
pub fn run(data: &[u8]) {
    let Some((&len, rest)) = data.split_first() else {
        return;
    };
    let (filter, flow) = rest.split_at(rest.len().min(len.into()));
    let Ok(filter) = FlowFilter::decode(filter) else {
        return;
    };
    // A flow from a newer peer may have anything in it.
    let flow = Flow::decode(flow).unwrap_or_else(|_| seed_flow());
    let filters = std::slice::from_ref(&filter);
    let Ok(include) = Matcher::new(filters, &[]) else {
        return;
    };
    let exclude = Matcher::new(&[], filters).expect("a filter includes and excludes alike");
    assert_ne!(include.matches(&flow), exclude.matches(&flow), "{filter:?} over {flow:?}");
    let both = Matcher::new(filters, filters).expect("a filter includes and excludes alike");
    assert!(!both.matches(&flow), "excluded, and yet matched: {filter:?} over {flow:?}");
    let twice = Matcher::new(&[filter.clone(), filter], &[]).expect("compiled before");
    assert_eq!(include.matches(&flow), twice.matches(&flow), "a filter twice is the filter");
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
    ];
    let flow = seed_flow().encode_to_vec();
    let seed = |filter: FlowFilter| {
        let mut bytes = filter.encode_to_vec();
        bytes.insert(0, bytes.len() as u8);
        bytes.extend(&flow);
        bytes
    };
    filters.into_iter().map(seed).collect()
}

fn seed_flow() -> Flow {
    let workload = Workload {
        namespace: "shop".into(),
        pod: "cart-7d9f".into(),
        container: "cart".into(),
        container_id: "0123456789abcdef".repeat(4),
        unit: "cart.service".into(),
        ..Default::default()
    };
    let end = |ip: &[u8], port, workload| Endpoint { ip: ip.to_vec(), port, workload };
    Flow {
        source: Some(end(&[10, 1, 0, 9], 40000, Some(workload))),
        destination: Some(end(&[10, 2, 0, 7], 8080, None)),
        protocol: 1,
        ip_protocol: 6,
        direction: 2,
        interface: Some(Interface { index: 2, name: "eth0".into() }),
        local_end: 1,
        ..Default::default()
    }
}
