//! The programs under test: loaded, attached, and read without a runtime.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    ops::ControlFlow,
    sync::OnceLock,
    time::{Duration, Instant},
};

use aya::Btf;
use nix::time::{ClockId, clock_gettime};
use orb8_agent::ebpf::{
    AttachedTo, Drained, Features, FlowObject, FlowOptions, LinkKind, RingReader,
};
use orb8_common::flow::{
    ClosedSocket, Counter, DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, HOOK_INTERFACE,
    HOOK_SOCKET, MOMENT_OVERFLOW, Moment, PRESSURE, SocketBody, SocketCounters, fold_tcp_flags,
};
use orb8_common::packet::TCP_SYN;
use zerocopy::FromBytes;

use super::{
    PATIENCE,
    cgroup::Cgroup,
    eventually,
    netns::{Counted, InterfaceCounters, Netns},
    reference::Reference,
};

/// The agent's defaults.
pub(crate) const DEFAULTS: FlowOptions =
    FlowOptions { table_size: 65536, ring_size: 1 << 20, socket_storage: true, leave_owned: false };

/// What one flow came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) counted: Counted,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    pub(crate) tcp_flags: u8,
    pub(crate) cgroup_id: u64,
    pub(crate) cookie: u64,
}

/// A loaded object and everything that was read from it.
pub(crate) struct Engine {
    pub(crate) object: FlowObject,
    ring: RingReader,
    drained: Drained,
    pub(crate) seen: Seen,
}

/// Everything that was read.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) flows: HashMap<FlowKey, Flow>,
    pub(crate) moments: Vec<Moment>,
    /// Sockets that had a record of their own, by cookie: totals that are in `flows` already.
    pub(crate) sockets: HashMap<u64, [SocketCounters; 2]>,
    /// Records that came through the ring since a table was full: of packets, of closed sockets.
    pub(crate) overflowed: u64,
    pub(crate) closed_by_ring: u64,
    pub(crate) pressed: u64,
}

impl Engine {
    pub(crate) fn load(options: &FlowOptions) -> Self {
        let features = features();
        Self::load_as(options, features)
    }

    /// Loads as on a kernel with these features.
    pub(crate) fn load_as(options: &FlowOptions, features: &Features) -> Self {
        let mut object = FlowObject::load(options, features, btf()).unwrap_or_else(|error| {
            panic!("the object does not load: {error}: {:?}", std::error::Error::source(&error))
        });
        let ring = object.take_ring().expect("the ring");
        Self { object, ring, drained: Drained::default(), seen: Seen::default() }
    }

    /// Loads with defaults and attaches to a cgroup.
    pub(crate) fn on_sockets(cgroup: &Cgroup, options: &FlowOptions) -> Self {
        let mut engine = Self::load(options);
        engine.attach_sockets(cgroup);
        engine
    }

    /// Loads and attaches to an Ethernet device.
    pub(crate) fn on_interface(namespace: &Netns, name: &str, options: &FlowOptions) -> Self {
        let mut engine = Self::load(options);
        engine.attach_interface(namespace, name, LinkKind::Ethernet);
        engine
    }

    pub(crate) fn attach_sockets(&mut self, cgroup: &Cgroup) {
        let shown = cgroup.path().display().to_string();
        self.object.attach_sockets(&cgroup.open(), &shown).expect("the socket hook attaches");
    }

    pub(crate) fn attach_interface(
        &mut self,
        namespace: &Netns,
        name: &str,
        kind: LinkKind,
    ) -> AttachedTo {
        let index = namespace.index(name);
        namespace.run(|| {
            self.object.attach_interface(index, name, kind).expect("the interface hook attaches")
        })
    }

    /// Reads everything that is there.
    pub(crate) fn read(&mut self) {
        self.read_ring();
        let Self { object, drained, seen, .. } = self;
        object.drain(drained).expect("draining");
        assert_eq!(drained.undecodable, 0, "every record decodes");
        let ticks = object.ticks();
        seen.take_in(drained, |tick| ticks.monotonic_ns(tick));
        drained.clear();
        self.read_ring();
    }

    fn read_ring(&mut self) {
        let Self { ring, seen, .. } = self;
        ring.read(|record| seen.ring(record));
    }

    /// Reads again and again while `going_on`.
    pub(crate) fn read_while(&mut self, rest: Duration, mut going_on: impl FnMut() -> bool) {
        while going_on() {
            self.read();
            std::thread::sleep(rest);
        }
        self.read();
    }

    /// Reads once the reference stands still: after the last packet, acknowledgements included.
    pub(crate) fn settle(&mut self, reference: &Reference) {
        eventually("an end of the traffic", || {
            let before = reference.total();
            std::thread::sleep(Duration::from_millis(60));
            self.read();
            (reference.total() == before).then_some(())
        });
    }

