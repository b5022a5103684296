//! What happens when there is no room, and when probes come and go.

use std::time::{Duration, Instant};

use orb8_agent::cost::page_size;
use orb8_agent::ebpf::GpuOptions;
use orb8_agent::gpu::cuda::Group;
use orb8_common::gpu::{CALL_MODULE, Counter, Record};

use super::{Node, Watch, turn};

#[test]
fn what_the_ring_has_no_room_for_is_counted() {
    let _turn = turn();
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
    let _turn = turn();
    let node = Node::new();
    let mut watch = Watch::new();
    let mut workload = node.start("every --seconds 4 --rate 200");
    watch.follow(&[workload.pid], 1);
    let pid = workload.pid;
    let running = std::thread::spawn(move || (workload.run(), workload));
    let launches = |watch: &mut Watch| watch.process(pid).map_or(0, |process| process.launches);
    let until = Instant::now() + Duration::from_secs(3);
    while launches(&mut watch) == 0 {
        assert!(Instant::now() < until, "no launch is seen");
        std::thread::sleep(Duration::from_millis(10));
    }
    let began = Instant::now();
    watch.attachments.set(Group::Launches, false);
    eprintln!("a group goes in {:?}", began.elapsed());
    let before = watch.process(pid).expect("it calls");
    std::thread::sleep(Duration::from_millis(200));
    let after = watch.process(pid).expect("it calls");
    assert_eq!(after.launches, before.launches);
    assert!(after.copies[0].count > before.copies[0].count, "the others go on");
    watch.attachments.set(Group::Launches, true);
    watch.attachments.set(Group::Waits, false);
    watch.attachments.set(Group::Waits, true);
    std::thread::sleep(Duration::from_millis(200));
    let again = watch.process(pid).expect("it calls");
    assert!(again.launches > after.launches);
    assert!(again.waits[0].count > after.waits[0].count);
    // Whatever was on its way then, nothing is taken for a part of it.
    assert_eq!(watch.counter(Counter::Nested), 0);
    let (_, workload) = running.join().expect("a report");
    workload.end();
}

#[test]
fn a_program_that_is_killed_within_a_call_leaves_nothing() {
    let _turn = turn();
    let node = Node::new();
    let mut watch = Watch::new();
    let workload = node.start("train --seconds 60 --kernel-us 200000");
    watch.follow(&[workload.pid], 1);
    let pid = workload.pid;
    let mut workload = workload;
    workload.begin();
    let until = Instant::now() + Duration::from_secs(10);
    while watch.process(pid).is_none_or(|process| process.launches == 0) {
        assert!(Instant::now() < until, "no launch is seen");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(workload);
    watch.attachments.follow(&[pid], watch.now);
    watch.sums.forget(pid).expect("removed");
    assert!(watch.process(pid).is_none());
}

#[test]
fn what_a_probe_costs_is_measured() {
    let _turn = turn();
    let watch = Watch::new();
    let costs = *watch.attachments.costs();
    assert!(costs.cheap > Duration::from_nanos(20), "{costs:?}");
    assert!(costs.cheap < Duration::from_micros(100), "{costs:?}");
    assert!(costs.stepped > costs.cheap, "{costs:?}");
    eprintln!("{costs:?}");
}
