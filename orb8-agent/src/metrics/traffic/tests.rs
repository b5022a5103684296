use std::net::Ipv4Addr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use orb8_common::flow::{
    DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, HOOK_INTERFACE, HOOK_SOCKET,
};
use orb8_common::tcp::RTT_BUCKETS;
use orb8_k8s::object::{Controller, Phase, Pod};
use proptest::prelude::*;

use super::*;
use crate::event::{DnsOutcome, DnsResponse, Reason, ResetBy, SocketEnd, TcpKind, TcpRole};
use crate::identity::Workload;
use crate::metrics::distribution::RoundTrips;
use crate::metrics::family::{Family, Value};
use crate::store::Moved;

mod scale;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What is known of owners, by cgroup.
#[derive(Debug, Default)]
struct World {
    owners: HashMap<u64, Arc<Workload>>,
    pending: HashSet<u64>,
    gone: HashSet<u64>,
    /// By uid; `None` without a Kubernetes API.
    pods: Option<HashSet<String>>,
}

impl Owners for World {
    fn owner(&mut self, cgroup_id: u64, _: Instant) -> Option<Arc<Workload>> {
        self.owners.get(&cgroup_id).map(Arc::clone)
    }

    fn is_pending(&self, cgroup_id: u64, _: Instant) -> bool {
        self.pending.contains(&cgroup_id)
    }

    fn is_gone(&self, cgroup_id: u64) -> bool {
        self.gone.contains(&cgroup_id)
    }

    fn has_pod(&self, uid: &str) -> Option<bool> {
        Some(self.pods.as_ref()?.contains(uid))
    }
}

/// Traffic with its own time.
struct Bench {
    traffic: TrafficSeries,
    world: World,
    start: Instant,
    seconds: u64,
}

impl Bench {
    fn new(labels: &str, max_series: u32) -> Self {
        let labels = match labels {
            "" => LabelChoice::none(),
            labels => LabelChoice::parse(labels).unwrap(),
        };
        let traffic = TrafficSeries::new(TrafficConfig { labels, max_series }, "n1");
        Self { traffic, world: World::default(), start: Instant::now(), seconds: 0 }
    }

    fn at(&self) -> Moment {
        let now = self.start + Duration::from_secs(self.seconds);
        Moment { time: UnixNanos(self.seconds * 1_000_000_000), now }
    }

    fn count(&mut self, flow: &mut Flow, packets: u64, bytes: u64) {
        let at = self.at();
        self.traffic.count_flow(flow, (packets, bytes), &self.world, at);
    }

    fn tcp(&mut self, owner: &Party, kind: TcpKind, added: OfConnection<'_>) {
        let (ends, at) = (ends(owner.clone(), Party::Unknown), self.at());
        let sample = sample(kind);
        self.traffic.count_tcp(&sample, added, (&ends, Some(End::Source)), &self.world, at);
    }

    /// Lets seconds pass, with their cycles.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.seconds += 1;
            let now = self.at().now;
            self.traffic.settle(&mut self.world, now);
        }
    }

    fn families(&self) -> Vec<Family> {
        families(&self.traffic.copy(0, usize::MAX >> 1).0).collect()
    }

    /// Returns values as `name{labels}`, but for histograms.
    fn values(&self) -> HashMap<String, u64> {
        let mut values = HashMap::new();
        for Family { name, samples, .. } in self.families() {
            for sample in samples {
                let labels = sample.labels.iter().map(|(name, value)| format!("{name}={value}"));
                let id = format!("{name}{{{}}}", labels.collect::<Vec<_>>().join(","));
                let value = match sample.value {
                    Value::Count(count) => count,
                    Value::Gauge(value) => value as u64,
                    Value::Sum(_) | Value::Histogram(_) => continue,
                };
                assert_eq!(values.insert(id.clone(), value), None, "{id} is there twice");
            }
        }
        values
    }

    fn value(&self, id: &str) -> Option<u64> {
        self.values().get(id).copied()
    }

    /// Sum of the values of a metric.
    fn sum(&self, name: &str) -> u64 {
        let of = format!("{name}{{");
        self.values().iter().filter(|(id, _)| id.starts_with(&of)).map(|(_, value)| value).sum()
    }
}

