use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;
use crate::gpu::config::Roots;
use crate::gpu::sample::ThrottleReason;
use metrics::tests::mi300;

/// A `/sys` with AMD's devices.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn source(&self) -> AmdSource {
        let roots = Roots { sys: self.0.path().to_owned(), ..Roots::default() };
        AmdSource::new(&GpuConfig { roots, ..GpuConfig::default() })
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, target: &str, link: &str) {
        let link = self.0.path().join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, link).unwrap();
    }

    /// A card as MI300X has it; returns its device's folder.
    fn card(&self, number: u32, address: &str) -> String {
        let device = format!("devices/{address}");
        let sys = self.0.path().display();
        self.link(&format!("{sys}/{device}"), &format!("class/drm/card{number}/device"));
        self.link("../../drivers/amdgpu", &format!("{device}/driver"));
        self.write(&format!("{device}/vendor"), "0x1002\n");
        self.write(&format!("{device}/device"), "0x74a1\n");
        self.write(&format!("{device}/drm/renderD{}/dev", 128 + number), "226:128\n");
        for (file, content) in FILES {
            self.write(&format!("{device}/{file}"), content);
        }
        device
    }

    fn node(&self, number: u32, gpu_id: u32, location: u32, render: u32) {
        let folder = format!("class/kfd/kfd/topology/nodes/{number}");
        self.write(&format!("{folder}/gpu_id"), format!("{gpu_id}\n"));
        self.write(
            &format!("{folder}/properties"),
            format!(
                "cpu_cores_count 0\nsimd_count 1216\nsimd_per_cu 4\ngfx_target_version 90402\n\
                 location_id {location}\ndomain 0\ndrm_render_minor {render}\n"
            ),
        );
        self.write(
            &format!("{folder}/mem_banks/0/properties"),
            "heap_type 1\nsize_in_bytes 206141652992\n",
        );
    }
}

const FILES: &[(&str, &str)] = &[
    ("product_name", "AMD Instinct MI300X\n"),
    ("unique_id", "1a2b3c4d5e6f7081\n"),
    ("gpu_busy_percent", "97\n"),
    ("mem_busy_percent", "55\n"),
    ("mem_info_vram_total", "206141652992\n"),
    ("mem_info_vram_used", "103070826496\n"),
    ("pp_dpm_sclk", "0: 132Mhz\n1: 2100Mhz *\n"),
    ("pp_dpm_mclk", "0: 900Mhz\n1: 1300Mhz *\n"),
    ("current_link_speed", "32.0 GT/s PCIe\n"),
    ("max_link_speed", "32.0 GT/s PCIe\n"),
    ("current_link_width", "8\n"),
    ("max_link_width", "16\n"),
    ("pcie_replay_count", "3\n"),
    ("current_compute_partition", "SPX\n"),
    ("hwmon/hwmon4/name", "amdgpu\n"),
    ("hwmon/hwmon4/power1_input", "643000000\n"),
    ("hwmon/hwmon4/power1_cap", "750000000\n"),
    ("hwmon/hwmon4/temp2_label", "junction\n"),
    ("hwmon/hwmon4/temp2_input", "61000\n"),
    ("hwmon/hwmon4/temp2_crit", "100000\n"),
    ("hwmon/hwmon4/temp2_emergency", "0\n"),
    ("hwmon/hwmon4/temp3_label", "mem\n"),
    ("hwmon/hwmon4/temp3_input", "48000\n"),
    ("hwmon/hwmon4/freq1_input", "1900000000\n"),
    ("ras/umc_err_count", "ue: 1\nce: 12\n"),
    ("ras/gfx_err_count", "ue: 0\nce: 2\n"),
    ("ras/xgmi_wafl_err_count", "ue: 0\nce: 5\n"),
    ("ras/features", "feature mask: 0x1\n"),
];

fn sample(seen: &Seen) -> &Sample {
    seen.state.sample().unwrap_or_else(|| panic!("{seen:?}"))
}

#[tokio::test]
async fn without_a_device_it_is_absent() {
    let machine = Machine::new();
    let error = machine.source().read().await.unwrap_err();
    assert!(matches!(&error, SourceError::Absent(why) if why.contains("load amdgpu")), "{error}");
}

