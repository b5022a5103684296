//! The `flow` object: loading, attaching, draining.

use std::{
    collections::HashMap as StdHashMap,
    fs::File,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Map, MapData, PerCpuArray, RingBuf},
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, Iter, LinkOrder,
        SchedClassifier, TcAttachType,
        tc::{self, NlOptions, SchedClassifierLinkId, TcAttachOptions, TcHandle},
    },
};
use orb8_common::flow::{
    CLOSED_PART, Counter, FlowKey, FlowStats, SocketBody, SocketRecord, TABLE_PART,
};
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes;

use super::{
    EbpfError, FLOW_OBJECT, Features,
    sys::{
        BatchDrain, GracePeriod, SharedControl, SharedSlots, link_map_iterator, run_classifier,
        start_iterator,
    },
    ticks::Ticks,
};

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

/// The cgroup v2 directory that the socket hook is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketHookCgroup {
    /// Its id, which is its inode.
    pub id: u64,
    /// How deep below the root of the hierarchy it is.
    pub level: u32,
}

/// Fill of a flow table, in parts of its size, at which the programs ask for a drain. The rest is
/// what may come in while the agent wakes and the grace period passes; and the fewer records a
/// drain holds, the less memory it takes.
const HIGH_WATER_DIVISOR: u32 = 4;

/// Priority of the agent's clsact filters: its own, so that nobody's filter is replaced. The handle
/// beside it is the agent's process id, which tells a dead agent's filters from a live one's.
pub const FILTER_PRIORITY: u16 = 0x0b8;

/// Whether a device's packets start with an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// They do (loopback's too).
    Ethernet,
    /// They start with the IP header: tun, WireGuard, IP tunnels.
    Raw,
}

/// How the interface hook is attached to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedTo {
    /// A TCX link, which dies with the process (6.6 and later).
    Tcx,
    /// A filter of the clsact qdisc, which has to be removed.
    Clsact,
}

impl AttachedTo {
    /// The name that status shows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// What one drain found, in buffers that are used again.
#[derive(Debug, Default)]
pub struct Drained {
    /// What was added to flows since the last drain.
    pub flows: Vec<(FlowKey, FlowStats)>,
    /// Totals of connected sockets that moved.
    pub sockets: Vec<SocketBody>,
    /// Final totals of sockets that closed.
    pub closed: Vec<SocketBody>,
    /// Records whose bytes did not decode.
    pub undecodable: u64,
}

impl Drained {
    /// Cuts it into parts of at most `size` records of each kind.
    pub fn parts(&self, size: usize) -> impl Iterator<Item = DrainedPart<'_>> {
        let Self { flows, sockets, closed, undecodable } = self;
        let longest = flows.len().max(sockets.len()).max(closed.len());
        (0..longest.max(1)).step_by(size).map(move |start| DrainedPart {
            flows: part(flows, start, size),
            sockets: part(sockets, start, size),
            closed: part(closed, start, size),
            undecodable: if start == 0 { *undecodable } else { 0 },
        })
    }

    /// Empties the buffers, and gives memory back that a burst needed.
    pub fn clear(&mut self) {
        const KEEP: usize = 8192;
        let Self { flows, sockets, closed, undecodable } = self;
        flows.clear();
        flows.shrink_to(KEEP);
        sockets.clear();
        sockets.shrink_to(KEEP);
        closed.clear();
        closed.shrink_to(KEEP);
        *undecodable = 0;
    }
}

/// A part of a [`Drained`].
#[derive(Clone, Copy, Debug)]
pub struct DrainedPart<'a> {
    /// See [`Drained::flows`].
    pub flows: &'a [(FlowKey, FlowStats)],
    /// See [`Drained::sockets`].
    pub sockets: &'a [SocketBody],
    /// See [`Drained::closed`].
    pub closed: &'a [SocketBody],
    /// See [`Drained::undecodable`].
    pub undecodable: u64,
}

fn part<T>(records: &[T], start: usize, size: usize) -> &[T] {
    let end = records.len().min(start + size);
    records.get(start..end).unwrap_or_default()
}

