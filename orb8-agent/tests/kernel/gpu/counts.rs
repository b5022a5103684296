//! Every kind of call, counted exactly.

use std::collections::{HashMap, HashSet};

use orb8_agent::ebpf::GpuOptions;
use orb8_common::gpu::{
    ALLOCATION_PHYSICAL, ALLOCATION_PINNED, CALL_ALLOCATED, CALL_FREED, CALL_REFUSED, Call, Calls,
    Counter, Process, Record,
};
use serde_json::Value;

use super::{Node, Watch, turn_beside};

const ALLOCATIONS: [&str; 5] = ["device", "pool", "physical", "managed", "pinned"];
const COPIES: [&str; 5] =
    ["host-to-device", "device-to-host", "device-to-device", "peer", "unified"];
const WAITS: [&str; 3] = ["stream", "event", "context"];

#[test]
fn every_kind_of_call_is_counted_once() {
    let _turn = turn_beside();
    let (node, mut watch) = (Node::new(), Watch::new());
    for layer in ["driver", "per-thread", "runtime"] {
        for threads in [1, 4] {
            count(&node, &mut watch, layer, threads);
        }
    }
}

/// Older kernels know no other, and on newer ones one is refused where another is not.
#[test]
fn a_link_for_each_place_counts_the_same() {
    let _turn = turn_beside();
    let options = GpuOptions { links_many: false, ..GpuOptions::default() };
    count(&Node::new(), &mut Watch::with(&options), "driver", 2);
}

fn count(node: &Node, watch: &mut Watch, layer: &str, threads: u32) {
    let mut workload = node.start(&format!("every --steps 25 --threads {threads} --layer {layer}"));
    watch.follow(&[workload.pid], 1);
    let report = workload.run();
    let process = watch.process(workload.pid).expect("it called");
    let counters = watch.sums.counters().expect("the counters");
    let what = format!("{layer}, {threads} threads, counters {counters:?}");
    assert_same(&process, &report, &what);
    assert_eq!(process.lost, 0, "{what}");
    assert_eq!(watch.counter(Counter::Untimed), 0, "{what}");
    workload.end();
}

/// Compares sums with what reached the driver.
fn assert_same(process: &Process, report: &Value, what: &str) {
    let driver = &report["driver"];
    let number = |value: &Value| value.as_u64().expect("a number");
    assert!(number(&driver["launches"]) > 0, "{what}: {report}");
    assert_eq!(process.launches, number(&driver["launches"]), "{what}: {report}");
    assert_eq!(process.graph_launches, number(&driver["graph_launches"]), "{what}");
    for (name, counted) in COPIES.iter().zip(process.copies) {
        let row = &driver["copies"][name];
        let expected = (number(&row["count"]), number(&row["bytes"]));
        assert_eq!((counted.count, counted.bytes), expected, "{what}: {name}");
        // Around what the driver itself measured.
        let waited = number(&row["waited_ns"]);
        assert_eq!(counted.waited_ns > 0, waited > 0, "{what}: {name}");
        assert!(counted.waited_ns >= waited, "{what}: {name}: {} {waited}", counted.waited_ns);
    }
    for (name, counted) in WAITS.iter().zip(process.waits) {
        assert_calls(counted, &driver["waits"][name], &format!("{what}: {name}"));
    }
    // One was loaded before the program waited to be watched.
    let modules = number(&report["program"]["modules"]["count"]);
    assert!((modules..=number(&driver["modules"]["count"])).contains(&process.modules.count));
    let mut freed = 0;
    for (name, counted) in ALLOCATIONS.iter().zip(process.allocations) {
        let row = &driver["allocations"][name];
        let expected = (number(&row["count"]), number(&row["bytes"]));
        assert_eq!((counted.count, counted.bytes), expected, "{what}: {name}");
        assert_eq!(counted.failed, 0, "{what}: {name}");
        freed += counted.freed;
    }
    let rows = ALLOCATIONS.map(|name| number(&driver["allocations"][name]["freed_count"]));
    assert_eq!(freed, rows.into_iter().sum::<u64>(), "{what}");
}

fn assert_calls(counted: Calls, row: &Value, what: &str) {
    let number = |name: &str| row[name].as_u64().expect("a number");
    assert_eq!(counted.count, number("count"), "{what}");
    assert!(counted.time_ns >= number("ns"), "{what}");
    assert!(counted.longest_ns >= number("longest_ns"), "{what}");
    assert!(counted.longest_ns <= counted.time_ns, "{what}");
}