fn ends(source: Party, destination: Party) -> Ends {
    Ends { source, destination }
}

fn end(last: u8, port: u16) -> SocketEnd {
    SocketEnd { addr: Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets(), port }
}

/// A pod of namespace `shop` whose uid is its name, of a Deployment without its last part.
fn pod(name: &str) -> Arc<Pod> {
    let controller = name.rsplit_once('-').map(|(controller, _)| controller);
    Arc::new(Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: name.into(),
        config_hash: None,
        node: Some("n1".into()),
        labels: [].into(),
        controller: controller
            .map(|name| Controller { kind: "Deployment".into(), name: name.into() }),
        host_network: false,
        ips: [].into(),
        containers: [].into(),
        phase: Phase::Running,
    })
}

/// A pod's sandbox, whose cgroup has this id.
fn owner(cgroup_id: u64, name: &str) -> Party {
    let api = pod(name);
    Party::Workload(Arc::new(Workload {
        namespace: Some("shop".into()),
        pod: Some(name.into()),
        pod_uid: Some(name.into()),
        api: Some(api),
        cgroup_id,
        cgroup_path: format!("/kubepods/{name}"),
        ..Workload::default()
    }))
}

fn unit(cgroup_id: u64, name: &str) -> Party {
    Party::Workload(Arc::new(Workload {
        unit: Some(name.into()),
        cgroup_id,
        cgroup_path: format!("/system.slice/{name}"),
        ..Workload::default()
    }))
}

/// A flow out of a socket of an owner's.
fn flow(owner: &Party) -> Flow {
    flow_with(ends(owner.clone(), Party::Unknown), |_| {})
}

fn flow_with(ends: Ends, change: impl FnOnce(&mut FlowKey)) -> Flow {
    let mut key = FlowKey {
        source_addr: end(1, 0).addr,
        destination_addr: end(2, 0).addr,
        source_port: 40_000,
        destination_port: 80,
        ifindex: 0,
        cgroup_id: 0,
        protocol: TCP,
        direction: DIRECTION_EGRESS,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    };
    change(&mut key);
    let mut flow = Flow::of_window(key, UnixNanos(0), Moved::default());
    flow.ends = ends;
    flow
}

fn sample(kind: TcpKind) -> TcpSample {
    TcpSample {
        kind,
        local: end(1, 40_000),
        remote: end(2, 80),
        of_packet: false,
        local_end: None,
        cgroup_id: 0,
        cookie: 1,
        netns: 0,
        ifindex: 0,
        role: TcpRole::Client,
        state: 1,
        old_state: 0,
        srtt_ns: None,
        figures: None,
    }
}

fn exchange(outcome: DnsOutcome, rcode: Option<u16>) -> DnsExchange {
    DnsExchange {
        client: end(1, 5000),
        server: end(2, 53),
        transport: UDP,
        side: DnsSide::Client,
        cgroup_id: 0,
        cookie: 0,
        ifindex: 0,
        id: 1,
        question: None,
        outcome,
        response: rcode.map(|rcode| DnsResponse { rcode, ..DnsResponse::default() }),
        asked: Some(UnixNanos(0)),
        latency_ns: 3_000_000,
        retries: 0,
        told_retries: None,
        query_bytes: 20,
    }
}

#[test]
fn pods_of_a_workload_are_one_series() {
    let mut bench = Bench::new("namespace,workload", 100);
    let (mut a, mut b) = (flow(&owner(1, "web-1")), flow(&owner(2, "web-2")));
    bench.count(&mut a, 2, 200);
    bench.count(&mut b, 3, 300);
    bench.count(&mut a, 1, 50);
    let labels = "{namespace=shop,workload=web,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{labels}")), Some(550));
    assert_eq!(bench.value(&format!("orb8_flow_packets_total{labels}")), Some(6));
    assert_eq!(bench.value(&format!("orb8_active_flows{labels}")), Some(2));
    bench.traffic.end_flow(&mut a);
    bench.traffic.end_flow(&mut a);
    assert_eq!(bench.value(&format!("orb8_active_flows{labels}")), Some(1), "once each");
    assert_eq!(bench.traffic.totals().sets, 1);
}

