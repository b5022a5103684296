//! What is asked for by owner, and what is said of owners.

use std::collections::{BTreeMap, BTreeSet};

use orb8_proto::v1::{
    Attribution, ContainerKind, Endpoint, Flow, FlowFilter, KubernetesState, PodPhase, PodSource,
    QueryFlowsRequest, QueryPodsRequest, QueryTcpRequest, TcpConnection, TcpFilter,
};

use super::super::support::{
    agent::Agent,
    cluster::{EXPORTER, HERE, THERE, WEB},
    node::{container_id, pod_ips},
    views::{Views, who},
};

/// What tells one flow or connection from another, and who is at its ends.
type Row = (u64, u32, u32, String, String);

/// A filter picks what reads as it should, and all of it.
pub(super) async fn filters(agent: &mut Agent) {
    let filter = FlowFilter::default;
    let one = |text: &str| vec![text.to_owned()];
    let either = |part: &'static str| {
        move |source: &str, destination: &str| source.contains(part) || destination.contains(part)
    };
    expect(agent, FlowFilter { label: one("app=bert,of=ml"), ..filter() }, either("ml/bert")).await;
    expect(agent, FlowFilter { label: one("of in (ml,monitoring)"), ..filter() }, |a, b| {
        [a, b].iter().any(|end| end.contains("ml/bert") || end.contains("monitoring/exporter-"))
    })
    .await;
    expect(agent, FlowFilter { workload: one("deploy/web"), ..filter() }, either("shop/web-"))
        .await;
    expect(agent, FlowFilter { workload: one("pytorchjob/bert"), ..filter() }, either("ml/bert-"))
        .await;
    expect(agent, FlowFilter { source_workload: one("sts/db"), ..filter() }, |source, _| {
        source.contains("shop/db-0")
    })
    .await;
    expect(agent, FlowFilter { service: one("shop/web"), ..filter() }, either("svc:shop/web:"))
        .await;
    expect(agent, FlowFilter { destination_service: one("kube-dns"), ..filter() }, |_, to| {
        to.contains("svc:kube-system/kube-dns:")
    })
    .await;
    expect(agent, FlowFilter { node: one(THERE), ..filter() }, |a, b| {
        [a, b].iter().any(|end| end.contains("shop/cache-0") || end.contains("node:node-b"))
    })
    .await;
    expect(
        agent,
        FlowFilter {
            source_label: one("app=proxy"),
            destination_workload: one("deploy/web"),
            ..filter()
        },
        |source, destination| {
            source.contains("kube-system/proxy-a") && destination.contains("shop/web-")
        },
    )
    .await;
}

/// Asks for flows and for connections. What is there before and after has to be found.
async fn expect(agent: &mut Agent, filter: FlowFilter, matches: impl Fn(&str, &str) -> bool) {
    let before = (flows(agent, None).await, connections(agent, None).await);
    let found = (flows(agent, Some(&filter)).await, connections(agent, Some(&filter)).await);
    let after = (flows(agent, None).await, connections(agent, None).await);
    assert_same(&before.0 & &after.0, &found.0, &filter, &matches);
    // Names are asked for by UDP here.
    if filter.destination_service.is_empty() {
        assert_same(&before.1 & &after.1, &found.1, &filter, &matches);
    }
}

async fn flows(agent: &mut Agent, filter: Option<&FlowFilter>) -> BTreeSet<Row> {
    let include = filter.cloned().into_iter().collect();
    let request = QueryFlowsRequest { include, limit: 10_000, ..QueryFlowsRequest::default() };
    let answer = agent.client.query_flows(request).await.expect("an answer").into_inner();
    let row = |of: &Flow| row(of.socket_cookie, &of.source, &of.destination);
    answer.flows.iter().map(row).collect()
}

async fn connections(agent: &mut Agent, filter: Option<&FlowFilter>) -> BTreeSet<Row> {
    let filter = filter.map(|flow| TcpFilter { flow: Some(flow.clone()), ..TcpFilter::default() });
    let include = filter.into_iter().collect();
    let request = QueryTcpRequest { include, limit: 10_000, ..QueryTcpRequest::default() };
    let answer = agent.client.query_tcp(request).await.expect("an answer").into_inner();
    let row = |of: &TcpConnection| row(of.socket_cookie, &of.source, &of.destination);
    answer.connections.iter().map(row).collect()
}

fn assert_same(
    all: BTreeSet<Row>,
    found: &BTreeSet<Row>,
    filter: &FlowFilter,
    matches: &impl Fn(&str, &str) -> bool,
) {
    let is_wanted = |(.., source, destination): &Row| matches(source, destination);
    let (wanted, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_wanted);
    assert!(!wanted.is_empty() && !others.is_empty(), "{filter:?} tells nothing apart");
    let missing: Vec<_> = wanted.iter().filter(|row| !found.contains(*row)).collect();
    let wrong: Vec<_> = found.iter().filter(|row| !is_wanted(row)).collect();
    assert!(missing.is_empty() && wrong.is_empty(), "{filter:?}: no {missing:#?}; but {wrong:#?}");
}