#[test]
fn memory_is_told_call_by_call() {
    let _turn = turn_beside();
    let node = Node::new();
    let mut watch = Watch::new();
    let mut workload = node.start("every --steps 5 --keep");
    watch.follow(&[workload.pid], 1);
    let report = workload.run();
    let records = watch.records();
    let calls = |what| {
        records.iter().filter_map(move |record| match record {
            Record::Call(call) if call.what == what => Some(*call),
            _ => None,
        })
    };
    let mut has: HashMap<(bool, bool, u64), Call> = HashMap::new();
    // Handles and the machine's addresses are other numbers than the device's addresses.
    let place = |call: &Call| {
        let (kind, pointer) = (call.kind, call.pointer);
        (kind == ALLOCATION_PHYSICAL, kind == ALLOCATION_PINNED, pointer)
    };
    let (mut bytes, mut pinned) = (0, 0);
    for record in &records {
        match record {
            Record::Call(call) if call.what == CALL_ALLOCATED => {
                assert!(call.pointer != 0 && call.bytes != 0 && call.took_ns > 0, "{call:?}");
                assert!(has.insert(place(call), *call).is_none(), "{call:?}");
            }
            Record::Call(call) if call.what == CALL_FREED => {
                let taken = has.remove(&place(call)).unwrap_or_else(|| panic!("{call:?}"));
                assert!(taken.time_ns <= call.time_ns);
            }
            _ => {}
        }
    }
    for call in has.values() {
        let sum = if call.kind == ALLOCATION_PINNED { &mut pinned } else { &mut bytes };
        *sum += call.bytes;
    }
    assert_eq!(Some(bytes), report["driver"]["outstanding"].as_u64());
    assert_eq!(Some(pinned), report["driver"]["outstanding_pinned"].as_u64());
    assert!(bytes > 0, "it keeps some");
    assert_stacks(&records, workload.pid);
    assert_eq!(calls(CALL_REFUSED).count(), 0);
    workload.end();
}

/// Each stack comes before the first call that has it, and is told once.
fn assert_stacks(records: &[Record], pid: u32) {
    let mut told = HashSet::new();
    for record in records {
        match record {
            Record::Stack(stack) => {
                assert!(told.insert(stack.id), "twice");
                assert_eq!(stack.tgid, pid);
                let frames = &stack.frames[..stack.count as usize];
                assert!(frames.iter().all(|frame| *frame != 0), "{stack:?}");
                assert!(stack.count >= 2, "a caller and its caller: {stack:?}");
            }
            Record::Call(call) if call.what == CALL_ALLOCATED => {
                assert!(told.contains(&call.stack), "{call:?}");
            }
            _ => {}
        }
    }
    assert!(told.len() >= 2, "several places");
}

#[test]
fn memory_that_is_refused_is_told_with_the_drivers_error() {
    let _turn = turn_beside();
    let node = Node::new();
    let mut watch = Watch::new();
    let mut workload = node.start("fill --memory-mib 8 --bytes 1048576");
    watch.follow(&[workload.pid], 1);
    let report = workload.run();
    let failed = report["driver"]["failed_allocations"].as_u64().expect("a number");
    assert!(failed > 0);
    let refused: Vec<_> = watch
        .records()
        .into_iter()
        .filter_map(|record| match record {
            Record::Call(call) if call.what == CALL_REFUSED => Some(call),
            _ => None,
        })
        .collect();
    assert_eq!(refused.len() as u64, failed);
    for call in refused {
        assert_eq!((call.result, call.bytes, call.pointer), (2, 1_048_576, 0), "out of memory");
        assert_ne!(call.stack, 0);
    }
    let process = watch.process(workload.pid).expect("it called");
    assert_eq!(process.allocations.iter().map(|row| row.failed).sum::<u64>(), failed);
    workload.end();
}

#[test]
fn the_first_call_tells_who_it_is() {
    let _turn = turn_beside();
    let node = Node::new();
    let mut watch = Watch::new();
    let mut workload = node.start("launches --steps 1 --threads 3");
    watch.follow(&[workload.pid], 1);
    workload.run();
    let seen: Vec<_> = watch
        .records()
        .into_iter()
        .filter_map(|record| match record {
            Record::Seen(seen) => Some(seen),
            _ => None,
        })
        .collect();
    let process = watch.process(workload.pid).expect("it called");
    assert_eq!(seen.len(), 1, "once for all threads");
    assert_eq!((seen[0].tgid, seen[0].cgroup_id), (workload.pid, process.cgroup_id));
    assert_eq!(seen[0].time_ns, process.first_ns);
    assert!(process.threads.iter().filter(|hits| **hits > 0).count() > 1, "{:?}", process.threads);
    workload.end();
}
