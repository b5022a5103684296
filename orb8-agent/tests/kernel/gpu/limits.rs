//! What happens when there is no room, and when probes come and go.

use std::time::{Duration, Instant};

use orb8_agent::cost::page_size;
use orb8_agent::ebpf::{GpuOptions, ProbeCosts};
use orb8_agent::gpu::cuda::Group;
use orb8_common::gpu::{CALL_MODULE, Counter, Process, Record};

use super::{Node, Watch, turn_beside};
use crate::kernel::support::{eventually, turn};

#[test]
fn what_the_ring_has_no_room_for_is_counted() {
    let _turn = turn_beside();
    let node = Node::new();
    let ring_size = u32::try_from(page_size()).expect("a page").max(4096);
    let mut watch = Watch::with(&GpuOptions { ring_size, links_many: true });
    let mut workload = node.start("churn --steps 200");
    watch.follow(&[workload.pid], 1);
    let report = workload.run();
    let process = watch.process(workload.pid).expect("it called");
    let calls: u64 = process.allocations.iter().map(|row| row.count + row.freed).sum();
    let expected = report["driver"]["allocations"].as_object().expect("rows").values();
    let expected: u64 = expected
        .flat_map(|row| [row["count"].as_u64(), row["freed_count"].as_u64()])
        .map(|count| count.expect("a number"))
        .sum();
    assert_eq!(calls, expected, "counted all the same");
    // A module that took long has a record too.
    let of_memory =
        |record: &Record| matches!(record, Record::Call(call) if call.what != CALL_MODULE);
    let told = watch.records().iter().filter(|record| of_memory(record)).count();
    assert_eq!(process.lost + told as u64, calls);
    assert!(process.lost > 0);
    assert!(watch.counter(Counter::Lost) >= process.lost);
    workload.end();
}

#[test]
fn a_group_is_taken_out_and_put_in_while_a_program_runs() {
    let _turn = turn_beside();
    let node = Node::new();
    let mut watch = Watch::new();
    // As long as it takes: it is killed in the end.
    let mut workload = node.start("every --seconds 600 --rate 200");
    watch.follow(&[workload.pid], 1);
    let pid = workload.pid;
    workload.begin();
    let begun = eventually("a launch", || watch.process(pid).filter(|sums| sums.launches > 0));
    let began = Instant::now();
    watch.attachments.set(Group::Launches, false);
    eprintln!("a group goes in {:?}", began.elapsed());
    let before = watch.process(pid).expect("it calls");
    assert!(before.launches >= begun.launches);
    // Many times what it copies between two launches.
    let copies = |sums: &Process| sums.copies.iter().map(|row| row.count).sum::<u64>();
    let after = eventually("the others go on", || {
        watch.process(pid).filter(|sums| copies(sums) > copies(&before) + 500)
    });
    assert_eq!(after.launches, before.launches);
    watch.attachments.set(Group::Launches, true);
    watch.attachments.set(Group::Waits, false);
    let without = watch.process(pid).expect("it calls");
    watch.attachments.set(Group::Waits, true);
    eventually("both are back", || {
        let waits = |sums: &Process| sums.waits[0].count;
        let is_back =
            |sums: &Process| sums.launches > after.launches && waits(sums) > waits(&without);
        watch.process(pid).filter(is_back)
    });
    // Whatever was on its way then, nothing is taken for a part of it.
    assert_eq!(watch.counter(Counter::Nested), 0);
}

#[test]
fn a_program_that_is_killed_within_a_call_leaves_nothing() {
    let _turn = turn_beside();
    let node = Node::new();
    let mut watch = Watch::new();
    let mut workload = node.start("train --seconds 600 --kernel-us 600000000");
    watch.follow(&[workload.pid], 1);
    let pid = workload.pid;
    workload.begin();
    eventually("a launch", || watch.process(pid).filter(|sums| sums.launches > 0));
    // Then it waits for what it launched.
    std::thread::sleep(Duration::from_secs(1));
    drop(workload);
    watch.attachments.follow(&[pid], watch.now);
    assert_eq!(watch.sums.forget(pid).expect("removed"), 1, "a call that did not return");
    assert_eq!(watch.sums.forget(pid).expect("nothing to remove"), 0);
    assert!(watch.process(pid).is_none());
}

#[test]
fn what_the_programs_take_is_told_by_program() {
    let _turn = turn_beside();
    let node = Node::new();
    let mut watch = Watch::new();
    let workload = node.start("launches --steps 1");
    watch.follow(&[workload.pid], 1);
    let programs = watch.attachments.run_times();
    let has = |name: &str| programs.iter().filter(|program| &*program.name == name).count() == 1;
    assert!(has("gpu_any") || has("gpu_launch"), "{programs:?}");
    assert!(has("gpu_returned"), "{programs:?}");
}

#[test]
fn what_a_probe_costs_is_measured() {
    let _turn = turn();
    let watch = Watch::new();
    let costs = *watch.attachments.costs();
    assert_eq!(watch.attachments.problems(), Vec::<String>::new(), "not assumed");
    assert_ne!(costs, ProbeCosts::default());
    assert!(costs.cheap > Duration::from_nanos(20), "{costs:?}");
    assert!(costs.cheap < Duration::from_micros(100), "{costs:?}");
    assert!(costs.stepped > costs.cheap, "{costs:?}");
    eprintln!("{costs:?}");
}
