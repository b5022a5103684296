//! What is read of devices that work.

use super::*;

#[tokio::test]
async fn eight_boards_are_read_with_all_that_they_have() {
    let node = Node::h100s(
        8,
        "[processes]\npid=4242 device=2 memory=10GiB sm=60\n\
         pid=4243 device=2 memory=none sm=20 type=mps\n\
         [events]\nfrom 0s throttled power-cap,software-thermal on 5\n",
    );
    let mut source = node.source();
    read(&mut source).await.unwrap();
    a_while().await;
    let reading = read(&mut source).await.unwrap();
    assert_eq!(reading.devices.len(), 8);
    for (index, seen) in reading.devices.iter().enumerate() {
        let device = &seen.device;
        assert_eq!(device.index, Some(index as u32));
        assert_eq!(device.minor, Some(index as u32));
        assert_eq!((device.vendor, device.source), (Vendor::Nvidia, SourceKind::Nvml));
        assert!(device.id.as_str().starts_with("GPU-"), "{}", device.id);
        assert_eq!(device.model, "NVIDIA H100 80GB HBM3");
        assert_eq!(device.architecture.as_deref(), Some("hopper"));
        assert!(device.pci.is_some() && device.driver.is_some() && device.serial.is_some());
        assert!(!device.is_divided && device.part.is_none());
    }
    let busy = sample(&reading.devices[2]);
    let memory = busy.memory;
    let parts = [memory.used, memory.reserved, memory.free].map(Option::unwrap);
    assert_eq!(parts.iter().sum::<u64>(), memory.total.unwrap());
    assert_eq!(memory.total, Some(81_559 << 20));
    assert!(busy.busy.gpu.unwrap() > 0.5, "{:?}", busy.busy);
    for (name, ratio) in [
        ("engine", busy.busy.engine),
        ("sm", busy.busy.sm),
        ("occupancy", busy.busy.sm_occupancy),
        ("tensor", busy.busy.tensor),
        ("dram", busy.busy.dram),
        ("fp64", busy.busy.fp64),
        ("fp32", busy.busy.fp32),
        ("fp16", busy.busy.fp16),
    ] {
        assert!((0.0..=1.0).contains(&ratio.unwrap_or(-1.0)), "{name}: {ratio:?}");
    }
    assert_eq!(busy.temperature.gpu, Some(45.0));
    assert_eq!(busy.temperature.memory, Some(52.0));
    assert!(busy.temperature.slowdown < busy.temperature.shutdown);
    assert_eq!((busy.power.draw, busy.power.limit), (Some(350.0), Some(700.0)));
    assert!(busy.power.energy_mj.unwrap() > 0);
    assert_eq!((busy.clocks.sm, busy.clocks.max_sm), (Some(1755), Some(1980)));
    assert!(busy.clocks.memory.is_some() && busy.clocks.video.is_some());
    assert_eq!((busy.pcie.generation, busy.pcie.max_generation), (Some(5), Some(5)));
    assert_eq!((busy.pcie.width, busy.pcie.max_width), (Some(16), Some(16)));
    assert_eq!(busy.pcie.replays, Some(0));
    let near = |rate: Option<u64>, expected: u64| rate.unwrap().abs_diff(expected) < expected / 10;
    assert!(near(busy.pcie.tx_rate, 1_000_000), "{:?}", busy.pcie);
    assert!(near(busy.pcie.rx_rate, 2_000_000), "{:?}", busy.pcie);
    let links = busy.nvlink.unwrap();
    assert_eq!((links.links, links.active), (18, 18));
    assert!(near(links.tx_rate, 5_000_000), "{links:?}");
    // Every link's, not the first one's: some time has passed.
    assert!(links.tx_bytes.unwrap() > 5_000_000 * 4 / 10, "{links:?}");
    assert_eq!((links.crc_errors, links.replays, links.recoveries), (Some(0), Some(0), Some(0)));
    let ecc = busy.ecc.unwrap();
    assert!(ecc.is_enabled);
    assert_eq!((ecc.corrected, ecc.uncorrected_lifetime), (Some(0), Some(0)));
    assert_eq!(busy.rows.unwrap().correctable, 0);
    assert_eq!((busy.performance_state, busy.persistence_mode), (Some(0), Some(true)));

    let held = &sample(&reading.devices[5]).throttle;
    assert_eq!(
        held.reasons.as_deref(),
        Some(&[ThrottleReason::PowerCap, ThrottleReason::SoftwareThermal][..])
    );
    let lost: Duration = held.lost.iter().map(|(_, time)| *time).sum();
    assert!(lost > Duration::from_millis(350), "{held:?}");
    assert_eq!(busy.throttle.reasons, Some(Vec::new()), "nothing holds the others back");
    assert_eq!(source.invalid(), 0);
}

