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

mod counts;
mod owners;
mod scale;
mod steps;

pub(in crate::metrics) use counts::of_one_pod;

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
