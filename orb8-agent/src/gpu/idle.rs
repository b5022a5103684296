//! What owners do with the devices that they have: who holds one and does not use it, and who uses one
//! that was not given to it.
//!
//! Use is time on the device or a change of memory there. Only time in which the device answered counts
//! as idle; nobody is told as idle, or as using what is not theirs, on what is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::attribution::OwnerKey;
use super::device::DeviceId;
use super::event::{GpuEvent, GpuEventKind};
use super::kubelet::PodName;
use super::reading::{DeviceState, Seen};
use super::share::{Basis, Owner, Share, Standing};
use super::view::DeviceView;
use crate::event::UnixNanos;

#[cfg(test)]
mod tests;

/// Who used a device so lately uses it: a step of a training may wait for data in between.
const PAUSE: Duration = Duration::from_secs(5);
/// Owners with devices that are remembered, far more than any node has.
const MAX_KNOWN: usize = 8192;

/// What is needed to tell whether an owner was given a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// When it was last known who holds what; `None` where it is not.
    pub(super) holders: Option<Instant>,
    /// Owners who were given something that is not among the devices that are there, by its name: it may
    /// be the one that they use.
    pub(super) unmatched: BTreeSet<OwnerKey>,
}

/// What owners did until now.
#[derive(Debug)]
pub(super) struct Standings {
    idle_after: Duration,
    known: BTreeMap<(DeviceId, OwnerKey), Past>,
}

/// What an owner did with a device.
#[derive(Debug)]
struct Past {
    /// As it was last.
    owner: Owner,
    index: Option<u32>,
    first: Instant,
    /// The last use, or when it was first seen to hold the device.
    since: UnixNanos,
    last_use: Option<Instant>,
    /// For how long the device answered and was not used.
    idle: Duration,
    /// Of the last idleness that was told: since when.
    idle_since: UnixNanos,
    looked: Instant,
    memory: Option<u64>,
    /// What was told of it.
    told: Told,
    /// Whether the last look found it.
    is_there: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Idle,
    Unallocated,
}

impl Standings {
    pub(super) fn new(idle_after: Duration) -> Self {
        Self { idle_after, known: BTreeMap::new() }
    }

    /// Says of each share what its owner does, and returns what began and ended.
    pub(super) fn judge(
        &mut self,
        (now, time): (Instant, UnixNanos),
        devices: &mut [DeviceView],
        known: &Known,
    ) -> Vec<GpuEvent> {
        let mut events = Vec::new();
        for ((device, _), past) in &mut self.known {
            // Who is on a device that does not answer is not known, and did not go.
            let is_silent = |view: &DeviceView| {
                view.seen.device.id == *device
                    && matches!(view.seen.state, DeviceState::Silent { .. })
            };
            past.is_there = devices.iter().any(is_silent);
        }
        for DeviceView { seen, shares, .. } in devices {
            for share in &mut shares.shares {
                let key = (share.device.clone(), share.owner.key());
                if !self.known.contains_key(&key) && self.known.len() >= MAX_KNOWN {
                    continue;
                }
                let past = self.known.entry(key).or_insert_with(|| Past::new(share, (now, time)));
                past.look(seen, share, (now, time));
                share.standing = match seen.state {
                    DeviceState::Lost { .. } => Standing::Lost,
                    _ => past.standing(share, self.idle_after, (now, known)),
                };
                events.extend(past.tell(share.standing, time, seen));
            }
        }
        self.known.retain(|(device, _), past| {
            if !past.is_there {
                events.extend(past.end(device, time));
            }
            past.is_there
        });
        events
    }

    /// Returns a pod that uses a device which it is not known to hold, and that was not seen yet when it
    /// was asked who holds what; `Some(None)` where it has no name.
    pub(super) fn unheld(
        &self,
        devices: &[DeviceView],
        asked: Option<Instant>,
    ) -> Option<Option<PodName>> {
        let is_new = |share: &&Share| {
            let past = self.known.get(&(share.device.clone(), share.owner.key()));
            let first = past.map(|past| past.first);
            share.holds.is_none() && first.is_some_and(|first| asked.is_none_or(|at| at <= first))
        };
        let is_pods = |share: &&Share| {
            share.owner.workload.as_ref().is_some_and(|workload| workload.pod_uid.is_some())
        };
        let mut shares = devices.iter().flat_map(|view| &view.shares.shares);
        let Owner { namespace, pod, .. } = &shares.find(|it| is_pods(it) && is_new(it))?.owner;
        let named = namespace.clone().zip(pod.clone());
        Some(named.map(|(namespace, pod)| PodName { namespace, pod }))
    }
}

