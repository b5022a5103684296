//! The label sets that there are: bounded, and told apart by their labels.
//!
//! ```text
//! owner is known ────────────────▶ told ──all owners gone for a minute──▶ left ─▶ gone
//! owner is about to be ─▶ pending ──────────its counts are another's───────▲
//! ```
//! One that was left stays while flows name it: they tell it when they end, and it tells who has its
//! counts now.

use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashSet, HashTable};

use super::life::{Life, Owners};
use super::series::{Series, Way};
use crate::event::UnixNanos;
use crate::identity::{Ends, Party};
use crate::metrics::family::Label;

/// Series stay so long after the last of those whom they tell of, so that what was counted last is
/// scraped.
pub(super) const KEEP: Duration = Duration::from_secs(60);

/// Where an active flow is counted: a label set's place, and which of its counts. There are many flows,
/// so it is as small as it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedIn(NonZeroU32);

/// A label set. What names one that is gone names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SetRef {
    at: u32,
    generation: u32,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Sets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_labels: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    /// Those whose owner is about to be known.
    pub(super) pending: Vec<SetRef>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    set: Option<Box<LabelSet>>,
}

/// What is counted for some owners.
#[derive(Debug)]
pub(super) struct LabelSet {
    pub(super) state: State,
    pub(super) series: Series,
    /// Of the owners at the local end, and of those at the other. Empty for a set that stays.
    lives: [HashSet<Life>; 2],
    gone_since: Option<Instant>,
}

/// Where a label set is in its life.
#[derive(Debug)]
pub(super) enum State {
    /// Its labels are told.
    Told(Arc<[Label]>),
    /// Its owner is about to be known; who was at the ends.
    Pending(Box<Ends>),
    /// Its counts are another one's, or nobody's any more. It stays while flows name it.
    Left { to: Option<u32>, flows: u64 },
}

/// What scrapes read of a label set.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(super) labels: Arc<[Label]>,
    pub(super) series: Series,
}

impl Sets {
    /// Returns how many there are whose labels are told.
    pub(super) fn told(&self) -> usize {
        self.by_labels.len()
    }

    pub(super) fn hash(&self, labels: &[Label]) -> u64 {
        self.hasher.hash_one(labels)
    }

    pub(super) fn find(&self, labels: &[Label]) -> Option<SetRef> {
        let is_it = |at: &u32| self.labels_at(*at) == Some(labels);
        let at = self.by_labels.find(self.hash(labels), is_it)?;
        Some(self.reference(*at))
    }

    /// Adds a label set that is not there yet.
    pub(super) fn insert(&mut self, labels: Arc<[Label]>, since: UnixNanos) -> SetRef {
        let hash = self.hash(&labels);
        let made = self.add(State::Told(labels), since);
        let Self { by_labels, slots, hasher, .. } = self;
        by_labels.insert_unique(hash, made.at, |at| {
            hasher.hash_one(labels_of(slots, *at).unwrap_or_default())
        });
        made
    }

    /// Adds one whose owner is about to be known.
    pub(super) fn insert_pending(&mut self, ends: Ends, since: UnixNanos) -> SetRef {
        let made = self.add(State::Pending(Box::new(ends)), since);
        self.pending.push(made);
        made
    }

    pub(super) fn get_mut(&mut self, of: SetRef) -> Option<&mut LabelSet> {
        let slot = self.slots.get_mut(of.at as usize)?;
        slot.set.as_deref_mut().filter(|_| slot.generation == of.generation)
    }

    /// Whether a label set is there to count in.
    pub(super) fn is_open(&self, of: SetRef) -> bool {
        let slot = self.slots.get(of.at as usize);
        let set = slot.filter(|slot| slot.generation == of.generation);
        let set = set.and_then(|slot| slot.set.as_deref());
        set.is_some_and(|set| !matches!(set.state, State::Left { .. }))
    }

    /// Notes that a label set tells of somebody.
    pub(super) fn tells_of(&mut self, set: SetRef, owner: &Party, peer: Option<&Party>) {
        let added = [Life::of(owner), peer.map_or(Life::Endless, Life::of)];
        if let Some(set) = self.get_mut(set) {
            set.gone_since = None;
            // Each end by itself: the pairs of a namespace's pods may be a million.
            for (lives, life) in set.lives.iter_mut().zip(added) {
                lives.insert(life);
            }
        }
    }

    /// Notes a flow that has not ended.
    pub(super) fn begin_flow(&mut self, of: SetRef, way: Way) -> CountedIn {
        if let Some(set) = self.get_mut(of) {
            set.series.flow(way).active += 1;
        }
        CountedIn::new(of.at, way)
    }

