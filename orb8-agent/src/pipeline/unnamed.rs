//! Events whose owner is about to become known.
//!
//! A pod that was just started is on this node before the Kubernetes API's watchers hear of it. Its
//! events wait for their names, in their order, and come out without them rather than never.

use std::collections::VecDeque;
use std::time::Instant;

use hashbrown::HashMap;
use orb8_proto::filter::End;

use super::hub::{Hub, Weight};
use crate::enrich::Enricher;
use crate::event::UnixNanos;
use crate::identity::{Ends, Party};

/// Events that wait, of one signal: some 4 MiB. When there are more, the oldest goes out as it is.
const MAX_UNNAMED: usize = 8_192;
/// Bytes of those, for what many answers or long names make larger.
const MAX_BYTES: usize = 8 << 20;

/// What has somebody at its ends.
pub(super) trait Owned {
    /// Returns which end is local.
    fn local(&self) -> Option<End>;

    /// Returns who is at the ends.
    fn ends(&mut self) -> &mut Ends;
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Unnamed<T> {
    events: VecDeque<Waiting<T>>,
    /// How many events wait for each cgroup, or did before they had to wait for another one.
    cgroups: ById<usize>,
    /// What the events have in memory.
    bytes: usize,
    /// Events that went out without all their names.
    gave_up: u64,
}

type ById<T> = HashMap<u64, T, foldhash::fast::RandomState>;

/// An event that waits.
#[derive(Debug)]
struct Waiting<T> {
    held: Held<T>,
    /// Of who is at the ends, 0 where nobody is known.
    cgroups: [u64; 3],
    /// For which of them it waits, or did.
    waits: [bool; 3],
    bytes: usize,
}

/// An event that may have to wait.
#[derive(Debug)]
pub(super) struct Held<T> {
    /// Of the socket at the local end.
    pub(super) cgroup_id: u64,
    pub(super) time: UnixNanos,
    pub(super) event: T,
}

impl<T> Default for Unnamed<T> {
    fn default() -> Self {
        Self { events: VecDeque::new(), cgroups: ById::default(), bytes: 0, gave_up: 0 }
    }
}

impl<T: Weight + Owned> Unnamed<T> {
    /// Sends an event, unless somebody at its ends is about to become known: then it waits.
    pub(super) fn send(
        &mut self,
        mut held: Held<T>,
        hub: &mut Hub<T>,
        enrich: &Enricher,
        now: Instant,
    ) {
        let cgroups = held.cgroups();
        let is_awaited = |id: &u64| self.holds(*id) || enrich.is_pending(*id, now);
        let Some(awaited) = cgroups.iter().position(is_awaited) else {
            return hub.push(held.time, held.event);
        };
        let bytes = size_of::<Waiting<T>>() + held.event.heap_bytes();
        self.hold(held, cgroups, awaited, bytes);
        while let Some(Held { time, event, .. }) = self.make_room() {
            hub.push(time, event);
        }
    }

    /// Sends what need not wait any more.
    pub(super) fn send_ready(&mut self, hub: &mut Hub<T>, enrich: &mut Enricher, now: Instant) {
        if self.events.is_empty() {
            return;
        }
        let mut looked = ById::default();
        let ready = self.release(|cgroup_id| {
            *looked.entry(cgroup_id).or_insert_with(|| {
                // Looks again.
                enrich.owner(cgroup_id, now);
                enrich.is_pending(cgroup_id, now)
            })
        });
        for mut waiting in ready {
            let is_named = |id| enrich.owner(id, now).is_some_and(|owner| owner.pod.is_some());
            self.gave_up += u64::from(!waiting.awaited().all(is_named));
            let held = &mut waiting.held;
            if let Some(local) = held.event.local()
                && let Some(owner) = enrich.owner(held.cgroup_id, now)
            {
                *held.event.ends().get_mut(local) = Party::Workload(owner);
            }
            enrich.rename(held.event.ends(), now);
            hub.push(held.time, waiting.held.event);
        }
    }
}

impl<T: Owned> Held<T> {
    /// The cgroups of who is at the ends, the local one first.
    fn cgroups(&mut self) -> [u64; 3] {
        let Ends { source, destination } = self.event.ends();
        let of = |party: &Party| party.workload().map_or(0, |workload| workload.cgroup_id);
        [self.cgroup_id, of(source), of(destination)]
    }
}

impl<T> Waiting<T> {
    /// The cgroups for which it waits, or did.
    fn awaited(&self) -> impl Iterator<Item = u64> {
        let cgroups = self.cgroups.into_iter().zip(self.waits);
        cgroups.filter_map(|(id, waits)| waits.then_some(id))
    }
}

impl<T> Unnamed<T> {
    /// Returns how many events wait.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns how many events went out without all their names since start.
    pub(super) const fn gave_up(&self) -> u64 {
        self.gave_up
    }

    /// Whether events of a cgroup wait, so that its next ones have to wait behind them.
    fn holds(&self, cgroup_id: u64) -> bool {
        self.cgroups.contains_key(&cgroup_id)
    }

    /// Adds an event that waits for one of its cgroups.
    fn hold(&mut self, held: Held<T>, cgroups: [u64; 3], awaited: usize, bytes: usize) {
        let mut waits = [false; 3];
        waits[awaited] = true;
        *self.cgroups.entry(cgroups[awaited]).or_default() += 1;
        self.bytes += bytes;
        self.events.push_back(Waiting { held, cgroups, waits, bytes });
    }

