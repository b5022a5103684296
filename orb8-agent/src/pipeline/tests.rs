use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use orb8_common::flow::{
    DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, HOOK_INTERFACE, HOOK_SOCKET,
};
use orb8_proto::filter::{End, Matcher};

use super::*;
use crate::event::{FlowSample, SampleKind, Signal};
use crate::store::{EndReason, Flow, InterfaceNames, Query, SortKey};

mod dedup;
mod ends;
mod health;
mod hub;
mod self_traffic;
mod traffic;

const TCP: u8 = 6;
const OWN_CGROUP: u64 = 77;

/// A pipeline that subscribers hear and that has its own time.
struct Bench {
    pipeline: Pipeline,
    start: Instant,
    cycles: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::in_process().unwrap();
        config.cgroup_root = None;
        change(&mut config);
        let addresses = LocalAddresses::default();
        addresses.set([Ipv4Addr::new(10, 0, 0, 1).into()]);
        let mut pipeline = Pipeline::new(&config, addresses.clone());
        pipeline.self_traffic = SelfTraffic::new(addresses, Some(OWN_CGROUP));
        Self { pipeline, start: Instant::now(), cycles: 0 }
    }

    fn both() -> Self {
        let mut bench = Self::new();
        bench.pipeline.set_both_hooks(true);
        bench
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.cycles)
    }

    fn ingest(&mut self, samples: &[FlowSample]) {
        let event = |sample: &FlowSample| Event {
            time: sample.last,
            subject: None,
            payload: Payload::Flow(sample.clone()),
        };
        let mut batch = samples.iter().map(event).collect();
        self.pipeline.ingest_at(&mut batch, self.now());
        assert!(batch.is_empty());
    }

    /// Takes in what a drain brought, and ends the cycle.
    fn cycle(&mut self, samples: &[FlowSample]) {
        self.cycles += 1;
        self.ingest(samples);
        self.pipeline.end_of_cycle(self.now());
    }

    fn flows(&mut self) -> Vec<Flow> {
        let query = Query {
            matcher: Matcher::default(),
            include_self_traffic: true,
            start: None,
            end: None,
            sort: SortKey::Bytes,
            ascending: false,
            limit: 1000,
        };
        let page = self.pipeline.query(&query, &InterfaceNames::default());
        page.rows.into_iter().map(|row| row.flow).collect()
    }

    fn counts(&self) -> (u64, u64, u64) {
        let totals = self.pipeline.totals();
        (totals.in_flows.packets, totals.duplicate.packets, totals.waiting.packets)
    }
}

fn mapped(last: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last]
}

/// From 10.0.0.1 to 10.0.0.2:80, out of a socket.
fn socket(port: u16) -> FlowKey {
    FlowKey {
        source_addr: mapped(1),
        destination_addr: mapped(2),
        source_port: port,
        destination_port: 80,
        ifindex: 0,
        cgroup_id: 5,
        protocol: TCP,
        direction: DIRECTION_EGRESS,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    }
}

/// The same, seen at an interface.
fn interface(port: u16, ifindex: u32, direction: u8) -> FlowKey {
    FlowKey { hook: HOOK_INTERFACE, cgroup_id: 0, ifindex, direction, ..socket(port) }
}

fn counted(key: FlowKey, packets: u64) -> FlowSample {
    FlowSample {
        key,
        kind: SampleKind::Counted,
        cgroup_id: key.cgroup_id,
        cookie: 0,
        ifindex: key.ifindex,
        packets,
        bytes: packets * 100,
        first: UnixNanos(1),
        last: UnixNanos(2),
        tcp_flags: 0x10,
    }
}

fn moment(key: FlowKey, kind: SampleKind) -> FlowSample {
    FlowSample { kind, ..counted(key, 0) }
}

#[test]
fn owners_are_found_by_cgroup() {
    let cgroups = tempfile::tempdir().unwrap();
    let path = cgroups.path().join("system.slice/sshd.service");
    fs::create_dir_all(&path).unwrap();
    let id = fs::metadata(&path).unwrap().ino();
    let mut bench = Bench::with(|config| config.cgroup_root = Some(cgroups.path().to_owned()));
    bench.cycle(&[counted(FlowKey { cgroup_id: id, ..socket(1) }, 1)]);
    let flows = bench.flows();
    assert_eq!(flows[0].subject().unwrap().unit.as_deref(), Some("sshd.service"));
    let totals = bench.pipeline.totals();
    assert_eq!((totals.workloads, totals.pods, totals.events, totals.flows), (1, 0, 1, 1));
}
