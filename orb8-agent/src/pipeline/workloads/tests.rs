use std::net::Ipv4Addr;
use std::sync::Arc;

use orb8_common::flow::{
    DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, HOOK_INTERFACE, HOOK_SOCKET,
};
use orb8_k8s::object::{Controller, Labels, Phase, Pod};
use orb8_proto::v1::FlowFilter;

use super::*;
use crate::event::{FlowSample, SampleKind};
use crate::store::{Flow, FlowStore, Label, Owner, StoreConfig};

const TCP: u8 = 6;

fn mapped(last: u8) -> [u8; 16] {
    Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets()
}

fn pod(name: &str, controller: Option<&str>) -> Arc<Pod> {
    let controller =
        controller.map(|name| Controller { kind: "Deployment".into(), name: name.into() });
    Arc::new(Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}").as_str().into(),
        config_hash: None,
        node: Some("node-1".into()),
        labels: Labels::from([("app".into(), "web".into())]),
        controller,
        host_network: false,
        ips: Box::default(),
        containers: Box::default(),
        phase: Phase::Running,
    })
}

fn container(pod: &Arc<Pod>, name: &str) -> Arc<Workload> {
    Arc::new(Workload {
        namespace: Some(pod.namespace.to_string()),
        pod: Some(pod.name.to_string()),
        pod_uid: Some(pod.uid.to_string()),
        api: Some(Arc::clone(pod)),
        container: Some(name.to_owned()),
        container_id: Some(format!("{name}-of-{}", pod.name)),
        cgroup_path: format!("/kubepods/{}/{name}", pod.name),
        ..Workload::default()
    })
}

fn unit(name: &str) -> Arc<Workload> {
    let cgroup_path = format!("/system.slice/{name}");
    Arc::new(Workload { unit: Some(name.to_owned()), cgroup_path, ..Workload::default() })
}

/// A store of flows, walked as the pipeline does.
struct Bench {
    store: FlowStore,
    start: Instant,
    port: u16,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        let config = StoreConfig { max_flows: 4_096, idle_timeout: Duration::from_secs(60) };
        Self { store: FlowStore::new(config, start), start, port: 1_024 }
    }

    /// Counts packets of 100 bytes of a new connection between two ends.
    fn count(
        &mut self,
        direction: u8,
        hook: u8,
        peer: u8,
        packets: u64,
        ends: [Party; 2],
    ) -> FlowKey {
        self.port += 1;
        let [near, far] = [(mapped(1), self.port), (mapped(peer), 443)];
        let (source, destination) =
            if direction == DIRECTION_EGRESS { (near, far) } else { (far, near) };
        let key = FlowKey {
            source_addr: source.0,
            destination_addr: destination.0,
            source_port: source.1,
            destination_port: destination.1,
            ifindex: 0,
            cgroup_id: 0,
            protocol: TCP,
            direction,
            hook,
            flags: 0,
            vlan: 0,
            inner_vlan: 0,
        };
        let sample = FlowSample {
            key,
            kind: SampleKind::Counted,
            cgroup_id: 0,
            cookie: 0,
            ifindex: 0,
            packets,
            bytes: packets * 100,
            first: UnixNanos(1),
            last: UnixNanos(u64::from(self.port)),
            tcp_flags: 0x10,
        };
        let (_, flow) = self.store.apply(&sample, Owner::default(), self.start);
        let [source, destination] = ends;
        (flow.ends.source, flow.ends.destination) = (source, destination);
        key
    }

    fn sent(&mut self, owner: &Arc<Workload>, peer: u8, packets: u64, to: Party) -> FlowKey {
        let ends = [Party::Workload(Arc::clone(owner)), to];
        self.count(DIRECTION_EGRESS, HOOK_SOCKET, peer, packets, ends)
    }

    fn received(&mut self, owner: &Arc<Workload>, peer: u8, packets: u64, from: Party) {
        let ends = [from, Party::Workload(Arc::clone(owner))];
        self.count(DIRECTION_INGRESS, HOOK_SOCKET, peer, packets, ends);
    }

    fn flow(&mut self, key: &FlowKey) -> &mut Flow {
        self.store.get_mut(key).unwrap()
    }

    fn ask(&mut self, query: WorkloadQuery) -> WorkloadPage {
        let mut survey = WorkloadSurvey::new(query, "node-1".into());
        let mut next = Some(0);
        while let Some(from) = next {
            // Pieces of one slot: nothing depends on where they end.
            next = self.store.visit(from, 1, |flow, moved| survey.add_flow(flow, moved));
        }
        survey.set_interval(self.store.interval());
        survey.page()
    }

    fn rows(&mut self, group: WorkloadGroup) -> Vec<WorkloadRow> {
        self.ask(WorkloadQuery { group, limit: 100, peers: 10, ..WorkloadQuery::default() }).rows
    }
}