    /// What the reference counted and this engine, attached after it, did not: the same before and
    /// after some traffic, if all of that was accounted for.
    pub(crate) fn missing(&mut self, reference: &Reference) -> Counted {
        self.settle(reference);
        reference.total() - self.accounted()
    }

    /// Reads until `check` gives something.
    pub(crate) fn eventually<T>(
        &mut self,
        what: &str,
        mut check: impl FnMut(&Seen) -> ControlFlow<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            self.read();
            if let ControlFlow::Break(value) = check(&self.seen) {
                return value;
            }
            let flows = &self.seen.flows;
            assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; {flows:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What an interface counted and this engine, attached to it, did not: the same before and after
    /// some traffic, if all of that was accounted for. IP bytes.
    pub(crate) fn unaccounted(&mut self, namespace: &Netns, interface: &str) -> Counted {
        let counters = self.at_rest(namespace, interface);
        (counters.sent + counters.received).without_ethernet() - self.accounted()
    }

    /// Reads once an interface's counters stand still, and returns them.
    pub(crate) fn at_rest(&mut self, namespace: &Netns, interface: &str) -> InterfaceCounters {
        eventually("rest on the interface", || {
            let before = namespace.interface_counters(interface);
            std::thread::sleep(Duration::from_millis(60));
            self.read();
            (namespace.interface_counters(interface) == before).then_some(before)
        })
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters(self.object.counters().expect("the counters"))
    }

    /// Flows, and what is in none but was not lost: what the hook was handed, less what it lost.
    pub(crate) fn accounted(&self) -> Counted {
        let counters = self.counters();
        self.seen.total()
            + counters.pair(Counter::OtherPackets, Counter::OtherBytes)
            + counters.pair(Counter::MalformedPackets, Counter::MalformedBytes)
            + counters.pair(Counter::LostPackets, Counter::LostBytes)
    }
}

/// The programs' own counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters([u64; Counter::COUNT]);

impl Counters {
    pub(crate) const fn of(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    pub(crate) const fn pair(&self, packets: Counter, bytes: Counter) -> Counted {
        Counted::new(self.of(packets), self.of(bytes))
    }

    pub(crate) const fn lost(&self) -> Counted {
        self.pair(Counter::LostPackets, Counter::LostBytes)
    }
}

impl Seen {
    /// Everything that was counted towards flows.
    pub(crate) fn total(&self) -> Counted {
        self.sum(|_| true)
    }

    /// What was counted towards the flows that `wanted` picks.
    pub(crate) fn sum(&self, wanted: impl Fn(&FlowKey) -> bool) -> Counted {
        self.flows
            .iter()
            .filter(|(key, _)| wanted(key))
            .fold(Counted::default(), |sum, (_, flow)| sum + flow.counted)
    }

    /// A flow that has to be there.
    pub(crate) fn flow(&self, key: &FlowKey) -> &Flow {
        let Some(flow) = self.flows.get(key) else {
            panic!("no flow {key:#?} among {:#?}", self.flows);
        };
        flow
    }

    fn add(&mut self, key: FlowKey, added: Flow) {
        let flow = self.flows.entry(key).or_insert(Flow { first_ns: u64::MAX, ..Flow::default() });
        flow.counted += added.counted;
        flow.first_ns = flow.first_ns.min(added.first_ns);
        flow.last_ns = flow.last_ns.max(added.last_ns);
        flow.tcp_flags |= added.tcp_flags;
        for (known, seen) in
            [(&mut flow.cgroup_id, added.cgroup_id), (&mut flow.cookie, added.cookie)]
        {
            if seen != 0 {
                *known = seen;
            }
        }
    }

    fn take_in(&mut self, drained: &Drained, time: impl Fn(u64) -> u64) {
        for (key, stats) in &drained.flows {
            let added = Flow {
                counted: Counted::new(stats.packets, stats.bytes),
                first_ns: time(stats.first_tick),
                last_ns: time(stats.last_tick),
                tcp_flags: stats.tcp_flags(),
                cgroup_id: stats.cgroup_id,
                cookie: stats.cookie,
            };
            self.add(*key, added);
        }
        for body in drained.sockets.iter().chain(&drained.closed) {
            self.socket(body, &time);
        }
    }

    fn socket(&mut self, body: &SocketBody, time: impl Fn(u64) -> u64) {
        let totals = [body.ingress, body.egress];
        let known = self.sockets.insert(body.cookie, totals).unwrap_or_default();
        let mut kept = totals;
        for (direction, (now, before)) in
            [DIRECTION_INGRESS, DIRECTION_EGRESS].into_iter().zip(totals.iter().zip(&known))
        {
            // Totals only grow: an older copy that is read later has nothing to add.
            if now.packets < before.packets || now.bytes < before.bytes {
                kept[usize::from(direction)] = *before;
                continue;
            }
            let added = Counted::new(now.packets - before.packets, now.bytes - before.bytes);
            if added == Counted::default() {
                continue;
            }
            let flow = Flow {
                counted: added,
                first_ns: time(now.first_tick),
                last_ns: time(now.last_tick),
                tcp_flags: fold_tcp_flags(now.tcp_flags),
                cgroup_id: body.cgroup_id,
                cookie: body.cookie,
            };
            self.add(socket_key(body, direction), flow);
        }
        self.sockets.insert(body.cookie, kept);
    }

    fn ring(&mut self, record: &[u8]) {
        if let Ok(moment) = Moment::read_from_bytes(record) {
            if moment.kind != MOMENT_OVERFLOW {
                self.moments.push(moment);
                return;
            }
            self.overflowed += 1;
            let added = Flow {
                counted: Counted::new(moment.packets.into(), moment.bytes.into()),
                first_ns: moment.time_ns,
                last_ns: moment.time_ns,
                tcp_flags: moment.tcp_flags,
                cgroup_id: moment.cgroup_id,
                cookie: moment.cookie,
            };
            self.add(moment.key, added);
        } else if let Ok(body) = ClosedSocket::read_from_bytes(record) {
            self.closed_by_ring += 1;
            self.socket(&body, |_| monotonic_ns());
        } else {
            assert_eq!(u64::read_from_bytes(record), Ok(PRESSURE), "a ring record");
            self.pressed += 1;
        }
    }
}

fn socket_key(body: &SocketBody, direction: u8) -> FlowKey {
    let local = (body.local_addr, body.local_port);
    let remote = (body.remote_addr, body.remote_port);
    let (source, destination) =
        if direction == DIRECTION_EGRESS { (local, remote) } else { (remote, local) };
    FlowKey {
        source_addr: source.0,
        destination_addr: destination.0,
        source_port: source.1,
        destination_port: destination.1,
        ifindex: 0,
        cgroup_id: body.cgroup_id,
        protocol: body.protocol,
        direction,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    }
}

/// Checks that one end received what the other sent.
pub(crate) fn assert_same_at_both_ends(sent: &Flow, received: &Flow) {
    let missing = received.tcp_flags & !sent.tcp_flags;
    if missing & TCP_SYN == 0 {
        assert_eq!(sent.counted, received.counted);
        return;
    }
    // Kernels before 6.12 do not show the socket hook what a listener answers over IPv6.
    let synack = received.counted - sent.counted;
    assert_eq!(synack.packets, 1, "{sent:?} {received:?}");
    assert!((60..=100).contains(&synack.bytes), "{sent:?} {received:?}");
}

/// The key of a flow at the socket hook of a cgroup.
pub(crate) fn socket_flow(
    cgroup: u64,
    direction: u8,
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
) -> FlowKey {
    FlowKey {
        source_addr: mapped(source.ip()),
        destination_addr: mapped(destination.ip()),
        source_port: source.port(),
        destination_port: destination.port(),
        ifindex: 0,
        cgroup_id: cgroup,
        protocol,
        direction,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    }
}

/// The key of a flow at the hook of an interface.
pub(crate) fn interface_flow(
    ifindex: u32,
    direction: u8,
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
) -> FlowKey {
    let key = socket_flow(0, direction, protocol, source, destination);
    FlowKey { ifindex, hook: HOOK_INTERFACE, ..key }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// What the running kernel has.
pub(crate) fn features() -> &'static Features {
    static FEATURES: OnceLock<Features> = OnceLock::new();
    FEATURES.get_or_init(|| Features::probe(btf()))
}

/// What a kernel has that has no TCX but all the rest.
pub(crate) fn without_tcx() -> Features {
    features().clone().without(TCX)
}

/// Names of features, as `orb8 diagnose` shows them.
pub(crate) const TCX: &str = "TCX";
pub(crate) const STORAGE: &str = "socket storage";

/// Whether the running kernel has a feature.
pub(crate) fn has(name: &str) -> bool {
    let row = features().rows().iter().find(|row| row.name == name);
    row.expect("a feature of that name").present
}

/// The running kernel's types.
pub(crate) fn btf() -> Option<&'static Btf> {
    static BTF: OnceLock<Option<Btf>> = OnceLock::new();
    BTF.get_or_init(|| Btf::from_sys_fs().ok()).as_ref()
}

/// The clock of the kernel's records.
pub(crate) fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
