//! What processes do with CUDA and NCCL, as the calls to the libraries tell it.
//!
//! A call is counted at one layer: the driver's (`libcuda`), which every library above comes down to,
//! and NCCL's own. Sums are since the process was first seen and never go back.

use std::sync::Arc;
use std::time::Duration;

use super::device::DeviceId;
use super::event::{AllocationKind, Process};
use crate::event::UnixNanos;

/// What one process did.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessActivity {
    /// The process.
    pub process: Process,
    /// Since when it was watched: what it did before is not in the sums.
    pub since: UnixNanos,
    /// The last call that was seen.
    pub last: UnixNanos,
    /// The devices that it uses, where that is known.
    pub devices: Vec<DeviceId>,
    /// Memory that it took and gave back.
    pub memory: MemoryActivity,
    /// Copies, a row for each kind that there were.
    pub copies: Vec<Copies>,
    /// Kernels that it launched.
    pub launches: Launches,
    /// Graphs that it launched.
    pub graph_launches: Launches,
    /// For how long its threads waited for the device, a row for each kind that there were.
    pub waits: Vec<Waits>,
    /// Modules that it loaded, and for how long its threads waited for that.
    pub modules: Calls,
    /// Collectives of all its communicators, those that are forgotten and those without a row below
    /// included; a row for each kind that there were.
    pub collectives: Vec<Collectives>,
    /// NCCL's communicators, the busiest first; bounded.
    pub communicators: Vec<Communicator>,
    /// What of its calls is seen.
    pub coverage: Coverage,
}

/// Memory of devices that a process took and gave back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryActivity {
    /// Allocations by kind.
    pub allocated: Vec<Allocated>,
    /// Memory of devices, all kinds but pinned, that it has now, bytes. Of memory that it took before
    /// it was watched nothing is known.
    pub outstanding: u64,
    /// Pinned memory of the machine that it has now, bytes.
    pub outstanding_pinned: u64,
    /// Gave back what was not seen taken.
    pub unknown_frees: u64,
    /// Allocations that the driver refused.
    pub failed: u64,
    /// Where most of what is outstanding was asked for, the largest first; bounded.
    pub sites: Vec<Site>,
    /// What is outstanding at all other places, bytes.
    pub other_sites: u64,
    /// Whether it seems to lose memory.
    pub leak: Option<Leak>,
}

/// Allocations of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// How.
    pub kind: AllocationKind,
    /// Allocations.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Given back.
    pub freed_count: u64,
    /// Bytes given back.
    pub freed_bytes: u64,
}

/// A place in a program that asks for memory: the caller of the driver, and its callers where the
/// frames can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Innermost first: `symbol+0x1f (libtorch_cuda.so)`, or the offset in the file where there is no
    /// symbol.
    pub frames: Vec<Arc<str>>,
    /// What was asked for there and is outstanding, bytes.
    pub outstanding: u64,
    /// Allocations that are outstanding.
    pub count: u64,
}

/// A process whose outstanding memory grows, window after window.
#[derive(Clone, Debug, PartialEq)]
pub struct Leak {
    /// By how much, bytes a second over the windows.
    pub growth: f64,
    /// Windows in a row in which the lowest mark rose.
    pub windows: u32,
    /// Length of a window.
    pub window: Duration,
    /// The place that grew most.
    pub site: Option<Site>,
}

/// Copies of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// From where to where.
    pub kind: CopyKind,
    /// Copies.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
    /// For how long calls did not return, of those that wait for the copy.
    pub waited: Duration,
}

/// From where to where a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CopyKind {
    /// From the machine to a device.
    HostToDevice,
    /// From a device to the machine.
    DeviceToHost,
    /// Within a device.
    DeviceToDevice,
    /// From a device to another.
    Peer,
    /// The call does not say (unified addresses).
    Unified,
}

impl CopyKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::HostToDevice, Self::DeviceToHost, Self::DeviceToDevice, Self::Peer, Self::Unified];

    /// Returns its name as in labels and output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::HostToDevice => "host-to-device",
            Self::DeviceToHost => "device-to-host",
            Self::DeviceToDevice => "device-to-device",
            Self::Peer => "peer",
            Self::Unified => "unified",
        }
    }
}

