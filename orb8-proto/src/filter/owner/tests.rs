use crate::filter::{End, FlowFields, Matcher};
use crate::v1::{Controller, Endpoint, Flow, FlowFilter, ServiceAddress, Workload};

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn pod(name: &str, node: &str, controller: (&str, &str), labels: &[(&str, &str)]) -> Workload {
    let pairs = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Workload {
        namespace: "shop".into(),
        pod: name.into(),
        node_name: node.into(),
        controller: Some(Controller { kind: controller.0.into(), name: controller.1.into() }),
        labels: pairs.collect(),
        ..Workload::default()
    }
}

/// `shop/front-1` talks to the Service `shop/web`, for which `shop/web-7d4f` of another node answers.
fn flow() -> Flow {
    let front = pod("front-1", "worker-1", ("Deployment", "front"), &[("app", "front")]);
    let web = pod("web-7d4f", "worker-2", ("ReplicaSet", "web"), &[("app", "web"), ("gpu", "")]);
    let service =
        ServiceAddress { namespace: "shop".into(), name: "web".into(), ..Default::default() };
    let end =
        |workload, service| Endpoint { workload: Some(workload), service, ..Default::default() };
    Flow {
        source: Some(end(front, None)),
        destination: Some(end(web, Some(service))),
        ..Flow::default()
    }
}

/// The same client talks to somebody outside, to a node, and to a Service that nobody answers for.
fn outside() -> Flow {
    Flow { destination: Some(Endpoint::default()), ..flow() }
}

fn to_node() -> Flow {
    let node = Endpoint { node: "worker-3".into(), ..Endpoint::default() };
    Flow { destination: Some(node), ..flow() }
}

fn unanswered() -> Flow {
    let mut flow = flow();
    flow.destination.as_mut().unwrap().workload = None;
    flow
}

fn wants(filter: FlowFilter, flow: &Flow) -> bool {
    Matcher::new(&[filter], &[]).unwrap().matches(flow)
}

#[test]
fn a_service_and_who_answered_are_one_end() {
    let all = FlowFilter::default;
    let filter = FlowFilter {
        namespace: strings(&["shop"]),
        service: strings(&["web"]),
        pod: strings(&["web-*"]),
        workload: strings(&["rs/web"]),
        label: strings(&["app=web"]),
        node: strings(&["worker-2"]),
        ..all()
    };
    assert!(wants(filter.clone(), &flow()));
    assert!(!wants(FlowFilter { node: strings(&["worker-1"]), ..filter.clone() }, &flow()));
    assert!(!wants(FlowFilter { label: strings(&["app=front"]), ..filter }, &flow()));
    for service in ["web", "shop/web", "shop/", "sh*/w*"] {
        let to = FlowFilter { destination_service: strings(&[service]), ..all() };
        assert!(wants(to.clone(), &flow()) && wants(to.clone(), &unanswered()), "{service}");
        assert!(!wants(to, &outside()), "{service}");
        assert!(!wants(FlowFilter { source_service: strings(&[service]), ..all() }, &flow()));
    }
}

#[test]
fn the_namespace_is_the_pods_or_else_the_services() {
    let in_shop = FlowFilter { destination_namespace: strings(&["shop"]), ..Default::default() };
    assert!(wants(in_shop.clone(), &flow()) && wants(in_shop.clone(), &unanswered()));
    assert!(!wants(in_shop, &outside()));
    let mut elsewhere = flow();
    elsewhere.destination.as_mut().unwrap().service.as_mut().unwrap().namespace = "ops".into();
    assert_eq!(elsewhere.namespace(End::Destination), Some("shop"));
}

#[test]
fn a_selector_never_matches_who_has_no_labels() {
    let to =
        |label: &str| FlowFilter { destination_label: strings(&[label]), ..Default::default() };
    for absent in ["!app", "app!=front", "tier notin (db)", "tier!=db,!canary"] {
        assert_eq!(wants(to(absent), &flow()), absent != "!app", "{absent}");
        for other in [outside(), to_node(), unanswered()] {
            assert!(!wants(to(absent), &other), "{absent}");
        }
    }
    let mut unknown = flow();
    let workload = unknown.destination.as_mut().unwrap().workload.as_mut().unwrap();
    *workload = Workload { namespace: "shop".into(), pod: "new".into(), ..Workload::default() };
    assert!(!wants(to("!app"), &unknown), "the API has not told its labels");
    unknown.destination.as_mut().unwrap().workload.as_mut().unwrap().node_name = "worker-2".into();
    assert!(wants(to("!app"), &unknown), "it has none");
}

#[test]
fn a_field_is_any_of_its_selectors() {
    let filter =
        |labels: &[&str]| FlowFilter { source_label: strings(labels), ..Default::default() };
    assert!(wants(filter(&["app=web", "app=front"]), &flow()));
    assert!(!wants(filter(&["app=web,app=front"]), &flow()));
    let either = FlowFilter { label: strings(&["gpu"]), ..Default::default() };
    assert!(wants(either, &flow()), "the destination has it");
}

#[test]
fn a_node_is_where_a_pod_runs_or_whose_address_it_is() {
    let to = |node: &str| FlowFilter { destination_node: strings(&[node]), ..Default::default() };
    assert!(wants(to("worker-2"), &flow()) && !wants(to("worker-2"), &to_node()));
    assert!(wants(to("worker-*"), &to_node()) && !wants(to("*"), &outside()));
    let from = FlowFilter { source_node: strings(&["worker-1"]), ..Default::default() };
    assert!(wants(from, &to_node()));
}

#[test]
fn a_workload_is_told_by_its_side() {
    let filter = |source: &str, destination: &str| FlowFilter {
        source_workload: strings(&[source]),
        destination_workload: strings(&[destination]),
        ..Default::default()
    };
    assert!(wants(filter("deploy/front", "web"), &flow()));
    assert!(!wants(filter("web", "deploy/front"), &flow()));
    assert!(!wants(filter("front", "*"), &outside()));
}
