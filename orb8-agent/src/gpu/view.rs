//! The last state of all devices, as who asks gets it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::activity::ProcessActivity;
use super::device::{Device, DeviceId, SourceKind};
use super::event::Process;
use super::reading::{ProcessUse, Seen};
use super::sample::ThrottleReason;
use super::share::Shares;
use super::totals::OwnerTotals;
use crate::event::UnixNanos;
use crate::status::{ProgramRun, RingStatus};

/// Where the last [`View`] is. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Arc<View>>>);

impl Board {
    /// Returns the last state.
    #[must_use]
    pub fn read(&self) -> Arc<View> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a new state in place of the last one.
    pub fn put(&self, view: View) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }
}

/// All devices at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// When it was read; 0 before the first reading.
    pub time: UnixNanos,
    /// Between two readings.
    pub interval: Duration,
    /// Who tells, and who cannot and why.
    pub sources: Vec<SourceHealth>,
    /// Whether it is known who holds what, and if not, why.
    pub holders: HolderHealth,
    /// Devices, parts after what they are a part of.
    pub devices: Vec<DeviceView>,
    /// Processes on devices.
    pub processes: Vec<ProcessView>,
    /// What processes do with CUDA and NCCL.
    pub activity: Vec<ProcessActivity>,
    /// The same by owner, of processes that ended too.
    pub totals: Vec<OwnerTotals>,
    /// What watching them costs and covers.
    pub watching: Watching,
}

/// A device with its parts' owners.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceView {
    /// What it is and how.
    pub seen: Seen,
    /// Whose it is.
    pub shares: Shares,
    /// What happened to it since the agent started.
    pub counts: DeviceCounts,
}

/// What happened to a device since the agent started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceCounts {
    /// XID events by number.
    pub xids: BTreeMap<u32, u64>,
    /// When the last of each number was.
    pub xid_times: BTreeMap<u32, UnixNanos>,
    /// The last of them.
    pub last_xid: Option<u32>,
    /// When that was; 0 where there was none.
    pub last_xid_time: UnixNanos,
    /// Readings that found it held back, as time, by reason.
    pub throttled: BTreeMap<ThrottleReason, Duration>,
    /// Millijoules.
    pub energy_mj: u64,
    /// Times that it was lost.
    pub lost: u64,
    /// Readings that did not get an answer.
    pub silent: u64,
}

/// A process on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessView {
    /// What it does there.
    pub uses: ProcessUse,
    /// Who it is.
    pub process: Process,
}

/// How a source does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceHealth {
    /// Which.
    pub kind: SourceKind,
    /// Devices that it told of last, of those that no source before it knows.
    pub devices: u32,
    /// Why it tells nothing, and what to do; `None` where it does.
    pub problem: Option<String>,
    /// How long its last reading took.
    pub took: Duration,
    /// Readings that failed.
    pub failures: u64,
    /// Values that were left out since they made no sense.
    pub invalid: u64,
    /// Values that were asked for and not told.
    pub unread: u64,
    /// The last of them and what went wrong, where that was within the last minute.
    pub lacks: Option<String>,
}

/// Whether it is known who holds what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HolderHealth {
    /// Where it is from: the kubelet's socket, or dcgm-exporter's labels.
    pub from: Option<String>,
    /// Why it is not known, and what to do.
    pub problem: Option<String>,
    /// Ids of devices that were given and are not among those that are there.
    pub unmatched: Vec<String>,
    /// Whether nobody is to be asked, by the settings.
    pub is_off: bool,
}

/// How calls to CUDA and NCCL are watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watching {
    /// Whether they are.
    pub is_on: bool,
    /// Why not, or what of it does not work.
    pub problems: Vec<String>,
    /// Processes that are watched.
    pub processes: u32,
    /// Probes that are attached.
    pub probes: u32,
    /// Of them, those at instructions that the kernel has to step over.
    pub expensive: u32,
    /// Time that watching takes of the busiest thread, 0 to 1.
    pub cost: Option<f64>,
    /// What it may take.
    pub budget: f64,
    /// Events that the ring had no room for.
    pub lost: u64,
    /// The ring; `None` before there is one.
    pub ring: Option<RingStatus>,
    /// Memory that the kernel says the maps take, bytes.
    pub map_bytes: u64,
    /// Run times of the programs; zeroes where the kernel keeps no statistics.
    pub programs: Vec<ProgramRun>,
}

impl View {
    /// Returns a device's number, for who reads: `0`, and of the second part of the first `0:1`.
    #[must_use]
    pub fn number(&self, device: &Device) -> Option<String> {
        let index = device.index?;
        let Some(part) = &device.part else { return Some(index.to_string()) };
        let parent = self.device(&part.parent)?.seen.device.index?;
        Some(format!("{parent}:{index}"))
    }

    /// Returns the processes on devices that could never be read.
    pub fn strangers(&self) -> impl Iterator<Item = u32> {
        let strangers = self.processes.iter().filter(|it| it.process.name.is_empty());
        strangers.map(|it| it.uses.pid)
    }

    /// Returns a device by its id.
    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<&DeviceView> {
        self.devices.iter().find(|view| &view.seen.device.id == id)
    }
}
