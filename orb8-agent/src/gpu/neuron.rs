//! AWS's Trainium and Inferentia: what `neuron-monitor` prints, a line of JSON each second.
//!
//! The program is run as a child. Each core is a device; a board's errors are told with its first core,
//! so that they are counted once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::checked::Checked;
use super::config::GpuConfig;
use super::device::{Device, DeviceId, SourceKind, Vendor};
use super::reading::{DeviceState, ProcessUse, Reading, Seen, UseKind};
use super::sample::{Busy, Ecc, Memory, Sample};
use super::source::{Source, SourceError};
use crate::clock::Clock;
use crate::event::UnixNanos;
use monitor::{Monitor, State};
use report::{Hardware, Report};

mod monitor;
mod report;

/// Where AWS's packages put it.
const PROGRAMS: [&str; 2] = ["opt/aws/neuron/bin/neuron-monitor", "usr/bin/neuron-monitor"];

/// A monitor that works reports each second; the first time it looks for devices.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than any machine has.
const MOST_CORES: u32 = 1024;

/// See the [module](self).
#[derive(Debug)]
pub struct NeuronSource {
    /// Where it may be, in order.
    programs: Vec<PathBuf>,
    monitor: Option<Monitor>,
    checked: Checked,
}

impl NeuronSource {
    /// Prepares to run the program of the settings.
    #[must_use]
    pub fn new(config: &GpuConfig) -> Self {
        let usual = || PROGRAMS.iter().map(|path| config.roots.libraries.join(path)).collect();
        let programs = config.neuron_monitor.as_ref().map_or_else(usual, |path| vec![path.clone()]);
        Self { programs, monitor: None, checked: Checked::default() }
    }

    fn start(&mut self) -> Result<&mut Monitor, SourceError> {
        let Some(program) = self.programs.iter().find(|path| path.is_file()) else {
            self.monitor = None;
            let places: Vec<_> =
                self.programs.iter().map(|path| path.display().to_string()).collect();
            return Err(SourceError::Absent(format!(
                "no neuron-monitor at {}; install aws-neuronx-tools, or set --gpu-neuron-monitor to where it is",
                places.join(" or ")
            )));
        };
        if self.monitor.as_ref().is_none_or(|monitor| monitor.program() != program) {
            let monitor = Monitor::start(program);
            self.monitor = Some(monitor.map_err(|error| failed(program, &error.to_string()))?);
        }
        self.monitor.as_mut().ok_or_else(|| failed(program, "it was not started"))
    }

    fn interpret(&mut self, report: &Report, time: UnixNanos) -> Reading {
        let hardware = report.neuron_hardware_info.as_ref();
        let mut cores: BTreeMap<u32, Sample> = BTreeMap::new();
        let count = hardware.map_or(0, Hardware::cores).min(MOST_CORES);
        let sample = Sample { time, ..Sample::default() };
        cores.extend((0..count).map(|core| (core, sample.clone())));
        let mut processes = Vec::new();
        for runtime in &report.neuron_runtime_data {
            for (core, used) in runtime.cores() {
                if core >= MOST_CORES {
                    self.checked.leave_out();
                    continue;
                }
                let busy = used.busy.and_then(|percent| self.checked.percent(percent));
                let memory = used.memory.and_then(|bytes| self.checked.count(bytes));
                add(cores.entry(core).or_insert_with(|| sample.clone()), busy, memory);
                let device = id(core);
                processes.extend(runtime.pid.map(|pid| ProcessUse {
                    device,
                    pid,
                    kind: UseKind::Compute,
                    memory,
                    busy,
                }));
            }
        }
        let share = hardware.and_then(Hardware::memory_of_core);
        let share = share.and_then(|bytes| self.checked.count(bytes));
        for sample in cores.values_mut() {
            complete(&mut sample.memory, share);
            // What no process uses is not used.
            sample.busy.gpu.get_or_insert(0.0);
        }
        self.put_errors(report, &mut cores);
        let devices = cores.into_iter().map(|(core, sample)| Seen {
            device: device(core, hardware),
            state: DeviceState::Sampled(Box::new(sample)),
        });
        Reading {
            source: SourceKind::Neuron,
            devices: devices.collect(),
            processes,
            events: Vec::new(),
            holdings: Vec::new(),
        }
    }

