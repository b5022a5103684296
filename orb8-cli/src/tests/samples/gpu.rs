//! Accelerators: a node with a whole device, a divided one, a shared one and a lost one.

use orb8_proto::v1::{
    GpuActivity, GpuAllocated, GpuAllocationKind, GpuBasis, GpuCalls, GpuCollectiveKind,
    GpuCollectives, GpuCommunicator, GpuCommunicatorState, GpuCopies, GpuCopyKind, GpuCounts,
    GpuCoverage, GpuDevice, GpuEcc, GpuHolders, GpuLaunches, GpuLeak, GpuMemoryActivity, GpuNvLink,
    GpuPart, GpuProcess, GpuRemappedRows, GpuSample, GpuSampled, GpuShare, GpuSite,
    GpuSourceStatus, GpuStanding, GpuState, GpuThrottle, GpuThrottleReason, GpuThrottled,
    GpuUseKind, GpuVendor, GpuWaitKind, GpuWaits, GpuWatching, GpuXid, GpuXidAction, GpuXidClass,
    GpuXidCount, QueryGpuResponse, Workload,
};

use super::{NOON, SECOND, pod};

mod events;

pub(crate) use events::events;

const GIB: u64 = 1 << 30;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn uuid(last: u32) -> String {
    format!("GPU-0aa7c3f1-1111-4e5a-9c1b-{last:012}")
}

fn mig(last: u32) -> String {
    format!("MIG-5bb1d2e3-2222-4f6b-8d2c-{last:012}")
}

/// An H100 that trains, and is as warm as such a device is.
fn sample() -> GpuSample {
    GpuSample {
        time_ns: NOON,
        utilization: Some(0.97),
        memory_utilization: Some(0.61),
        encoder_utilization: Some(0.0),
        decoder_utilization: Some(0.0),
        engine_active: Some(0.98),
        sm_active: Some(0.91),
        sm_occupancy: Some(0.42),
        tensor_active: Some(0.38),
        fp64_active: Some(0.0),
        fp32_active: Some(0.07),
        fp16_active: Some(0.004),
        dram_active: Some(0.55),
        memory_total_bytes: Some(80 * GIB),
        memory_used_bytes: Some(71 * GIB + GIB / 4),
        memory_reserved_bytes: Some(GIB / 2),
        memory_free_bytes: Some(8 * GIB + GIB / 4),
        temperature: Some(64.0),
        memory_temperature: Some(71.0),
        slowdown_temperature: Some(87.0),
        shutdown_temperature: Some(92.0),
        power_watts: Some(612.4),
        power_limit_watts: Some(700.0),
        energy_joules: Some(98_765_432.1),
        sm_clock: Some(1755),
        memory_clock: Some(2619),
        video_clock: Some(1545),
        max_sm_clock: Some(1980),
        max_memory_clock: Some(2619),
        throttle: Some(GpuThrottle {
            reasons: vec![GpuThrottleReason::PowerCap.into()],
            lost: vec![held(GpuThrottleReason::PowerCap, 1234)],
            reasons_unknown: false,
        }),
        pcie_tx_bytes_per_second: Some(1_234_567),
        pcie_rx_bytes_per_second: Some(98_765_432),
        pcie_replays: Some(0),
        pcie_generation: Some(5),
        pcie_width: Some(16),
        pcie_max_generation: Some(5),
        pcie_max_width: Some(16),
        nvlink: Some(GpuNvLink {
            links: 18,
            active: 18,
            tx_bytes: Some(1 << 50),
            rx_bytes: Some(1 << 49),
            tx_bytes_per_second: Some(12_300_000_000),
            rx_bytes_per_second: Some(12_200_000_000),
            crc_errors: Some(0),
            replays: Some(0),
            recoveries: Some(0),
        }),
        ecc: Some(GpuEcc {
            enabled: true,
            corrected: Some(3),
            uncorrected: Some(0),
            corrected_lifetime: Some(12),
            uncorrected_lifetime: Some(0),
        }),
        remapped_rows: Some(GpuRemappedRows::default()),
        performance_state: Some(0),
        persistence_mode: Some(true),
    }
}

fn held(reason: GpuThrottleReason, time: i64) -> GpuThrottled {
    GpuThrottled { reason: reason.into(), time: seconds(time) }
}

