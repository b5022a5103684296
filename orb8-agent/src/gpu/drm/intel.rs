//! Intel's devices: what i915 and xe tell by files. How busy one is only its clients tell.

use std::path::PathBuf;
use std::time::Instant;

use crate::gpu::checked::Checked;
use crate::gpu::hwmon::Sensors;
use crate::gpu::sample::{Clocks, Memory, Power, Sample, Temperature, Throttle, ThrottleReason};
use crate::gpu::sysfs::{Card, entries, number, text};

/// Energy of a device when it was last read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Energy {
    when: Instant,
    microjoules: u64,
}

/// Reads what is not of its clients.
pub(super) fn fill(
    card: &Card,
    sample: &mut Sample,
    before: &mut Option<Energy>,
    now: Instant,
    checked: &mut Checked,
) {
    sample.pcie = card.link(checked);
    sample.clocks = clocks(card, checked);
    sample.throttle = Throttle { reasons: throttle(card), ..Throttle::default() };
    sample.memory = Memory { total: memory(card), ..Memory::default() };
    let Some(sensors) = Sensors::of(card) else { return };
    let mut celsius = |label: &str| sensors.celsius(label, "input", checked);
    sample.temperature =
        Temperature { gpu: celsius("pkg"), memory: celsius("vram"), ..Temperature::default() };
    // The first is the card's where there are two, the second the chip's.
    let microjoules = sensors.microjoules("energy1_input");
    let draw = microjoules.and_then(|energy| watts(energy, before, now, checked));
    sample.power = Power {
        draw: draw.or_else(|| sensors.watts(&["power1_input"], checked)),
        limit: sensors.watts(&["power1_max", "power1_rated_max"], checked),
        energy_mj: microjoules.map(|energy| energy / 1000),
    };
}

/// Returns what was drawn since the last reading.
fn watts(
    microjoules: u64,
    before: &mut Option<Energy>,
    now: Instant,
    checked: &mut Checked,
) -> Option<f64> {
    let earlier = before.replace(Energy { when: now, microjoules })?;
    let elapsed = now.saturating_duration_since(earlier.when).as_secs_f64();
    // It starts again when the driver is loaded.
    let used = microjoules.checked_sub(earlier.microjoules)?;
    (elapsed > 0.0).then(|| checked.watts(used as f64 / 1e6 / elapsed)).flatten()
}

fn clocks(card: &Card, checked: &mut Checked) -> Clocks {
    let first = |paths: [PathBuf; 2]| paths.iter().find_map(|path| number::<f64>(path));
    let xe = card.device.join("tile0/gt0/freq0");
    let actual = first([xe.join("act_freq"), card.path.join("gt_act_freq_mhz")]);
    let most = first([xe.join("rp0_freq"), card.path.join("gt_RP0_freq_mhz")]);
    Clocks {
        sm: actual.and_then(|clock| megahertz(clock, checked)),
        max_sm: most.and_then(|clock| megahertz(clock, checked)),
        ..Clocks::default()
    }
}

/// The first versions of xe told hertz.
fn megahertz(clock: f64, checked: &mut Checked) -> Option<u32> {
    checked.megahertz(if clock > 1e6 { clock / 1e6 } else { clock })
}

/// Returns what slows the device down now; `None` where its driver does not say.
fn throttle(card: &Card) -> Option<Vec<ThrottleReason>> {
    let xe = card.device.join("tile0/gt0/freq0/throttle");
    let i915 = card.path.join("gt/gt0");
    let (folder, prefix) = [(xe, "reason_"), (i915, "throttle_reason_")]
        .into_iter()
        .find(|(folder, prefix)| folder.join(status(prefix)).exists())?;
    if number::<u32>(&folder.join(status(prefix)))? == 0 {
        return Some(Vec::new());
    }
    let names = entries(&folder);
    let set = names.iter().filter_map(|name| {
        let reason = name.strip_prefix(prefix).filter(|reason| *reason != "status")?;
        (text(&folder.join(name))? == "1").then(|| reason_of(reason))
    });
    let mut reasons: Vec<_> = set.collect();
    reasons.sort_unstable();
    reasons.dedup();
    Some(reasons)
}

fn status(prefix: &str) -> &'static str {
    if prefix == "reason_" { "status" } else { "throttle_reason_status" }
}

/// Intel's names of its limits.
fn reason_of(name: &str) -> ThrottleReason {
    match name {
        "pl1" | "pl2" | "pl4" => ThrottleReason::PowerCap,
        "thermal" | "ratl" | "soc_thermal" | "mem_thermal" | "vr_thermal" | "vr_thermalert" => {
            ThrottleReason::HardwareThermal
        }
        "prochot" => ThrottleReason::HardwareSlowdown,
        "vr_tdc" | "iccmax" => ThrottleReason::Reliability,
        _ => ThrottleReason::Other,
    }
}

/// Returns the bytes of its own memory, where it has some.
fn memory(card: &Card) -> Option<u64> {
    let xe = card.device.join("tile0/physical_vram_size_bytes");
    number(&xe).or_else(|| number(&card.path.join("lmem_total_bytes"))).filter(|bytes| *bytes > 0)
}
