//! What time it is in a recording.

use std::time::{Duration, Instant};

/// How a recording's time goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// It has gone by: answers are as of the end, and events come as fast as they are read.
    Over,
    /// At so many times the pace at which it was recorded.
    Times(f64),
}

/// A recording's time, Unix nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    begin: u64,
    end: u64,
    pace: Pace,
    started: Instant,
}

impl Clock {
    pub(crate) fn new(begin: u64, end: u64, pace: Pace) -> Self {
        Self { begin, end: end.max(begin), pace, started: Instant::now() }
    }

    pub(crate) fn now(&self) -> u64 {
        match self.pace {
            Pace::Over => self.end,
            Pace::Times(speed) => {
                // Beyond 2^53 ns a recording's own clock is as inexact.
                let passed = self.started.elapsed().as_nanos() as f64 * speed;
                self.begin.saturating_add(passed as u64).min(self.end)
            }
        }
    }

    /// Returns how long it is until a time.
    pub(crate) fn until(&self, time_ns: u64) -> Duration {
        let ahead = time_ns.saturating_sub(self.now());
        match self.pace {
            Pace::Over => Duration::ZERO,
            Pace::Times(speed) => {
                Duration::try_from_secs_f64(ahead as f64 / 1e9 / speed).unwrap_or(Duration::MAX)
            }
        }
    }
}

/// Parses how many times faster a recording is played: `1`, `10`, `0.5`, `10x`.
pub(crate) fn parse_speed(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text).parse::<f64>();
    number
        .ok()
        .filter(|speed| (0.001..=1e6).contains(speed))
        .ok_or_else(|| "give how many times faster, from 0.001 to 1000000, such as 10".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_that_is_over_stays_at_its_end() {
        let clock = Clock::new(5, 10, Pace::Over);
        assert_eq!((clock.now(), clock.until(u64::MAX)), (10, Duration::ZERO));
    }

    #[test]
    fn time_goes_by_at_its_pace_and_ends() {
        const HOUR: u64 = 3_600_000_000_000;
        let clock = Clock::new(HOUR, 2 * HOUR, Pace::Times(0.001));
        assert!((HOUR..HOUR + HOUR / 100).contains(&clock.now()));
        assert!(clock.until(2 * HOUR) > Duration::from_secs(3_500_000));
        let fast = Clock::new(HOUR, HOUR + 1_000, Pace::Times(1e6));
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!((fast.now(), fast.until(HOUR + 1_000)), (HOUR + 1_000, Duration::ZERO));
    }

    #[test]
    fn speeds_are_numbers_above_nothing() {
        assert_eq!((parse_speed("10"), parse_speed("0.5x")), (Ok(10.0), Ok(0.5)));
        for bad in ["", "0", "-1", "fast", "NaN", "inf", "1e9"] {
            assert!(parse_speed(bad).is_err(), "{bad}");
        }
    }
}
