use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const WINDOW: Duration = Duration::from_mins(1);

/// Runs windows whose lowest marks are these, each of them with more in between. Returns in which
/// windows there was a verdict.
fn run(marks: impl IntoIterator<Item = u64>) -> Vec<bool> {
    let mut watch = LeakWatch::new(WINDOW);
    let mut now = Instant::now();
    let mut marks = marks.into_iter().peekable();
    watch.step(now, marks.peek().copied().unwrap_or(0));
    let mut verdicts = Vec::new();
    while let Some(mark) = marks.next() {
        watch.observe(mark + 500 * MIB);
        watch.observe(mark);
        now += WINDOW;
        let next = marks.peek().copied().unwrap_or(mark);
        assert_eq!(watch.step(now, next.max(mark)), Window::Ended);
        verdicts.push(watch.growth().is_some());
    }
    verdicts
}

fn found(marks: impl IntoIterator<Item = u64>) -> Option<usize> {
    run(marks).iter().position(|verdict| *verdict)
}

#[test]
fn steady_growth_is_a_leak_after_five_rises() {
    let marks = |i: u64| GIB + i * 10 * MIB;
    assert_eq!(found((0..20).map(marks)), Some(5));
    let mut watch = LeakWatch::new(WINDOW);
    let mut now = Instant::now();
    for i in 0..7 {
        watch.step(now, marks(i));
        now += WINDOW;
    }
    let growth = watch.growth().unwrap();
    assert_eq!((growth.rises, growth.window, growth.scale), (5, WINDOW, 0));
    assert!((growth.per_second - 10.0 * MIB as f64 / 60.0).abs() < 1.0, "{growth:?}");
}

#[test]
fn growth_is_what_it_is_however_seldom_anybody_looks() {
    let mut watch = LeakWatch::new(Duration::from_secs(2));
    let begin = Instant::now();
    // Each 1.5 s, of windows of 2 s.
    for look in 0..30_u32 {
        let time = Duration::from_millis(1_500) * look;
        watch.step(begin + time, (time.as_secs_f64() * 10.0 * MIB as f64) as u64);
    }
    let growth = watch.growth().unwrap().per_second / MIB as f64;
    assert!((9.0..11.0).contains(&growth), "{growth}");
}

#[test]
fn growth_that_nobody_would_look_for_is_none() {
    // 1 MiB in five windows; 50 MiB of 40 GiB.
    assert_eq!(found((0..120).map(|i| GIB + i * MIB / 5 / 16)), None);
    assert_eq!(found((0..30).map(|i| 40 * GIB + i * 10 * MIB)), None);
}

#[test]
fn slow_growth_is_found_later() {
    // 5 MiB a minute of 4 GiB: five of them are not a hundredth.
    let at = found((0..120).map(|i| 4 * GIB + i * 5 * MIB)).unwrap();
    assert!((9..=24).contains(&at), "{at}");
    // In steps of a cache's piece of 20 MiB, each third window.
    let at = found((0..120).map(|i| GIB + i / 3 * 20 * MIB)).unwrap();
    assert!((20..=30).contains(&at), "{at}");
}

#[test]
fn warm_up_is_no_leak() {
    // Up at once, and in a few steps.
    assert_eq!(found((0..40).map(|i| if i < 3 { i * 10 * GIB } else { 30 * GIB })), None);
    // Ever slower.
    let slower = |i: i32| (20.0 * GIB as f64 * (1.0 - 0.75_f64.powi(i))) as u64;
    assert_eq!(found((0..100).map(slower)), None);
    let slower = |i: i32| (GIB as f64 * (1.0 - 0.5_f64.powi(i))) as u64;
    assert_eq!(found((0..100).map(slower)), None);
}

#[test]
fn warm_up_hides_no_leak_after_it() {
    let marks = (0..40).map(|i| match i {
        0..3 => i * 5 * GIB,
        _ => 10 * GIB + i * 30 * MIB,
    });
    let at = found(marks).unwrap();
    assert!(at <= 10, "{at}");
}

