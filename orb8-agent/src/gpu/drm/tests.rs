use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::gpu::sample::ThrottleReason;

const SECOND: Duration = Duration::from_secs(1);
const NOW: UnixNanos = UnixNanos(7);

/// A machine's `/proc` and `/sys`.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn source(&self) -> DrmSource {
        let (proc, sys) = (self.0.path().join("proc"), self.0.path().join("sys"));
        fs::create_dir_all(&proc).unwrap();
        let roots = crate::gpu::config::Roots { proc, sys, ..Default::default() };
        DrmSource::new(&GpuConfig { roots, ..GpuConfig::default() })
    }

    /// The part of a source that needs no clock.
    fn reader(&self) -> Reader {
        let (proc, sys) = (self.0.path().join("proc"), self.0.path().join("sys"));
        fs::create_dir_all(&proc).unwrap();
        Reader {
            sys,
            discovered: None,
            cards: Vec::new(),
            energy: HashMap::new(),
            scan: Scan::new(&proc, |path| path.starts_with(b"/dev/dri/")),
            clients: Clients::new(&proc),
            checked: Checked::default(),
        }
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn card(&self, number: u32, address: &str, driver: &str, vendor: &str) -> String {
        let device = format!("sys/devices/{address}");
        self.write(&format!("{device}/vendor"), vendor);
        self.write(&format!("{device}/device"), "0x56c0\n");
        fs::create_dir_all(self.0.path().join(format!("{device}/drm/renderD{}", 128 + number)))
            .unwrap();
        let card = self.0.path().join(format!("sys/class/drm/card{number}"));
        fs::create_dir_all(&card).unwrap();
        symlink(self.0.path().join(&device), card.join("device")).unwrap();
        symlink(format!("../../drivers/{driver}"), self.0.path().join(&device).join("driver"))
            .unwrap();
        device
    }

    fn open(&self, pid: u32, number: u32, fdinfo: &str) {
        let folder = self.0.path().join(format!("proc/{pid}/fd"));
        fs::create_dir_all(&folder).unwrap();
        let _ = symlink("/dev/dri/renderD128", folder.join(number.to_string()));
        self.write(&format!("proc/{pid}/fdinfo/{number}"), fdinfo);
    }
}

fn client(id: u32, render_ns: u64, mib: u32) -> String {
    format!(
        "pos:\t0\ndrm-driver:\ti915\ndrm-client-id:\t{id}\ndrm-pdev:\t0000:03:00.0\n\
         drm-resident-local0:\t{mib} MiB\ndrm-engine-render:\t{render_ns} ns\ndrm-engine-copy:\t0 ns\n"
    )
}

fn figures(processes: &[ProcessUse]) -> Vec<(u32, Option<u64>, Option<f64>)> {
    processes.iter().map(|used| (used.pid, used.memory, used.busy)).collect()
}

#[tokio::test]
async fn without_a_device_it_is_absent() {
    let machine = Machine::new();
    machine.card(0, "0000:01:00.0", "nouveau", "0x10de\n");
    let error = machine.source().read().await.unwrap_err();
    assert!(matches!(&error, SourceError::Absent(why) if why.contains("load one")), "{error}");
}

#[tokio::test]
async fn a_source_reads_its_devices() {
    let machine = Machine::new();
    machine.card(0, "0000:03:00.0", "i915", "0x8086\n");
    machine.card(1, "0000:83:00.0", "amdgpu", "0x1002\n");
    machine.open(50, 4, include_str!("testdata/amdgpu-6.13.txt"));
    let reading = machine.source().read().await.unwrap();
    let devices = reading.devices.iter().map(|seen| &seen.device);
    let told: Vec<_> = devices.map(|it| (it.id.as_str(), it.vendor, it.minor)).collect();
    assert_eq!(
        told,
        [
            ("pci-0000:03:00.0", Vendor::Intel, Some(128)),
            ("pci-0000:83:00.0", Vendor::Amd, Some(129)),
        ]
    );
    let [used] = &reading.processes[..] else { panic!("{:?}", reading.processes) };
    assert_eq!((used.device.as_str(), used.memory), ("pci-0000:83:00.0", Some(1536 << 20)));
}