#[tokio::test]
async fn an_mi300_is_read_by_its_files() {
    let machine = Machine::new();
    machine.card(1, "0000:83:00.0");
    machine.node(0, 0, 0, 0);
    machine.node(1, 51551, 0x8300, 129);
    let reading = machine.source().read().await.unwrap();
    let [seen] = &reading.devices[..] else { panic!("{reading:?}") };
    let device = &seen.device;
    assert_eq!(device.id.as_str(), "pci-0000:83:00.0");
    assert_eq!((device.index, device.minor), (Some(0), Some(129)));
    assert_eq!(device.model, "AMD Instinct MI300X");
    assert_eq!(device.architecture.as_deref(), Some("gfx942"));
    assert_eq!(device.serial.as_deref(), Some("1a2b3c4d5e6f7081"));
    let sample = sample(seen);
    assert_eq!((sample.busy.gpu, sample.busy.memory), (Some(0.97), Some(0.55)));
    assert_eq!(sample.memory.total, Some(206_141_652_992));
    assert_eq!(sample.memory.free, Some(103_070_826_496));
    assert_eq!((sample.power.draw, sample.power.limit), (Some(643.0), Some(750.0)));
    let heat = sample.temperature;
    assert_eq!((heat.gpu, heat.memory), (Some(61.0), Some(48.0)));
    assert_eq!((heat.slowdown, heat.shutdown), (Some(100.0), None));
    assert_eq!((sample.clocks.sm, sample.clocks.max_sm), (Some(1900), Some(2100)));
    let pcie = sample.pcie;
    assert_eq!((pcie.generation, pcie.width, pcie.max_width), (Some(5), Some(8), Some(16)));
    assert_eq!(pcie.replays, Some(3));
    let ecc = sample.ecc.unwrap();
    assert_eq!((ecc.corrected, ecc.uncorrected), (Some(14), Some(1)));
    assert_eq!((sample.throttle.reasons.as_ref(), sample.nvlink), (None, None));
}

#[tokio::test]
async fn the_firmwares_table_adds_what_files_do_not_tell() {
    let machine = Machine::new();
    let device = machine.card(0, "0000:83:00.0");
    let mut source = machine.source();
    machine.write(&format!("{device}/gpu_metrics"), mi300(65_536_000, 1000, 100));
    let first = source.read().await.unwrap();
    let link = sample(&first.devices[0]).nvlink.unwrap();
    assert_eq!((link.links, link.active), (7, 6));
    assert_eq!((link.rx_bytes, link.tx_bytes), (Some(7000 << 10), Some(3500 << 10)));
    assert_eq!(link.crc_errors, Some(5));
    assert_eq!(sample(&first.devices[0]).power.energy_mj, Some(1_000_000));
    assert_eq!(sample(&first.devices[0]).throttle.reasons, None, "one look is no difference");
    machine.write(&format!("{device}/gpu_metrics"), mi300(65_536_001, 2000, 600));
    let second = source.read().await.unwrap();
    let throttle = &sample(&second.devices[0]).throttle;
    assert_eq!(throttle.reasons, Some(vec![ThrottleReason::PowerCap]));
    let [(ThrottleReason::PowerCap, lost)] = throttle.lost[..] else { panic!("{throttle:?}") };
    assert!(lost > Duration::ZERO);
    machine.write(&format!("{device}/gpu_metrics"), mi300(65_536_002, 3000, 600));
    let third = source.read().await.unwrap();
    let throttle = &sample(&third.devices[0]).throttle;
    assert_eq!((throttle.reasons.as_deref(), throttle.lost[0].1), (Some(&[][..]), lost));
}

#[tokio::test]
async fn a_divided_device_has_parts() {
    let machine = Machine::new();
    let device = machine.card(0, "0000:83:00.0");
    machine.write(&format!("{device}/current_compute_partition"), "QPX\n");
    machine.write(&format!("{device}/gpu_metrics"), mi300(1, 1, 1));
    for part in 0..4 {
        machine.node(part, 100 + part, part << 28 | 0x8300, 128 + part);
        let name = if part == 0 { "0000:83:00.0".into() } else { format!("amdgpu_xcp_{part}") };
        machine
            .link(&format!("../../../{name}"), &format!("class/drm/renderD{}/device", 128 + part));
    }
    machine.write("class/kfd/kfd/proc/4321/vram_102", "1048576\n");
    let reading = machine.source().read().await.unwrap();
    let ids: Vec<_> = reading.devices.iter().map(|seen| seen.device.id.as_str()).collect();
    let parent = "pci-0000:83:00.0";
    let first = format!("{parent}/xcp0");
    assert_eq!(ids, [parent, &first, "amdgpu_xcp_1", "amdgpu_xcp_2", "amdgpu_xcp_3"]);
    assert!(reading.devices[0].device.is_divided);
    let part = &reading.devices[3];
    assert_eq!(part.device.part.as_ref().unwrap().profile, "qpx");
    assert_eq!(part.device.minor, Some(130));
    assert_eq!(sample(part).busy.gpu, Some(0.6));
    assert_eq!(sample(part).power.draw, None, "power is the whole device's");
    let [used] = &reading.processes[..] else { panic!("{:?}", reading.processes) };
    assert_eq!((used.device.as_str(), used.pid), ("amdgpu_xcp_2", 4321));
}

