//! Kernel records into the flow store: a corrupt record is counted, and what was counted stays.
//!
//! Records of cgroups are among them, which are no flows'.
//!
//! An input is a row of records: a byte for the kind, a byte for the length, and as many bytes.

use std::time::{Duration, Instant};

use orb8_agent::clock::{Clock, Reading};
use orb8_agent::ebpf::Drained;
use orb8_agent::event::{Event, Payload};
use orb8_agent::identity::Change;
use orb8_agent::sources::cgroup;
use orb8_agent::sources::flow::Converter;
use orb8_agent::store::{FlowStore, InterfaceNames, Owner, Query, SortKey, StoreConfig};
use orb8_common::cgroup::{CgroupChange, MADE, REMOVED};
use orb8_common::flow::{
    FlowKey, FlowStats, HOOK_SOCKET, MOMENT_FIN, MOMENT_NEW, MOMENT_OVERFLOW, MOMENT_RST, Moment,
    PRESSURE, SocketBody, SocketCounters,
};
use orb8_proto::filter::Matcher;
use zerocopy::{FromBytes, IntoBytes};

const RING: u8 = 0;
const FLOW: u8 = 1;
const SOCKET: u8 = 2;
const CLOSED: u8 = 3;
/// Not a record: ends a drain cycle, its length in seconds.
const CYCLE: u8 = 4;
const CGROUP: u8 = 5;

/// The kernel's own counters do not come near this in the life of a machine.
const MAX_COUNT: u64 = 1 << 40;

/// Few enough that flows are evicted.
const MAX_FLOWS: u32 = 4;

/// Converts and stores any records.
pub fn run(data: &[u8]) {
    let mut node = Node::new();
    let mut rest = data;
    while let [kind, len, tail @ ..] = rest {
        let (record, tail) = tail.split_at(tail.len().min((*len).into()));
        rest = tail;
        match *kind {
            RING => node.ring(record),
            CYCLE => node.cycle(Duration::from_secs((*len).into())),
            CGROUP => read_change(record),
            kind => node.drain(kind, record),
        }
        node.check();
    }
}

struct Node {
    converter: Converter,
    store: FlowStore,
    now: Instant,
    packets: u64,
    bytes: u64,
}

impl Node {
    fn new() -> Self {
        let now = Instant::now();
        let config = StoreConfig { max_flows: MAX_FLOWS, idle_timeout: Duration::from_secs(60) };
        let clock = Clock::with_source(|| Reading { monotonic_ns: 1 << 40, unix_ns: 1 << 60 });
        Self {
            converter: Converter::new(clock),
            store: FlowStore::new(config, now),
            now,
            packets: 0,
            bytes: 0,
        }
    }

    fn ring(&mut self, record: &[u8]) {
        let mut batch = Vec::new();
        let socket = SocketBody::read_from_bytes(record);
        let undecodable = self.converter.undecodable();
        let drain = match &socket {
            Ok(body) if !is_credible(body) => return,
            _ => self.converter.ring(record, &mut batch),
        };
        let refused = self.converter.undecodable() - undecodable;
        let said = batch.len() as u64 + refused + u64::from(drain);
        assert!(said == 1 || socket.is_ok(), "{record:?} gave {batch:?}, and {refused} refused");
        self.take(batch);
    }

    fn drain(&mut self, kind: u8, record: &[u8]) {
        let mut drained = Drained::default();
        match (kind, SocketBody::read_from_bytes(record)) {
            (FLOW, _) => drained.flows.extend(read_flow(record)),
            (SOCKET, Ok(body)) if is_credible(&body) => drained.sockets.push(body),
            (CLOSED, Ok(body)) if is_credible(&body) => drained.closed.push(body),
            _ => {}
        }
        let mut batch = Vec::new();
        self.converter.begin_cycle();
        for part in drained.parts(1) {
            self.converter.drained(&part, |tick| tick, &mut batch);
        }
        self.take(batch);
    }

    fn take(&mut self, batch: Vec<Event>) {
        for event in batch {
            let Payload::Flow(sample) = event.payload else { panic!("{event:?}") };
            self.packets += sample.packets;
            self.bytes += sample.bytes;
            self.store.apply(&sample, Owner::default(), self.now);
        }
    }

    fn cycle(&mut self, took: Duration) {
        self.now += took;
        self.store.end_cycle(self.now);
        self.store.take_ended().for_each(drop);
    }