    /// Takes out the oldest event when there are too many.
    fn make_room(&mut self) -> Option<Held<T>> {
        if self.events.len() <= MAX_UNNAMED && self.bytes <= MAX_BYTES {
            return None;
        }
        let oldest = self.events.pop_front()?;
        oldest.awaited().for_each(|id| self.forget(id));
        self.bytes -= oldest.bytes;
        self.gave_up += 1;
        Some(oldest.held)
    }

    /// Takes out the events that need not wait any more, oldest first. Where somebody else at an
    /// event's ends is awaited now, it stays at its place, and what came after it behind it.
    fn release(&mut self, mut is_pending: impl FnMut(u64) -> bool) -> Vec<Waiting<T>> {
        if self.cgroups.keys().all(|id| is_pending(*id)) {
            return Vec::new();
        }
        self.cgroups.clear();
        let mut ready = Vec::new();
        for _ in 0..self.events.len() {
            let Some(mut waiting) = self.events.pop_front() else { break };
            let is_awaited = |id: &u64| self.holds(*id) || is_pending(*id);
            let Some(awaited) = waiting.cgroups.iter().position(is_awaited) else {
                self.bytes -= waiting.bytes;
                ready.push(waiting);
                continue;
            };
            waiting.waits[awaited] = true;
            waiting.awaited().for_each(|id| *self.cgroups.entry(id).or_default() += 1);
            self.events.push_back(waiting);
        }
        ready
    }

    fn forget(&mut self, cgroup_id: u64) {
        if let Some(count) = self.cgroups.get_mut(&cgroup_id) {
            *count -= 1;
            if *count == 0 {
                self.cgroups.remove(&cgroup_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between a local cgroup and another one, the awaited one first.
    fn hold(unnamed: &mut Unnamed<u64>, [awaited, other]: [u64; 2], event: u64, bytes: usize) {
        let held = Held { cgroup_id: awaited, time: UnixNanos(event), event };
        unnamed.hold(held, [awaited, other, 0], 0, bytes);
    }

    fn make_room(unnamed: &mut Unnamed<u64>) -> Vec<u64> {
        std::iter::from_fn(|| unnamed.make_room()).map(|held| held.event).collect()
    }

    fn release(unnamed: &mut Unnamed<u64>, is_pending: impl Fn(u64) -> bool) -> Vec<u64> {
        unnamed.release(is_pending).into_iter().map(|waiting| waiting.held.event).collect()
    }

    #[test]
    fn each_cgroups_events_come_out_in_their_order() {
        let mut unnamed = Unnamed::default();
        for (cgroup, event) in [(1, 10), (2, 20), (1, 11), (3, 30), (2, 21)] {
            hold(&mut unnamed, [cgroup, 0], event, 1);
        }
        let nobody: [u64; 0] = [];
        assert_eq!(release(&mut unnamed, |_| true), nobody, "all of them are pending");
        assert_eq!(release(&mut unnamed, |cgroup| cgroup == 2), [10, 11, 30]);
        assert!(!unnamed.holds(1) && unnamed.holds(2) && unnamed.bytes == 2);
        assert_eq!(release(&mut unnamed, |_| false), [20, 21]);
        assert!(unnamed.events.is_empty() && !unnamed.holds(2) && unnamed.bytes == 0);
    }

    #[test]
    fn who_has_to_wait_for_the_other_end_keeps_its_place() {
        const CLIENT: u64 = 1;
        const SERVER: u64 = 2;
        let mut unnamed = Unnamed::default();
        hold(&mut unnamed, [CLIENT, SERVER], 10, 1);
        hold(&mut unnamed, [CLIENT, 0], 11, 1);
        hold(&mut unnamed, [3, SERVER], 30, 1);
        hold(&mut unnamed, [4, 0], 40, 1);
        assert_eq!(release(&mut unnamed, |cgroup| cgroup == SERVER), [40], "11 is behind 10");
        assert!(unnamed.holds(CLIENT) && unnamed.holds(SERVER));
        assert_eq!(release(&mut unnamed, |_| false), [10, 11, 30]);
        assert!(!unnamed.holds(CLIENT) && !unnamed.holds(SERVER));
    }

    #[test]
    fn the_oldest_makes_room_and_is_counted() {
        let mut unnamed = Unnamed::default();
        for event in 0..=MAX_UNNAMED as u64 {
            hold(&mut unnamed, [event % 2, 0], event, 1);
        }
        assert_eq!(make_room(&mut unnamed), [0]);
        assert_eq!((unnamed.len(), unnamed.gave_up()), (MAX_UNNAMED, 1));
        let rest = release(&mut unnamed, |_| false);
        assert_eq!((rest.len(), rest[0]), (MAX_UNNAMED, 1));
        assert!(!unnamed.holds(0) && !unnamed.holds(1));
    }

    #[test]
    fn large_events_make_room_by_their_bytes() {
        let mut unnamed = Unnamed::default();
        hold(&mut unnamed, [1, 0], 10, MAX_BYTES / 2);
        hold(&mut unnamed, [2, 0], 20, MAX_BYTES / 2);
        assert!(make_room(&mut unnamed).is_empty());
        hold(&mut unnamed, [2, 0], 21, MAX_BYTES / 2 + 1);
        assert_eq!(make_room(&mut unnamed), [10, 20]);
        assert!(!unnamed.holds(1) && unnamed.holds(2));
        assert_eq!(unnamed.gave_up(), 2);
    }
}
