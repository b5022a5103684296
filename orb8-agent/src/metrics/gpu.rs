//! Metrics of accelerators, made of the last view of them.
//!
//! Series of devices have no labels of pods, and those of pods have names of their own: a sum over
//! either counts nothing twice. Parts of a divided device (MIG) have names of their own too.

mod dcgm;
mod labels;
mod owners;
mod read;
mod told;

use std::sync::Arc;

use super::family::{Family, Kind, Label, Labels, Sample, Unit, Value};
use crate::event::UnixNanos;
use crate::gpu::share::{Share, Standing};
use crate::gpu::totals::OwnerTotals;
use crate::gpu::view::{DeviceView, SourceHealth, View};
use labels::Device;
use told::Told;

pub(super) use dcgm::families as dcgm_families;

/// One metric of accelerators.
pub struct GpuMetric {
    /// Name, as it is scraped.
    pub name: &'static str,
    /// What it is, one sentence.
    pub help: &'static str,
    /// Names of its own labels, behind those of what it is of.
    pub labels: &'static [&'static str],
    kind: Kind,
    read: Read,
}

/// What a metric is of, and how its values are read.
#[derive(Clone, Copy)]
enum Read {
    /// A device that is no part.
    Device(fn(&DeviceView, &mut Told)),
    /// A part of a device.
    Instance(fn(&DeviceView, &mut Told)),
    /// What of a device is one owner's.
    Share(fn(&Share, &View, &mut Told)),
    /// What the processes of one owner did.
    Owner(fn(&OwnerTotals, &mut Told)),
    /// A source.
    Source(fn(&SourceHealth, &mut Told)),
    /// All of it.
    View(fn(&View, &mut Told)),
}

impl GpuMetric {
    /// Returns the labels of what it is of.
    #[must_use]
    pub const fn owner_labels(&self) -> &'static [&'static str] {
        match self.read {
            Read::Device(_) => labels::DEVICE,
            Read::Instance(_) => labels::INSTANCE,
            Read::Share(_) => labels::SHARE,
            Read::Owner(_) => labels::OWNER,
            Read::Source(_) => labels::SOURCE,
            Read::View(_) => &[],
        }
    }

    /// Returns what its values are.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

macro_rules! gpu {
    ($($name:literal [$($label:literal),*] $kind:ident, $read:expr, $help:literal;)*) => {
        /// Every metric of accelerators.
        pub const GPU: &[GpuMetric] = &[$(GpuMetric {
            name: $name,
            help: $help,
            labels: &[$($label),*],
            kind: Kind::$kind,
            read: $read,
        }),*];
    };
}

