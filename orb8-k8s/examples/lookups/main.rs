//! What the index costs: ns per lookup, time and memory for a cluster's pods, and how long readers
//! wait while all of it is listed anew.
//!
//! `cargo run --release -p orb8-k8s --example lookups [pods] [services]`

mod manifests;

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use kube::core::ObjectList;
use orb8_k8s::index::{Index, IndexWriter, Source};
use orb8_k8s::wire::{NodeObject, OwnerObject, PodObject, ServiceObject};
use serde_json::from_str;

/// Pods of this node: the kubelet's default limit.
const LOCAL: usize = 110;
/// As many as a watch asks for at once.
const PAGE: usize = 500;
const LOOKUPS: usize = 1_000_000;
const ROUNDS: usize = 7;

fn main() {
    let mut arguments = env::args().skip(1).map(|text| text.parse().expect("a number"));
    let pods = arguments.next().unwrap_or(5_000);
    let services = arguments.next().unwrap_or(500);
    let (index, mut writer) = Index::new();
    write_others(&mut writer, pods, services);
    let before = resident();
    let (parsing, writing) = write_pods(&mut writer, pods);
    let per_pod = |time: Duration| time.as_secs_f64() * 1e6 / pods as f64;
    let grown = resident().saturating_sub(before);
    println!("pods {pods} of {} bytes each, services {services}", manifests::pod(1).len());
    println!("parse {:.1} us/pod, index {:.1} us/pod", per_pod(parsing), per_pod(writing));
    println!("index all {:.1} ms", writing.as_secs_f64() * 1e3);
    println!("rss +{grown} KiB, {} bytes/pod", grown * 1024 / pods.max(1) as u64);
    println!("{:?}", index.counts());
    time_lookups(&index, pods, services);
    time_relist(&index, &mut writer, pods);
    println!("rss after {} relists +{} KiB", ROUNDS, resident().saturating_sub(before));
}

/// Pages as they come: text, objects, then only the index.
fn write_pods(writer: &mut IndexWriter, pods: usize) -> (Duration, Duration) {
    let (mut parsing, mut writing) = (Duration::ZERO, Duration::ZERO);
    writer.begin(Source::LocalPods);
    writer.begin(Source::RemotePods);
    for first in (0..pods).step_by(PAGE) {
        let items: Vec<_> = (first..pods.min(first + PAGE)).map(manifests::pod).collect();
        let page = format!(
            r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"1"}},"items":[{}]}}"#,
            items.join(",")
        );
        drop(items);
        let start = Instant::now();
        let page: ObjectList<PodObject> = from_str(&page).expect("a list");
        parsing += start.elapsed();
        let start = Instant::now();
        for (pod, number) in page.items.into_iter().zip(first..) {
            let source = if number < LOCAL { Source::LocalPods } else { Source::RemotePods };
            writer.apply(source, pod);
        }
        writing += start.elapsed();
    }
    writer.finish(Source::LocalPods);
    writer.finish(Source::RemotePods);
    (parsing, writing)
}

fn write_others(writer: &mut IndexWriter, pods: usize, services: usize) {
    for number in 0..services {
        let service: ServiceObject = from_str(&manifests::service(number)).expect("a Service");
        writer.apply(Source::Services, service);
    }
    for number in 0..pods.div_ceil(LOCAL) {
        let node: NodeObject = from_str(&manifests::node(number)).expect("a node");
        writer.apply(Source::Nodes, node);
    }
    for number in 0..pods.div_ceil(manifests::REPLICAS) {
        let owner: OwnerObject = from_str(&manifests::replica_set(number)).expect("a ReplicaSet");
        writer.apply(Source::ReplicaSets, owner);
    }
}

fn time_lookups(index: &Index, pods: usize, services: usize) {
    let local = pods.min(LOCAL);
    let uids: Vec<_> = (0..pods).map(manifests::uid).collect();
    let containers: Vec<_> = (0..local).map(manifests::container).collect();
    let ips: Vec<_> = (0..pods).map(manifests::pod_ip).collect();
    let cluster: Vec<_> = (0..services).map(manifests::cluster_ip).collect();
    let nodes: Vec<_> = (0..pods.div_ceil(LOCAL)).map(manifests::node_ip).collect();
    let strangers: Vec<_> = (0..250).map(|n| IpAddr::from([203, 0, 113, n])).collect();
    let now = u64::MAX / 2;
    time("pod by uid", &uids, |uid| index.pod(uid).is_some());
    time("container by id", &containers, |id| index.container(id).is_some());
    time("pod by address", &ips, |ip| index.pod_at(*ip, now).is_some());
    time("service by address and port", &cluster, |ip| index.service_at(*ip, 6, 80).is_some());
    time("service by address alone", &cluster, |ip| index.service_at(*ip, 6, 81).is_some());
    time("service by node port", &nodes, |ip| index.service_at(*ip, 6, 30000).is_some());
    time("node by address", &nodes, |ip| index.node_at(*ip).is_some());
    time("no pod", &strangers, |ip| index.pod_at(*ip, now).is_none());
    time("no service", &strangers, |ip| index.service_at(*ip, 6, 80).is_none());
    time("generation", &[()], |()| index.generation() > 0);
}

/// Prints the median of some rounds. Keys are asked for in an order that caches do not like.
fn time<K>(what: &str, keys: &[K], lookup: impl Fn(&K) -> bool) {
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let mut at = 0;
            let start = Instant::now();
            for _ in 0..LOOKUPS {
                at = (at + 7_919) % keys.len();
                assert!(black_box(lookup(black_box(&keys[at]))));
            }
            start.elapsed().as_secs_f64() * 1e9 / LOOKUPS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{what:<28} {:6.1} ns", rounds[ROUNDS / 2]);
}

/// Reads without a pause while everything is listed anew, and prints how long one read took at most.
fn time_relist(index: &Index, writer: &mut IndexWriter, pods: usize) {
    let done = AtomicBool::new(false);
    let ips: Vec<_> = (0..pods).map(manifests::pod_ip).collect();
    thread::scope(|threads| {
        let reader = threads.spawn(|| {
            let mut took = Vec::new();
            let mut at = 0;
            while !done.load(Ordering::Acquire) {
                at = (at + 7_919) % ips.len();
                let start = Instant::now();
                assert!(index.pod_at(ips[at], u64::MAX / 2).is_some(), "a pod vanished");
                took.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
            }
            took.sort_unstable();
            took
        });
        for _ in 0..ROUNDS {
            write_pods(writer, pods);
        }
        done.store(true, Ordering::Release);
        let took = reader.join().expect("a reader that ends");
        let part = |part: usize| took[(took.len() - 1) * part / 100_000];
        println!(
            "while listed anew: {} reads, median {} ns, 99.9 % {} ns, 99.999 % {} ns, longest {} us",
            took.len(),
            part(50_000),
            part(99_900),
            part(99_999),
            part(100_000) / 1_000
        );
    });
}

/// Memory of this process in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
