//! Cells of accelerators.

use super::*;
use crate::columns::Tone;
use crate::columns::gpu::{DeviceRow, ProcessRow, ShareRow, SiteRow};
use crate::v1::{
    GpuActivity, GpuAllocated, GpuAllocationKind, GpuBasis, GpuCalls, GpuCounts, GpuDevice, GpuEcc,
    GpuEventKind, GpuEventProcess, GpuLaunches, GpuLeak, GpuMemoryActivity, GpuPart, GpuProcess,
    GpuRemappedRows, GpuSample, GpuShare, GpuSite, GpuStanding, GpuState, GpuThrottleReason,
    GpuWaitKind, GpuWaits, GpuXid, GpuXidAction, GpuXidClass, StreamGpuResponse,
};

const SECOND: u64 = 1_000_000_000;
const GIB: u64 = 1 << 30;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// The text of a cell, `-` for nothing.
fn text<S: Subject>(view: &View<S>, name: &str, row: S::Row<'_>) -> String {
    let column = view.wide.iter().find(|column| column.name == name).unwrap();
    (column.value)(row, &format()).unwrap_or_else(|| "-".to_owned())
}

fn device() -> GpuDevice {
    let sample = GpuSample {
        utilization: Some(0.456),
        memory_used_bytes: Some(72 * GIB),
        memory_total_bytes: Some(80 * GIB),
        power_watts: Some(312.4),
        power_limit_watts: Some(700.0),
        temperature: Some(64.0),
        pcie_generation: Some(4),
        pcie_width: Some(16),
        pcie_max_generation: Some(5),
        pcie_max_width: Some(16),
        remapped_rows: Some(GpuRemappedRows {
            correctable: 1,
            pending: true,
            ..Default::default()
        }),
        ecc: Some(GpuEcc { enabled: true, uncorrected: Some(0), ..Default::default() }),
        ..GpuSample::default()
    };
    GpuDevice {
        id: "GPU-aa".into(),
        index: Some(3),
        model: "NVIDIA H100 80GB HBM3".into(),
        state: GpuState::Ok.into(),
        sample: Some(sample),
        ..GpuDevice::default()
    }
}

#[test]
fn a_device_is_told_in_few_words() {
    let device = device();
    let cell = |name| text(&gpu::LIST, name, DeviceRow { device: &device, parent: None });
    for (name, expected) in [
        ("gpu", "3"),
        ("temperature", "64°C"),
        ("power", "312/700W"),
        ("utilization", "46%"),
        ("memory", "72.0/80.0GiB"),
        ("state", "ok"),
        ("pcie", "gen4x16/gen5x16"),
        ("held_back", "-"),
        ("sm", "-"),
        ("energy", "-"),
    ] {
        assert_eq!(cell(name), expected, "{name}");
    }
    let health = |name| text(&gpu::HEALTH, name, DeviceRow { device: &device, parent: None });
    assert_eq!((health("rows"), health("ecc")), ("1+".into(), "0".into()));
    assert_eq!(health("last_xid"), "-");
    let counts = GpuCounts { last_xid_ns: NOW - 127 * SECOND, ..GpuCounts::default() };
    let failed = GpuDevice { counts: Some(counts), ..device.clone() };
    let row = DeviceRow { device: &failed, parent: None };
    assert_eq!(text(&gpu::HEALTH, "last_xid", row), "2m 7s");
    let off = GpuSample { ecc: Some(GpuEcc::default()), ..GpuSample::default() };
    let off = GpuDevice { sample: Some(off), ..device.clone() };
    assert_eq!(text(&gpu::HEALTH, "ecc", DeviceRow { device: &off, parent: None }), "off");
}

#[test]
fn what_is_not_told_is_not_zero() {
    let silent = GpuDevice { id: "GPU-aa".into(), ..GpuDevice::default() };
    let row = DeviceRow { device: &silent, parent: None };
    for column in gpu::LIST.wide.iter().filter(|column| !["gpu", "id"].contains(&column.name)) {
        assert_eq!((column.value)(row, &format()), None, "{}", column.name);
    }
    assert_eq!(text(&gpu::LIST, "gpu", row), "GPU-aa", "what has no number has its id");
    let total = GpuSample { memory_total_bytes: Some(GIB), ..GpuSample::default() };
    let total = GpuDevice { sample: Some(total), ..silent };
    assert_eq!(text(&gpu::LIST, "memory", DeviceRow { device: &total, parent: None }), "-/1.0GiB");
}