#[tokio::test]
async fn processes_have_their_memory_and_their_part_of_the_time() {
    let node = Node::h100s(
        1,
        "[processes]\npid=4242 memory=10GiB sm=60\npid=4243 memory=none sm=20\n\
         pid=4244 memory=1GiB type=graphics\npid=4245 memory=2GiB sm=0 type=mps\n",
    );
    let mut source = node.source();
    read(&mut source).await.unwrap();
    a_while().await;
    let reading = read(&mut source).await.unwrap();
    let find = |pid| reading.processes.iter().find(|uses| uses.pid == pid).unwrap();
    let busy = |uses: &ProcessUse| (uses.busy.unwrap() * 100.0).round() as u32;
    assert_eq!(find(4242).memory, Some(10 << 30));
    assert_eq!(busy(find(4242)), 60);
    assert_eq!((find(4243).memory, find(4243).kind), (None, UseKind::Compute));
    assert_eq!((find(4244).kind, find(4245).kind), (UseKind::Graphics, UseKind::Mps));
    let pids: Vec<u32> = reading.processes.iter().map(|uses| uses.pid).collect();
    assert_eq!(pids, [4242, 4243, 4244, 4245], "each once");
    assert!(reading.processes.iter().all(|uses| uses.device == reading.devices[0].device.id));
}

#[tokio::test]
async fn dropped_samples_are_no_samples_and_not_zero() {
    let node = Node::h100s(
        1,
        "[processes]\npid=4242 memory=1GiB sm=60\n[events]\nfrom 0s drops samples\n",
    );
    let mut source = node.source();
    for _ in 0..2 {
        let reading = read(&mut source).await.unwrap();
        assert_eq!(reading.processes[0].busy, None);
        assert_eq!(reading.processes[0].memory, Some(1 << 30));
        a_while().await;
    }
    assert_eq!(source.unread().count, 0, "no sample is no failure");
}

#[tokio::test]
async fn parts_are_devices_with_their_profile_and_their_own_figures() {
    let node = Node::h100s(
        2,
        "[mig 0]\n1g.10gb x 2 busy=40\n3g.40gb\n[processes]\npid=77 gi=7 ci=0 memory=3GiB sm=40\n",
    );
    let mut source = node.source();
    read(&mut source).await.unwrap();
    a_while().await;
    let reading = read(&mut source).await.unwrap();
    let [whole, first, second, third, other] = &reading.devices[..] else {
        panic!("{:#?}", reading.devices)
    };
    assert!(whole.device.is_divided && !other.device.is_divided);
    for (seen, profile) in [(first, "1g.10gb"), (second, "1g.10gb"), (third, "3g.40gb")] {
        let part = seen.device.part.as_ref().unwrap();
        assert_eq!(part.profile, profile);
        assert_eq!(part.parent, whole.device.id);
        assert_eq!(part.compute_instance, Some(0));
        assert!(seen.device.id.as_str().starts_with("MIG-"));
        assert_eq!(seen.device.pci, whole.device.pci);
        let memory = sample(seen).memory;
        assert!(memory.total.unwrap() < 41 << 30, "its own: {memory:?}");
    }
    let engine = sample(first).busy.engine.unwrap();
    assert!((engine - 0.4).abs() < 0.05, "{engine}");
    let on = &reading.processes.iter().find(|uses| uses.pid == 77).unwrap().device;
    let part = reading.devices.iter().find(|seen| &seen.device.id == on).unwrap();
    assert_eq!(part.device.part.as_ref().unwrap().gpu_instance, 7);
    assert_eq!(reading.processes.len(), 1, "each process once: {:?}", reading.processes);
}