fn device(index: u32) -> GpuDevice {
    GpuDevice {
        id: uuid(index),
        vendor: GpuVendor::Nvidia.into(),
        source: "nvml".into(),
        index: Some(index),
        minor: Some(index),
        model: "NVIDIA H100 80GB HBM3".into(),
        architecture: "hopper".into(),
        pci_address: format!("0000:{:02x}:00.0", 0x1b + index),
        serial: format!("165432100{index}"),
        driver_version: "580.95.05".into(),
        state: GpuState::Ok.into(),
        sample: Some(sample()),
        counts: Some(GpuCounts { energy_joules: 7_200_000.0, ..GpuCounts::default() }),
        ..GpuDevice::default()
    }
}

fn share(device: &str, owner: Option<Workload>) -> GpuShare {
    GpuShare {
        device: device.into(),
        owner,
        resource: "nvidia.com/gpu".into(),
        memory_bytes: Some(70 * GIB),
        memory_basis: GpuBasis::Exact.into(),
        utilization: Some(0.97),
        utilization_basis: GpuBasis::Exact.into(),
        pids: vec![4711],
        standing: GpuStanding::Active.into(),
        ..GpuShare::default()
    }
}

fn trainer() -> Option<Workload> {
    pod("ml", "llama-trainer-0")
}

/// A trainer's alone, but for a little that nobody is known to have.
fn whole() -> GpuDevice {
    let counts = GpuCounts {
        throttled: vec![held(GpuThrottleReason::PowerCap, 75)],
        energy_joules: 7_200_000.0,
        ..GpuCounts::default()
    };
    GpuDevice {
        shares: vec![share(&uuid(0), trainer())],
        unattributed_memory_bytes: Some(GIB + GIB / 4),
        unattributed_utilization: Some(0.0),
        counts: Some(counts),
        ..device(0)
    }
}

/// Time-sliced: two hold it, one of them idles, and a stranger uses it.
fn sliced() -> GpuDevice {
    let shared = |owner, pids: &[u32]| GpuShare {
        resource: "nvidia.com/gpu.shared".into(),
        shared: true,
        memory_bytes: Some(20 * GIB),
        utilization: Some(0.25),
        utilization_basis: GpuBasis::Estimated.into(),
        pids: pids.to_vec(),
        ..share(&uuid(1), owner)
    };
    let idle = GpuShare {
        memory_bytes: Some(GIB / 2),
        utilization: Some(0.0),
        standing: GpuStanding::Idle.into(),
        idle_since_ns: NOON - 5_025 * SECOND,
        idle_long: true,
        ..shared(pod("team-a", "notebook-7"), &[])
    };
    let stranger = GpuShare {
        resource: String::new(),
        shared: false,
        utilization_basis: GpuBasis::Shared.into(),
        standing: GpuStanding::Unallocated.into(),
        ..shared(pod("default", "debug"), &[815])
    };
    let throttle = GpuThrottle {
        reasons: vec![
            GpuThrottleReason::PowerCap.into(),
            GpuThrottleReason::HardwareThermal.into(),
        ],
        ..GpuThrottle::default()
    };
    let sample = GpuSample {
        utilization: Some(0.5),
        memory_used_bytes: Some(78 * GIB),
        temperature: Some(88.0),
        throttle: Some(throttle),
        pcie_width: Some(8),
        nvlink: Some(GpuNvLink { links: 18, active: 17, ..GpuNvLink::default() }),
        ..sample()
    };
    GpuDevice {
        sample: Some(sample),
        shares: vec![shared(pod("team-b", "server-0"), &[812]), idle, stranger],
        unattributed_memory_bytes: Some(0),
        unattributed_utilization: Some(0.0),
        counts: Some(GpuCounts {
            xids: vec![xids(31, 2)],
            last_xid: Some(31),
            last_xid_ns: NOON - 127 * SECOND,
            ..GpuCounts::default()
        }),
        ..device(1)
    }
}

/// Divided, one part of it in use and one not.
fn divided() -> [GpuDevice; 3] {
    let none = GpuSample {
        utilization: None,
        memory_utilization: None,
        engine_active: None,
        sm_active: None,
        throttle: Some(GpuThrottle::default()),
        power_watts: Some(98.0),
        memory_used_bytes: Some(11 * GIB),
        ..sample()
    };
    let part = |index: u32, owner: Option<Workload>| {
        let sample = GpuSample {
            memory_total_bytes: Some(10 * GIB),
            memory_used_bytes: Some(if index == 0 { 9 * GIB } else { 0 }),
            engine_active: Some(if index == 0 { 0.8 } else { 0.0 }),
            sm_active: Some(if index == 0 { 0.7 } else { 0.0 }),
            ..GpuSample { time_ns: NOON, ..GpuSample::default() }
        };
        let share = GpuShare {
            resource: "nvidia.com/mig-1g.10gb".into(),
            memory_bytes: Some(9 * GIB),
            utilization: Some(0.8),
            ..share(&mig(index), owner.clone())
        };
        let parent = GpuPart {
            parent: uuid(2),
            gpu_instance: 7 + index,
            compute_instance: Some(0),
            profile: "1g.10gb".into(),
        };
        GpuDevice {
            id: mig(index),
            index: Some(index),
            part: Some(parent),
            sample: Some(sample),
            shares: owner.iter().map(|_| share.clone()).collect(),
            unattributed_memory_bytes: Some(0),
            counts: Some(GpuCounts::default()),
            ..device(2)
        }
    };
    let whole = GpuDevice { divided: true, sample: Some(none), ..device(2) };
    [whole, part(0, pod("team-a", "inference-5d9f")), part(1, None)]
}

