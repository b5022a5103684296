//! The core, step by step, without a clock.

use std::collections::BTreeSet;

use super::*;
use crate::event::UnixNanos;
use crate::gpu::device::{Device, DeviceId, PciAddress, Vendor};
use crate::gpu::event::{GpuEventKind, Xid, XidAction, XidClass};
use crate::gpu::holding::Holding;
use crate::gpu::kubelet::{Given, PodName, What};
use crate::gpu::reading::{DeviceState, ProcessUse, Seen};
use crate::gpu::sample::{NvLink, ThrottleReason};
use crate::gpu::samples::{Everyone, device, part, reading, sampled, uses, workload};
use crate::gpu::share::{Basis, Standing};
use crate::gpu::source::Unread;

/// A node whose sources are what a test says.
struct Node {
    core: Core,
    who: Everyone,
    listing: Listing,
    unread: Unread,
    start: Instant,
    seconds: u64,
}

impl Node {
    fn new() -> Self {
        let core = Core::new(&GpuConfig::default());
        let (who, listing) = (Everyone::default(), Listing::default());
        let unread = Unread::default();
        Self { core, who, listing, unread, start: Instant::now(), seconds: 1 }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.seconds)
    }

    /// The kubelet tells who holds what, now.
    fn give(&mut self, given: &[(&str, &str)]) {
        let given = given.iter().map(|(pod, id)| Given {
            pod: PodName { namespace: "ml".into(), pod: (*pod).into() },
            container: "main".into(),
            what: What::Device { resource: "nvidia.com/gpu".into(), id: (*id).into() },
        });
        let read = Some(self.now());
        self.listing = Listing { given: given.collect(), read, gives: true, ..Listing::default() };
    }

    fn step(&mut self, outcomes: Vec<(SourceKind, Outcome)>) -> Step {
        let answers = outcomes.into_iter().map(|(kind, outcome)| Answer {
            kind,
            outcome,
            took: Duration::from_millis(7),
            invalid: 0,
            unread: self.unread.clone(),
        });
        let time = UnixNanos(self.seconds * 1_000_000_000);
        let news =
            News { answers: answers.collect(), listing: self.listing.clone(), ..News::default() };
        let step = self.core.step((self.now(), time), news, &mut self.who);
        self.seconds += 1;
        step
    }

    fn read(&mut self, devices: Vec<Seen>, processes: Vec<ProcessUse>) -> Step {
        let told = reading(SourceKind::Nvml, devices, processes);
        self.step(vec![(SourceKind::Nvml, Outcome::Read(told))])
    }
}

fn busy(id: &str, memory: u64, busy: f64) -> Seen {
    sampled(device(id), |sample| {
        sample.memory.used = Some(memory);
        sample.busy.gpu = Some(busy);
    })
}

fn of(kind: SourceKind, mut seen: Seen) -> Seen {
    seen.device.source = kind;
    seen
}

fn xid(device: &str, code: u32) -> GpuEvent {
    let xid =
        Xid { code, class: XidClass::Application, action: XidAction::RestartPod, meaning: "x" };
    GpuEvent {
        time: UnixNanos(1),
        device: Some(DeviceId::new(device)),
        index: None,
        process: None,
        owners: Vec::new(),
        kind: GpuEventKind::Xid(xid),
    }
}

fn pods(event: &GpuEvent) -> Vec<&str> {
    event.owners.iter().filter_map(|owner| owner.pod.as_deref()).collect()
}

