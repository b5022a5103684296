use std::fs;
use std::os::unix::fs::symlink;

use orb8_standins::tpu::{Answers, Tpu};

use super::*;
use crate::gpu::config::Roots;

const DUTY: &str = "tpu.runtime.tensorcore.dutycycle.percent";
const USED: &str = "tpu.runtime.hbm.memory.usage.bytes";
const TOTAL: &str = "tpu.runtime.hbm.memory.total.bytes";

/// A machine's `/proc` and `/sys`, whose processes are all in our network.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.network("self");
        machine
    }

    fn source(&self, port: u16) -> TpuSource {
        let (proc, sys) = (self.0.path().join("proc"), self.0.path().join("sys"));
        let roots = Roots { proc, sys, ..Roots::default() };
        let config = GpuConfig { roots, tpu_port: port, ..GpuConfig::default() };
        // A machine that has too much to do answers late.
        TpuSource { deadline: Duration::from_secs(20), ..TpuSource::new(&config) }
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, target: &str, link: &str) {
        let link = self.0.path().join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, link).unwrap();
    }

    fn network(&self, process: &str) {
        self.link("/proc/self/ns/net", &format!("proc/{process}/ns/net"));
    }

    fn chip(&self, number: u32, product: &str) {
        let folder = format!("sys/bus/pci/devices/0000:00:{:02x}.0", number + 4);
        self.write(&format!("{folder}/vendor"), "0x1ae0\n");
        self.write(&format!("{folder}/device"), product);
        self.write(&format!("{folder}/subsystem_device"), "0x004f\n");
        self.write(&format!("{folder}/accel/accel{number}/dev"), "120:0\n");
    }

    fn process(&self, pid: u32, files: &[&str], libraries: &str) {
        self.network(&pid.to_string());
        for (number, file) in files.iter().enumerate() {
            self.link(file, &format!("proc/{pid}/fd/{number}"));
        }
        self.write(&format!("proc/{pid}/maps"), &format!("7f00-7f01 r-xp 0 0:0 1 {libraries}\n"));
    }

    fn serves(&self, pid: u32, port: u16) {
        let environment = format!("PATH=/bin\0TPU_RUNTIME_METRICS_PORTS={port}\0X=1\0");
        self.write(&format!("proc/{pid}/environ"), &environment);
    }
}

fn answers(duty: &[f64], used: &[f64]) -> Answers {
    let by_device = |values: &[f64]| (0..).zip(values.iter().copied()).collect::<Vec<_>>();
    let total = vec![16e9; used.len()];
    let metrics = [(DUTY, by_device(duty)), (USED, by_device(used)), (TOTAL, by_device(&total))];
    let metrics = metrics.map(|(name, values)| (name.to_owned(), values)).into();
    Answers { metrics, ..Answers::default() }
}

fn figures(reading: &Reading) -> Vec<(&str, Option<f64>, Option<u64>)> {
    let figures = reading.devices.iter().map(|seen| {
        let sample = seen.state.sample().unwrap();
        (seen.device.id.as_str(), sample.busy.gpu, sample.memory.used)
    });
    figures.collect()
}

#[tokio::test]
async fn without_a_chip_it_is_absent() {
    let machine = Machine::new();
    machine.write("sys/bus/pci/devices/0000:00:01.0/vendor", "0x1ae0\n");
    machine.write("sys/bus/pci/devices/0000:00:01.0/device", "0x0042\n");
    machine.process(5, &["/dev/accel0"], "/lib/libtpu.so");
    let error = machine.source(1).read().await.unwrap_err();
    assert!(matches!(&error, SourceError::Absent(why) if why.contains("/sys")), "{error}");
}

#[tokio::test]
async fn a_workloads_figures_are_its_chips() {
    let server = Tpu::start(answers(&[40.0, 60.0], &[1e9, 2e9])).unwrap();
    let machine = Machine::new();
    (0..4).for_each(|number| machine.chip(number, "0x0063\n"));
    // The two that it has open are its devices 0 and 1.
    machine.process(77, &["/dev/null", "/dev/accel2", "/dev/accel3"], "/x/libtpu.so");
    let mut source = machine.source(server.port());
    let reading = source.read().await.unwrap();
    assert_eq!(
        figures(&reading),
        [
            ("tpu-0", None, None),
            ("tpu-1", None, None),
            ("tpu-2", Some(0.4), Some(1_000_000_000)),
            ("tpu-3", Some(0.6), Some(2_000_000_000)),
        ]
    );
    let device = &reading.devices[2].device;
    assert_eq!((device.model.as_str(), device.minor), ("TPU v5e", Some(2)));
    assert_eq!(device.pci.as_ref().unwrap().as_str(), "0000:00:06.0");
    let free = reading.devices[3].state.sample().unwrap().memory.free;
    assert_eq!(free, Some(14_000_000_000));
    let uses: Vec<_> =
        reading.processes.iter().map(|used| (used.device.as_str(), used.pid, used.busy)).collect();
    assert_eq!(uses, [("tpu-2", 77, Some(0.4)), ("tpu-3", 77, Some(0.6))]);
    server.set(Answers { has_text_ids: true, ..answers(&[50.0, 60.0], &[1e9, 2e9]) });
    let reading = source.read().await.unwrap();
    assert_eq!(figures(&reading)[2].1, Some(0.5), "over the same connection");
    fs::remove_dir_all(machine.0.path().join("proc/77")).unwrap();
    let reading = source.read().await.unwrap();
    assert_eq!(figures(&reading)[2], ("tpu-2", None, None), "the workload ended");
    assert!(reading.processes.is_empty() && source.clients.is_empty());
}

