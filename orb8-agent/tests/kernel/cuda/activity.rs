//! Calls of every kind, by every layer.

use std::time::Duration;

use orb8_agent::gpu::{GpuEventKind, ProcessActivity, event::AllocationKind};
use serde_json::Value;

use super::scene::{Scene, number};
use crate::kernel::support::slack;

/// Compares what was seen with what the driver's stand-in counted.
fn compare(activity: &ProcessActivity, driver: &Value) {
    assert_eq!(activity.launches.count, number(&driver["launches"]));
    assert!(!activity.launches.is_sampled);
    assert_eq!(activity.graph_launches.count, number(&driver["graph_launches"]));
    let memory = &activity.memory;
    for kind in AllocationKind::ALL {
        let row = memory.allocated.iter().find(|row| row.kind == kind);
        let seen =
            row.map_or([0; 4], |row| [row.count, row.bytes, row.freed_count, row.freed_bytes]);
        let row = &driver["allocations"][kind.word()];
        let counted =
            ["count", "bytes", "freed_count", "freed_bytes"].map(|name| number(&row[name]));
        assert_eq!(seen, counted, "{}: {driver}", kind.word());
    }
    assert_eq!(memory.outstanding, number(&driver["outstanding"]));
    assert_eq!(memory.outstanding_pinned, number(&driver["outstanding_pinned"]));
    assert_eq!(memory.failed, number(&driver["failed_allocations"]));
    let sites: u64 = memory.sites.iter().map(|site| site.outstanding).sum();
    assert_eq!(sites + memory.other_sites, memory.outstanding + memory.outstanding_pinned);
    for (name, row) in driver["copies"].as_object().expect("copies") {
        let seen = activity.copies.iter().find(|seen| seen.kind.word() == name);
        let seen = seen.map_or([0; 2], |seen| [seen.count, seen.bytes]);
        assert_eq!(seen, ["count", "bytes"].map(|key| number(&row[key])), "{name}");
    }
    for (name, row) in driver["waits"].as_object().expect("waits") {
        let seen = activity.waits.iter().find(|seen| seen.kind.word() == name);
        let calls = seen.map(|seen| seen.calls).unwrap_or_default();
        assert_eq!(calls.count, number(&row["count"]), "{name}");
        let counted = Duration::from_nanos(number(&row["ns"]));
        assert!(calls.time >= counted.mul_f64(0.5), "{name}: {:?} of {counted:?}", calls.time);
        assert!(calls.longest <= calls.time);
    }
    assert_eq!(activity.modules.count, number(&driver["modules"]["count"]));
}

fn every(layer: &str) {
    // However slow the machine is, all of it is watched.
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let mut workload = scene.run(&format!("every --steps 20 --keep --layer {layer}"));
    let report = workload.report();
    assert_eq!(report["failure"], Value::Null, "{report}");
    scene.settle();
    compare(scene.activity(&workload), &report["driver"]);
    assert_eq!(scene.last.watching.lost, 0);
    assert!(scene.slowest < slack(Duration::from_millis(50)), "{:?}", scene.slowest);
    let coverage = &scene.activity(&workload).coverage;
    assert!(coverage.libraries.iter().any(|name| &**name == "libcuda.so.1"), "{coverage:?}");
    assert_eq!(coverage.sampled, []);
    let cost = scene.last.watching.cost.expect("the cost");
    assert!((0.0..1.0).contains(&cost), "{cost}");
}

#[test]
fn the_drivers_calls_are_counted() {
    every("driver");
}

#[test]
fn calls_with_a_stream_of_each_thread_are_counted() {
    every("per-thread");
}

#[test]
fn calls_through_the_runtime_are_counted_once() {
    every("runtime");
}

#[test]
fn several_threads_are_one_process() {
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let mut workload = scene.run("train --steps 40 --threads 4 --keep");
    let report = workload.report();
    scene.settle();
    compare(scene.activity(&workload), &report["driver"]);
}

#[test]
fn a_process_that_ended_is_told_as_it_was() {
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let mut workload = scene.run("train --steps 10");
    let report = workload.report();
    workload.end();
    scene.settle();
    compare(scene.activity(&workload), &report["driver"]);
    let launches = number(&report["driver"]["launches"]);
    scene.settle();
    let activity = scene.activity(&workload);
    assert_eq!((activity.launches.count, activity.launches.rate), (launches, 0.0));
    let told = scene.events_of(&workload);
    let launches = told.iter().filter(|kind| matches!(kind, GpuEventKind::Launches { .. })).count();
    assert!((1..=3).contains(&launches), "{told:?}");
}

#[test]
fn a_module_that_is_compiled_is_told_with_its_time() {
    let mut scene = Scene::new(|_| {});
    let mut workload = scene.run("load --steps 2 --jit-ms 60");
    workload.report();
    scene.settle();
    let told = scene.events_of(&workload);
    let took = told.iter().filter_map(|kind| match kind {
        GpuEventKind::ModuleLoaded { took } => Some(*took),
        _ => None,
    });
    let took: Vec<_> = took.collect();
    assert!(!took.is_empty(), "{told:?}");
    assert!(took.iter().all(|took| *took >= Duration::from_millis(50)), "{took:?}");
}