#[test]
fn a_part_is_numbered_within_its_device() {
    let parent = GpuDevice { divided: true, ..device() };
    let part = GpuPart { parent: "GPU-aa".into(), profile: "1g.10gb".into(), ..GpuPart::default() };
    let sample =
        GpuSample { engine_active: Some(0.2), sm_active: Some(0.1), ..GpuSample::default() };
    let part = GpuDevice {
        id: "MIG-bb".into(),
        index: Some(1),
        part: Some(part),
        sample: Some(sample),
        ..device()
    };
    let row = DeviceRow { device: &part, parent: Some(&parent) };
    let cell = |name| text(&gpu::LIST, name, row);
    assert_eq!((cell("gpu"), cell("model")), ("3:1".into(), "MIG 1g.10gb".into()));
    assert_eq!(cell("utilization"), "20%", "its engine's, where it has no other figure");
    let divided = DeviceRow { device: &parent, parent: None };
    assert_eq!(text(&gpu::LIST, "state", divided), "divided");
    let orphan = DeviceRow { device: &part, parent: None };
    assert_eq!(text(&gpu::LIST, "gpu", orphan), "MIG-bb");
}

#[test]
fn a_part_says_how_it_was_found() {
    let device = GpuDevice { unattributed_memory_bytes: Some(GIB), ..device() };
    let of = DeviceRow { device: &device, parent: None };
    let share = |basis: GpuBasis, standing: GpuStanding| GpuShare {
        memory_bytes: Some(2 * GIB),
        memory_basis: GpuBasis::Exact.into(),
        utilization: Some(0.5),
        utilization_basis: basis.into(),
        standing: standing.into(),
        idle_since_ns: NOW - 3_723 * SECOND,
        ..GpuShare::default()
    };
    let cell =
        |name, share: &GpuShare| text(&gpu::SHARES, name, ShareRow { of, share: Some(share) });
    for (basis, expected) in [
        (GpuBasis::Exact, "50%"),
        (GpuBasis::Estimated, "~50%"),
        (GpuBasis::Shared, "÷50%"),
        (GpuBasis::Unspecified, "50%"),
    ] {
        let share = share(basis, GpuStanding::Active);
        assert_eq!(cell("utilization", &share), expected);
        assert_eq!(cell("memory", &share), "2.0GiB");
        assert_eq!(cell("standing", &share), "active");
    }
    let idle = share(GpuBasis::Exact, GpuStanding::Idle);
    assert_eq!(cell("standing", &idle), "idle 1h2m");
    let rest = ShareRow { of, share: None };
    assert_eq!(text(&gpu::SHARES, "owner", rest), "(unattributed)");
    assert_eq!(text(&gpu::SHARES, "memory", rest), "1.0GiB");
    assert_eq!(text(&gpu::SHARES, "standing", rest), "-");
}

#[test]
fn a_standing_is_explained_and_looks_as_it_is() {
    let device = device();
    let of = DeviceRow { device: &device, parent: None };
    let column = gpu::SHARES.columns.iter().find(|column| column.name == "standing").unwrap();
    for (standing, tone) in [
        (GpuStanding::Active, Tone::Good),
        (GpuStanding::Idle, Tone::Plain),
        (GpuStanding::Unallocated, Tone::Warn),
        (GpuStanding::InUse, Tone::Plain),
        (GpuStanding::Lost, Tone::Bad),
    ] {
        let share = GpuShare { standing: standing.into(), ..GpuShare::default() };
        let row = ShareRow { of, share: Some(&share) };
        assert_eq!((column.tone)(row), tone, "{standing:?}");
        let word = format!("`{}`", standing.word().unwrap());
        assert!(column.doc.contains(&word), "{word} is not explained");
    }
}