#[test]
fn the_local_end_decides_owner_and_direction() {
    let mut bench = Bench::new("pod", 100);
    let both = || ends(owner(1, "web-1"), owner(2, "db-1"));
    bench.count(&mut flow_with(both(), |_| {}), 1, 10);
    bench.count(&mut flow_with(both(), |key| key.direction = DIRECTION_INGRESS), 1, 100);
    // Seen between two others, of whom the destination is this node's.
    let stranger = Pod { node: Some("n2".into()), ..Pod::clone(&pod("far-1")) };
    let passing = ends(Party::Pod(Arc::new(stranger)), Party::Pod(pod("box-1")));
    let at_interface = |key: &mut FlowKey| {
        (key.hook, key.direction, key.protocol) = (HOOK_INTERFACE, DIRECTION_EGRESS, 99);
    };
    bench.count(&mut flow_with(passing, at_interface), 1, 1_000);
    bench.count(&mut flow_with(Ends::default(), at_interface), 1, 7);
    let bytes = |labels: &str| bench.value(&format!("orb8_flow_bytes_total{{{labels}}}"));
    assert_eq!(bytes("pod=web-1,direction=egress,protocol=TCP"), Some(10));
    assert_eq!(bytes("pod=db-1,direction=ingress,protocol=TCP"), Some(100));
    assert_eq!(bytes("pod=box-1,direction=ingress,protocol=other"), Some(1_000));
    assert_eq!(bytes("direction=egress,protocol=other"), Some(7), "nobody's");
}

#[test]
fn an_owner_that_becomes_known_has_what_comes_then() {
    let mut bench = Bench::new("namespace,pod", 100);
    let mut flow = flow(&Party::Unknown);
    bench.count(&mut flow, 1, 10);
    flow.ends.source = owner(1, "web-1");
    bench.count(&mut flow, 1, 100);
    let unknown = "{direction=egress,protocol=TCP}";
    let known = "{namespace=shop,pod=web-1,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{unknown}")), Some(10), "stays");
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{known}")), Some(100));
    assert_eq!(bench.value(&format!("orb8_active_flows{unknown}")), Some(0), "moved");
    assert_eq!(bench.value(&format!("orb8_active_flows{known}")), Some(1));
}

#[test]
fn the_agents_own_api_is_in_no_series() {
    let mut bench = Bench::new("pod", 100);
    let mut flow = flow(&owner(1, "orb8-1"));
    bench.count(&mut flow, 1, 10);
    // The first packet did not tell.
    flow.self_traffic = true;
    bench.count(&mut flow, 2, 20);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 10);
    assert_eq!(bench.sum("orb8_active_flows"), 0);
    let totals = bench.traffic.totals();
    assert_eq!((totals.self_packets, totals.self_bytes), (2, 20));
}

/// A pod's container of which the runtime's files alone tell.
fn awaited(cgroup_id: u64) -> Party {
    Party::Workload(Arc::new(Workload {
        namespace: Some("shop".into()),
        pod: Some("web-1".into()),
        pod_uid: Some("web-1".into()),
        cgroup_id,
        cgroup_path: "/kubepods/web-1".into(),
        ..Workload::default()
    }))
}