impl Past {
    fn new(share: &Share, (now, time): (Instant, UnixNanos)) -> Self {
        Self {
            owner: share.owner.clone(),
            index: None,
            first: now,
            since: time,
            last_use: None,
            idle: Duration::ZERO,
            idle_since: time,
            looked: now,
            memory: None,
            told: Told::Nothing,
            is_there: true,
        }
    }

    /// Takes in what the owner does now.
    fn look(&mut self, seen: &Seen, share: &Share, (now, time): (Instant, UnixNanos)) {
        self.is_there = true;
        self.owner.clone_from(&share.owner);
        self.index = seen.device.index;
        let elapsed = now.saturating_duration_since(self.looked);
        self.looked = now;
        if matches!(seen.state, DeviceState::Lost { .. }) {
            // Should it come back, it is another use of it that begins.
            (self.since, self.last_use, self.idle, self.memory) =
                (time, None, Duration::ZERO, None);
        }
        let Some(sample) = seen.state.sample() else { return };
        // An estimate changes with what others do.
        let memory = share.memory.filter(|(_, basis)| *basis == Basis::Exact).map(|(it, _)| it);
        let has_changed = self.memory.zip(memory).is_some_and(|(was, is)| was != is);
        self.memory = memory.or(self.memory);
        // A part of a device without profiling tells no time at all: that is not none.
        let is_busy = match (share.busy, sample.busy.figure()) {
            (Some((busy, _)), _) => busy > 0.0,
            (None, figure) => figure.is_none(),
        };
        if is_busy || has_changed {
            (self.since, self.last_use, self.idle) = (time, Some(now), Duration::ZERO);
        } else {
            self.idle += elapsed;
        }
    }

    fn standing(
        &self,
        share: &Share,
        idle_after: Duration,
        (now, known): (Instant, &Known),
    ) -> Standing {
        if share.holds.is_none() {
            // What was given is known only when it was asked for after the use began.
            let is_asked = known.holders.is_some_and(|asked| asked > self.first);
            let is_known = is_asked && !known.unmatched.contains(&share.owner.key());
            return match is_known && is_told(&share.owner) {
                true => Standing::Unallocated,
                false => Standing::InUse,
            };
        }
        let is_recent =
            self.last_use.is_some_and(|last| now.saturating_duration_since(last) < PAUSE);
        if is_recent {
            return Standing::Active;
        }
        Standing::Idle { since: self.since, is_long: self.idle >= idle_after }
    }

    /// Returns what ended and what began, if anything did.
    fn tell(&mut self, standing: Standing, time: UnixNanos, seen: &Seen) -> Vec<GpuEvent> {
        let told = match standing {
            Standing::Idle { is_long: true, .. } => Told::Idle,
            Standing::Unallocated => Told::Unallocated,
            // The pause after a use is over, and it was not idle for long since: it used the device.
            Standing::Idle { .. } | Standing::Active | Standing::InUse => Told::Nothing,
            // Who holds what is gone wastes nothing any more.
            Standing::Lost => Told::Nothing,
        };
        if told == self.told {
            return Vec::new();
        }
        let device = &seen.device.id;
        let ended = self.end(device, time);
        self.told = told;
        let began = match told {
            Told::Nothing => None,
            Told::Idle => {
                self.idle_since = self.since;
                Some(GpuEventKind::Idle { began: true, lasted: self.idle_for(time) })
            }
            Told::Unallocated => Some(GpuEventKind::Unallocated { began: true }),
        };
        let began = began.map(|kind| self.event(device, time, kind));
        ended.into_iter().chain(began).collect()
    }

    /// Returns that what was told ended.
    fn end(&self, device: &DeviceId, time: UnixNanos) -> Option<GpuEvent> {
        let kind = match self.told {
            Told::Nothing => return None,
            Told::Idle => GpuEventKind::Idle { began: false, lasted: self.idle_for(time) },
            Told::Unallocated => GpuEventKind::Unallocated { began: false },
        };
        Some(self.event(device, time, kind))
    }

    fn idle_for(&self, time: UnixNanos) -> Duration {
        Duration::from_nanos(time.0.saturating_sub(self.idle_since.0))
    }

    fn event(&self, device: &DeviceId, time: UnixNanos, kind: GpuEventKind) -> GpuEvent {
        GpuEvent {
            time,
            device: Some(device.clone()),
            index: self.index,
            process: None,
            owners: vec![self.owner.clone()],
            kind,
        }
    }
}

/// Whether an owner has the names by which devices are given: a pod whose name is not known yet may
/// hold the device.
fn is_told(owner: &Owner) -> bool {
    owner.workload.as_ref().is_some_and(|workload| {
        workload.pod_uid.is_none() || (workload.pod.is_some() && workload.container.is_some())
    })
}
