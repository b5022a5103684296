use super::*;
use crate::config::Config;
use crate::gpu::event::Process;
use crate::gpu::reading::{ProcessUse, UseKind};
use crate::gpu::view::{DeviceView, HolderHealth, ProcessView, Watching};
use crate::pipeline::{LocalAddresses, Pipeline};
use crate::status::{RingStatus, SourceState};

fn health(kind: SourceKind, devices: u32, problem: &str) -> SourceHealth {
    SourceHealth {
        kind,
        devices,
        problem: Some(problem.to_owned()).filter(|problem| !problem.is_empty()),
        took: Duration::ZERO,
        failures: 0,
        invalid: 0,
        unread: 0,
        lacks: None,
    }
}

fn asked(sources: SourceSelection) -> Asked {
    Asked { sources, kubelet: true }
}

/// A view of one device.
fn view() -> View {
    let seen = crate::gpu::reading::Seen {
        device: crate::gpu::Device {
            id: crate::gpu::DeviceId::new("GPU-1"),
            vendor: crate::gpu::Vendor::Nvidia,
            source: SourceKind::Nvml,
            index: None,
            minor: None,
            model: String::new(),
            architecture: None,
            pci: None,
            serial: None,
            driver: None,
            part: None,
            is_divided: false,
        },
        state: crate::gpu::DeviceState::Silent { reason: "busy".into() },
    };
    let device = DeviceView { seen, shares: Default::default(), counts: Default::default() };
    View { devices: vec![device], ..View::default() }
}

fn reason(status: &SourceStatus) -> &str {
    match &status.state {
        SourceState::Running => panic!("{status:?}"),
        SourceState::Skipped { reason } | SourceState::Absent { reason } => reason,
    }
}

#[test]
fn what_is_not_there_is_told_with_each_sources_reason() {
    let view = View {
        sources: vec![
            health(SourceKind::Nvml, 0, "no library"),
            health(SourceKind::Dcgm, 0, "no exporter"),
        ],
        ..View::default()
    };
    let status = status_of(Some(&view), &asked(SourceSelection::Auto));
    assert_eq!(reason(&status), "no accelerators here: nvml: no library; dcgm: no exporter");
    let status = status_of(None, &asked(SourceSelection::Auto));
    assert!(reason(&status).contains("hangs"), "{status:?}");
}

#[test]
fn what_is_missing_is_what_was_there_or_asked_for() {
    let mut failing = health(SourceKind::Amd, 0, "cannot be read");
    failing.failures = 1;
    let mut nvml = health(SourceKind::Nvml, 1, "");
    nvml.lacks = Some("nvmlDeviceGetPowerUsage of GPU 0: unknown".into());
    let view = View {
        sources: vec![
            nvml,
            health(SourceKind::Dcgm, 0, "no exporter"),
            failing,
            health(SourceKind::Tpu, 0, "no TPU"),
        ],
        holders: HolderHealth {
            problem: Some("no socket".into()),
            unmatched: vec!["GPU-9".into()],
            ..HolderHealth::default()
        },
        watching: Watching { problems: vec!["no BTF".into()], ..Watching::default() },
        ..view()
    };
    let status = status_of(Some(&view), &asked(SourceSelection::Auto));
    assert_eq!(status.state, SourceState::Running);
    let given = "holders: given, and not among the devices that are read: GPU-9";
    let unread = "nvml: asked for and not told: nvmlDeviceGetPowerUsage of GPU 0: unknown";
    let expected = ["amd: cannot be read", unread, "holders: no socket", given, "calls: no BTF"];
    assert_eq!(status.missing, expected);
    let only = SourceSelection::Only(vec![SourceKind::Nvml, SourceKind::Dcgm]);
    let quiet = Asked { sources: only, kubelet: false };
    let expected = ["dcgm: no exporter", "amd: cannot be read", unread, given, "calls: no BTF"];
    assert_eq!(status_of(Some(&view), &quiet).missing, expected);
}

