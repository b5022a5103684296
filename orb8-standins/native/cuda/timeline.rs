//! What a stream has to do, as time: work takes as long as it takes, and waits for what it was told
//! to wait for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::state::now;
use super::stream::Stream;

/// Conditions that a stream holds at most; who adds more waits, as for a real driver's queue.
const QUEUE: usize = 1_024;

/// A stream's work.
#[derive(Default)]
pub(super) struct Timeline {
    /// When what nothing holds back is done.
    done_at: u64,
    blocked: VecDeque<Block>,
    /// Conditions so far.
    added: u64,
    /// Of them, those that were met.
    met: u64,
    /// When the last one was met.
    met_at: u64,
}

/// A condition, and the work behind it up to the next one, ns.
struct Block {
    condition: Condition,
    work: u64,
}

/// What a stream can be told to wait for.
pub(super) enum Condition {
    /// A number in memory.
    Value { address: usize, is_wide: bool, wanted: u64, comparison: Comparison },
    /// A place in another stream's work.
    Mark(Arc<Stream>, Mark),
}

/// `CUstreamWaitValue_flags`.
#[derive(Clone, Copy)]
pub(super) enum Comparison {
    /// At least, as numbers that wrap around.
    AtLeast,
    Equal,
    /// Any of the bits.
    And,
    /// Any bit that neither has.
    Nor,
}

/// A place in a stream's work.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    At(u64),
    Behind { condition: u64, work: u64 },
}

impl Timeline {
    /// Adds work.
    pub(super) fn work(&mut self, ns: u64) {
        match self.blocked.back_mut() {
            Some(block) => block.work += ns,
            None => self.done_at = self.done_at.max(now()) + ns,
        }
    }

    /// Adds a condition for what comes after it.
    pub(super) fn hold(&mut self, condition: Condition) {
        self.added += 1;
        self.blocked.push_back(Block { condition, work: 0 });
    }

    /// Whether no more conditions can be added.
    pub(super) fn is_full(&mut self) -> bool {
        self.advance();
        self.blocked.len() >= QUEUE
    }

    /// Returns the place behind all work so far.
    pub(super) fn mark(&self) -> Mark {
        match self.blocked.back() {
            Some(block) => Mark::Behind { condition: self.added, work: block.work },
            None => Mark::At(self.done_at),
        }
    }

    /// Returns when a place is or was reached; `None` while that is not known.
    pub(super) fn reached(&mut self, mark: Mark) -> Option<u64> {
        self.advance();
        match mark {
            Mark::At(time) => Some(time),
            Mark::Behind { condition, .. } if self.met < condition => None,
            Mark::Behind { condition, .. } if self.met > condition => Some(0),
            Mark::Behind { work, .. } => Some(self.met_at + work),
        }
    }

    /// Goes past conditions that are met.
    fn advance(&mut self) {
        while self.blocked.front().is_some_and(|block| block.condition.is_met()) {
            let Some(block) = self.blocked.pop_front() else { return };
            self.met += 1;
            self.met_at = self.done_at.max(now());
            self.done_at = self.met_at + block.work;
        }
    }
}

impl Condition {
    fn is_met(&self) -> bool {
        match self {
            Self::Value { address, is_wide: true, wanted, comparison } => {
                // SAFETY: who gave the address to the stream vouches for it until the work is done,
                // and for its alignment.
                let value = unsafe { &*(*address as *const AtomicU64) }.load(Ordering::Acquire);
                comparison.holds(value, *wanted, value.wrapping_sub(*wanted).cast_signed() >= 0)
            }
            Self::Value { address, is_wide: false, wanted, comparison } => {
                // SAFETY: as above.
                let value = unsafe { &*(*address as *const AtomicU32) }.load(Ordering::Acquire);
                let is_past = value.wrapping_sub(*wanted as u32).cast_signed() >= 0;
                comparison.holds(value.into(), *wanted & 0xffff_ffff, is_past)
            }
            Self::Mark(stream, mark) => stream.try_reached(*mark).is_some_and(|time| time <= now()),
        }
    }
}

impl Comparison {
    /// Takes `CUstreamWaitValue_flags`.
    pub(super) fn from_flags(flags: u32) -> Self {
        match flags & 3 {
            0 => Self::AtLeast,
            1 => Self::Equal,
            2 => Self::And,
            _ => Self::Nor,
        }
    }

    fn holds(self, value: u64, wanted: u64, is_past: bool) -> bool {
        match self {
            Self::AtLeast => is_past,
            Self::Equal => value == wanted,
            Self::And => value & wanted != 0,
            Self::Nor => !(value | wanted) != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(address: &AtomicU64, wanted: u64) -> Condition {
        let address = std::ptr::from_ref(address) as usize;
        Condition::Value { address, is_wide: true, wanted, comparison: Comparison::AtLeast }
    }

    #[test]
    fn work_is_done_one_after_the_other() {
        let mut timeline = Timeline::default();
        let start = now();
        timeline.work(1_000_000);
        timeline.work(2_000_000);
        let mark = timeline.mark();
        assert!(timeline.reached(mark).is_some_and(|time| time >= start + 3_000_000));
    }

    #[test]
    fn what_is_behind_a_condition_waits_for_it() {
        let number = AtomicU64::new(0);
        let mut timeline = Timeline::default();
        timeline.hold(value(&number, 1));
        timeline.work(5_000_000);
        let mark = timeline.mark();
        assert_eq!(timeline.reached(mark), None);
        number.store(1, Ordering::Release);
        let met = now();
        assert!(timeline.reached(mark).is_some_and(|time| time >= met + 5_000_000));
        timeline.hold(value(&number, 1));
        assert_eq!(timeline.reached(mark).map(|time| time > 0), Some(false), "passed long ago");
    }

    #[test]
    fn takes_so_many_conditions() {
        let number = AtomicU64::new(0);
        let mut timeline = Timeline::default();
        for _ in 0..QUEUE {
            assert!(!timeline.is_full());
            timeline.hold(value(&number, 1));
        }
        assert!(timeline.is_full());
        number.store(1, Ordering::Release);
        assert!(!timeline.is_full());
    }
}
