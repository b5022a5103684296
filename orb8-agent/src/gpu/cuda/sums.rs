//! Sums from counters that may begin anew, and from counters that count only in windows.

use std::time::Duration;

/// For how long a group has to be watched before its rate is believed.
const LOOK: Duration = Duration::from_millis(20);
/// What probes leave of a thread's time at least, where it is told how it would go without them.
const LEFT: f64 = 0.1;
/// What may be missing of an interval without it being a sample: reading takes so long.
const SLACK: Duration = Duration::from_millis(2);

/// Counters that only grow, or begin at 0 again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Differences<const N: usize> {
    last: [u64; N],
}

/// Sums of what is counted only in a part of the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate<const N: usize> {
    counters: Differences<N>,
    sums: [f64; N],
    /// A second, in the last time that was looked at.
    rates: [f64; N],
    /// By how much faster it would have gone without probes.
    haste: f64,
    /// What was seen since the rates were told, and in how long.
    seen: [u64; N],
    looked: Duration,
    is_sampled: bool,
}

impl<const N: usize> Default for Differences<N> {
    fn default() -> Self {
        Self { last: [0; N] }
    }
}

impl<const N: usize> Differences<N> {
    /// Returns how much was counted since the last time. A counter that is lower than it was began
    /// anew.
    pub(super) fn take(&mut self, now: [u64; N]) -> [u64; N] {
        let last = std::mem::replace(&mut self.last, now);
        std::array::from_fn(|i| now[i].checked_sub(last[i]).unwrap_or(now[i]))
    }
}

impl<const N: usize> Default for Estimate<N> {
    fn default() -> Self {
        Self {
            counters: Differences::default(),
            sums: [0.0; N],
            rates: [0.0; N],
            haste: 1.0,
            seen: [0; N],
            looked: Duration::ZERO,
            is_sampled: false,
        }
    }
}

impl<const N: usize> Estimate<N> {
    /// Sums that begin now, of counters that go on.
    pub(super) fn anew(&self) -> Self {
        Self { counters: self.counters, ..Self::default() }
    }

    /// Takes in what the counters say after `elapsed`, in which they counted for `watched`. The rest of
    /// the time was like the last that was looked at, but that no probe took `drag` seconds from the
    /// thread at each of what the first counter counts: that is much of its time in a loop that does
    /// little else, and little in any other.
    pub(super) fn take(
        &mut self,
        counters: [u64; N],
        watched: Duration,
        elapsed: Duration,
        drag: f64,
    ) {
        let seen = self.counters.take(counters);
        let missed = elapsed.saturating_sub(watched);
        // What came while the probes were put in is of the time that is estimated.
        if !watched.is_zero() || missed <= SLACK {
            self.looked += watched;
            for (i, seen) in seen.into_iter().enumerate() {
                self.seen[i] = self.seen[i].saturating_add(seen);
                self.sums[i] += seen as f64;
            }
        }
        if self.looked >= LOOK {
            let seconds = self.looked.as_secs_f64();
            self.rates = self.seen.map(|seen| seen as f64 / seconds);
            self.haste = 1.0 / (1.0 - self.rates[0] * drag).max(LEFT);
            self.seen = [0; N];
            self.looked = Duration::ZERO;
        }
        if missed > SLACK {
            self.is_sampled = true;
            for i in 0..N {
                self.sums[i] += self.rates[i] * self.haste * missed.as_secs_f64();
            }
        }
    }

    /// What was seen, and what is estimated of the time in which nobody looked.
    pub(super) fn sums(&self) -> [u64; N] {
        // `as` saturates.
        self.sums.map(|sum| sum.round() as u64)
    }

    /// What was counted a second in the last time that was looked at, as slow as it was then.
    pub(super) const fn rates(&self) -> [f64; N] {
        self.rates
    }

    /// Whether any of it is estimated.
    pub(super) const fn is_sampled(&self) -> bool {
        self.is_sampled
    }
}

#[cfg(test)]
mod tests;
