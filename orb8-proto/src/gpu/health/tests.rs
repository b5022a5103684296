use super::*;
use crate::v1::{GpuCounts, GpuPart, GpuThrottle, GpuThrottled, GpuXid, GpuXidClass};

/// A device that does its work.
fn well() -> GpuDevice {
    let sample = GpuSample {
        utilization: Some(0.9),
        temperature: Some(61.0),
        slowdown_temperature: Some(87.0),
        throttle: Some(GpuThrottle::default()),
        pcie_generation: Some(5),
        pcie_width: Some(16),
        pcie_max_generation: Some(5),
        pcie_max_width: Some(16),
        nvlink: Some(GpuNvLink {
            links: 18,
            active: 18,
            crc_errors: Some(7),
            ..Default::default()
        }),
        ecc: Some(GpuEcc { enabled: true, corrected: Some(3), ..Default::default() }),
        remapped_rows: Some(GpuRemappedRows::default()),
        ..GpuSample::default()
    };
    GpuDevice {
        state: GpuState::Ok.into(),
        sample: Some(sample),
        counts: Some(GpuCounts::default()),
        ..GpuDevice::default()
    }
}

fn with(change: impl FnOnce(&mut GpuSample)) -> GpuDevice {
    let mut device = well();
    change(device.sample.as_mut().unwrap());
    device
}

fn with_xid(code: u32, action: GpuXidAction) -> GpuDevice {
    let class = GpuXidClass::Hardware.into();
    let xid = GpuXid { code, class, action: action.into(), meaning: "it broke".into() };
    let counts = GpuCounts {
        xids: vec![GpuXidCount { xid: Some(xid), count: 2, last_ns: 5_000_000_000 }],
        ..Default::default()
    };
    GpuDevice { counts: Some(counts), ..well() }
}

#[test]
fn a_device_that_works_is_well() {
    assert_eq!(judge(&well()), []);
    assert_eq!(judge(&GpuDevice::default()), [], "what says nothing is accused of nothing");
}

#[test]
fn each_thing_has_its_verdict_and_remedy() {
    use GpuThrottleReason as Reason;
    let held = |reason: Reason| {
        with(|sample| {
            let reasons = vec![reason.into()];
            sample.throttle = Some(GpuThrottle { reasons, ..GpuThrottle::default() });
        })
    };
    let rows = |rows: GpuRemappedRows| with(|sample| sample.remapped_rows = Some(rows));
    let none = GpuRemappedRows::default();
    let lost = GpuDevice {
        state: GpuState::Lost.into(),
        state_reason: "GPU is lost".into(),
        sample: None,
        ..well()
    };
    let back = GpuDevice { counts: Some(GpuCounts { lost: 1, ..Default::default() }), ..well() };
    let silent = GpuDevice { state: GpuState::Silent.into(), sample: None, ..well() };
    for (device, expected, said) in [
        (lost, Verdict::Bad, "lost: GPU is lost"),
        (silent, Verdict::Warn, "does not answer"),
        (back, Verdict::Warn, "was lost ×1"),
        (with_xid(63, GpuXidAction::None), Verdict::Ok, "XID 63 ×2 (hardware): it broke"),
        (with_xid(31, GpuXidAction::RestartPod), Verdict::Warn, "XID 31"),
        (with_xid(48, GpuXidAction::ResetDevice), Verdict::Bad, "XID 48"),
        (with_xid(79, GpuXidAction::Reboot), Verdict::Bad, "XID 79"),
        (with_xid(64, GpuXidAction::Drain), Verdict::Bad, "XID 64"),
        (rows(GpuRemappedRows { failed: true, ..none }), Verdict::Bad, "no spare is left"),
        (rows(GpuRemappedRows { pending: true, ..none }), Verdict::Warn, "waits for a reset"),
        (rows(GpuRemappedRows { uncorrectable: 2, ..none }), Verdict::Ok, "stand in for: 2"),
        (
            with(|it| it.ecc = Some(GpuEcc { uncorrected: Some(1), ..Default::default() })),
            Verdict::Bad,
            "not corrected: 1",
        ),
        (held(Reason::HardwareThermal), Verdict::Warn, "is held back: hardware-thermal"),
        (held(Reason::PowerBrake), Verdict::Warn, "is held back: power-brake"),
        (with(|it| it.temperature = Some(87.0)), Verdict::Warn, "87 °C"),
        (with(|it| it.pcie_width = Some(8)), Verdict::Warn, "gen5 x8 under load"),
        (with(|it| it.pcie_generation = Some(1)), Verdict::Warn, "gen1 x16 under load"),
        (with(|it| it.nvlink.as_mut().unwrap().active = 17), Verdict::Warn, "down: 1 of 18"),
        (
            with(|it| it.nvlink.as_mut().unwrap().recoveries = Some(1)),
            Verdict::Warn,
            "trained again ×1",
        ),
    ] {
        let findings = judge(&device);
        assert_eq!(verdict(&findings), expected, "{said}: {findings:?}");
        assert!(findings[0].what.contains(said), "{said}: {findings:?}");
        assert_eq!(findings[0].remedy.is_empty(), expected == Verdict::Ok, "{findings:?}");
    }
}

