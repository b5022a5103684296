use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_counter_that_begins_anew_adds_what_it_has() {
    let mut counter = Differences::default();
    assert_eq!(counter.take([5, 7]), [5, 7]);
    assert_eq!(counter.take([6, 7]), [1, 0]);
    assert_eq!(counter.take([2, 8]), [2, 1]);
}

#[test]
fn what_is_watched_all_the_time_is_exact() {
    let mut sum = Estimate::<2>::default();
    sum.take([10, 1], SECOND, SECOND, 0.0);
    // Reading takes a little.
    sum.take([25, 2], SECOND - Duration::from_micros(900), SECOND, 0.0);
    assert_eq!((sum.sums(), sum.rates(), sum.is_sampled()), ([25, 2], sum.rates(), false));
    assert!((sum.rates()[0] - 15.0).abs() < 0.1);
}

#[test]
fn time_in_which_nobody_looked_is_like_the_last() {
    let mut sum = Estimate::<1>::default();
    sum.take([1_000], SECOND, SECOND, 0.0);
    sum.take([1_000], Duration::ZERO, SECOND, 0.0);
    assert_eq!((sum.sums(), sum.is_sampled()), ([2_000], true));
    // A fifth of the time, and half the rate.
    sum.take([1_100], SECOND / 5, SECOND, 0.0);
    assert_eq!(sum.sums(), [2_500]);
}

#[test]
fn a_glance_tells_no_rate() {
    let mut sum = Estimate::<1>::default();
    sum.take([1_000], SECOND, SECOND, 0.0);
    // A window that has just begun: nothing yet, which is no rate of 0.
    sum.take([1_000], Duration::from_millis(1), SECOND, 0.0);
    assert_eq!(sum.rates(), [1_000.0]);
    sum.take([1_050], Duration::from_millis(49), SECOND, 0.0);
    assert_eq!(sum.rates(), [1_000.0]);
}

#[test]
fn what_came_before_a_window_is_not_counted_twice() {
    let mut sum = Estimate::<1>::default();
    sum.take([1_000], SECOND, SECOND, 0.0);
    // Seen while the probes were put in.
    sum.take([1_100], Duration::ZERO, SECOND, 0.0);
    assert_eq!((sum.sums(), sum.rates()), ([2_000], [1_000.0]));
    sum.take([1_200], Duration::from_millis(100), Duration::from_millis(100), 0.0);
    assert_eq!((sum.sums(), sum.rates()), ([2_100], [1_000.0]));
}

#[test]
fn a_loop_is_faster_without_probes() {
    let mut sum = Estimate::<1>::default();
    // A million a second, of which probes take half a microsecond each.
    sum.take([1_000_000], SECOND, SECOND, 0.5e-6);
    sum.take([1_000_000], Duration::ZERO, SECOND, 0.5e-6);
    assert_eq!((sum.sums(), sum.rates()), ([3_000_000], [1_000_000.0]));
    // A cost that cannot be: it stays a number.
    sum.take([2_000_000], SECOND, SECOND, 1.0);
    sum.take([2_000_000], Duration::ZERO, SECOND, 1.0);
    assert_eq!(sum.sums(), [14_000_000]);
}

proptest! {
    #[test]
    fn sums_never_go_back(
        steps in proptest::collection::vec((any::<u32>(), 0_u64..2_000, 0_u64..2_000), 1..60),
    ) {
        let mut sum = Estimate::<1>::default();
        let mut last = 0;
        for (counter, watched, elapsed) in steps {
            let (watched, elapsed) = (watched.min(elapsed), elapsed);
            sum.take([counter.into()], Duration::from_millis(watched), Duration::from_millis(elapsed), 0.0);
            prop_assert!(sum.sums()[0] >= last);
            last = sum.sums()[0];
        }
    }
}
