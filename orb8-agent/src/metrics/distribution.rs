//! Counting into a [`Distribution`].

use orb8_common::tcp::RTT_BUCKETS;

use super::family::{Distribution, Exponential, SCALE, ZERO_THRESHOLD};

/// Seconds: from what a node's own answers take to what nobody waits for. Few, since most of a page is
/// buckets; the exponential ones are finer.
pub(super) const LATENCY_BOUNDS: &[f64] =
    &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Seconds: ends of the kernel-side histogram's buckets, 128 µs to 4 s, so that none is split.
pub(super) const RTT_BOUNDS: &[f64] = &[
    0.000128, 0.000256, 0.000512, 0.001024, 0.004096, 0.016384, 0.065536, 0.262144, 1.048576,
    4.194304,
];

/// Where the exponential buckets of one doubling begin: powers of `2^(2^-SCALE)`, halved.
const STEPS: [f64; 1 << SCALE] = [
    0.5,
    0.5452538663326288,
    0.5946035575013605,
    0.6484197773255048,
    0.7071067811865475,
    0.7711054127039704,
    0.8408964152537144,
    0.9170040432046711,
];

/// Round-trip times that are new since they were last read, as the kernel-side program counts them:
/// see [`RTT_BUCKETS`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrips<'a> {
    pub(crate) counts: &'a [u32; RTT_BUCKETS],
    pub(crate) sum_us: u64,
}

impl Distribution {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            exponential: Exponential::default(),
            sum: 0.0,
            count: 0,
        }
    }

    /// Adds one value, given in nanoseconds.
    pub(super) fn record_nanos(&mut self, nanos: u64) {
        let seconds = nanos as f64 / 1e9;
        self.sum += seconds;
        self.add(seconds, seconds, 1);
    }

    /// Adds round-trip times. Of each is known which of the doubling buckets it is in; their sum is
    /// exact. Where all are in one bucket, their mean tells the exponential bucket, else its middle.
    pub(super) fn record_round_trips(&mut self, added: &RoundTrips<'_>) {
        let RoundTrips { counts, sum_us } = *added;
        let count: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        if count == 0 {
            return;
        }
        self.sum += sum_us as f64 / 1e6;
        for (bucket, times) in counts.iter().enumerate().filter(|(_, times)| **times > 0) {
            let end = (1_u64 << bucket) as f64 / 1e6;
            let is_last = bucket == RTT_BUCKETS - 1;
            let inside = match u64::from(*times) == count {
                true if is_last => sum_us as f64 / 1e6 / count as f64,
                true => (sum_us as f64 / 1e6 / count as f64).clamp(end / 2.0, end),
                false => end * std::f64::consts::FRAC_1_SQRT_2,
            };
            let inside = if bucket == 0 { 0.0 } else { inside };
            self.add(if is_last { f64::INFINITY } else { end }, inside, u64::from(*times));
        }
    }

    /// Adds what another one counted; both have the same bounds.
    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, more)| *own += more);
        self.exponential.zero += other.exponential.zero;
        for (at, times) in (other.exponential.first..).zip(&other.exponential.counts) {
            if *times > 0 {
                self.exponential.add(at, *times);
            }
        }
        self.sum += other.sum;
        self.count += other.count;
    }

    /// Counts `times` values, at `classic` among the classic buckets and at `exponential` among the
    /// others.
    fn add(&mut self, classic: f64, exponential: f64, times: u64) {
        self.count += times;
        let bucket = self.bounds.partition_point(|bound| *bound < classic);
        self.counts[bucket] += times;
        match exponential <= ZERO_THRESHOLD {
            true => self.exponential.zero += times,
            false => self.exponential.add(index(exponential), times),
        }
    }
}

impl Exponential {
    fn add(&mut self, at: i32, times: u64) {
        if self.counts.is_empty() {
            self.first = at;
        }
        if at < self.first {
            let missing = (self.first - at) as usize;
            self.counts.splice(..0, std::iter::repeat_n(0, missing));
            self.first = at;
        }
        let offset = (at - self.first) as usize;
        if offset >= self.counts.len() {
            self.counts.resize(offset + 1, 0);
        }
        self.counts[offset] += times;
    }
}