#[test]
fn who_is_about_to_be_known_makes_no_series_of_its_own() {
    let mut bench = Bench::new("namespace,workload", 100);
    bench.world.pending.insert(1);
    let (mut kept, mut ended) = (flow(&awaited(1)), flow(&awaited(1)));
    bench.count(&mut kept, 1, 10);
    bench.count(&mut ended, 1, 5);
    bench.traffic.end_flow(&mut ended);
    bench.pass(2);
    assert_eq!(bench.values(), HashMap::new(), "it is waited for");
    let Party::Workload(known) = owner(1, "web-1") else { unreachable!() };
    bench.world.owners.insert(1, known);
    bench.world.pending.clear();
    bench.pass(1);
    let labels = "{namespace=shop,workload=web,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{labels}")), Some(15));
    assert_eq!(bench.value(&format!("orb8_active_flows{labels}")), Some(1));
    // Its flow still names the old one.
    bench.count(&mut kept, 1, 100);
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{labels}")), Some(15));
    kept.ends.source = owner(1, "web-1");
    bench.count(&mut kept, 1, 100);
    assert_eq!(bench.value(&format!("orb8_active_flows{labels}")), Some(1));
    bench.traffic.end_flow(&mut kept);
    assert_eq!(bench.value(&format!("orb8_active_flows{labels}")), Some(0));
}

#[test]
fn who_is_not_told_in_time_has_the_names_that_there_are() {
    let mut bench = Bench::new("namespace,workload", 100);
    bench.world.pending.insert(1);
    let mut flow = flow(&awaited(1));
    bench.count(&mut flow, 1, 10);
    bench.world.pending.clear();
    bench.pass(1);
    let labels = "{namespace=shop,workload=web-1,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{labels}")), Some(10));
    bench.traffic.end_flow(&mut flow);
    assert_eq!(bench.sum("orb8_active_flows"), 0);
}

#[test]
fn a_pods_series_go_a_minute_after_it() {
    let mut bench = Bench::new("workload", 100);
    let (mut a, mut b) = (flow(&owner(1, "web-1")), flow(&owner(2, "web-2")));
    bench.count(&mut a, 1, 10);
    bench.count(&mut b, 1, 10);
    bench.count(&mut flow(&unit(3, "nginx.service")), 1, 1);
    bench.count(&mut flow(&unit(4, "session-1.scope")), 1, 1);
    bench.count(&mut flow(&Party::Unknown), 1, 1);
    bench.pass(100);
    assert_eq!(bench.traffic.totals().sets, 4, "silence is no end");
    bench.world.gone.extend([1, 3, 4]);
    bench.pass(100);
    assert_eq!(bench.traffic.totals().sets, 3, "a pod is left, and the unit may come again");
    bench.world.gone.insert(2);
    bench.pass(55);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 22);
    bench.pass(15);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 2);
    // What is left of it in the flow table names nothing.
    bench.traffic.end_flow(&mut a);
    bench.count(&mut b, 1, 7);
    let back = "orb8_flow_bytes_total{workload=web,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(back), Some(7), "it begins anew");
    let since = bench.families()[0].samples.iter().map(|sample| sample.since.0).max();
    assert_eq!(since, Some(bench.seconds * 1_000_000_000));
}

#[test]
fn a_pod_is_there_while_its_container_is_started_again() {
    let mut bench = Bench::new("pod", 100);
    bench.world.pods = Some(["web-1".to_owned()].into());
    bench.count(&mut flow(&owner(1, "web-1")), 1, 10);
    bench.world.gone.insert(1);
    bench.pass(300);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 10);
    bench.world.pods = Some(HashSet::new());
    bench.pass(30);
    // It comes back in time.
    bench.count(&mut flow(&owner(2, "web-1")), 1, 10);
    bench.pass(300);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 20, "its cgroup is there");
    bench.world.gone.insert(2);
    bench.pass(70);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 0);
}

#[test]
fn a_peers_series_go_with_it() {
    let mut bench = Bench::new("workload,peer-pod", 100);
    bench.world.pods = Some(["web-1".to_owned(), "db-1".to_owned()].into());
    bench.count(&mut flow_with(ends(owner(1, "web-1"), Party::Pod(pod("db-1"))), |_| {}), 1, 10);
    bench.pass(100);
    assert_eq!(bench.traffic.totals().sets, 1);
    bench.world.pods = Some(["web-1".to_owned()].into());
    bench.pass(70);
    assert_eq!(bench.traffic.totals().sets, 0);
}

