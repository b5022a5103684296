//! Reading a [`Histogram`]: how many values, their mean, and where a share of them lies.

use crate::v1::Histogram;

impl Histogram {
    /// Returns how many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the mean, `None` without values.
    #[must_use]
    pub fn mean(&self) -> Option<u64> {
        self.sum.checked_div(self.count())
    }
}

/// Returns the value that `share` (0 to 1) of the values do not exceed, `None` without values.
///
/// `counts[i]` counts values of `[2^(i + shift - 1), 2^(i + shift))`. Inside a bucket the values are
/// taken to lie evenly on a logarithmic scale, as the buckets do; the estimate is never outside
/// `[min, max]`, so it is off by less than a factor of two.
#[must_use]
pub fn quantile(counts: &[u64], shift: u32, min: u64, max: u64, share: f64) -> Option<u64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = (total as f64 * share).max(1.0);
    let mut below = 0.0;
    for (bucket, count) in counts.iter().enumerate() {
        let count = *count as f64;
        if count > 0.0 && below + count >= rank {
            // The bucket begins at 2^(i + shift - 1) and doubles to its end.
            let exponent = bucket as f64 + f64::from(shift) - 1.0 + (rank - below) / count;
            return Some((exponent.exp2() as u64).clamp(min, max.max(min)));
        }
        below += count;
    }
    Some(max.max(min))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const BUCKETS: usize = 40;

    fn counts(values: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; BUCKETS];
        for value in values {
            counts[(u64::BITS - value.leading_zeros()) as usize] += 1;
        }
        counts
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(quantile(&[], 0, 0, 0, 0.5), None);
        assert_eq!(quantile(&[0, 0], 4, 0, 0, 0.99), None);
        assert_eq!(Histogram::default().mean(), None);
    }

    #[test]
    fn one_value_is_every_quantile() {
        for share in [0.0, 0.5, 0.99, 1.0] {
            assert_eq!(quantile(&counts(&[1_000]), 0, 1_000, 1_000, share), Some(1_000));
        }
    }

    #[test]
    fn a_shift_is_a_factor() {
        let at = |shift| quantile(&[0, 10, 10], shift, 0, u64::MAX, 0.5);
        assert_eq!((at(0), at(10)), (Some(2), Some(2048)));
    }

    #[test]
    fn count_and_mean_are_exact() {
        let histogram = Histogram { counts: vec![1, 2], sum: 10, ..Histogram::default() };
        assert_eq!((histogram.count(), histogram.mean()), (3, Some(3)));
    }

    proptest! {
        #[test]
        fn an_estimate_is_within_a_factor_of_two(
            mut values in vec(0_u64..1 << 38, 1..200),
            share in 0.0..=1.0_f64,
        ) {
            values.sort_unstable();
            let (min, max) = (values[0], values[values.len() - 1]);
            let rank = ((values.len() as f64 * share).ceil() as usize).max(1);
            let exact = values[rank - 1];
            let estimate = quantile(&counts(&values), 0, min, max, share).unwrap();
            prop_assert!((min..=max).contains(&estimate));
            prop_assert!(estimate <= exact.saturating_mul(2), "{estimate} for {exact}");
            prop_assert!(estimate.saturating_mul(2) + 1 >= exact, "{estimate} for {exact}");
        }
    }
}
