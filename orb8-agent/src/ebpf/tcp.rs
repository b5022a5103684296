//! The `tcp` object: loading, attaching, reading.

mod offsets;
mod reasons;

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use aya::{
    Btf, EbpfLoader,
    maps::{Array, MapData, PerCpuArray},
    programs::{CgroupAttachMode, Iter, RawTracePoint, SockOps},
};
use orb8_common::tcp::{Control, Counter, DROP_REASONS, Drops, TcpSocket};
use zerocopy::FromBytes;

use super::{
    EbpfError, TCP_OBJECT,
    btf::KernelTypes,
    object::{Counters, Object, attach_error, map_error},
    ring::RingReader,
    sys::{link_iterator, link_map_iterator, start_iterator},
};
use crate::status::ProgramRun;
use offsets::offsets;
pub use reasons::{Reasons, TcpReasons};
use reasons::{ignored, reasons};

const OBJECT: &str = "tcp";

const OPERATIONS_PROGRAM: &str = "tcp_operations";

/// A tracepoint, and what is missing without it.
struct Tracepoint {
    program: &'static str,
    name: &'static str,
    gives: &'static str,
}

const TRACEPOINTS: [Tracepoint; 6] = [
    Tracepoint {
        program: "tcp_set_state",
        name: "inet_sock_set_state",
        gives: "closes of connections older than the agent",
    },
    Tracepoint {
        program: "tcp_retransmit",
        name: RETRANSMIT_TRACEPOINT,
        gives: "retransmits as they happen",
    },
    Tracepoint {
        program: "tcp_retransmit_synack",
        name: "tcp_retransmit_synack",
        gives: "retransmits of SYN-ACKs",
    },
    Tracepoint { program: "tcp_send_reset", name: RESET_TRACEPOINT, gives: "resets sent" },
    Tracepoint {
        program: "tcp_receive_reset",
        name: "tcp_receive_reset",
        gives: "resets received",
    },
    Tracepoint { program: "tcp_drop", name: DROP_TRACEPOINT, gives: "dropped packets" },
];
const DROP_TRACEPOINT: &str = "kfree_skb";
const RESET_TRACEPOINT: &str = "tcp_send_reset";
const RETRANSMIT_TRACEPOINT: &str = "tcp_retransmit_skb";

/// What is set when the object is loaded.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// Bytes of the ring: a power of two and a multiple of the page size.
    pub ring_size: u32,
}

/// The loaded object. Dropping it detaches and unloads everything.
pub struct TcpObject {
    object: Object,
    counters: Counters<{ Counter::COUNT }>,
    control: Array<MapData, Shared<Control>>,
    drops: PerCpuArray<MapData, Shared<Drops>>,
    sockets: Option<OwnedFd>,
    iterator_buffer: Vec<u8>,
    reasons: TcpReasons,
    can_adopt: bool,
}

/// A record that the kernel and the agent share.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Shared<T: Copy>(T);

// SAFETY: integers.
unsafe impl aya::Pod for Shared<Control> {}
// SAFETY: integers.
unsafe impl aya::Pod for Shared<Drops> {}
// SAFETY: integers.
unsafe impl aya::Pod for Shared<orb8_common::tcp::Offsets> {}

impl TcpObject {
    /// Loads the object for the running kernel, whose types are `btf`.
    ///
    /// # Errors
    /// [`EbpfError::Load`] with the kernel's words, [`EbpfError::Unknown`] where its structures are not
    /// told or lack a member that nothing works without.
    pub fn load(options: &TcpOptions, btf: &Btf) -> Result<Self, EbpfError> {
        let types = KernelTypes::of_kernel().map_err(map_error("reading the kernel's types"))?;
        let reasons = reasons(&types);
        let offsets = Shared(offsets(&types)?);
        let ignored = ignored(&reasons.drops);
        let has = |tracepoint, arguments| {
            u8::from(types.arguments(tracepoint).is_some_and(|known| known >= arguments))
        };
        let (drop_socket, reset_reason) = (has(DROP_TRACEPOINT, 4), has(RESET_TRACEPOINT, 3));
        let retransmit_error = has(RETRANSMIT_TRACEPOINT, 3);
        let mut loader = EbpfLoader::new();
        loader
            .btf(Some(btf))
            .override_global("OFFSETS", &offsets, true)
            .override_global("IGNORED", &ignored, true)
            .override_global("DROP_HAS_SOCKET", &drop_socket, true)
            .override_global("RESET_HAS_REASON", &reset_reason, true)
            .override_global("RETRANSMIT_HAS_ERROR", &retransmit_error, true)
            .map_max_entries("EVENTS", options.ring_size);
        let mut object = Object::load(OBJECT, &mut loader, TCP_OBJECT)?;
        Ok(Self {
            counters: object.take_counters()?,
            control: object.take_map("CONTROL")?,
            drops: object.take_map("DROPS")?,
            object,
            sockets: None,
            iterator_buffer: vec![0; ITERATOR_BUFFER],
            reasons,
            can_adopt: types.has_function("bpf_sock_from_file"),
        })
    }

