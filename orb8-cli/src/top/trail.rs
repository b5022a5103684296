//! What numbers were a while ago: bounded, for sparklines and for what grows.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Samples that are kept: as many as a wide terminal has columns.
const LENGTH: usize = 240;

/// Things whose numbers are followed.
const MAX_FOLLOWED: usize = 8_192;

/// How far back growth is looked for, nanoseconds.
const WINDOW: u64 = 60_000_000_000;

/// Samples of one number, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trail(VecDeque<u64>);

impl Trail {
    pub(super) fn push(&mut self, value: u64) {
        if self.0.len() == LENGTH {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// Returns so many of the latest samples, with zeros before the first.
    pub(super) fn last(&self, samples: usize) -> Vec<u64> {
        let missing = samples.saturating_sub(self.0.len());
        let from = self.0.len().saturating_sub(samples);
        std::iter::repeat_n(0, missing).chain(self.0.iter().skip(from).copied()).collect()
    }
}

/// The trails of rows that come and go.
#[derive(Clone, Debug)]
pub(super) struct Trails<K>(HashMap<K, Trail>);

impl<K> Default for Trails<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Trails<K> {
    /// Takes the values of all rows there are; others are forgotten.
    pub(super) fn push(&mut self, values: impl Iterator<Item = (K, u64)>) {
        let mut old = std::mem::take(&mut self.0);
        for (key, value) in values.take(MAX_FOLLOWED) {
            let mut trail = old.remove(&key).unwrap_or_default();
            trail.push(value);
            self.0.insert(key, trail);
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&Trail> {
        self.0.get(key)
    }
}

/// Counters, and by how much they grew in the last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth(HashMap<String, VecDeque<(u64, u64)>>);

impl Growth {
    /// Notes a count at a time, and returns by how much it grew. The first count is no growth: nobody
    /// knows how old it is. A count that fell begins anew.
    pub(super) fn note(&mut self, key: &str, now_ns: u64, count: u64) -> u64 {
        if !self.0.contains_key(key) {
            if self.0.len() >= MAX_FOLLOWED {
                return 0;
            }
            self.0.insert(key.to_owned(), VecDeque::new());
        }
        let Some(counts) = self.0.get_mut(key) else { return 0 };
        if counts.back().is_some_and(|(_, last)| *last > count) {
            counts.clear();
        }
        while counts.len() > 1
            && counts.front().is_some_and(|(at, _)| now_ns - WINDOW.min(now_ns) > *at)
        {
            counts.pop_front();
        }
        if counts.len() >= LENGTH {
            counts.pop_front();
        }
        counts.push_back((now_ns, count));
        counts.front().map_or(0, |(_, first)| count - first)
    }

    /// Forgets what was not noted for a minute.
    pub(super) fn forget(&mut self, now_ns: u64) {
        self.0.retain(|_, counts| {
            counts.back().is_some_and(|(at, _)| now_ns.saturating_sub(*at) <= WINDOW)
        });
    }
}

/// A counter, and its rate between the last two times that it was noted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter(Option<(u64, u64)>);

impl Meter {
    /// Returns how many there were per second since the last time; `None` the first time, and where a
    /// new agent counts from zero.
    pub(super) fn note(&mut self, now_ns: u64, count: u64) -> Option<u64> {
        let (at, before) = self.0.replace((now_ns, count))?;
        let (lasted, more) = (now_ns.checked_sub(at)?, count.checked_sub(before)?);
        let per_second = (u128::from(more) * 1_000_000_000).checked_div(lasted.into())?;
        u64::try_from(per_second).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_trail_is_bounded_and_begins_with_zeros() {
        let mut trail = Trail::default();
        (1..=3).for_each(|value| trail.push(value));
        assert_eq!((trail.last(2), trail.last(5)), (vec![2, 3], vec![0, 0, 1, 2, 3]));
        (0..1_000).for_each(|value| trail.push(value));
        assert_eq!(trail.0.len(), LENGTH);
    }

    #[test]
    fn rows_that_are_gone_are_forgotten() {
        let mut trails = Trails::default();
        trails.push([("a", 1), ("b", 2)].into_iter());
        trails.push([("b", 3)].into_iter());
        assert_eq!(trails.get(&"b").unwrap().last(2), [2, 3]);
        assert!(trails.get(&"a").is_none());
    }

    #[test]
    fn growth_is_over_the_last_minute() {
        let mut growth = Growth::default();
        assert_eq!(growth.note("a", SECOND, 100), 0, "it may be old");
        assert_eq!(growth.note("a", 2 * SECOND, 103), 3);
        assert_eq!(growth.note("a", 62 * SECOND, 104), 1, "the first second is over a minute ago");
        assert_eq!(growth.note("a", 63 * SECOND, 1), 0, "another agent");
        growth.forget(200 * SECOND);
        assert!(growth.0.is_empty());
    }

    #[test]
    fn a_meter_needs_two_looks() {
        let mut meter = Meter::default();
        assert_eq!(meter.note(SECOND, 10), None);
        assert_eq!(meter.note(3 * SECOND, 30), Some(10));
        assert_eq!(meter.note(3 * SECOND, 30), None, "no time has passed");
        assert_eq!(meter.note(4 * SECOND, 5), None, "it counts from zero again");
    }
}
