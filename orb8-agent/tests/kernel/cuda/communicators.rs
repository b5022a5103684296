//! NCCL's communicators, ranks that are behind, and communicators that are given up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use orb8_agent::gpu::{
    GpuEvent, GpuEventKind, ProcessActivity,
    activity::{self, CollectiveKind, CommunicatorState},
};
use orb8_standins::ras::{Communicator, Job, Rank, Ras};
use serde_json::Value;

use super::scene::{Scene, Workload, number};

/// What unique ids begin with, as the workload takes them.
const ID: &str = "6f7262382d74657374";
/// Bytes of one.
const ID_BYTES: usize = 128;

/// A rank that stands for so long is told.
const STRAGGLES_AFTER: Duration = Duration::from_secs(10);
/// Between two questions to NCCL.
const ASKED_EVERY: Duration = Duration::from_secs(10);

fn ranks(scene: &mut Scene, count: u32, arguments: &str) -> Vec<Workload> {
    // Of each test its own: tests run beside each other, and ranks find each other by it.
    static JOBS: AtomicU32 = AtomicU32::new(0);
    let job = format!("{ID}{:08x}{:08x}", std::process::id(), JOBS.fetch_add(1, Relaxed));
    let id = format!("{job}{}", "5a".repeat(ID_BYTES - job.len() / 2));
    let start = |rank| {
        scene.start(&format!("{arguments} --ranks {count} --rank {rank} --id {id} --device 0"))
    };
    let mut workloads: Vec<_> = (0..count).map(start).collect();
    scene.go(&mut workloads.iter_mut().collect::<Vec<_>>());
    workloads
}

/// Calls of each kind that there were any of, as a workload tells them of one of its communicators.
fn counted(communicator: &Value) -> BTreeMap<&'static str, u64> {
    let count = |kind: &CollectiveKind| {
        let count = communicator["collectives"][kind.word()]["count"].as_u64();
        (kind.word(), count.unwrap_or(0))
    };
    CollectiveKind::ALL.iter().map(count).filter(|(_, count)| *count > 0).collect()
}

fn seen(row: &activity::Communicator) -> BTreeMap<&'static str, u64> {
    row.collectives.iter().map(|row| (row.kind.word(), row.count)).collect()
}

/// Whether each communicator has ended, and was counted as a workload tells it by rank.
fn is_told(activity: &ProcessActivity, report: &Value) -> bool {
    let told = report["communicators"].as_array().expect("communicators");
    let rows = &activity.communicators;
    rows.len() == told.len()
        && told.iter().all(|told| {
            let place = [&told["rank"], &told["ranks"]].map(|it| Some(number(it) as u32));
            rows.iter().any(|row| {
                [row.rank, row.ranks] == place
                    && row.state == CommunicatorState::Destroyed
                    && seen(row) == counted(told)
            })
        })
}

#[test]
fn collectives_are_counted_by_communicator() {
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let mut workloads = ranks(&mut scene, 2, "collectives --steps 15 --allreduce 4096");
    let reports: Vec<Value> = workloads.iter_mut().map(Workload::report).collect();
    for (workload, report) in workloads.iter().zip(&reports) {
        assert_eq!(report["failure"], Value::Null, "{report}");
        scene.settle(workload, |activity| is_told(activity, report));
    }
    let mut hashes = Vec::new();
    for (rank, (workload, report)) in workloads.iter().zip(&reports).enumerate() {
        let [row] = &scene.activity(workload).communicators[..] else {
            panic!("{:#?}", scene.activity(workload))
        };
        assert_eq!((row.rank, row.ranks), (Some(rank as u32), Some(2)));
        assert_eq!(row.state, CommunicatorState::Destroyed);
        assert_eq!(seen(row), counted(&report["communicators"][0]));
        let all_reduce = row.collectives.iter().find(|row| row.kind == CollectiveKind::AllReduce);
        assert_eq!(all_reduce.and_then(|row| row.bytes), Some(15 * 4_096));
        hashes.push(row.hash);
        let told = scene.events_of(workload);
        let calls = told.iter().filter_map(|kind| match kind {
            GpuEventKind::Collectives { calls, communicator, .. } if *communicator == row.hash => {
                Some(*calls)
            }
            _ => None,
        });
        let all: u64 = row.collectives.iter().map(|row| row.count).sum();
        assert_eq!(calls.sum::<u64>(), all, "{told:?}");
        assert!(
            told.iter().any(|kind| matches!(kind, GpuEventKind::CommunicatorInit { ranks: 2, .. }))
        );
    }
    assert!(hashes[0] != 0 && hashes[0] == hashes[1], "{hashes:?}");
}

