//! Devices, and what their sources say of them.

use super::*;

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
        xid_times: BTreeMap::from([(79, UnixNanos(7))]),
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
    assert_eq!((told.last_xid_ns, told.xids[0].last_ns, told.xids[1].last_ns), (7, 7, 0));
}