/// The loaded object. Dropping it detaches and unloads everything.
pub struct FlowObject {
    ebpf: Ebpf,
    control: SharedControl,
    slots: [SharedSlots; 2],
    grace: GracePeriod,
    flow_batch: BatchDrain,
    closed_batch: BatchDrain,
    counters: PerCpuArray<MapData, Counters>,
    sockets: Option<OwnedFd>,
    interfaces: StdHashMap<u32, InterfaceLinks>,
    iterator_buffer: Vec<u8>,
    tcx: bool,
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

const SOCKET_PROGRAMS: [&str; 2] = ["flow_socket_ingress", "flow_socket_egress"];
const RELEASE_PROGRAM: &str = "flow_socket_release";

/// The `COUNTERS` entry of one CPU.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Counters([u64; Counter::COUNT]);

// SAFETY: an array of integers.
unsafe impl aya::Pod for Counters {}

struct InterfaceLinks {
    kind: LinkKind,
    ingress: SchedClassifierLinkId,
    egress: SchedClassifierLinkId,
}

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
        Err(refusal.unwrap_or(incomplete("program")))
    }

    fn load_with(
        options: &FlowOptions,
        features: &Features,
        btf: Option<&Btf>,
        storage: Storage,
    ) -> Result<Self, EbpfError> {
        let high_water = u64::from(options.table_size / HIGH_WATER_DIVISOR);
        let slots = (options.table_size / TABLE_PART).next_power_of_two();
        let left = options.leave_to.unwrap_or(SocketHookCgroup { id: 0, level: 0 });
        let seed = RandomState::new().build_hasher().finish();
        let mut ebpf = EbpfLoader::new()
            .btf(btf)
            .override_global("HIGH_WATER", &high_water, true)
            .override_global("SLOT_MASK", &(slots - 1), true)
            .override_global("SEED", &seed, true)
            .override_global("SOCKET_STORAGE", &u8::from(storage != Storage::Off), true)
            .override_global("FULL_SOCKET", &u8::from(storage == Storage::FullSocket), true)
            .override_global("SOCKET_HOOK_CGROUP", &left.id, true)
            .override_global("SOCKET_HOOK_LEVEL", &left.level, true)
            .map_max_entries("SLOTS_0", slots)
            .map_max_entries("SLOTS_1", slots)
            .map_max_entries("FLOWS_0", options.table_size)
            .map_max_entries("FLOWS_1", options.table_size)
            .map_max_entries("CLOSED", options.table_size / CLOSED_PART as u32)
            .map_max_entries("EVENTS", options.ring_size)
            .load(FLOW_OBJECT)
            .map_err(load_error)?;
        let control = SharedControl::map(map_fd(&ebpf, "CONTROL")?)
            .map_err(map_error("mapping the control entry"))?;
        let map_slots = |name| {
            SharedSlots::map(map_fd(&ebpf, name)?, slots).map_err(map_error("mapping the slots"))
        };
        let slots = [map_slots("SLOTS_0")?, map_slots("SLOTS_1")?];
        let grace = GracePeriod::new().map_err(map_error("making the grace period's maps"))?;
        let counters = ebpf.take_map("COUNTERS").ok_or(incomplete("COUNTERS"))?;
        let counters = PerCpuArray::try_from(counters).map_err(load_error)?;
        let sockets = match (storage, btf) {
            (Storage::Off, _) | (_, None) => None,
            (_, Some(btf)) => Some(start_socket_iterator(&mut ebpf, btf)?),
        };
        let mut object = Self {
            ebpf,
            control,
            slots,
            grace,
            flow_batch: BatchDrain::new(size_of::<FlowKey>(), size_of::<FlowStats>()),
            closed_batch: BatchDrain::new(size_of::<u64>(), size_of::<SocketBody>()),
            counters,
            sockets,
            interfaces: StdHashMap::new(),
            iterator_buffer: vec![0; ITERATOR_BUFFER],
            tcx: features.tcx(),
            ticks: Ticks::default(),
            high_water,
        };
        object.load_programs(features)?;
        object.read_clock()?;
        Ok(object)
    }

    /// Loads what every attachment needs, so that a refusal shows before anything is attached.
    fn load_programs(&mut self, features: &Features) -> Result<(), EbpfError> {
        let clock: &mut SchedClassifier = self.program("flow_clock")?;
        clock.load().map_err(load_error)?;
        if !features.socket_hook() {
            return Ok(());
        }
        for name in SOCKET_PROGRAMS {
            let program: &mut CgroupSkb = self.program(name)?;
            program.load().map_err(load_error)?;
        }
        if self.sockets.is_some() {
            let release: &mut CgroupSock = self.program(RELEASE_PROGRAM)?;
            release.load().map_err(load_error)?;
        }
        Ok(())
    }

    /// Reads what a tick is, for the times of what is drained next.
    fn read_clock(&mut self) -> Result<(), EbpfError> {
        let clock: &mut SchedClassifier = self.program("flow_clock")?;
        let program = clock.fd().map_err(load_error)?.as_fd();
        run_classifier(program).map_err(map_error("running the clock program"))?;
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

    /// Attaches the socket hook to a cgroup v2 directory and all below it.
    ///
    /// # Errors
    /// [`EbpfError::Attach`] with the kernel's words.
    pub fn attach_sockets(&mut self, cgroup: &File, path: &str) -> Result<(), EbpfError> {
        let mode = CgroupAttachMode::Single;
        if self.sockets.is_some() {
            // First, so that no record is made whose end is not seen.
            let program: &mut CgroupSock = self.program(RELEASE_PROGRAM)?;
            program.attach(cgroup, mode).map_err(attach_error(RELEASE_PROGRAM, path))?;
        }
        let hooks = [CgroupSkbAttachType::Ingress, CgroupSkbAttachType::Egress];
        for (name, hook) in SOCKET_PROGRAMS.into_iter().zip(hooks) {
            let program: &mut CgroupSkb = self.program(name)?;
            program.attach(cgroup, hook, mode).map_err(attach_error(name, path))?;
        }
        Ok(())
    }

    /// Attaches the interface hook to a device of this thread's network namespace.
    ///
    /// # Errors
    /// [`EbpfError::Attach`] with the kernel's words.
    pub fn attach_interface(
        &mut self,
        index: u32,
        name: &str,
        kind: LinkKind,
    ) -> Result<AttachedTo, EbpfError> {
        if self.interfaces.contains_key(&index) {
            self.detach_interface(index);
        }
        let [ingress, egress] = self.attach_both(name, kind, self.tcx)?;
        self.interfaces.insert(index, InterfaceLinks { kind, ingress, egress });
        Ok(if self.tcx { AttachedTo::Tcx } else { AttachedTo::Clsact })
    }

    fn attach_both(
        &mut self,
        interface: &str,
        kind: LinkKind,
        tcx: bool,
    ) -> Result<[SchedClassifierLinkId; 2], EbpfError> {
        if !tcx {
            // It exists already where another program uses it; a failure shows when attaching.
            let _ = tc::qdisc_add_clsact(interface);
        }
        let [ingress, egress] = program_names(kind);
        let first = self.attach_one(ingress, interface, TcAttachType::Ingress, tcx)?;
        match self.attach_one(egress, interface, TcAttachType::Egress, tcx) {
            Ok(second) => Ok([first, second]),
            Err(error) => {
                let program: &mut SchedClassifier = self.program(ingress)?;
                // The device is gone, or this direction goes with it.
                let _ = program.detach(first);
                Err(error)
            }
        }
    }

    fn attach_one(
        &mut self,
        name: &'static str,
        interface: &str,
        direction: TcAttachType,
        tcx: bool,
    ) -> Result<SchedClassifierLinkId, EbpfError> {
        let program: &mut SchedClassifier = self.program(name)?;
        if program.fd().is_err() {
            program.load().map_err(attach_error(name, interface))?;
        }
        let options = if tcx {
            TcAttachOptions::TcxOrder(LinkOrder::default())
        } else {
            let pid = std::process::id();
            let handle = TcHandle::new((pid >> 16) as u16, pid as u16);
            TcAttachOptions::Netlink(NlOptions { priority: FILTER_PRIORITY, handle, classid: None })
        };
        program
            .attach_with_options(interface, direction, options)
            .map_err(attach_error(name, interface))
    }

    /// Detaches from a device; no error when it is gone.
    pub fn detach_interface(&mut self, index: u32) {
        let Some(links) = self.interfaces.remove(&index) else { return };
        let [ingress, egress] = program_names(links.kind);
        for (name, id) in [(ingress, links.ingress), (egress, links.egress)] {
            if let Ok(program) = self.program::<SchedClassifier>(name) {
                // A device that went took its filters along.
                let _ = program.detach(id);
            }
        }
    }

    /// Takes the ring's reader. There is one.
    ///
    /// # Errors
    /// [`EbpfError::Incomplete`] when it was taken before.
    pub fn take_ring(&mut self) -> Result<RingReader, EbpfError> {
        let map = self.ebpf.take_map("EVENTS").ok_or(incomplete("EVENTS"))?;
        RingBuf::try_from(map).map(RingReader).map_err(load_error)
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
            let map = map_fd(&self.ebpf, if old == 0 { "FLOWS_0" } else { "FLOWS_1" })?;
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
            .run(map_fd(&self.ebpf, "CLOSED")?, |_, body| match SocketBody::read_from_bytes(body) {
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
        let cpus = self.counters.get(&0, 0).map_err(|error| EbpfError::Map {
            operation: "reading the counters",
            source: io::Error::other(error),
        })?;
        let mut sum = [0; Counter::COUNT];
        for cpu in cpus.iter() {
            for (total, value) in sum.iter_mut().zip(cpu.0) {
                *total += value;
            }
        }
        Ok(sum)
    }

    /// Memory that the kernel says the maps take, bytes.
    #[must_use]
    pub fn map_bytes(&self) -> u64 {
        self.ebpf
            .maps()
            .filter_map(|(_, map)| data_of(map))
            .map(|data| memlock(data.fd().as_fd()))
            .sum()
    }

    /// Run time and runs of the loaded programs, where the kernel keeps statistics.
    #[must_use]
    pub fn run_time(&self) -> (u64, u64) {
        self.ebpf.programs().filter_map(|(_, program)| program.info().ok()).fold(
            (0, 0),
            |(ns, runs), info| {
                let run_ns = info.run_time().as_nanos();
                (ns + u64::try_from(run_ns).unwrap_or(u64::MAX), runs + info.run_count())
            },
        )
    }

    fn program<'a, P>(&'a mut self, name: &'static str) -> Result<&'a mut P, EbpfError>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program>,
    {
        let program = self.ebpf.program_mut(name).ok_or(incomplete(name))?;
        program.try_into().map_err(|_| incomplete(name))
    }
}

impl Drop for FlowObject {
    fn drop(&mut self) {
        // Links die with their descriptors; clsact's filters do not.
        let indices: Vec<u32> = self.interfaces.keys().copied().collect();
        for index in indices {
            self.detach_interface(index);
        }
    }
}

/// One read's worth of socket records: the kernel's own buffer is eight pages.
const ITERATOR_BUFFER: usize = 32 * 1024;

fn start_socket_iterator(ebpf: &mut Ebpf, btf: &Btf) -> Result<OwnedFd, EbpfError> {
    let name = "flow_sockets";
    let program = ebpf.program_mut(name).ok_or(incomplete(name))?;
    let program: &mut Iter = program.try_into().map_err(|_| incomplete(name))?;
    program.load("bpf_sk_storage_map", btf).map_err(load_error)?;
    let program = program.fd().map_err(load_error)?.try_clone().map_err(load_error)?;
    let map = map_fd(ebpf, "SOCKETS")?;
    link_map_iterator(program.as_fd(), map).map_err(map_error("linking the socket iterator"))
}

const fn program_names(kind: LinkKind) -> [&'static str; 2] {
    match kind {
        LinkKind::Ethernet => ["flow_tc_ingress", "flow_tc_egress"],
        LinkKind::Raw => ["flow_tc_l3_ingress", "flow_tc_l3_egress"],
    }
}

fn map_fd<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<BorrowedFd<'a>, EbpfError> {
    let data = ebpf.map(name).and_then(data_of).ok_or(incomplete(name))?;
    Ok(data.fd().as_fd())
}

const fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::SkStorage(data) => Some(data),
        _ => None,
    }
}