#[test]
fn holders_and_users_are_joined() {
    let mut node = Node::new();
    node.who = Everyone::default().with(10, "train").with(11, "thief");
    node.give(&[("train", "GPU-1"), ("rests", "GPU-2"), ("lost", "GPU-9")]);
    let devices = || vec![busy("GPU-1", 100, 0.5), busy("GPU-2", 0, 0.0)];
    let uses = || vec![uses("GPU-1", 10, 60, Some(0.4)), uses("GPU-1", 11, 30, Some(0.1))];
    let Step { view, unheld, holders, .. } = node.read(devices(), uses());
    assert_eq!(holders.len(), 3);
    assert_eq!(view.holders.unmatched, ["GPU-9"]);
    assert_eq!(view.holders.from.as_deref(), Some("kubelet"));
    let first = &view.device(&DeviceId::new("GPU-1")).unwrap().shares;
    let [train, thief] = first.shares.as_slice() else { panic!("{first:?}") };
    assert_eq!(
        (train.memory, train.busy),
        (Some((60, Basis::Exact)), Some((0.4, Basis::Estimated)))
    );
    assert_eq!(train.standing, Standing::Active);
    assert_eq!(train.holds.as_ref().unwrap().resource, "nvidia.com/gpu");
    assert_eq!((thief.holds.as_ref(), thief.standing), (None, Standing::InUse));
    assert_eq!(first.unattributed_memory, Some(10));
    // It was not seen when the kubelet was asked, so it is asked again.
    let thief = PodName { namespace: "ml".into(), pod: "thief".into() };
    assert_eq!(unheld, Some(Some(thief)));
    node.give(&[("train", "GPU-1"), ("rests", "GPU-2")]);
    let Step { view, unheld, events, .. } = node.read(devices(), uses());
    assert_eq!(view.devices[0].shares.shares[1].standing, Standing::Unallocated);
    assert_eq!((unheld, events.len()), (None, 1));
    assert_eq!(events[0].kind, GpuEventKind::Unallocated { began: true });
    assert_eq!(pods(&events[0]), ["thief"]);
    let rests = &view.devices[1].shares.shares[0];
    assert!(matches!(rests.standing, Standing::Idle { is_long: false, .. }), "{rests:?}");
    assert_eq!((rests.memory, rests.busy), (Some((0, Basis::Exact)), Some((0.0, Basis::Exact))));
    assert_eq!(view.processes.len(), 2);
    assert_eq!(&*view.processes[0].process.name, "python3");
}

#[test]
fn a_value_that_was_not_told_is_told_of_for_a_minute() {
    let mut node = Node::new();
    let mut lacks = |count, last: &str| {
        node.unread = Unread { count, last: Some(last.to_owned()) };
        let health = node.read(vec![busy("GPU-0", 1, 0.5)], vec![]).view.sources.remove(0);
        assert_eq!(health.unread, count);
        health.lacks
    };
    assert_eq!(lacks(0, ""), None);
    assert_eq!(lacks(2, "power of GPU 0: unknown").unwrap(), "power of GPU 0: unknown");
    for _ in 0..59 {
        assert!(lacks(2, "power of GPU 0: unknown").is_some());
    }
    assert_eq!(lacks(2, "power of GPU 0: unknown"), None, "it is over");
}

#[test]
fn a_device_that_two_hold_is_shared() {
    let mut node = Node::new();
    node.give(&[("a", "GPU-1::0"), ("b", "GPU-1::1")]);
    let Step { view, .. } = node.read(vec![busy("GPU-1", 0, 0.0)], vec![]);
    assert!(view.devices[0].shares.shares.iter().all(|it| it.holds.as_ref().unwrap().is_shared));
    node.give(&[("a", "GPU-1"), ("b", "GPU-1")]);
    let Step { view, .. } = node.read(vec![busy("GPU-1", 0, 0.0)], vec![]);
    assert!(view.devices[0].shares.shares.iter().all(|it| it.holds.as_ref().unwrap().is_shared));
}

#[test]
fn a_pod_that_ended_holds_nothing() {
    let mut node = Node::new();
    node.give(&[("ended-job", "GPU-1"), ("next", "GPU-1")]);
    let Step { view, .. } = node.read(vec![busy("GPU-1", 0, 0.0)], vec![]);
    let [next] = view.devices[0].shares.shares.as_slice() else { panic!("{view:?}") };
    assert_eq!(next.owner.pod.as_deref(), Some("next"));
    assert!(!next.holds.as_ref().unwrap().is_shared);
}

#[test]
fn without_a_kubelet_users_use_and_labels_tell() {
    let mut node = Node::new();
    node.who = Everyone::default().with(10, "train");
    let used = uses("GPU-1", 10, 60, None);
    let Step { view, .. } = node.read(vec![busy("GPU-1", 60, 0.5)], vec![used.clone()]);
    assert_eq!(view.devices[0].shares.shares[0].standing, Standing::InUse);
    assert_eq!(view.holders.from, None);
    let holding = Holding {
        namespace: "ml".into(),
        pod: "train".into(),
        container: "main".into(),
        resource: "nvidia.com/gpu".into(),
        device: Some(DeviceId::new("GPU-1")),
        given_as: "GPU-1".into(),
        is_shared: false,
        claim: None,
    };
    let nvml = reading(SourceKind::Nvml, vec![busy("GPU-1", 60, 0.5)], vec![used]);
    let mut dcgm =
        reading(SourceKind::Dcgm, vec![of(SourceKind::Dcgm, busy("GPU-1", 60, 0.5))], vec![]);
    dcgm.holdings.push(holding);
    let told = [(SourceKind::Nvml, nvml), (SourceKind::Dcgm, dcgm)];
    let step = node.step(told.map(|(kind, told)| (kind, Outcome::Read(told))).into());
    assert_eq!(step.view.holders.from.as_deref(), Some("dcgm-exporter's labels"));
    assert_eq!(step.view.devices[0].shares.shares[0].standing, Standing::Active);
}