/// Kernels or graphs that were launched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Launches {
    /// Launches that were seen, or estimated for the time in which nobody looked.
    pub count: u64,
    /// Launches a second over the last interval.
    pub rate: f64,
    /// Whether any of it is estimated.
    pub is_sampled: bool,
}

/// For how long threads waited for a device in one kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The call.
    pub kind: WaitKind,
    /// Calls, and for how long they did not return.
    pub calls: Calls,
}

/// Calls that are timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// How many.
    pub count: u64,
    /// For how long they did not return, all together.
    pub time: Duration,
    /// The longest.
    pub longest: Duration,
}

/// A call that waits for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitKind {
    /// `cuStreamSynchronize`.
    Stream,
    /// `cuEventSynchronize`.
    Event,
    /// `cuCtxSynchronize`.
    Context,
}

impl WaitKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Stream, Self::Event, Self::Context];

    /// Returns its name as in labels and output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Event => "event",
            Self::Context => "context",
        }
    }
}

/// One process's part in an NCCL communicator.
#[derive(Clone, Debug, PartialEq)]
pub struct Communicator {
    /// A hash of its unique id, the same for all its ranks on all nodes; 0 where its beginning was not
    /// seen.
    pub hash: u64,
    /// This process's number in it.
    pub rank: Option<u32>,
    /// Processes in it.
    pub ranks: Option<u32>,
    /// Collectives, a row for each kind that there were.
    pub collectives: Vec<Collectives>,
    /// The last collective.
    pub last: UnixNanos,
    /// Collectives by which the last rank that is known is behind the first; `None` where only one
    /// is known.
    pub behind: Option<u64>,
    /// The rank that is behind.
    pub slowest_rank: Option<u32>,
    /// Ranks that do not answer, by NCCL's own account; bounded.
    pub missing_ranks: Vec<u32>,
    /// Whether the counts are NCCL's own (RAS) and not from its calls.
    pub is_from_ras: bool,
    /// What it is doing.
    pub state: CommunicatorState,
}

/// How a communicator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommunicatorState {
    /// It is being made: its call has not returned.
    Initializing,
    /// It can be used.
    Ready,
    /// It was given up.
    Aborted,
    /// It was ended.
    Destroyed,
}

impl CommunicatorState {
    /// Returns its name as in output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Ready => "ready",
            Self::Aborted => "aborted",
            Self::Destroyed => "destroyed",
        }
    }
}

/// Collectives of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collectives {
    /// Which.
    pub kind: CollectiveKind,
    /// Calls.
    pub count: u64,
    /// Bytes that this rank put in; `None` where only the calls are known.
    pub bytes: Option<u64>,
}

/// What a collective does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CollectiveKind {
    /// `ncclAllReduce`.
    AllReduce,
    /// `ncclReduceScatter`.
    ReduceScatter,
    /// `ncclAllGather`.
    AllGather,
    /// `ncclAlltoAll`.
    AllToAll,
    /// `ncclBroadcast`, `ncclBcast`.
    Broadcast,
    /// `ncclReduce`.
    Reduce,
    /// `ncclSend`.
    Send,
    /// `ncclRecv`.
    Recv,
}

impl CollectiveKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::AllReduce,
        Self::ReduceScatter,
        Self::AllGather,
        Self::AllToAll,
        Self::Broadcast,
        Self::Reduce,
        Self::Send,
        Self::Recv,
    ];

    /// Returns its name as in labels and output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::AllReduce => "all-reduce",
            Self::ReduceScatter => "reduce-scatter",
            Self::AllGather => "all-gather",
            Self::AllToAll => "all-to-all",
            Self::Broadcast => "broadcast",
            Self::Reduce => "reduce",
            Self::Send => "send",
            Self::Recv => "recv",
        }
    }
}

/// What of a process's calls is seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    /// Libraries in which its calls are watched.
    pub libraries: Vec<Arc<str>>,
    /// What is watched only in a part of the time, and in which part (0 to 1).
    pub sampled: Vec<(&'static str, f64)>,
    /// What is not watched, and why.
    pub missing: Vec<Arc<str>>,
}
