//! What is known of each device, and how that is told.

use std::time::{Duration, Instant};

use crate::event::UnixNanos;
use crate::gpu::device::Device;
use crate::gpu::event::{GpuEvent, GpuEventKind};
use crate::gpu::reading::{DeviceState, Reading, Seen};

use super::progress::Waiting;
use super::reader::News;
use super::shared::{MOST_LEFT, State};

/// What is known of the device at one index.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) news: News,
    pub(super) read: Instant,
    pub(super) round: u64,
    /// Of a lost device: when it is looked at again.
    pub(super) retry: Option<Instant>,
}

impl State {
    /// Tells of a device: what was read of it, or why that is nothing.
    pub(super) fn tell(
        &self,
        index: u32,
        slot: &Slot,
        now: Instant,
        fresh: Duration,
        waiting: Option<Waiting>,
        reading: &mut Reading,
    ) {
        let hangs = self.hanging.get(&index).copied();
        let hangs = hangs.or(waiting.filter(|waiting| waiting.device == Some(index)));
        let is_fresh = now.saturating_duration_since(slot.read) <= fresh;
        let is_lost = slot.retry.is_some();
        let reason = match hangs {
            _ if is_lost => None,
            Some(waiting) if !is_fresh || self.hanging.contains_key(&index) => {
                Some(waiting.tell(now))
            }
            _ if is_fresh => None,
            _ if self.left >= MOST_LEFT => Some(format!(
                "not asked: {} calls into the driver have not returned, and no more are tried; see \
                 dmesg | grep NVRM",
                self.left + 1
            )),
            _ => Some("not asked in time: the driver is slow to answer for other devices".into()),
        };
        match reason {
            Some(reason) => reading.devices.extend(silent(&slot.news.seen, &reason)),
            None => {
                reading.devices.extend(slot.news.seen.iter().cloned());
                reading.processes.extend(slot.news.processes.iter().cloned());
            }
        }
    }
}

impl Slot {
    /// Returns the device itself, without its parts.
    pub(super) fn device(&self) -> Option<&Device> {
        self.news.seen.first().map(|seen| &seen.device)
    }
}

/// A device of which only that is known.
pub(super) fn bare(device: Device) -> Seen {
    Seen { device, state: DeviceState::Silent { reason: String::new() } }
}

/// The same devices, of which none answered.
pub(super) fn silent(seen: &[Seen], reason: &str) -> Vec<Seen> {
    seen.iter()
        .map(|seen| Seen {
            device: seen.device.clone(),
            state: DeviceState::Silent { reason: reason.to_owned() },
        })
        .collect()
}

/// Finds the device or part that an event is about.
pub(super) fn place(
    state: &State,
    index: u32,
    gpu_instance: Option<u32>,
    compute_instance: Option<u32>,
) -> Option<Device> {
    let slot = state.slots.get(&index)?;
    let part = gpu_instance.and_then(|gpu| {
        let mut parts = slot.news.seen.iter().filter(|seen| {
            seen.device.part.as_ref().is_some_and(|part| {
                part.gpu_instance == gpu
                    && (compute_instance.is_none() || part.compute_instance == compute_instance)
            })
        });
        let part = parts.next()?;
        parts.next().is_none().then_some(part)
    });
    part.or(slot.news.seen.first()).map(|seen| seen.device.clone())
}

/// Makes a moment from a device and what happened to it.
pub(super) fn moment(time: UnixNanos, device: Option<&Device>, kind: GpuEventKind) -> GpuEvent {
    GpuEvent {
        time,
        device: device.map(|device| device.id.clone()),
        index: device.and_then(|device| device.index),
        process: None,
        owners: Vec::new(),
        kind,
    }
}