#[test]
fn each_client_counts_once_and_by_difference() {
    let machine = Machine::new();
    machine.card(0, "0000:03:00.0", "i915", "0x8086\n");
    // Two files of one client, the same client in a child, and one of its own.
    machine.open(50, 4, &client(1, 100_000_000, 64));
    machine.open(50, 5, &client(1, 100_000_000, 64));
    machine.open(51, 4, &client(1, 100_000_000, 64));
    machine.open(52, 3, &client(2, 0, 16));
    let (mut reader, now) = (machine.reader(), Instant::now());
    let (devices, processes) = reader.read(NOW, now);
    assert_eq!(figures(&processes), [(50, Some(64 << 20), None), (52, Some(16 << 20), None)]);
    assert_eq!(devices[0].state.sample().unwrap().busy.gpu, None, "nothing to compare with");
    machine.open(50, 4, &client(1, 600_000_000, 64));
    machine.open(50, 5, &client(1, 600_000_000, 64));
    machine.open(52, 3, &client(2, 250_000_000, 32));
    let (devices, processes) = reader.read(NOW, now + SECOND);
    assert_eq!(
        figures(&processes),
        [(50, Some(64 << 20), Some(0.5)), (52, Some(32 << 20), Some(0.25))]
    );
    assert_eq!(devices[0].state.sample().unwrap().busy.gpu, Some(0.75));
}

#[test]
fn a_process_that_goes_takes_nothing_along() {
    let machine = Machine::new();
    machine.card(0, "0000:03:00.0", "xe", "0x8086\n");
    machine.open(50, 4, &client(1, 0, 64));
    machine.open(52, 3, &client(2, 0, 16));
    let (mut reader, now) = (machine.reader(), Instant::now());
    reader.read(NOW, now);
    fs::remove_dir_all(machine.0.path().join("proc/50/fdinfo")).unwrap();
    let (_, processes) = reader.read(NOW, now + SECOND);
    assert_eq!(figures(&processes), [(52, Some(16 << 20), Some(0.0))]);
    fs::remove_dir_all(machine.0.path().join("proc/50")).unwrap();
    fs::remove_dir_all(machine.0.path().join("proc/52")).unwrap();
    let (devices, processes) = reader.read(NOW, now + SECOND * 2);
    assert!(processes.is_empty());
    assert_eq!(devices[0].state.sample().unwrap().busy.gpu, Some(0.0), "nobody has it");
}

#[test]
fn a_client_that_begins_anew_has_no_figure_and_no_negative_one() {
    let machine = Machine::new();
    machine.card(0, "0000:03:00.0", "i915", "0x8086\n");
    machine.open(50, 4, &client(1, 500_000_000, 64));
    let (mut reader, now) = (machine.reader(), Instant::now());
    reader.read(NOW, now);
    machine.open(50, 4, "drm-client-id:\t1\ndrm-pdev:\t0000:03:00.0\ndrm-engine-render:\t9 ns\n");
    let (_, processes) = reader.read(NOW, now + SECOND);
    assert_eq!(figures(&processes), [(50, None, None)]);
    machine.open(
        50,
        4,
        "drm-client-id:\t1\ndrm-pdev:\t0000:03:00.0\ndrm-engine-render:\t90000000009 ns\n",
    );
    let (_, processes) = reader.read(NOW, now + SECOND * 2);
    assert_eq!(figures(&processes), [(50, None, Some(1.0))]);
}

#[test]
fn intels_sensors_are_read() {
    let machine = Machine::new();
    let device = machine.card(0, "0000:03:00.0", "xe", "0x8086\n");
    for (file, content) in [
        ("tile0/gt0/freq0/act_freq", "2050\n"),
        ("tile0/gt0/freq0/rp0_freq", "2400000000\n"),
        ("tile0/gt0/freq0/throttle/status", "1\n"),
        ("tile0/gt0/freq0/throttle/reason_pl1", "1\n"),
        ("tile0/gt0/freq0/throttle/reason_thermal", "0\n"),
        ("tile0/physical_vram_size_bytes", "17179869184\n"),
        ("hwmon/hwmon2/energy1_input", "5000000\n"),
        ("hwmon/hwmon2/power1_max", "150000000\n"),
        ("hwmon/hwmon2/temp2_label", "pkg\n"),
        ("hwmon/hwmon2/temp2_input", "51000\n"),
        ("hwmon/hwmon2/temp3_label", "vram\n"),
        ("hwmon/hwmon2/temp3_input", "999000\n"),
    ] {
        machine.write(&format!("{device}/{file}"), content);
    }
    let (mut reader, now) = (machine.reader(), Instant::now());
    reader.read(NOW, now);
    machine.write(&format!("{device}/hwmon/hwmon2/energy1_input"), "95000000\n");
    let (devices, _) = reader.read(NOW, now + SECOND);
    let sample = devices[0].state.sample().unwrap();
    assert_eq!((sample.power.draw, sample.power.limit), (Some(90.0), Some(150.0)));
    assert_eq!(sample.power.energy_mj, Some(95_000));
    assert_eq!((sample.temperature.gpu, sample.temperature.memory), (Some(51.0), None));
    assert_eq!((sample.clocks.sm, sample.clocks.max_sm), (Some(2050), Some(2400)));
    assert_eq!(sample.throttle.reasons, Some(vec![ThrottleReason::PowerCap]));
    assert_eq!(sample.memory.total, Some(16 << 30));
    assert_eq!(reader.checked.invalid, 2, "a memory of 999 degrees, twice");
}
