//! Native histograms: runs of buckets, and the differences between their counts.

use crate::metrics::family::Exponential;

/// A gap this small costs less when its empty buckets are told than when another run begins.
const SMALL_GAP: usize = 2;

/// Runs of buckets: how far each begins after the one before, and how long it is.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) spans: Vec<(i32, u32)>,
    pub(super) deltas: Vec<i64>,
}

impl Sparse {
    pub(super) fn new(buckets: &Exponential) -> Self {
        let mut sparse = Self::default();
        let (mut last, mut end) = (0, None);
        for (at, count) in buckets.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let gap = end.map(|end| at - end);
            match (gap, sparse.spans.last_mut()) {
                (Some(gap @ ..=SMALL_GAP), Some((_, length))) => {
                    *length += gap as u32 + 1;
                    for _ in 0..gap {
                        sparse.deltas.push(-last);
                        last = 0;
                    }
                }
                (gap, _) => {
                    let offset = gap.map_or(buckets.first + at as i32, |gap| gap as i32);
                    sparse.spans.push((offset, 1));
                }
            }
            let count = count.cast_signed();
            sparse.deltas.push(count - last);
            (last, end) = (count, Some(at + 1));
        }
        sparse
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads as Prometheus does.
    fn read(sparse: &Sparse) -> Vec<(i32, i64)> {
        let (mut at, mut count, mut deltas) = (0, 0, sparse.deltas.iter());
        let mut read = Vec::new();
        for (offset, length) in &sparse.spans {
            at += offset;
            for _ in 0..*length {
                count += deltas.next().unwrap();
                read.push((at, count));
                at += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        read.retain(|(_, count)| *count > 0);
        read
    }

    #[test]
    fn a_small_gap_is_filled_and_a_large_one_is_not() {
        let of = Exponential { zero: 0, first: -3, counts: vec![2, 0, 0, 5, 0, 0, 0, 1] };
        let sparse = Sparse::new(&of);
        assert_eq!(sparse.spans, [(-3, 4), (3, 1)]);
        assert_eq!(sparse.deltas, [2, -2, 0, 5, -4]);
        assert!(Sparse::new(&Exponential::default()).spans.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_counted(
            first in -200..200_i32,
            counts in proptest::collection::vec(prop_oneof![Just(0), 0..1000_u64], 0..60),
        ) {
            let of = Exponential { zero: 0, first, counts };
            let counted = (first..).zip(of.counts.iter().map(|count| count.cast_signed()));
            let counted: Vec<_> = counted.filter(|(_, count)| *count > 0).collect();
            prop_assert_eq!(read(&Sparse::new(&of)), counted);
        }
    }
}
