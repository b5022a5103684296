//! One device: its files, its sensors, its table of figures.

use std::path::Path;
use std::time::{Duration, Instant};

use super::metrics::{self, Links, Metrics, Residency};
use super::ras::{self, Errors};
use crate::event::UnixNanos;
use crate::gpu::checked::Checked;
use crate::gpu::hwmon::Sensors;
use crate::gpu::sample::{
    Busy, Clocks, Ecc, Memory, NvLink, Power, Sample, Temperature, Throttle, ThrottleReason,
};
use crate::gpu::sysfs::{Card, bytes, number, text};

/// Between two looks at the errors: the driver asks the firmware for each block.
const ERRORS_EVERY: Duration = Duration::from_secs(10);

/// Reads one device, and remembers what differences are taken of.
#[derive(Debug)]
pub(super) struct Reader {
    card: Card,
    errors: Option<(Instant, Option<Errors>)>,
    residency: Option<(Instant, Residency)>,
    /// Time lost since the agent started, by reason.
    lost: Vec<(ThrottleReason, Duration)>,
    checked: Checked,
}

/// What one reading of a device told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) sample: Sample,
    /// How busy each partition is, where there are several.
    pub(super) partitions: Vec<Option<f64>>,
    /// Values since start that made no sense.
    pub(super) invalid: u64,
}

impl Reader {
    pub(super) fn new(card: Card) -> Self {
        let checked = Checked::default();
        Self { card, errors: None, residency: None, lost: Vec::new(), checked }
    }

    /// Reads everything but `pcie_bw`, which makes the driver sleep for a second.
    pub(super) fn read(&mut self, time: UnixNanos, now: Instant) -> Told {
        let mut sample = Sample { time, ..Sample::default() };
        let mut partitions = Vec::new();
        // A device that sleeps is not woken up to be asked how it is.
        if !self.card.is_asleep() {
            let table = bytes(&self.card.device.join("gpu_metrics"));
            let metrics = table.as_deref().and_then(metrics::parse).unwrap_or_default();
            self.fill(&mut sample, &metrics, now);
            let busy = metrics.partitions.iter();
            partitions =
                busy.map(|busy| busy.and_then(|busy| self.checked.percent(busy))).collect();
        }
        Told { sample, partitions, invalid: self.checked.invalid }
    }

    fn fill(&mut self, sample: &mut Sample, metrics: &Metrics, now: Instant) {
        sample.busy = self.busy(metrics);
        sample.memory = self.memory();
        let sensors = Sensors::of(&self.card);
        sample.temperature = self.temperature(sensors.as_ref(), metrics);
        sample.power = self.power(sensors.as_ref(), metrics);
        sample.clocks = self.clocks(sensors.as_ref(), metrics);
        sample.pcie = self.card.link(&mut self.checked);
        sample.pcie.replays = metrics.replays.or(sample.pcie.replays);
        sample.throttle = self.throttle(metrics, now);
        let errors = self.errors(now);
        sample.ecc = errors.map(|errors| Ecc {
            is_enabled: true,
            corrected: Some(errors.corrected),
            uncorrected: Some(errors.uncorrected),
            ..Ecc::default()
        });
        sample.nvlink = metrics.links.map(|links| links_of(links, errors));
    }

    fn busy(&mut self, metrics: &Metrics) -> Busy {
        let file = |name: &str| number::<f64>(&self.card.device.join(name));
        let gpu = file("gpu_busy_percent").or(metrics.gfx_activity.map(f64::from));
        let memory = file("mem_busy_percent").or(metrics.memory_activity.map(f64::from));
        Busy {
            gpu: gpu.and_then(|percent| self.checked.percent(percent)),
            memory: memory.and_then(|percent| self.checked.percent(percent)),
            ..Busy::default()
        }
    }

