//! What of accelerators is looked at, how often, and where it is found.

use std::path::PathBuf;
use std::time::Duration;

use super::device::SourceKind;
use super::sample::Ratio;

/// See the settings `gpu-*` (docs/configuration.md).
#[derive(Clone, Debug, PartialEq)]
pub struct GpuConfig {
    /// Between two readings, 1 s to 10 s.
    pub interval: Duration,
    /// Which sources are asked.
    pub sources: SourceSelection,
    /// NVIDIA's management library; `None` for the usual places.
    pub nvml_library: Option<PathBuf>,
    /// URL of dcgm-exporter's metrics.
    pub dcgm: String,
    /// The kubelet's socket; `None` where it is not to be asked.
    pub pod_resources: Option<PathBuf>,
    /// Who holds a device for so long without using it is told as idle.
    pub idle_after: Duration,
    /// Whether calls to CUDA and NCCL are watched.
    pub trace: TraceMode,
    /// Part of a thread's time that watching its calls may take.
    pub trace_budget: Ratio,
    /// Length of one window of the verdict on leaks.
    pub leak_window: Duration,
    /// neuron-monitor's program; `None` for the usual places.
    pub neuron_monitor: Option<PathBuf>,
    /// Port of libtpu's metrics in a workload's network.
    pub tpu_port: u16,
    /// Port of NCCL's RAS in a workload's network.
    pub ras_port: u16,
    /// Where the kernel's file systems are.
    pub roots: Roots,
}

/// Which sources are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceSelection {
    /// Each, where it is there.
    #[default]
    Auto,
    /// These.
    Only(Vec<SourceKind>),
}

impl SourceSelection {
    /// Whether a source is asked.
    #[must_use]
    pub fn includes(&self, kind: SourceKind) -> bool {
        match self {
            Self::Auto => true,
            Self::Only(kinds) => kinds.contains(&kind),
        }
    }
}

/// Whether calls to CUDA and NCCL are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceMode {
    /// Where the kernel can and a process uses a device.
    #[default]
    Auto,
    /// Not.
    Off,
}

/// Where the kernel's file systems are; others in tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// What the paths of libraries are below: `/`.
    pub libraries: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), libraries: "/".into() }
    }
}

impl Default for GpuConfig {
    fn default() -> Self {
        Self {
            // As often as nvidia-smi and DCGM show something new.
            interval: Duration::from_secs(1),
            sources: SourceSelection::Auto,
            nvml_library: None,
            dcgm: "http://localhost:9400/metrics".into(),
            pod_resources: Some("/var/lib/kubelet/pod-resources/kubelet.sock".into()),
            // Long enough for a job's start, which reads its data and compiles first.
            idle_after: Duration::from_mins(10),
            trace: TraceMode::Auto,
            // What a launch-bound loop may lose and nobody would look for it.
            trace_budget: 0.01,
            // Longer than a training step with its evaluation, usually.
            leak_window: Duration::from_mins(1),
            neuron_monitor: None,
            tpu_port: 8431,
            ras_port: 28028,
            roots: Roots::default(),
        }
    }
}