#[test]
fn a_pair_of_workloads_is_there_while_both_are() {
    let mut bench = Bench::new("workload,peer-workload", 100);
    let (web, db) = (["web-1", "web-2"], ["db-1", "db-2"]);
    bench.world.pods = Some(web.iter().chain(&db).map(|name| (*name).to_owned()).collect());
    for (cgroup_id, (own, peer)) in (1..).zip(web.iter().zip(&db)) {
        let ends = ends(owner(cgroup_id, own), Party::Pod(pod(peer)));
        bench.count(&mut flow_with(ends, |_| {}), 1, 10);
    }
    assert_eq!(bench.traffic.totals().sets, 1);
    // One of each is left, though these two never talked.
    bench.world.gone.insert(1);
    bench.world.pods = Some(["web-2".to_owned(), "db-1".to_owned()].into());
    bench.pass(100);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 20);
    bench.world.pods = Some(["web-2".to_owned()].into());
    bench.pass(70);
    assert_eq!(bench.traffic.totals().sets, 0);
}

#[test]
fn what_has_no_room_is_other_until_there_is_room() {
    let mut bench = Bench::new("namespace,pod", 2);
    for (cgroup_id, name) in [(1, "a-1"), (2, "b-1"), (3, "c-1"), (4, "d-1")] {
        bench.count(&mut flow(&owner(cgroup_id, name)), 1, 10);
        bench.count(&mut flow(&owner(cgroup_id, name)), 1, 10);
    }
    let other = "orb8_flow_bytes_total{namespace=other,pod=other,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(other), Some(40));
    assert_eq!(bench.traffic.totals().overflows, 2, "label sets, not events");
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 80, "nothing is lost");
    bench.world.gone.insert(1);
    let c = owner(3, "c-1");
    bench.pass(70);
    bench.count(&mut flow(&c), 1, 10);
    let own = "orb8_flow_bytes_total{namespace=shop,pod=c-1,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(own), Some(10));
    assert_eq!(bench.value(other), Some(40), "what it counted stays");
    assert_eq!(bench.traffic.totals().sets, 3);
}

#[test]
fn labels_can_be_off() {
    let mut bench = Bench::new("", 100);
    bench.count(&mut flow(&owner(1, "a-1")), 1, 10);
    bench.count(&mut flow(&Party::Unknown), 1, 10);
    assert_eq!(bench.value("orb8_flow_bytes_total{direction=egress,protocol=TCP}"), Some(20));
}

#[test]
fn exchanges_are_counted_as_the_table_of_names_does() {
    let mut bench = Bench::new("pod", 100);
    let ends = ends(owner(1, "web-1"), Party::Unknown);
    let count = |bench: &mut Bench, exchange: DnsExchange| {
        let at = bench.at();
        bench.traffic.count_dns(&exchange, &ends, &bench.world, at);
    };
    count(&mut bench, DnsExchange { retries: 2, ..exchange(DnsOutcome::Answered, Some(0)) });
    count(&mut bench, exchange(DnsOutcome::Answered, Some(3)));
    count(&mut bench, exchange(DnsOutcome::Answered, Some(4_000)));
    count(&mut bench, DnsExchange { retries: 1, ..exchange(DnsOutcome::Timeout, None) });
    // Late, after another repeat.
    let late = exchange(DnsOutcome::Answered, Some(0));
    count(&mut bench, DnsExchange { retries: 2, told_retries: Some(1), ..late });
    count(&mut bench, exchange(DnsOutcome::Unasked, Some(0)));
    count(&mut bench, exchange(DnsOutcome::Malformed, None));
    let value = |name: &str, labels: &str| {
        bench.value(&format!("orb8_dns_{name}{{pod=web-1,side=client{labels}}}"))
    };
    assert_eq!(value("queries_total", ""), Some(4));
    assert_eq!(value("timeouts_total", ""), Some(1));
    assert_eq!(value("retries_total", ""), Some(4));
    assert_eq!(value("responses_total", ",rcode=NOERROR"), Some(2));
    assert_eq!(value("responses_total", ",rcode=NXDOMAIN"), Some(1));
    assert_eq!(value("responses_total", ",rcode=other"), Some(1));
    let families = bench.families();
    let latency = families.iter().find(|family| family.name == "orb8_dns_latency_seconds").unwrap();
    let Value::Histogram(latency) = &latency.samples[0].value else { panic!() };
    let bucket = latency.bounds.iter().position(|bound| *bound >= 0.003).unwrap();
    assert_eq!((latency.count, latency.counts[bucket]), (4, 4), "3 ms each");
    assert!((latency.sum - 0.012).abs() < 1e-12);
}

