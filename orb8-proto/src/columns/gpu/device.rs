//! The columns of devices.

use super::{DeviceRow, cells, utilization};
use crate::columns::cells as common;
use crate::columns::{Column, Cut, Tone, View, Width};
use crate::units;
use crate::v1::GpuNvLink;

/// Accelerators and their parts.
#[derive(Clone, Copy, Debug)]
pub enum Devices {}

/// A list of devices.
pub static LIST: View<Devices> =
    View { command: "gpu", columns: COLUMNS, wide: WIDE, is_stream: false };

const COLUMNS: &[&Column<Devices>] =
    &[&GPU, &MODEL, &TEMPERATURE, &POWER, &UTILIZATION, &MEMORY, &HELD_BACK, &STATE];

const WIDE: &[&Column<Devices>] = &[
    &GPU,
    &MODEL,
    &TEMPERATURE,
    &POWER,
    &UTILIZATION,
    &MEMORY,
    &HELD_BACK,
    &STATE,
    &SM,
    &OCCUPANCY,
    &TENSOR,
    &FP64,
    &FP32,
    &FP16,
    &DRAM,
    &MEMORY_UTILIZATION,
    &ENCODER,
    &DECODER,
    &RESERVED,
    &MEMORY_TEMPERATURE,
    &SM_CLOCK,
    &MEMORY_CLOCK,
    &PERFORMANCE_STATE,
    &PCIE,
    &PCIE_TX,
    &PCIE_RX,
    &NVLINK,
    &NVLINK_TX,
    &NVLINK_RX,
    &ENERGY,
    &SOURCE,
    &DRIVER,
    &PCI,
    &SERIAL,
    &ID,
];

type Row<'a> = DeviceRow<'a>;

const NUMBER: Column<Devices> = Column::NUMBER;
const WORDS: Column<Devices> = Column::WORDS;

pub(super) const GPU: Column<Devices> = Column {
    name: "gpu",
    header: "GPU",
    width: Width::Natural(3),
    priority: 0,
    tone: |_| Tone::Plain,
    doc: "Its number as the vendor's tool counts, `0:1` for the second part of the first; its id where it has none.",
    value: |row, _| Some(row.label()),
    ..WORDS
};
pub(super) const MODEL: Column<Devices> = Column {
    name: "model",
    header: "MODEL",
    width: Width::Flexible(8, Cut::Middle),
    comfort: 16,
    priority: 6,
    tone: |_| Tone::Plain,
    doc: "The product; of a part (MIG) its size.",
    value: |row, _| model(row),
    ..WORDS
};
pub(super) const TEMPERATURE: Column<Devices> = Column {
    name: "temperature",
    header: "TEMP",
    width: Width::Natural(4),
    priority: 4,
    tone: cells::heat_tone,
    doc: "Of the chip, degrees Celsius.",
    value: |row, _| cells::celsius(cells::sample(row)?.temperature),
    ..NUMBER
};
pub(super) const POWER: Column<Devices> = Column {
    name: "power",
    header: "POWER",
    width: Width::Natural(8),
    priority: 5,
    doc: "What it draws, and what it may draw, watts.",
    value: |row, _| power(row),
    ..NUMBER
};
pub(super) const UTILIZATION: Column<Devices> = Column {
    name: "utilization",
    header: "UTIL",
    width: Width::Natural(4),
    priority: 1,
    doc: "Time in which anything ran on it; of a part, and where that is not told, its engine's or its multiprocessors' activity.",
    value: |row, _| cells::percent(utilization(row.device)),
    ..NUMBER
};
pub(super) const MEMORY: Column<Devices> = Column {
    name: "memory",
    header: "MEMORY",
    width: Width::Natural(12),
    priority: 2,
    tone: cells::memory_tone,
    doc: "Memory that processes have, and all that it has.",
    value: |row, _| memory(row),
    ..NUMBER
};
pub(super) const HELD_BACK: Column<Devices> = Column {
    name: "held_back",
    header: "HELD BACK",
    width: Width::Flexible(9, Cut::End),
    comfort: 12,
    priority: 7,
    tone: |_| Tone::Warn,
    doc: "What makes it slower than it could be, now.",
    value: |row, _| cells::losses(cells::sample(row)?.throttle.as_ref()),
    ..WORDS
};
pub(super) const STATE: Column<Devices> = Column {
    name: "state",
    header: "STATE",
    width: Width::Natural(6),
    priority: 3,
    tone: cells::state_tone,
    doc: "`ok`, `divided` (its parts are used), `silent` (no answer the last time), `lost` (its driver gave it up).",
    value: |row, _| cells::state(row),
    ..WORDS
};

