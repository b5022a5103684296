//! NVIDIA devices by dcgm-exporter's names, labels and units, for dashboards that know them.
//!
//! A device has a series for each container that holds it, with the device's own figure, as the exporter
//! does it; one without pod labels where nobody is known to hold it.

use std::sync::Arc;

use crate::event::UnixNanos;
use crate::gpu::Vendor;
use crate::gpu::device::Device;
use crate::gpu::sample::Sample as Reading;
use crate::gpu::share::Share;
use crate::gpu::view::{DeviceView, View};
use crate::metrics::family::{Family, Kind, Label, Labels, Sample, Value};

/// Bytes of a mebibyte, which the exporter tells memory in.
const MEBIBYTE: u64 = 1 << 20;

/// One of the exporter's fields.
struct Field {
    name: &'static str,
    help: &'static str,
    read: fn(&Reading, &DeviceView) -> Option<f64>,
}

macro_rules! fields {
    ($($name:literal, $read:expr, $help:literal;)*) => {
        const FIELDS: &[Field] =
            &[$(Field { name: $name, help: $help, read: $read }),*];
    };
}

fields! {
    "DCGM_FI_DEV_SM_CLOCK", |at, _| at.clocks.sm.map(f64::from),
        "SM clock frequency (in MHz).";
    "DCGM_FI_DEV_MEM_CLOCK", |at, _| at.clocks.memory.map(f64::from),
        "Memory clock frequency (in MHz).";
    "DCGM_FI_DEV_MEMORY_TEMP", |at, _| at.temperature.memory,
        "Memory temperature (in C).";
    "DCGM_FI_DEV_GPU_TEMP", |at, _| at.temperature.gpu,
        "GPU temperature (in C).";
    "DCGM_FI_DEV_POWER_USAGE", |at, _| at.power.draw,
        "Power draw (in W).";
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        |at, _| at.power.energy_mj.map(|energy| energy as f64),
        "Total energy consumption since boot (in mJ).";
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", |at, _| at.pcie.replays.map(|count| count as f64),
        "Total number of PCIe retries.";
    "DCGM_FI_DEV_GPU_UTIL", |at, _| percent(at.busy.gpu),
        "GPU utilization (in %).";
    "DCGM_FI_DEV_MEM_COPY_UTIL", |at, _| percent(at.busy.memory),
        "Memory utilization (in %).";
    "DCGM_FI_DEV_ENC_UTIL", |at, _| percent(at.busy.encoder),
        "Encoder utilization (in %).";
    "DCGM_FI_DEV_DEC_UTIL", |at, _| percent(at.busy.decoder),
        "Decoder utilization (in %).";
    "DCGM_FI_DEV_XID_ERRORS", |_, view| Some(view.counts.last_xid.map_or(0.0, f64::from)),
        "Value of the last XID error encountered.";
    "DCGM_FI_DEV_FB_FREE", |at, _| mebibytes(at.memory.free),
        "Framebuffer memory free (in MiB).";
    "DCGM_FI_DEV_FB_USED", |at, _| mebibytes(at.memory.used),
        "Framebuffer memory used (in MiB).";
    "DCGM_FI_DEV_FB_RESERVED", |at, _| mebibytes(at.memory.reserved),
        "Framebuffer memory reserved (in MiB).";
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", |at, _| count(at.ecc?.corrected),
        "Total number of single-bit volatile ECC errors.";
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", |at, _| count(at.ecc?.uncorrected),
        "Total number of double-bit volatile ECC errors.";
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", |at, _| count(at.ecc?.corrected_lifetime),
        "Total number of single-bit persistent ECC errors.";
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", |at, _| count(at.ecc?.uncorrected_lifetime),
        "Total number of double-bit persistent ECC errors.";
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", |at, _| count(Some(at.rows?.uncorrectable)),
        "Number of remapped rows for uncorrectable errors.";
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", |at, _| count(Some(at.rows?.correctable)),
        "Number of remapped rows for correctable errors.";
    "DCGM_FI_DEV_ROW_REMAP_FAILURE",
        |at, _| Some(if at.rows?.has_failed { 1.0 } else { 0.0 }),
        "Whether remapping of rows has failed.";
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE", |at, _| at.busy.engine,
        "Ratio of time the graphics engine is active.";
    "DCGM_FI_PROF_SM_ACTIVE", |at, _| at.busy.sm,
        "The ratio of cycles an SM has at least 1 warp assigned.";
    "DCGM_FI_PROF_SM_OCCUPANCY", |at, _| at.busy.sm_occupancy,
        "The ratio of number of warps resident on an SM.";
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", |at, _| at.busy.tensor,
        "Ratio of cycles the tensor (HMMA) pipe is active.";
    "DCGM_FI_PROF_DRAM_ACTIVE", |at, _| at.busy.dram,
        "Ratio of cycles the device memory interface is active sending or receiving data.";
    "DCGM_FI_PROF_PIPE_FP64_ACTIVE", |at, _| at.busy.fp64,
        "Ratio of cycles the fp64 pipes are active.";
    "DCGM_FI_PROF_PIPE_FP32_ACTIVE", |at, _| at.busy.fp32,
        "Ratio of cycles the fp32 pipes are active.";
    "DCGM_FI_PROF_PIPE_FP16_ACTIVE", |at, _| at.busy.fp16,
        "Ratio of cycles the fp16 pipes are active.";
    "DCGM_FI_PROF_PCIE_TX_BYTES", |at, _| count(at.pcie.tx_rate),
        "The rate of data transmitted over the PCIe bus (in bytes per second).";
    "DCGM_FI_PROF_PCIE_RX_BYTES", |at, _| count(at.pcie.rx_rate),
        "The rate of data received over the PCIe bus (in bytes per second).";
    "DCGM_FI_PROF_NVLINK_TX_BYTES", |at, _| count(at.nvlink?.tx_rate),
        "The rate of data transmitted over NVLink (in bytes per second).";
    "DCGM_FI_PROF_NVLINK_RX_BYTES", |at, _| count(at.nvlink?.rx_rate),
        "The rate of data received over NVLink (in bytes per second).";
}

