//! Values that change with time.

use std::f64::consts::TAU;

/// For how long noise stays what it is, s: as long as a real sensor's value, about.
const NOISE_STEP: f64 = 0.5;

/// A value at each time since the scenario began.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Curve {
    /// Always the same.
    Constant(f64),
    /// From one value to another in so many seconds, and then that.
    Ramp { from: f64, to: f64, over: f64 },
    /// Between two values, the lower one first.
    Sine { low: f64, high: f64, period: f64, phase: f64 },
    /// A value, and others from times on.
    Steps { first: f64, later: Vec<(f64, f64)> },
    /// Around 0, never the same for long.
    Noise { amplitude: f64, seed: u64 },
    /// The beginning of another curve, again and again.
    Every { period: f64, curve: Box<Curve> },
    /// All together.
    Sum(Vec<Curve>),
}

impl Curve {
    /// Returns the value at a time, s.
    pub(super) fn value(&self, time: f64) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Ramp { from, to, over } if time < *over => from + (to - from) * time / over,
            Self::Ramp { to, .. } => *to,
            Self::Sine { low, high, period, phase } => {
                let middle = f64::midpoint(*low, *high);
                middle - (high - low) / 2.0 * (TAU * (time + phase) / period).cos()
            }
            Self::Steps { first, later } => later
                .iter()
                .rev()
                .find(|(from, _)| *from <= time)
                .map_or(*first, |(_, value)| *value),
            Self::Noise { amplitude, seed } => amplitude * noise(*seed, (time / NOISE_STEP) as u64),
            Self::Every { period, curve } => curve.value(time.rem_euclid(*period)),
            Self::Sum(curves) => curves.iter().map(|curve| curve.value(time)).sum(),
        }
    }

    /// Returns what a counter was at a time that it began again; 0 at the very beginning, so that a
    /// counter may begin with something.
    pub(super) fn value_before(&self, time: f64) -> f64 {
        if time > 0.0 { finite(self.value(time)) } else { 0.0 }
    }

    /// Returns the sum of the value over all time up to now, value times s. Noise adds nothing to it,
    /// nor does what is no number or not above 0 as a whole: counters never go back.
    pub(super) fn total(&self, time: f64) -> f64 {
        let total = self.integral(time.max(0.0));
        if total.is_finite() { total.max(0.0) } else { 0.0 }
    }

    fn integral(&self, time: f64) -> f64 {
        match self {
            Self::Constant(value) => finite(*value) * time,
            Self::Ramp { from, to, over } => {
                let rising = time.min(*over);
                let slope = if *over > 0.0 { (to - from) / over } else { 0.0 };
                from * rising + slope * rising * rising / 2.0 + to * (time - rising)
            }
            Self::Sine { low, high, period, phase } => {
                let wave = |time: f64| (TAU * (time + phase) / period).sin() * period / TAU;
                f64::midpoint(*low, *high) * time - (high - low) / 2.0 * (wave(time) - wave(0.0))
            }
            Self::Steps { first, later } => {
                let ends = later.iter().map(|(from, _)| *from).chain([f64::INFINITY]);
                let starts = [(0.0, *first)].into_iter().chain(later.iter().copied());
                starts
                    .zip(ends)
                    .map(|((start, value), end)| finite(value) * (time.min(end) - start).max(0.0))
                    .sum()
            }
            Self::Noise { .. } => 0.0,
            Self::Every { period, curve } => {
                let whole = (time / period).floor();
                whole * curve.integral(*period) + curve.integral(time - whole * period)
            }
            Self::Sum(curves) => curves.iter().map(|curve| curve.integral(time)).sum(),
        }
    }
}