#[test]
fn processes_that_stay_out_of_sight_are_told_and_one_that_has_just_ended_is_not() {
    let at = |seconds: u64, pids: &[(u32, &str)]| {
        let on = |(pid, name): &(u32, &str)| ProcessView {
            uses: ProcessUse {
                device: crate::gpu::DeviceId::new("GPU-1"),
                pid: *pid,
                kind: UseKind::Compute,
                memory: None,
                busy: None,
            },
            process: Process { pid: *pid, name: (*name).into(), workload: None },
        };
        let processes = pids.iter().map(on).collect();
        View { time: UnixNanos(seconds * 1_000_000_000), processes, ..view() }
    };
    let mut strangers = Strangers::default();
    assert_eq!(strangers.look(&at(100, &[(7, ""), (8, "python3"), (9, "")])), None);
    assert_eq!(strangers.look(&at(105, &[(7, ""), (8, "python3")])), None);
    let told = strangers.look(&at(110, &[(7, ""), (8, "python3"), (9, "")])).unwrap();
    assert!(told.contains("1 of those on devices") && told.contains("hostPID"), "{told}");
    assert_eq!(strangers.look(&at(111, &[(7, "python3"), (8, "python3")])), None);
}

/// A source with a sender in the place of the thread.
fn source() -> (GpuSource, watch::Sender<Beat>, StatusBoard) {
    let (sender, beat) = watch::channel(Beat { next: Instant::now(), view: None });
    let (asked, status) = (asked(SourceSelection::Auto), StatusBoard::default());
    let told = status_of(None, &asked);
    let (strangers, cancel) = (Strangers::default(), CancellationToken::new());
    let source = GpuSource { beat, asked, strangers, status: status.clone(), told, cancel };
    (source, sender, status)
}

#[tokio::test]
async fn it_runs_when_a_device_appears_and_not_when_its_thread_hangs() {
    let (mut source, sender, status) = source();
    let now = Instant::now();
    source.look(now + PATIENCE - Duration::from_secs(1));
    assert!(status.read().sources.is_empty(), "there is time");
    source.look(now + PATIENCE * 2);
    let told = status.read().sources[0].clone();
    assert!(reason(&told).starts_with("reading accelerators hangs for 20 s"), "{told:?}");
    let cancel = source.cancel.clone();
    let running = tokio::spawn(source.run());
    let far = Instant::now() + Duration::from_secs(3600);
    let ring = RingStatus { probe: "gpu", drops: 3, ..RingStatus::default() };
    let watching = Watching { ring: Some(ring.clone()), ..Watching::default() };
    sender.send_replace(Beat { next: far, view: Some(View { watching, ..view() }.into()) });
    let is_running = async {
        while status.read().sources[0].state != SourceState::Running {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_running).await.unwrap();
    cancel.cancel();
    drop(sender);
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
    assert_eq!(status.read().sources[0].state, SourceState::Running, "it was asked to end");
    assert_eq!(status.read().rings, [ring], "what it lost is seen with that of the others");
}

#[tokio::test]
async fn it_ends_with_its_thread() {
    let (source, sender, status) = source();
    drop(sender);
    tokio::time::timeout(PATIENCE, source.run()).await.unwrap();
    let told = status.read().sources[0].clone();
    assert!(reason(&told).contains("an error of orb8's own"), "{told:?}");
}

#[test]
fn what_lasts_longer_is_no_news() {
    let skipped = |text: &str| SourceStatus::skipped(Signal::Gpu, text.to_owned());
    let (one, other) = (skipped("hangs for 4.2 s"), skipped("hangs for 17.5 s"));
    assert_eq!(without_numbers(&one), without_numbers(&other));
    assert_ne!(without_numbers(&one), without_numbers(&skipped("is absent")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_accelerators_is_told_soon() {
    let pipeline =
        Pipeline::new(&Config::in_process().unwrap(), LocalAddresses::default()).shared();
    let board = crate::pipeline::lock(&pipeline).gpu();
    let config = GpuConfig {
        sources: SourceSelection::Only(vec![SourceKind::Nvml, SourceKind::Neuron]),
        nvml_library: Some("/nonexistent/libnvidia-ml.so.1".into()),
        neuron_monitor: Some("/nonexistent/neuron-monitor".into()),
        ..GpuConfig::default()
    };
    let cancel = CancellationToken::new();
    let began = Instant::now();
    let source = GpuSource::start(&config, pipeline, board, StatusBoard::default(), cancel.clone());
    let source = source.await.unwrap();
    assert!(began.elapsed() < FIRST_LOOK, "{:?}", began.elapsed());
    let reason = reason(source.status()).to_owned();
    assert!(reason.contains("nvml: ") && reason.contains("neuron: "), "{reason}");
    cancel.cancel();
    tokio::time::timeout(PATIENCE, source.run()).await.unwrap();
}
