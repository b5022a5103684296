//! What happens.

use super::*;

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