    /// Notes the end of a flow, or that it is another one's.
    pub(super) fn end_flow(&mut self, counted_in: CountedIn) {
        let (mut next, way) = (Some(counted_in.place()), counted_in.way());
        while let Some(at) = next {
            let slot = self.slots.get_mut(at as usize);
            let Some(set) = slot.and_then(|slot| slot.set.as_deref_mut()) else { return };
            let State::Left { to, flows } = &mut set.state else {
                let counts = set.series.flow(way);
                counts.active = counts.active.saturating_sub(1);
                return;
            };
            next = *to;
            *flows = flows.saturating_sub(1);
            if *flows == 0 {
                self.release(at);
            }
        }
    }

    /// Moves what one label set counted to another one.
    pub(super) fn move_to(&mut self, from: SetRef, to: SetRef) {
        if let Some(series) = self.leave(from.at, Some(to.at))
            && let Some(to) = self.get_mut(to)
        {
            to.series.merge(series);
        }
    }

    /// Removes the label sets whose owners were gone for a while, and returns whether there were any.
    pub(super) fn expire(&mut self, owners: &impl Owners, now: Instant) -> bool {
        let mut expired = Vec::new();
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if let Some(set) = slot.set.as_deref_mut()
                && set.is_over(owners, now)
            {
                expired.push(at as u32);
            }
        }
        for at in &expired {
            self.leave(*at, None);
        }
        !expired.is_empty()
    }

    /// Returns label sets from an index on, and where to go on, `None` at the end.
    pub(super) fn copy(&self, from: usize, limit: usize) -> (Vec<Told>, Option<usize>) {
        let end = (from + limit).min(self.slots.len());
        let sets = self.slots[from.min(end)..end].iter().filter_map(|slot| slot.set.as_deref());
        let told = sets.filter_map(|LabelSet { state, series, .. }| match state {
            State::Told(labels) => {
                Some(Told { labels: Arc::clone(labels), series: series.clone() })
            }
            State::Pending(_) | State::Left { .. } => None,
        });
        (told.collect(), (end < self.slots.len()).then_some(end))
    }

    fn add(&mut self, state: State, since: UnixNanos) -> SetRef {
        let set = LabelSet {
            state,
            series: Series::new(since),
            lives: Default::default(),
            gone_since: None,
        };
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        self.slots[at as usize].set = Some(Box::new(set));
        self.reference(at)
    }

    /// Takes what a label set counted. Flows that name it belong to `to` from now on.
    fn leave(&mut self, at: u32, to: Option<u32>) -> Option<Series> {
        if let Some(labels) = labels_of(&self.slots, at) {
            let hash = self.hasher.hash_one(labels);
            if let Ok(entry) = self.by_labels.find_entry(hash, |other| *other == at) {
                entry.remove();
            }
        }
        let set = self.slots.get_mut(at as usize)?.set.as_deref_mut()?;
        let since = set.series.since;
        let series = std::mem::replace(&mut set.series, Series::new(since));
        let flow = series.flow.as_deref().map_or(&[][..], |flow| flow.as_flattened());
        let flows = flow.iter().map(|counts| counts.active).sum();
        set.state = State::Left { to, flows };
        set.lives = Default::default();
        if flows == 0 {
            self.release(at);
        }
        Some(series)
    }

    fn release(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        slot.set = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(at);
    }

    fn reference(&self, at: u32) -> SetRef {
        SetRef { at, generation: self.slots[at as usize].generation }
    }

    fn labels_at(&self, at: u32) -> Option<&[Label]> {
        labels_of(&self.slots, at)
    }
}

fn labels_of(slots: &[Slot], at: u32) -> Option<&[Label]> {
    match &slots.get(at as usize)?.set.as_deref()?.state {
        State::Told(labels) => Some(labels),
        State::Pending(_) | State::Left { .. } => None,
    }
}

impl CountedIn {
    fn new(at: u32, way: Way) -> Self {
        Self(NonZeroU32::MIN.saturating_add(at << Way::BITS | way.bits()))
    }

    const fn place(self) -> u32 {
        (self.0.get() - 1) >> Way::BITS
    }

    const fn way(self) -> Way {
        Way::from_bits((self.0.get() - 1) & ((1 << Way::BITS) - 1))
    }

    /// Whether it is there that a label set counts flows that go a way.
    pub(super) fn is(self, set: SetRef, way: Way) -> bool {
        self == Self::new(set.at, way)
    }
}

impl LabelSet {
    /// Whether all of whom it tells at one end are gone, and were for a while.
    fn is_over(&mut self, owners: &impl Owners, now: Instant) -> bool {
        if self.lives[0].is_empty() || !matches!(self.state, State::Told(_)) {
            return false;
        }
        let has_some = |lives: &HashSet<Life>| lives.iter().any(|life| !life.is_over(owners));
        if self.lives.iter().all(has_some) {
            for lives in &mut self.lives {
                lives.retain(|life| !life.is_over(owners));
            }
            self.gone_since = None;
            return false;
        }
        let since = *self.gone_since.get_or_insert(now);
        now.saturating_duration_since(since) >= KEEP
    }
}
