//! What processes do.

use super::*;

fn full_activity() -> ProcessActivity {
    let at = |frame: &str| Site { frames: vec![frame.into()], outstanding: 20, count: 21 };
    let memory = MemoryActivity {
        allocated: vec![Allocated {
            kind: AllocationKind::Pool,
            count: 1,
            bytes: 2,
            freed_count: 3,
            freed_bytes: 4,
        }],
        outstanding: 5,
        outstanding_pinned: 6,
        unknown_frees: 7,
        failed: 8,
        sites: vec![at("a")],
        other_sites: 9,
        leak: Some(Leak {
            growth: 10.5,
            windows: 11,
            window: Duration::from_secs(12),
            site: Some(at("b")),
        }),
    };
    let calls =
        Calls { count: 13, time: Duration::from_secs(14), longest: Duration::from_secs(15) };
    ProcessActivity {
        process: process(),
        since: UnixNanos(1),
        last: UnixNanos(2),
        devices: vec![id("GPU-a"), id("MIG-b")],
        memory,
        copies: vec![Copies {
            kind: CopyKind::Peer,
            count: 16,
            bytes: 17,
            waited: Duration::from_secs(18),
        }],
        launches: Launches { count: 22, rate: 23.5, is_sampled: true },
        graph_launches: Launches { count: 24, rate: 25.5, is_sampled: false },
        waits: vec![Waits { kind: WaitKind::Event, calls }],
        modules: calls,
        collectives: Vec::new(),
        communicators: vec![Communicator {
            hash: 26,
            rank: Some(27),
            ranks: Some(28),
            collectives: vec![Collectives {
                kind: CollectiveKind::Send,
                count: 29,
                bytes: Some(30),
            }],
            last: UnixNanos(31),
            behind: Some(32),
            slowest_rank: Some(33),
            missing_ranks: vec![34],
            is_from_ras: true,
            state: CommunicatorState::Aborted,
        }],
        coverage: Coverage {
            libraries: vec!["libcuda".into()],
            sampled: vec![("launches", 0.35)],
            missing: vec!["static".into()],
        },
    }
}

#[test]
fn everything_that_a_process_does_is_told() {
    let told = activity::activity(&full_activity());
    let at =
        |frame: &str| v1::GpuSite { frames: vec![frame.into()], outstanding_bytes: 20, count: 21 };
    let calls = Some(v1::GpuCalls { count: 13, time: seconds(14), longest: seconds(15) });
    let memory = v1::GpuMemoryActivity {
        allocated: vec![v1::GpuAllocated {
            kind: v1::GpuAllocationKind::Pool.into(),
            count: 1,
            bytes: 2,
            freed_count: 3,
            freed_bytes: 4,
        }],
        outstanding_bytes: 5,
        outstanding_pinned_bytes: 6,
        unknown_frees: 7,
        failed: 8,
        sites: vec![at("a")],
        other_sites_bytes: 9,
        leak: Some(v1::GpuLeak {
            growth_bytes_per_second: 10.5,
            windows: 11,
            window: seconds(12),
            site: Some(at("b")),
        }),
    };
    let communicator = v1::GpuCommunicator {
        hash: 26,
        rank: Some(27),
        ranks: Some(28),
        collectives: vec![v1::GpuCollectives {
            kind: v1::GpuCollectiveKind::Send.into(),
            count: 29,
            bytes: Some(30),
        }],
        last_ns: 31,
        behind: Some(32),
        slowest_rank: Some(33),
        missing_ranks: vec![34],
        from_ras: true,
        state: v1::GpuCommunicatorState::Aborted.into(),
    };
    let expected = v1::GpuActivity {
        pid: 42,
        name: "python".into(),
        owner: told.owner.clone(),
        devices: vec!["GPU-a".into(), "MIG-b".into()],
        since_ns: 1,
        last_ns: 2,
        memory: Some(memory),
        copies: vec![v1::GpuCopies {
            kind: v1::GpuCopyKind::Peer.into(),
            count: 16,
            bytes: 17,
            waited: seconds(18),
        }],
        launches: Some(v1::GpuLaunches { count: 22, per_second: 23.5, sampled: true }),
        graph_launches: Some(v1::GpuLaunches { count: 24, per_second: 25.5, sampled: false }),
        waits: vec![v1::GpuWaits { kind: v1::GpuWaitKind::Event.into(), calls }],
        modules: calls,
        communicators: vec![communicator],
        coverage: Some(v1::GpuCoverage {
            libraries: vec!["libcuda".into()],
            sampled: vec![v1::GpuSampled { what: "launches".into(), part: 0.35 }],
            missing: vec!["static".into()],
        }),
    };
    assert_eq!(told, expected);
    assert_eq!(told.owner.unwrap().pod, "trainer-0");
}