/// A part of the time, which profiling tells.
macro_rules! activity {
    ($name:literal, $header:literal, $field:ident, $doc:literal) => {
        Column {
            name: $name,
            header: $header,
            doc: $doc,
            value: |row, _| cells::percent(cells::sample(row)?.$field),
            ..NUMBER
        }
    };
}

pub(super) const SM: Column<Devices> =
    activity!("sm", "SM", sm_active, "Multiprocessors with work on them, averaged.");
const OCCUPANCY: Column<Devices> =
    activity!("occupancy", "OCC", sm_occupancy, "Warps on multiprocessors, of those that fit.");
pub(super) const TENSOR: Column<Devices> =
    activity!("tensor", "TENSOR", tensor_active, "Cycles in which tensor cores worked.");
const FP64: Column<Devices> =
    activity!("fp64", "FP64", fp64_active, "Cycles in which double-precision units worked.");
const FP32: Column<Devices> =
    activity!("fp32", "FP32", fp32_active, "Cycles in which single-precision units worked.");
const FP16: Column<Devices> =
    activity!("fp16", "FP16", fp16_active, "Cycles in which half-precision units worked.");
pub(super) const DRAM: Column<Devices> =
    activity!("dram", "DRAM", dram_active, "Cycles in which its memory sent or received.");
const MEMORY_UTILIZATION: Column<Devices> = activity!(
    "memory_utilization",
    "MEM UTIL",
    memory_utilization,
    "Time in which its memory was read or written."
);
const ENCODER: Column<Devices> =
    activity!("encoder", "ENC", encoder_utilization, "Time in which the video encoder was used.");
const DECODER: Column<Devices> =
    activity!("decoder", "DEC", decoder_utilization, "Time in which the video decoder was used.");

