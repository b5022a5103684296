//! What every source keeps to: absent where there is nothing, counters that do not go back, and an
//! answer within a second whatever hangs.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use orb8_standins::dcgm::{self, Answer, Dcgm};
use orb8_standins::tpu::{Answers, Tpu};

use super::amd::AmdSource;
use super::config::{GpuConfig, Roots};
use super::dcgm::DcgmSource;
use super::drm::DrmSource;
use super::neuron::NeuronSource;
use super::reading::{DeviceState, Reading};
use super::source::{Source, SourceError};
use super::tpu::TpuSource;

/// What a source answers within. On a machine that has too much to do, the quickest of some does.
const SECOND: Duration = Duration::from_secs(1);
const TRIES: usize = 20;

/// A machine of files, with nothing in it at first.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.link("/proc/self/ns/net", "proc/self/ns/net");
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, path: &str, content: &str) {
        fs::write(self.path(path), content).unwrap();
    }

    fn link(&self, target: impl AsRef<Path>, link: &str) {
        symlink(target, self.path(link)).unwrap();
    }

    /// Puts a file in place that nobody finishes opening.
    fn blocks(&self, path: &str) {
        let path = self.path(path);
        let _ = fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    }

    fn card(&self, driver: &str, vendor: &str) {
        self.link(self.path("sys/devices/0000:03:00.0"), "sys/class/drm/card0/device");
        self.link(format!("../../drivers/{driver}"), "sys/devices/0000:03:00.0/driver");
        self.write("sys/devices/0000:03:00.0/vendor", vendor);
    }

    fn config(&self) -> GpuConfig {
        let [proc, sys, libraries] = ["proc", "sys", "root"].map(|name| self.0.path().join(name));
        // Nobody listens there.
        let dcgm = "http://127.0.0.1:1/metrics".into();
        GpuConfig { roots: Roots { proc, sys, libraries }, dcgm, ..GpuConfig::default() }
    }
}

/// Returns every counter of every device.
fn counters(reading: &Reading) -> BTreeMap<(String, &'static str), u64> {
    let mut counters = BTreeMap::new();
    for seen in &reading.devices {
        let Some(sample) = seen.state.sample() else { continue };
        let ecc = sample.ecc.unwrap_or_default();
        let nvlink = sample.nvlink.unwrap_or_default();
        let lost = sample.throttle.lost.iter().map(|(_, time)| time.as_nanos() as u64).sum();
        for (name, value) in [
            ("energy", sample.power.energy_mj),
            ("replays", sample.pcie.replays),
            ("corrected", ecc.corrected),
            ("uncorrected", ecc.uncorrected),
            ("sent", nvlink.tx_bytes),
            ("received", nvlink.rx_bytes),
            ("lost", Some(lost)),
        ] {
            counters.extend(value.map(|value| ((seen.device.id.to_string(), name), value)));
        }
    }
    counters
}

async fn absent(mut source: impl Source) {
    let kind = source.kind().word();
    let began = Instant::now();
    let error = source.read().await.unwrap_err();
    assert!(began.elapsed() < SECOND * 20, "{kind}: {:?}", began.elapsed());
    let SourceError::Absent(why) = &error else { panic!("{kind}: {error:?}") };
    // What is missing, and what to do.
    assert!(why.starts_with("no ") && why.contains("; "), "{kind}: {why}");
}

/// Reads until there are devices, and then again after a change.
async fn monotone(mut source: impl Source, change: impl FnOnce()) {
    let kind = source.kind();
    let mut first = source.read().await.unwrap();
    for _ in 0..500 {
        if !first.devices.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        first = source.read().await.unwrap();
    }
    assert_eq!(first.source, kind);
    let before = counters(&first);
    assert!(before.len() > 1, "{kind:?} tells no counters: {first:?}");
    change();
    let second = source.read().await.unwrap();
    let after = counters(&second);
    for (name, value) in before {
        assert!(after.get(&name).is_some_and(|now| *now >= value), "{kind:?}: {name:?} went back");
    }
    assert!(second.devices.iter().all(|seen| seen.device.source == kind));
}

/// Reads at least twice what hangs, and returns what was told last.
async fn bounded(source: &mut impl Source) -> Result<Reading, SourceError> {
    let (mut told, mut quickest) = (None, Duration::MAX);
    for tried in 0..TRIES {
        if tried > 1 && quickest < SECOND {
            break;
        }
        let began = Instant::now();
        told = Some(source.read().await);
        quickest = quickest.min(began.elapsed());
    }
    assert!(quickest < SECOND, "{:?}: {quickest:?}", source.kind());
    told.unwrap()
}

fn is_silent(told: &Result<Reading, SourceError>) -> bool {
    told.as_ref().is_ok_and(|reading| {
        reading.devices.iter().all(|seen| matches!(seen.state, DeviceState::Silent { .. }))
    })
}