    /// What the kernel calls its reasons.
    #[must_use]
    pub const fn reasons(&self) -> &TcpReasons {
        &self.reasons
    }

    /// Attaches what this kernel, whose types are `btf`, takes. Returns what is missing and why, a line
    /// each.
    ///
    /// # Errors
    /// [`EbpfError::Attach`] when nothing attaches.
    pub fn attach(
        &mut self,
        cgroup: Option<(&File, &str)>,
        btf: &Btf,
    ) -> Result<Vec<String>, EbpfError> {
        let mut missing = Vec::new();
        let mut refusal = None;
        let mut note = |gives: &str, error: EbpfError| {
            missing.push(format!("no {gives}: {}", crate::error::chain(&error)));
            refusal = Some(error);
        };
        // First, so that a socket is not told of twice: the tracepoint leaves alone what has callbacks.
        let followed = match cgroup {
            Some((cgroup, path)) => self.follow(cgroup, path, btf),
            None => Err(EbpfError::Unknown { what: "the root of the cgroup v2 hierarchy" }),
        };
        if let Err(error) = followed {
            note("handshakes and round-trip times", error);
        }
        let mut attached = usize::from(self.sockets.is_some());
        for tracepoint in &TRACEPOINTS {
            match self.attach_tracepoint(tracepoint) {
                Ok(()) => attached += 1,
                Err(error) => note(tracepoint.gives, error),
            }
        }
        if self.sockets.is_some() {
            let gives = "figures of connections older than the agent";
            match self.adopt(btf) {
                Ok(()) if is_in_pid_namespace() => missing.push(format!(
                    "no {gives} that processes outside this PID namespace have: run the agent in the \
                     host's (hostPID)"
                )),
                Ok(()) => {}
                Err(error) => note(gives, error),
            }
        }
        match refusal {
            Some(error) if attached == 0 => Err(error),
            _ => Ok(missing),
        }
    }

    /// Follows every socket below a cgroup from now on.
    fn follow(&mut self, cgroup: &File, path: &str, btf: &Btf) -> Result<(), EbpfError> {
        let program: &mut SockOps = self.object.program(OPERATIONS_PROGRAM)?;
        let loaded = program.load();
        loaded.map_err(|error| self.object.refused(error))?;
        let iterator: &mut Iter = self.object.program("tcp_sockets")?;
        let loaded = iterator.load("bpf_sk_storage_map", btf);
        let iterator = loaded.and_then(|()| Ok(iterator.fd()?.try_clone()?));
        let iterator = iterator.map_err(|error| self.object.refused(error))?;
        let link = link_map_iterator(iterator.as_fd(), self.object.map("SOCKETS")?)
            .map_err(map_error("linking the socket iterator"))?;
        let program: &mut SockOps = self.object.program(OPERATIONS_PROGRAM)?;
        program
            .attach(cgroup, CgroupAttachMode::Single)
            .map_err(attach_error(OPERATIONS_PROGRAM, path))?;
        self.sockets = Some(link);
        Ok(())
    }

    fn attach_tracepoint(&mut self, tracepoint: &Tracepoint) -> Result<(), EbpfError> {
        let Tracepoint { program: name, name: target, .. } = *tracepoint;
        if target == DROP_TRACEPOINT && self.reasons.drops.is_empty() {
            return Err(EbpfError::Absent { what: "reasons of drops", since: "5.17" });
        }
        let program: &mut RawTracePoint = self.object.program(name)?;
        let loaded = program.load();
        loaded.map_err(|error| self.object.refused(error))?;
        let program: &mut RawTracePoint = self.object.program(name)?;
        program.attach(target).map(drop).map_err(attach_error(name, target))
    }

