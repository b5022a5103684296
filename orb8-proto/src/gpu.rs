//! Accelerators, as every reader of their messages sees them: where a device is among the others, who
//! has which part of it, and whether it is well.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::filter::DevicePlace;
use crate::flow::present;
use crate::v1::{GpuDevice, GpuPart};

pub mod health;

/// The devices of an answer, by id.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    devices: &'a [GpuDevice],
    by_id: BTreeMap<&'a str, &'a GpuDevice>,
}

impl<'a> Places<'a> {
    /// Sorts devices by id.
    #[must_use]
    pub fn new(devices: &'a [GpuDevice]) -> Self {
        let by_id = devices.iter().map(|device| (device.id.as_str(), device)).collect();
        Self { devices, by_id }
    }

    /// Whether there is no device.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Returns a device by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&'a GpuDevice> {
        self.by_id.get(id).copied()
    }

    /// Returns what a part is a part of.
    #[must_use]
    pub fn parent(&self, device: &GpuDevice) -> Option<&'a GpuDevice> {
        self.get(&device.part.as_ref()?.parent)
    }

    /// Returns where a device is among the others.
    #[must_use]
    pub fn of(&self, device: &'a GpuDevice) -> DevicePlace<'a> {
        let parent = |part: &'a GpuPart| {
            let index = self.get(&part.parent).and_then(|parent| parent.index);
            (part.parent.as_str(), index)
        };
        DevicePlace {
            id: &device.id,
            index: device.index,
            parent: device.part.as_ref().map(parent),
            pci: present(&device.pci_address),
        }
    }

    /// Returns the places of all devices.
    pub fn all(&self) -> impl Iterator<Item = DevicePlace<'a>> {
        self.devices.iter().map(|device| self.of(device))
    }

    /// Returns how a device is told and typed: `0`, `0:1` for a part, else its id.
    #[must_use]
    pub fn label(&self, id: &str) -> String {
        self.get(id).map_or_else(|| id.to_owned(), |device| self.of(device).label())
    }

    /// Tells which devices there are, as many as people read.
    #[must_use]
    pub fn told(&self) -> String {
        const MOST: usize = 16;
        let labels: Vec<String> = self.all().take(MOST).map(|place| place.label()).collect();
        let more = if self.devices.len() > MOST { ", …" } else { "" };
        format!("{}{more}", labels.join(", "))
    }
}

/// Reads a message's duration; none where it is negative, which nothing lasts.
#[must_use]
pub fn duration(of: Option<&prost_types::Duration>) -> Duration {
    of.and_then(|of| Duration::try_from(*of).ok()).unwrap_or_default()
}
