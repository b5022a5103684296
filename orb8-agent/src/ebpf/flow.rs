//! The `flow` object: loading, attaching, draining.

mod drained;

use std::{
    fs::File,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
};

use aya::{
    Btf, EbpfLoader,
    programs::{CgroupAttachMode, CgroupSock, Iter, SchedClassifier},
};
use orb8_common::flow::{
    CLOSED_PART, Counter, FlowKey, FlowStats, SocketBody, SocketRecord, TABLE_PART,
};
use zerocopy::FromBytes;

use super::{
    EbpfError, FLOW_OBJECT, Features,
    hooks::{
        AttachedTo, FILTER_PRIORITIES, LinkKind, PacketHooks, PacketObject, PacketPrograms,
        SocketHookCgroup,
    },
    object::{Counters, Object, attach_error, map_error},
    ring::RingReader,
    sys::{
        BatchDrain, GracePeriod, SharedControl, SharedSlots, link_map_iterator, run_classifier,
        start_iterator,
    },
    ticks::Ticks,
};
use crate::status::ProgramRun;
pub use drained::{Drained, DrainedPart};

const OBJECT: &str = "flow";

/// What is set when the object is loaded.
#[derive(Clone, Debug)]
pub struct FlowOptions {
    /// Entries of each of the two flow tables; the table of closed sockets has a quarter.
    pub table_size: u32,
    /// Bytes of the ring: a power of two and a multiple of the page size.
    pub ring_size: u32,
    /// Whether connected sockets may count in their own storage, where the kernel can.
    pub socket_storage: bool,
    /// Where the socket hook runs too: the interface hook leaves it what the sockets below this
    /// cgroup send.
    pub leave_to: Option<SocketHookCgroup>,
}

/// Fill of a flow table, in parts of its size, at which the programs ask for a drain. The rest is
/// what may come in while the agent wakes and the grace period passes; and the fewer records a
/// drain holds, the less memory it takes.
const HIGH_WATER_DIVISOR: u32 = 4;

/// The loaded object. Dropping it detaches and unloads everything.
pub struct FlowObject {
    object: Object,
    hooks: PacketHooks,
    control: SharedControl,
    slots: [SharedSlots; 2],
    grace: GracePeriod,
    flow_batch: BatchDrain,
    closed_batch: BatchDrain,
    counters: Counters<{ Counter::COUNT }>,
    sockets: Option<OwnedFd>,
    iterator_buffer: Vec<u8>,
    ticks: Ticks,
    high_water: u64,
}

/// How the programs reach a socket's storage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Storage {
    /// The helper takes the packet's socket as it is (5.12 and later).
    Direct,
    /// Another helper has to find it whole first, which costs as much as the counting.
    FullSocket,
    /// Not at all.
    Off,
}

const PROGRAMS: PacketPrograms = PacketPrograms {
    sockets: ["flow_socket_ingress", "flow_socket_egress"],
    ethernet: ["flow_tc_ingress", "flow_tc_egress"],
    raw: ["flow_tc_l3_ingress", "flow_tc_l3_egress"],
    priority: *FILTER_PRIORITIES.start(),
};
const CLOCK_PROGRAM: &str = "flow_clock";
const RELEASE_PROGRAM: &str = "flow_socket_release";

