//! Ranks of NCCL, as threads and as processes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::node::{Workload, report};

fn id() -> String {
    let output =
        std::process::Command::new(&crate::node::paths().workload).arg("id").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn start(ranks: usize, line: &str) -> Vec<Workload> {
    let id = id();
    let start = |rank| Workload::start(&format!("{line} --ranks {ranks} --rank {rank} --id {id}"));
    (0..ranks).map(start).collect()
}

#[test]
fn every_collective_is_counted_and_launches_a_kernel() {
    let report = report("collectives --ranks 3 --steps 5 --allreduce 4096");
    assert_eq!(report["failure"], Value::Null);
    let communicators = report["communicators"].as_array().unwrap();
    assert_eq!(communicators.len(), 3);
    for communicator in communicators {
        assert_eq!(
            (&communicator["ranks"], &communicator["end"]),
            (&json!(3), &json!("destroyed"))
        );
        for (kind, row) in communicator["collectives"].as_object().unwrap() {
            // Two functions broadcast.
            let times = if kind == "broadcast" { 10 } else { 5 };
            assert_eq!(row, &json!({ "count": times, "bytes": times * 4096 }), "{kind}");
        }
    }
    let driver = &report["driver"];
    // Seven by themselves, and a group of two.
    assert_eq!(driver["launches"], 3 * 5 * 8);
    assert_eq!(driver["allocations"]["physical"]["count"], 3, "buffers");
    assert_eq!(driver["outstanding"], 0);
}

#[test]
fn processes_are_ranks_of_one_communicator() {
    let mut ranks = start(3, "train --steps 20 --launches 2 --allreduce 1024");
    let reports: Vec<Value> = ranks.iter_mut().map(Workload::report).collect();
    for (rank, report) in reports.iter().enumerate() {
        assert_eq!(report["failure"], Value::Null, "{report:#}");
        let communicator = &report["communicators"][0];
        assert_eq!(communicator["rank"], rank);
        assert_eq!(communicator["id"], reports[0]["communicators"][0]["id"]);
        let all_reduce = json!({ "count": 20, "bytes": 20 * 1024 });
        assert_eq!(communicator["collectives"]["all-reduce"], all_reduce);
        assert_eq!(report["driver"]["launches"], 20 * 3);
    }
}

#[test]
fn one_call_joins_all_ranks() {
    let report = report("train --ranks 3 --at-once --steps 4 --launches 2 --allreduce 1024");
    assert_eq!(report["failure"], Value::Null);
    let communicators = report["communicators"].as_array().unwrap();
    assert_eq!(communicators.len(), 3);
    for communicator in communicators {
        assert_eq!(communicator["collectives"]["all-reduce"], json!({ "count": 4, "bytes": 4096 }));
        assert_eq!(communicator["end"], "destroyed");
    }
    assert_eq!(report["driver"]["launches"], 3 * 4 * 3);
    assert_eq!(report["driver"]["allocations"]["physical"]["count"], 3, "buffers");
    assert_eq!(report["driver"]["outstanding"], 0);
}

#[test]
fn ranks_split_into_parts_that_count_by_themselves() {
    let line = "train --split 2 --steps 3 --launches 1 --allreduce 1024";
    let mut ranks = start(5, line);
    for (rank, workload) in ranks.iter_mut().enumerate() {
        let report = workload.report();
        assert_eq!(report["failure"], Value::Null, "{report:#}");
        let [part, whole] = &report["communicators"].as_array().unwrap()[..] else {
            panic!("{report:#}")
        };
        assert_eq!((&whole["part"], &whole["rank"]), (&Value::Null, &json!(rank)));
        assert_eq!(whole["collectives"]["all-reduce"]["count"], 0);
        // Ranks 4, 2 and 0, and 3 and 1.
        let place = [(0, 2, 3), (1, 1, 2), (0, 1, 3), (1, 0, 2), (0, 0, 3)][rank];
        assert_eq!(
            (&part["part"], &part["rank"], &part["ranks"]),
            (&json!(place.0), &json!(place.1), &json!(place.2))
        );
        let all_reduce = json!({ "count": 3, "bytes": 3 * 1024 });
        assert_eq!(part["collectives"]["all-reduce"], all_reduce);
        assert_eq!(report["driver"]["outstanding"], 0);
    }
}

#[test]
fn all_wait_for_a_rank_that_stops() {
    let line = "train --steps 6 --stop 1:4 --stop-seconds 0.4";
    let mut ranks = start(2, line);
    let reports: Vec<Value> = ranks.iter_mut().map(Workload::report).collect();
    for report in &reports {
        assert_eq!(report["communicators"][0]["collectives"]["all-reduce"]["count"], 6);
    }
    let longest = |rank: usize| {
        Duration::from_nanos(
            reports[rank]["driver"]["waits"]["stream"]["longest_ns"].as_u64().unwrap(),
        )
    };
    assert!(longest(0) > Duration::from_millis(300), "{:?}", longest(0));
    assert!(longest(1) < longest(0), "{:?}", longest(1));
}

#[test]
fn a_rank_that_gives_up_ends_the_others() {
    let mut ranks = start(3, "train --steps 1000 --rate 200 --abort 2:5");
    for (rank, workload) in ranks.iter_mut().enumerate() {
        let report = workload.report();
        assert_eq!(report["failure"], Value::Null);
        let communicator = &report["communicators"][0];
        assert_eq!(communicator["end"], "aborted", "{rank}");
        let count = communicator["collectives"]["all-reduce"]["count"].as_u64().unwrap();
        assert!((5..=7).contains(&count), "{rank}: {count}");
    }
}
