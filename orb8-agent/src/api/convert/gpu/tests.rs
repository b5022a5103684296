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

mod devices;
mod events;
mod processes;
mod shares;

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
