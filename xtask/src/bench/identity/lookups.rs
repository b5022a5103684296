//! What a question to the index costs.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use orb8_k8s::{
    index::{Index, IndexWriter, Source},
    wire::{EndpointSliceObject, NodeObject, OwnerObject, PodObject, ServiceObject},
};
use serde_json::Value;

use super::manifests;
use crate::bench::{interrupt::pause, plan::Plan, report::Table, stats::median, targets};

/// Questions of one measurement.
const QUESTIONS: usize = 200_000;

const TCP: u8 = 6;

/// A question, about as many things as there are, and whether it has an answer.
struct Case<'a> {
    question: &'static str,
    about: &'static str,
    ask: Box<dyn Fn(&Key) -> bool + 'a>,
    keys: Vec<Key>,
}

/// What is asked by.
enum Key {
    Address(IpAddr),
    Text(String),
}

pub(super) fn measure(plan: &Plan) -> Result<Table> {
    let (index, filled) = fill()?;
    let note = format!(
        "{} **Questions to the index** of {} pods, {} Services with {} EndpointSlices, and {} nodes: \
         nanoseconds each, in random order, less those of a loop that asks nothing; medians of \
         rounds. To read the manifests and fill the index took {:.0} ms, on one core.",
        plan.machine,
        manifests::PODS,
        manifests::SERVICES,
        manifests::SERVICES * manifests::SLICES,
        manifests::NODES,
        filled * 1e3,
    );
    let mut table = Table::new(note, &["question", "about", "ns"]);
    for case in cases(&index) {
        eprintln!("identity: {}, {}", case.question, case.about);
        let mut ns = Vec::new();
        for _ in 0..plan.rounds {
            pause(Duration::ZERO)?;
            ns.push(measure_one(&case));
        }
        let ns = median(&ns).unwrap_or(f64::NAN);
        let cells = vec![case.question.to_owned(), case.about.to_owned(), format!("{ns:.0}")];
        table.row(cells, &[("", ns, targets::LOOKUP)]);
    }
    Ok(table)
}

fn measure_one(case: &Case<'_>) -> f64 {
    let time = |ask: &dyn Fn(&Key) -> bool| {
        let start = Instant::now();
        for key in case.keys.iter().cycle().take(QUESTIONS) {
            black_box(ask(black_box(key)));
        }
        start.elapsed().as_nanos() as f64 / QUESTIONS as f64
    };
    // It reads what every question reads.
    let nothing = time(&|key| match key {
        Key::Address(ip) => ip.is_ipv4(),
        Key::Text(text) => text.ends_with('0'),
    });
    time(&*case.ask) - nothing
}