fn keys(rows: &[WorkloadRow]) -> Vec<&str> {
    rows.iter().map(|row| row.who.key.as_str()).collect()
}

#[test]
fn rows_are_as_coarse_as_asked_for() {
    let (one, two) = (pod("web-1", Some("web")), pod("web-2", Some("web")));
    let mut bench = Bench::new();
    bench.sent(&container(&one, "app"), 9, 3, Party::Unknown);
    bench.sent(&container(&one, "proxy"), 9, 2, Party::Unknown);
    bench.sent(&container(&two, "app"), 9, 1, Party::Unknown);
    bench.sent(&unit("ssh.service"), 9, 10, Party::Unknown);

    let rows = bench.rows(WorkloadGroup::Controller);
    assert_eq!(keys(&rows), ["cgroup:/system.slice/ssh.service", "shop/Deployment/web"]);
    let web = &rows[1].counts;
    assert_eq!((web.pods, web.sent.packets, web.sent.bytes, web.active_flows), (2, 6, 600, 3));
    assert_eq!((web.received, rows[0].counts.pods), (Traffic::default(), 0));

    let rows = bench.rows(WorkloadGroup::Pod);
    assert_eq!(keys(&rows)[1..], ["pod:uid-web-1", "pod:uid-web-2"]);
    let rows = bench.rows(WorkloadGroup::Container);
    assert_eq!(keys(&rows)[1..], ["pod:uid-web-1/app", "pod:uid-web-1/proxy", "pod:uid-web-2/app"]);
}

#[test]
fn both_ways_are_told_from_the_owners_side() {
    let db = container(&pod("db-0", None), "db");
    let mut bench = Bench::new();
    bench.sent(&db, 9, 3, Party::Unknown);
    bench.received(&db, 9, 5, Party::Unknown);
    bench.received(&db, 8, 1, Party::Unknown);
    let rows = bench.rows(WorkloadGroup::Controller);
    assert_eq!(keys(&rows), ["pod:uid-db-0"], "what nothing made is its own workload");
    let counts = &rows[0].counts;
    assert_eq!((counts.sent.packets, counts.received.packets, counts.peers), (3, 6, 2));
    let peers: Vec<_> = rows[0]
        .peers
        .iter()
        .map(|row| (row.peer.clone(), row.sent.packets, row.received.packets))
        .collect();
    assert_eq!(peers, [(Peer::Addr(mapped(9)), 3, 5), (Peer::Addr(mapped(8)), 0, 1)]);
    assert_eq!(counts.last, UnixNanos(1_027));
}

#[test]
fn peers_are_grouped_as_rows_are() {
    let web = container(&pod("web-1", Some("web")), "app");
    let other = |name| Party::Pod(pod(name, Some("db")));
    let mut bench = Bench::new();
    bench.sent(&web, 7, 4, other("db-1"));
    bench.sent(&web, 8, 3, other("db-2"));
    let named = bench.sent(&web, 9, 2, Party::Unknown);
    let label =
        Label { name: "api.example.com".into(), addr: mapped(9), learned: UnixNanos(1), ttl: 60 };
    bench.flow(&named).label = Some(Arc::new(label));
    let rows = bench.rows(WorkloadGroup::Controller);
    let peers: Vec<_> = rows[0].peers.iter().map(|row| row.peer.clone()).collect();
    assert!(
        matches!(&peers[..], [Peer::Who(db), Peer::Name(name)]
            if db.key == "shop/Deployment/db" && &**name == "api.example.com"),
        "{peers:?}"
    );
    assert_eq!(bench.rows(WorkloadGroup::Pod)[0].counts.peers, 3);
}

#[test]
fn what_an_interface_saw_is_of_the_pods_at_both_ends() {
    let (one, two) = (pod("a", None), pod("b", None));
    let mut bench = Bench::new();
    let ends = [Party::Pod(Arc::clone(&one)), Party::Pod(Arc::clone(&two))];
    bench.count(DIRECTION_EGRESS, HOOK_INTERFACE, 9, 2, ends);
    let elsewhere = Arc::new(Pod { node: Some("node-2".into()), ..(*pod("c", None)).clone() });
    let ends = [Party::Pod(elsewhere), Party::Unknown];
    bench.count(DIRECTION_INGRESS, HOOK_INTERFACE, 9, 7, ends);
    let rows = bench.rows(WorkloadGroup::Pod);
    let told: Vec<_> = rows
        .iter()
        .map(|row| (&*row.who.key, row.counts.sent.packets, row.counts.received.packets))
        .collect();
    assert_eq!(told, [("", 0, 7), ("pod:uid-a", 2, 0), ("pod:uid-b", 0, 2)]);
}