#[tokio::test]
async fn processes_compute_copy_and_go() {
    let machine = Machine::new();
    machine.card(0, "0000:83:00.0");
    machine.card(1, "0000:84:00.0");
    machine.node(1, 7, 0x8300, 128);
    machine.node(2, 8, 0x8400, 129);
    let file = |name: &str| format!("class/kfd/kfd/proc/4321/{name}");
    machine.write(&file("vram_7"), "1073741824\n");
    machine.write(&file("sdma_7"), "1000\n");
    machine.write(&file("stats_7/cu_occupancy"), "152\n");
    machine.write(&file("vram_8"), "0\n");
    machine.write(&file("sdma_8"), "0\n");
    machine.write("class/kfd/kfd/proc/99/vram_8", "0\n");
    machine.write("class/kfd/kfd/proc/99/queues/0/gpuid", "8\n");
    machine.write("class/kfd/kfd/proc/note/vram_8", "5\n");
    let mut source = machine.source();
    let mut reading = source.read().await.unwrap();
    reading.processes.sort_by_key(|used| used.pid);
    let [queue, compute] = &reading.processes[..] else { panic!("{:?}", reading.processes) };
    assert_eq!((queue.pid, queue.device.as_str()), (99, "pci-0000:84:00.0"));
    assert_eq!((queue.memory, queue.busy), (Some(0), None));
    assert_eq!((compute.pid, compute.kind), (4321, UseKind::Compute));
    assert_eq!((compute.memory, compute.busy), (Some(1 << 30), Some(0.5)));
    machine.write(&file("sdma_7"), "900000000\n");
    machine.write(&file("stats_7/cu_occupancy"), "1\n");
    fs::remove_dir_all(machine.0.path().join("class/kfd/kfd/proc/99")).unwrap();
    let reading = source.read().await.unwrap();
    let [compute] = &reading.processes[..] else { panic!("{:?}", reading.processes) };
    assert_eq!(compute.busy, Some(1.0), "it copied all the time");
}

#[tokio::test]
async fn nonsense_is_left_out_and_counted() {
    let machine = Machine::new();
    let device = machine.card(0, "0000:83:00.0");
    machine.write(&format!("{device}/gpu_busy_percent"), "65535\n");
    machine.write(&format!("{device}/mem_info_vram_used"), "18446744073709551615\n");
    machine.write(&format!("{device}/hwmon/hwmon4/power1_input"), "-1\n");
    machine.write(&format!("{device}/hwmon/hwmon4/temp2_input"), "NaN\n");
    machine.write(&format!("{device}/gpu_metrics"), [0xff; 2208]);
    let mut source = machine.source();
    let reading = source.read().await.unwrap();
    let sample = sample(&reading.devices[0]);
    assert_eq!((sample.busy.gpu, sample.power.draw, sample.temperature.gpu), (None, None, None));
    assert_eq!((sample.memory.used, sample.memory.total), (None, Some(206_141_652_992)));
    assert_eq!(source.invalid(), 4);
}

#[tokio::test]
async fn a_device_that_sleeps_is_let_sleep() {
    let machine = Machine::new();
    let device = machine.card(0, "0000:83:00.0");
    machine.write(&format!("{device}/power/runtime_status"), "suspended\n");
    let reading = machine.source().read().await.unwrap();
    let sample = sample(&reading.devices[0]);
    assert_eq!(*sample, Sample { time: sample.time, ..Sample::default() });
}

#[tokio::test]
async fn a_device_that_does_not_answer_is_silent_and_the_others_are_read() {
    let machine = Machine::new();
    let device = machine.card(0, "0000:83:00.0");
    machine.card(1, "0000:84:00.0");
    let file = machine.0.path().join(&device).join("gpu_busy_percent");
    fs::remove_file(&file).unwrap();
    // Who opens a pipe for reading waits for a writer.
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let mut source = machine.source();
    for _ in 0..2 {
        let began = Instant::now();
        let reading = source.read().await.unwrap();
        // The pipe has no writer until the end.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let DeviceState::Silent { reason } = &reading.devices[0].state else {
            panic!("{:?}", reading.devices[0]);
        };
        assert!(reason.contains("no answer"), "{reason}");
        assert_eq!(sample(&reading.devices[1]).busy.gpu, Some(0.97));
    }
    fs::write(&file, "12\n").unwrap();
    let reading = source.read().await.unwrap();
    assert_eq!(sample(&reading.devices[0]).busy.gpu, Some(0.12));
}

#[tokio::test]
async fn when_kfd_does_not_answer_devices_are_told_and_what_is_missing_is_said() {
    let machine = Machine::new();
    machine.card(0, "0000:83:00.0");
    machine.node(1, 7, 0x8300, 128);
    let file = machine.0.path().join("class/kfd/kfd/proc/4321/vram_7");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    // Who opens a pipe for reading waits for a writer.
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let mut source = machine.source();
    let reading = source.read().await.unwrap();
    assert_eq!((reading.devices.len(), reading.processes.len()), (1, 0));
    let Unread { count, last } = source.unread();
    assert_eq!(count, 1);
    assert!(last.as_ref().is_some_and(|last| last.starts_with("who computes (KFD)")), "{last:?}");
    fs::write(&file, "1048576\n").unwrap();
}