#[test]
fn a_process_adds_up_its_devices() {
    let uses = |device: &str, memory_bytes, utilization| GpuProcess {
        device: device.into(),
        pid: 7,
        name: "python".into(),
        memory_bytes,
        utilization,
        ..GpuProcess::default()
    };
    let devices = [device(), GpuDevice { id: "GPU-bb".into(), index: Some(4), ..device() }];
    let both = [uses("GPU-aa", Some(GIB), Some(0.25)), uses("GPU-bb", Some(GIB), None)];
    let waits = |kind: GpuWaitKind, count, time| GpuWaits {
        kind: kind.into(),
        calls: Some(GpuCalls { count, time: seconds(time), longest: None }),
    };
    let activity = GpuActivity {
        pid: 7,
        launches: Some(GpuLaunches { count: 9, per_second: 1234.4, sampled: true }),
        waits: vec![waits(GpuWaitKind::Stream, 3, 2), waits(GpuWaitKind::Event, 1, 1)],
        ..GpuActivity::default()
    };
    let row = ProcessRow { uses: &both, activity: Some(&activity), devices: &devices };
    let cell = |name| text(&gpu::PROCESSES, name, row);
    for (name, expected) in [
        ("pid", "7"),
        ("gpu", "3,4"),
        ("memory", "2.0GiB"),
        ("utilization", "25%"),
        ("launches", "~1234"),
        ("graphs", "-"),
        ("waited", "3.0s"),
        ("stream_waits", "2.0s"),
        ("context_waits", "-"),
    ] {
        assert_eq!(cell(name), expected, "{name}");
    }
    let half = [uses("GPU-aa", Some(GIB), None), uses("GPU-bb", None, None)];
    let row = ProcessRow { uses: &half, activity: None, devices: &devices };
    assert_eq!(text(&gpu::PROCESSES, "memory", row), "-", "a part is not all");
    let watched = ProcessRow { uses: &[], activity: Some(&activity), devices: &devices };
    assert_eq!(text(&gpu::PROCESSES, "pid", watched), "7");
}

#[test]
fn what_was_taken_before_the_watch_is_not_none() {
    let has = |memory: GpuMemoryActivity| {
        let activity = GpuActivity { memory: Some(memory), ..GpuActivity::default() };
        let row = ProcessRow { uses: &[], activity: Some(&activity), devices: &[] };
        ["outstanding", "pinned"].map(|name| text(&gpu::PROCESSES, name, row))
    };
    let seen = |kind: GpuAllocationKind| {
        vec![GpuAllocated { kind: kind.into(), count: 1, freed_count: 1, ..Default::default() }]
    };
    let unseen = GpuMemoryActivity { unknown_frees: 3, ..Default::default() };
    assert_eq!(has(unseen), ["-", "-"]);
    let freed = |kind| GpuMemoryActivity { allocated: seen(kind), ..Default::default() };
    assert_eq!(has(freed(GpuAllocationKind::Pool)), ["0B", "-"]);
    assert_eq!(has(freed(GpuAllocationKind::Pinned)), ["-", "0B"]);
}

#[test]
fn a_site_says_who_asked() {
    let frames = vec!["cudaMalloc+0x1f (libcudart.so.12)".to_owned(), "main+0x2 (app)".to_owned()];
    let site = GpuSite { frames, outstanding_bytes: 3 * GIB, count: 12 };
    let leak = GpuLeak {
        growth_bytes_per_second: 1_572_864.0,
        windows: 5,
        window: seconds(60),
        site: Some(site.clone()),
    };
    let memory = GpuMemoryActivity {
        outstanding_bytes: 4 * GIB,
        other_sites_bytes: GIB,
        leak: Some(leak),
        ..GpuMemoryActivity::default()
    };
    let activity = GpuActivity { memory: Some(memory), ..GpuActivity::default() };
    let cell =
        |name, site| text(&gpu::LEAKS, name, SiteRow { activity: &activity, site, devices: &[] });
    assert_eq!(cell("site", Some(&site)), "main+0x2 (app)");
    assert_eq!(cell("frames", Some(&site)), "cudaMalloc+0x1f (libcudart.so.12) ← main+0x2 (app)");
    let inner = GpuSite { frames: vec!["cuMemAlloc_v2+0x1 (libcuda.so.1)".into()], ..site };
    assert_eq!(cell("site", Some(&inner)), "cuMemAlloc_v2+0x1 (libcuda.so.1)");
    let bare = GpuSite::default();
    assert_eq!(cell("site", Some(&bare)), "(no frames)");
    assert_eq!((cell("here", Some(&site)), cell("here", None)), ("3.0GiB".into(), "1.0GiB".into()));
    assert_eq!(
        (cell("outstanding", None), cell("growth", None)),
        ("4.0GiB".into(), "1.5MiB".into())
    );
    assert_eq!(
        (cell("verdict", None), cell("windows", None)),
        ("leak".into(), "5 of 1m 0s".into())
    );
}