#[tokio::test]
async fn workloads_that_count_from_0_each_are_told_apart() {
    let servers = [25.0, 75.0].map(|duty| Tpu::start(answers(&[duty], &[1e9])).unwrap());
    let machine = Machine::new();
    (0..2).for_each(|number| machine.chip(number, "0x006f\n"));
    for (number, server) in (0..).zip(&servers) {
        machine.process(80 + number, &[&format!("/dev/accel{number}")], "/x/libtpu.so");
        machine.serves(80 + number, server.port());
    }
    let reading = machine.source(1).read().await.unwrap();
    let busy: Vec<_> = figures(&reading).into_iter().map(|(id, busy, _)| (id, busy)).collect();
    assert_eq!(busy, [("tpu-0", Some(0.25)), ("tpu-1", Some(0.75))]);
    let uses: Vec<_> =
        reading.processes.iter().map(|used| (used.device.as_str(), used.pid)).collect();
    assert_eq!(uses, [("tpu-0", 80), ("tpu-1", 81)]);
}

#[tokio::test]
async fn older_chips_have_two_devices() {
    let server = Tpu::start(answers(&[40.0, 60.0], &[1e9, 2e9, 3e9, 4e9])).unwrap();
    let machine = Machine::new();
    (0..2).for_each(|number| machine.chip(number, "0x0027\n"));
    machine.process(77, &["/dev/accel0", "/dev/accel1"], "/x/libtpu.so");
    let reading = machine.source(server.port()).read().await.unwrap();
    let busy: Vec<_> = figures(&reading).into_iter().map(|(_, busy, _)| busy).collect();
    assert_eq!(busy, [Some(0.4), Some(0.4), Some(0.6), Some(0.6)]);
    assert_eq!(reading.devices[3].device.model, "TPU v3");
    assert_eq!(reading.devices[3].device.minor, Some(1));
}

#[tokio::test]
async fn who_has_no_libtpu_is_not_asked_and_who_is_followed_is() {
    let server = Tpu::start(answers(&[40.0], &[1e9])).unwrap();
    let machine = Machine::new();
    machine.chip(0, "0x005e\n");
    machine.process(60, &["/dev/accel0"], "/usr/bin/qemu-system-x86_64");
    machine.process(61, &[], "/x/libtpu.so");
    let mut source = machine.source(server.port());
    let reading = source.read().await.unwrap();
    assert_eq!(figures(&reading), [("tpu-0", None, None)]);
    source.follow(&[61, 4_000_000]);
    let reading = source.read().await.unwrap();
    assert_eq!(figures(&reading), [("tpu-0", Some(0.4), Some(1_000_000_000))]);
    assert_eq!(reading.processes[0].pid, 61);
}

#[tokio::test]
async fn nonsense_is_left_out_and_counted() {
    let server = Tpu::start(answers(&[f64::NAN], &[-5.0])).unwrap();
    let machine = Machine::new();
    machine.chip(0, "0x005e\n");
    machine.process(60, &["/dev/accel0"], "/x/libtpu.so");
    let mut source = machine.source(server.port());
    let reading = source.read().await.unwrap();
    let sample = reading.devices[0].state.sample().unwrap();
    assert_eq!((sample.busy.gpu, sample.memory.used), (None, None));
    assert_eq!(sample.memory.total, Some(16_000_000_000));
    assert_eq!(source.invalid(), 2);
    server.set(Answers::default());
    let reading = source.read().await.unwrap();
    let is_silent = |reading: &Reading, word: &str| {
        let DeviceState::Silent { reason } = &reading.devices[0].state else {
            panic!("{reading:?}");
        };
        assert!(reason.contains("process 60") && reason.contains(word), "{reason}");
    };
    is_silent(&reading, "no metric");
    drop(server);
    let mut reading = source.read().await.unwrap();
    for _ in 0..500 {
        is_silent(&reading, "libtpu");
        // The connection that was there breaks first, in one of several ways.
        if format!("{reading:?}").contains("refused") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        reading = source.read().await.unwrap();
    }
    is_silent(&reading, "refused");
    let [used] = &reading.processes[..] else { panic!("{:?}", reading.processes) };
    assert_eq!(
        (used.pid, used.memory, used.busy),
        (60, None, None),
        "it has the chip all the same"
    );
}
