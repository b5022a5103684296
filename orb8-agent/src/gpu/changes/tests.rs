use proptest::prelude::*;

use super::*;
use crate::gpu::reading::DeviceState;
use crate::gpu::sample::{Ecc, RemappedRows, Sample, ThrottleReason};
use crate::gpu::samples::{device, part, sampled};

const SECOND: Duration = Duration::from_secs(1);

/// Devices, read second by second.
struct Node {
    changes: Changes,
    start: Instant,
    seconds: u64,
}

impl Node {
    fn new() -> Self {
        Self { changes: Changes::default(), start: Instant::now(), seconds: 0 }
    }

    fn read(&mut self, devices: &[Seen]) -> Vec<(String, GpuEventKind)> {
        let now = self.start + Duration::from_secs(self.seconds);
        let time = UnixNanos(self.seconds * 1_000_000_000);
        self.seconds += 1;
        let moment = Moment { now, time, interval: SECOND };
        let events = self.changes.compare(moment, devices);
        self.changes.note_told([SourceKind::Nvml]);
        for event in events.iter().filter(|event| event.kind == GpuEventKind::Removed) {
            let is_part = event.device.as_ref().unwrap().as_str().starts_with("MIG");
            assert!(
                !is_part || event.index.is_none(),
                "a number that reads as a device's: {event:?}"
            );
        }
        let told = events.into_iter().map(|event| (event.device.unwrap().to_string(), event.kind));
        told.collect()
    }

    /// Reads one device, and returns what happened to it.
    fn sample(&mut self, change: impl FnOnce(&mut Sample)) -> Vec<GpuEventKind> {
        let events = self.read(&[sampled(device("GPU-1"), change)]);
        events.into_iter().map(|(_, kind)| kind).collect()
    }

    fn counts(&self) -> DeviceCounts {
        self.changes.counts(&DeviceId::new("GPU-1"))
    }
}

fn lost(id: &str) -> Seen {
    let state = DeviceState::Lost { reason: "GPU is lost".into(), since: UnixNanos(1) };
    Seen { device: device(id), state }
}

#[test]
fn a_lost_device_is_told_once_and_so_is_its_return() {
    let mut node = Node::new();
    let well = || sampled(device("GPU-1"), |_| {});
    assert_eq!(node.read(&[well()]), [], "it was there when the agent started");
    let told = GpuEventKind::Lost { reason: "GPU is lost".into() };
    assert_eq!(node.read(&[lost("GPU-1")]), [("GPU-1".into(), told.clone())]);
    assert_eq!(node.read(&[lost("GPU-1")]), []);
    assert_eq!(node.read(&[well()]), [("GPU-1".into(), GpuEventKind::Appeared)]);
    assert_eq!(node.read(&[lost("GPU-1")]), [("GPU-1".into(), told)]);
    assert_eq!(node.read(&[]), [], "what became of it is no news");
    assert_eq!(node.counts().lost, 2);
}

#[test]
fn a_device_that_is_divided_anew_has_other_parts() {
    let mut node = Node::new();
    let whole = || sampled(device("GPU-1"), |_| {});
    let small = |id| sampled(part(id, "GPU-1", 3, "1g.10gb"), |_| {});
    node.read(&[whole(), small("MIG-a"), small("MIG-b")]);
    let told = node.read(&[whole(), small("MIG-b"), small("MIG-c")]);
    let appeared = ("MIG-c".to_owned(), GpuEventKind::Appeared);
    assert_eq!(told, [appeared, ("MIG-a".to_owned(), GpuEventKind::Removed)]);
    let silent = Seen { state: DeviceState::Silent { reason: "busy".into() }, ..whole() };
    assert_eq!(node.read(&[silent, small("MIG-b"), small("MIG-c")]), []);
    assert_eq!(node.counts().silent, 1);
    let told = node.read(&[whole(), small("MIG-a"), small("MIG-b"), small("MIG-c")]);
    assert_eq!(told, [("MIG-a".to_owned(), GpuEventKind::Appeared)], "it is back");
}

#[test]
fn what_comes_with_a_source_that_was_away_appeared() {
    let mut node = Node::new();
    node.changes.note_told([SourceKind::Nvml]);
    let told = node.read(&[sampled(device("GPU-1"), |_| {})]);
    assert_eq!(told, [("GPU-1".to_owned(), GpuEventKind::Appeared)]);
}

#[test]
fn throttling_that_flaps_is_told_once() {
    let mut node = Node::new();
    let capped = |sample: &mut Sample| {
        sample.throttle.reasons = Some(vec![ThrottleReason::PowerCap, ThrottleReason::Idle]);
    };
    let free = |sample: &mut Sample| sample.throttle.reasons = Some(vec![]);
    let throttle =
        |began| GpuEventKind::Throttle { began, reasons: vec![ThrottleReason::PowerCap] };
    node.sample(free);
    assert_eq!(node.sample(capped), [throttle(true)]);
    for _ in 0..20 {
        assert_eq!(node.sample(free), []);
        assert_eq!(node.sample(capped), []);
    }
    for _ in 0..9 {
        assert_eq!(node.sample(free), []);
    }
    assert_eq!(node.sample(|_| {}), [], "the device does not say");
    assert_eq!(node.sample(free), [throttle(false)]);
    let counts = node.counts();
    assert_eq!(counts.throttled[&ThrottleReason::PowerCap], SECOND * 21);
    assert_eq!(counts.throttled.len(), 1, "an idle device loses nothing");
    // What happened while nobody looked is not known.
    node.seconds += 3600;
    node.sample(capped);
    assert_eq!(node.counts().throttled[&ThrottleReason::PowerCap], SECOND * 23);
}

