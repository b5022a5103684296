//! What is known changes: pods that the API server tells of late or never, a server that is gone for a
//! while, and addresses that get another pod.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use orb8_k8s::testing::ApiServer;
use orb8_proto::v1::{
    Endpoint, EventKind, KubernetesState, QueryPodsRequest, StreamEventsResponse,
};

use super::{
    super::support::{
        PATIENCE,
        agent::Agent,
        cgroup::Cgroup,
        cluster::{self, CACHE, HEIR, LATE, NEVER, NEW, PodSpec, RULES, THERE},
        container::Container,
        netns::Netns,
        node::{Kubepods, Layout, Network, REMOTE4, REMOTE6, apart, container_id},
        views::{
            Review, Side, Told,
            Traffic::{Dns, Tcp, Udp},
            Views, Watches,
        },
    },
    Cast, block_on, start,
};

const WEB: &str = "shop/web-7d4b9c6f5-x2x4k/main";
const DB: &str = "shop/db-0/main";
const NAMES: &str = "kube-system/coredns-5dd5756b68-abcde/main";

/// An event waits so long for a name.
const WAIT: Duration = Duration::from_secs(10);

#[test]
fn as_time_goes_by() {
    apart(|| {
        let (mut here, mut away) = (Kubepods::new(), Kubepods::new());
        let Some(network) = Network::new(RULES) else { return };
        let mut cast = Cast::new(&network, &mut here, &mut away);
        let others = ["one", "two", "three"].map(|name| here.root().child(name));
        block_on(async {
            let api = ApiServer::start().await.expect("an API server");
            cluster::fill(&api);
            let mut agent = start(&here, &api).await;
            let mut watches = Watches::new(&mut agent).await;
            let mut newcomer = |pod: &PodSpec, number| {
                let namespace = network.pod(number);
                let mut container =
                    here.start(&namespace, Layout::SystemdBurstable, pod.uid, "main");
                container.serve("[::]:8080");
                container
            };
            let mut review = Review::default();
            overlapping(&mut agent, &mut watches, &others, &mut review).await;
            moved(&mut agent, &mut watches, &mut cast, &api, &mut review).await;
            let never = Unnamed::start(newcomer(&NEVER, 15));
            late(&mut agent, &mut watches, &mut cast, newcomer(&LATE, 14), &api, &mut review).await;
            let new = || newcomer(&NEW, 16);
            without_server(&mut agent, &mut watches, &mut cast, new, &api, &mut review).await;
            never.review(&mut agent, &mut watches, &mut review).await;
            review.finish();
            agent.stop().await;
        });
    });
}

