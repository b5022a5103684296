//! Who is at the ends.

use super::{a_flow, cell, format};
use crate::columns::flow::endpoint;
use crate::columns::{Format, pod};
use crate::filter::End;
use crate::v1::{
    Attribution, Container, ContainerKind, Controller, DnsLabel, Endpoint, Flow, LocalEnd, Pod,
    PodPhase, PodSource, Protocol, Runtime, ServiceAddress, Translation, Workload,
};

fn shop(pod: &str, attribution: Attribution, node: &str) -> Workload {
    Workload {
        namespace: "shop".into(),
        pod: pod.into(),
        attribution: attribution.into(),
        node_name: node.into(),
        controller: Some(Controller { kind: "Deployment".into(), name: "front".into() }),
        ..Workload::default()
    }
}

/// `shop/front` of worker-1 talks to something at 10.0.0.7:443.
fn flow(change: impl FnOnce(&mut Endpoint)) -> Flow {
    let mut flow = a_flow(Protocol::Tcp, ([10, 0, 0, 5], 51_000), ([10, 0, 0, 7], 443));
    flow.source.as_mut().unwrap().workload = Some(shop("front", Attribution::Cgroup, "worker-1"));
    flow.local_end = LocalEnd::Source.into();
    flow.node_name = "worker-1".into();
    change(flow.destination.as_mut().unwrap());
    flow
}

fn to_service(end: &mut Endpoint) {
    let (namespace, name) = ("shop".to_owned(), "web".to_owned());
    end.service = Some(ServiceAddress { namespace, name, ..ServiceAddress::default() });
}

fn answered(end: &mut Endpoint) {
    to_service(end);
    end.workload = Some(shop("web-7d4f", Attribution::PodIp, "worker-2"));
    end.translated = Some(Translation { ip: vec![10, 0, 2, 9], port: 8443 });
}

#[test]
fn an_end_is_printed_by_its_best_name() {
    let text = |change: &dyn Fn(&mut Endpoint)| {
        let flow = flow(change);
        (endpoint(&flow, End::Destination, &format()).unwrap(), cell("peer", &flow, None))
    };
    let is = |change: &dyn Fn(&mut Endpoint), place: &str, peer: Option<&str>| {
        assert_eq!(text(change), (place.to_owned(), peer.map(str::to_owned)));
    };
    let unit = |end: &mut Endpoint| {
        end.workload = Some(Workload { unit: "etcd.service".into(), ..Workload::default() });
    };
    let node = |end: &mut Endpoint| end.node = "worker-2".into();
    let dns = |end: &mut Endpoint| {
        end.dns = Some(DnsLabel { name: "example.com".into(), ..DnsLabel::default() });
    };
    let pod = |end: &mut Endpoint| {
        end.workload = Some(shop("web-7d4f", Attribution::PodIp, "worker-2"));
    };
    is(&|_| {}, "10.0.0.7:https", None);
    is(&dns, "example.com:https", None);
    is(&unit, "etcd.service:https", Some("etcd.service"));
    is(&|end| (unit(end), node(end)).0, "node:worker-2:https", Some("node:worker-2"));
    is(&|end| (node(end), dns(end)).0, "node:worker-2:https", Some("node:worker-2"));
    is(&|end| (pod(end), node(end)).0, "shop/web-7d4f:https", Some("shop/web-7d4f"));
    is(&|end| (answered(end), dns(end)).0, "svc:shop/web:https", Some("svc:shop/web"));
    let process = |end: &mut Endpoint| {
        end.workload = Some(Workload { process: "curl".into(), ..Workload::default() });
    };
    is(&process, "10.0.0.7:https", Some("curl"));
    let docker = |end: &mut Endpoint| {
        let (container, runtime) = ("db".to_owned(), Runtime::Docker.into());
        end.workload = Some(Workload { container, runtime, ..Workload::default() });
    };
    is(&docker, "docker:db:https", Some("docker:db"));
}

#[test]
fn the_end_that_the_owner_column_names_is_its_address() {
    let flow = flow(answered);
    assert_eq!(cell("owner", &flow, None).unwrap(), "shop/front");
    assert_eq!(cell("source", &flow, None).unwrap(), "10.0.0.5:51000");
    assert_eq!(cell("workload", &flow, None).unwrap(), "deploy/front");
    let addresses = Format { names: false, ..format() };
    assert_eq!(endpoint(&flow, End::Destination, &addresses).unwrap(), "10.0.0.7:https");

    let mut nobody = flow;
    let source = nobody.source.as_mut().unwrap();
    source.workload = None;
    source.node = "worker-1".into();
    assert_eq!(cell("owner", &nobody, None), None);
    assert_eq!(cell("source", &nobody, None).unwrap(), "node:worker-1:51000");
}

