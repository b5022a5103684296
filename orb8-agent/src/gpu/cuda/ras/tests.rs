use super::*;

fn rank(rank: u32, pid: u32, calls: u64) -> ras::Rank {
    let counts = vec![(CollectiveKind::AllReduce, calls), (CollectiveKind::Broadcast, 1)];
    ras::Rank { rank, pid: Some(pid), counts, ..Default::default() }
}

fn communicator(hash: u64, size: u32, ranks: Vec<ras::Rank>) -> ras::Communicator {
    let missing =
        (0..size).filter(|number| ranks.iter().all(|rank| rank.rank != *number)).collect();
    ras::Communicator { hash, size: Some(size), ranks, missing }
}

fn identity(hash: u64, rank: Option<u32>, ranks: Option<u32>) -> Identity {
    Identity { hash, rank, ranks }
}

fn hashes(status: &RasStatus, pid: u32, communicators: &[(u64, Identity)]) -> Vec<(u64, u64, u32)> {
    let found = matched(status, pid, communicators);
    let mut rows =
        Vec::from_iter(found.iter().map(|(at, answered)| (*at, answered.hash, answered.rank)));
    rows.sort_unstable();
    rows
}

/// Two communicators of the same four processes, of which one does not answer in the second.
fn status() -> RasStatus {
    let ranks =
        |calls: u64| (0..4).map(|number| rank(number, 10 + number, calls)).collect::<Vec<_>>();
    let communicators =
        vec![communicator(0xa, 4, ranks(100)), communicator(0xb, 4, ranks(200)[..3].to_vec())];
    RasStatus { communicators, ..Default::default() }
}

#[test]
fn communicators_are_found_by_hash() {
    let known = [(1, identity(0xb, Some(1), Some(4))), (2, identity(0xa, Some(1), Some(4)))];
    assert_eq!(hashes(&status(), 11, &known), [(1, 0xb, 1), (2, 0xa, 1)]);
    let answered = &matched(&status(), 11, &known)[&1];
    assert_eq!((answered.calls(), answered.ranks, &answered.missing[..]), (201, 4, &[3][..]));
    assert_eq!(answered.count(CollectiveKind::AllReduce), Some(200));
    assert_eq!(answered.count(CollectiveKind::Send), None);
}

#[test]
fn the_last_one_that_is_left_needs_no_hash() {
    let known = [(1, identity(0xb, Some(1), Some(4))), (2, identity(0, None, None))];
    assert_eq!(hashes(&status(), 11, &known), [(1, 0xb, 1), (2, 0xa, 1)]);
}

#[test]
fn what_fits_several_is_left_out() {
    assert_eq!(hashes(&status(), 11, &[(1, identity(0, Some(1), Some(4)))]), []);
    // In pods of several nodes, each process is number 1 of its own.
    let ranks = (0..4).map(|number| rank(number, 1, 100)).collect();
    let status =
        RasStatus { communicators: vec![communicator(0xa, 4, ranks)], ..Default::default() };
    assert_eq!(hashes(&status, 1, &[(1, identity(0, None, None))]), []);
    assert_eq!(hashes(&status, 1, &[(1, identity(0, Some(2), None))]), [(1, 0xa, 2)]);
}

#[test]
fn what_contradicts_is_not_it() {
    assert_eq!(hashes(&status(), 11, &[(1, identity(0xa, Some(2), Some(4)))]), []);
    assert_eq!(hashes(&status(), 11, &[(1, identity(0xa, Some(1), Some(8)))]), []);
    assert_eq!(hashes(&status(), 99, &[(1, identity(0xa, Some(1), Some(4)))]), []);
    assert_eq!(hashes(&RasStatus::default(), 11, &[(1, identity(0xa, Some(1), Some(4)))]), []);
}

#[test]
fn a_process_knows_its_innermost_number() {
    let proc = tempfile::tempdir().unwrap();
    fs::create_dir(proc.path().join("7")).unwrap();
    fs::write(proc.path().join("7/status"), "Name:\tx\nNSpid:\t7\t45\t1\nTgid:\t7\n").unwrap();
    assert_eq!(own_pid(proc.path(), 7), 1);
    assert_eq!(own_pid(proc.path(), 8), 8);
    assert_eq!(own_pid(Path::new("/proc"), std::process::id()), std::process::id());
}

#[test]
fn only_what_is_of_this_node_is_kept() {
    let kept = of_this_node(status(), &[11, 12]);
    let ranks =
        |row: &ras::Communicator| row.ranks.iter().map(|rank| rank.rank).collect::<Vec<_>>();
    let rows: Vec<_> =
        kept.communicators.iter().map(|row| (row.hash, row.size, ranks(row))).collect();
    assert_eq!(rows, [(0xa, Some(4), vec![1, 2]), (0xb, Some(4), vec![1, 2])]);
    let known = [(1, identity(0xb, Some(1), Some(4))), (2, identity(0xa, Some(1), Some(4)))];
    assert_eq!(hashes(&kept, 11, &known), hashes(&status(), 11, &known));
    assert_eq!(of_this_node(status(), &[99]), RasStatus::default());
}

#[test]
fn what_is_kept_of_an_account_is_bounded() {
    // A server that is none of NCCL's.
    let ranks = |_| (0..10_000).map(|number| ras::Rank { pid: None, ..rank(number, 0, 1) });
    let communicators = (0..4).map(|hash| ras::Communicator {
        hash,
        size: None,
        ranks: ranks(hash).collect(),
        missing: (0..10_000).collect(),
    });
    let status = RasStatus { communicators: communicators.collect(), ..Default::default() };
    let kept = of_this_node(status, &[1]);
    let ranks: usize = kept.communicators.iter().map(|row| row.ranks.capacity()).sum();
    let missing: usize = kept.communicators.iter().map(|row| row.missing.capacity()).sum();
    assert!(ranks <= MAX_KEPT && missing <= 4 * MAX_MISSING, "{ranks} {missing}");
    assert_eq!(kept.communicators[0].size, Some(20_000), "as it was told");
}

#[test]
fn one_process_of_a_network_is_asked_for_all() {
    let mut questions = Vec::new();
    for (network, pid) in [(5, 10), (6, 20), (5, 11)] {
        ask_too(&mut questions, network, pid, pid - 9);
    }
    let question = |network, pid, own: &[u32]| Question { network, pid, own: own.to_vec() };
    assert_eq!(questions, [question(5, 10, &[1, 2]), question(6, 20, &[11])]);
    for network in 0..1_000 {
        ask_too(&mut questions, network, 1, 1);
    }
    assert_eq!(questions.len(), MAX_ASKED);
}
