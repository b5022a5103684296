use super::*;
use crate::gpu::activity::{Coverage, Launches, MemoryActivity};
use crate::gpu::event::Process;

fn workload(cgroup_id: u64) -> Arc<Workload> {
    Arc::new(Workload { cgroup_id, pod: Some(format!("pod-{cgroup_id}")), ..Workload::default() })
}

fn process(pid: u32, cgroup_id: u64, launches: u64) -> ProcessActivity {
    ProcessActivity {
        process: Process { pid, name: "python".into(), workload: Some(workload(cgroup_id)) },
        since: UnixNanos(u64::from(pid)),
        last: UnixNanos(1),
        devices: Vec::new(),
        memory: MemoryActivity { outstanding: 100, ..MemoryActivity::default() },
        copies: Vec::new(),
        launches: Launches { count: launches, ..Launches::default() },
        graph_launches: Launches::default(),
        waits: Vec::new(),
        modules: Calls::default(),
        collectives: Vec::new(),
        communicators: Vec::new(),
        coverage: Coverage::default(),
    }
}

fn launches(totals: &[OwnerTotals]) -> Vec<(u64, u64)> {
    let of = |total: &OwnerTotals| total.workload.as_ref().map_or(0, |it| it.cgroup_id);
    totals.iter().map(|total| (of(total), total.sums.launches)).collect()
}

#[test]
fn an_owner_keeps_what_its_ended_processes_did_for_a_minute() {
    let mut totals = Totals::default();
    let start = Instant::now();
    let both = [process(1, 7, 10), process(2, 7, 5), process(3, 8, 1)];
    assert_eq!(launches(&totals.add(&both, start)), [(7, 15), (8, 1)]);
    let one = [process(1, 7, 12)];
    let after = totals.add(&one, start + Duration::from_secs(30));
    assert_eq!(launches(&after), [(7, 17), (8, 1)]);
    assert_eq!(after[0].outstanding, 100, "that of live processes");
    let later = totals.add(&one, start + Duration::from_secs(61));
    assert_eq!(launches(&later), [(7, 17)], "8 is gone for a minute");
}

#[test]
fn a_process_whose_sums_begin_again_takes_nothing_away() {
    let mut totals = Totals::default();
    let now = Instant::now();
    totals.add(&[process(1, 7, 10)], now);
    assert_eq!(launches(&totals.add(&[process(1, 7, 3)], now)), [(7, 10)]);
    assert_eq!(launches(&totals.add(&[process(1, 7, 4)], now)), [(7, 11)]);
}

#[test]
fn owners_are_bounded() {
    let mut totals = Totals::default();
    let many: Vec<ProcessActivity> =
        (0..OWNERS as u32 + 5).map(|pid| process(pid, u64::from(pid) + 1, 1)).collect();
    let told = totals.add(&many, Instant::now());
    assert_eq!(told.len(), OWNERS + 1);
    let nobodys = told.iter().find(|total| total.workload.is_none()).unwrap();
    assert_eq!(nobodys.sums.launches, 5, "what has no room is nobody's, and not lost");
}