/// Takes in what comes until it is as it should be.
async fn until(
    agent: &mut Agent,
    watches: &mut Watches,
    what: &str,
    mut check: impl FnMut(&Views) -> bool,
) -> Views {
    let started = Instant::now();
    loop {
        let views = watches.views(agent).await;
        if check(&views) {
            return views;
        }
        let events = &views.flow_events;
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {events:#?}");
    }
}

/// Two networks with the same addresses: who answers in the one says nothing of the other.
async fn overlapping(
    agent: &mut Agent,
    watches: &mut Watches,
    cgroups: &[Cgroup; 3],
    review: &mut Review,
) {
    let [one, other] = [(), ()].map(|()| {
        let [server, client] = [Netns::new(), Netns::new()];
        server.link(["eth0", "02:00:00:00:77:01"], &client, ["eth0", "02:00:00:00:77:02"]);
        for (namespace, address) in [(&server, "10.77.0.1/24"), (&client, "10.77.0.2/24")] {
            namespace.ip(&format!("addr add {address} dev eth0"));
            namespace.ip("link set eth0 up");
        }
        [server, client]
    });
    let [server_of_one, client_of_one, client_of_other] = cgroups;
    let mut server = Container::start(&one[0], server_of_one);
    let mut client = Container::start(&one[1], client_of_one);
    let mut alone = Container::start(&other[1], client_of_other);
    server.serve("10.77.0.1:8000");
    client.call(21_040, "10.77.0.1:8000");
    alone.fail(21_041, "10.77.0.1:8000");
    let views = watches.views(agent).await;
    let is_known = |told: &Told| told.local == Side::Client && told.server != "-";
    review.check(views.of(21_040).iter().any(is_known), || "21040: nobody answers".into());
    let told = views.of(21_041);
    review.check(!told.is_empty() && !told.iter().any(is_known), || {
        format!("21041: nobody is there: {told:#?}")
    });
}

/// A pod's address gets another pod: what was the one's stays the one's.
async fn moved(
    agent: &mut Agent,
    watches: &mut Watches,
    cast: &mut Cast,
    api: &ApiServer,
    review: &mut Review,
) {
    cast.db.open(21_001, "10.244.2.5:6443");
    cast.db.call(21_002, "10.244.2.5:6443");
    assert!(api.delete("pods", CACHE.namespace, CACHE.name));
    api.apply(HEIR.object(THERE, &[REMOTE4, REMOTE6]));
    let started = Instant::now();
    while !knows(agent, HEIR.name).await {
        assert!(started.elapsed() < PATIENCE, "the new pod is not known");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Packets have the time of the kernel's last tick, which a busy machine may count late.
    tokio::time::sleep(Duration::from_millis(100)).await;
    cast.db.talk(21_001);
    cast.db.call(21_003, "10.244.2.5:6443");
    cast.beyond.call(format_args!("{REMOTE4}:21004"), "10.244.1.10:8080");
    let views = watches.views(agent).await;
    review.expect(&views, 21_001, Tcp, Some([DB, "shop/cache-0"]), None);
    review.expect(&views, 21_002, Tcp, Some([DB, "shop/cache-0"]), None);
    review.expect(&views, 21_003, Tcp, Some([DB, "ml/heir-0"]), None);
    review.expect(&views, 21_004, Tcp, None, Some(["ml/heir-0", WEB]));
}

async fn knows(agent: &mut Agent, name: &str) -> bool {
    let request = QueryPodsRequest { limit: 1000, ..QueryPodsRequest::default() };
    let answer = agent.client.query_pods(request).await.expect("the pods").into_inner();
    answer.pods.iter().any(|pod| pod.name == name)
}

/// A pod is there before the API server tells of it: what it does waits for its name, at either end.
async fn late(
    agent: &mut Agent,
    watches: &mut Watches,
    cast: &mut Cast,
    mut late: Container,
    api: &ApiServer,
    review: &mut Review,
) {
    late.call(21_010, "10.244.1.10:8080");
    late.send(21_011, "[fd00:96::10]:80");
    late.ask(21_012, "10.96.0.53:53", "web.test");
    cast.db.call(21_013, "10.244.1.14:8080");
    let views = watches.views(agent).await;
    for port in 21_010..=21_013 {
        let told = views.of(port);
        let is_event = |what: &str| what.contains("event") || what == "exchange";
        let mut early = told.iter().filter(|told| is_event(&told.what) && reads_unnamed(told));
        review.check(early.next().is_none(), || format!("{port}: told too early: {told:#?}"));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    api.apply(LATE.here(14));
    let views = until(agent, watches, "what the late pod did", |views| {
        (21_010..=21_013).all(|port| !views.of(port).iter().any(reads_unnamed))
            && [21_010, 21_011, 21_012].iter().all(|port| {
                views
                    .of(*port)
                    .iter()
                    .any(|told| told.what.contains("event") && told.local == Side::Client)
            })
    })
    .await;
    const LATE_POD: &str = "ml/late-0/main";
    const QUIC: &str = "svc:shop/web:quic > shop/web-7d4b9c6f5-x2x4k/main at fd00:244:1::10";
    const DNS: &str =
        "svc:kube-system/kube-dns:dns > kube-system/coredns-5dd5756b68-abcde/main at 10.244.1.13";
    review.expect(&views, 21_010, Tcp, Some([LATE_POD, WEB]), Some([LATE_POD, WEB]));
    // Nothing but the Service's translation tells of a client that sends datagrams to it.
    let sender = format!("{LATE_POD} | -");
    review.expect(&views, 21_011, Udp, Some([LATE_POD, QUIC]), Some([&sender, WEB]));
    review.expect(&views, 21_012, Dns, Some([LATE_POD, DNS]), Some([LATE_POD, NAMES]));
    review.expect(&views, 21_013, Tcp, Some([DB, LATE_POD]), Some([DB, LATE_POD]));
}

fn reads_unnamed(told: &Told) -> bool {
    told.client.contains("uid:") || told.server.contains("uid:")
}

/// While the API server is gone, what is known stays known; what is new has its name when it is back.
async fn without_server(
    agent: &mut Agent,
    watches: &mut Watches,
    cast: &mut Cast,
    new: impl FnOnce() -> Container,
    api: &ApiServer,
    review: &mut Review,
) {
    api.close();
    let mut new = new();
    api.apply(NEW.here(16));
    state(agent, KubernetesState::Disconnected).await;
    cast.db.call(21_020, "10.96.0.10:80");
    cast.bert.call(21_021, "10.200.0.1:9100");
    cast.db.call(21_022, "10.244.2.5:6443");
    new.call(21_023, "10.244.1.10:8080");
    api.open().await.expect("the same port");
    state(agent, KubernetesState::Connected).await;
    let views = until(agent, watches, "the new pod's name", |views| {
        let told = views.of(21_023);
        told.iter().any(|told| told.what.contains("event") && told.client == "ml/new-0/main")
    })
    .await;
    const HTTP: &str = "svc:shop/web:http > shop/web-7d4b9c6f5-x2x4k/main at 10.244.1.10";
    const EXPORTER: &str = "monitoring/exporter-node-a/main";
    const BERT: &str = "ml/bert-worker-0/main";
    const NEW_POD: &str = "ml/new-0/main";
    review.expect(&views, 21_020, Tcp, Some([DB, HTTP]), Some([DB, WEB]));
    review.expect(&views, 21_021, Tcp, Some([BERT, EXPORTER]), Some([BERT, EXPORTER]));
    review.expect(&views, 21_022, Tcp, Some([DB, "ml/heir-0"]), None);
    review.expect(&views, 21_023, Tcp, Some([NEW_POD, WEB]), Some([NEW_POD, WEB]));
}

async fn state(agent: &mut Agent, wanted: KubernetesState) {
    let started = Instant::now();
    loop {
        let kubernetes = agent.status().await.kubernetes.expect("its part");
        if kubernetes.state() == wanted {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "not {wanted:?}: {kubernetes:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A pod that the API server never tells of.
struct Unnamed {
    started: Instant,
    _container: Container,
}

impl Unnamed {
    fn start(mut container: Container) -> Self {
        let started = Instant::now();
        container.call(21_030, "10.244.1.10:8080");
        container.send(21_031, "10.244.1.10:8080");
        container.ask(21_032, "10.96.0.53:53", "web.test");
        Self { started, _container: container }
    }

    /// Its events came without its name, none too early and all in their order.
    async fn review(self, agent: &mut Agent, watches: &mut Watches, review: &mut Review) {
        let is_told = |views: &Views| {
            let told = |port, what: &str| views.of(port).iter().any(|told| told.what == what);
            // Either side may be told to have ended before the other.
            has_ended(views, 21_030) && told(21_030, "tcp event Close") && told(21_032, "exchange")
        };
        let views = until(agent, watches, "what the unknown pod did", is_told).await;
        let took = self.started.elapsed();
        review.check(took < WAIT + PATIENCE, || format!("{took:?} until it was told"));
        let id = &container_id(NEVER.uid, "main")[..12];
        let pod = format!("uid:{}/{id}", NEVER.uid);
        const QUERIED: &str = "svc:kube-system/kube-dns:dns > kube-system/coredns-5dd5756b68-abcde/main at 10.244.1.13";
        review.compare(&views, 21_030, Some([&pod, WEB]), Some([&pod, WEB]));
        review.compare(&views, 21_031, Some([&pod, WEB]), Some([&pod, WEB]));
        review.compare(&views, 21_032, Some([&pod, QUERIED]), Some([&pod, NAMES]));
        assert_whole(&views, 21_030);
    }
}

/// Events of each flow of a port: both directions at both sockets, which have cgroups of their own. A
/// listener's cookie is on the packets that came before there was a connection.
fn flows_of(views: &Views, port: u32) -> BTreeMap<(u64, i32), Vec<&StreamEventsResponse>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in &views.flow_events {
        let Some(flow) = &event.flow else { continue };
        let has_port = |end: &Option<Endpoint>| end.as_ref().is_some_and(|end| end.port == port);
        if has_port(&flow.source) || has_port(&flow.destination) {
            flows.entry((flow.cgroup_id, flow.direction)).or_default().push(event);
        }
    }
    flows
}

fn has_ended(views: &Views, port: u32) -> bool {
    let flows = flows_of(views, port);
    let is_end = |event: &&StreamEventsResponse| event.kind() == EventKind::FlowEnd;
    flows.len() == 4 && flows.values().all(|events| events.iter().any(is_end))
}

/// Of each flow from a port the events come in order, and add up to it.
fn assert_whole(views: &Views, port: u32) {
    let flows = flows_of(views, port);
    assert_eq!(flows.len(), 4, "both directions at both sockets: {flows:#?}");
    for events in flows.values() {
        let kinds: Vec<_> = events.iter().map(|event| event.kind()).collect();
        let mut steps = kinds.split(|kind| *kind == EventKind::FlowEnd);
        let (Some([EventKind::FlowNew, between @ ..]), Some(late), None) =
            (steps.next(), steps.next(), steps.next())
        else {
            panic!("{kinds:?}");
        };
        // The last acknowledgment may be read one drain after the FIN that it answers.
        let mut others = between.iter().chain(late);
        assert!(late.len() <= 1 && others.all(|kind| *kind == EventKind::FlowUpdate), "{kinds:?}");
        let bytes: u64 = events.iter().map(|event| event.delta_bytes).sum();
        let last = events.last().and_then(|event| event.flow.as_ref()).expect("an end");
        assert_eq!(bytes, last.bytes, "{events:#?}");
    }
}
