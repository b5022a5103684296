//! Memory that is lost, and memory that there is not.

use std::time::Duration;

use orb8_agent::gpu::GpuEventKind;

use super::scene::{Scene, number};

#[test]
fn a_leak_is_told_with_its_place() {
    let mut scene = Scene::new(|config| config.leak_window = Duration::from_secs(1));
    let workload = scene.run("leak --seconds 60 --rate 10 --bytes 1048576");
    scene.until("leak", |scene| {
        let row = scene.last.activity.iter().find(|row| row.process.pid == workload.pid);
        row.and_then(|row| row.memory.leak.as_ref()?.site.as_ref())
            .is_some_and(|site| site.frames.iter().any(|frame| frame.contains("clone_tensor")))
    });
    let leak = scene.activity(&workload).memory.leak.clone().expect("a leak");
    let growth = 10.0 * 1_048_576.0;
    assert!((leak.growth - growth).abs() < growth * 0.3, "{leak:?}");
    assert!(leak.windows >= 5 && leak.window == Duration::from_secs(1), "{leak:?}");
    let frames = leak.site.expect("its place").frames;
    let at = |name: &str| frames.iter().position(|frame| frame.contains(name));
    let (inner, outer) = (at("clone_tensor"), at("remember_batch"));
    assert!(inner.is_some() && inner < outer, "innermost first: {frames:#?}");
    assert!(
        frames.iter().all(|frame| frame.contains("(gpu-workload)") || frame.contains("(lib")),
        "{frames:#?}"
    );
    let told = scene.events_of(&workload);
    let leaks = told.iter().filter(|kind| matches!(kind, GpuEventKind::Leak { .. })).count();
    assert_eq!(leaks, 1, "once");
    assert!(
        told.iter().any(|kind| matches!(kind, GpuEventKind::Allocated { bytes: 1_048_576, .. }))
    );
}

#[test]
fn steady_work_is_no_leak() {
    // Twice as many windows as a leak takes.
    let mut scene = Scene::new(|config| config.leak_window = Duration::from_millis(500));
    let workload = scene.run("churn --seconds 60 --rate 20 --bytes 33554432");
    scene.watch_for(Duration::from_secs(6), |scene| {
        let rows = scene.last.activity.iter();
        let mut rows = rows.filter(|row| row.process.pid == workload.pid);
        assert!(rows.all(|row| row.memory.leak.is_none()), "{:#?}", scene.last);
    });
    assert!(scene.activity(&workload).memory.allocated.iter().any(|row| row.freed_count > 50));
}

#[test]
fn memory_that_there_is_not_is_told() {
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let mut workload = scene.run("fill --memory-mib 512 --bytes 67108864 --steps 100 --keep");
    let report = workload.report();
    let outstanding = number(&report["driver"]["outstanding"]);
    let failed = number(&report["driver"]["failed_allocations"]);
    let memory = &scene
        .settle(&workload, |activity| {
            (activity.memory.outstanding, activity.memory.failed) == (outstanding, failed)
        })
        .memory;
    assert_eq!((memory.outstanding, memory.failed), (outstanding, failed));
    assert!(failed > 0, "{report}");
    let refused = GpuEventKind::AllocationFailed { bytes: 67_108_864, error: 2 };
    assert!(scene.events_of(&workload).contains(&&refused));
    // Large ones are each told.
    let told = scene.events_of(&workload);
    let large = told.iter().filter(
        |kind| matches!(kind, GpuEventKind::Allocated { bytes, .. } if *bytes >= 67_108_864),
    );
    assert!(large.count() >= 6, "{told:?}");
}