/// Returns the mean of a value between two times.
pub(super) fn mean(from: f64, to: f64, value: impl Fn(f64) -> f64) -> f64 {
    const PARTS: u32 = 16;
    let part = (to - from) / f64::from(PARTS);
    let sum: f64 = (0..PARTS).map(|i| value(from + part * (f64::from(i) + 0.5))).sum();
    sum / f64::from(PARTS)
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// Returns what looks like chance, -1 to 1: the same for the same step (splitmix64).
fn noise(seed: u64, step: u64) -> f64 {
    let mut hash = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(step);
    hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// When something is so: from one time to another, perhaps again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    /// When it begins, s.
    pub(super) from: f64,
    /// How long it lasts, s; infinite where it does not end.
    pub(super) lasts: f64,
    /// How often it begins again, s; infinite where it does not.
    pub(super) every: f64,
}

impl Window {
    /// Whether a time is within it.
    pub(super) fn contains(&self, time: f64) -> bool {
        time >= self.from && (time - self.from) % self.every < self.lasts
    }

    /// Returns how long it has been so up to a time, s.
    pub(super) fn measure(&self, time: f64) -> f64 {
        let since = (time - self.from).max(0.0);
        let whole = (since / self.every).floor();
        if whole == 0.0 {
            return since.min(self.lasts);
        }
        whole * self.lasts + (since - whole * self.every).min(self.lasts)
    }

    /// Returns when it begins first after a time.
    pub(super) fn next(&self, after: f64) -> Option<f64> {
        if after < self.from {
            return Some(self.from);
        }
        let begun = ((after - self.from) / self.every).floor();
        // Rounding may have lost one.
        let next = [1.0, 2.0].map(|more| self.from + self.every * (begun + more));
        next.into_iter().find(|next| *next > after && next.is_finite())
    }

    /// Whether it begins at exactly this time, which it said to be its next beginning.
    pub(super) fn is_beginning(&self, time: f64) -> bool {
        time == self.from || time > self.from && self.next(time - self.every / 2.0) == Some(time)
    }

    /// Returns when it ended last, of what is over at a time.
    pub(super) fn last_end(&self, time: f64) -> Option<f64> {
        let end = self.from + self.lasts;
        let again = ((time - end) / self.every).floor().max(0.0);
        let last = if again > 0.0 { end + again * self.every } else { end };
        (last <= time).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves() -> Vec<Curve> {
        let ramp = Curve::Ramp { from: 10.0, to: 50.0, over: 20.0 };
        vec![
            Curve::Constant(7.0),
            ramp.clone(),
            Curve::Sine { low: 20.0, high: 80.0, period: 30.0, phase: 4.0 },
            Curve::Steps { first: 1.0, later: vec![(5.0, 100.0), (9.0, 0.0), (30.0, 3.0)] },
            Curve::Every { period: 7.0, curve: Box::new(ramp) },
        ]
    }

    #[test]
    fn a_total_is_the_sum_of_its_values() {
        for curve in curves().into_iter().chain([Curve::Sum(curves())]) {
            let steps = 100_000;
            let sum: f64 = (0..steps)
                .map(|i| curve.value((f64::from(i) + 0.5) * 45.0 / f64::from(steps)))
                .sum();
            let sum = sum * 45.0 / f64::from(steps);
            assert!((curve.total(45.0) - sum).abs() < sum * 1e-3, "{curve:?}: {sum}");
        }
    }

    #[test]
    fn totals_never_go_back() {
        let noisy =
            Curve::Sum(vec![Curve::Constant(1.0), Curve::Noise { amplitude: 50.0, seed: 3 }]);
        let broken = Curve::Steps {
            first: 5.0,
            later: vec![(10.0, f64::NAN), (20.0, f64::INFINITY), (30.0, 5.0)],
        };
        for curve in curves().into_iter().chain([noisy, broken]) {
            let totals: Vec<f64> = (0..500).map(|i| curve.total(f64::from(i) / 10.0)).collect();
            assert!(totals.is_sorted(), "{curve:?}");
            assert!(totals[499] > 0.0, "{curve:?}");
        }
    }

    #[test]
    fn values_are_where_they_should_be() {
        let [_, ramp, sine, steps, every] = &curves()[..] else { panic!() };
        assert_eq!((ramp.value(0.0), ramp.value(10.0), ramp.value(99.0)), (10.0, 30.0, 50.0));
        assert!((sine.value(11.0) - 80.0).abs() < 1e-9, "the top is half a period on");
        assert_eq!((steps.value(4.9), steps.value(5.0), steps.value(29.9)), (1.0, 100.0, 0.0));
        assert_eq!(every.value(7.0 * 3.0 + 2.0), ramp.value(2.0));
        let noise = Curve::Noise { amplitude: 5.0, seed: 1 };
        let values: Vec<f64> = (0..100).map(|i| noise.value(f64::from(i))).collect();
        assert!(values.iter().all(|value| value.abs() <= 5.0));
        assert!(
            values.iter().any(|value| *value > 2.0) && values.iter().any(|value| *value < -2.0)
        );
        assert_eq!(noise.value(3.1), noise.value(3.4), "all processes see the same");
    }

    #[test]
    fn windows_begin_end_and_come_again() {
        let once = Window { from: 10.0, lasts: 5.0, every: f64::INFINITY };
        assert!(!once.contains(9.9) && once.contains(10.0) && !once.contains(15.0));
        assert_eq!((once.measure(8.0), once.measure(12.0), once.measure(99.0)), (0.0, 2.0, 5.0));
        assert_eq!((once.next(3.0), once.next(10.0)), (Some(10.0), None));
        assert_eq!((once.last_end(14.0), once.last_end(20.0)), (None, Some(15.0)));
        let again = Window { every: 20.0, ..once };
        assert!(again.contains(31.0) && !again.contains(36.0));
        assert_eq!(again.measure(53.0), 13.0);
        assert_eq!((again.next(10.0), again.next(31.0)), (Some(30.0), Some(50.0)));
        assert_eq!(again.last_end(40.0), Some(35.0));
        let often = Window { from: 0.1, lasts: 0.05, every: 0.1 };
        let begins: Vec<f64> =
            std::iter::successors(Some(0.0), |after| often.next(*after)).take(1000).collect();
        assert!(begins.is_sorted_by(|one, other| one < other), "none is told twice");
        assert!((begins[999] - 99.9).abs() < 1e-6, "and none is left out");
        assert!(begins.iter().skip(1).all(|begin| often.is_beginning(*begin)));
        let ever = Window { from: 1.0, lasts: f64::INFINITY, every: f64::INFINITY };
        assert!(ever.contains(1e9) && ever.measure(11.0) == 10.0 && ever.last_end(1e9).is_none());
    }
}