/// Returns all families that have values.
pub(in crate::metrics) fn families(view: &View, node: &Arc<str>, since: UnixNanos) -> Vec<Family> {
    let is_nvidia = |at: &&DeviceView| at.seen.device.vendor == Vendor::Nvidia;
    let devices = view.devices.iter().filter(is_nvidia);
    let labelled: Vec<(&DeviceView, Vec<Arc<[Label]>>)> =
        devices.map(|at| (at, labels(view, at, node))).collect();
    let family = |field: &Field| {
        let mut samples = Vec::new();
        for (at, owners) in &labelled {
            let reading = at.seen.state.sample();
            let Some(value) = reading.and_then(|reading| (field.read)(reading, at)) else {
                continue;
            };
            samples.extend(owners.iter().map(|owner| Sample {
                labels: Labels { owner: Some(Arc::clone(owner)), own: [None, None] },
                value: Value::Gauge(value),
                since,
            }));
        }
        let Field { name, help, .. } = *field;
        // The exporter's counters are not named as counters have to be.
        let kind = Kind::Gauge;
        Family { name, help, kind, unit: None, samples }
    };
    FIELDS.iter().map(family).filter(|family| !family.samples.is_empty()).collect()
}

/// Returns the label sets of a device: one for each container that holds it.
fn labels(view: &View, at: &DeviceView, node: &Arc<str>) -> Vec<Arc<[Label]>> {
    let own = of_device(view, &at.seen.device, node);
    let holders = at.shares.shares.iter().filter(|share| share.holds.is_some());
    let of_holder = |share: &Share| {
        let mut labels = own.clone();
        push(&mut labels, "container", share.owner.container.as_deref());
        push(&mut labels, "namespace", share.owner.namespace.as_deref());
        push(&mut labels, "pod", share.owner.pod.as_deref());
        Arc::<[Label]>::from(labels)
    };
    let mut sets: Vec<Arc<[Label]>> = holders.map(of_holder).collect();
    if sets.is_empty() {
        sets.push(own.into());
    }
    sets
}

fn of_device(view: &View, device: &Device, node: &Arc<str>) -> Vec<Label> {
    // Of a part, most labels are those of what it is a part of.
    let parent = device.part.as_ref().and_then(|part| view.device(&part.parent));
    let whole = parent.map_or(device, |parent| &parent.seen.device);
    let index = whole.index.map(|index| index.to_string());
    let minor = whole.minor.or(whole.index).map(|minor| format!("nvidia{minor}"));
    // It has eight digits of domain, and capitals.
    let pci = whole.pci.as_ref().map(|pci| format!("{:0>16}", pci.as_str().to_uppercase()));
    let mut labels = Vec::new();
    push(&mut labels, "gpu", index.as_deref());
    push(&mut labels, "UUID", Some(whole.id.as_str()));
    push(&mut labels, "pci_bus_id", pci.as_deref());
    push(&mut labels, "device", minor.as_deref());
    push(&mut labels, "modelName", Some(&whole.model));
    if let Some(part) = &device.part {
        push(&mut labels, "GPU_I_PROFILE", Some(&part.profile));
        push(&mut labels, "GPU_I_ID", Some(&part.gpu_instance.to_string()));
    }
    labels.push(("Hostname", Arc::clone(node).into()));
    push(&mut labels, "DCGM_FI_DRIVER_VERSION", whole.driver.as_deref());
    labels
}

fn push(labels: &mut Vec<Label>, name: &'static str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        labels.push((name, Arc::<str>::from(value).into()));
    }
}

fn percent(ratio: Option<f64>) -> Option<f64> {
    ratio.map(|ratio| (ratio * 100.0).round())
}

fn mebibytes(bytes: Option<u64>) -> Option<f64> {
    bytes.map(|bytes| (bytes / MEBIBYTE) as f64)
}

fn count(count: Option<u64>) -> Option<f64> {
    count.map(|count| count as f64)
}
