//! Whether a process seems to lose device memory: the lowest mark of what it has rises, window after
//! window.
//!
//! ```text
//! outstanding ──▶ lowest mark of each window ──▶ marks of 1, 4 and 16 windows together ──▶ verdict
//! ```
//! The lowest mark leaves out what comes and goes within a window. What grows once and stays (warm-up),
//! grows ever slower, or falls back (a cache, an epoch) is no leak. A process that loses little is told
//! by several windows taken together, only later.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Rises in a row that it takes: fewer happen when a job starts and tries out its sizes.
const MIN_RISES: usize = 5;
/// Rises that are looked at: more say nothing else about the present.
const MAX_RISES: usize = 16;
/// Bytes by which the lowest mark rises in all, at least: about as much as libraries take when they
/// are first used.
const MIN_GROWTH: u64 = 8 << 20;
/// The same as a part of what the process had: what is below does not end a job within a day, and
/// sizes of batches vary by as much.
const MIN_GROWTH_PART: f64 = 0.01;
/// What each rise is at least, as a part of their mean: with less of it the level stands still.
const MIN_RISE: f64 = 0.25;
/// What the later half of the rises is at least, as a part of the earlier one: warm-up slows down, a
/// leak does not.
const MIN_LATE: f64 = 0.75;
/// Windows that are taken together, from the quickest verdict to the most patient one.
pub(super) const SCALES: [usize; 3] = [1, 4, 16];
/// Marks that are kept: what the most patient verdict takes, and the tooth before it.
const MARKS: usize = 128;
/// Between two times that a process's leak is told.
const TOLD_AGAIN: Duration = Duration::from_mins(10);

/// The lowest marks of one process, and what they say.
#[derive(Debug)]
pub(super) struct LeakWatch {
    window: Duration,
    ends: Option<Instant>,
    low: u64,
    /// The latest last.
    marks: VecDeque<u64>,
    verdict: Option<Verdict>,
    told: Option<Instant>,
    has_told: bool,
}

/// Memory that grows, see [`super::super::activity::Leak`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Growth {
    /// Bytes a second.
    pub per_second: f64,
    /// Rises in a row.
    pub rises: u32,
    /// Length of what each of them is over.
    pub window: Duration,
    /// Which of [`SCALES`] it was seen at.
    pub scale: usize,
}

/// What became of the present window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// It is the first one.
    Began,
    /// It goes on.
    Open,
    /// It was over, and the next one began.
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Verdict {
    growth: Growth,
    /// The mark below which enough was given back to say that it was no leak.
    relief: u64,
    /// Windows in which nothing of it was seen.
    quiet: usize,
}

/// Rises in a row, and from where.
struct Streak {
    base: u64,
    /// The latest last.
    rises: Vec<u64>,
    /// The highest mark before.
    highest_before: u64,
}