#[test]
fn errors_are_what_was_added() {
    let mut node = Node::new();
    let ecc = |uncorrected, lifetime| {
        move |sample: &mut Sample| {
            sample.ecc = Some(Ecc {
                is_enabled: true,
                uncorrected,
                uncorrected_lifetime: lifetime,
                ..Ecc::default()
            });
        }
    };
    let count = |count| vec![GpuEventKind::EccUncorrected { count }];
    assert_eq!(node.sample(ecc(Some(5), Some(90))), [], "they are old");
    assert_eq!(node.sample(ecc(Some(7), Some(92))), count(2));
    assert_eq!(node.sample(ecc(Some(0), Some(92))), [], "the driver was loaded anew");
    assert_eq!(node.sample(ecc(Some(1), Some(93))), count(1));
    assert_eq!(node.sample(|_| {}), []);
    assert_eq!(node.sample(ecc(None, Some(96))), count(3), "all that it tells");
}

#[test]
fn rows_are_told_when_they_are_remapped() {
    let mut node = Node::new();
    let rows = |uncorrectable, is_pending, has_failed| {
        move |sample: &mut Sample| {
            let correctable = 1;
            sample.rows = Some(RemappedRows { correctable, uncorrectable, is_pending, has_failed });
        }
    };
    let told = |is_pending, has_failed| vec![GpuEventKind::RowRemap { is_pending, has_failed }];
    assert_eq!(node.sample(rows(1, true, false)), [], "as it was found");
    assert_eq!(node.sample(rows(2, true, false)), told(true, false));
    assert_eq!(node.sample(rows(2, false, false)), [], "it was reset");
    assert_eq!(node.sample(rows(2, false, true)), told(false, true));
    assert_eq!(node.sample(rows(2, false, true)), []);
}

#[test]
fn energy_survives_a_driver_that_is_loaded_anew() {
    let mut node = Node::new();
    let energy = |mj| move |sample: &mut Sample| sample.power.energy_mj = mj;
    node.sample(energy(Some(1_000_000_000)));
    node.sample(energy(Some(1_000_700_000)));
    node.sample(energy(None));
    node.sample(energy(Some(1_002_000_000)));
    node.sample(energy(Some(300_000)));
    assert_eq!(node.counts().energy_mj, 700_000 + 1_300_000 + 300_000);
    node.sample(energy(Some(0)));
    node.sample(energy(Some(1_000_000_000)));
    assert_eq!(node.counts().energy_mj, 2_300_000, "no device draws a megawatt");
}

#[test]
fn errors_are_counted_by_number_and_bounded() {
    let mut node = Node::new();
    node.sample(|_| {});
    let id = DeviceId::new("GPU-1");
    for code in 0..1000 {
        node.changes.count_xid(&id, code, UnixNanos(1));
    }
    node.changes.count_xid(&id, 79, UnixNanos(2));
    node.changes.count_xid(&DeviceId::new("GPU-unknown"), 79, UnixNanos(3));
    let counts = node.counts();
    assert_eq!((counts.xids.len(), counts.xids[&79]), (256, 2));
    assert_eq!((counts.last_xid, counts.last_xid_time), (Some(79), UnixNanos(2)));
    let times = &counts.xid_times;
    assert_eq!((times.len(), times[&78], times[&79]), (256, UnixNanos(1), UnixNanos(2)));
}

#[test]
fn devices_that_come_and_go_are_forgotten() {
    let mut node = Node::new();
    for at in 0..3000 {
        let id = format!("MIG-{at}");
        node.read(&[sampled(part(&id, "GPU-1", 3, "1g.10gb"), |_| {})]);
    }
    assert_eq!(node.changes.known.len(), MAX_KNOWN);
}

proptest! {
    #[test]
    fn counts_never_go_back(
        energies in prop::collection::vec(prop::option::of(any::<u64>()), 1..20),
        errors in prop::collection::vec(prop::option::of(any::<u64>()), 1..20),
    ) {
        let mut node = Node::new();
        let mut last = 0;
        for (energy_mj, uncorrected) in energies.into_iter().zip(errors) {
            node.sample(|sample| {
                sample.power.energy_mj = energy_mj;
                sample.ecc = Some(Ecc { is_enabled: true, uncorrected, ..Ecc::default() });
            });
            let counts = node.counts();
            prop_assert!(counts.energy_mj >= last);
            last = counts.energy_mj;
        }
        prop_assert!(last <= 10_000_000 * node.seconds);
    }
}
