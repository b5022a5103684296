use proptest::prelude::*;

use super::*;
use crate::gpu::cuda::sums::Estimate;

/// Runs the windows of launches for a time, with probes that come and go at once. Calls `each` with
/// every step's length and whether it was watched.
fn run(part: f64, seed: u64, whole: Duration, mut each: impl FnMut(Duration, bool)) -> Duration {
    let begin = Instant::now();
    let mut windows = Windows::new(begin, seed);
    let mut parts = [1.0; GROUPS];
    parts[Group::Launches as usize] = part;
    windows.set(begin, parts);
    let mut now = begin;
    while now < begin + whole {
        windows.step(now);
        let is_on = windows.is_on(Group::Launches);
        if is_on {
            windows.began(Group::Launches, now);
        } else {
            windows.ended(Group::Launches, now);
        }
        let next = windows.next().unwrap_or(begin + whole).min(begin + whole);
        assert!(next > now, "time goes on");
        each(next - now, is_on);
        now = next;
    }
    windows.watched(now)[Group::Launches as usize]
}

#[test]
fn all_the_time_needs_no_windows() {
    let watched = run(1.0, 1, Duration::from_mins(1), |_, is_on| assert!(is_on));
    assert_eq!(watched, Duration::from_mins(1));
}

#[test]
fn other_groups_are_left_alone() {
    let now = Instant::now();
    let mut windows = Windows::new(now, 1);
    windows.set(now, [0.1, 1.0, 1.0, 1.0, 1.0]);
    windows.step(now);
    assert!(!windows.is_on(Group::Launches));
    assert!(Group::ALL[1..].iter().all(|group| windows.is_on(*group)));
    windows.set(now, [1.0; GROUPS]);
    assert!(windows.is_on(Group::Launches));
    assert_eq!(windows.next(), None);
}

#[test]
fn a_window_is_never_too_short_to_be_worth_it() {
    run(0.001, 7, Duration::from_mins(10), |length, is_on| {
        if is_on {
            assert!(length + Duration::from_micros(1) >= SHORTEST, "{length:?}");
        }
    });
}

#[test]
fn plans_that_change_all_the_time_do_not_keep_windows_away() {
    let begin = Instant::now();
    let mut windows = Windows::new(begin, 5);
    let (mut now, mut watched) = (begin, Duration::ZERO);
    for step in 0..1_200_u32 {
        let part = 0.02 + f64::from(step % 7) * 1e-4;
        windows.set(now, [part, 1.0, 1.0, 1.0, 1.0]);
        let next_plan = now + Duration::from_millis(500);
        while now < next_plan {
            windows.step(now);
            let next = windows.next().unwrap().clamp(now, next_plan);
            if windows.is_on(Group::Launches) {
                windows.began(Group::Launches, now);
                watched += next - now;
            } else {
                windows.ended(Group::Launches, now);
            }
            now = next;
        }
    }
    let is = watched.as_secs_f64() / (now - begin).as_secs_f64();
    assert!((0.018..0.022).contains(&is), "{is}");
}

#[test]
fn a_window_that_ends_late_is_made_up_for() {
    let begin = Instant::now();
    let late = Duration::from_millis(300);
    let mut windows = Windows::new(begin, 3);
    let part = 0.05;
    windows.set(begin, [part, 1.0, 1.0, 1.0, 1.0]);
    let mut now = begin;
    while now < begin + Duration::from_mins(20) {
        windows.step(now);
        if windows.is_on(Group::Launches) {
            windows.began(Group::Launches, now);
            now += late;
        } else {
            windows.ended(Group::Launches, now);
        }
        now = windows.next().unwrap().max(now);
    }
    let watched = windows.watched(now)[Group::Launches as usize];
    let is = watched.as_secs_f64() / (now - begin).as_secs_f64();
    assert!(is <= part * 1.02 && is > part * 0.8, "{is}");
}

proptest! {
    /// The part that was asked for is the part that is watched.
    #[test]
    fn windows_are_the_part(part in 0.01_f64..0.9, seed: u64) {
        let whole = Duration::from_mins(20);
        let watched = run(part, seed, whole, |_, _| {});
        let is = watched.as_secs_f64() / whole.as_secs_f64();
        prop_assert!((is - part).abs() < 0.01 + part * 0.01, "{is} for {part}");
    }

    /// What is estimated from windows is what there was, for a constant rate.
    #[test]
    fn estimates_are_unbiased(part in 0.02_f64..0.9, seed: u64, rate in 100.0_f64..100_000.0) {
        let (mut time, mut counter) = (0.0, 0.0);
        let mut estimate = Estimate::<1>::default();
        let (mut seen, mut elapsed) = (Duration::ZERO, Duration::ZERO);
        // Watched all the time at first: that is how it was known to be too much.
        counter += rate;
        estimate.take([counter as u64], Duration::from_secs(1), Duration::from_secs(1), 0.0);
        run(part, seed, Duration::from_mins(2), |length, is_on| {
            time += length.as_secs_f64();
            elapsed += length;
            if is_on {
                counter += rate * length.as_secs_f64();
                seen += length;
            }
            if elapsed >= Duration::from_millis(500) {
                estimate.take([counter as u64], seen, elapsed, 0.0);
                (seen, elapsed) = (Duration::ZERO, Duration::ZERO);
            }
        });
        estimate.take([counter as u64], seen, elapsed, 0.0);
        let (is, was) = (estimate.sums()[0] as f64, rate * (time + 1.0));
        prop_assert!((is - was).abs() < was * 0.02 + 50.0, "{is} for {was}");
        prop_assert!(estimate.is_sampled());
    }
}