/// Counts one of everything for a pod's connections.
fn tell_connections(bench: &mut Bench, owner: &Party) {
    let none = OfConnection::default();
    let mut tell = |kind| bench.tcp(owner, kind, none);
    tell(TcpKind::Connect { handshake_ns: Some(2_000_000) });
    tell(TcpKind::Accept { handshake_ns: None });
    tell(TcpKind::Close { errno: 104 });
    [111, 111, 0, 60_000].into_iter().for_each(|errno| tell(TcpKind::Fail { errno }));
    tell(TcpKind::Reset { by: ResetBy::Remote, reason: None });
    tell(TcpKind::Overflow { overflows: 5, queue: 1, limit: 1 });
    let reason = Reason { id: 2, name: "NO_SOCKET".into() };
    let drop = TcpKind::Drop { reason, location: None, weight: 7, tcp_flags: 2, bytes: 40 };
    tell(drop);
    tell(TcpKind::State);
    let mut counts = [0; RTT_BUCKETS];
    counts[11] = 4;
    let round_trips = Some(RoundTrips { counts: &counts, sum_us: 6_000 });
    bench.tcp(owner, TcpKind::Progress, OfConnection { resent: 3, round_trips });
}

/// Every metric of traffic, for one pod.
pub(in crate::metrics) fn of_one_pod() -> Vec<Family> {
    let mut bench = Bench::new("namespace,pod", 100);
    let owner = owner(1, "web-1");
    bench.count(&mut flow(&owner), 1, 10);
    let (ends, at) = (ends(owner.clone(), Party::Unknown), bench.at());
    let answered = exchange(DnsOutcome::Answered, Some(0));
    bench.traffic.count_dns(&answered, &ends, &bench.world, at);
    tell_connections(&mut bench, &owner);
    bench.families()
}

#[test]
fn connections_are_counted_by_what_became_of_them() {
    let mut bench = Bench::new("pod", 100);
    tell_connections(&mut bench, &owner(1, "web-1"));
    let value =
        |name: &str, labels: &str| bench.value(&format!("orb8_tcp_{name}{{pod=web-1{labels}}}"));
    assert_eq!(value("connects_total", ""), Some(1));
    assert_eq!(value("accepts_total", ""), Some(1));
    assert_eq!(value("closes_total", ""), Some(1));
    assert_eq!(value("connect_failures_total", ",errno=ECONNREFUSED"), Some(2));
    assert_eq!(value("connect_failures_total", ",errno=none"), Some(1));
    assert_eq!(value("connect_failures_total", ",errno=other"), Some(1));
    assert_eq!(value("resets_total", ",by=remote"), Some(1));
    assert_eq!(value("resets_total", ",by=local"), Some(0));
    assert_eq!(value("dropped_packets_total", ",reason=NO_SOCKET"), Some(7));
    assert_eq!(value("listener_overflows_total", ""), Some(5));
    assert_eq!(value("retransmitted_segments_total", ""), Some(3));
    let families = bench.families();
    let times = |name: &str| {
        let family = families.iter().find(|family| family.name == name).unwrap();
        let Value::Histogram(times) = &family.samples[0].value else { panic!() };
        Arc::clone(times)
    };
    assert_eq!(times("orb8_tcp_handshake_seconds").count, 1);
    let rtt = times("orb8_tcp_rtt_seconds");
    assert!(rtt.count == 4 && (rtt.sum - 0.006).abs() < 1e-12, "{rtt:?}");
}