impl LeakWatch {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            ends: None,
            low: 0,
            marks: VecDeque::new(),
            verdict: None,
            told: None,
            has_told: false,
        }
    }

    /// Takes in that the process has so many bytes now.
    pub(super) fn observe(&mut self, outstanding: u64) {
        self.low = self.low.min(outstanding);
    }

    /// Ends the window where it is over.
    pub(super) fn step(&mut self, now: Instant, outstanding: u64) -> Window {
        let Some(ends) = self.ends else {
            self.begin(now, outstanding);
            return Window::Began;
        };
        if now < ends {
            return Window::Open;
        }
        if self.marks.len() == MARKS {
            self.marks.pop_front();
        }
        self.marks.push_back(self.low.min(outstanding));
        self.begin(now, outstanding);
        // Windows are as long as they say in the mean, though nobody looks at the very end of one.
        let next = ends + self.window;
        if next > now {
            self.ends = Some(next);
        }
        self.judge();
        Window::Ended
    }

    /// Forgets what was: nothing is known of what the process has.
    pub(super) fn reset(&mut self) {
        self.ends = None;
        self.marks.clear();
        self.end();
    }

    /// What it seems to lose.
    pub(super) fn growth(&self) -> Option<Growth> {
        self.verdict.map(|verdict| verdict.growth)
    }

    /// Whether the leak is to be told now: once for each that begins, and not soon after another one.
    pub(super) fn tell(&mut self, now: Instant) -> Option<Growth> {
        let growth = self.growth()?;
        let is_soon = self.told.is_some_and(|told| now.duration_since(told) < TOLD_AGAIN);
        if self.has_told || is_soon {
            return None;
        }
        self.has_told = true;
        self.told = Some(now);
        Some(growth)
    }

    fn begin(&mut self, now: Instant, outstanding: u64) {
        self.ends = Some(now + self.window);
        self.low = outstanding;
    }

    fn end(&mut self) {
        self.verdict = None;
        self.has_told = false;
    }

    fn judge(&mut self) {
        let found = (0..SCALES.len()).find_map(|scale| self.judge_at(scale));
        let last = self.marks.back().copied().unwrap_or(0);
        match (found, &mut self.verdict) {
            // What was told stays told, while its scale may change.
            (Some(found), verdict) => *verdict = Some(found),
            (None, Some(verdict)) => {
                verdict.quiet += 1;
                if last <= verdict.relief
                    || verdict.quiet >= MIN_RISES * SCALES[verdict.growth.scale]
                {
                    self.end();
                }
            }
            (None, None) => {}
        }
    }

    fn judge_at(&self, scale: usize) -> Option<Verdict> {
        let together = SCALES[scale];
        let streak = self.streak(together)?;
        // Warm-up may come before a leak: fewer rises are tried where all of them do not fit.
        let skipped = (0..=streak.rises.len().checked_sub(MIN_RISES)?)
            .find(|skipped| is_leak(&streak, *skipped))?;
        let base = streak.base + streak.rises[..skipped].iter().sum::<u64>();
        let rises = &streak.rises[skipped..];
        let total: u64 = rises.iter().sum();
        let window = self.window.saturating_mul(u32::try_from(together).unwrap_or(u32::MAX));
        let count = u32::try_from(rises.len()).unwrap_or(u32::MAX);
        let seconds = window.as_secs_f64() * f64::from(count);
        Some(Verdict {
            growth: Growth { per_second: total as f64 / seconds, rises: count, window, scale },
            relief: base + total / 2,
            quiet: 0,
        })
    }

    /// Finds the latest rises in a row, with so many windows taken as one.
    fn streak(&self, together: usize) -> Option<Streak> {
        let marks = Vec::from_iter(self.marks.iter().rev().copied());
        let mut lows = marks.chunks_exact(together).map(|chunk| chunk.iter().copied().min());
        let mut base = lows.next()??;
        let mut rises = Vec::new();
        let mut highest_before = 0;
        for low in lows.flatten() {
            if highest_before == 0 && low < base && rises.len() < MAX_RISES {
                rises.push(base - low);
                base = low;
            } else {
                highest_before = highest_before.max(low);
            }
        }
        rises.reverse();
        Some(Streak { base, rises, highest_before })
    }
}

/// Whether all rises but the first ones are a leak's.
fn is_leak(streak: &Streak, skipped: usize) -> bool {
    let base = streak.base + streak.rises[..skipped].iter().sum::<u64>();
    let rises = &streak.rises[skipped..];
    let total: u64 = rises.iter().sum();
    let (early, late) = rises.split_at(rises.len() / 2);
    let is_enough = total >= MIN_GROWTH && total as f64 >= base as f64 * MIN_GROWTH_PART;
    let is_steady = rises.iter().all(|rise| *rise as f64 >= mean(rises) * MIN_RISE);
    let is_lasting = mean(late) >= mean(early) * MIN_LATE;
    // What was there before is a tooth of the same saw.
    is_enough && is_steady && is_lasting && base + total > streak.highest_before
}

fn mean(rises: &[u64]) -> f64 {
    rises.iter().sum::<u64>() as f64 / rises.len() as f64
}

#[cfg(test)]
mod tests;
