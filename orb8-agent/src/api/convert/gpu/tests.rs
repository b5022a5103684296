use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orb8_proto::v1::GpuEventKind as Kind;

use super::*;
use crate::event::UnixNanos;
use crate::gpu::activity::{
    Allocated, Calls, CollectiveKind, Collectives, Communicator, CommunicatorState, Copies,
    CopyKind, Coverage, Launches, Leak, MemoryActivity, Site, WaitKind, Waits,
};
use crate::gpu::event::{AllocationKind, Process, Xid, XidAction, XidClass};
use crate::gpu::reading::UseKind;
use crate::gpu::sample::{
    Busy, Clocks, Ecc, Memory, NvLink, Pcie, Power, RemappedRows, Temperature, Throttle,
    ThrottleReason,
};
use crate::gpu::share::{Held, Owner, Standing};
use crate::gpu::view::{DeviceCounts, DeviceView, ProcessView};
use crate::gpu::{
    Basis, Device, DeviceState, GpuEvent, GpuEventKind, Part, PciAddress, ProcessActivity,
    ProcessUse, Sample, Seen, Share, Shares, SourceKind, Vendor,
};
use crate::identity::Workload;
use crate::pipeline::{Happened, Lost, StreamItem};

const SECOND: u64 = 1_000_000_000;

