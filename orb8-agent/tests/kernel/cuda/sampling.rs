//! What costs too much is watched in part, and estimated.

use std::time::Duration;

use orb8_agent::gpu::GpuEventKind;

use super::scene::{Scene, number};

/// Runs a workload for some seconds. Returns launches that it made and those that are told, the part of the time
/// in which they were watched, and what watching cost over time.
fn run(seconds: u64, arguments: &str) -> (f64, f64, f64, Vec<f64>) {
    let mut scene = Scene::alone(|config| config.trace_budget = 0.01);
    let arguments = format!("launches --seconds {seconds} --kernel-us 0 {arguments}");
    let mut workload = scene.run(&arguments);
    let mut costs = Vec::new();
    let nearly = Duration::from_secs(seconds - 1);
    scene.watch_for(nearly, |scene| costs.extend(scene.last.watching.cost));
    let report = workload.report();
    // At once: what is estimated goes on until a window shows that there are none any more.
    scene.collect();
    let launches = scene.activity(&workload).launches;
    let part = scene.events.iter().find_map(|event| match event.kind {
        GpuEventKind::Sampling { began: true, what: "launches", part } => Some(part),
        _ => None,
    });
    let counted = number(&report["driver"]["launches"]) as f64;
    assert!(launches.is_sampled, "{counted}: {launches:?}");
    (counted, launches.count as f64, part.expect("sampling"), costs)
}

#[test]
fn launches_over_the_budget_are_estimated() {
    // At half a microsecond each, twice the budget and more.
    let (counted, told, part, costs) = run(12, "--rate 600 --launches 100");
    eprintln!("{counted} launches, told {told}, watched {part}: {costs:.4?}");
    assert!((told - counted).abs() < counted * 0.15, "{told} of {counted}");
    assert!(part < 0.9, "{part}");
}

#[test]
fn a_loop_of_launches_is_not_held_up() {
    let (counted, told, part, costs) = run(10, "--launches 100");
    eprintln!("{counted} launches, told {told}, watched {part}: {costs:.4?}");
    // A launch takes a tenth of a microsecond here, which no real one does, and a probe several times
    // that: how fast the loop is without probes can hardly be told from a window.
    assert!(told > counted / 20.0 && told < counted * 3.0, "{told} of {counted}");
    let later = &costs[6..];
    let mean = later.iter().sum::<f64>() / later.len() as f64;
    // 1 % is the budget, and all the time would be 90 %. Of a few windows of 25 ms, one more or less in
    // the time that is looked at is half of that.
    assert!(mean < 0.03, "{mean}: {costs:?}");
}

/// At the first instructions of its functions, a probe costs twenty times as much.
#[test]
fn a_foreign_drivers_calls_are_tried_before_they_are_watched() {
    let mut scene = Scene::alone(|config| config.trace_budget = 0.1);
    scene.use_foreign_driver();
    let mut workload = scene.run("launches --seconds 10 --rate 200 --launches 1");
    let report = workload.report();
    scene.settle(&workload, |activity| activity.launches.rate == 0.0);
    let tried = scene.events.iter().any(|event| {
        matches!(event.kind, GpuEventKind::Sampling { began: true, what: "launches", part } if part < 0.1)
    });
    assert!(tried, "{:#?}", scene.events);
    let ended = scene.events.iter().any(|event| {
        matches!(event.kind, GpuEventKind::Sampling { began: false, what: "launches", .. })
    });
    assert!(ended, "they are cheap enough: {:#?}", scene.last.watching);
    assert!(scene.last.watching.expensive > 0, "{:#?}", scene.last.watching);
    let (counted, told) =
        (number(&report["driver"]["launches"]), scene.activity(&workload).launches.count);
    eprintln!("{counted} launches, told {told}");
    assert!(told.abs_diff(counted) < counted * 2 / 5, "{told} of {counted}");
    assert_eq!(scene.activity(&workload).coverage.sampled, []);
}