fn row(cookie: u64, source: &Option<Endpoint>, destination: &Option<Endpoint>) -> Row {
    let [source, destination] = [source, destination].map(|end| end.as_ref().expect("an end"));
    (cookie, source.port, destination.port, who(source), who(destination))
}

/// Everything that is known of a container is told with it.
pub(super) fn owners(views: &Views) {
    let flows: Vec<&Flow> = views.flow_events.iter().filter_map(|it| it.flow.as_ref()).collect();
    let of = |port: u32| {
        let is_from = |flow: &&&Flow| flow.source.as_ref().is_some_and(|end| end.port == port);
        let found = flows.iter().rfind(is_from);
        let found = found.unwrap_or_else(|| panic!("no flow from {port}"));
        let end =
            |end: &Option<Endpoint>| end.clone().and_then(|end| end.workload).expect("an owner");
        (end(&found.source), end(&found.destination))
    };
    let (helper, _) = of(20_005);
    assert_eq!((&*helper.pod_uid, &*helper.container), (WEB.uid, "helper"), "{helper:#?}");
    assert_eq!(helper.container_id, container_id(WEB.uid, "helper"));
    assert_eq!(helper.attribution(), Attribution::Cgroup);
    assert_eq!((&*helper.node_name, helper.container_kind()), (HERE, ContainerKind::Main));
    let controller = helper.controller.expect("a controller");
    assert_eq!((&*controller.kind, &*controller.name), ("Deployment", "web"));
    assert_eq!(helper.labels["of"], "shop");
    for (port, kind) in [(20_006, ContainerKind::Init), (20_007, ContainerKind::Ephemeral)] {
        let (owner, _) = of(port);
        assert_eq!(owner.container_kind(), kind, "{owner:#?}");
    }
    let (proxy, exporter) = of(20_017);
    assert!(proxy.host_network && exporter.host_network, "{proxy:#?} {exporter:#?}");
    assert_eq!(exporter.pod_uid.len(), 32, "the kubelet's, which the cgroup has: {exporter:#?}");
    let (_, cache) = of(20_050);
    assert_eq!(cache.attribution(), Attribution::PodIp);
    assert_eq!((&*cache.node_name, &*cache.container), (THERE, ""));
}

pub(super) async fn pods(agent: &mut Agent) {
    let request = QueryPodsRequest { limit: 1000, ..QueryPodsRequest::default() };
    let answer = agent.client.query_pods(request.clone()).await.expect("the pods").into_inner();
    assert_eq!((answer.total_matched, &*answer.node_name), (7, HERE), "{answer:#?}");
    let by_name: BTreeMap<_, _> = answer.pods.iter().map(|pod| (&*pod.name, pod)).collect();
    let web = by_name[WEB.name];
    assert_eq!(web.sources, [PodSource::Api, PodSource::Cgroup].map(i32::from));
    assert_eq!((web.phase(), web.local, web.host_network), (PodPhase::Running, true, false));
    let ips: Vec<String> = web.addrs().map(|ip| ip.to_string()).collect();
    assert_eq!(ips, pod_ips(10));
    assert!(web.containers.iter().all(|container| container.cgroup_id != 0), "{web:#?}");
    let db: Vec<_> = by_name["db-0"].containers.iter().map(|of| (&*of.name, of.kind())).collect();
    assert_eq!(
        BTreeMap::from_iter(db),
        BTreeMap::from([
            ("debug", ContainerKind::Ephemeral),
            ("main", ContainerKind::Main),
            ("proxy", ContainerKind::Sidecar),
            ("setup", ContainerKind::Init),
        ])
    );
    let exporter = by_name[EXPORTER.name];
    assert_eq!(exporter.sources, [PodSource::Api, PodSource::Cgroup].map(i32::from));
    assert_eq!((exporter.host_network, exporter.ips.len()), (true, 0), "{exporter:#?}");
    let cache = by_name["cache-0"];
    assert_eq!((&*cache.node_name, cache.local), (THERE, false));
    assert_eq!(cache.sources, [PodSource::Api].map(i32::from));

    let local = QueryPodsRequest {
        include: vec![FlowFilter { workload: vec!["deploy/*".into()], ..FlowFilter::default() }],
        local: true,
        ..request
    };
    let answer = agent.client.query_pods(local).await.expect("the pods").into_inner();
    let names: Vec<_> = answer.pods.iter().map(|pod| &*pod.name).collect();
    assert_eq!(names, ["coredns-5dd5756b68-abcde", WEB.name]);
}

pub(super) async fn status(agent: &mut Agent) {
    let status = agent.status().await;
    assert_eq!(status.node_name, HERE);
    let kubernetes = status.kubernetes.expect("its part");
    assert_eq!(kubernetes.state(), KubernetesState::Connected, "{kubernetes:#?}");
    assert_eq!((kubernetes.pods, kubernetes.services, kubernetes.nodes), (7, 6, 2));
    assert!(kubernetes.access.contains("kubeconfig"), "{kubernetes:#?}");
    assert_eq!(kubernetes.reason, "");
    assert!(!kubernetes.watches.is_empty());
    for watch in &kubernetes.watches {
        assert!(watch.connected && watch.last_sync_ns > 0 && watch.error.is_empty(), "{watch:#?}");
    }
}
