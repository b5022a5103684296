//! The source against the stand-in for the driver's library, which has the real one's functions.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::gpu::device::Vendor;
use crate::gpu::event::GpuEventKind;
use crate::gpu::reading::{DeviceState, ProcessUse, Seen, UseKind};
use crate::gpu::sample::{Sample, ThrottleReason};

mod bad;
mod devices;
mod hanging;
mod scenarios;

/// What a Hopper board is, without its section's header.
const H100: &str = "
model = NVIDIA H100 80GB HBM3
architecture = hopper
multiprocessors = 132
memory = 81559MiB
memory.reserved = 550MiB
temperature = 45
temperature.memory = 52
power = 350
power.limit = 700
clock.sm = 1755
clock.sm.max = 1980
pcie.tx = 1000000
pcie.rx = 2000000
pcie.generation = 5
pcie.generation.max = 5
nvlink.links = 18
nvlink.tx = 5000000
nvlink.rx = 6000000
";

/// A node: a copy of the library, and what it plays.
struct Node {
    directory: TempDir,
    library: PathBuf,
}

impl Node {
    fn new(scenario: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let library = orb8_standins::install(directory.path()).unwrap().nvml;
        let node = Self { directory, library };
        node.play(scenario);
        node
    }

    /// One with so many boards.
    fn h100s(count: u32, more: &str) -> Self {
        Self::new(&boards(count, more))
    }

    /// Plays something else from now on.
    fn play(&self, scenario: &str) {
        // At once, as a file that is half written is an error.
        let new = self.directory.path().join("new");
        fs::write(&new, scenario).unwrap();
        fs::rename(new, self.directory.path().join("libnvidia-ml.scenario")).unwrap();
    }

    /// Plays something else, from so far into it on, and waits until the library has seen it.
    async fn play_from(&self, milliseconds: u64, scenario: &str) {
        let began = unix_now().0 as f64 / 1e9 - milliseconds as f64 / 1e3;
        self.play(&format!("{scenario}\n[driver]\nstart = {began}\n"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    fn config(&self) -> GpuConfig {
        let mut config =
            GpuConfig { nvml_library: Some(self.library.clone()), ..GpuConfig::default() };
        config.roots.proc = self.directory.path().join("proc");
        config
    }

    /// A source that waits as long as a machine may take that has too much to do.
    fn source(&self) -> NvmlSource {
        patient(&self.config())
    }

    /// A source as the agent has it.
    fn impatient_source(&self) -> NvmlSource {
        NvmlSource::new(&self.config())
    }
}

fn patient(config: &GpuConfig) -> NvmlSource {
    let patience = Patience { reading: Duration::from_secs(30), call: Duration::from_secs(20) };
    let mut source = NvmlSource::new(config);
    source.patience = patience;
    source
}

impl Drop for Node {
    /// The library is closed once every thread is out of it.
    fn drop(&mut self) {
        let folder = self.directory.path().display().to_string();
        let is_open = || fs::read_to_string("/proc/self/maps").unwrap().contains(&folder);
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_open() && !std::thread::panicking() {
            assert!(Instant::now() < deadline, "it is still open");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn boards(count: u32, more: &str) -> String {
    format!("[device 0-{}]{H100}\n{more}\n", count - 1)
}

async fn read(source: &mut NvmlSource) -> Result<Reading, SourceError> {
    source.read().await
}

/// Reads, and looks that it takes less than a second, whatever happens: one of some times, on a machine
/// that has too much to do.
async fn read_quickly(source: &mut NvmlSource) -> Vec<Result<Reading, SourceError>> {
    let (mut readings, mut quickest) = (Vec::new(), Duration::MAX);
    while quickest >= Duration::from_secs(1) && readings.len() < 20 {
        let start = Instant::now();
        readings.push(source.read().await);
        quickest = quickest.min(start.elapsed());
    }
    assert!(quickest < Duration::from_secs(1), "took {quickest:?}");
    readings
}

/// Reads until it is as it should be, for so long as that may take.
async fn until(source: &mut NvmlSource, what: &str, is: impl Fn(&Reading) -> bool) -> Reading {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut last = None;
    while Instant::now() < deadline {
        last = Some(read(source).await);
        if let Some(Ok(reading)) = &last
            && is(reading)
        {
            return reading.clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: {last:#?}");
}

fn sample(seen: &Seen) -> &Sample {
    seen.state.sample().unwrap_or_else(|| panic!("{seen:#?}"))
}

fn sampled(reading: &Reading) -> Vec<bool> {
    reading.devices.iter().map(|seen| seen.state.sample().is_some()).collect()
}

fn reason(seen: &Seen) -> &str {
    match &seen.state {
        DeviceState::Silent { reason } | DeviceState::Lost { reason, .. } => reason,
        DeviceState::Sampled(_) => panic!("it answers: {seen:#?}"),
    }
}

/// Waits for as long as the driver takes two samples of processes in.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(400)).await;
}