/// The `memlock` line of the descriptor's fdinfo.
fn memlock(fd: BorrowedFd<'_>) -> u64 {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

fn load_error(source: impl std::error::Error + Send + Sync + 'static) -> EbpfError {
    EbpfError::Load { object: OBJECT, source: Box::new(source) }
}

fn map_error(operation: &'static str) -> impl Fn(io::Error) -> EbpfError {
    move |source| EbpfError::Map { operation, source }
}

fn attach_error<E: std::error::Error + Send + Sync + 'static>(
    program: &'static str,
    target: &str,
) -> impl Fn(E) -> EbpfError {
    let target = target.to_owned();
    move |source| EbpfError::Attach { program, target: target.clone(), source: Box::new(source) }
}

const fn incomplete(part: &'static str) -> EbpfError {
    EbpfError::Incomplete { object: OBJECT, part }
}

/// The reading end of the ring.
pub struct RingReader(RingBuf<MapData>);

impl RingReader {
    /// Makes it something that a runtime waits on. Call it within one.
    ///
    /// # Errors
    /// What the system said.
    pub fn wait_on(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the reader owns its descriptor, which neither changes nor closes before it.
        Ok(unsafe { AsyncFd::register(self)? })
    }

    /// Hands each record's bytes to `visit`, and frees it. Returns their sum, headers included:
    /// how full the ring was.
    pub fn read(&mut self, mut visit: impl FnMut(&[u8])) -> usize {
        /// What the kernel puts in front of each record.
        const HEADER: usize = 8;
        let mut bytes = 0;
        while let Some(record) = self.0.next() {
            visit(&record);
            bytes += record.len().next_multiple_of(8) + HEADER;
        }
        bytes
    }
}

impl std::os::fd::AsRawFd for RingReader {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}