fn cases(index: &Index) -> Vec<Case<'_>> {
    let now = now();
    let by_address = |ask: fn(&Index, IpAddr, u64) -> bool| {
        Box::new(move |key: &Key| match key {
            Key::Address(ip) => ask(index, *ip, now),
            Key::Text(_) => false,
        }) as Box<dyn Fn(&Key) -> bool>
    };
    let by_text = |ask: fn(&Index, &str) -> bool| {
        Box::new(move |key: &Key| match key {
            Key::Text(text) => ask(index, text),
            Key::Address(_) => false,
        }) as Box<dyn Fn(&Key) -> bool>
    };
    let pods = || addresses(manifests::PODS, manifests::pod_ip);
    let services = || addresses(manifests::SERVICES, manifests::service_ip);
    // Past the pods, and before the Services.
    let strangers = || addresses(manifests::PODS, |at| manifests::pod_ip(manifests::PODS + at));
    let pod_at = |index: &Index, ip, now| index.pod_at(ip, now).is_some();
    let service_at =
        |index: &Index, ip, _| index.service_at(ip, TCP, manifests::SERVICE_PORT).is_some();
    let service_whole = |index: &Index, ip, _| index.service_at(ip, TCP, 1).is_some();
    let node_at = |index: &Index, ip, _| index.node_at(ip).is_some();
    let pod = |index: &Index, uid: &str| index.pod(uid).is_some();
    let container = |index: &Index, id: &str| index.container(id).is_some();
    let case = |question, about, ask, keys| Case { question, about, ask, keys };
    vec![
        case("`pod_at`", "a pod's address", by_address(pod_at), pods()),
        case("`pod_at`", "nobody's address", by_address(pod_at), strangers()),
        case("`service_at`", "a Service's address and port", by_address(service_at), services()),
        case(
            "`service_at`",
            "a Service's address, another port",
            by_address(service_whole),
            services(),
        ),
        case("`service_at`", "a pod's address", by_address(service_at), pods()),
        case("`service_at`", "nobody's address", by_address(service_at), strangers()),
        case(
            "`node_at`",
            "a node's address",
            by_address(node_at),
            addresses(manifests::NODES, manifests::node_ip),
        ),
        case("`node_at`", "nobody's address", by_address(node_at), strangers()),
        case("`pod`", "a uid", by_text(pod), texts(manifests::PODS, manifests::pod_uid)),
        case(
            "`pod`",
            "an unknown uid",
            by_text(pod),
            texts(manifests::PODS, |at| manifests::pod_uid(at + manifests::PODS)),
        ),
        case(
            "`container`",
            "an id of this node",
            by_text(container),
            texts(manifests::LOCAL, manifests::container_id),
        ),
        case(
            "`container`",
            "an unknown id",
            by_text(container),
            texts(manifests::LOCAL, |at| manifests::container_id(at + manifests::PODS)),
        ),
    ]
}

fn addresses(count: u32, address: impl Fn(u32) -> Ipv4Addr) -> Vec<Key> {
    shuffled(count).map(|at| Key::Address(address(at).into())).collect()
}

fn texts(count: u32, text: impl Fn(u32) -> String) -> Vec<Key> {
    shuffled(count).map(|at| Key::Text(text(at))).collect()
}

/// The numbers below `count` in an order without a pattern.
fn shuffled(count: u32) -> impl Iterator<Item = u32> {
    let mut numbers: Vec<u32> = (0..count).collect();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for at in (1..numbers.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(at, (state % (at as u64 + 1)) as usize);
    }
    numbers.into_iter()
}

/// An index of the cluster, and the seconds from texts to answers.
pub(super) fn fill() -> Result<(Index, f64)> {
    let texts: Vec<(Source, String)> =
        manifests::all().map(|object| (source(&object), object.to_string())).collect();
    let (index, mut writer) = Index::new();
    let start = Instant::now();
    for (source, text) in &texts {
        apply(&mut writer, *source, text).with_context(|| text.clone())?;
    }
    Ok((index, start.elapsed().as_secs_f64()))
}

fn source(object: &Value) -> Source {
    match object["kind"].as_str() {
        Some("Service") => Source::Services,
        Some("EndpointSlice") => Source::EndpointSlices,
        Some("Node") => Source::Nodes,
        Some("ReplicaSet") => Source::ReplicaSets,
        _ if object["spec"]["nodeName"] == manifests::NODE => Source::LocalPods,
        _ => Source::RemotePods,
    }
}

fn apply(writer: &mut IndexWriter, source: Source, text: &str) -> serde_json::Result<()> {
    match source {
        Source::LocalPods | Source::RemotePods => {
            writer.apply(source, serde_json::from_str::<PodObject>(text)?);
        }
        Source::Services => writer.apply(source, serde_json::from_str::<ServiceObject>(text)?),
        Source::EndpointSlices => {
            writer.apply(source, serde_json::from_str::<EndpointSliceObject>(text)?);
        }
        Source::Nodes => writer.apply(source, serde_json::from_str::<NodeObject>(text)?),
        Source::ReplicaSets | Source::Jobs | Source::StatefulSets => {
            writer.apply(source, serde_json::from_str::<OwnerObject>(text)?);
        }
    }
    Ok(())
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