    fn memory(&mut self) -> Memory {
        let file = |name: &str| number::<u64>(&self.card.device.join(name));
        let (total, used) = (file("mem_info_vram_total"), file("mem_info_vram_used"));
        if let (Some(total), Some(used)) = (total, used)
            && used > total
        {
            self.checked.leave_out();
            return Memory { total: Some(total), ..Memory::default() };
        }
        let free = total.zip(used).map(|(total, used)| total - used);
        // The driver does not say what it keeps for itself: it is in `used`.
        Memory { total, used, reserved: None, free }
    }

    fn temperature(&mut self, sensors: Option<&Sensors>, metrics: &Metrics) -> Temperature {
        let checked = &mut self.checked;
        let mut sensor = |label: &str, what: &str| sensors?.celsius(label, what, checked);
        // MI300 has no sensor at its edge.
        let chip = ["edge", "junction"].into_iter().find(|label| sensor(label, "input").is_some());
        let mut of_chip = |what: &str| chip.and_then(|label| sensor(label, what));
        let (gpu, slowdown, shutdown) = (of_chip("input"), of_chip("crit"), of_chip("emergency"));
        let memory = sensor("mem", "input");
        let mut table = |degrees: Option<u16>| checked.celsius(f64::from(degrees?));
        Temperature {
            gpu: gpu.or_else(|| table(metrics.hotspot)),
            memory: memory.or_else(|| table(metrics.memory_temperature)),
            slowdown,
            shutdown,
        }
    }

    fn power(&mut self, sensors: Option<&Sensors>, metrics: &Metrics) -> Power {
        let checked = &mut self.checked;
        let draw = sensors.and_then(|it| it.watts(&["power1_average", "power1_input"], checked));
        let table = || metrics.power.map(f64::from);
        Power {
            draw: draw.or_else(table),
            limit: sensors.and_then(|it| it.watts(&["power1_cap"], checked)),
            energy_mj: metrics.energy.map(millijoules),
        }
    }

    fn clocks(&mut self, sensors: Option<&Sensors>, metrics: &Metrics) -> Clocks {
        let checked = &mut self.checked;
        let mut sensor = |name: &str| sensors?.megahertz(name, checked);
        let (gfx, memory) = (sensor("freq1_input"), sensor("freq2_input"));
        let fastest = |name: &str| fastest(&text(&self.card.device.join(name))?);
        Clocks {
            sm: gfx.or(metrics.gfx_clock.map(u32::from)),
            memory: memory.or(metrics.memory_clock.map(u32::from)),
            video: None,
            max_sm: fastest("pp_dpm_sclk"),
            max_memory: fastest("pp_dpm_mclk"),
        }
    }

    /// Tells what holds the device back: by bits where the product has them, else by what the
    /// counters say of the time since the last reading.
    fn throttle(&mut self, metrics: &Metrics, now: Instant) -> Throttle {
        let reasons = match (metrics.residency, metrics.throttle) {
            (Some(residency), _) => self.since_last(residency, now),
            (None, bits) => bits.map(reasons),
        };
        Throttle { reasons, lost: self.lost.clone() }
    }

    fn since_last(&mut self, residency: Residency, now: Instant) -> Option<Vec<ThrottleReason>> {
        let (then, before) = self.residency.replace((now, residency))?;
        let elapsed = now.saturating_duration_since(then);
        // The counters are of 32 bits and go round.
        let looked = residency.looked.wrapping_sub(before.looked);
        if looked == 0 {
            return None;
        }
        let mut reasons = Vec::new();
        for (reason, counter) in COUNTERS {
            let found = counter(&residency).wrapping_sub(counter(&before)).min(looked);
            if found > 0 {
                let part = f64::from(found) / f64::from(looked);
                self.lose(reason, elapsed.mul_f64(part));
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
        Some(reasons)
    }

    fn lose(&mut self, reason: ThrottleReason, time: Duration) {
        match self.lost.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, lost)) => *lost += time,
            None => self.lost.push((reason, time)),
        }
    }

    fn errors(&mut self, now: Instant) -> Option<Errors> {
        let is_due = |when: Instant| now.saturating_duration_since(when) >= ERRORS_EVERY;
        if self.errors.is_none_or(|(when, _)| is_due(when)) {
            self.errors = Some((now, ras::read(&self.card.device)));
        }
        self.errors.and_then(|(_, errors)| errors)
    }
}

