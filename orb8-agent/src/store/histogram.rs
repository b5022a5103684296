//! Distributions in powers of two.

use orb8_proto::histogram::quantile;

/// Bucket 0 counts what is below about a microsecond: nothing that goes over a network is faster.
const SHIFT: u32 = 10;

/// Up to 2^37 ns, 137 s: longer than anything that the agent waits for.
const BUCKETS: usize = 28;

/// Nanoseconds, in buckets that double. Bucket `i` counts `[2^(i + 9), 2^(i + 10))`, the first also
/// what is shorter and the last also what is longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], count: 0, sum: 0, min: 0, max: 0 }
    }
}

impl Histogram {
    /// Adds a value.
    pub fn record(&mut self, value: u64) {
        let bits = u64::BITS - value.leading_zeros();
        let bucket = bits.saturating_sub(SHIFT) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.include(value, value);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds the values of another one.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.counts.iter_mut().zip(other.counts).for_each(|(own, more)| *own += more);
        self.include(other.min, other.max);
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Adds counts of microseconds, as the kernel has them: bucket `i` counts
    /// `[2^(i - 1), 2^i)` µs. A microsecond passes for 1024 ns there; the sum and the extremes are
    /// exact.
    pub(super) fn add_micros(&mut self, added: &[u32], sum_us: u64, min_us: u32, max_us: u32) {
        let count = added.iter().map(|count| u64::from(*count)).sum::<u64>();
        if count == 0 {
            return;
        }
        self.counts.iter_mut().zip(added).for_each(|(own, more)| *own += u64::from(*more));
        self.include(u64::from(min_us) * 1_000, u64::from(max_us) * 1_000);
        self.count += count;
        self.sum = self.sum.saturating_add(sum_us.saturating_mul(1_000));
    }

    /// Returns how many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns their sum.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Returns the smallest value, 0 without values.
    #[must_use]
    pub fn min(&self) -> u64 {
        self.min
    }

    /// Returns the largest value, 0 without values.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Returns the counts, and the power of two at which the first bucket ends.
    #[must_use]
    pub fn buckets(&self) -> (&[u64], u32) {
        (&self.counts, SHIFT)
    }

    /// Returns the value that `share` (0 to 1) of the values do not exceed, estimated inside its
    /// bucket; `None` without values.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        quantile(&self.counts, SHIFT, self.min, self.max, share)
    }

    fn include(&mut self, min: u64, max: u64) {
        self.min = if self.count == 0 { min } else { self.min.min(min) };
        self.max = self.max.max(max);
    }
}

#[cfg(test)]
mod tests {
    use orb8_common::tcp::RTT_BUCKETS;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    #[test]
    fn buckets_double() {
        let at = |value| of(&[value]).counts.iter().position(|count| *count == 1).unwrap();
        assert_eq!((at(0), at(1_023), at(1_024), at(2_047), at(2_048)), (0, 0, 1, 1, 2));
        assert_eq!((at(u64::MAX), BUCKETS - 1), (BUCKETS - 1, 27));
        assert_eq!(at(60_000_000_000), 26);
    }

    #[test]
    fn the_kernels_buckets_are_ours() {
        const { assert!(RTT_BUCKETS <= BUCKETS) };
        let mut added = [0; RTT_BUCKETS];
        // 1 ms: [512, 1024) µs.
        added[10] = 3;
        let mut histogram = Histogram::default();
        histogram.add_micros(&added, 3_000, 1_000, 1_000);
        assert_eq!(histogram.quantile(0.5), Some(1_000_000));
        assert_eq!((histogram.count(), histogram.sum()), (3, 3_000_000));
        assert_eq!(histogram.counts[10], 3);
        assert_eq!(of(&[1_000_000]).counts[10], 1, "the same bucket as a millisecond of ours");
    }

    proptest! {
        #[test]
        fn merging_is_recording(a in vec(any::<u64>(), 0..50), b in vec(any::<u64>(), 0..50)) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let both: Vec<u64> = a.into_iter().chain(b).collect();
            prop_assert_eq!(&merged, &of(&both));
            prop_assert_eq!(merged.counts.iter().sum::<u64>(), merged.count());
        }
    }
}