#[tokio::test]
async fn where_there_is_nothing_each_is_absent() {
    let config = Machine::new().config();
    absent(DcgmSource::new(&config)).await;
    absent(AmdSource::new(&config)).await;
    absent(DrmSource::new(&config)).await;
    absent(TpuSource::new(&config)).await;
    absent(NeuronSource::new(&config)).await;
}

#[tokio::test]
async fn dcgm_conforms() {
    let device = |energy: f64| {
        let values = vec![("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION".into(), energy)];
        let device = dcgm::Device { uuid: "GPU-a".into(), values, ..dcgm::Device::default() };
        Answer::Text(dcgm::text(&[device]))
    };
    let server = Dcgm::start(device(5e9)).unwrap();
    let config = GpuConfig { dcgm: server.url(), ..GpuConfig::default() };
    let source = || DcgmSource::new(&config).with_rest(Duration::ZERO);
    monotone(source(), || server.set(device(6e9))).await;
    for answer in [Answer::Hang, Answer::Huge, Answer::CutOff("x".into()), Answer::Status(503)] {
        server.set(answer.clone());
        let error = bounded(&mut source()).await.unwrap_err();
        assert!(matches!(error, SourceError::Failed(_)), "{answer:?}: {error:?}");
    }
    let Answer::Text(text) = device(7e9) else { unreachable!() };
    server.set(Answer::Slow(SECOND * 20, text));
    assert!(bounded(&mut source()).await.is_err());
}

#[tokio::test]
async fn amd_conforms() {
    let machine = Machine::new();
    machine.card("amdgpu", "0x1002\n");
    let device = "sys/devices/0000:03:00.0";
    machine.write(&format!("{device}/pcie_replay_count"), "7\n");
    machine.write(&format!("{device}/ras/umc_err_count"), "ue: 0\nce: 3\n");
    monotone(AmdSource::new(&machine.config()), || {
        machine.write(&format!("{device}/pcie_replay_count"), "9\n");
    })
    .await;
    machine.blocks(&format!("{device}/pcie_replay_count"));
    let mut source = AmdSource::new(&machine.config());
    assert!(is_silent(&bounded(&mut source).await));
}

#[tokio::test]
async fn drm_conforms() {
    let machine = Machine::new();
    machine.card("i915", "0x8086\n");
    let energy = "sys/devices/0000:03:00.0/hwmon/hwmon1/energy1_input";
    machine.write(energy, "5000000\n");
    let change = || machine.write(energy, "6000000\n");
    monotone(DrmSource::new(&machine.config()), change).await;
    // The first reading is told; then the driver does not return.
    let mut source = DrmSource::new(&machine.config());
    source.read().await.unwrap();
    machine.blocks(energy);
    assert!(is_silent(&bounded(&mut source).await));
    let error = bounded(&mut DrmSource::new(&machine.config())).await.unwrap_err();
    assert!(matches!(&error, SourceError::Failed(why) if why.contains("dmesg")), "{error:?}");
}

#[tokio::test]
async fn tpu_is_bounded() {
    let delay = Duration::from_secs(60);
    let server = Tpu::start(Answers { delay, ..Answers::default() }).unwrap();
    let machine = Machine::new();
    let chip = "sys/bus/pci/devices/0000:00:04.0";
    machine.write(&format!("{chip}/vendor"), "0x1ae0\n");
    machine.write(&format!("{chip}/device"), "0x0063\n");
    machine.write(&format!("{chip}/accel/accel0/dev"), "120:0\n");
    machine.link("/proc/self/ns/net", "proc/50/ns/net");
    machine.link("/dev/accel0", "proc/50/fd/3");
    machine.write("proc/50/maps", "7f00-7f01 r-xp 0 0:0 1 /x/libtpu.so\n");
    let config = GpuConfig { tpu_port: server.port(), ..machine.config() };
    let mut source = TpuSource::new(&config);
    let reading = bounded(&mut source).await.unwrap();
    assert_eq!(reading.devices.len(), 1, "the chip is there");
    drop(server);
    machine.blocks("proc/50/environ");
    let error = bounded(&mut source).await.unwrap_err();
    assert!(matches!(&error, SourceError::Failed(why) if why.contains("no answer")), "{error:?}");
}

#[tokio::test]
async fn neuron_conforms() {
    let machine = Machine::new();
    let report = include_str!("neuron/testdata/report.json");
    machine.write("root/report", &format!("{report}\n"));
    let program = machine.path("root/opt/aws/neuron/bin/neuron-monitor");
    let script = |script: &str| {
        let root = machine.path("root/x");
        let root = root.parent().unwrap().display();
        fs::write(&program, format!("#!/bin/sh\ncd {root}\n{script}\n")).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    };
    script("while cat report; do sleep 1; done");
    monotone(NeuronSource::new(&machine.config()), || {}).await;
    script("exec sleep 60");
    let mut source = NeuronSource::new(&machine.config());
    let reading = bounded(&mut source).await.unwrap();
    assert!(reading.devices.is_empty(), "it has not told yet");
}
