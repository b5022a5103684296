//! What the history takes, by its own account and by the allocator's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use orb8_agent::config::Config;
use orb8_agent::event::{Event, FlowSample, Payload, SampleKind, UnixNanos};
use orb8_agent::pipeline::{LocalAddresses, Pipeline};
use orb8_common::flow::{DIRECTION_EGRESS, FlowKey, HOOK_SOCKET};

/// Counts what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; what it returns is only counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about the place and its layout is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SECOND: u64 = 1_000_000_000;

fn sample(port: u16, number: u32, second: u64) -> FlowSample {
    let mut address = [0; 16];
    address[12..].copy_from_slice(&number.to_be_bytes());
    FlowSample {
        key: FlowKey {
            source_addr: address,
            destination_addr: [2; 16],
            source_port: port,
            destination_port: 443,
            ifindex: 0,
            cgroup_id: 5,
            protocol: 17,
            direction: DIRECTION_EGRESS,
            hook: HOOK_SOCKET,
            flags: 0,
            vlan: 0,
            inner_vlan: 0,
        },
        kind: SampleKind::Counted,
        cgroup_id: 5,
        cookie: 0,
        ifindex: 0,
        packets: 1,
        bytes: 100,
        first: UnixNanos(second * SECOND),
        last: UnixNanos(second * SECOND),
        tcp_flags: 0,
    }
}

/// Runs the same traffic with and without a history, and returns what is held at the end, and what the
/// history says that it has.
fn run(with_history: bool) -> (usize, usize) {
    let mut config = Config::in_process().expect("the defaults are valid");
    config.cgroup_root = None;
    config.hub.recent = 0;
    if !with_history {
        config.history = None;
    }
    let before = HELD.load(Ordering::Relaxed);
    let mut pipeline = Pipeline::new(&config, LocalAddresses::default());
    let began = Instant::now();
    let mut most = 0;
    for second in 0..600 {
        // 300 flows that go on, and 200 new ones.
        let going = (0..300).map(|port| sample(port, 0, second));
        let new = (0..200).map(|port| sample(port, 1 + second as u32, second));
        let event = |sample: FlowSample| Event {
            time: sample.last,
            subject: None,
            payload: Payload::Flow(sample),
        };
        let mut batch: Vec<Event> = going.chain(new).map(event).collect();
        pipeline.ingest(&mut batch);
        pipeline.end_of_cycle(began + Duration::from_secs(second + 1));
        most = most.max(pipeline.totals().history_bytes);
    }
    let bounds = config.history.map_or(0, |history| history.bytes);
    assert!(most as usize <= bounds, "{most} of {bounds}");
    let said = pipeline.totals().history_bytes as usize;
    let held = HELD.load(Ordering::Relaxed) - before;
    drop(pipeline);
    (held, said)
}

#[test]
fn it_takes_what_it_says() {
    // What is made once for all is made now.
    run(true);
    let (without, none) = run(false);
    let (with, said) = run(true);
    assert_eq!(none, 0);
    let took = with.saturating_sub(without);
    println!("the history took {took} bytes, and says {said}");
    let bounds = Config::in_process().expect("the defaults are valid").history;
    let bytes = bounds.expect("a history by default").bytes;
    assert!(said > bytes / 4 * 3, "it is full: {said} of {bytes}");
    assert!(took.abs_diff(said) < said / 50, "{took} against {said}");
}