#[test]
fn a_saw_is_no_leak() {
    for period in [2_u64, 3, 4, 5] {
        assert_eq!(found((0..200).map(|i| GIB + i % period * 200 * MIB)), None, "{period}");
    }
    // An epoch of ten windows: its first tooth looks like any growth, those after it do not.
    let verdicts = run((0..120).map(|i| GIB + i % 10 * 200 * MIB));
    assert!(verdicts[12..].iter().all(|verdict| !verdict), "{verdicts:?}");
}

#[test]
fn a_saw_that_climbs_is_a_leak() {
    let at = found((0..200).map(|i| GIB + i % 3 * 200 * MIB + i * 4 * MIB));
    assert!(at.is_some_and(|at| at <= 110), "{at:?}");
}

#[test]
fn a_leak_ends_when_memory_comes_back_or_the_level_stands() {
    let back = (0..20).map(|i| if i < 10 { GIB + i * 10 * MIB } else { GIB });
    let verdicts = run(back);
    assert_eq!((verdicts[9], verdicts[10]), (true, false));
    let stands = (0..40).map(|i: u64| GIB + i.min(10) * 10 * MIB);
    let verdicts = run(stands);
    assert!(verdicts[11], "a window without a rise does not end it");
    assert!(!verdicts[39], "{verdicts:?}");
}

#[test]
fn a_leak_is_told_once_and_not_soon_again() {
    let mut watch = LeakWatch::new(Duration::from_secs(1));
    let begin = Instant::now();
    let mut told = Vec::new();
    let mut level = GIB;
    for second in 0..1_300 {
        // It begins, stops, and begins anew.
        level = if second % 300 == 299 { GIB } else { level + 10 * MIB };
        let now = begin + Duration::from_secs(second);
        watch.observe(level);
        watch.step(now, level);
        if watch.tell(now).is_some() {
            told.push(second);
        }
    }
    assert!(told.len() >= 2, "{told:?}");
    assert!(told[0] < 10, "{told:?}");
    assert!(told.windows(2).all(|pair| pair[1] - pair[0] >= 600), "{told:?}");
}

#[test]
fn what_is_forgotten_is_no_sign() {
    let mut watch = LeakWatch::new(WINDOW);
    let mut now = Instant::now();
    for i in 0..30 {
        watch.step(now, GIB + i * 50 * MIB);
        if i % 5 == 4 {
            watch.reset();
        }
        assert_eq!(watch.growth(), None);
        now += WINDOW;
    }
}

proptest! {
    /// Whatever goes on below a hundredth of the level is none.
    #[test]
    fn a_level_is_no_leak(noise in proptest::collection::vec(0_u64..80, 1..200)) {
        prop_assert_eq!(found(noise.into_iter().map(|noise| 10 * GIB + noise * MIB)), None);
    }

    #[test]
    fn what_never_rises_is_no_leak(falls in proptest::collection::vec(0_u64..GIB, 1..150)) {
        let mut level = 200 * GIB;
        let marks = falls.into_iter().map(|fall| { level -= fall; level });
        prop_assert_eq!(found(Vec::from_iter(marks)), None);
    }

    /// Uneven, but in each window at least a half and at most one and a half of the mean.
    #[test]
    fn steady_growth_is_found(
        mean in 20_u64..500,
        parts in proptest::collection::vec(50_u64..150, 40),
    ) {
        let mut level = GIB;
        let marks = parts.into_iter().map(|part| { level += mean * MIB * part / 100; level });
        let at = found(Vec::from_iter(marks));
        prop_assert!(at.is_some_and(|at| at <= 30), "{at:?}");
    }

    /// After growth has ended, so does the verdict.
    #[test]
    fn a_verdict_ends(rises in proptest::collection::vec(0_u64..GIB, 0..60)) {
        let mut level = GIB;
        let mut marks = Vec::from_iter(rises.into_iter().map(|rise| { level += rise; level }));
        marks.extend([level; 120]);
        let verdicts = run(marks);
        prop_assert_eq!(verdicts.last(), Some(&false));
    }

    #[test]
    fn any_marks_are_taken(marks in proptest::collection::vec(any::<u64>(), 0..160)) {
        let mut watch = LeakWatch::new(WINDOW);
        let mut now = Instant::now();
        for mark in marks {
            watch.step(now, mark);
            now += WINDOW;
            prop_assert!(watch.growth().is_none_or(|growth| growth.per_second > 0.0));
        }
    }
}