#[test]
fn an_error_is_counted_and_told_with_who_had_the_device() {
    let mut node = Node::new();
    node.who = Everyone::default().with(10, "train").with(11, "crashed");
    node.give(&[("train", "GPU-1")]);
    let devices = || vec![busy("GPU-1", 9, 0.5)];
    node.read(devices(), vec![uses("GPU-1", 10, 1, None), uses("GPU-1", 11, 1, None)]);
    let mut told = reading(SourceKind::Nvml, devices(), vec![uses("GPU-1", 10, 1, None)]);
    told.events.push(xid("GPU-1", 31));
    let step = node.step(vec![(SourceKind::Nvml, Outcome::Read(told))]);
    let event = &step.events[0];
    assert_eq!((pods(event), event.index), (vec!["train", "crashed"], Some(0)));
    assert_eq!(step.view.devices[0].counts.xids[&31], 1);
    // The next time, nobody asked: it is told once.
    let step = node.step(vec![]);
    assert!(!step.events.iter().any(|event| matches!(event.kind, GpuEventKind::Xid(_))));
    assert_eq!(step.view.devices[0].counts.xids[&31], 1);
}

#[test]
fn what_happens_to_a_divided_device_happens_to_who_has_its_parts() {
    let mut node = Node::new();
    node.give(&[("a", "MIG-1"), ("b", "MIG-2")]);
    let whole = Device { is_divided: true, ..device("GPU-1") };
    let devices = |reasons: Vec<ThrottleReason>| {
        vec![
            sampled(whole.clone(), |sample| sample.throttle.reasons = Some(reasons)),
            sampled(part("MIG-1", "GPU-1", 3, "1g.10gb"), |_| {}),
            sampled(part("MIG-2", "GPU-1", 4, "1g.10gb"), |_| {}),
        ]
    };
    node.read(devices(vec![]), vec![]);
    let step = node.read(devices(vec![ThrottleReason::HardwareThermal]), vec![]);
    assert_eq!(step.events.len(), 1);
    assert_eq!(pods(&step.events[0]), ["a", "b"]);
}

#[test]
fn the_first_source_that_knows_a_device_tells_of_it() {
    let mut node = Node::new();
    let pci = PciAddress::parse("00000000:1B:00.0");
    let at = |seen: Seen| Seen { device: Device { pci: pci.clone(), ..seen.device }, ..seen };
    let mut nvml_device = at(busy("GPU-1", 60, 0.5));
    let mut dcgm_device = of(SourceKind::Dcgm, at(busy("other-name", 70, 0.9)));
    for (seen, link) in [
        (&mut nvml_device, NvLink { links: 18, ..NvLink::default() }),
        (&mut dcgm_device, NvLink { tx_rate: Some(5), ..NvLink::default() }),
    ] {
        let DeviceState::Sampled(sample) = &mut seen.state else { unreachable!() };
        sample.nvlink = Some(link);
    }
    let DeviceState::Sampled(sample) = &mut dcgm_device.state else { unreachable!() };
    sample.busy.sm = Some(0.3);
    let nvml = reading(SourceKind::Nvml, vec![nvml_device], vec![uses("GPU-1", 10, 60, None)]);
    let also = vec![
        of(SourceKind::Dcgm, sampled(part("other-name/gi3", "other-name", 3, "1g"), |_| {})),
        of(SourceKind::Dcgm, busy("GPU-2", 1, 0.1)),
    ];
    let devices = [vec![dcgm_device], also].concat();
    let seen_twice = vec![uses("other-name", 10, 61, None), uses("GPU-2", 11, 1, None)];
    let mut dcgm = reading(SourceKind::Dcgm, devices, seen_twice);
    dcgm.events.push(xid("other-name", 79));
    let told = [(SourceKind::Dcgm, dcgm), (SourceKind::Nvml, nvml)];
    let Step { view, events, .. } =
        node.step(told.map(|(kind, told)| (kind, Outcome::Read(told))).into());
    let ids: Vec<&str> = view.devices.iter().map(|it| it.seen.device.id.as_str()).collect();
    assert_eq!(ids, ["GPU-1", "GPU-2"], "its parts are nobody's");
    let sample = view.devices[0].seen.state.sample().unwrap();
    assert_eq!(
        (sample.busy.gpu, sample.busy.sm, sample.memory.used),
        (Some(0.5), Some(0.3), Some(60))
    );
    let link = sample.nvlink.unwrap();
    assert_eq!((link.links, link.tx_rate), (18, Some(5)));
    let pids: Vec<u32> = view.processes.iter().map(|it| it.uses.pid).collect();
    assert_eq!(pids, [10, 11]);
    assert_eq!(events, [], "the first source tells of errors");
    let counts: Vec<(SourceKind, u32)> =
        view.sources.iter().map(|source| (source.kind, source.devices)).collect();
    assert_eq!(counts, [(SourceKind::Nvml, 1), (SourceKind::Dcgm, 1)]);
}