/// The firmware's counters, and what they stand for.
type Counter = fn(&Residency) -> u32;
const COUNTERS: [(ThrottleReason, Counter); 5] = [
    (ThrottleReason::HardwareSlowdown, |counters| counters.prochot),
    (ThrottleReason::PowerCap, |counters| counters.power),
    (ThrottleReason::HardwareThermal, |counters| counters.socket_thermal),
    (ThrottleReason::HardwareThermal, |counters| counters.regulator_thermal),
    (ThrottleReason::HardwareThermal, |counters| counters.memory_thermal),
];

/// The driver's bits, the same on all products: power from 0, current from 16, heat from 32, others
/// from 56.
fn reasons(bits: u64) -> Vec<ThrottleReason> {
    let any = |first: u32, last: u32| bits >> first & ((1 << (last - first + 1)) - 1) != 0;
    let groups = [
        (any(0, 7) || any(56, 56), ThrottleReason::PowerCap),
        (any(16, 23) || any(57, 57), ThrottleReason::Reliability),
        (any(32, 45), ThrottleReason::HardwareThermal),
        (any(46, 47), ThrottleReason::HardwareSlowdown),
        (any(8, 15) || any(24, 31) || any(48, 55) || any(58, 63), ThrottleReason::Other),
    ];
    groups.into_iter().filter_map(|(is_set, reason)| is_set.then_some(reason)).collect()
}

fn links_of(links: Links, errors: Option<Errors>) -> NvLink {
    NvLink {
        links: links.count,
        active: links.active.unwrap_or(links.count),
        tx_bytes: links.written.checked_mul(1024),
        rx_bytes: links.read.checked_mul(1024),
        crc_errors: errors.and_then(|errors| errors.links),
        ..NvLink::default()
    }
}

/// The table's energy is in 2^-16 joules.
fn millijoules(energy: u64) -> u64 {
    u64::try_from((u128::from(energy) * 1000) >> 16).unwrap_or(u64::MAX)
}

/// Returns the fastest of the clocks that a file lists, `1: 2100Mhz *`.
fn fastest(text: &str) -> Option<u32> {
    let clock = |line: &str| {
        let (_, clock) = line.split_once(':')?;
        let clock = clock.trim().trim_end_matches('*').trim();
        clock.get(..clock.len().checked_sub(3)?)?.parse().ok()
    };
    text.lines().filter_map(clock).max()
}

/// Returns the product's name as the board has it.
pub(super) fn model(device: &Path) -> Option<String> {
    text(&device.join("product_name")).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_the_driver_are_reasons() {
        use ThrottleReason as R;
        assert_eq!(reasons(0), []);
        assert_eq!(reasons(1 << 4), [R::PowerCap]);
        assert_eq!(reasons(1 << 17 | 1 << 36), [R::Reliability, R::HardwareThermal]);
        assert_eq!(reasons(1 << 47), [R::HardwareSlowdown]);
        assert_eq!(reasons(1 << 63), [R::Other]);
    }

    #[test]
    fn energy_is_in_millijoules() {
        assert_eq!(millijoules(65_536), 1000);
        assert_eq!(millijoules(u64::MAX - 1), 281_474_976_710_655_999);
    }

    #[test]
    fn the_fastest_clock_is_found() {
        assert_eq!(fastest("0: 500Mhz\n1: 2100Mhz *\n"), Some(2100));
        assert_eq!(fastest("S: 132Mhz *\n0: 132Mhz\n1: 2100Mhz\n"), Some(2100));
        assert_eq!(fastest("nothing"), None);
        assert_eq!(fastest("0:\n1: é\n"), None);
    }
}