#[test]
fn a_rank_that_stops_is_told_once() {
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let workloads = ranks(&mut scene, 2, "train --seconds 60 --rate 20 --stop 1:20");
    scene.until("lag", |scene| {
        let rows = scene.last.activity.iter().flat_map(|row| &row.communicators);
        let mut stopped = rows.filter(|row| row.rank == Some(1) && row.slowest_rank == Some(1));
        stopped.any(|row| row.collectives.iter().any(|row| row.count >= 20))
    });
    scene.ahead += STRAGGLES_AFTER;
    let is_straggler = |event: &&GpuEvent| matches!(event.kind, GpuEventKind::Straggler { .. });
    scene.until("straggler", |scene| scene.events.iter().any(|event| is_straggler(&event)));
    scene.watch_for(Duration::from_secs(1), |_| {});
    let stragglers: Vec<_> = scene.events.iter().filter(is_straggler).collect();
    let [event] = stragglers[..] else { panic!("{stragglers:#?}") };
    assert!(
        matches!(
            event.kind,
            GpuEventKind::Straggler { rank: 1, behind: 1.., is_missing: false, .. }
        ),
        "{event:?}"
    );
    assert_eq!(event.process.as_ref().map(|process| process.pid), Some(workloads[1].pid));
    let row = &scene.activity(&workloads[0]).communicators[0];
    assert_eq!((row.slowest_rank, row.state), (Some(1), CommunicatorState::Ready));
    assert!(row.behind.is_some_and(|behind| behind > 0));
}

#[test]
fn a_communicator_that_is_given_up_is_told() {
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let workloads = ranks(&mut scene, 2, "train --seconds 20 --rate 20 --abort 0:20");
    scene.until("abort", |scene| {
        scene
            .events
            .iter()
            .any(|event| matches!(event.kind, GpuEventKind::CommunicatorAbort { .. }))
    });
    let told = scene.events_of(&workloads[0]);
    let hash = scene.activity(&workloads[0]).communicators[0].hash;
    let abort = GpuEventKind::CommunicatorAbort { communicator: hash, rank: Some(0) };
    assert!(told.contains(&&abort), "{told:?}");
    assert_eq!(scene.activity(&workloads[0]).communicators[0].state, CommunicatorState::Aborted);
}

#[test]
fn one_process_may_have_all_ranks() {
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let mut workload = scene.run("train --steps 20 --ranks 4 --devices 4");
    let report = workload.report();
    let rows = &scene.settle(&workload, |activity| is_told(activity, &report)).communicators;
    let mut ranks: Vec<_> = rows.iter().filter_map(|row| row.rank).collect();
    ranks.sort_unstable();
    assert_eq!(ranks, [0, 1, 2, 3], "{rows:#?}");
    for row in rows {
        let told = report["communicators"].as_array().expect("communicators").iter();
        let mut told = told.filter(|told| number(&told["rank"]) as u32 == row.rank.unwrap());
        assert_eq!(seen(row), counted(told.next().expect("the rank")));
    }
}

/// Of what it was split into, a process knows its own colour and key alone.
#[test]
fn parts_are_told_with_their_ranks() {
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let mut workloads = ranks(&mut scene, 3, "train --split 2 --steps 10 --allreduce 4096");
    assert_parts(&mut scene, &mut workloads);
}

#[test]
fn parts_of_one_process_are_told_with_their_ranks() {
    let mut scene = Scene::new(|config| config.trace_budget = 10.0);
    let workload = scene.run("train --split 2 --steps 10 --ranks 3 --devices 3");
    assert_parts(&mut scene, &mut [workload]);
}