impl FlowObject {
    /// Loads the object, with socket storage where this kernel's verifier takes it.
    ///
    /// # Errors
    /// [`EbpfError::Load`] with the kernel's words, [`EbpfError::Incomplete`] for an object that
    /// was built from other sources.
    pub fn load(
        options: &FlowOptions,
        features: &Features,
        btf: Option<&Btf>,
    ) -> Result<Self, EbpfError> {
        let wanted = options.socket_storage && features.socket_storage();
        let mut refusal = None;
        for storage in [Storage::Direct, Storage::FullSocket, Storage::Off] {
            if storage != Storage::Off && !wanted {
                continue;
            }
            match Self::load_with(options, features, btf, storage) {
                Ok(object) => return Ok(object),
                // The first refusal tells of this kernel; the others follow from it.
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or(EbpfError::Incomplete { object: OBJECT, part: "program" }))
    }

    fn load_with(
        options: &FlowOptions,
        features: &Features,
        btf: Option<&Btf>,
        storage: Storage,
    ) -> Result<Self, EbpfError> {
        let high_water = u64::from(options.table_size / HIGH_WATER_DIVISOR);
        let slots = (options.table_size / TABLE_PART).next_power_of_two();
        let left = options.leave_to.unwrap_or_default();
        let seed = RandomState::new().build_hasher().finish();
        let in_storage = u8::from(storage != Storage::Off);
        let full_socket = u8::from(storage == Storage::FullSocket);
        let slot_mask = slots - 1;
        let mut loader = EbpfLoader::new();
        loader
            .btf(btf)
            .override_global("HIGH_WATER", &high_water, true)
            .override_global("SLOT_MASK", &slot_mask, true)
            .override_global("SEED", &seed, true)
            .override_global("SOCKET_STORAGE", &in_storage, true)
            .override_global("FULL_SOCKET", &full_socket, true)
            .override_global("SOCKET_HOOK_CGROUP", &left.id, true)
            .override_global("SOCKET_HOOK_LEVEL", &left.level, true)
            .map_max_entries("SLOTS_0", slots)
            .map_max_entries("SLOTS_1", slots)
            .map_max_entries("FLOWS_0", options.table_size)
            .map_max_entries("FLOWS_1", options.table_size)
            .map_max_entries("CLOSED", options.table_size / CLOSED_PART as u32)
            .map_max_entries("EVENTS", options.ring_size);
        let mut object = Object::load(OBJECT, &mut loader, FLOW_OBJECT)?;
        let control = SharedControl::map(object.map("CONTROL")?)
            .map_err(map_error("mapping the control entry"))?;
        let map_slots = |name| {
            SharedSlots::map(object.map(name)?, slots).map_err(map_error("mapping the slots"))
        };
        let slots = [map_slots("SLOTS_0")?, map_slots("SLOTS_1")?];
        let grace = GracePeriod::new().map_err(map_error("making the grace period's maps"))?;
        let counters = object.take_counters()?;
        let sockets = match (storage, btf) {
            (Storage::Off, _) | (_, None) => None,
            (_, Some(btf)) => Some(start_socket_iterator(&mut object, btf)?),
        };
        let mut flows = Self {
            hooks: PacketHooks::new(PROGRAMS, features),
            object,
            control,
            slots,
            grace,
            flow_batch: BatchDrain::new(size_of::<FlowKey>(), size_of::<FlowStats>()),
            closed_batch: BatchDrain::new(size_of::<u64>(), size_of::<SocketBody>()),
            counters,
            sockets,
            iterator_buffer: vec![0; ITERATOR_BUFFER],
            ticks: Ticks::default(),
            high_water,
        };
        flows.load_programs(features)?;
        flows.read_clock()?;
        Ok(flows)
    }

    /// Loads what every attachment needs, so that a refusal shows before anything is attached.
    fn load_programs(&mut self, features: &Features) -> Result<(), EbpfError> {
        let Self { object, hooks, sockets, .. } = self;
        let clock: &mut SchedClassifier = object.program(CLOCK_PROGRAM)?;
        clock.load().map_err(|error| object.refused(error))?;
        if !features.socket_hook() {
            return Ok(());
        }
        hooks.load_sockets(object)?;
        if sockets.is_some() {
            let release: &mut CgroupSock = object.program(RELEASE_PROGRAM)?;
            release.load().map_err(|error| object.refused(error))?;
        }
        Ok(())
    }

    /// Reads what a tick is, for the times of what is drained next.
    fn read_clock(&mut self) -> Result<(), EbpfError> {
        let clock: &mut SchedClassifier = self.object.program(CLOCK_PROGRAM)?;
        let run = clock.fd().map(|program| run_classifier(program.as_fd()));
        let run = run.map_err(|error| self.object.refused(error))?;
        run.map_err(map_error("running the clock program"))?;
        self.ticks.set(self.control.clock());
        Ok(())
    }

    /// What a tick was at the last drain.
    #[must_use]
    pub const fn ticks(&self) -> Ticks {
        self.ticks
    }

    /// Whether connected sockets count in their own storage.
    #[must_use]
    pub const fn socket_storage(&self) -> bool {
        self.sockets.is_some()
    }

    /// Takes the ring's reader. There is one.
    ///
    /// # Errors
    /// [`EbpfError::Incomplete`] when it was taken before.
    pub fn take_ring(&mut self) -> Result<RingReader, EbpfError> {
        self.object.take_ring()
    }

    /// Whether a table has passed the fill at which the programs ask for a drain.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.control.inserted(self.control.generation()) >= self.high_water
    }

    /// Collects everything that was counted since the last drain. Blocks for some milliseconds
    /// when flows were counted, since it waits until no program writes the table that it empties.
    ///
    /// # Errors
    /// [`EbpfError::Map`]. What was read until then is in `drained`; the rest stays for the next
    /// drain.
    pub fn drain(&mut self, drained: &mut Drained) -> Result<(), EbpfError> {
        self.read_clock()?;
        // Whatever asked until now is served by what follows.
        self.control.allow_pressing();
        self.drain_flows(drained)?;
        self.read_sockets(drained)?;
        // After the iterator: a socket that closes in between is then seen whole, and last.
        self.drain_closed(drained)
    }

