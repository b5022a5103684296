//! What it costs the pipeline to tell who is at the ends of a flow.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use anyhow::Result;
use orb8_agent::{
    config::{Config, Environment, RawConfig, settings},
    event::{Event, FlowSample, Payload, SampleKind, UnixNanos},
    pipeline::{LocalAddresses, Pipeline},
};
use orb8_common::flow::{DIRECTION_EGRESS, FlowKey, HOOK_SOCKET};
use orb8_k8s::index::Index;

use super::{lookups, manifests};
use crate::bench::{interrupt::pause, lab::Lab, plan::Plan, report::Table, stats::median};

/// Samples of one measurement, a flow each.
const SAMPLES: u32 = 50_000;
/// Events that are taken in at a time, as from a drain.
const BATCH: usize = 4096;

/// What the flows' other ends are.
#[derive(Clone, Copy)]
struct Case {
    samples: &'static str,
    other: &'static str,
    address: fn(u32) -> Ipv4Addr,
    /// How old the flows are when they are measured; `None`: they are new.
    age: Option<Duration>,
}

/// Within it a name may still become known, and a flow's ends are looked for again and again.
const YOUNG: Duration = Duration::from_secs(1);
const OLD: Duration = Duration::from_secs(60);

const CASES: [Case; 6] = [
    Case { samples: "new flows", other: "pods", address: a_pod, age: None },
    Case { samples: "new flows", other: "Services", address: a_service, age: None },
    Case { samples: "new flows", other: "unknown addresses", address: a_stranger, age: None },
    Case { samples: "more of known flows", other: "pods", address: a_pod, age: Some(YOUNG) },
    Case {
        samples: "more of known flows",
        other: "unknown addresses, flows of 1 s",
        address: a_stranger,
        age: Some(YOUNG),
    },
    Case {
        samples: "more of known flows",
        other: "unknown addresses, flows of a minute",
        address: a_stranger,
        age: Some(OLD),
    },
];

fn a_pod(at: u32) -> Ipv4Addr {
    manifests::pod_ip(at % manifests::PODS)
}

fn a_service(at: u32) -> Ipv4Addr {
    manifests::service_ip(at % manifests::SERVICES)
}

fn a_stranger(at: u32) -> Ipv4Addr {
    manifests::pod_ip(manifests::PODS + at % manifests::PODS)
}

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Table> {
    let (index, _) = lookups::fill()?;
    let note = format!(
        "**Samples of flows** through the agent's pipeline, {SAMPLES} of as many flows at the socket \
         hook, without subscribers: nanoseconds each, medians of rounds. `more for names` is the median \
         of the differences between a pipeline that asks the index and one that has none, within a \
         round.",
    );
    let header = &["samples", "other ends", "without the index", "with it", "more for names"];
    let mut table = Table::new(note, header);
    for case in CASES {
        eprintln!("identity: {}, {}", case.samples, case.other);
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            pause(Duration::ZERO)?;
            without.push(measure_one(lab, case, None)?);
            with.push(measure_one(lab, case, Some(&index))?);
        }
        let more: Vec<f64> =
            with.iter().zip(&without).map(|(with, without)| with - without).collect();
        let [without, with, more] =
            [without, with, more].map(|values| median(&values).unwrap_or(f64::NAN));
        let cells = vec![
            case.samples.to_owned(),
            case.other.to_owned(),
            format!("{without:.0} ns"),
            format!("{with:.0} ns"),
            format!("{more:+.0} ns"),
        ];
        table.row(cells, &[]);
    }
    Ok(table)
}

fn measure_one(lab: &Lab, case: Case, index: Option<&Index>) -> Result<f64> {
    let mut pipeline = Pipeline::new(&config(lab)?, LocalAddresses::default());
    if let Some(index) = index {
        pipeline.set_kubernetes(index.clone());
    }
    let cgroup_id = fs::metadata(lab.senders.path())?.ino();
    if case.age.is_some() {
        take_in(&mut pipeline, &mut batches(case, cgroup_id, Duration::ZERO));
    }
    let mut batches = batches(case, cgroup_id, case.age.unwrap_or_default());
    let start = Instant::now();
    take_in(&mut pipeline, &mut batches);
    Ok(start.elapsed().as_nanos() as f64 / f64::from(SAMPLES))
}

fn take_in(pipeline: &mut Pipeline, batches: &mut [Vec<Event>]) {
    batches.iter_mut().for_each(|batch| pipeline.ingest(batch));
}

fn config(lab: &Lab) -> Result<Config> {
    let root = lab.pods.path().display().to_string();
    let flags = [
        (settings::LISTEN, settings::OFF),
        (settings::ADMIN_LISTEN, settings::OFF),
        (settings::SOCKET, settings::OFF),
        (settings::CGROUP_ROOT, &root),
        (settings::MAX_FLOWS, "131072"),
        (settings::EVENT_BUFFER, "0"),
    ];
    let raw = RawConfig::default();
    let raw = flags.into_iter().fold(raw, |raw, (setting, value)| raw.with(setting, value));
    Ok(raw.load(&Environment::of_machine())?)
}

fn batches(case: Case, cgroup_id: u64, age: Duration) -> Vec<Vec<Event>> {
    let numbers: Vec<u32> = (0..SAMPLES).collect();
    let batch = |part: &[u32]| part.iter().map(|at| event(case, cgroup_id, *at, age)).collect();
    numbers.chunks(BATCH).map(batch).collect()
}

/// One packet to the other end from a port that no other flow to it has.
fn event(case: Case, cgroup_id: u64, at: u32, age: Duration) -> Event {
    /// When all flows began.
    const BEGAN: u64 = 1_767_225_600_000_000_000;
    const UDP: u8 = 17;
    let time = UnixNanos(BEGAN + age.as_nanos() as u64);
    let key = FlowKey {
        source_addr: octets(Ipv4Addr::new(10, 88, 0, 1).into()),
        destination_addr: octets((case.address)(at).into()),
        source_port: 1024 + (at / manifests::SERVICES) as u16,
        destination_port: manifests::SERVICE_PORT,
        ifindex: 0,
        cgroup_id,
        protocol: UDP,
        direction: DIRECTION_EGRESS,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    };
    let sample = FlowSample {
        key,
        kind: SampleKind::Counted,
        cgroup_id,
        cookie: u64::from(at) + 1,
        ifindex: 0,
        packets: 1,
        bytes: 92,
        first: time,
        last: time,
        tcp_flags: 0,
    };
    Event { time, subject: None, payload: Payload::Flow(sample) }
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}
