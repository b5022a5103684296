//! The text of cells that several tables of accelerators have.

use super::DeviceRow;
use crate::columns::Tone;
use crate::columns::cells::{self, Cell};
use crate::gpu::{self, Places, health};
use crate::units;
use crate::v1::{
    GpuBasis, GpuCalls, GpuDevice, GpuSample, GpuState, GpuThrottle, GpuThrottleReason, Workload,
};

/// Memory of which so much is used is nearly full.
const NEARLY_FULL: f64 = 0.95;

pub(super) fn sample<'a>(row: DeviceRow<'a>) -> Option<&'a GpuSample> {
    row.device.sample.as_ref()
}

pub(super) fn percent(part: Option<f64>) -> Cell {
    units::percent(part?)
}

pub(super) fn memory(bytes: Option<u64>) -> Cell {
    bytes.map(units::memory_short)
}

pub(super) fn rate(bytes_per_second: Option<u64>) -> Cell {
    bytes_per_second.map(units::byte_rate)
}

pub(super) fn celsius(degrees: Option<f64>) -> Cell {
    degrees.map(|degrees| format!("{degrees:.0}°C"))
}

pub(super) fn megahertz(megahertz: Option<u32>) -> Cell {
    megahertz.map(|megahertz| format!("{megahertz}MHz"))
}

/// A figure that was computed, not measured, begins with a mark.
pub(super) const fn mark(basis: GpuBasis) -> &'static str {
    match basis {
        GpuBasis::Exact | GpuBasis::Unspecified => "",
        GpuBasis::Estimated => "~",
        GpuBasis::Shared => "÷",
    }
}

pub(super) fn owner(owner: Option<&Workload>) -> Cell {
    let named = owner.and_then(cells::owner);
    Some(named.unwrap_or_else(|| "(unknown)".to_owned()))
}

pub(super) fn container(owner: Option<&Workload>) -> Cell {
    cells::text(&owner?.container)
}

pub(super) fn workload(owner: Option<&Workload>) -> Cell {
    cells::controller(owner?.controller.as_ref())
}

/// The devices of a process, in the order in which they are listed.
pub(super) fn labels<'a>(ids: impl Iterator<Item = &'a str>, devices: &[GpuDevice]) -> Cell {
    let places = Places::new(devices);
    let mut labels: Vec<String> = ids.map(|id| places.label(id)).collect();
    labels.dedup();
    cells::text(&labels.join(","))
}

/// How a device is; of one that is divided, its parts are what is used.
pub(super) fn state(row: DeviceRow<'_>) -> Cell {
    match row.device.state() {
        GpuState::Ok if row.device.divided => Some("divided".to_owned()),
        state => cells::word(state.word()),
    }
}

pub(super) fn state_tone(row: DeviceRow<'_>) -> Tone {
    match row.device.state() {
        GpuState::Ok => Tone::Good,
        GpuState::Silent => Tone::Warn,
        GpuState::Lost => Tone::Bad,
        GpuState::Unspecified => Tone::Plain,
    }
}

pub(super) fn memory_tone(row: DeviceRow<'_>) -> Tone {
    let part = sample(row)
        .and_then(|sample| sample.memory_used_bytes.zip(sample.memory_total_bytes))
        .filter(|(_, total)| *total > 0)
        .map_or(0.0, |(used, total)| used as f64 / total as f64);
    if part >= NEARLY_FULL { Tone::Warn } else { Tone::Plain }
}

pub(super) fn heat_tone(row: DeviceRow<'_>) -> Tone {
    let heat = sample(row).and_then(|sample| sample.temperature.zip(sample.slowdown_temperature));
    if heat.is_some_and(|(now, slow)| now >= slow) { Tone::Bad } else { Tone::Plain }
}

/// What costs work now.
pub(super) fn losses(throttle: Option<&GpuThrottle>) -> Cell {
    reasons(throttle, health::is_loss)
}

pub(super) fn reasons(
    throttle: Option<&GpuThrottle>,
    is_wanted: impl Fn(GpuThrottleReason) -> bool,
) -> Cell {
    let wanted = throttle?.reasons().filter(|reason| is_wanted(*reason));
    let words: Vec<&str> = wanted.filter_map(|reason| reason.word()).collect();
    cells::text(&words.join(","))
}

/// `gen5x16`; where it could be more, that too.
pub(super) fn link(sample: Option<&GpuSample>) -> Cell {
    let sample = sample?;
    let text = |generation: Option<u32>, width: Option<u32>| {
        let generation = generation.map(|generation| format!("gen{generation}"));
        let width = width.map(|width| format!("x{width}"));
        let text: String = generation.into_iter().chain(width).collect();
        cells::text(&text)
    };
    let now = text(sample.pcie_generation, sample.pcie_width)?;
    match text(sample.pcie_max_generation, sample.pcie_max_width) {
        Some(most) if most != now => Some(format!("{now}/{most}")),
        Some(_) | None => Some(now),
    }
}

pub(super) fn nvlinks(sample: Option<&GpuSample>) -> Cell {
    let links = sample?.nvlink.as_ref()?;
    Some(format!("{}/{}", links.active, links.links))
}

/// For how long calls did not return.
pub(super) fn time(calls: Option<&GpuCalls>) -> Cell {
    let calls = calls.filter(|calls| calls.count > 0)?;
    let time = gpu::duration(calls.time.as_ref());
    Some(units::latency(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
}
