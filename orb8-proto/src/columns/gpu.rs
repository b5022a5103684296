//! The columns of accelerators, of who has them, and of what happens to them.

use super::Subject;
use crate::filter::DevicePlace;
use crate::flow::present;
use crate::v1::{GpuActivity, GpuDevice, GpuProcess, GpuShare, GpuSite};

mod cells;
mod detail;
mod device;
mod event;
mod health;
mod meter;
mod process;
mod share;
mod site;

pub use device::{Devices, LIST};
pub use event::EVENTS;
pub use health::{HEALTH, Health};
pub use meter::{METERS, WIDE_METERS};
pub use process::{PROCESSES, Processes};
pub use share::{IDLE, Parts, SHARES};
pub use site::{LEAKS, Sites};

/// A device, with what it is a part of.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRow<'a> {
    /// The device, or part of one.
    pub device: &'a GpuDevice,
    /// What it is a part of, where that is told.
    pub parent: Option<&'a GpuDevice>,
}

/// What of a device is one owner's.
#[derive(Clone, Copy, Debug)]
pub struct ShareRow<'a> {
    /// The device.
    pub of: DeviceRow<'a>,
    /// What it is; `None` for what is nobody's known.
    pub share: Option<&'a GpuShare>,
}

/// A process, with all that it does.
#[derive(Clone, Copy, Debug)]
pub struct ProcessRow<'a> {
    /// Its uses of devices, one for each.
    pub uses: &'a [GpuProcess],
    /// What it does with CUDA and NCCL, where that is watched.
    pub activity: Option<&'a GpuActivity>,
    /// The devices that there are.
    pub devices: &'a [GpuDevice],
}

/// A place in a process that asked for memory which it still has.
#[derive(Clone, Copy, Debug)]
pub struct SiteRow<'a> {
    /// What the process does.
    pub activity: &'a GpuActivity,
    /// The place; `None` for all others together.
    pub site: Option<&'a GpuSite>,
    /// The devices that there are.
    pub devices: &'a [GpuDevice],
}

impl<'a> DeviceRow<'a> {
    /// Returns how it is told and typed: `0`, `0:1` for a part, else its id.
    #[must_use]
    pub fn label(&self) -> String {
        self.place().label()
    }

    fn place(&self) -> DevicePlace<'a> {
        let parent = self
            .device
            .part
            .as_ref()
            .map(|part| (part.parent.as_str(), self.parent.and_then(|parent| parent.index)));
        DevicePlace {
            id: &self.device.id,
            index: self.device.index,
            parent,
            pci: present(&self.device.pci_address),
        }
    }
}

/// Returns how busy a device is, as one figure: what its driver calls its utilization; of a part, and
/// where there is none, what profiling says of its engine, else of its multiprocessors.
#[must_use]
pub fn utilization(device: &GpuDevice) -> Option<f64> {
    let sample = device.sample.as_ref()?;
    sample.utilization.or(sample.engine_active).or(sample.sm_active)
}

/// Rows are made of references.
macro_rules! subjects {
    ($($subject:ident: $row:ident),*) => { $(
        impl Subject for $subject {
            type Row<'a> = $row<'a>;
        }
    )* };
}

subjects! { Devices: DeviceRow, Health: DeviceRow, Processes: ProcessRow, Sites: SiteRow }