    fn drain_flows(&mut self, drained: &mut Drained) -> Result<(), EbpfError> {
        let old = self.control.generation();
        if self.control.claimed(old) == 0 && self.control.inserted(old) == 0 {
            return Ok(());
        }
        self.control.flip();
        self.grace.wait().map_err(map_error("waiting for the programs"))?;
        // A program that still held the old generation may have asked for what is being done.
        self.control.allow_pressing();
        let Drained { flows, undecodable, .. } = drained;
        if self.control.claimed(old) > 0 {
            self.slots[old].drain(|slot| flows.push((slot.key, slot.stats)));
        }
        if self.control.inserted(old) > 0 {
            let map = self.object.map(if old == 0 { "FLOWS_0" } else { "FLOWS_1" })?;
            self.flow_batch
                .run(map, |key, stats| {
                    match (FlowKey::read_from_bytes(key), FlowStats::read_from_bytes(stats)) {
                        (Ok(key), Ok(stats)) => flows.push((key, stats)),
                        _ => *undecodable += 1,
                    }
                })
                .map_err(map_error("draining the flow table"))?;
        }
        self.control.reset(old);
        Ok(())
    }

    fn read_sockets(&mut self, drained: &mut Drained) -> Result<(), EbpfError> {
        let Some(link) = &self.sockets else { return Ok(()) };
        let mut pass =
            start_iterator(link.as_fd()).map_err(map_error("starting the socket iterator"))?;
        let mut filled = 0;
        loop {
            let read = match pass.read(&mut self.iterator_buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled + read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The kernel ended a pass early, and goes on where it stopped.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(map_error("reading the sockets")(error)),
            };
            let whole = read - read % size_of::<SocketRecord>();
            for record in self.iterator_buffer[..whole].chunks_exact(size_of::<SocketRecord>()) {
                match SocketRecord::read_from_bytes(record) {
                    Ok(record) => drained.sockets.push(record.body),
                    Err(_) => drained.undecodable += 1,
                }
            }
            self.iterator_buffer.copy_within(whole..read, 0);
            filled = read - whole;
        }
        Ok(())
    }

    fn drain_closed(&mut self, drained: &mut Drained) -> Result<(), EbpfError> {
        if self.control.take_closed() == 0 {
            return Ok(());
        }
        let Drained { closed, undecodable, .. } = drained;
        self.closed_batch
            .run(self.object.map("CLOSED")?, |_, body| match SocketBody::read_from_bytes(body) {
                Ok(body) => closed.push(body),
                Err(_) => *undecodable += 1,
            })
            .map_err(map_error("draining the closed sockets"))?;
        Ok(())
    }

    /// Sums the per-CPU counters. Indexed by [`Counter`].
    ///
    /// # Errors
    /// [`EbpfError::Map`].
    pub fn counters(&self) -> Result<[u64; Counter::COUNT], EbpfError> {
        self.counters.sum()
    }

    /// Memory that the kernel says the maps take, bytes.
    #[must_use]
    pub fn map_bytes(&self) -> u64 {
        self.object.map_bytes()
    }

    /// Returns run time and runs of each loaded program; all zero where the kernel keeps no statistics.
    #[must_use]
    pub fn run_times(&self) -> Vec<ProgramRun> {
        self.object.run_times()
    }
}

impl PacketObject for FlowObject {
    fn name(&self) -> &'static str {
        OBJECT
    }

    fn attach_sockets(&mut self, cgroup: &File, path: &str) -> Result<(), EbpfError> {
        let Self { object, hooks, sockets, .. } = self;
        if sockets.is_some() {
            // First, so that no record is made whose end is not seen.
            let program: &mut CgroupSock = object.program(RELEASE_PROGRAM)?;
            let mode = CgroupAttachMode::Single;
            program.attach(cgroup, mode).map_err(attach_error(RELEASE_PROGRAM, path))?;
        }
        hooks.attach_sockets(object, cgroup, path)
    }

    fn attach_interface(
        &mut self,
        index: u32,
        name: &str,
        kind: LinkKind,
    ) -> Result<AttachedTo, EbpfError> {
        self.hooks.attach_interface(&mut self.object, index, name, kind)
    }

    fn detach_interface(&mut self, index: u32) {
        self.hooks.detach_interface(&mut self.object, index);
    }
}

impl Drop for FlowObject {
    fn drop(&mut self) {
        self.hooks.detach_all(&mut self.object);
    }
}

/// One read's worth of socket records: the kernel's own buffer is eight pages.
const ITERATOR_BUFFER: usize = 32 * 1024;

fn start_socket_iterator(object: &mut Object, btf: &Btf) -> Result<OwnedFd, EbpfError> {
    let program: &mut Iter = object.program("flow_sockets")?;
    let loaded = program.load("bpf_sk_storage_map", btf);
    let program = loaded.and_then(|()| Ok(program.fd()?.try_clone()?));
    let program = program.map_err(|error| object.refused(error))?;
    let map = object.map("SOCKETS")?;
    link_map_iterator(program.as_fd(), map).map_err(map_error("linking the socket iterator"))
}
