//! What a tick is: records carry the kernel's jiffies, users want time.

use nix::time::{ClockId, clock_getres};

/// Converts ticks to the monotonic clock.
///
/// The kernel counts whole ticks of that clock, but only when a CPU gets to it, which on a busy machine
/// is late. So of the latest moments that are known on both, the one whose tick was youngest says when
/// ticks begin.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    length_ns: u64,
    /// When tick 0 was or would have been at the latest, by each of the latest moments.
    begins: [i64; MOMENTS],
    next: usize,
}

/// One of so many drains has a young tick. A machine that loses ticks for good is followed no slower.
const MOMENTS: usize = 16;

/// The usual length of a tick, should the kernel not say.
const USUAL_TICK_NS: u64 = 4_000_000;

impl Default for Ticks {
    /// The coarse clock moves once a tick.
    fn default() -> Self {
        let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).ok();
        let length = resolution.and_then(|length| u64::try_from(length.tv_nsec()).ok());
        Self::of_length(length.filter(|length| *length > 0).unwrap_or(USUAL_TICK_NS))
    }
}

impl Ticks {
    const fn of_length(length_ns: u64) -> Self {
        Self { length_ns, begins: [0; MOMENTS], next: 0 }
    }

    /// Takes the current moment: ticks, and monotonic nanoseconds.
    pub(super) fn set(&mut self, (tick, ns): (u64, u64)) {
        let begin = ns.wrapping_sub(tick.wrapping_mul(self.length_ns)).cast_signed();
        match self.next {
            0 => self.begins = [begin; MOMENTS],
            next => self.begins[next % MOMENTS] = begin,
        }
        self.next += 1;
    }

    /// Returns the monotonic time, nanoseconds, at which a tick began.
    #[must_use]
    pub fn monotonic_ns(&self, tick: u64) -> u64 {
        let begin = self.begins.into_iter().fold(i64::MAX, i64::min);
        let ns = tick.wrapping_mul(self.length_ns).wrapping_add_signed(begin);
        // Before the clock began.
        u64::try_from(ns.cast_signed()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a 64-bit kernel's ticks start.
    const BOOT: u64 = 4_294_892_296;

    #[test]
    fn a_tick_has_the_time_at_which_it_began_whatever_the_rate() {
        for hz in [100_u64, 250, 300, 1000] {
            let mut ticks = Ticks::of_length(1_000_000_000 / hz);
            ticks.set((BOOT + 10 * hz, 10_000_000_000));
            let second_ago = ticks.monotonic_ns(BOOT + 9 * hz);
            assert!(second_ago.abs_diff(9_000_000_000) < 1_000_000, "{hz} Hz: {second_ago}");
        }
    }

    #[test]
    fn a_machine_that_counts_late_moves_no_tick() {
        let mut ticks = Ticks::of_length(4_000_000);
        ticks.set((BOOT + 100, 400_100_000));
        // Ten ticks were not counted yet.
        ticks.set((BOOT + 200, 843_000_000));
        assert_eq!(ticks.monotonic_ns(BOOT + 190), 760_100_000);
        // What is counted while a drain runs is later than its moment.
        assert_eq!(ticks.monotonic_ns(BOOT + 225), 900_100_000);
        for moment in 3..=2 + MOMENTS as u64 {
            ticks.set((BOOT + 100 * moment, 400_000_000 * moment + 40_000_000));
        }
        assert_eq!(ticks.monotonic_ns(BOOT + 2_000), 8_040_000_000, "they are lost");
    }

    #[test]
    fn this_machine_says_what_a_tick_is() {
        let Ticks { length_ns, .. } = Ticks::default();
        assert!((500_000..=41_666_667).contains(&length_ns), "{length_ns}");
    }
}
