//! The columns of devices where they are drawn again and again: figures with bars.

use super::device::{DRAM, Devices, HELD_BACK, NVLINK, POWER, SM, STATE, TEMPERATURE, TENSOR};
use super::{DeviceRow, cells, device, utilization};
use crate::columns::{Align, Column, Cut, View, Width};
use crate::units;

/// Devices at a glance.
pub static METERS: View<Devices> =
    View { command: "gpu", columns: SHORT, wide: SHORT, is_stream: false };

/// The same with longer bars, and what profiling tells.
pub static WIDE_METERS: View<Devices> =
    View { command: "gpu", columns: LONG, wide: LONG, is_stream: false };

const SHORT: &[&Column<Devices>] = &[
    &GPU,
    &MODEL,
    &busy_column::<6>(),
    &memory_column::<6>(),
    &TEMPERATURE,
    &POWER,
    &HELD_BACK,
    &STATE,
];

const LONG: &[&Column<Devices>] = &[
    &GPU,
    &MODEL,
    &busy_column::<16>(),
    &memory_column::<16>(),
    &TEMPERATURE,
    &POWER,
    &SM,
    &TENSOR,
    &DRAM,
    &NVLINK,
    &HELD_BACK,
    &STATE,
];

/// What begins the name of a product and tells nobody which one it is.
const MAKERS: &[&str] = &["NVIDIA ", "Tesla ", "AMD ", "Instinct ", "Intel(R) ", "Intel "];

const GPU: Column<Devices> = Column {
    doc: "Its number; parts are below what they are parts of.",
    value: |row, _| Some(label(row)),
    ..device::GPU
};
const MODEL: Column<Devices> = Column {
    width: Width::Flexible(6, Cut::End),
    comfort: 12,
    doc: "The product without its maker; of a part (MIG) its size.",
    value: |row, _| device::model(row).map(|model| without_maker(&model).to_owned()),
    ..device::MODEL
};

/// How busy it is, with a bar of so many characters.
const fn busy_column<const BAR: usize>() -> Column<Devices> {
    Column {
        width: Width::Natural(BAR as u16 + 5),
        align: Align::Left,
        value: |row, _| busy::<BAR>(row),
        ..device::UTILIZATION
    }
}

/// How full it is, likewise.
const fn memory_column<const BAR: usize>() -> Column<Devices> {
    Column {
        width: Width::Natural(BAR as u16 + 13),
        align: Align::Left,
        value: |row, _| memory::<BAR>(row),
        ..device::MEMORY
    }
}

fn label(row: DeviceRow<'_>) -> String {
    let indent = if row.device.part.is_some() { " " } else { "" };
    format!("{indent}{}", row.label())
}

fn without_maker(model: &str) -> &str {
    let rest = MAKERS.iter().fold(model, |rest, maker| rest.strip_prefix(maker).unwrap_or(rest));
    if rest.is_empty() { model } else { rest }
}

fn busy<const BAR: usize>(row: DeviceRow<'_>) -> Option<String> {
    let part = utilization(row.device)?;
    Some(format!("{} {:>4}", bar::<BAR>(part), cells::percent(Some(part))?))
}

fn memory<const BAR: usize>(row: DeviceRow<'_>) -> Option<String> {
    let sample = cells::sample(row)?;
    match (sample.memory_used_bytes, sample.memory_total_bytes) {
        (Some(used), Some(total)) if total > 0 => {
            let bar = bar::<BAR>(used as f64 / total as f64);
            Some(format!("{bar} {:>12}", units::memory_part(used, total)))
        }
        _ => device::memory(row),
    }
}

/// Draws a part of 1 as a bar, to half a character. What is not nothing is seen.
fn bar<const BAR: usize>(part: f64) -> String {
    let halves = (part.clamp(0.0, 1.0) * (2 * BAR) as f64).round() as usize;
    let halves = if part > 0.0 { halves.max(1) } else { halves };
    let half = halves % 2;
    let empty = BAR - halves / 2 - half;
    format!("{}{}{}", "█".repeat(halves / 2), "▌".repeat(half), "░".repeat(empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_part() {
        for (part, expected) in [
            (0.0, "░░░░░░░░"),
            (0.001, "▌░░░░░░░"),
            (0.5, "████░░░░"),
            (0.56, "████▌░░░"),
            (1.0, "████████"),
            (7.0, "████████"),
            (-1.0, "░░░░░░░░"),
            (f64::NAN, "░░░░░░░░"),
        ] {
            assert_eq!(bar::<8>(part), expected, "{part}");
        }
    }

    #[test]
    fn a_maker_says_nothing_of_the_product() {
        assert_eq!(without_maker("NVIDIA H100 80GB HBM3"), "H100 80GB HBM3");
        assert_eq!(without_maker("AMD Instinct MI300X"), "MI300X");
        assert_eq!(without_maker("TPU v5e"), "TPU v5e");
        assert_eq!(without_maker("NVIDIA "), "NVIDIA ");
    }
}