/// Returns the index of the exponential bucket of a positive, normal number.
fn index(value: f64) -> i32 {
    /// The exponent of numbers in [0.5, 1), with its bias.
    const HALVES: u64 = 1022;
    const MANTISSA_BITS: u32 = 52;
    let bits = value.to_bits();
    let mantissa = bits & ((1 << MANTISSA_BITS) - 1);
    let exponent = (bits >> MANTISSA_BITS) as i32 - HALVES as i32;
    let fraction = f64::from_bits(HALVES << MANTISSA_BITS | mantissa);
    let step = STEPS.partition_point(|start| *start < fraction) as i32;
    step + (exponent - 1) * STEPS.len() as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(nanos: &[u64]) -> Distribution {
        let mut made = Distribution::new(LATENCY_BOUNDS);
        nanos.iter().for_each(|nanos| made.record_nanos(*nanos));
        made
    }

    #[test]
    fn a_bound_is_in_its_bucket() {
        let made = of(&[100_000, 100_001, 10_000_000_000, 10_000_000_001]);
        assert_eq!((made.counts[0], made.counts[1]), (1, 1));
        let last = LATENCY_BOUNDS.len();
        assert_eq!((made.counts[last - 1], made.counts[last]), (1, 1));
        assert_eq!(made.count, 4);
        assert!((made.sum - 20.000_200_002).abs() < 1e-9, "{}", made.sum);
    }

    #[test]
    fn exponential_buckets_are_prometheus_ones() {
        // Bucket 0 ends at 1, and eight of them double.
        assert_eq!((index(1.0), index(1.0 + 1e-12), index(2.0), index(4.0)), (0, 1, 8, 16));
        assert_eq!((index(0.5), index(0.25)), (-8, -16));
        assert_eq!((index(1.09), index(1.0906)), (1, 2), "the first step is 2^(1/8) = 1.0905");
        let made = of(&[500, 953, 1_000_000_000, 2_000_000_000]);
        assert_eq!(
            made.exponential,
            Exponential { zero: 2, first: 0, counts: vec![1, 0, 0, 0, 0, 0, 0, 0, 1] }
        );
    }

    #[test]
    fn round_trips_keep_the_kernels_buckets_and_the_exact_sum() {
        let mut counts = [0; RTT_BUCKETS];
        // [512, 1024) µs.
        counts[10] = 3;
        let mut made = Distribution::new(RTT_BOUNDS);
        made.record_round_trips(&RoundTrips { counts: &counts, sum_us: 2_100 });
        let bucket = RTT_BOUNDS.iter().position(|bound| *bound == 0.001024).unwrap();
        assert_eq!((made.counts[bucket], made.count), (3, 3));
        assert_eq!(made.exponential.first, index(0.0007), "all in one: their mean");
        assert!((made.sum - 0.0021).abs() < 1e-12);
        // Below 1 µs, and above 16 s.
        (counts[0], counts[10], counts[RTT_BUCKETS - 1]) = (1, 1, 2);
        made.record_round_trips(&RoundTrips { counts: &counts, sum_us: 40_000_900 });
        assert_eq!((made.counts[0], made.counts[RTT_BOUNDS.len()], made.count), (1, 2, 7));
        assert_eq!(made.exponential.zero, 1);
        assert_eq!(made.counts.iter().sum::<u64>(), made.count);
        made.record_round_trips(&RoundTrips { counts: &[0; RTT_BUCKETS], sum_us: 9 });
        assert_eq!(made.count, 7);
    }

    proptest! {
        #[test]
        fn every_value_is_in_a_bucket_that_has_it(nanos in 954_u64..u64::MAX) {
            let seconds = nanos as f64 / 1e9;
            let at = index(seconds);
            let bound = |at: i32| 2_f64.powf(f64::from(at) / 8.0);
            // Powers are rounded.
            prop_assert!(seconds <= bound(at) * (1.0 + 1e-12));
            prop_assert!(seconds > bound(at - 1) * (1.0 - 1e-12));
        }

        #[test]
        fn merging_is_recording(
            a in proptest::collection::vec(any::<u64>(), 0..30),
            b in proptest::collection::vec(any::<u64>(), 0..30),
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let both = of(&[a, b].concat());
            prop_assert_eq!(&merged.counts, &both.counts);
            prop_assert_eq!(&merged.exponential, &both.exponential);
            prop_assert_eq!(merged.count, both.count);
            let counted: u64 = merged.exponential.counts.iter().sum();
            prop_assert_eq!(counted + merged.exponential.zero, merged.count);
        }
    }
}