#[test]
fn who_answered_is_a_column() {
    assert_eq!(cell("backend", &flow(|_| {}), None), None);
    assert_eq!(cell("backend", &flow(to_service), None), None, "nobody knows");
    assert_eq!(cell("backend", &flow(answered), None).unwrap(), "shop/web-7d4f:8443");
    let mut flow = flow(answered);
    assert_eq!(cell("peer_node", &flow, None).unwrap(), "worker-2");
    let end = flow.destination.as_mut().unwrap();
    end.translated = None;
    assert_eq!(cell("backend", &flow, None).unwrap(), "shop/web-7d4f", "at the Service's own port");
    let end = flow.destination.as_mut().unwrap();
    answered(end);
    end.workload = None;
    assert_eq!(cell("backend", &flow, None).unwrap(), "10.0.2.9:8443");
    // The client behind a node's masqueraded address.
    let end = flow.destination.as_mut().unwrap();
    (end.service, end.node) = (None, "worker-1".into());
    end.workload = Some(shop("back", Attribution::Cgroup, "worker-1"));
    assert_eq!(cell("backend", &flow, None).unwrap(), "shop/back:8443");
}

#[test]
fn it_is_told_how_each_end_is_known() {
    let found = |change: &dyn Fn(&mut Endpoint)| cell("found", &flow(change), None).unwrap();
    assert_eq!(found(&|_| {}), "cgroup/-");
    assert_eq!(found(&answered), "cgroup/service");
    assert_eq!(found(&|end| end.node = "worker-2".into()), "cgroup/node");
    assert_eq!(found(&|end| end.dns = Some(DnsLabel::default())), "cgroup/dns");
    let pod = shop("web", Attribution::PodIp, "worker-2");
    assert_eq!(found(&|end| end.workload = Some(pod.clone())), "cgroup/pod-ip");
    let unknown = a_flow(Protocol::Tcp, ([10, 0, 0, 5], 1), ([10, 0, 0, 7], 2));
    assert_eq!(cell("found", &unknown, None), None);
}

#[test]
fn without_a_local_socket_the_owner_is_of_this_node() {
    let forwarded = |source: &str, destination: &str| {
        let mut flow = flow(|_| {});
        flow.local_end = LocalEnd::Unspecified.into();
        let of = |node: &str| Some(shop(node, Attribution::PodIp, node));
        flow.source.as_mut().unwrap().workload = of(source);
        flow.destination.as_mut().unwrap().workload = of(destination);
        (cell("owner", &flow, None), cell("peer", &flow, None))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(forwarded("worker-1", "worker-2"), (some("shop/worker-1"), some("shop/worker-2")));
    assert_eq!(forwarded("worker-2", "worker-1"), (some("shop/worker-1"), some("shop/worker-2")));
    let others = (None, some("shop/worker-2 shop/worker-3"));
    assert_eq!(forwarded("worker-2", "worker-3"), others, "both are told as peers");
}

fn pod_cell(name: &str, pod: &Pod) -> Option<String> {
    let column = pod::LIST.wide.iter().find(|column| column.name == name).unwrap();
    (column.value)(pod, &format())
}

#[test]
fn a_pod_is_told_with_what_it_is_known_by() {
    let container = |name: &str, kind: ContainerKind| Container {
        name: name.into(),
        id: "3f2a9c01d4e5b6a7".into(),
        kind: kind.into(),
        runtime: Runtime::Containerd.into(),
        cgroup_path: format!("/kubepods/{name}"),
        ..Container::default()
    };
    let pod = Pod {
        namespace: "shop".into(),
        name: "web".into(),
        ips: vec![vec![10, 0, 0, 7], vec![0; 15], vec![0xfd; 16]],
        labels: [("app".to_owned(), "web".to_owned()), ("gpu".to_owned(), String::new())].into(),
        containers: vec![
            container("setup", ContainerKind::Init),
            container("", ContainerKind::Main),
        ],
        sources: vec![PodSource::Api.into(), PodSource::Cgroup.into()],
        phase: PodPhase::Running.into(),
        ..Pod::default()
    };
    for (name, text) in [
        ("pod", "shop/web"),
        ("phase", "running"),
        ("ip", "10.0.0.7 fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd"),
        ("containers", "setup (init),3f2a9c01d4e5"),
        ("known_by", "api cgroup"),
        ("labels", "app=web,gpu="),
        ("container_ids", "containerd://3f2a9c01d4e5b6a7,containerd://3f2a9c01d4e5b6a7"),
        ("cgroups", "/kubepods/setup,/kubepods/"),
    ] {
        assert_eq!(pod_cell(name, &pod).unwrap(), text, "{name}");
    }
    let unnamed = Pod { uid: "0d9f8c1e".into(), host_network: true, ..Pod::default() };
    assert_eq!(pod_cell("pod", &unnamed).unwrap(), "0d9f8c1e");
    assert_eq!(pod_cell("ip", &unnamed).unwrap(), "host");
    assert_eq!(pod_cell("known_by", &unnamed), None);
}
