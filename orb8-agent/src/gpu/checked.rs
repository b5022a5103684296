//! Values as drivers tell them, taken only where they make sense.
//!
//! What makes none (NaN, negative, a sentinel) is left out and counted, so that status can say so.

use std::time::Duration;

use super::sample::Ratio;

/// What a rounded figure may have beyond its whole.
const ROUNDING: f64 = 0.02;

/// Degrees Celsius that a chip can have and still answer.
const TEMPERATURES: std::ops::RangeInclusive<f64> = -60.0..=200.0;

/// Watts that one device can draw.
const MOST_WATTS: f64 = 10_000.0;

/// Megahertz that a clock can have.
const MOST_MEGAHERTZ: f64 = 100_000.0;

/// Counts what was left out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checked {
    /// Values since start that made no sense.
    pub(super) invalid: u64,
}

impl Checked {
    /// Takes a part of a whole.
    pub(super) fn ratio(&mut self, value: f64) -> Option<Ratio> {
        let value = self.within(value, 0.0, 1.0 + ROUNDING)?;
        // Differences of nothing make a negative zero, which reads as one.
        Some(value.min(1.0) + 0.0)
    }

    /// Takes a part of a hundred.
    pub(super) fn percent(&mut self, value: f64) -> Option<Ratio> {
        self.ratio(value / 100.0)
    }

    /// Takes degrees Celsius.
    pub(super) fn celsius(&mut self, value: f64) -> Option<f64> {
        self.within(value, *TEMPERATURES.start(), *TEMPERATURES.end())
    }

    /// Takes watts.
    pub(super) fn watts(&mut self, value: f64) -> Option<f64> {
        self.within(value, 0.0, MOST_WATTS)
    }

    /// Takes megahertz.
    pub(super) fn megahertz(&mut self, value: f64) -> Option<u32> {
        // Within the bounds it fits.
        self.within(value, 0.0, MOST_MEGAHERTZ).map(|value| value.round() as u32)
    }

    /// Takes a count.
    pub(super) fn count(&mut self, value: f64) -> Option<u64> {
        // Beyond that a float is no longer exact, and no counter of a device is there.
        self.within(value, 0.0, (1_u64 << 60) as f64).map(|value| value.round() as u64)
    }

    /// Takes a counter as it is, to the last digit. What is out of reach of any counter is a sentinel.
    pub(super) fn whole(&mut self, value: u64) -> Option<u64> {
        let makes_sense = value <= 1 << 60;
        self.invalid += u64::from(!makes_sense);
        makes_sense.then_some(value)
    }

    /// Takes nanoseconds.
    pub(super) fn nanoseconds(&mut self, value: f64) -> Option<Duration> {
        self.count(value).map(Duration::from_nanos)
    }

    /// Takes what lies between two bounds.
    pub(super) fn within(&mut self, value: f64, least: f64, most: f64) -> Option<f64> {
        let makes_sense = value >= least && value <= most;
        self.invalid += u64::from(!makes_sense);
        makes_sense.then_some(value)
    }

    /// Counts something that made no sense.
    pub(super) fn leave_out(&mut self) {
        self.invalid += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_left_out_and_counted() {
        let mut checked = Checked::default();
        assert_eq!(checked.percent(97.0), Some(0.97));
        assert_eq!(checked.ratio(1.01), Some(1.0), "a rounding error is clamped");
        assert_eq!(checked.celsius(-5.0), Some(-5.0));
        assert_eq!(checked.megahertz(1980.0), Some(1980));
        assert_eq!(checked.count(1_840_274_561_233.0), Some(1_840_274_561_233));
        assert_eq!(checked.whole((1 << 53) + 1), Some((1 << 53) + 1));
        assert_eq!(checked.invalid, 0);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e30] {
            assert_eq!(checked.ratio(value), None, "{value}");
            assert_eq!(checked.watts(value), None, "{value}");
            assert_eq!(checked.megahertz(value), None, "{value}");
            assert_eq!(checked.count(value), None, "{value}");
        }
        assert_eq!(checked.ratio(1.5), None);
        assert_eq!(checked.celsius(65_535.0), None);
        assert_eq!(checked.whole(u64::MAX), None);
        assert_eq!(checked.invalid, 23);
    }
}