    /// What came in is in the flows that are held, or in those that are not any more.
    fn check(&self) {
        let query = Query {
            matcher: Matcher::default(),
            include_self_traffic: true,
            start: None,
            end: None,
            sort: SortKey::Rate,
            ascending: false,
            limit: usize::MAX,
        };
        let held = self.store.query(&query, &InterfaceNames::default());
        assert!(held.rows.len() <= MAX_FLOWS as usize, "{} flows", held.rows.len());
        let (retired, evicted) = (self.store.retired(), self.store.evicted());
        let packets: u64 = held.rows.iter().map(|row| row.flow.packets).sum();
        let bytes: u64 = held.rows.iter().map(|row| row.flow.bytes).sum();
        assert_eq!(packets + retired.packets + evicted.packets, self.packets);
        assert_eq!(bytes + retired.bytes + evicted.bytes, self.bytes);
        let counted = self.store.counted();
        assert_eq!((counted.packets, counted.bytes), (self.packets, self.bytes));
    }
}

fn read_change(record: &[u8]) {
    if let Some(Change::Made { path: Some(path), .. }) = cgroup::change(record) {
        assert!(!path.is_empty() && path.len() <= record.len() - size_of::<CgroupChange>());
    }
}

fn read_flow(record: &[u8]) -> Option<(FlowKey, FlowStats)> {
    let (key, stats) = FlowKey::read_from_prefix(record).ok()?;
    let stats = FlowStats::read_from_bytes(stats).ok()?;
    (stats.packets < MAX_COUNT && stats.bytes < MAX_COUNT).then_some((key, stats))
}

fn is_credible(body: &SocketBody) -> bool {
    let counts = [body.egress.packets, body.egress.bytes, body.ingress.packets, body.ingress.bytes];
    counts.into_iter().all(|count| count < MAX_COUNT)
}

/// A connection's life through every kind of record, and a few lives more.
pub fn seeds() -> Vec<Vec<u8>> {
    let moment = |kind, flags| record(RING, moment(kind, flags).as_bytes());
    let flow = |packets| record(FLOW, [key().as_bytes(), stats(packets).as_bytes()].concat());
    let socket = |packets| record(SOCKET, socket(packets).as_bytes());
    let closed = record(CLOSED, self::socket(9).as_bytes());
    let overflowed = record(RING, self::socket(12).as_bytes());
    let cycle = vec![CYCLE, 1];
    let idle = vec![CYCLE, 61];
    let pressure = record(RING, PRESSURE.as_bytes());
    let opened = moment(MOMENT_NEW, 0x02);
    let life = [
        opened.clone(),
        flow(3),
        cycle.clone(),
        socket(5),
        moment(MOMENT_FIN, 0x11),
        closed.clone(),
        cycle.clone(),
        cycle.clone(),
        idle.clone(),
    ]
    .concat();
    let changes = [(MADE, &b"/kubepods/besteffort"[..]), (REMOVED, b"")].map(|(kind, path)| {
        let change = CgroupChange { id: 7, kind, path_length: path.len() as u32 };
        record(CGROUP, [change.as_bytes(), path, &[0; 12]].concat())
    });
    let others: Vec<u8> = (0..6).flat_map(|port| record(FLOW, other(port))).collect();
    vec![
        [&life[..], &life].concat(),
        [opened, moment(MOMENT_RST, 0x04), cycle.clone(), flow(1), idle].concat(),
        [moment(MOMENT_OVERFLOW, 0x10), pressure, overflowed, cycle].concat(),
        [&others[..], &closed, &others].concat(),
        changes.concat(),
        life,
    ]
}

fn record(kind: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&[kind, bytes.len() as u8][..], bytes].concat()
}

fn key() -> FlowKey {
    FlowKey {
        source_addr: [1; 16],
        destination_addr: [2; 16],
        source_port: 40000,
        destination_port: 443,
        ifindex: 0,
        cgroup_id: 7,
        protocol: 6,
        direction: 1,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    }
}

fn other(source_port: u16) -> Vec<u8> {
    let key = FlowKey { source_port, ..key() };
    [key.as_bytes(), stats(2).as_bytes()].concat()
}

fn stats(packets: u64) -> FlowStats {
    FlowStats { packets, bytes: packets * 100, cookie: 5, cgroup_id: 7, ..Default::default() }
}

fn moment(kind: u8, tcp_flags: u8) -> Moment {
    Moment {
        key: key(),
        time_ns: 1 << 41,
        cgroup_id: 7,
        cookie: 5,
        bytes: 100,
        packets: 1,
        ifindex: 2,
        kind,
        tcp_flags,
        reserved: [0; 2],
    }
}

fn socket(packets: u64) -> SocketBody {
    let counters = SocketCounters { packets, bytes: packets * 100, ..Default::default() };
    SocketBody {
        local_addr: [1; 16],
        remote_addr: [2; 16],
        local_port: 40000,
        remote_port: 443,
        ifindex: 2,
        cgroup_id: 7,
        cookie: 5,
        egress: counters,
        ingress: counters,
        protocol: 6,
        ip_version: 6,
        reserved: 0,
        reserved_too: 0,
        reported_packets: 0,
        reported_bytes: 0,
    }
}