#[tokio::test]
async fn dividing_anew_while_it_runs_is_followed() {
    let dividing = boards(
        1,
        "[mig 0 from 100s]\n1g.10gb x 7\n[mig 0 from 200s]\n3g.40gb\n2g.20gb\n[mig 0 from 300s off]\n",
    );
    let node = Node::new(&dividing);
    let mut source = node.source();
    let profiles = |reading: &Reading| -> Vec<String> {
        let parts = reading.devices.iter().filter_map(|seen| seen.device.part.as_ref());
        parts.map(|part| part.profile.clone()).collect()
    };
    let first = read(&mut source).await.unwrap();
    assert_eq!(first.devices.len(), 1);
    assert!(sample(&first.devices[0]).busy.gpu.is_some());
    node.play_from(100_000, &dividing).await;
    let seven = until(&mut source, "seven parts", |it| profiles(it).len() == 7).await;
    assert!(seven.devices[0].device.is_divided);
    assert_eq!(sample(&seven.devices[0]).busy.gpu, None, "the driver does not say");
    node.play_from(200_000, &dividing).await;
    until(&mut source, "two parts", |it| profiles(it) == ["3g.40gb", "2g.20gb"]).await;
    node.play_from(300_000, &dividing).await;
    let whole = until(&mut source, "whole again", |it| it.devices.len() == 1).await;
    assert!(!whole.devices[0].device.is_divided);
    assert!(sample(&whole.devices[0]).busy.gpu.is_some(), "it says again");
}

#[tokio::test]
async fn compute_instances_of_one_gpu_instance_do_not_share_its_figures() {
    let node = Node::h100s(1, "[mig 0]\n1c.3g.40gb gi=1\n2c.3g.40gb gi=1\n");
    let mut source = node.source();
    read(&mut source).await.unwrap();
    a_while().await;
    let reading = read(&mut source).await.unwrap();
    for seen in &reading.devices[1..] {
        assert_eq!(sample(seen).busy.engine, None, "it is nobody's alone");
    }
    assert_eq!(reading.devices[1].device.part.as_ref().unwrap().profile, "1c.3g.40gb");
}

#[tokio::test]
async fn an_ampere_board_has_no_profiling_and_everything_else() {
    let node = Node::new(
        "[device 0]\nmodel = NVIDIA A100-SXM4-40GB\narchitecture = ampere\nmemory = 40960MiB\n\
         pcie.tx = 3000000\n",
    );
    let mut source = node.source();
    read(&mut source).await.unwrap();
    a_while().await;
    let reading = read(&mut source).await.unwrap();
    let sample = sample(&reading.devices[0]);
    assert_eq!(sample.busy.sm, None);
    assert!(sample.busy.gpu.is_some());
    assert!(sample.pcie.tx_rate.unwrap().abs_diff(3_000_000) < 1_000_000, "{:?}", sample.pcie);
    assert_eq!(sample.nvlink, None, "it has no links");
    assert_eq!(source.unread().count, 0, "what a board lacks is no failure");
}

#[tokio::test]
async fn xid_events_are_told_with_device_and_part() {
    let divided = boards(2, "[mig 1]\n1g.10gb x 2\n");
    let node = Node::new(&divided);
    let mut source = node.source();
    read(&mut source).await.unwrap();
    // From now on it is listened.
    node.play(&format!(
        "{divided}[events]\nat 300ms xid 31 on 0\nat 400ms xid 94 gi=8 ci=0 on 1\n\
         at 500ms xid 999 on 0\n"
    ));
    let mut told = Vec::new();
    let start = Instant::now();
    while told.len() < 3 && start.elapsed() < Duration::from_secs(10) {
        let reading = read(&mut source).await.unwrap();
        let devices: Vec<_> = reading.devices.iter().map(|seen| &seen.device).collect();
        for event in &reading.events {
            let GpuEventKind::Xid(xid) = event.kind else { panic!("{event:?}") };
            let device = event.device.as_ref().unwrap();
            let device = devices.iter().find(|known| known.id == *device).unwrap();
            assert!(event.time.0 > 0);
            told.push((xid.code, device.index, device.part.as_ref().map(|it| it.gpu_instance)));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(told, [(31, Some(0), None), (94, Some(1), Some(8)), (999, Some(0), None)]);
}