gpu! {
    "orb8_gpu_info" ["vendor", "pci", "serial", "driver", "architecture", "source"] Gauge,
        Read::Device(read::info), "1 for each device, with what it is.";
    "orb8_gpu_up" [] Gauge, Read::Device(read::up),
        "Whether the device answers, 1 or 0: it is lost, or silent.";
    "orb8_gpu_utilization" [] Gauge, Read::Device(|at, to| to.gauge(at.busy().figure())),
        "Time in which any kernel ran, 0 to 1.";
    "orb8_gpu_memory_utilization" [] Gauge, Read::Device(|at, to| to.gauge(at.busy().memory)),
        "Time in which device memory was read or written, 0 to 1.";
    "orb8_gpu_encoder_utilization" [] Gauge, Read::Device(|at, to| to.gauge(at.busy().encoder)),
        "Time in which the video encoder was used, 0 to 1.";
    "orb8_gpu_decoder_utilization" [] Gauge, Read::Device(|at, to| to.gauge(at.busy().decoder)),
        "Time in which the video decoder was used, 0 to 1.";
    "orb8_gpu_engine_active" [] Gauge, Read::Device(|at, to| to.gauge(at.busy().engine)),
        "Time in which the compute or graphics engine was active, 0 to 1 (profiling).";
    "orb8_gpu_sm_active" [] Gauge, Read::Device(|at, to| to.gauge(at.busy().sm)),
        "Multiprocessors with a warp on them, averaged, 0 to 1 (profiling).";
    "orb8_gpu_sm_occupancy" [] Gauge, Read::Device(|at, to| to.gauge(at.busy().sm_occupancy)),
        "Warps on multiprocessors of those that fit, 0 to 1 (profiling).";
    "orb8_gpu_tensor_active" [] Gauge, Read::Device(|at, to| to.gauge(at.busy().tensor)),
        "Cycles in which tensor cores were active, 0 to 1 (profiling).";
    "orb8_gpu_pipe_active" ["pipe"] Gauge, Read::Device(read::pipes),
        "Cycles in which floating-point units were active, 0 to 1 (profiling).";
    "orb8_gpu_dram_active" [] Gauge, Read::Device(|at, to| to.gauge(at.busy().dram)),
        "Cycles in which device memory sent or received, 0 to 1 (profiling).";
    "orb8_gpu_memory_used" [] Gauge, Read::Device(|at, to| to.bytes(at.memory().used)),
        "Device memory that processes have, bytes.";
    "orb8_gpu_memory_reserved" [] Gauge, Read::Device(|at, to| to.bytes(at.memory().reserved)),
        "Device memory that driver and firmware keep, bytes.";
    "orb8_gpu_memory_free" [] Gauge, Read::Device(|at, to| to.bytes(at.memory().free)),
        "Device memory that nobody has, bytes.";
    "orb8_gpu_memory_size" [] Gauge, Read::Device(|at, to| to.bytes(at.memory().total)),
        "Device memory, bytes.";
    "orb8_gpu_unattributed_memory" [] Gauge,
        Read::Device(|at, to| to.bytes(at.shares.unattributed_memory)),
        "Used device memory that is nobody's known, bytes: with orb8_gpu_pod_memory_used it sums to \
         orb8_gpu_memory_used, on a divided device with those of its instances.";
    "orb8_gpu_unattributed_utilization" [] Gauge,
        Read::Device(|at, to| to.gauge(at.shares.unattributed_busy)),
        "Busy time that is nobody's known, 0 to 1: with orb8_gpu_pod_utilization it sums to \
         orb8_gpu_utilization.";
    "orb8_gpu_temperature_celsius" ["sensor"] Gauge, Read::Device(read::temperatures),
        "Temperature of the chip (`gpu`) and of its memory (`memory`).";
    "orb8_gpu_temperature_limit_celsius" ["limit"] Gauge, Read::Device(read::temperature_limits),
        "Temperature at which it slows down (`slowdown`) or shuts down (`shutdown`).";
    "orb8_gpu_power_watts" [] Gauge, Read::Device(|at, to| to.gauge(at.power().draw)),
        "What it draws.";
    "orb8_gpu_power_limit_watts" [] Gauge, Read::Device(|at, to| to.gauge(at.power().limit)),
        "What it may draw.";
    "orb8_gpu_energy_joules_total" [] Counter, Read::Device(read::energy),
        "What it has used since the agent started.";
    "orb8_gpu_clock_hertz" ["clock"] Gauge, Read::Device(read::clocks),
        "Clocks of multiprocessors (`sm`), `memory` and `video`.";
    "orb8_gpu_clock_max_hertz" ["clock"] Gauge, Read::Device(read::max_clocks),
        "The same at most.";
    "orb8_gpu_performance_state" [] Gauge, Read::Device(read::performance_state),
        "Performance state, 0 the fastest.";
    "orb8_gpu_throttled" ["reason"] Gauge, Read::Device(read::throttled),
        "Whether something slows it down now, 1 or 0, by what does.";
    "orb8_gpu_throttled_seconds_total" ["reason"] Counter, Read::Device(read::throttled_time),
        "Time in which readings found it slowed down, since the agent started.";
    "orb8_gpu_throttle_lost_seconds_total" ["reason"] Counter, Read::Device(read::throttle_lost),
        "Time lost to it by the device's own count, since the driver was loaded.";
    "orb8_gpu_pcie_bytes_per_second" ["direction"] Gauge, Read::Device(read::pcie_rates),
        "Bytes to the machine (`tx`) and from it (`rx`).";
    "orb8_gpu_pcie_replays_total" [] Counter, Read::Device(read::pcie_replays),
        "PCIe packets that had to be sent again, since the driver was loaded.";
    "orb8_gpu_pcie_link_generation" [] Gauge,
        Read::Device(|at, to| to.number(at.pcie().generation)),
        "Generation of its PCIe link as it is now; an idle link may be slower.";
    "orb8_gpu_pcie_link_generation_max" [] Gauge,
        Read::Device(|at, to| to.number(at.pcie().max_generation)),
        "The same at most, of device and slot together.";
    "orb8_gpu_pcie_link_width" [] Gauge, Read::Device(|at, to| to.number(at.pcie().width)),
        "Lanes of its PCIe link.";
    "orb8_gpu_pcie_link_width_max" [] Gauge, Read::Device(|at, to| to.number(at.pcie().max_width)),
        "The same at most.";
    "orb8_gpu_nvlink_links" ["state"] Gauge, Read::Device(read::nvlinks),
        "NVLinks that are up (`active`) and that are not (`inactive`).";
    "orb8_gpu_nvlink_bytes_total" ["direction"] Counter, Read::Device(read::nvlink_bytes),
        "Bytes over NVLink, since the driver was loaded.";
    "orb8_gpu_nvlink_bytes_per_second" ["direction"] Gauge, Read::Device(read::nvlink_rates),
        "Bytes a second over NVLink (profiling).";
    "orb8_gpu_nvlink_errors_total" ["kind"] Counter, Read::Device(read::nvlink_errors),
        "NVLink errors since the driver was loaded: `crc`, `replay`, `recovery`.";
    "orb8_gpu_ecc_errors_total" ["kind"] Counter, Read::Device(read::ecc),
        "Errors of its memory since the driver was loaded: `corrected`, `uncorrected`.";
    "orb8_gpu_ecc_lifetime_errors" ["kind"] Gauge, Read::Device(read::ecc_lifetime),
        "The same in the board's life.";
    "orb8_gpu_remapped_rows" ["kind"] Gauge, Read::Device(read::rows),
        "Rows of its memory that spares stand in for, for `correctable` and `uncorrectable` errors.";
    "orb8_gpu_row_remap_pending" [] Gauge, Read::Device(read::rows_pending),
        "Whether a row waits for a reset of the device, 1 or 0.";
    "orb8_gpu_row_remap_failed" [] Gauge, Read::Device(read::rows_failed),
        "Whether there was no spare row left, 1 or 0: the board is to be replaced.";
    "orb8_gpu_xid_errors_total" ["xid", "class", "action"] Counter, Read::Device(read::xids),
        "Errors that the driver reported since the agent started, by NVIDIA's number, where they come \
         from and what to do.";
    "orb8_gpu_lost_total" [] Counter, Read::Device(|at, to| to.count(at.counts.lost)),
        "Times that it was lost since the agent started.";
    "orb8_gpu_silent_readings_total" [] Counter,
        Read::Device(|at, to| to.count(at.counts.silent)),
        "Readings that it did not answer since the agent started.";

    "orb8_gpu_instance_utilization" [] Gauge,
        Read::Instance(|at, to| to.gauge(at.busy().figure())),
        "Time in which the engine of a MIG instance was active, 0 to 1.";
    "orb8_gpu_instance_sm_active" [] Gauge, Read::Instance(|at, to| to.gauge(at.busy().sm)),
        "Its multiprocessors with a warp on them, averaged, 0 to 1 (profiling).";
    "orb8_gpu_instance_tensor_active" [] Gauge,
        Read::Instance(|at, to| to.gauge(at.busy().tensor)),
        "Cycles in which its tensor cores were active, 0 to 1 (profiling).";
    "orb8_gpu_instance_dram_active" [] Gauge, Read::Instance(|at, to| to.gauge(at.busy().dram)),
        "Cycles in which its memory sent or received, 0 to 1 (profiling).";
    "orb8_gpu_instance_memory_used" [] Gauge,
        Read::Instance(|at, to| to.bytes(at.memory().used)),
        "Memory of a MIG instance that processes have, bytes.";
    "orb8_gpu_instance_memory_size" [] Gauge,
        Read::Instance(|at, to| to.bytes(at.memory().total)),
        "Memory of a MIG instance, bytes.";
    "orb8_gpu_instance_unattributed_memory" [] Gauge,
        Read::Instance(|at, to| to.bytes(at.shares.unattributed_memory)),
        "Used memory of a MIG instance that is nobody's known, bytes.";
    "orb8_gpu_instance_unattributed_utilization" [] Gauge,
        Read::Instance(|at, to| to.gauge(at.shares.unattributed_busy)),
        "Busy time of a MIG instance that is nobody's known, 0 to 1.";

    "orb8_gpu_pod_memory_used" ["basis"] Gauge, Read::Share(owners::share_memory),
        "Device memory of one owner, bytes, and how that was found: `exact`, `estimated`, `shared`.";
    "orb8_gpu_pod_utilization" ["basis"] Gauge, Read::Share(owners::share_busy),
        "Busy time of one owner, of the whole device's 1, and how that was found.";
    "orb8_gpu_pod_holds" ["resource"] Gauge, Read::Share(owners::holds),
        "1 for each device or part that a container was given.";
    "orb8_gpu_pod_idle_seconds" [] Gauge, Read::Share(owners::idle),
        "For how long a container has held a device without using it; 0 while it uses it, absent of a lost one.";
    "orb8_gpu_pod_idle" [] Gauge, Read::Share(owners::idle_long),
        "Whether that is longer than --gpu-idle-after, 1 or 0; absent of a lost device.";
    "orb8_gpu_pod_unallocated" [] Gauge, Read::Share(owners::unallocated),
        "1 for who uses a device that it was not given.";

    "orb8_gpu_pod_launches_total" [] Counter, Read::Owner(|at, to| to.count(at.sums.launches)),
        "Kernels that its processes launched.";
    "orb8_gpu_pod_graph_launches_total" [] Counter,
        Read::Owner(|at, to| to.count(at.sums.graph_launches)),
        "CUDA graphs that its processes launched.";
    "orb8_gpu_pod_allocations_total" ["kind"] Counter, Read::Owner(owners::allocations),
        "Allocations of memory.";
    "orb8_gpu_pod_allocated_bytes_total" ["kind"] Counter, Read::Owner(owners::allocated_bytes),
        "Memory that was allocated.";
    "orb8_gpu_pod_freed_bytes_total" ["kind"] Counter, Read::Owner(owners::freed_bytes),
        "Memory that was given back.";
    "orb8_gpu_pod_allocation_failures_total" [] Counter,
        Read::Owner(|at, to| to.count(at.sums.failed)),
        "Allocations that the driver refused.";
    "orb8_gpu_pod_outstanding_bytes" [] Gauge,
        Read::Owner(|at, to| to.bytes(Some(at.outstanding))),
        "Device memory that its processes took and have not given back, as far as that was watched.";
    "orb8_gpu_pod_leak_bytes_per_second" [] Gauge,
        Read::Owner(|at, to| to.gauge(Some(at.leak_growth))),
        "Growth of what a process seems to lose; 0 where none does.";
    "orb8_gpu_pod_copies_total" ["kind"] Counter, Read::Owner(owners::copies),
        "Copies to, from and between devices.";
    "orb8_gpu_pod_copied_bytes_total" ["kind"] Counter, Read::Owner(owners::copied_bytes),
        "Bytes that they copied.";
    "orb8_gpu_pod_waits_total" ["kind"] Counter, Read::Owner(owners::waits),
        "Times that its threads waited for a device.";
    "orb8_gpu_pod_wait_seconds_total" ["kind"] Counter, Read::Owner(owners::wait_time),
        "For how long they did.";
    "orb8_gpu_pod_module_loads_total" [] Counter,
        Read::Owner(|at, to| to.count(at.sums.modules.count)),
        "Modules that its processes loaded, which may compile them.";
    "orb8_gpu_pod_module_load_seconds_total" [] Counter,
        Read::Owner(|at, to| to.time(at.sums.modules.time)),
        "For how long its threads waited for that.";
    "orb8_gpu_pod_collectives_total" ["kind"] Counter, Read::Owner(owners::collectives),
        "NCCL collectives that its processes called.";
    "orb8_gpu_pod_collective_bytes_total" ["kind"] Counter, Read::Owner(owners::collective_bytes),
        "Bytes that its ranks put into them.";
    "orb8_gpu_pod_collectives_behind" [] Gauge,
        Read::Owner(|at, to| to.bytes(Some(at.behind))),
        "Collectives by which its slowest rank is behind the first of its communicator.";

    "orb8_gpu_source_up" [] Gauge, Read::Source(read::source_up),
        "Whether a source of accelerators' figures that was found tells them, 1 or 0.";
    "orb8_gpu_source_read_seconds" [] Gauge,
        Read::Source(|at, to| to.gauge(Some(at.took.as_secs_f64()))),
        "How long its last reading took.";
    "orb8_gpu_source_failures_total" [] Counter, Read::Source(|at, to| to.count(at.failures)),
        "Readings that failed.";
    "orb8_gpu_source_invalid_values_total" [] Counter, Read::Source(|at, to| to.count(at.invalid)),
        "Values that were left out since they made no sense.";
    "orb8_gpu_source_unread_values_total" [] Counter, Read::Source(|at, to| to.count(at.unread)),
        "Values that it asked for and was not told, other than those that a device does not have.";
    "orb8_gpu_holders_known" [] Gauge, Read::View(read::holders_known),
        "Whether it is known which container was given which device, 1 or 0.";
    "orb8_gpu_unmatched_holdings" [] Gauge, Read::View(read::unmatched),
        "Devices that were given out and are not among those that are there.";
    "orb8_gpu_unread_processes" [] Gauge, Read::View(read::strangers),
        "Processes on devices that are not in /proc: nobody knows whose they are.";
    "orb8_gpu_trace_processes" [] Gauge, Read::View(read::trace_processes),
        "Processes whose calls to CUDA and NCCL are watched.";
    "orb8_gpu_trace_probes" [] Gauge, Read::View(read::trace_probes),
        "Probes that are attached for that.";
    "orb8_gpu_trace_cost" [] Gauge, Read::View(read::trace_cost),
        "Part of the busiest thread's time that watching its calls takes, 0 to 1.";
    "orb8_gpu_trace_lost_total" [] Counter, Read::View(read::trace_lost),
        "Records of calls that the ring had no room for.";
}

