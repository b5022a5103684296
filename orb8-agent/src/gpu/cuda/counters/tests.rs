use orb8_common::gpu::{Allocations, Copies as CountedCopies};
use zerocopy::FromZeros;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const ALL: Look = Look { elapsed: SECOND, watched: [SECOND; GROUPS], costs: [0.0; GROUPS] };

fn counters() -> Counters {
    let mut counters = Counters::new_zeroed();
    counters.launches = 1_000;
    counters.graph_launches = 10;
    counters.copies[0] = CountedCopies { count: 4, bytes: 4_096, waited_ns: 0 };
    counters.copies[1] = CountedCopies { count: 2, bytes: 64, waited_ns: 500 };
    counters.waits[1] = CountedCalls { count: 5, time_ns: 5_000, longest_ns: 3_000 };
    counters.modules = CountedCalls { count: 1, time_ns: 70_000, longest_ns: 70_000 };
    counters.allocations[0] = Allocations { count: 3, bytes: 300, freed: 2, failed: 1 };
    counters.threads[2] = 1_000;
    counters.threads[9] = 250;
    counters
}

#[test]
fn counters_become_rows() {
    let mut sums = Sums::default();
    assert!(sums.take(&counters(), 0, &ALL));
    sums.tell_rates();
    let [launches, graphs] = sums.launches();
    assert_eq!((launches.count, graphs.count, launches.is_sampled), (1_000, 10, false));
    assert_eq!((launches.rate, graphs.rate), (1_000.0, 10.0));
    let copies = [
        Copies { kind: CopyKind::HostToDevice, count: 4, bytes: 4_096, waited: Duration::ZERO },
        Copies {
            kind: CopyKind::DeviceToHost,
            count: 2,
            bytes: 64,
            waited: Duration::from_nanos(500),
        },
    ];
    assert_eq!(sums.copies(), copies);
    let time = Duration::from_nanos;
    let calls = Calls { count: 5, time: time(5_000), longest: time(3_000) };
    assert_eq!(sums.waits(), [Waits { kind: WaitKind::Event, calls }]);
    assert_eq!(sums.modules(), Calls { count: 1, time: time(70_000), longest: time(70_000) });
}

#[test]
fn counters_that_begin_anew_take_nothing_back() {
    let mut sums = Sums::default();
    sums.take(&counters(), 0, &ALL);
    let mut anew = Counters::new_zeroed();
    anew.launches = 7;
    anew.waits[1] = CountedCalls { count: 1, time_ns: 10, longest_ns: 10 };
    sums.take(&anew, 0, &ALL);
    assert_eq!(sums.launches()[0].count, 1_007);
    assert_eq!(sums.waits()[0].calls.count, 6);
    assert_eq!(sums.waits()[0].calls.longest, Duration::from_nanos(3_000));
    assert_eq!(sums.modules().count, 1);
}

#[test]
fn a_rate_is_over_the_time_since_it_was_told() {
    let mut sums = Sums::default();
    let mut counters = counters();
    sums.take(&counters, 0, &ALL);
    sums.take(&counters, 0, &ALL);
    assert_eq!(sums.tell_rates(), Some([500.0, 5.0]));
    // Not looked at since: as before.
    assert_eq!((sums.tell_rates(), sums.launches()[0].rate), (None, 500.0));
    counters.launches += 30;
    sums.take(&counters, 0, &ALL);
    assert_eq!(sums.tell_rates(), Some([30.0, 0.0]));
    assert!(!sums.take(&counters, 0, &ALL), "nothing was called");
}

#[test]
fn the_load_is_the_busiest_threads() {
    let mut sums = Sums::default();
    sums.take(&counters(), 40, &ALL);
    let load = *sums.load();
    assert_eq!(load.hits, 1_000.0);
    // Four fifths of the calls: 1,010 launches, 4 + 2 × 2 copies, 5 × 2 waits, 40, 4 × 2 + 2.
    let expected = [1_010.0, 8.0, 10.0, 40.0, 10.0].map(|rate| rate * 0.8);
    assert_eq!(load.full, expected);
    sums.take(&counters(), 40, &ALL);
    assert_eq!(*sums.load(), Load::default());
}

#[test]
fn the_load_is_known_while_nobody_looks() {
    let mut sums = Sums::default();
    sums.take(&counters(), 0, &ALL);
    let full = sums.load().full;
    let mut watched = [SECOND; GROUPS];
    watched[Group::Launches as usize] = Duration::ZERO;
    sums.take(&counters(), 0, &Look { watched, ..ALL });
    let load = *sums.load();
    assert_eq!((load.hits, load.full), (0.0, full));
    assert_eq!(sums.launches()[0].count, 2_000);
    assert!(sums.is_sampled());
}