#[test]
fn filters_and_keys_choose_owners() {
    let mut bench = Bench::new();
    bench.sent(&container(&pod("web-1", Some("web")), "app"), 9, 3, Party::Unknown);
    bench.sent(&unit("ssh.service"), 9, 1, Party::Unknown);
    let matcher = |filter: FlowFilter| OwnerMatcher::new(&[filter], &[]).unwrap();
    for (filter, expected) in [
        (
            FlowFilter { namespace: vec!["shop".into()], ..Default::default() },
            "shop/Deployment/web",
        ),
        (FlowFilter { label: vec!["app=web".into()], ..Default::default() }, "shop/Deployment/web"),
        (
            FlowFilter { unit: vec!["ssh*".into()], ..Default::default() },
            "cgroup:/system.slice/ssh.service",
        ),
    ] {
        let page = bench.ask(WorkloadQuery {
            matcher: matcher(filter),
            limit: 9,
            ..WorkloadQuery::default()
        });
        assert_eq!((keys(&page.rows), page.total), (vec![expected], 1));
        assert!(page.rows[0].peers.is_empty(), "none were asked for");
    }
    let keys_wanted = vec!["cgroup:/system.slice/ssh.service".to_owned()];
    let page = bench.ask(WorkloadQuery { keys: keys_wanted, limit: 9, ..WorkloadQuery::default() });
    assert_eq!((page.total, page.totals.counts.sent.packets), (1, 1));
}

#[test]
fn totals_are_over_all_that_matched() {
    let mut bench = Bench::new();
    for (name, packets) in [("a.service", 1), ("b.service", 2), ("c.service", 4)] {
        bench.sent(&unit(name), 9, packets, Party::Unknown);
    }
    let page = bench.ask(WorkloadQuery { limit: 1, ..WorkloadQuery::default() });
    assert_eq!((page.rows.len(), page.total), (1, 3));
    assert_eq!(page.rows[0].counts.sent.packets, 4, "most bytes first");
    assert_eq!((page.totals.counts.sent.packets, page.totals.counts.active_flows), (7, 3));
}

#[test]
fn rates_are_over_the_last_interval() {
    let mut bench = Bench::new();
    let owner = unit("a.service");
    bench.sent(&owner, 9, 30, Party::Unknown);
    bench.store.end_cycle(bench.start + Duration::from_secs(2));
    let rows = bench.rows(WorkloadGroup::Controller);
    let sent = rows[0].counts.sent;
    assert_eq!((sent.bytes, sent.bytes_per_second, sent.packets_per_second), (3_000, 1_500, 15));
    assert_eq!(rows[0].peers[0].sent, sent);
}

#[test]
fn the_agents_own_traffic_is_hidden_unless_asked_for() {
    let mut bench = Bench::new();
    let key = bench.sent(&unit("orb8.service"), 9, 1, Party::Unknown);
    bench.flow(&key).self_traffic = true;
    assert!(bench.rows(WorkloadGroup::Pod).is_empty());
    let query = WorkloadQuery { include_self_traffic: true, limit: 9, ..WorkloadQuery::default() };
    assert_eq!(bench.ask(query).total, 1);
}

/// Others have the pipeline in between, however many flows there are. Prints what it takes.
#[test]
fn the_pipeline_is_held_for_moments() {
    const FLOWS: u32 = 100_000;
    // A usual piece: nothing is optimized here, and others may get the processor in one of them.
    const MOST: Duration = Duration::from_millis(60);
    let start = Instant::now();
    let config = StoreConfig { max_flows: FLOWS, idle_timeout: Duration::from_secs(60) };
    let mut bench = Bench { store: FlowStore::new(config, start), start, port: 0 };
    let owners: Vec<_> =
        (0..200).map(|at| container(&pod(&format!("web-{at}"), Some("web")), "app")).collect();
    for at in 0..FLOWS {
        bench.port = (at % 60_000) as u16;
        let owner = Party::Workload(Arc::clone(&owners[at as usize % owners.len()]));
        let ends = [owner, Party::Unknown];
        bench.count(DIRECTION_EGRESS, HOOK_SOCKET, (at / 60_000) as u8 + 9, 1, ends);
    }
    let query = WorkloadQuery { limit: 100, peers: 10, ..WorkloadQuery::default() };
    let mut survey = WorkloadSurvey::new(query, "node-1".into());
    let (mut next, mut pieces, begin) = (Some(0), Vec::new(), Instant::now());
    while let Some(from) = next {
        let (piece, mut flows) = (Instant::now(), 0);
        next = bench.store.visit(from, PIECE, |flow, moved| {
            flows += 1;
            survey.add_flow(flow, moved);
        });
        assert!(flows <= PIECE, "{flows}");
        pieces.push(piece.elapsed());
    }
    pieces.sort_unstable();
    let (usual, longest) = (pieces[pieces.len() / 2], pieces[pieces.len() - 1]);
    println!("{FLOWS} flows: {:?}, in pieces of {usual:?}, at most {longest:?}", begin.elapsed());
    assert_eq!(survey.page().totals.counts.active_flows, u64::from(FLOWS));
    assert!(usual < MOST, "{usual:?}");
}
