//! What a tick is: records carry the kernel's jiffies, users want time.

/// Converts ticks to the monotonic clock by two moments that are known on both.
///
/// The rate (`CONFIG_HZ`) is not told to user space, so it is measured, ever better as the two
/// moments part. An error of it shows in proportion to how long ago the tick was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticks {
    first: Moment,
    now: Moment,
}

#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    tick: u64,
    ns: u64,
}

/// Before the moments are this far apart, a tick more or less is a large part of the rate.
const MEASURED_AFTER_NS: u64 = 200_000_000;

/// The usual rate, until it is measured.
const USUAL_TICK_NS: u64 = 4_000_000;

impl Ticks {
    /// Takes the current moment: ticks, and monotonic nanoseconds.
    pub(super) fn set(&mut self, (tick, ns): (u64, u64)) {
        self.now = Moment { tick, ns };
        if self.first.ns == 0 {
            self.first = self.now;
        }
    }

    /// The monotonic time, nanoseconds, of a tick that is not later than the current moment by much.
    #[must_use]
    pub fn monotonic_ns(&self, tick: u64) -> u64 {
        let Self { now, .. } = self;
        if tick >= now.tick {
            return now.ns;
        }
        let age = u128::from(now.tick - tick) * u128::from(self.tick_ns());
        now.ns.saturating_sub(u64::try_from(age).unwrap_or(u64::MAX))
    }

    fn tick_ns(&self) -> u64 {
        let ns = self.now.ns.saturating_sub(self.first.ns);
        let ticks = self.now.tick.saturating_sub(self.first.tick);
        if ns < MEASURED_AFTER_NS || ticks == 0 { USUAL_TICK_NS } else { ns / ticks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_the_rate() {
        for hz in [100_u64, 250, 300, 1000] {
            let mut ticks = Ticks::default();
            ticks.set((4_294_900_000, 5_000_000_000));
            ticks.set((4_294_900_000 + 10 * hz, 15_000_000_000));
            let second_ago = ticks.monotonic_ns(4_294_900_000 + 9 * hz);
            assert!(second_ago.abs_diff(14_000_000_000) < 1_000_000, "{hz} Hz: {second_ago}");
        }
    }

    #[test]
    fn a_tick_of_this_moment_is_now() {
        let mut ticks = Ticks::default();
        ticks.set((1000, 4_000_000_000));
        assert_eq!(ticks.monotonic_ns(1000), 4_000_000_000);
        assert_eq!(ticks.monotonic_ns(1001), 4_000_000_000);
        assert_eq!(ticks.monotonic_ns(999), 3_996_000_000);
    }
}
