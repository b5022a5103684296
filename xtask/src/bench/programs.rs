//! The programs that are compared, attached in this process and read as the agent reads them.

mod statistics;

use std::{
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{MapData, RingBuf},
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, LinkOrder, SchedClassifier, SockOps,
        TcAttachType,
        tc::{self, NlOptions, TcAttachOptions},
    },
};
use nix::{
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, poll},
};
use orb8_agent::ebpf::{
    DnsObject, DnsOptions, Drained, Features, FlowObject, FlowOptions, LinkKind, PacketObject,
    RingReader,
};
use orb8_common::dns::Counter;

use super::{
    lab::{Cgroup, INTERFACES, Lab, Netns},
    workload::DNS_PORT,
};
pub(crate) use statistics::{RunTime, Statistics, field};

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// `cgroup_skb`.
    Socket,
    /// tc.
    Interface,
}

impl Hook {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Interface => "interface",
        }
    }
}

/// What is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Programs that do nothing.
    Empty,
    /// An event per packet, interface hook only.
    Ring {
        /// Wakes the reader with each event, which is what the kernel does unless told otherwise.
        wakes: bool,
    },
    /// orb8's own.
    Flow {
        /// Connected sockets count in their own storage.
        storage: bool,
    },
    /// orb8's own, without the flow's.
    Dns,
}

impl Variant {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Ring { wakes: true } => "ring event per packet",
            Self::Ring { wakes: false } => "ring event per packet, no wake-up",
            Self::Flow { storage: true } => "orb8",
            Self::Dns => "`dns`",
            Self::Flow { storage: false } => "orb8 without socket storage",
        }
    }
}

/// Attached programs, read by a thread of their own. Dropping them detaches them.
pub(crate) struct Attached {
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    programs: Statistics,
}

impl Attached {
    /// Attaches to a cgroup, or to the node's interfaces.
    pub(crate) fn new(lab: &Lab, cgroup: &Cgroup, hook: Hook, variant: Variant) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::sync_channel(1);
        let place = Target { hook, node: lab.node.clone()?, cgroup: cgroup.path().to_owned() };
        let until = Arc::clone(&stop);
        let reader = thread::spawn(move || match place.load(variant) {
            Ok(programs) => {
                // Nobody listens where the run is over.
                let _ = tell.send(Ok(()));
                programs.read_until(&until);
            }
            Err(error) => drop(tell.send(Err(error))),
        });
        let mut attached = Self { stop, reader: Some(reader), programs: Statistics::default() };
        told.recv().context("the attaching thread is gone")??;
        attached.programs = Statistics::of(std::process::id(), HOOK_PROGRAMS)?;
        Ok(attached)
    }

    /// Run time and runs of the hook's programs so far.
    pub(crate) fn run_time(&self) -> Result<RunTime> {
        self.programs.read()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(reader) = self.reader.take() {
            // Its panic was printed.
            let _ = reader.join();
        }
    }
}

/// How the names of programs at a hook begin; the kernel keeps 15 bytes of a name. Those that run
/// once per drain or per socket are not among them.
pub(crate) const HOOK_PROGRAMS: &[&str] =
    &["bench_", "flow_socket_i", "flow_socket_e", "flow_tc_", "dns_"];

struct Target {
    hook: Hook,
    node: Netns,
    cgroup: PathBuf,
}

enum Programs {
    Comparison { ebpf: Ebpf, ring: Option<RingBuf<MapData>>, wakes: bool },
    Flow { object: Box<FlowObject>, ring: RingReader },
    Dns { object: Box<DnsObject>, ring: RingReader },
}

/// The agent's default.
const RING_SIZE: u32 = 1 << 20;
/// More than that: what finds no room costs less, and traffic comes as fast as it can.
const MESSAGE_RING_SIZE: u32 = 8 << 20;

impl Target {
    fn load(&self, variant: Variant) -> Result<Programs> {
        // Interfaces are looked up, and filters removed, in the thread's namespace.
        self.node.enter()?;
        match variant {
            Variant::Flow { storage } => self.load_flow(storage),
            Variant::Dns => self.load_dns(),
            Variant::Empty => self.load_comparison("empty", false),
            Variant::Ring { wakes } => self.load_comparison("ring", wakes),
        }
    }

    fn load_flow(&self, socket_storage: bool) -> Result<Programs> {
        let btf = Btf::from_sys_fs().ok();
        let features = Features::probe(btf.as_ref());
        let options =
            FlowOptions { table_size: 65536, ring_size: RING_SIZE, socket_storage, leave_to: None };
        let mut object = FlowObject::load(&options, &features, btf.as_ref())?;
        let ring = object.take_ring()?;
        self.attach(&mut object)?;
        Ok(Programs::Flow { object: Box::new(object), ring })
    }

    fn load_dns(&self) -> Result<Programs> {
        let btf = Btf::from_sys_fs().ok();
        let features = Features::probe(btf.as_ref());
        let options =
            DnsOptions { ring_size: MESSAGE_RING_SIZE, ports: vec![DNS_PORT], leave_to: None };
        let mut object = DnsObject::load(&options, &features, btf.as_ref())?;
        let ring = object.take_ring()?;
        self.attach(&mut object)?;
        Ok(Programs::Dns { object: Box::new(object), ring })
    }

    fn attach(&self, object: &mut impl PacketObject) -> Result<()> {
        match self.hook {
            Hook::Socket => {
                let cgroup = fs::File::open(&self.cgroup)?;
                object.attach_sockets(&cgroup, &self.cgroup.display().to_string())?;
            }
            Hook::Interface => {
                for name in INTERFACES {
                    object.attach_interface(if_nametoindex(name)?, name, LinkKind::Ethernet)?;
                }
            }
        }
        Ok(())
    }