fn gone() -> GpuDevice {
    GpuDevice {
        state: GpuState::Lost.into(),
        state_reason: "GPU is lost".into(),
        lost_since_ns: NOON - 60 * SECOND,
        sample: None,
        shares: vec![GpuShare {
            memory_bytes: None,
            memory_basis: 0,
            utilization: None,
            utilization_basis: 0,
            pids: Vec::new(),
            standing: GpuStanding::Lost.into(),
            ..share(&uuid(3), pod("ml", "llama-trainer-1"))
        }],
        counts: Some(GpuCounts {
            xids: vec![xids(79, 1)],
            last_xid: Some(79),
            last_xid_ns: NOON - 127 * SECOND,
            lost: 1,
            ..GpuCounts::default()
        }),
        ..device(3)
    }
}

fn xid(code: u32) -> GpuXid {
    let (class, action, meaning) = match code {
        31 => (GpuXidClass::Application, GpuXidAction::RestartPod, "GPU memory page fault"),
        _ => (GpuXidClass::Hardware, GpuXidAction::Reboot, "GPU has fallen off the bus"),
    };
    GpuXid { code, class: class.into(), action: action.into(), meaning: meaning.into() }
}

fn xids(code: u32, count: u64) -> GpuXidCount {
    GpuXidCount { xid: Some(xid(code)), count, last_ns: NOON - 127 * SECOND }
}

fn process(device: &str, pid: u32, name: &str, owner: Option<Workload>) -> GpuProcess {
    GpuProcess {
        device: device.into(),
        pid,
        name: name.into(),
        owner,
        kind: GpuUseKind::Compute.into(),
        memory_bytes: Some(20 * GIB),
        utilization: Some(0.25),
    }
}

fn site(function: &str, outstanding_bytes: u64, count: u64) -> GpuSite {
    let frames = [
        "cudaMalloc+0x1f (libcudart.so.12)".to_owned(),
        format!("{function}+0x8c (libtorch_cuda.so)"),
        "main+0x2d0 (python3.12)".to_owned(),
    ];
    GpuSite { frames: frames.to_vec(), outstanding_bytes, count }
}

fn calls(count: u64, time: i64) -> Option<GpuCalls> {
    Some(GpuCalls { count, time: seconds(time), longest: seconds(1) })
}

/// Trains, and does not lose anything.
fn training() -> GpuActivity {
    let allocated = GpuAllocated {
        kind: GpuAllocationKind::Device.into(),
        count: 1200,
        bytes: 140 * GIB,
        freed_count: 1100,
        freed_bytes: 71 * GIB,
    };
    let memory = GpuMemoryActivity {
        allocated: vec![allocated],
        outstanding_bytes: 69 * GIB,
        outstanding_pinned_bytes: GIB,
        unknown_frees: 2,
        failed: 0,
        sites: vec![site("at::native::empty_cuda", 60 * GIB, 90)],
        other_sites_bytes: 9 * GIB,
        leak: None,
    };
    let communicator = GpuCommunicator {
        hash: 0xae94_423c_fbb2_ef4a,
        rank: Some(0),
        ranks: Some(8),
        collectives: vec![GpuCollectives {
            kind: GpuCollectiveKind::AllReduce.into(),
            count: 12_345,
            bytes: Some(98_765_432_100),
        }],
        last_ns: NOON,
        behind: Some(12),
        slowest_rank: Some(5),
        missing_ranks: vec![7],
        from_ras: true,
        state: GpuCommunicatorState::Ready.into(),
    };
    GpuActivity {
        pid: 4711,
        name: "python".into(),
        owner: trainer(),
        devices: vec![uuid(0)],
        since_ns: NOON - 3_600 * SECOND,
        last_ns: NOON,
        memory: Some(memory),
        copies: vec![GpuCopies {
            kind: GpuCopyKind::HostToDevice.into(),
            count: 3_000,
            bytes: 12_345_678_900,
            waited: seconds(3),
        }],
        launches: Some(GpuLaunches { count: 4_000_000, per_second: 1234.5, sampled: true }),
        graph_launches: Some(GpuLaunches { count: 500, per_second: 2.0, sampled: false }),
        waits: vec![
            GpuWaits { kind: GpuWaitKind::Stream.into(), calls: calls(900, 1_800) },
            GpuWaits { kind: GpuWaitKind::Event.into(), calls: calls(90, 45) },
        ],
        modules: calls(40, 7),
        communicators: vec![communicator],
        coverage: Some(GpuCoverage {
            libraries: vec!["/usr/lib/libcuda.so.1".into(), "/opt/nccl/libnccl.so.2".into()],
            sampled: vec![GpuSampled { what: "launches".into(), part: 0.1 }],
            missing: vec!["libcudart is linked statically: its frames have no names".into()],
        }),
    }
}