#[test]
fn cores_of_one_board_are_several_devices() {
    let mut node = Node::new();
    let pci = PciAddress::parse("00:1e.0").or_else(|| PciAddress::parse("0000:00:1e.0"));
    let core = |id: &str| {
        let source = SourceKind::Neuron;
        sampled(Device { vendor: Vendor::Aws, source, pci: pci.clone(), ..device(id) }, |_| {})
    };
    let told =
        reading(SourceKind::Neuron, vec![core("neuroncore-0"), core("neuroncore-1")], vec![]);
    let step = node.step(vec![(SourceKind::Neuron, Outcome::Read(told))]);
    assert_eq!(step.view.devices.len(), 2);
}

#[test]
fn a_source_that_fails_leaves_its_devices_silent() {
    let mut node = Node::new();
    node.give(&[("train", "GPU-1")]);
    node.read(vec![busy("GPU-1", 1, 0.5)], vec![]);
    let late = Outcome::Late(Duration::from_millis(4200));
    let Step { view, events, .. } = node.step(vec![(SourceKind::Nvml, late)]);
    let DeviceState::Silent { reason } = &view.devices[0].seen.state else { panic!("{view:?}") };
    assert!(reason.starts_with("no answer for 4.2 s"), "{reason}");
    assert_eq!((view.sources[0].failures, view.devices[0].counts.silent), (1, 1));
    assert_eq!(events, []);
    assert_eq!(view.devices[0].shares.shares[0].owner.pod.as_deref(), Some("train"));
    // Another source that knows the device is believed meanwhile.
    let dcgm = reading(SourceKind::Dcgm, vec![of(SourceKind::Dcgm, busy("GPU-1", 2, 0.1))], vec![]);
    let failed = Outcome::Failed("driver is gone".into());
    let told = vec![(SourceKind::Nvml, failed), (SourceKind::Dcgm, Outcome::Read(dcgm))];
    let Step { view, events, .. } = node.step(told);
    assert_eq!(view.devices.len(), 1);
    assert_eq!(view.devices[0].seen.state.sample().unwrap().memory.used, Some(2));
    assert_eq!(events, []);
}

#[test]
fn a_driver_that_is_unloaded_takes_its_devices_after_a_while() {
    let mut node = Node::new();
    node.read(vec![busy("GPU-1", 1, 0.5)], vec![]);
    let absent = || vec![(SourceKind::Nvml, Outcome::Absent("no driver".into()))];
    let step = node.step(absent());
    assert!(matches!(step.view.devices[0].seen.state, DeviceState::Silent { .. }));
    node.seconds += 30;
    assert_eq!(node.step(absent()).view.devices.len(), 1);
    node.seconds += 30;
    let Step { view, events, .. } = node.step(absent());
    assert_eq!(view.devices.len(), 0);
    assert_eq!(events[0].kind, GpuEventKind::Removed);
    assert_eq!(view.sources[0].problem.as_deref(), Some("no driver"));
    let step = node.read(vec![busy("GPU-1", 1, 0.5)], vec![]);
    assert_eq!(step.events[0].kind, GpuEventKind::Appeared);
}

#[test]
fn an_mps_server_owns_nothing() {
    let mut node = Node::new();
    node.who = Everyone::default().with(10, "train").with_named(
        9,
        "nvidia-cuda-mps",
        Some(workload("mps")),
    );
    node.give(&[("train", "GPU-1")]);
    let told = vec![uses("GPU-1", 9, 5, None), uses("GPU-1", 10, 60, None)];
    let Step { view, .. } = node.read(vec![busy("GPU-1", 80, 0.5)], told);
    let owners: BTreeSet<_> =
        view.devices[0].shares.shares.iter().filter_map(|it| it.owner.pod.clone()).collect();
    assert_eq!(owners.into_iter().collect::<Vec<_>>(), ["train"]);
    assert_eq!(view.processes.len(), 2, "it is there all the same");
    assert_eq!(view.devices[0].shares.unattributed_memory, Some(20));
}
