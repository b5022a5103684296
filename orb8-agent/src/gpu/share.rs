//! Whose a device's memory and time are. The parts of a device, and what is nobody's, sum to what the
//! device says of itself.

use std::sync::Arc;

use super::device::DeviceId;
use super::sample::Ratio;
use crate::event::UnixNanos;
use crate::identity::Workload;

/// How a part was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// Measured for this owner alone: by its processes, or since nobody else has the device.
    Exact,
    /// Computed from what was measured: the device's time by the samples of its processes.
    Estimated,
    /// Several have the device and nothing tells them apart: an equal part for each.
    Shared,
}

impl Basis {
    /// Every basis.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Estimated, Self::Shared];

    /// Returns its name as in labels and output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Estimated => "estimated",
            Self::Shared => "shared",
        }
    }
}

/// A device's parts. Of a device that is divided (MIG), what its parts have is theirs alone: it is in
/// their shares and in neither of these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shares {
    /// One for each owner that holds or uses it.
    pub shares: Vec<Share>,
    /// Memory in use that is nobody's known, bytes; `None` where the device does not tell its own.
    pub unattributed_memory: Option<u64>,
    /// Time that is nobody's known.
    pub unattributed_busy: Option<Ratio>,
}

/// What of a device is one owner's.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The device or part.
    pub device: DeviceId,
    /// Whose it is.
    pub owner: Owner,
    /// What it was given, `None` where it uses the device and holds nothing.
    pub holds: Option<Held>,
    /// Its memory, bytes, and how that was found.
    pub memory: Option<(u64, Basis)>,
    /// Its part of the device's busy time (of the whole device's 1), and how that was found.
    pub busy: Option<(Ratio, Basis)>,
    /// Its processes on the device.
    pub processes: Vec<u32>,
    /// What it does with what it holds.
    pub standing: Standing,
}

/// Who has a share.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// Namespace, of a pod.
    pub namespace: Option<String>,
    /// Pod, of one.
    pub pod: Option<String>,
    /// Container, of one.
    pub container: Option<String>,
    /// What is known by its cgroup, once it runs.
    pub workload: Option<Arc<Workload>>,
}

/// What was given, see [`super::Holding`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What was asked for.
    pub resource: String,
    /// Whether others may be given the same device.
    pub is_shared: bool,
    /// The DRA claim, `namespace/name`.
    pub claim: Option<String>,
}

/// What an owner does with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds the device and uses it.
    Active,
    /// It holds the device and has not used it since then. Told as idle once that is long enough.
    Idle {
        /// The last use, or when it was first seen to hold the device.
        since: UnixNanos,
        /// Whether it is longer than `--gpu-idle-after`.
        is_long: bool,
    },
    /// It uses the device and was not given it.
    Unallocated,
    /// It uses the device; nobody says who holds what here (no kubelet).
    InUse,
    /// It holds a device that is lost: there is nothing to use.
    Lost,
}

impl Standing {
    /// Returns its name as in labels and output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle { .. } => "idle",
            Self::Unallocated => "unallocated",
            Self::InUse => "in-use",
            Self::Lost => "lost",
        }
    }
}