#[test]
fn what_is_usual_is_no_finding() {
    use GpuThrottleReason as Reason;
    let reasons = vec![Reason::PowerCap.into(), Reason::Idle.into()];
    let capped = GpuThrottle { reasons, ..GpuThrottle::default() };
    for device in [
        with(|sample| sample.throttle = Some(capped)),
        with(|sample| (sample.utilization, sample.pcie_generation) = (Some(0.0), Some(1))),
        with(|sample| (sample.utilization, sample.pcie_width) = (None, Some(1))),
        with(|sample| sample.nvlink.as_mut().unwrap().active = 0),
        GpuDevice { part: Some(GpuPart::default()), ..with(|sample| sample.pcie_width = Some(8)) },
    ] {
        assert_eq!(judge(&device), []);
    }
}

#[test]
fn the_worst_comes_first() {
    let mut device = with_xid(79, GpuXidAction::Reboot);
    device.sample.as_mut().unwrap().temperature = Some(99.0);
    device.sample.as_mut().unwrap().remapped_rows =
        Some(GpuRemappedRows { uncorrectable: 1, ..Default::default() });
    let verdicts: Vec<Verdict> = judge(&device).iter().map(|finding| finding.verdict).collect();
    assert_eq!(verdicts, [Verdict::Bad, Verdict::Warn, Verdict::Ok]);
}

#[test]
fn what_happened_says_how_long_ago() {
    let told = |device: GpuDevice, now_ns: u64| judge(&device)[0].told(now_ns);
    let xid = || with_xid(79, GpuXidAction::Reboot);
    assert_eq!(told(xid(), 127_500_000_000), "XID 79 ×2 (hardware): it broke, 2m 2s ago");
    assert_eq!(told(xid(), 5_000_000_001), "XID 79 ×2 (hardware): it broke, 1s ago");
    assert_eq!(told(xid(), 1), "XID 79 ×2 (hardware): it broke", "another machine's clock");
    assert!(!told(with(|it| it.temperature = Some(87.0)), u64::MAX).contains("ago"));
}

#[test]
fn only_what_loses_work_is_time_lost() {
    use GpuThrottleReason as Reason;
    let lost = |reason: Reason, seconds| GpuThrottled {
        reason: reason.into(),
        time: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let throttled_for =
        vec![lost(Reason::PowerCap, 7), lost(Reason::Idle, 99), lost(Reason::Other, 2)];
    let counts = GpuCounts { throttled: throttled_for, ..GpuCounts::default() };
    let device = GpuDevice { counts: Some(counts), ..well() };
    assert_eq!(throttled(&device), Duration::from_secs(9));
    assert_eq!(throttled(&GpuDevice::default()), Duration::ZERO);
}
