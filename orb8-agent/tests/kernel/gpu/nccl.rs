//! NCCL's calls, by communicator.

use std::collections::HashMap;

use orb8_common::gpu::{
    CALL_ABORTED, CALL_DESTROYED, CALL_JOINED, CALL_JOINING, CommunicatorCall, Counter, Record,
    communicator_hash,
};
use serde_json::Value;

use super::{Node, Watch, turn_beside};

const KINDS: [&str; 8] = [
    "all-reduce",
    "reduce-scatter",
    "all-gather",
    "all-to-all",
    "broadcast",
    "reduce",
    "send",
    "recv",
];

fn communicators(records: &[Record]) -> Vec<CommunicatorCall> {
    let of = |record: &Record| match record {
        Record::Communicator(call) => Some(*call),
        _ => None,
    };
    records.iter().filter_map(of).collect()
}

/// The hash of an id that is written as hexadecimal digits.
fn hash(id: &Value) -> u64 {
    let digits = id.as_str().expect("an id");
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits");
    let bytes: Vec<u8> = (0..256).step_by(2).map(byte).collect();
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    }
    communicator_hash(&words, cfg!(target_arch = "x86_64"))
}

#[test]
fn collectives_are_counted_by_communicator() {
    let _turn = turn_beside();
    let node = Node::new();
    let mut watch = Watch::new();
    let mut workload = node.start("collectives --steps 7 --ranks 3");
    watch.follow(&[workload.pid], 2);
    let report = workload.run();
    let counted = watch.collectives(workload.pid);
    let calls = communicators(&watch.records());
    let of = |what| calls.iter().filter(move |call| call.what == what);
    assert_eq!(of(CALL_JOINING).count(), 3);
    assert_eq!(of(CALL_DESTROYED).count(), 3);
    let joined: HashMap<u32, &CommunicatorCall> =
        of(CALL_JOINED).map(|call| (call.rank, call)).collect();
    let rows = report["communicators"].as_array().expect("rows");
    assert_eq!((rows.len(), joined.len()), (3, 3));
    for row in rows {
        let rank = row["rank"].as_u64().and_then(|rank| rank.try_into().ok()).expect("a rank");
        let call = joined[&rank];
        assert_eq!((call.hash, call.ranks, call.result), (hash(&row["id"]), 3, 0));
        assert!(call.took_ns > 0 && call.communicator != 0);
        for (kind, name) in (0..).zip(KINDS) {
            let counted = counted.get(&(call.communicator, kind)).copied().unwrap_or_default();
            let number = |value: &Value| value.as_u64().expect("a number");
            let expected = &row["collectives"][name];
            let expected = (number(&expected["count"]), number(&expected["bytes"]));
            assert_eq!((counted.count, counted.bytes), expected, "{name} of {rank}");
            assert_eq!(counted.unsized_count, 0);
            assert!(counted.count == 0 || counted.last_ns > call.time_ns);
        }
    }
    // `ncclBcast` calls `ncclBroadcast`.
    assert!(watch.counter(Counter::Nested) > 0);
    workload.end();
}

#[test]
fn ranks_that_one_call_joins_are_told_each() {
    let _turn = turn_beside();
    let node = Node::new();
    let mut watch = Watch::new();
    let mut workload = node.start("train --steps 5 --ranks 3 --at-once --allreduce 4096");
    watch.follow(&[workload.pid], 2);
    workload.run();
    let counted = watch.collectives(workload.pid);
    let calls = communicators(&watch.records());
    let of = |what| calls.iter().filter(move |call| call.what == what);
    let joined: HashMap<u32, &CommunicatorCall> =
        of(CALL_JOINED).map(|call| (call.rank, call)).collect();
    assert_eq!((joined.len(), of(CALL_DESTROYED).count()), (3, 3));
    for call in joined.values() {
        assert_eq!((call.ranks, call.result, call.hash), (3, 0, joined[&0].hash));
        let sums = counted[&(call.communicator, 0)];
        assert_eq!((sums.count, sums.bytes), (5, 5 * 4096));
    }
    workload.end();
}

#[test]
fn what_nccl_asks_of_the_driver_counts_there() {
    let _turn = turn_beside();
    let node = Node::new();
    let mut watch = Watch::new();
    let mut workload = node.start("collectives --steps 2 --ranks 2");
    watch.follow(&[workload.pid], 2);
    let report = workload.run();
    let process = watch.process(workload.pid).expect("it called");
    let launches = report["driver"]["launches"].as_u64().expect("a number");
    assert!(launches > 0);
    assert_eq!(process.launches, launches);
    let physical = &report["driver"]["allocations"]["physical"]["bytes"];
    assert_eq!(Some(process.allocations[2].bytes), physical.as_u64());
    workload.end();
}

#[test]
fn a_communicator_that_is_given_up_is_told() {
    let _turn = turn_beside();
    let node = Node::new();
    let mut watch = Watch::new();
    let mut workload = node.start("collectives --steps 3 --ranks 2 --abort 1:2");
    watch.follow(&[workload.pid], 2);
    workload.run();
    let calls = communicators(&watch.records());
    let aborted: Vec<_> = calls.iter().filter(|call| call.what == CALL_ABORTED).collect();
    assert!(!aborted.is_empty());
    for call in aborted {
        let began = |other: &&CommunicatorCall| {
            other.what == CALL_JOINED && other.communicator == call.communicator
        };
        assert!(calls.iter().any(|other| began(&other)), "{call:?}");
    }
    workload.end();
}