const RESERVED: Column<Devices> = Column {
    name: "reserved",
    header: "RESERVED",
    doc: "Memory that driver and firmware keep for themselves.",
    value: |row, _| cells::memory(cells::sample(row)?.memory_reserved_bytes),
    ..NUMBER
};
const MEMORY_TEMPERATURE: Column<Devices> = Column {
    name: "memory_temperature",
    header: "MEM TEMP",
    doc: "Of its memory, degrees Celsius.",
    value: |row, _| cells::celsius(cells::sample(row)?.memory_temperature),
    ..NUMBER
};
const SM_CLOCK: Column<Devices> = Column {
    name: "sm_clock",
    header: "SM CLOCK",
    doc: "Of its multiprocessors.",
    value: |row, _| cells::megahertz(cells::sample(row)?.sm_clock),
    ..NUMBER
};
const MEMORY_CLOCK: Column<Devices> = Column {
    name: "memory_clock",
    header: "MEM CLOCK",
    doc: "Of its memory.",
    value: |row, _| cells::megahertz(cells::sample(row)?.memory_clock),
    ..NUMBER
};
const PERFORMANCE_STATE: Column<Devices> = Column {
    name: "performance_state",
    header: "PSTATE",
    doc: "Performance state, `P0` the fastest.",
    value: |row, _| cells::sample(row)?.performance_state.map(|state| format!("P{state}")),
    ..WORDS
};
const PCIE: Column<Devices> = Column {
    name: "pcie",
    header: "PCIE",
    doc: "Its link as it is, and where that differs, as it could be. An idle one may be slower.",
    value: |row, _| cells::link(cells::sample(row)),
    ..WORDS
};
const PCIE_TX: Column<Devices> = Column {
    name: "pcie_sent",
    header: "PCIE SENT",
    doc: "Bytes a second to the machine.",
    value: |row, _| cells::rate(cells::sample(row)?.pcie_tx_bytes_per_second),
    ..NUMBER
};
const PCIE_RX: Column<Devices> = Column {
    name: "pcie_received",
    header: "PCIE RECV",
    doc: "Bytes a second from the machine.",
    value: |row, _| cells::rate(cells::sample(row)?.pcie_rx_bytes_per_second),
    ..NUMBER
};
pub(super) const NVLINK: Column<Devices> = Column {
    name: "nvlink",
    header: "NVLINK",
    doc: "Links to other devices that are up, and all.",
    value: |row, _| cells::nvlinks(cells::sample(row)),
    ..WORDS
};
const NVLINK_TX: Column<Devices> = Column {
    name: "nvlink_sent",
    header: "NVL SENT",
    doc: "Bytes a second over those links.",
    value: |row, _| cells::rate(nvlink(row)?.tx_bytes_per_second),
    ..NUMBER
};
const NVLINK_RX: Column<Devices> = Column {
    name: "nvlink_received",
    header: "NVL RECV",
    doc: "Bytes a second over those links.",
    value: |row, _| cells::rate(nvlink(row)?.rx_bytes_per_second),
    ..NUMBER
};
const ENERGY: Column<Devices> = Column {
    name: "energy",
    header: "ENERGY",
    doc: "What it used since the agent started, kilowatt-hours.",
    value: |row, _| energy(row),
    ..NUMBER
};
const SOURCE: Column<Devices> = Column {
    name: "source",
    header: "SOURCE",
    doc: "Who tells of it: `nvml`, `dcgm`, `amd`, `drm`, `tpu`, `neuron`.",
    value: |row, _| common::text(&row.device.source),
    ..WORDS
};
const DRIVER: Column<Devices> = Column {
    name: "driver",
    header: "DRIVER",
    doc: "Version of its driver.",
    value: |row, _| common::text(&row.device.driver_version),
    ..WORDS
};
const PCI: Column<Devices> = Column {
    name: "pci",
    header: "PCI ADDRESS",
    doc: "Where it is plugged in.",
    value: |row, _| common::text(&row.device.pci_address),
    ..WORDS
};
const SERIAL: Column<Devices> = Column {
    name: "serial",
    header: "SERIAL",
    doc: "Serial number of the board.",
    value: |row, _| common::text(&row.device.serial),
    ..WORDS
};
const ID: Column<Devices> = Column {
    name: "id",
    header: "ID",
    doc: "What tells it from all others: a UUID, where it has one.",
    value: |row, _| common::text(&row.device.id),
    ..WORDS
};

pub(super) fn model(row: Row<'_>) -> Option<String> {
    match &row.device.part {
        Some(part) if !part.profile.is_empty() => Some(format!("MIG {}", part.profile)),
        Some(_) | None => common::text(&row.device.model),
    }
}

fn power(row: Row<'_>) -> Option<String> {
    let sample = cells::sample(row)?;
    match (sample.power_watts, sample.power_limit_watts) {
        (Some(draw), Some(limit)) => Some(format!("{draw:.0}/{limit:.0}W")),
        (Some(draw), None) => Some(format!("{draw:.0}W")),
        (None, _) => None,
    }
}

pub(super) fn memory(row: Row<'_>) -> Option<String> {
    let sample = cells::sample(row)?;
    match (sample.memory_used_bytes, sample.memory_total_bytes) {
        (Some(used), Some(total)) => Some(units::memory_part(used, total)),
        (Some(used), None) => Some(units::memory_short(used)),
        (None, total) => total.map(|total| format!("-/{}", units::memory_short(total))),
    }
}

fn nvlink(row: Row<'_>) -> Option<&GpuNvLink> {
    cells::sample(row)?.nvlink.as_ref()
}

fn energy(row: Row<'_>) -> Option<String> {
    const JOULES: f64 = 3.6e6;
    let joules = row.device.counts.as_ref()?.energy_joules;
    (joules > 0.0).then(|| format!("{:.2}kWh", joules / JOULES))
}