fn converter() -> Converter {
    Converter { node_name: "node-1".into(), interfaces: Arc::default() }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn id(id: &str) -> DeviceId {
    DeviceId::new(id)
}

/// A workload of which the cgroup tells the container.
fn trainer() -> Arc<Workload> {
    Arc::new(Workload {
        namespace: Some("ml".into()),
        pod: Some("trainer-0".into()),
        container: Some("main".into()),
        container_id: Some("0123456789abcdef".into()),
        cgroup_path: "/kubepods/a".into(),
        ..Workload::default()
    })
}

fn process() -> Process {
    Process { pid: 42, name: "python".into(), workload: Some(trainer()) }
}

/// A sample with a number of its own in every field.
fn full_sample() -> Sample {
    let busy = Busy {
        gpu: Some(0.01),
        memory: Some(0.02),
        encoder: Some(0.03),
        decoder: Some(0.04),
        engine: Some(0.05),
        sm: Some(0.06),
        sm_occupancy: Some(0.07),
        tensor: Some(0.08),
        fp64: Some(0.09),
        fp32: Some(0.10),
        fp16: Some(0.11),
        dram: Some(0.12),
    };
    Sample {
        time: UnixNanos(SECOND),
        busy,
        memory: Memory { total: Some(14), used: Some(15), reserved: Some(16), free: Some(17) },
        temperature: Temperature {
            gpu: Some(18.0),
            memory: Some(19.0),
            slowdown: Some(20.0),
            shutdown: Some(21.0),
        },
        power: Power { draw: Some(22.5), limit: Some(23.5), energy_mj: Some(24_500) },
        clocks: Clocks {
            sm: Some(25),
            memory: Some(26),
            video: Some(27),
            max_sm: Some(28),
            max_memory: Some(29),
        },
        throttle: Throttle {
            reasons: Some(vec![ThrottleReason::PowerCap]),
            lost: vec![(ThrottleReason::PowerBrake, Duration::from_secs(30))],
        },
        pcie: Pcie {
            tx_rate: Some(31),
            rx_rate: Some(32),
            replays: Some(33),
            generation: Some(34),
            width: Some(35),
            max_generation: Some(36),
            max_width: Some(37),
        },
        nvlink: Some(NvLink {
            links: 1,
            active: 2,
            tx_bytes: Some(3),
            rx_bytes: Some(4),
            tx_rate: Some(5),
            rx_rate: Some(6),
            crc_errors: Some(7),
            replays: Some(8),
            recoveries: Some(9),
        }),
        ecc: Some(Ecc {
            is_enabled: true,
            corrected: Some(1),
            uncorrected: Some(2),
            corrected_lifetime: Some(3),
            uncorrected_lifetime: Some(4),
        }),
        rows: Some(RemappedRows {
            correctable: 1,
            uncorrectable: 2,
            is_pending: true,
            has_failed: true,
        }),
        performance_state: Some(41),
        persistence_mode: Some(true),
    }
}

fn told_sample() -> v1::GpuSample {
    let lost =
        v1::GpuThrottled { reason: v1::GpuThrottleReason::PowerBrake.into(), time: seconds(30) };
    v1::GpuSample {
        time_ns: SECOND,
        utilization: Some(0.01),
        memory_utilization: Some(0.02),
        encoder_utilization: Some(0.03),
        decoder_utilization: Some(0.04),
        engine_active: Some(0.05),
        sm_active: Some(0.06),
        sm_occupancy: Some(0.07),
        tensor_active: Some(0.08),
        fp64_active: Some(0.09),
        fp32_active: Some(0.10),
        fp16_active: Some(0.11),
        dram_active: Some(0.12),
        memory_total_bytes: Some(14),
        memory_used_bytes: Some(15),
        memory_reserved_bytes: Some(16),
        memory_free_bytes: Some(17),
        temperature: Some(18.0),
        memory_temperature: Some(19.0),
        slowdown_temperature: Some(20.0),
        shutdown_temperature: Some(21.0),
        power_watts: Some(22.5),
        power_limit_watts: Some(23.5),
        energy_joules: Some(24.5),
        sm_clock: Some(25),
        memory_clock: Some(26),
        video_clock: Some(27),
        max_sm_clock: Some(28),
        max_memory_clock: Some(29),
        throttle: Some(v1::GpuThrottle {
            reasons: vec![v1::GpuThrottleReason::PowerCap.into()],
            lost: vec![lost],
            reasons_unknown: false,
        }),
        pcie_tx_bytes_per_second: Some(31),
        pcie_rx_bytes_per_second: Some(32),
        pcie_replays: Some(33),
        pcie_generation: Some(34),
        pcie_width: Some(35),
        pcie_max_generation: Some(36),
        pcie_max_width: Some(37),
        nvlink: Some(v1::GpuNvLink {
            links: 1,
            active: 2,
            tx_bytes: Some(3),
            rx_bytes: Some(4),
            tx_bytes_per_second: Some(5),
            rx_bytes_per_second: Some(6),
            crc_errors: Some(7),
            replays: Some(8),
            recoveries: Some(9),
        }),
        ecc: Some(v1::GpuEcc {
            enabled: true,
            corrected: Some(1),
            uncorrected: Some(2),
            corrected_lifetime: Some(3),
            uncorrected_lifetime: Some(4),
        }),
        remapped_rows: Some(v1::GpuRemappedRows {
            correctable: 1,
            uncorrectable: 2,
            pending: true,
            failed: true,
        }),
        performance_state: Some(41),
        persistence_mode: Some(true),
    }
}

fn plain_device(name: &str, index: u32) -> Device {
    Device {
        id: id(name),
        vendor: Vendor::Nvidia,
        source: SourceKind::Nvml,
        index: Some(index),
        minor: Some(9),
        model: "H100".into(),
        architecture: Some("hopper".into()),
        pci: PciAddress::parse("1b:00.0"),
        serial: Some("serial".into()),
        driver: Some("580".into()),
        part: None,
        is_divided: false,
    }
}

fn of(device: Device, state: DeviceState) -> DeviceView {
    DeviceView {
        seen: Seen { device, state },
        shares: Shares::default(),
        counts: DeviceCounts::default(),
    }
}

/// A divided device with a part of it, and one that is lost.
fn view() -> View {
    let parent = Device { is_divided: true, ..plain_device("GPU-a", 2) };
    let part = Part {
        parent: id("GPU-a"),
        gpu_instance: 7,
        compute_instance: Some(1),
        profile: "1g.10gb".into(),
    };
    let part = Device { part: Some(part), ..plain_device("MIG-b", 1) };
    let lost = DeviceState::Lost { reason: "gone".into(), since: UnixNanos(5) };
    View {
        time: UnixNanos(SECOND),
        devices: vec![
            of(parent, DeviceState::Silent { reason: "late".into() }),
            of(part, DeviceState::Sampled(Box::new(full_sample()))),
            of(plain_device("GPU-c", 3), lost),
        ],
        ..View::default()
    }
}

#[test]
fn every_figure_of_a_sample_is_told() {
    let told = converter().gpu(&view());
    assert_eq!(told.devices[1].sample, Some(told_sample()));
    let bare = of(plain_device("GPU-a", 0), DeviceState::Sampled(Box::default()));
    let told = device::device(&bare);
    assert_eq!(told.sample, Some(v1::GpuSample::default()), "what is not known is absent");
    let only_lost = Throttle { reasons: None, lost: full_sample().throttle.lost };
    let sample = Sample { throttle: only_lost, ..Sample::default() };
    let told =
        device::device(&of(plain_device("GPU-a", 0), DeviceState::Sampled(Box::new(sample))));
    let throttle = told.sample.unwrap().throttle.unwrap();
    assert!(throttle.reasons_unknown && throttle.reasons.is_empty() && throttle.lost.len() == 1);
    let free = Throttle { reasons: Some(Vec::new()), lost: Vec::new() };
    let sample = Sample { throttle: free, ..Sample::default() };
    let told =
        device::device(&of(plain_device("GPU-a", 0), DeviceState::Sampled(Box::new(sample))));
    assert_eq!(told.sample.unwrap().throttle, Some(v1::GpuThrottle::default()), "it says: nothing");
}

#[test]
fn a_device_is_told_with_what_it_is_a_part_of_and_how_it_is() {
    let told = converter().gpu(&view()).devices;
    let part = v1::GpuPart {
        parent: "GPU-a".into(),
        gpu_instance: 7,
        compute_instance: Some(1),
        profile: "1g.10gb".into(),
    };
    let expected = v1::GpuDevice {
        id: "MIG-b".into(),
        vendor: v1::GpuVendor::Nvidia.into(),
        source: "nvml".into(),
        index: Some(1),
        minor: Some(9),
        model: "H100".into(),
        architecture: "hopper".into(),
        pci_address: "0000:1b:00.0".into(),
        serial: "serial".into(),
        driver_version: "580".into(),
        part: Some(part),
        divided: false,
        state: v1::GpuState::Ok.into(),
        sample: Some(told_sample()),
        counts: Some(v1::GpuCounts::default()),
        ..v1::GpuDevice::default()
    };
    assert_eq!(told[1], expected);
    let state = |device: &v1::GpuDevice| {
        (device.state(), device.state_reason.clone(), device.lost_since_ns, device.divided)
    };
    assert_eq!(state(&told[0]), (v1::GpuState::Silent, "late".into(), 0, true));
    assert_eq!(state(&told[2]), (v1::GpuState::Lost, "gone".into(), 5, false));
    assert!(told[0].sample.is_none() && told[2].sample.is_none());
}

#[test]
fn counts_say_what_an_xid_means() {
    let counts = DeviceCounts {
        xids: BTreeMap::from([(79, 2), (4_000_000, 1)]),
        last_xid: Some(79),
        last_xid_time: UnixNanos(7),
        throttled: BTreeMap::from([(ThrottleReason::PowerCap, Duration::from_secs(3))]),
        energy_mj: 1_500,
        lost: 4,
        silent: 5,
    };
    let view =
        DeviceView { counts, ..of(plain_device("a", 0), DeviceState::Sampled(Box::default())) };
    let told = device::device(&view).counts.unwrap();
    let xids: Vec<_> = told
        .xids
        .iter()
        .map(|xid| (xid.xid.as_ref().unwrap().code, xid.count, xid.xid.as_ref().unwrap().class()))
        .collect();
    let (hardware, other) = (v1::GpuXidClass::Hardware, v1::GpuXidClass::Other);
    assert_eq!(xids, [(79, 2, hardware), (4_000_000, 1, other)]);
    assert!(!told.xids[0].xid.as_ref().unwrap().meaning.is_empty());
    assert_ne!(told.xids[0].xid.as_ref().unwrap().action(), v1::GpuXidAction::Unspecified);
    let held =
        v1::GpuThrottled { reason: v1::GpuThrottleReason::PowerCap.into(), time: seconds(3) };
    assert_eq!((told.throttled, told.energy_joules), (vec![held], 1.5));
    assert_eq!((told.lost, told.silent, told.last_xid), (4, 5, Some(79)));
    assert_eq!(told.last_xid_ns, 7);
}

fn share(standing: Standing) -> Share {
    Share {
        device: id("GPU-a"),
        owner: Owner {
            namespace: Some("ml".into()),
            pod: Some("trainer-0".into()),
            container: Some("main".into()),
            workload: Some(trainer()),
        },
        holds: Some(Held {
            resource: "nvidia.com/gpu".into(),
            is_shared: true,
            claim: Some("ml/claim".into()),
        }),
        memory: Some((7, Basis::Exact)),
        busy: Some((0.5, Basis::Shared)),
        processes: vec![42, 43],
        standing,
    }
}

#[test]
fn a_share_is_told_with_how_it_was_found() {
    let shares = Shares {
        shares: vec![share(Standing::Idle { since: UnixNanos(9), is_long: true })],
        unattributed_memory: Some(1),
        unattributed_busy: Some(0.25),
    };
    let view =
        DeviceView { shares, ..of(plain_device("a", 0), DeviceState::Sampled(Box::default())) };
    let told = device::device(&view);
    assert_eq!(told.unattributed_memory_bytes, Some(1));
    assert_eq!(told.unattributed_utilization, Some(0.25));
    let expected = v1::GpuShare {
        device: "GPU-a".into(),
        owner: told.shares[0].owner.clone(),
        resource: "nvidia.com/gpu".into(),
        shared: true,
        claim: "ml/claim".into(),
        memory_bytes: Some(7),
        memory_basis: v1::GpuBasis::Exact.into(),
        utilization: Some(0.5),
        utilization_basis: v1::GpuBasis::Shared.into(),
        pids: vec![42, 43],
        standing: v1::GpuStanding::Idle.into(),
        idle_since_ns: 9,
        idle_long: true,
    };
    assert_eq!(told.shares, [expected]);
    let owner = told.shares[0].owner.as_ref().unwrap();
    assert_eq!((owner.namespace.as_str(), owner.pod.as_str()), ("ml", "trainer-0"));
    assert_eq!(owner.cgroup_path, "/kubepods/a");
    for (standing, expected) in [
        (Standing::Active, v1::GpuStanding::Active),
        (Standing::Unallocated, v1::GpuStanding::Unallocated),
        (Standing::InUse, v1::GpuStanding::InUse),
    ] {
        assert_eq!(expected.word(), Some(standing.word()));
        let told = share::share(&share(standing));
        assert_eq!((told.standing(), told.idle_since_ns), (expected, 0));
    }
    let bare = Share { holds: None, memory: None, busy: None, ..share(Standing::InUse) };
    let told = share::share(&bare);
    assert_eq!((told.memory_bytes, told.memory_basis()), (None, v1::GpuBasis::Unspecified));
    assert_eq!((told.utilization, told.utilization_basis()), (None, v1::GpuBasis::Unspecified));
    assert!(told.resource.is_empty() && !told.shared && told.claim.is_empty());
}

#[test]
fn an_owner_has_the_names_by_which_it_was_given_the_device() {
    let text = |text: &str| Some(text.to_owned());
    let nobody = Owner { namespace: None, pod: None, container: None, workload: None };
    assert_eq!(owner(&nobody), None);
    // Its cgroup tells the pod's uid alone, before the Kubernetes API answers.
    let nameless =
        Workload { pod_uid: text("uid"), cgroup_path: "/a".into(), ..Workload::default() };
    let held = Owner {
        namespace: text("ml"),
        pod: text("trainer-0"),
        container: text("main"),
        workload: Some(Arc::new(nameless)),
    };
    let told = owner(&held).unwrap();
    assert_eq!((told.namespace.as_str(), told.pod.as_str()), ("ml", "trainer-0"));
    assert_eq!((told.container.as_str(), told.pod_uid.as_str()), ("main", "uid"));
    // It has not started a process.
    let told = owner(&Owner { workload: None, ..held }).unwrap();
    assert_eq!((told.pod.as_str(), told.cgroup_path.as_str()), ("trainer-0", ""));
    let unit = Arc::new(Workload { unit: text("x.service"), ..Workload::default() });
    assert_eq!(owner(&Owner { workload: Some(unit), ..nobody }).unwrap().unit, "x.service");
}

#[test]
fn what_holds_of_all_is_told() {
    let view = View {
        time: UnixNanos(1),
        interval: Duration::from_secs(2),
        sources: vec![SourceHealth {
            kind: SourceKind::Dcgm,
            devices: 3,
            problem: Some("it hangs".into()),
            took: Duration::from_secs(4),
            failures: 5,
            invalid: 6,
            unread: 0,
            lacks: None,
        }],
        holders: HolderHealth {
            from: Some("kubelet".into()),
            problem: Some("slow".into()),
            unmatched: vec!["GPU-x".into()],
            is_off: false,
        },
        processes: vec![ProcessView {
            uses: ProcessUse {
                device: id("GPU-a"),
                pid: 42,
                kind: UseKind::Mps,
                memory: Some(7),
                busy: Some(0.5),
            },
            process: process(),
        }],
        watching: Watching {
            is_on: true,
            problems: vec!["no BTF".into()],
            processes: 1,
            probes: 2,
            expensive: 3,
            cost: Some(0.004),
            budget: 0.01,
            lost: 8,
            ..Watching::default()
        },
        ..View::default()
    };
    let told = converter().gpu(&view);
    assert_eq!((told.node_name.as_str(), told.time_ns, told.interval), ("node-1", 1, seconds(2)));
    let source = v1::GpuSourceStatus {
        name: "dcgm".into(),
        devices: 3,
        problem: "it hangs".into(),
        took: seconds(4),
        failures: 5,
        invalid: 6,
    };
    assert_eq!(told.sources, [source]);
    let holders = v1::GpuHolders {
        from: "kubelet".into(),
        problem: "slow".into(),
        unmatched: vec!["GPU-x".into()],
    };
    assert_eq!(told.holders, Some(holders));
    let watching = v1::GpuWatching {
        on: true,
        problems: vec!["no BTF".into()],
        processes: 1,
        probes: 2,
        expensive: 3,
        cost: Some(0.004),
        budget: 0.01,
        lost: 8,
    };
    assert_eq!(told.watching, Some(watching));
    let process = v1::GpuProcess {
        device: "GPU-a".into(),
        pid: 42,
        name: "python".into(),
        owner: told.processes[0].owner.clone(),
        kind: v1::GpuUseKind::Mps.into(),
        memory_bytes: Some(7),
        utilization: Some(0.5),
    };
    assert_eq!(told.processes[0].owner.as_ref().unwrap().pod, "trainer-0");
    assert_eq!(told.processes, [process]);
    // Longer than a message can say.
    assert_eq!(duration(Duration::MAX).unwrap().seconds, i64::MAX);
}

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

fn tell(event: GpuEvent) -> v1::StreamGpuResponse {
    let item = StreamItem { time: UnixNanos(7), happened: Happened::Event(event) };
    converter().gpu_event(&item, &view())
}

fn event(kind: GpuEventKind) -> GpuEvent {
    let owner = Owner { namespace: None, pod: None, container: None, workload: Some(trainer()) };
    GpuEvent {
        time: UnixNanos(7),
        device: Some(id("MIG-b")),
        index: Some(1),
        process: Some(process()),
        owners: vec![owner],
        kind,
    }
}

#[test]
fn every_kind_of_event_tells_its_own() {
    let bare = v1::StreamGpuResponse {
        time_ns: 7,
        node_name: "node-1".into(),
        device: "MIG-b".into(),
        index: Some(1),
        process: Some(v1::GpuEventProcess { pid: 42, name: "python".into() }),
        owners: tell(event(GpuEventKind::Appeared)).owners,
        parent: "GPU-a".into(),
        parent_index: Some(2),
        pci_address: "0000:1b:00.0".into(),
        ..v1::StreamGpuResponse::default()
    };
    assert_eq!(bare.owners[0].pod, "trainer-0");
    let of = |kind: Kind| v1::StreamGpuResponse { kind: kind.into(), ..bare.clone() };
    let xid = Xid {
        code: 79,
        class: XidClass::Hardware,
        action: XidAction::Reboot,
        meaning: "GPU has fallen off the bus",
    };
    let told_xid = v1::GpuXid {
        code: 79,
        class: v1::GpuXidClass::Hardware.into(),
        action: v1::GpuXidAction::Reboot.into(),
        meaning: "GPU has fallen off the bus".into(),
    };
    use v1::StreamGpuResponse as Told;
    let took = Duration::from_secs(3);
    let cases = [
        (GpuEventKind::Xid(xid), Told { xid: Some(told_xid), ..of(Kind::Xid) }),
        (
            GpuEventKind::Throttle { began: true, reasons: vec![ThrottleReason::PowerBrake] },
            Told {
                began: true,
                reasons: vec![v1::GpuThrottleReason::PowerBrake.into()],
                ..of(Kind::Throttle)
            },
        ),
        (GpuEventKind::EccUncorrected { count: 4 }, Told { count: 4, ..of(Kind::Ecc) }),
        (
            GpuEventKind::RowRemap { is_pending: true, has_failed: false },
            Told { pending: true, ..of(Kind::RowRemap) },
        ),
        (
            GpuEventKind::RowRemap { is_pending: false, has_failed: true },
            Told { failed: true, ..of(Kind::RowRemap) },
        ),
        (
            GpuEventKind::Lost { reason: "gone".into() },
            Told { reason: "gone".into(), ..of(Kind::LostDevice) },
        ),
        (GpuEventKind::Appeared, of(Kind::Appeared)),
        (GpuEventKind::Removed, of(Kind::Removed)),
        (
            GpuEventKind::Idle { began: true, lasted: took },
            Told { began: true, duration: seconds(3), ..of(Kind::Idle) },
        ),
        (GpuEventKind::Unallocated { began: true }, Told { began: true, ..of(Kind::Unallocated) }),
        (
            GpuEventKind::Allocated { bytes: 5, how: AllocationKind::Managed },
            Told {
                bytes: 5,
                allocation: v1::GpuAllocationKind::Managed.into(),
                ..of(Kind::Allocated)
            },
        ),
        (
            GpuEventKind::AllocationFailed { bytes: 6, error: 2 },
            Told { bytes: 6, error: 2, ..of(Kind::AllocationFailed) },
        ),
        (
            GpuEventKind::Launches { rate: 1.5, graph_rate: 2.5, is_sampled: true },
            Told { rate: 1.5, graph_rate: 2.5, sampled: true, ..of(Kind::Launches) },
        ),
        (GpuEventKind::ModuleLoaded { took }, Told { duration: seconds(3), ..of(Kind::Module) }),
        (
            GpuEventKind::Leak { outstanding: 7, growth: 8.5 },
            Told { bytes: 7, rate: 8.5, ..of(Kind::Leak) },
        ),
        (
            GpuEventKind::Collectives { communicator: 9, rank: Some(1), calls: 10, bytes: 11 },
            Told { communicator: 9, rank: Some(1), count: 10, bytes: 11, ..of(Kind::Collectives) },
        ),
        (
            GpuEventKind::CommunicatorInit { communicator: 9, rank: 1, ranks: 8, took },
            Told {
                communicator: 9,
                rank: Some(1),
                ranks: 8,
                duration: seconds(3),
                ..of(Kind::CommunicatorInit)
            },
        ),
        (
            GpuEventKind::CommunicatorAbort { communicator: 9, rank: None },
            Told { communicator: 9, ..of(Kind::CommunicatorAbort) },
        ),
        (
            GpuEventKind::Straggler { communicator: 9, rank: 1, behind: 12, is_missing: true },
            Told {
                communicator: 9,
                rank: Some(1),
                count: 12,
                pending: true,
                ..of(Kind::Straggler)
            },
        ),
        (
            GpuEventKind::Sampling { began: true, what: "launches", part: 0.5 },
            Told { began: true, reason: "launches".into(), rate: 0.5, ..of(Kind::Sampling) },
        ),
    ];
    let mut kinds = BTreeSet::from([i32::from(Kind::Lost)]);
    for (kind, expected) in cases {
        let told = tell(event(kind));
        assert_eq!(told, expected);
        kinds.insert(told.kind);
    }
    assert_eq!(kinds.len(), Kind::WORDS.len(), "every kind was tried");
}

#[test]
fn a_device_that_has_gone_has_its_id_and_number() {
    let gone =
        GpuEvent { device: Some(id("GPU-z")), index: Some(5), ..event(GpuEventKind::Removed) };
    let told = tell(gone);
    assert_eq!((told.device.as_str(), told.index), ("GPU-z", Some(5)));
    assert!(told.parent.is_empty() && told.pci_address.is_empty());
    let unknown =
        GpuEvent { device: None, index: None, process: None, ..event(GpuEventKind::Removed) };
    let told = tell(unknown);
    assert_eq!((told.device.as_str(), told.index, told.process), ("", None, None));
    // Its source may know its id alone.
    let bare = GpuEvent { index: None, ..event(GpuEventKind::Appeared) };
    assert_eq!(tell(bare).index, Some(1));
}

#[test]
fn a_loss_is_told_in_line() {
    let happened = Happened::Lost(Lost::Ring { events: 3 });
    assert_eq!(kind(&happened), Kind::Lost);
    let told = converter().gpu_event(&StreamItem { time: UnixNanos(7), happened }, &view());
    assert_eq!((told.kind(), told.time_ns), (Kind::Lost, 7));
    assert_eq!(told.lost.unwrap().events, 3);
}
