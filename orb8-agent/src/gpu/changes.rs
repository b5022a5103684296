//! What changed between two readings, as events and as counts that only grow.
//!
//! A counter of a driver starts again when the driver is loaded anew: what it has then is more, never
//! less. What flaps is told once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::device::{DeviceId, SourceKind};
use super::event::{GpuEvent, GpuEventKind};
use super::reading::Seen;
use super::view::DeviceCounts;
use crate::event::UnixNanos;
use past::Past;

mod past;

#[cfg(test)]
mod tests;

/// More than any node has, MIG instances that come and go included; of those that are gone, the oldest
/// make room.
const MAX_KNOWN: usize = 1024;

/// What devices were until now.
#[derive(Debug, Default)]
pub(super) struct Changes {
    known: BTreeMap<DeviceId, Past>,
    /// Sources whose devices were told once, or that were not there: what comes later appears.
    told: Vec<SourceKind>,
}

/// One reading: when, and how long after the one before it should have been.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) time: UnixNanos,
    pub(super) interval: Duration,
}

impl Changes {
    /// Compares devices with what they were, and returns what happened.
    pub(super) fn compare(&mut self, moment: Moment, devices: &[Seen]) -> Vec<GpuEvent> {
        let mut events = Vec::new();
        let mut listed = Vec::new();
        for seen in devices {
            let id = &seen.device.id;
            let kinds = match self.known.get_mut(id) {
                Some(past) => past.look(seen, moment),
                None => self.meet(seen, moment),
            };
            events.extend(kinds.into_iter().map(|kind| event(id, seen.device.index, moment, kind)));
            listed.push(id);
        }
        for (id, past) in &mut self.known {
            if !listed.contains(&id) && past.remove(moment.now) {
                events.push(event(id, past.index(), moment, GpuEventKind::Removed));
            }
        }
        self.make_room();
        events
    }

    /// Notes which sources told of devices, or that they have none: what they tell of for the first time
    /// later appeared.
    pub(super) fn note_told(&mut self, kinds: impl IntoIterator<Item = SourceKind>) {
        for kind in kinds {
            if !self.told.contains(&kind) {
                self.told.push(kind);
            }
        }
    }

    /// Counts an error that a driver reported.
    pub(super) fn count_xid(&mut self, device: &DeviceId, code: u32, time: UnixNanos) {
        if let Some(past) = self.known.get_mut(device) {
            past.count_xid(code, time);
        }
    }

    /// Returns what happened to a device since the agent started.
    pub(super) fn counts(&self, device: &DeviceId) -> DeviceCounts {
        self.known.get(device).map(|past| past.counts().clone()).unwrap_or_default()
    }

    fn meet(&mut self, seen: &Seen, moment: Moment) -> Vec<GpuEventKind> {
        let mut past = Past::new(seen);
        let looked = past.look(seen, moment);
        self.known.insert(seen.device.id.clone(), past);
        let appeared = self.told.contains(&seen.device.source).then_some(GpuEventKind::Appeared);
        appeared.into_iter().chain(looked).collect()
    }

    fn make_room(&mut self) {
        while self.known.len() > MAX_KNOWN {
            let gone = self.known.iter().filter_map(|(id, past)| Some((past.gone()?, id)));
            let Some(oldest) = gone.min().map(|(_, id)| id.clone()) else { return };
            self.known.remove(&oldest);
        }
    }
}

fn event(id: &DeviceId, index: Option<u32>, moment: Moment, kind: GpuEventKind) -> GpuEvent {
    let device = Some(id.clone());
    GpuEvent { time: moment.time, device, index, process: None, owners: Vec::new(), kind }
}