/// Asserts that a communicator of three ranks, and the two parts that they split it into, are told as the
/// workloads tell them.
fn assert_parts(scene: &mut Scene, workloads: &mut [Workload]) {
    let reports = Vec::from_iter(workloads.iter_mut().map(Workload::report));
    let mut hashes = BTreeMap::<_, BTreeSet<u64>>::new();
    for (workload, report) in workloads.iter().zip(&reports) {
        assert_eq!(report["failure"], Value::Null, "{report}");
        scene.settle(workload, |activity| is_told(activity, report));
        let (rows, events) = (&scene.activity(workload).communicators, scene.events_of(workload));
        for told in report["communicators"].as_array().expect("communicators") {
            let place = (number(&told["rank"]) as u32, number(&told["ranks"]) as u32);
            let is_it = |row: &&activity::Communicator| {
                (row.rank, row.ranks) == (Some(place.0), Some(place.1))
                    && seen(row) == counted(told)
            };
            let row = rows.iter().find(is_it).unwrap_or_else(|| panic!("{told}: {rows:#?}"));
            hashes.entry(told["part"].as_u64()).or_default().insert(row.hash);
            let is_its = |kind: &&&GpuEventKind| {
                matches!(kind, GpuEventKind::CommunicatorInit { communicator, rank, ranks, .. }
                    if (*communicator, *rank, *ranks) == (row.hash, place.0, place.1))
            };
            assert_eq!(events.iter().filter(is_its).count(), 1, "{row:?}: {events:?}");
        }
    }
    // The whole and both parts are one each to all of their processes.
    assert_eq!(Vec::from_iter(hashes.keys().copied()), [None, Some(0), Some(1)]);
    assert!(hashes.values().all(|of| of.len() == 1 && !of.contains(&0)), "{hashes:?}");
    let different: BTreeSet<&u64> = hashes.values().flatten().collect();
    assert_eq!(different.len(), 3, "{hashes:?}");
}

#[test]
fn nccls_own_account_wins_where_there_is_one() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _runtime = runtime.enter();
    let server = Ras::start(Job::default()).expect("a server");
    let mut scene = Scene::new(|config| {
        (config.trace_budget, config.ras_port) = (10.0, server.port());
    });
    let workloads: [Workload; 2] =
        ranks(&mut scene, 2, "train --seconds 100 --rate 20").try_into().ok().expect("two");
    let rows = |scene: &Scene| {
        workloads.each_ref().map(|workload| {
            let rows = scene.last.activity.iter();
            let mut rows = rows.filter(|row| row.process.pid == workload.pid);
            rows.next().and_then(|row| row.communicators.first().cloned())
        })
    };
    scene.until("communicators", |scene| {
        rows(scene)
            .iter()
            .all(|row| row.as_ref().is_some_and(|row| row.state == CommunicatorState::Ready))
    });
    let [Some(first), _] = rows(&scene) else { panic!() };
    assert!(!first.is_from_ras);
    let rank = |rank: u32| Rank {
        rank,
        pid: workloads[rank as usize].pid,
        counts: vec![("AllReduce".into(), 50_000)],
        ..Rank::default()
    };
    let job = |ranks: Vec<Rank>, missing: Vec<u32>| Job {
        communicators: vec![Communicator { hash: first.hash, ranks, missing }],
        ..Job::default()
    };
    server.set(job(vec![rank(0), rank(1)], Vec::new()));
    scene.ahead += ASKED_EVERY;
    scene.until("account", |scene| rows(scene).iter().flatten().all(|row| row.is_from_ras));
    for row in rows(&scene).into_iter().flatten() {
        assert_eq!(row.hash, first.hash, "NCCL's own number is the one that is computed");
        let all_reduce = &row.collectives[0];
        assert_eq!((all_reduce.kind, all_reduce.count), (CollectiveKind::AllReduce, 50_000));
        assert_eq!(all_reduce.bytes, None, "of calls that were not seen");
    }
    server.set(job(vec![rank(0)], vec![1]));
    scene.ahead += ASKED_EVERY;
    let straggler = |scene: &Scene| {
        scene.events.iter().find_map(|event| match event.kind {
            // By the clock that is ahead, each rank stands.
            GpuEventKind::Straggler { rank, is_missing: true, communicator, .. } => {
                Some((communicator, rank))
            }
            _ => None,
        })
    };
    scene.until("straggler", |scene| straggler(scene).is_some());
    assert_eq!(straggler(&scene), Some((first.hash, 1)));
}
