//! Calls of every kind, by every layer.

use std::{collections::BTreeMap, time::Duration};

use orb8_agent::gpu::{GpuEventKind, ProcessActivity, activity::Calls};
use serde_json::Value;

use super::scene::{Scene, Workload, number};
use crate::kernel::support::slack;

/// What is counted, by kind.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    launches: [u64; 2],
    /// Allocations and their bytes, and the same of what was given back.
    memory: BTreeMap<String, [u64; 4]>,
    outstanding: [u64; 2],
    failed: u64,
    copies: BTreeMap<String, [u64; 2]>,
    waits: BTreeMap<String, u64>,
    modules: u64,
}

impl Figures {
    fn seen(activity: &ProcessActivity) -> Self {
        let ProcessActivity { memory, copies, waits, .. } = activity;
        let allocated = memory.allocated.iter().map(|row| {
            let row_ = [row.count, row.bytes, row.freed_count, row.freed_bytes];
            (row.kind.word().to_owned(), row_)
        });
        Self {
            launches: [activity.launches.count, activity.graph_launches.count],
            memory: allocated.collect(),
            outstanding: [memory.outstanding, memory.outstanding_pinned],
            failed: memory.failed,
            copies: copies
                .iter()
                .map(|row| (row.kind.word().into(), [row.count, row.bytes]))
                .collect(),
            waits: waits.iter().map(|row| (row.kind.word().into(), row.calls.count)).collect(),
            modules: activity.modules.count,
        }
    }

    /// What the driver's stand-in counted.
    fn counted(driver: &Value) -> Self {
        let at = |name: &str| number(&driver[name]);
        Self {
            launches: [at("launches"), at("graph_launches")],
            memory: rows(&driver["allocations"], ["count", "bytes", "freed_count", "freed_bytes"]),
            outstanding: [at("outstanding"), at("outstanding_pinned")],
            failed: at("failed_allocations"),
            copies: rows(&driver["copies"], ["count", "bytes"]),
            waits: rows(&driver["waits"], ["count"])
                .into_iter()
                .map(|(kind, [count])| (kind, count))
                .collect(),
            modules: number(&driver["modules"]["count"]),
        }
    }
}

/// The rows of what there was any of.
fn rows<const N: usize>(rows: &Value, names: [&str; N]) -> BTreeMap<String, [u64; N]> {
    let rows = rows.as_object().expect("rows by kind").iter();
    let rows = rows.map(|(kind, row)| (kind.clone(), names.map(|name| number(&row[name]))));
    rows.filter(|(_, row)| row[0] > 0).collect()
}

/// Compares what is seen with what the driver's stand-in counted, once it was looked at.
fn compare(scene: &mut Scene, workload: &Workload, driver: &Value) {
    let counted = Figures::counted(driver);
    let activity = scene.settle(workload, |activity| Figures::seen(activity) == counted);
    assert_eq!(Figures::seen(activity), counted, "{driver}");
    assert!(!activity.launches.is_sampled);
    let memory = &activity.memory;
    let sites: u64 = memory.sites.iter().map(|site| site.outstanding).sum();
    assert_eq!(sites + memory.other_sites, memory.outstanding + memory.outstanding_pinned);
    for row in &activity.waits {
        let counted = Duration::from_nanos(number(&driver["waits"][row.kind.word()]["ns"]));
        let Calls { time, longest, .. } = row.calls;
        assert!(time >= counted.mul_f64(0.5), "{:?}: {time:?} of {counted:?}", row.kind);
        assert!(longest <= time);
    }
}

fn every(layer: &str) {
    // However slow the machine is, all of it is watched.
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let mut workload = scene.run(&format!("every --steps 20 --keep --layer {layer}"));
    let report = workload.report();
    assert_eq!(report["failure"], Value::Null, "{report}");
    compare(&mut scene, &workload, &report["driver"]);
    assert_eq!(scene.last.watching.lost, 0);
    assert!(scene.slowest < slack(Duration::from_millis(300)), "{:?}", scene.slowest);
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
    compare(&mut scene, &workload, &report["driver"]);
}

#[test]
fn a_process_that_ended_is_told_as_it_was() {
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let mut workload = scene.run("train --steps 10");
    let report = workload.report();
    workload.end();
    compare(&mut scene, &workload, &report["driver"]);
    let launches = number(&report["driver"]["launches"]);
    let activity = scene.settle(&workload, |activity| activity.launches.rate == 0.0);
    assert_eq!((activity.launches.count, activity.launches.rate), (launches, 0.0));
    // Each time that it was looked at, while there were any.
    let told = scene.events_of(&workload);
    let rates = told.iter().filter(|kind| matches!(kind, GpuEventKind::Launches { .. })).count();
    assert!((1..=3).contains(&rates), "{told:?}");
}

#[test]
fn a_module_that_is_compiled_is_told_with_its_time() {
    let mut scene = Scene::new(|_| {});
    let mut workload = scene.run("load --steps 2 --jit-ms 60");
    let report = workload.report();
    let modules = number(&report["driver"]["modules"]["count"]);
    scene.settle(&workload, |activity| activity.modules.count == modules);
    let told = scene.events_of(&workload);
    let took = told.iter().filter_map(|kind| match kind {
        GpuEventKind::ModuleLoaded { took } => Some(*took),
        _ => None,
    });
    let took: Vec<_> = took.collect();
    assert!(!took.is_empty(), "{told:?}");
    assert!(took.iter().all(|took| *took >= Duration::from_millis(50)), "{took:?}");
}