#[test]
fn every_kind_of_event_tells_its_own() {
    use GpuEventKind as Kind;
    let bare = |kind: Kind| StreamGpuResponse { kind: kind.into(), ..StreamGpuResponse::default() };
    let xid = GpuXid {
        code: 79,
        class: GpuXidClass::Hardware.into(),
        action: GpuXidAction::Reboot.into(),
        meaning: "GPU has fallen off the bus".into(),
    };
    let reasons = [GpuThrottleReason::PowerCap, GpuThrottleReason::PowerBrake];
    let process = GpuEventProcess { pid: 42, name: "python".into() };
    let communicator = 0xae94_423c_fbb2_ef4a;
    for (event, expected) in [
        (
            StreamGpuResponse { xid: Some(xid), ..bare(Kind::Xid) },
            "79 do=reboot GPU has fallen off the bus (hardware)",
        ),
        (
            StreamGpuResponse {
                began: true,
                reasons: reasons.map(Into::into).to_vec(),
                ..bare(Kind::Throttle)
            },
            "began power-cap,power-brake",
        ),
        (StreamGpuResponse { count: 2, ..bare(Kind::Ecc) }, "×2 uncorrected"),
        (bare(Kind::RowRemap), "done"),
        (StreamGpuResponse { pending: true, ..bare(Kind::RowRemap) }, "waits for a reset"),
        (StreamGpuResponse { failed: true, ..bare(Kind::RowRemap) }, "failed: no spare is left"),
        (
            StreamGpuResponse { reason: "GPU is lost".into(), ..bare(Kind::LostDevice) },
            "GPU is lost",
        ),
        (bare(Kind::Appeared), "-"),
        (
            StreamGpuResponse { began: true, duration: seconds(600), ..bare(Kind::Idle) },
            "began after=10m0s",
        ),
        (
            StreamGpuResponse { process: Some(process), ..bare(Kind::Unallocated) },
            "ended python[42]",
        ),
        (
            StreamGpuResponse { bytes: 2 * GIB, allocation: 2, ..bare(Kind::Allocated) },
            "2.0GiB pool",
        ),
        (
            StreamGpuResponse { bytes: 2 * GIB, error: 2, ..bare(Kind::AllocationFailed) },
            "2.0GiB out-of-memory",
        ),
        (StreamGpuResponse { rate: 1234.6, sampled: true, ..bare(Kind::Launches) }, "~1235/s"),
        (
            StreamGpuResponse { rate: 10.0, graph_rate: 3.0, ..bare(Kind::Launches) },
            "10/s graphs=3/s",
        ),
        (StreamGpuResponse { duration: seconds(2), ..bare(Kind::Module) }, "took=2.0s"),
        (
            StreamGpuResponse { bytes: GIB, rate: 1_048_576.0, ..bare(Kind::Leak) },
            "has=1.0GiB growth=1.0MiB/s",
        ),
        (
            StreamGpuResponse {
                count: 120,
                bytes: 1_200_000,
                communicator,
                rank: Some(3),
                ..bare(Kind::Collectives)
            },
            "calls=120 1.2MB rank=3 comm=ae94423cfbb2ef4a",
        ),
        (
            StreamGpuResponse {
                rank: Some(3),
                ranks: 8,
                duration: seconds(1),
                ..bare(Kind::CommunicatorInit)
            },
            "rank=3/8 took=1.0s",
        ),
        (StreamGpuResponse { rank: Some(0), ..bare(Kind::CommunicatorAbort) }, "rank=0"),
        (
            StreamGpuResponse { rank: Some(5), count: 12, ..bare(Kind::Straggler) },
            "rank=5 behind=12",
        ),
        (
            StreamGpuResponse { rank: Some(5), pending: true, ..bare(Kind::Straggler) },
            "rank=5 does not answer",
        ),
        (
            StreamGpuResponse {
                began: true,
                reason: "launches".into(),
                rate: 0.1,
                ..bare(Kind::Sampling)
            },
            "began launches part=10%",
        ),
    ] {
        assert_eq!(text(&gpu::EVENTS, "detail", &event), expected);
        assert_eq!(text(&gpu::EVENTS, "event", &event), event.kind().word().unwrap());
    }
}

#[test]
fn of_many_owners_the_first_is_named() {
    let owner =
        |pod: &str| Workload { namespace: "ml".into(), pod: pod.into(), ..Workload::default() };
    let event = |owners: &[&str]| StreamGpuResponse {
        owners: owners.iter().map(|pod| owner(pod)).collect(),
        ..StreamGpuResponse::default()
    };
    let cell = |owners: &[&str]| text(&gpu::EVENTS, "owner", &event(owners));
    assert_eq!(cell(&[]), "-");
    assert_eq!(cell(&["a"]), "ml/a");
    assert_eq!(cell(&["a", "b", "c"]), "ml/a +2");
}
