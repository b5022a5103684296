use super::*;
use crate::v1::{Container, Controller, Pod, PodSource};

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn web() -> Pod {
    let container = |name: &str, id: &str| Container {
        name: name.into(),
        id: id.repeat(64),
        ..Container::default()
    };
    Pod {
        namespace: "shop".into(),
        name: "web-7d4f".into(),
        node_name: "worker-1".into(),
        controller: Some(Controller { kind: "Deployment".into(), name: "web".into() }),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ips: vec![vec![10, 1, 0, 7], vec![0xfd; 16]],
        containers: vec![container("nginx", "a"), container("proxy", "b")],
        sources: vec![PodSource::Api.into()],
        ..Pod::default()
    }
}

fn wants(filter: FlowFilter) -> bool {
    PodMatcher::new(&[filter], &[]).unwrap().matches(&web())
}

#[test]
fn a_pod_is_wanted_by_all_that_it_is() {
    let all = FlowFilter::default;
    for (filter, expected) in [
        (all(), true),
        (FlowFilter { namespace: strings(&["shop"]), ..all() }, true),
        (FlowFilter { pod: strings(&["ops/", "shop/web-*"]), ..all() }, true),
        (FlowFilter { pod: strings(&["web"]), ..all() }, false),
        (FlowFilter { label: strings(&["app=web,!tier"]), ..all() }, true),
        (FlowFilter { label: strings(&["!app"]), ..all() }, false),
        (FlowFilter { workload: strings(&["deploy/web"]), ..all() }, true),
        (FlowFilter { workload: strings(&["pod/web-7d4f"]), ..all() }, true),
        (FlowFilter { node: strings(&["worker-2"]), ..all() }, false),
        (FlowFilter { ip: strings(&["10.1.0.0/16"]), ..all() }, true),
        (FlowFilter { ip: strings(&["fd00::/8"]), ..all() }, true),
        (FlowFilter { ip: strings(&["10.2.0.0/16"]), ..all() }, false),
        (FlowFilter { container: strings(&["proxy"]), ..all() }, true),
        (FlowFilter { container: strings(&["bbbbbbbbbbbb"]), ..all() }, true),
        (FlowFilter { container: strings(&["cccccccccccc"]), ..all() }, false),
        (FlowFilter { namespace: strings(&["shop"]), node: strings(&["x"]), ..all() }, false),
    ] {
        let excluded =
            !PodMatcher::new(&[], std::slice::from_ref(&filter)).unwrap().matches(&web());
        let text = format!("{filter:?}");
        assert_eq!((wants(filter), excluded), (expected, expected), "{text}");
    }
}

#[test]
fn labels_that_nobody_told_match_nothing() {
    let found = Pod { labels: [].into(), sources: vec![PodSource::Cgroup.into()], ..web() };
    let filter = FlowFilter { label: strings(&["!app"]), ..Default::default() };
    let matcher = PodMatcher::new(&[filter], &[]).unwrap();
    assert!(!matcher.matches(&found));
    assert!(matcher.matches(&Pod { sources: vec![PodSource::Api.into()], ..found }), "it has none");
}

#[test]
fn what_only_traffic_has_is_refused() {
    let all = FlowFilter::default;
    for (filter, field) in [
        (FlowFilter { port: vec![1], ..all() }, "port"),
        (FlowFilter { unit: strings(&["x"]), ..all() }, "unit"),
        (FlowFilter { service: strings(&["x"]), ..all() }, "service"),
        (FlowFilter { source_pod: strings(&["x"]), ..all() }, "source_pod"),
        (FlowFilter { destination_label: strings(&["x"]), ..all() }, "destination_label"),
    ] {
        let error = PodMatcher::new(&[], &[filter]).unwrap_err();
        assert_eq!(error, FilterError { field, problem: Problem::NotOfPods });
    }
}