#[test]
fn every_traffic_metric_has_a_place_in_the_contract() {
    let mut names = HashSet::new();
    for metric in TRAFFIC {
        assert!(names.insert(metric.name), "{} is there twice", metric.name);
        assert!(metric.name.starts_with("orb8_") && metric.help.ends_with('.'), "{}", metric.name);
        let is_counter = metric.name.ends_with("_total");
        assert_eq!(is_counter, kind_of(metric) == crate::metrics::family::Kind::Counter);
        assert!(metric.labels.len() <= 2);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Count { flow: usize, bytes: u64 },
    Rename { flow: usize, owner: usize },
    End { flow: usize },
    Gone { owner: usize },
    Pend { owner: usize, is_pending: bool },
    Pass { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..8_usize, 1..1000_u64).prop_map(|(flow, bytes)| Step::Count { flow, bytes }),
        2 => (0..8_usize, 0..6_usize).prop_map(|(flow, owner)| Step::Rename { flow, owner }),
        1 => (0..8_usize).prop_map(|flow| Step::End { flow }),
        1 => (0..6_usize).prop_map(|owner| Step::Gone { owner }),
        1 => (0..6_usize, any::<bool>())
            .prop_map(|(owner, is_pending)| Step::Pend { owner, is_pending }),
        1 => (1..40_u64).prop_map(|seconds| Step::Pass { seconds }),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens, each series grows until it is gone, and active flows are those that are.
    #[test]
    fn no_counter_goes_back(steps in steps()) {
        let mut bench = Bench::new("namespace,pod", 3);
        let parties: Vec<Party> = (0..6).map(|id| awaited_as(id + 1, &format!("p{id}-1"))).collect();
        let mut flows: Vec<Flow> = (0..8).map(|at| flow(&parties[at % 6])).collect();
        let mut before = HashMap::new();
        let mut counted = 0;
        for step in steps {
            match step {
                Step::Count { flow, bytes } => {
                    bench.count(&mut flows[flow], 1, bytes);
                    counted += bytes;
                }
                Step::Rename { flow, owner } => {
                    flows[flow].ends.source = parties[owner].clone();
                }
                Step::End { flow } => bench.traffic.end_flow(&mut flows[flow]),
                Step::Gone { owner } => {
                    bench.world.gone.insert(owner as u64 + 1);
                }
                Step::Pend { owner, is_pending: true } => {
                    bench.world.pending.insert(owner as u64 + 1);
                }
                Step::Pend { owner, .. } => {
                    bench.world.pending.remove(&(owner as u64 + 1));
                }
                Step::Pass { seconds } => bench.pass(seconds),
            }
            let now = bench.values();
            for (id, value) in now.iter().filter(|(id, _)| id.contains("_total")) {
                prop_assert!(before.get(id).is_none_or(|before| before <= value), "{id}");
            }
            prop_assert!(bench.traffic.totals().sets <= 4);
            prop_assert!(bench.sum("orb8_flow_bytes_total") <= counted);
            before = now;
        }
        bench.world.pending.clear();
        bench.world.gone.clear();
        bench.pass(1);
        for flow in &mut flows {
            bench.count(flow, 1, 0);
        }
        bench.pass(1);
        prop_assert_eq!(bench.sum("orb8_active_flows"), flows.len() as u64);
        flows.iter_mut().for_each(|flow| bench.traffic.end_flow(flow));
        prop_assert_eq!(bench.sum("orb8_active_flows"), 0);
    }
}

fn awaited_as(cgroup_id: u64, name: &str) -> Party {
    Party::Workload(Arc::new(Workload {
        namespace: Some("shop".into()),
        pod: Some(name.into()),
        pod_uid: Some(name.into()),
        cgroup_id,
        cgroup_path: format!("/kubepods/{name}"),
        ..Workload::default()
    }))
}
