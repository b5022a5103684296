//! What happens to devices, and what is done with them, as moments.

use std::sync::Arc;
use std::time::Duration;

use super::device::DeviceId;
use super::sample::ThrottleReason;
use super::share::Owner;
use crate::event::UnixNanos;
use crate::identity::Workload;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuEvent {
    /// When; of what is found by reading at intervals, when it was read.
    pub time: UnixNanos,
    /// Which device; `None` where that is not known.
    pub device: Option<DeviceId>,
    /// Its number, for who reads.
    pub index: Option<u32>,
    /// The process, where one did it.
    pub process: Option<Process>,
    /// Whose process it is; of what happens to a device, who holds or uses it.
    pub owners: Vec<Owner>,
    /// What happened.
    pub kind: GpuEventKind,
}

/// A process that uses a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its number outside of all containers.
    pub pid: u32,
    /// Its name, as the kernel has it.
    pub name: Arc<str>,
    /// Whose it is.
    pub workload: Option<Arc<Workload>>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum GpuEventKind {
    /// The driver reported an error by NVIDIA's number for it.
    Xid(Xid),
    /// Something began to hold the device back, or stopped.
    Throttle {
        /// Whether it began.
        began: bool,
        /// What it is.
        reasons: Vec<ThrottleReason>,
    },
    /// Errors of the device's memory that were not mended.
    EccUncorrected {
        /// How many more.
        count: u64,
    },
    /// A row of the device's memory was, or could not be, remapped.
    RowRemap {
        /// Whether it waits for a reset of the device.
        is_pending: bool,
        /// Whether there was no spare left.
        has_failed: bool,
    },
    /// The device does not answer any more.
    Lost {
        /// What its driver said.
        reason: String,
    },
    /// A device appeared: it was added, it came back, or MIG was divided anew.
    Appeared,
    /// A device was taken away, other than by being lost.
    Removed,
    /// An owner has held the device for long without using it, or that is over: it uses it again, it does
    /// not hold it any more, or the device is lost.
    Idle {
        /// Whether it began.
        began: bool,
        /// For how long it had not been used.
        lasted: Duration,
    },
    /// A process uses a device that its container was not given, or stopped to.
    Unallocated {
        /// Whether it began.
        began: bool,
    },
    /// A process took device memory.
    Allocated {
        /// Bytes.
        bytes: u64,
        /// How.
        how: AllocationKind,
    },
    /// A process asked for device memory and did not get it.
    AllocationFailed {
        /// Bytes.
        bytes: u64,
        /// The driver's error (`CUresult`), 2 for out of memory.
        error: u32,
    },
    /// How often a process launched kernels in the last interval.
    Launches {
        /// Kernels a second.
        rate: f64,
        /// Graphs a second.
        graph_rate: f64,
        /// Whether the rate is from a part of the interval.
        is_sampled: bool,
    },
    /// A process loaded a module, which may compile it.
    ModuleLoaded {
        /// For how long the call did not return.
        took: Duration,
    },
    /// A process seems to lose device memory: see [`super::activity::Leak`].
    Leak {
        /// What it has and did not give back, bytes.
        outstanding: u64,
        /// By how much that grows, bytes a second.
        growth: f64,
    },
    /// A communicator's collectives in the last interval.
    Collectives {
        /// The communicator, the same number on all its ranks.
        communicator: u64,
        /// This process's number in it.
        rank: Option<u32>,
        /// Calls.
        calls: u64,
        /// Bytes.
        bytes: u64,
    },
    /// A process joined a communicator.
    CommunicatorInit {
        /// The communicator.
        communicator: u64,
        /// This process's number in it.
        rank: u32,
        /// Processes in it.
        ranks: u32,
        /// For how long the call did not return.
        took: Duration,
    },
    /// A process gave a communicator up: its watchdog fired, or it saw an error.
    CommunicatorAbort {
        /// The communicator, 0 where its beginning was not seen.
        communicator: u64,
        /// This process's number in it.
        rank: Option<u32>,
    },
    /// A rank is behind the others of its communicator, who wait for it.
    Straggler {
        /// The communicator.
        communicator: u64,
        /// The rank that is behind.
        rank: u32,
        /// By how many collectives.
        behind: u64,
        /// Whether it does not answer at all.
        is_missing: bool,
    },
    /// The cost of watching passed its budget, or is within it again.
    Sampling {
        /// Whether less is watched from now on.
        began: bool,
        /// What is watched in part.
        what: &'static str,
        /// The part of the time in which it is.
        part: f64,
    },
}

/// How device memory was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AllocationKind {
    /// `cuMemAlloc`, `cuMemAllocPitch`.
    Device,
    /// `cuMemAllocAsync`, `cuMemAllocFromPoolAsync`.
    Pool,
    /// `cuMemCreate`: physical memory to be mapped.
    Physical,
    /// `cuMemAllocManaged`.
    Managed,
    /// `cuMemHostAlloc`, `cuMemAllocHost`, `cuMemHostRegister`: pinned memory of the machine.
    Pinned,
}

impl AllocationKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Device, Self::Pool, Self::Physical, Self::Managed, Self::Pinned];

    /// Returns its name as in labels and output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Pool => "pool",
            Self::Physical => "physical",
            Self::Managed => "managed",
            Self::Pinned => "pinned",
        }
    }
}

/// An error that the driver reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Xid {
    /// NVIDIA's number.
    pub code: u32,
    /// Where it comes from.
    pub class: XidClass,
    /// What to do.
    pub action: XidAction,
    /// What it says, a few words: `GPU has fallen off the bus`.
    pub meaning: &'static str,
}

/// Where an error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum XidClass {
    /// The board, its memory, its links or its power.
    Hardware,
    /// The program that runs on it.
    Application,
    /// The driver or firmware.
    Driver,
    /// A number that this table does not have.
    Other,
}

impl XidClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Hardware, Self::Application, Self::Driver, Self::Other];

    /// Returns its name as in labels and output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Application => "application",
            Self::Driver => "driver",
            Self::Other => "other",
        }
    }
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum XidAction {
    /// Nothing.
    None,
    /// Start the pod again.
    RestartPod,
    /// Reset the device.
    ResetDevice,
    /// Reboot the node.
    Reboot,
    /// Drain the node and have the board looked at.
    Drain,
}

impl XidAction {
    /// Every action.
    pub const ALL: [Self; 5] =
        [Self::None, Self::RestartPod, Self::ResetDevice, Self::Reboot, Self::Drain];

    /// Returns its name as in labels and output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RestartPod => "restart-pod",
            Self::ResetDevice => "reset",
            Self::Reboot => "reboot",
            Self::Drain => "drain",
        }
    }
}
