//! Kernel time (`CLOCK_MONOTONIC`) to Unix time.

use nix::time::{ClockId, clock_gettime};

use crate::event::UnixNanos;

/// Readings taken per synchronisation; the one with the least delay between its halves is kept.
const ATTEMPTS: usize = 3;

/// Converts the kernel's monotonic timestamps.
///
/// Unix time is stepped and slewed while monotonic time is not, so [`Clock::sync`] takes the
/// difference anew before every drain.
#[derive(Clone, Debug)]
pub struct Clock {
    offset_ns: i64,
    source: fn() -> Reading,
}

/// Both clocks at (nearly) the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME`, nanoseconds since the Unix epoch.
    pub unix_ns: u64,
}

impl Clock {
    /// Reads the system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self::with_source(read_system)
    }

    /// Reads `source` instead of the system's clocks.
    #[must_use]
    pub fn with_source(source: fn() -> Reading) -> Self {
        let mut clock = Self { offset_ns: 0, source };
        clock.sync();
        clock
    }

    /// Takes the difference between the two clocks anew.
    pub fn sync(&mut self) {
        let Reading { monotonic_ns, unix_ns } = (self.source)();
        self.offset_ns = unix_ns.wrapping_sub(monotonic_ns).cast_signed();
    }

    /// Converts a `CLOCK_MONOTONIC` timestamp.
    #[must_use]
    pub fn unix(&self, monotonic_ns: u64) -> UnixNanos {
        UnixNanos(monotonic_ns.saturating_add_signed(self.offset_ns))
    }

    /// Returns `CLOCK_MONOTONIC`, nanoseconds.
    #[must_use]
    pub fn monotonic_ns(&self) -> u64 {
        (self.source)().monotonic_ns
    }

    /// Returns the present time.
    #[must_use]
    pub fn now(&self) -> UnixNanos {
        UnixNanos((self.source)().unix_ns)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

fn read_system() -> Reading {
    (0..ATTEMPTS)
        .map(|_| {
            let before = read(ClockId::CLOCK_MONOTONIC);
            let unix_ns = read(ClockId::CLOCK_REALTIME);
            let delay = read(ClockId::CLOCK_MONOTONIC).saturating_sub(before);
            (delay, Reading { monotonic_ns: before + delay / 2, unix_ns })
        })
        .min_by_key(|(delay, _)| *delay)
        .map_or(Reading { monotonic_ns: 0, unix_ns: 0 }, |(_, reading)| reading)
}

fn read(clock: ClockId) -> u64 {
    // Every kernel has both clocks; a failure would need a clock id that does not exist.
    clock_gettime(clock).map_or(0, |time| {
        time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
    })
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn converts_with_the_difference_of_the_last_sync() {
        let clock = Clock::with_source(|| Reading { monotonic_ns: 500, unix_ns: 1_500 });
        assert_eq!(clock.unix(700), UnixNanos(1_700));
        assert_eq!(clock.unix(0), UnixNanos(1_000));
        assert_eq!(clock.now(), UnixNanos(1_500));
    }

    #[test]
    fn a_clock_before_the_epoch_saturates() {
        let clock = Clock::with_source(|| Reading { monotonic_ns: 1_000, unix_ns: 10 });
        assert_eq!(clock.unix(5), UnixNanos(0));
        assert_eq!(clock.unix(2_000), UnixNanos(1_010));
    }

    #[test]
    fn the_system_clock_agrees_with_std() {
        let clock = Clock::system();
        let converted = clock.unix(read(ClockId::CLOCK_MONOTONIC)).0;
        let std = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(std.abs_diff(converted) < 50_000_000, "{converted} against {std}");
    }
}