    /// Puts each board's errors with its first core.
    fn put_errors(&mut self, report: &Report, cores: &mut BTreeMap<u32, Sample>) {
        let per_board = report.neuron_hardware_info.as_ref().and_then(Hardware::cores_of_board);
        for board in report.boards() {
            let first = board.neuron_device_index.zip(per_board);
            let first = first.and_then(|(board, cores)| board.checked_mul(cores));
            let Some(sample) = first.and_then(|first| cores.get_mut(&first)) else { continue };
            let mut sum = |one: Option<f64>, other: Option<f64>| {
                let counts = one.into_iter().chain(other);
                let counts: Option<Vec<u64>> =
                    counts.map(|count| self.checked.count(count)).collect();
                counts.filter(|counts| !counts.is_empty()).map(|counts| counts.iter().sum())
            };
            sample.ecc = Some(Ecc {
                is_enabled: true,
                corrected: sum(board.mem_ecc_corrected, board.sram_ecc_corrected),
                uncorrected: sum(board.mem_ecc_uncorrected, board.sram_ecc_uncorrected),
                ..Ecc::default()
            });
        }
    }
}

impl Source for NeuronSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Neuron
    }

    async fn read(&mut self) -> Result<Reading, SourceError> {
        let monitor = self.start()?;
        let program = monitor.program().to_owned();
        let State { report, when, problem, malformed } = monitor.state();
        // A line that is no report counts as a value that makes no sense.
        self.checked.invalid += malformed;
        let age = Instant::now().saturating_duration_since(when);
        if age > PATIENCE {
            self.monitor.iter().for_each(Monitor::restart);
            let why = problem.unwrap_or_else(|| {
                format!("it has said nothing for {} s and is started again", age.as_secs())
            });
            return Err(failed(&program, &why));
        }
        let Some(report) = report else {
            return problem.map_or_else(|| Ok(nothing()), |why| Err(failed(&program, &why)));
        };
        if let Some(error) = report.error() {
            return Err(failed(&program, error));
        }
        Ok(self.interpret(&report, Clock::system().now()))
    }

    fn invalid(&self) -> u64 {
        self.checked.invalid
    }
}

/// What is told before the first report.
fn nothing() -> Reading {
    Reading {
        source: SourceKind::Neuron,
        devices: Vec::new(),
        processes: Vec::new(),
        events: Vec::new(),
        holdings: Vec::new(),
    }
}

/// Adds what a process uses of a core.
fn add(sample: &mut Sample, busy: Option<f64>, memory: Option<u64>) {
    if let Some(busy) = busy {
        let sum = sample.busy.gpu.unwrap_or(0.0) + busy;
        sample.busy = Busy { gpu: Some(sum.min(1.0)), ..Busy::default() };
    }
    if let Some(memory) = memory {
        sample.memory.used = Some(sample.memory.used.unwrap_or(0).saturating_add(memory));
    }
}

/// Says what a core has in all, and what of it is free.
fn complete(memory: &mut Memory, total: Option<u64>) {
    memory.total = total;
    // What no process uses is not used.
    let used = *memory.used.get_or_insert(0);
    memory.free = total.and_then(|total| total.checked_sub(used));
}

fn id(core: u32) -> DeviceId {
    DeviceId::new(format!("neuroncore-{core}"))
}

fn device(core: u32, hardware: Option<&Hardware>) -> Device {
    let per_board = hardware.and_then(Hardware::cores_of_board);
    Device {
        id: id(core),
        vendor: Vendor::Aws,
        source: SourceKind::Neuron,
        index: Some(core),
        // The board's file, `/dev/neuronN`.
        minor: per_board.map(|cores| core / cores),
        model: hardware.and_then(Hardware::model).unwrap_or_else(|| "AWS Neuron".to_owned()),
        architecture: hardware.and_then(|hardware| hardware.neuroncore_version.clone()),
        pci: None,
        serial: None,
        driver: None,
        part: None,
        is_divided: false,
    }
}

fn failed(program: &Path, why: &str) -> SourceError {
    SourceError::Failed(format!(
        "{} tells nothing: {why}; run it by hand to see what it says",
        program.display()
    ))
}

#[cfg(test)]
mod tests;