    /// Gives a record to every TCP socket that a process has open.
    fn adopt(&mut self, btf: &Btf) -> Result<(), EbpfError> {
        if !self.can_adopt {
            return Err(EbpfError::Absent { what: "way from files to sockets", since: "5.11" });
        }
        let program: &mut Iter = self.object.program("tcp_adopt")?;
        let loaded = program.load("task_file", btf);
        let program = loaded.and_then(|()| Ok(program.fd()?.try_clone()?));
        let program = program.map_err(|error| self.object.refused(error))?;
        let run = || {
            let link = link_iterator(program.as_fd())?;
            let mut pass = start_iterator(link.as_fd())?;
            // The program writes nothing: reading to the end is what runs it.
            let mut nothing = [0; 64];
            loop {
                match pass.read(&mut nothing) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if is_again(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        };
        run().map_err(map_error("looking for open sockets"))
    }

    /// Takes the ring's reader. There is one.
    ///
    /// # Errors
    /// [`EbpfError::Incomplete`] when it was taken before.
    pub fn take_ring(&mut self) -> Result<RingReader, EbpfError> {
        self.object.take_ring()
    }

    /// Whether handshakes and round-trip times are seen.
    #[must_use]
    pub const fn follows_sockets(&self) -> bool {
        self.sockets.is_some()
    }

    /// Hands the records of the sockets that moved since the last call to `visit`, some at a time, until
    /// it returns false. Returns how many did not decode.
    ///
    /// # Errors
    /// [`EbpfError::Map`]. What was read until then was handed over.
    pub fn read_sockets(
        &mut self,
        mut visit: impl FnMut(Vec<TcpSocket>) -> bool,
    ) -> Result<u64, EbpfError> {
        let Some(link) = &self.sockets else { return Ok(0) };
        let mut pass =
            start_iterator(link.as_fd()).map_err(map_error("starting the socket iterator"))?;
        let (mut filled, mut undecodable) = (0, 0);
        loop {
            let read = match pass.read(&mut self.iterator_buffer[filled..]) {
                Ok(0) => return Ok(undecodable),
                Ok(read) => filled + read,
                Err(error) if is_again(&error) => continue,
                Err(error) => return Err(map_error("reading the sockets")(error)),
            };
            let whole = read - read % size_of::<TcpSocket>();
            let records = self.iterator_buffer[..whole].chunks_exact(size_of::<TcpSocket>());
            let count = records.len();
            let records: Vec<_> =
                records.filter_map(|record| TcpSocket::read_from_bytes(record).ok()).collect();
            undecodable += (count - records.len()) as u64;
            self.iterator_buffer.copy_within(whole..read, 0);
            filled = read - whole;
            if !visit(records) {
                return Ok(undecodable);
            }
        }
    }

    /// Tells the programs what is wanted.
    ///
    /// # Errors
    /// [`EbpfError::Map`].
    pub fn set_control(&mut self, control: Control) -> Result<(), EbpfError> {
        self.control.set(0, Shared(control), 0).map_err(|error| EbpfError::Map {
            operation: "telling the programs what is wanted",
            source: io::Error::other(error),
        })
    }

    /// Sums the per-CPU counters. Indexed by [`Counter`].
    ///
    /// # Errors
    /// [`EbpfError::Map`].
    pub fn counters(&self) -> Result<[u64; Counter::COUNT], EbpfError> {
        self.counters.sum()
    }

    /// Returns how many packets were dropped since the start, by reason: only reasons that happened.
    ///
    /// # Errors
    /// [`EbpfError::Map`].
    pub fn drops(&self) -> Result<Vec<(u32, u64)>, EbpfError> {
        let cpus = self.drops.get(&0, 0).map_err(|error| EbpfError::Map {
            operation: "reading the drops",
            source: io::Error::other(error),
        })?;
        let mut sum = vec![0; DROP_REASONS];
        for cpu in cpus.iter() {
            for (total, packets) in sum.iter_mut().zip(cpu.0.packets) {
                *total += packets;
            }
        }
        let happened = (0..).zip(sum).filter(|(_, packets)| *packets > 0);
        Ok(happened.collect())
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

/// One read's worth of socket records: the kernel's own buffer is eight pages.
const ITERATOR_BUFFER: usize = 32 * 1024;

/// Interrupted, or the kernel ended a pass early: it goes on where it stopped.
fn is_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// Whether processes exist that this one cannot see: the first PID namespace always has this inode.
pub(crate) fn is_in_pid_namespace() -> bool {
    const FIRST: u64 = 0xefff_fffc;
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() != FIRST)
}
