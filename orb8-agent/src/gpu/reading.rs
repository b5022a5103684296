//! What a source tells at one time.

use super::device::{Device, DeviceId, SourceKind};
use super::event::GpuEvent;
use super::sample::{Ratio, Sample};
use crate::event::UnixNanos;

/// Everything that a source knows now.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Who tells.
    pub source: SourceKind,
    /// The devices that are there, parts after what they are a part of. One that is lost stays in the
    /// list; one that was taken away is not in it.
    pub devices: Vec<Seen>,
    /// Who uses them.
    pub processes: Vec<ProcessUse>,
    /// What happened since the reading before (XID, say). What can be seen by comparing two readings
    /// (throttling, loss of a device) is the collector's to tell.
    pub events: Vec<GpuEvent>,
    /// Who holds what, where the source was told so itself (dcgm-exporter's pod labels).
    pub holdings: Vec<super::holding::Holding>,
}

/// A device, and how it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What it is.
    pub device: Device,
    /// How it is.
    pub state: DeviceState,
}

/// How a device is.
#[derive(Clone, Debug, PartialEq)]
pub enum DeviceState {
    /// It answers.
    Sampled(Box<Sample>),
    /// It fell off the bus, or its driver gave it up; it does not come back by itself.
    Lost {
        /// What its driver said.
        reason: String,
        /// Since when, as far as was seen.
        since: UnixNanos,
    },
    /// It did not answer this time.
    Silent {
        /// What its driver said, or that a call has not returned.
        reason: String,
    },
}

impl DeviceState {
    /// Returns its sample, of a device that answers.
    #[must_use]
    pub fn sample(&self) -> Option<&Sample> {
        match self {
            Self::Sampled(sample) => Some(sample),
            Self::Lost { .. } | Self::Silent { .. } => None,
        }
    }
}

/// What one process does with one device.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessUse {
    /// The device, or the part of it where that is known.
    pub device: DeviceId,
    /// The process, by its number outside of all containers.
    pub pid: u32,
    /// What it uses the device for.
    pub kind: UseKind,
    /// Device memory that it has, bytes.
    pub memory: Option<u64>,
    /// Its part of the device's time since the reading before; `None` where there was no sample, which
    /// is not 0.
    pub busy: Option<Ratio>,
}

/// What a process uses a device for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UseKind {
    /// Computing.
    Compute,
    /// Drawing.
    Graphics,
    /// Computing through an MPS server.
    Mps,
}

impl UseKind {
    /// Returns its name as in output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Graphics => "graphics",
            Self::Mps => "mps",
        }
    }
}