    fn load_comparison(&self, name: &str, wakes: bool) -> Result<Programs> {
        const BPF_RB_NO_WAKEUP: u64 = 1;
        let flags = if wakes { 0 } else { BPF_RB_NO_WAKEUP };
        let mut ebpf = EbpfLoader::new()
            .override_global("WAKEUP_FLAGS", &flags, true)
            .load(COMPARISON_OBJECT)?;
        match self.hook {
            Hook::Socket => attach_sockets(&mut ebpf, name, &self.cgroup)?,
            Hook::Interface => attach_interfaces(&mut ebpf, name)?,
        }
        let ring = match ebpf.take_map("PACKETS") {
            Some(map) if name == "ring" => Some(RingBuf::try_from(map)?),
            _ => None,
        };
        Ok(Programs::Comparison { ebpf, ring, wakes })
    }
}

/// What the programs are compared with, and the reference that counts.
pub(super) static COMPARISON_OBJECT: &[u8] =
    aya::include_bytes_aligned!("../../../orb8-agent/tests/objects/bench.bpf.o");

/// Attaches `bench_{name}_socket_*` to a cgroup.
pub(super) fn attach_sockets(ebpf: &mut Ebpf, name: &str, cgroup: &Path) -> Result<()> {
    let cgroup = fs::File::open(cgroup)?;
    for (direction, hook) in
        [("ingress", CgroupSkbAttachType::Ingress), ("egress", CgroupSkbAttachType::Egress)]
    {
        let name = format!("bench_{name}_socket_{direction}");
        let program: &mut CgroupSkb = program(ebpf, &name)?.try_into()?;
        program.load()?;
        program.attach(&cgroup, hook, CgroupAttachMode::Single)?;
    }
    Ok(())
}

/// Attaches `bench_empty_operations` to a cgroup.
pub(super) fn attach_operations(cgroup: &Cgroup) -> Result<Ebpf> {
    let mut ebpf = Ebpf::load(COMPARISON_OBJECT)?;
    let program: &mut SockOps = program(&mut ebpf, "bench_empty_operations")?.try_into()?;
    program.load()?;
    program.attach(fs::File::open(cgroup.path())?, CgroupAttachMode::Single)?;
    Ok(ebpf)
}

/// Attaches `bench_{name}_tc_*` to the node's interfaces. Call it in the node's namespace.
pub(super) fn attach_interfaces(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let tcx = SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok();
    for (direction, hook) in [("ingress", TcAttachType::Ingress), ("egress", TcAttachType::Egress)]
    {
        let name = format!("bench_{name}_tc_{direction}");
        let program: &mut SchedClassifier = program(ebpf, &name)?.try_into()?;
        program.load()?;
        for interface in INTERFACES {
            let options = if tcx {
                TcAttachOptions::TcxOrder(LinkOrder::default())
            } else {
                // It may be there already; a failure shows when attaching.
                let _ = tc::qdisc_add_clsact(interface);
                TcAttachOptions::Netlink(NlOptions::default())
            };
            program.attach_with_options(interface, hook, options)?;
        }
    }
    Ok(())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::programs::Program> {
    ebpf.program_mut(name).ok_or_else(|| anyhow!("the comparison object has no {name}"))
}

/// The agent's rest between two reads of its ring.
const REST: Duration = Duration::from_millis(4);

/// The agent's default time between two drains.
const INTERVAL: Duration = Duration::from_secs(1);

impl Programs {
    fn read_until(self, stop: &AtomicBool) {
        match self {
            Self::Flow { object, ring } => read_flow(*object, ring, stop),
            Self::Dns { object, ring } => read_messages(&object, ring, stop),
            Self::Comparison { ebpf, ring, wakes } => {
                if let Some(ring) = ring {
                    read_packets(ring, wakes, stop);
                }
                while !stop.load(Relaxed) {
                    thread::sleep(REST);
                }
                drop(ebpf);
            }
        }
    }
}

/// Reads the ring while the tables are drained, as the agent does.
fn read_flow(mut object: FlowObject, mut ring: RingReader, stop: &AtomicBool) {
    /// The record that asks for a drain, told from others by its length.
    const PRESSURE: usize = size_of::<u64>();
    let pressed = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                ring.read(|record| {
                    if record.len() == PRESSURE {
                        pressed.store(true, Relaxed);
                    }
                });
                thread::sleep(REST);
            }
        });
        let mut drained = Drained::default();
        let mut last = Instant::now();
        while !stop.load(Relaxed) {
            thread::sleep(REST);
            if pressed.swap(false, Relaxed) || last.elapsed() >= INTERVAL {
                if let Err(error) = object.drain(&mut drained) {
                    eprintln!("warning: draining failed: {error}");
                }
                drained.clear();
                last = Instant::now();
            }
        }
    });
}

/// Reads the ring, and says so where it was too slow: what finds no room costs less.
fn read_messages(object: &DnsObject, mut ring: RingReader, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        ring.read(|_| ());
        thread::sleep(REST);
    }
    let lost = object.counters().map_or(0, |counters| counters[Counter::Lost as usize]);
    if lost > 0 {
        eprintln!("warning: {lost} DNS messages found no room in the ring");
    }
}

fn read_packets(mut ring: RingBuf<MapData>, wakes: bool, stop: &AtomicBool) {
    const PATIENCE_MS: u16 = 50;
    while !stop.load(Relaxed) {
        if wakes {
            // A time-out and an error alike lead to another look.
            let _ = poll(&mut [PollFd::new(ring.as_fd(), PollFlags::POLLIN)], PATIENCE_MS);
        } else {
            thread::sleep(REST);
        }
        while !stop.load(Relaxed) && ring.next().is_some() {}
    }
}
