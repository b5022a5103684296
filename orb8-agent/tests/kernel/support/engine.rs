//! The programs under test: loaded, attached, and read without a runtime.

use std::{
    ops::ControlFlow,
    sync::OnceLock,
    time::{Duration, Instant},
};

use aya::Btf;
use orb8_agent::ebpf::{
    AttachedTo, Drained, Features, FlowObject, FlowOptions, LinkKind, PacketObject, RingReader,
};
use orb8_common::flow::Counter;

use super::{
    PATIENCE,
    cgroup::Cgroup,
    eventually,
    netns::{Counted, InterfaceCounters, Netns},
    reference::Reference,
    seen::Seen,
};

/// The agent's defaults.
pub(crate) const DEFAULTS: FlowOptions =
    FlowOptions { table_size: 65536, ring_size: 1 << 20, socket_storage: true, leave_to: None };

/// A loaded object and everything that was read from it.
pub(crate) struct Engine {
    pub(crate) object: FlowObject,
    ring: RingReader,
    drained: Drained,
    pub(crate) seen: Seen,
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
