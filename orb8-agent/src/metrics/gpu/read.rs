//! How the values of devices' and sources' metrics are read. What is not known has no sample.

use std::sync::Arc;

use super::told::Told;
use crate::gpu::reading::DeviceState;
use crate::gpu::sample::{
    Busy, Clocks, Ecc, Memory, NvLink, Pcie, Power, RemappedRows, Sample, Temperature,
    ThrottleReason,
};
use crate::gpu::view::{DeviceView, HolderHealth, SourceHealth, View};
use crate::gpu::xid;
use crate::metrics::family::{Text, Value};

/// Megahertz, as hertz.
const MEGAHERTZ: f64 = 1e6;

impl DeviceView {
    fn read<T: Default>(&self, read: impl Fn(&Sample) -> T) -> T {
        self.seen.state.sample().map(read).unwrap_or_default()
    }

    pub(super) fn busy(&self) -> Busy {
        self.read(|sample| sample.busy)
    }

    pub(super) fn memory(&self) -> Memory {
        self.read(|sample| sample.memory)
    }

    pub(super) fn power(&self) -> Power {
        self.read(|sample| sample.power)
    }

    pub(super) fn pcie(&self) -> Pcie {
        self.read(|sample| sample.pcie)
    }

    fn temperature(&self) -> Temperature {
        self.read(|sample| sample.temperature)
    }

    fn clock(&self) -> Clocks {
        self.read(|sample| sample.clocks)
    }

    fn nvlink(&self) -> Option<NvLink> {
        self.read(|sample| sample.nvlink)
    }

    fn ecc(&self) -> Option<Ecc> {
        self.read(|sample| sample.ecc).filter(|ecc| ecc.is_enabled)
    }

    fn rows(&self) -> Option<RemappedRows> {
        self.read(|sample| sample.rows)
    }
}

pub(super) fn info(at: &DeviceView, to: &mut Told) {
    let device = &at.seen.device;
    let text = |text: Option<&str>| Text::from(Arc::<str>::from(text.unwrap_or_default()));
    let own = [
        device.vendor.word().into(),
        text(device.pci.as_ref().map(|pci| pci.as_str())),
        text(device.serial.as_deref()),
        text(device.driver.as_deref()),
        text(device.architecture.as_deref()),
        device.source.word().into(),
    ];
    to.put(own, Some(Value::Gauge(1.0)));
}

pub(super) fn up(at: &DeviceView, to: &mut Told) {
    to.flag(Some(matches!(at.seen.state, DeviceState::Sampled(_))));
}

pub(super) fn pipes(at: &DeviceView, to: &mut Told) {
    let Busy { fp64, fp32, fp16, .. } = at.busy();
    for (pipe, value) in [("fp64", fp64), ("fp32", fp32), ("fp16", fp16)] {
        to.gauge_of(pipe, value);
    }
}

pub(super) fn temperatures(at: &DeviceView, to: &mut Told) {
    let Temperature { gpu, memory, .. } = at.temperature();
    to.gauge_of("gpu", gpu);
    to.gauge_of("memory", memory);
}

pub(super) fn temperature_limits(at: &DeviceView, to: &mut Told) {
    let Temperature { slowdown, shutdown, .. } = at.temperature();
    to.gauge_of("slowdown", slowdown);
    to.gauge_of("shutdown", shutdown);
}

pub(super) fn energy(at: &DeviceView, to: &mut Told) {
    // Of a device that does not measure it there is nothing to tell.
    if at.power().energy_mj.is_some() || at.counts.energy_mj > 0 {
        to.put([], Some(Value::Sum(at.counts.energy_mj as f64 / 1e3)));
    }
}

pub(super) fn clocks(at: &DeviceView, to: &mut Told) {
    let Clocks { sm, memory, video, .. } = at.clock();
    for (clock, value) in [("sm", sm), ("memory", memory), ("video", video)] {
        to.gauge_of(clock, value.map(|clock| f64::from(clock) * MEGAHERTZ));
    }
}

pub(super) fn max_clocks(at: &DeviceView, to: &mut Told) {
    let Clocks { max_sm, max_memory, .. } = at.clock();
    for (clock, value) in [("sm", max_sm), ("memory", max_memory)] {
        to.gauge_of(clock, value.map(|clock| f64::from(clock) * MEGAHERTZ));
    }
}

pub(super) fn performance_state(at: &DeviceView, to: &mut Told) {
    to.number(at.read(|sample| sample.performance_state).map(u32::from));
}

pub(super) fn throttled(at: &DeviceView, to: &mut Told) {
    let Some(reasons) = at.read(|sample| sample.throttle.reasons.clone()) else { return };
    for reason in losses() {
        let is = if reasons.contains(&reason) { 1.0 } else { 0.0 };
        to.gauge_of(reason.word(), Some(is));
    }
}

pub(super) fn throttled_time(at: &DeviceView, to: &mut Told) {
    if at.read(|sample| sample.throttle.reasons.is_some()) || !at.counts.throttled.is_empty() {
        for reason in losses() {
            let time = at.counts.throttled.get(&reason).copied().unwrap_or_default();
            to.time_of(reason.word(), time);
        }
    }
}