/// Returns all families that have values.
pub(super) fn families(view: &View, started: UnixNanos) -> Vec<Family> {
    // None before the first reading, or where there is nothing to read.
    let metrics = if view.time == UnixNanos::default() { &[] } else { GPU };
    let devices: Vec<Device<'_>> = view.devices.iter().map(|at| Device::of(view, at)).collect();
    let families = metrics.iter().map(move |metric| metric.family(view, &devices, started));
    families.filter(|family| !family.samples.is_empty()).collect()
}

impl GpuMetric {
    fn family(&self, view: &View, devices: &[Device<'_>], started: UnixNanos) -> Family {
        let mut told = Told::new(self.labels);
        let of = |is_part: bool| {
            let all = view.devices.iter().zip(devices);
            all.filter(move |(at, _)| at.seen.device.part.is_some() == is_part)
        };
        let mut samples = Vec::new();
        let mut add = |owner: &Arc<[Label]>, since: UnixNanos, told: &mut Told| {
            samples.extend(told.take().map(|(own, value)| sample(owner, own, value, since)));
        };
        match self.read {
            Read::Device(read) => {
                for (at, labels) in of(false) {
                    read(at, &mut told);
                    add(&labels.device, started, &mut told);
                }
            }
            Read::Instance(read) => {
                for (at, labels) in of(true) {
                    read(at, &mut told);
                    add(&labels.instance, started, &mut told);
                }
            }
            Read::Share(read) => {
                for (labels, share) in devices.iter().flat_map(|device| &device.shares) {
                    read(share, view, &mut told);
                    add(labels, started, &mut told);
                }
            }
            Read::Owner(read) => {
                for owner in &view.totals {
                    read(owner, &mut told);
                    add(&labels::owner(owner), owner.since, &mut told);
                }
            }
            Read::Source(read) => {
                for source in &view.sources {
                    read(source, &mut told);
                    add(&labels::source(source), started, &mut told);
                }
            }
            Read::View(read) => {
                read(view, &mut told);
                add(&Arc::from([]), started, &mut told);
            }
        }
        let Self { name, help, kind, .. } = *self;
        Family { name, help, kind, unit: Unit::of(name), samples }
    }
}

/// A sample with the labels of what it is of, and its own behind them.
fn sample(owner: &Arc<[Label]>, own: Vec<Label>, value: Value, since: UnixNanos) -> Sample {
    let owner = match own.is_empty() {
        true => Arc::clone(owner),
        false => owner.iter().cloned().chain(own).collect(),
    };
    Sample { labels: Labels { owner: Some(owner), own: [None, None] }, value, since }
}

/// Whether a share is held without being used, and since when.
const fn idle_since(share: &Share) -> Option<UnixNanos> {
    match share.standing {
        Standing::Idle { since, .. } => Some(since),
        Standing::Active | Standing::Unallocated | Standing::InUse | Standing::Lost => None,
    }
}

#[cfg(test)]
mod tests;