/// Loses memory, most of it at one place.
fn leaking() -> GpuActivity {
    let worst = site("serve::cache::grow", 14 * GIB, 3_500);
    let memory = GpuMemoryActivity {
        outstanding_bytes: 20 * GIB,
        failed: 3,
        sites: vec![
            worst.clone(),
            site("serve::model::load", 4 * GIB, 12),
            site("serve::warm_up", GIB, 1),
            site("serve::scratch", GIB / 2, 1),
        ],
        other_sites_bytes: GIB / 2,
        leak: Some(GpuLeak {
            growth_bytes_per_second: 3_145_728.0,
            windows: 5,
            window: seconds(60),
            site: Some(worst),
        }),
        ..GpuMemoryActivity::default()
    };
    GpuActivity {
        pid: 812,
        name: "serve".into(),
        owner: pod("team-b", "server-0"),
        devices: vec![uuid(1)],
        memory: Some(memory),
        launches: Some(GpuLaunches { count: 70, per_second: 7.0, sampled: false }),
        ..training_less()
    }
}

/// Nothing but when it was seen.
fn training_less() -> GpuActivity {
    GpuActivity { since_ns: NOON - 600 * SECOND, last_ns: NOON, ..GpuActivity::default() }
}

pub(crate) fn answer() -> QueryGpuResponse {
    let [divided, used, unused] = divided();
    let source = |name: &str, devices, problem: &str, failures| GpuSourceStatus {
        name: name.into(),
        devices,
        problem: problem.into(),
        took: Some(prost_types::Duration { seconds: 0, nanos: 12_345_678 }),
        failures,
        invalid: 0,
    };
    QueryGpuResponse {
        node_name: "worker-1".into(),
        time_ns: NOON,
        interval: seconds(1),
        devices: vec![whole(), sliced(), divided, used, unused, gone()],
        processes: vec![
            GpuProcess {
                memory_bytes: Some(70 * GIB),
                utilization: Some(0.97),
                ..process(&uuid(0), 4711, "python", trainer())
            },
            process(&uuid(1), 812, "serve", pod("team-b", "server-0")),
            process(&uuid(1), 815, "python", pod("default", "debug")),
            GpuProcess {
                memory_bytes: Some(9 * GIB),
                utilization: None,
                ..process(&mig(0), 913, "tritonserver", pod("team-a", "inference-5d9f"))
            },
        ],
        activity: vec![training(), leaking()],
        sources: vec![
            source("nvml", 6, "", 0),
            source("dcgm", 0, "no answer for 2.0 s: its driver or service hangs, see its log", 4),
            source("amd", 0, "no AMD device is on this machine", 0),
        ],
        holders: Some(GpuHolders {
            from: "/var/lib/kubelet/pod-resources/kubelet.sock".into(),
            problem: String::new(),
            unmatched: vec!["GPU-9cc7c3f1-9999-4e5a-9c1b-000000000009".into()],
        }),
        watching: Some(GpuWatching {
            on: true,
            problems: Vec::new(),
            processes: 2,
            probes: 61,
            expensive: 3,
            cost: Some(0.004),
            budget: 0.01,
            lost: 0,
        }),
    }
}

/// A node without any.
pub(crate) fn none() -> QueryGpuResponse {
    let source = |name: &str, problem: &str| GpuSourceStatus {
        name: name.into(),
        problem: problem.into(),
        ..GpuSourceStatus::default()
    };
    QueryGpuResponse {
        node_name: "worker-1".into(),
        time_ns: NOON,
        sources: vec![
            source("nvml", "libnvidia-ml.so.1 is in none of the usual places: install the driver"),
            source("amd", "no AMD device is on this machine"),
        ],
        ..QueryGpuResponse::default()
    }
}