pub(super) fn throttle_lost(at: &DeviceView, to: &mut Told) {
    for (reason, time) in at.read(|sample| sample.throttle.lost.clone()) {
        to.time_of(reason.word(), time);
    }
}

fn losses() -> impl Iterator<Item = ThrottleReason> {
    ThrottleReason::ALL.into_iter().filter(|reason| reason.is_loss())
}

pub(super) fn pcie_rates(at: &DeviceView, to: &mut Told) {
    let Pcie { tx_rate, rx_rate, .. } = at.pcie();
    to.gauge_of("tx", tx_rate.map(|rate| rate as f64));
    to.gauge_of("rx", rx_rate.map(|rate| rate as f64));
}

pub(super) fn pcie_replays(at: &DeviceView, to: &mut Told) {
    to.put([], at.pcie().replays.map(Value::Count));
}

pub(super) fn nvlinks(at: &DeviceView, to: &mut Told) {
    if let Some(NvLink { links, active, .. }) = at.nvlink() {
        to.gauge_of("active", Some(f64::from(active)));
        to.gauge_of("inactive", Some(f64::from(links.saturating_sub(active))));
    }
}

pub(super) fn nvlink_bytes(at: &DeviceView, to: &mut Told) {
    if let Some(NvLink { tx_bytes, rx_bytes, .. }) = at.nvlink() {
        to.count_of("tx", tx_bytes);
        to.count_of("rx", rx_bytes);
    }
}

pub(super) fn nvlink_rates(at: &DeviceView, to: &mut Told) {
    if let Some(NvLink { tx_rate, rx_rate, .. }) = at.nvlink() {
        to.gauge_of("tx", tx_rate.map(|rate| rate as f64));
        to.gauge_of("rx", rx_rate.map(|rate| rate as f64));
    }
}

pub(super) fn nvlink_errors(at: &DeviceView, to: &mut Told) {
    if let Some(NvLink { crc_errors, replays, recoveries, .. }) = at.nvlink() {
        for (kind, value) in [("crc", crc_errors), ("replay", replays), ("recovery", recoveries)] {
            to.count_of(kind, value);
        }
    }
}

pub(super) fn ecc(at: &DeviceView, to: &mut Told) {
    if let Some(Ecc { corrected, uncorrected, .. }) = at.ecc() {
        to.count_of("corrected", corrected);
        to.count_of("uncorrected", uncorrected);
    }
}

pub(super) fn ecc_lifetime(at: &DeviceView, to: &mut Told) {
    if let Some(Ecc { corrected_lifetime, uncorrected_lifetime, .. }) = at.ecc() {
        to.gauge_of("corrected", corrected_lifetime.map(|count| count as f64));
        to.gauge_of("uncorrected", uncorrected_lifetime.map(|count| count as f64));
    }
}

pub(super) fn rows(at: &DeviceView, to: &mut Told) {
    if let Some(RemappedRows { correctable, uncorrectable, .. }) = at.rows() {
        to.gauge_of("correctable", Some(correctable as f64));
        to.gauge_of("uncorrectable", Some(uncorrectable as f64));
    }
}

pub(super) fn rows_pending(at: &DeviceView, to: &mut Told) {
    to.flag(at.rows().map(|rows| rows.is_pending));
}

pub(super) fn rows_failed(at: &DeviceView, to: &mut Told) {
    to.flag(at.rows().map(|rows| rows.has_failed));
}

pub(super) fn xids(at: &DeviceView, to: &mut Told) {
    for (code, count) in &at.counts.xids {
        let xid = xid::describe(*code);
        let number: Arc<str> = code.to_string().into();
        let own = [number.into(), xid.class.word().into(), xid.action.word().into()];
        to.put(own, Some(Value::Count(*count)));
    }
}

pub(super) fn source_up(at: &SourceHealth, to: &mut Told) {
    // One that is not there has no devices, and never failed.
    let is_absent = at.problem.is_some() && at.failures == 0 && at.devices == 0;
    if !is_absent {
        to.flag(Some(at.problem.is_none()));
    }
}

pub(super) fn holders_known(at: &View, to: &mut Told) {
    // Where nobody is to be asked, nothing is missing.
    let HolderHealth { from, problem, unmatched: _, is_off } = &at.holders;
    if !is_off && (from.is_some() || problem.is_some()) {
        to.flag(Some(problem.is_none()));
    }
}

pub(super) fn unmatched(at: &View, to: &mut Told) {
    to.bytes(Some(at.holders.unmatched.len() as u64));
}

pub(super) fn strangers(at: &View, to: &mut Told) {
    to.bytes(Some(at.strangers().count() as u64));
}

pub(super) fn trace_processes(at: &View, to: &mut Told) {
    to.number(Some(at.watching.processes));
}

pub(super) fn trace_probes(at: &View, to: &mut Told) {
    to.number(Some(at.watching.probes));
}

pub(super) fn trace_cost(at: &View, to: &mut Told) {
    to.gauge(at.watching.cost);
}

pub(super) fn trace_lost(at: &View, to: &mut Told) {
    to.count(at.watching.lost);
}
