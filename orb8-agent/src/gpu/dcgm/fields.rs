//! DCGM's fields, and where their values go.

use std::time::Duration;

use crate::gpu::checked::Checked;
use crate::gpu::sample::{Ecc, NvLink, Ratio, RemappedRows, Sample, ThrottleReason};

use self::Take::{
    Bits, Celsius, Count, Mebibytes, Megahertz, Nanoseconds, Number, Part, Percent, Watts,
};
use self::Whose::{Either, Whole};

/// A metric of dcgm-exporter.
pub(super) struct Field {
    /// As DCGM names it.
    pub(super) name: &'static str,
    /// Of what, on a device with MIG.
    pub(super) whose: Whose,
    take: Take,
}

/// What a value tells of where MIG is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of the device alone: the series of its instances repeat it.
    Whole,
    /// Of the instance, where the series has one.
    Either,
}

/// A value's unit, and where it goes.
enum Take {
    /// 0 to 100.
    Percent(fn(&mut Sample, Ratio)),
    /// 0 to 1.
    Part(fn(&mut Sample, Ratio)),
    Mebibytes(fn(&mut Sample, u64)),
    Celsius(fn(&mut Sample, f64)),
    Watts(fn(&mut Sample, f64)),
    Megahertz(fn(&mut Sample, u32)),
    Nanoseconds(ThrottleReason),
    Count(fn(&mut Sample, u64)),
    /// A small number: a generation, lanes, a switch.
    Number(fn(&mut Sample, u32)),
    Bits,
}

impl Field {
    /// Finds a field by a metric's name.
    pub(super) fn by_name(name: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.name == name)
    }

    /// Puts a value where it goes; one that makes no sense is counted instead.
    pub(super) fn put(&self, value: f64, sample: &mut Sample, checked: &mut Checked) {
        if is_blank(value) {
            return;
        }
        match self.take {
            Percent(put) => checked.percent(value).into_iter().for_each(|part| put(sample, part)),
            Part(put) => checked.ratio(value).into_iter().for_each(|part| put(sample, part)),
            Mebibytes(put) => {
                let bytes = checked.count(value * f64::from(1_u32 << 20));
                bytes.into_iter().for_each(|bytes| put(sample, bytes));
            }
            Celsius(put) => checked.celsius(value).into_iter().for_each(|heat| put(sample, heat)),
            Watts(put) => checked.watts(value).into_iter().for_each(|watts| put(sample, watts)),
            Megahertz(put) => checked.megahertz(value).into_iter().for_each(|mhz| put(sample, mhz)),
            Nanoseconds(reason) => {
                checked.nanoseconds(value).into_iter().for_each(|time| lose(sample, reason, time));
            }
            Count(put) => checked.count(value).into_iter().for_each(|count| put(sample, count)),
            // Within the bounds they fit.
            Number(put) => {
                let number = checked.within(value, 0.0, 1024.0);
                number.into_iter().for_each(|number| put(sample, number as u32));
            }
            Bits => {
                let bits = checked.within(value, 0.0, f64::from(u32::MAX));
                bits.into_iter()
                    .for_each(|bits| sample.throttle.reasons = Some(reasons(bits as u64)));
            }
        }
    }
}

/// Whether it is what DCGM writes where it has no value: blank, not found, not supported, not
/// permitted, each for 32 and 64 bits and for floats. The exporter leaves most of them out.
pub(super) fn is_blank(value: f64) -> bool {
    const BLANKS: [f64; 3] =
        [0x7fff_fff0_u32 as f64, 0x7fff_ffff_ffff_fff0_u64 as f64, 140_737_488_355_328.0];
    // A float has no room for the last digits of the largest.
    BLANKS.iter().any(|blank| (*blank..=blank + 15.0).contains(&value))
}

/// NVML's bits, which DCGM passes on.
fn reasons(bits: u64) -> Vec<ThrottleReason> {
    use ThrottleReason as R;
    const KNOWN: [R; 9] = [
        R::Idle,
        R::ApplicationClocks,
        R::PowerCap,
        R::HardwareSlowdown,
        R::SyncBoost,
        R::SoftwareThermal,
        R::HardwareThermal,
        R::PowerBrake,
        R::DisplayClocks,
    ];
    let known = KNOWN.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
    let mut reasons: Vec<_> = known.map(|(_, reason)| *reason).collect();
    if bits >> KNOWN.len() != 0 {
        reasons.push(R::Other);
    }
    reasons
}

/// Takes the longer one where two fields tell of the same reason, under an old and a new name.
fn lose(sample: &mut Sample, reason: ThrottleReason, time: Duration) {
    let lost = &mut sample.throttle.lost;
    match lost.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, known)) => *known = time.max(*known),
        None => lost.push((reason, time)),
    }
}

fn ecc(sample: &mut Sample) -> &mut Ecc {
    // Who counts errors looks for them; `ECC_CURRENT` may say otherwise.
    sample.ecc.get_or_insert(Ecc { is_enabled: true, ..Ecc::default() })
}

fn rows(sample: &mut Sample) -> &mut RemappedRows {
    sample.rows.get_or_insert_default()
}

fn nvlink(sample: &mut Sample) -> &mut NvLink {
    sample.nvlink.get_or_insert_default()
}

/// Adds up what a device's links have in several fields.
fn add(to: &mut Option<u64>, count: u64) {
    *to = Some(to.unwrap_or(0).saturating_add(count));
}

const fn field(name: &'static str, whose: Whose, take: Take) -> Field {
    Field { name, whose, take }
}

/// What has a place in a sample. Left out: `NVLINK_BANDWIDTH_TOTAL`, which does not tell directions
/// apart and whose unit changed, and what is of the board's life alone.
#[rustfmt::skip]
static FIELDS: &[Field] = &[
    field("DCGM_FI_DEV_GPU_UTIL", Either, Percent(|sample, part| sample.busy.gpu = Some(part))),
    field("DCGM_FI_DEV_MEM_COPY_UTIL", Either, Percent(|sample, part| sample.busy.memory = Some(part))),
    field("DCGM_FI_DEV_ENC_UTIL", Either, Percent(|sample, part| sample.busy.encoder = Some(part))),
    field("DCGM_FI_DEV_DEC_UTIL", Either, Percent(|sample, part| sample.busy.decoder = Some(part))),
    field("DCGM_FI_PROF_GR_ENGINE_ACTIVE", Either, Part(|sample, part| sample.busy.engine = Some(part))),
    field("DCGM_FI_PROF_SM_ACTIVE", Either, Part(|sample, part| sample.busy.sm = Some(part))),
    field("DCGM_FI_PROF_SM_OCCUPANCY", Either, Part(|sample, part| sample.busy.sm_occupancy = Some(part))),
    field("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", Either, Part(|sample, part| sample.busy.tensor = Some(part))),
    field("DCGM_FI_PROF_PIPE_FP64_ACTIVE", Either, Part(|sample, part| sample.busy.fp64 = Some(part))),
    field("DCGM_FI_PROF_PIPE_FP32_ACTIVE", Either, Part(|sample, part| sample.busy.fp32 = Some(part))),
    field("DCGM_FI_PROF_PIPE_FP16_ACTIVE", Either, Part(|sample, part| sample.busy.fp16 = Some(part))),
    field("DCGM_FI_PROF_DRAM_ACTIVE", Either, Part(|sample, part| sample.busy.dram = Some(part))),
    field("DCGM_FI_DEV_FB_TOTAL", Either, Mebibytes(|sample, bytes| sample.memory.total = Some(bytes))),
    field("DCGM_FI_DEV_FB_USED", Either, Mebibytes(|sample, bytes| sample.memory.used = Some(bytes))),
    field("DCGM_FI_DEV_FB_FREE", Either, Mebibytes(|sample, bytes| sample.memory.free = Some(bytes))),
    field("DCGM_FI_DEV_FB_RESERVED", Either, Mebibytes(|sample, bytes| sample.memory.reserved = Some(bytes))),
    field("DCGM_FI_DEV_GPU_TEMP", Whole, Celsius(|sample, heat| sample.temperature.gpu = Some(heat))),
    // 0 of boards whose memory has no sensor.
    field("DCGM_FI_DEV_MEMORY_TEMP", Whole, Celsius(|sample, heat| sample.temperature.memory = (heat != 0.0).then_some(heat))),
    field("DCGM_FI_DEV_SLOWDOWN_TEMP", Whole, Celsius(|sample, heat| sample.temperature.slowdown = Some(heat))),
    field("DCGM_FI_DEV_SHUTDOWN_TEMP", Whole, Celsius(|sample, heat| sample.temperature.shutdown = Some(heat))),
    field("DCGM_FI_DEV_POWER_USAGE", Whole, Watts(|sample, watts| sample.power.draw = Some(watts))),
    field("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", Whole, Watts(|sample, watts| sample.power.limit = Some(watts))),
    field("DCGM_FI_DEV_POWER_MGMT_LIMIT", Whole, Watts(|sample, watts| { sample.power.limit.get_or_insert(watts); })),
    field("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", Whole, Count(|sample, mj| sample.power.energy_mj = Some(mj))),
    field("DCGM_FI_DEV_SM_CLOCK", Whole, Megahertz(|sample, mhz| sample.clocks.sm = Some(mhz))),
    field("DCGM_FI_DEV_MEM_CLOCK", Whole, Megahertz(|sample, mhz| sample.clocks.memory = Some(mhz))),
    field("DCGM_FI_DEV_VIDEO_CLOCK", Whole, Megahertz(|sample, mhz| sample.clocks.video = Some(mhz))),
    field("DCGM_FI_DEV_MAX_SM_CLOCK", Whole, Megahertz(|sample, mhz| sample.clocks.max_sm = Some(mhz))),
    field("DCGM_FI_DEV_MAX_MEM_CLOCK", Whole, Megahertz(|sample, mhz| sample.clocks.max_memory = Some(mhz))),
    field("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", Whole, Bits),
    field("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", Whole, Bits),
    field("DCGM_FI_DEV_POWER_VIOLATION", Whole, Nanoseconds(ThrottleReason::PowerCap)),
    field("DCGM_FI_DEV_THERMAL_VIOLATION", Whole, Nanoseconds(ThrottleReason::SoftwareThermal)),
    field("DCGM_FI_DEV_SYNC_BOOST_VIOLATION", Whole, Nanoseconds(ThrottleReason::SyncBoost)),
    field("DCGM_FI_DEV_BOARD_LIMIT_VIOLATION", Whole, Nanoseconds(ThrottleReason::BoardLimit)),
    field("DCGM_FI_DEV_RELIABILITY_VIOLATION", Whole, Nanoseconds(ThrottleReason::Reliability)),
    field("DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS", Whole, Nanoseconds(ThrottleReason::PowerCap)),
    field("DCGM_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST_NS", Whole, Nanoseconds(ThrottleReason::SyncBoost)),
    field("DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS", Whole, Nanoseconds(ThrottleReason::SoftwareThermal)),
    field("DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS", Whole, Nanoseconds(ThrottleReason::HardwareThermal)),
    field("DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS", Whole, Nanoseconds(ThrottleReason::PowerBrake)),
    field("DCGM_FI_PROF_PCIE_TX_BYTES", Whole, Count(|sample, rate| sample.pcie.tx_rate = Some(rate))),
    field("DCGM_FI_PROF_PCIE_RX_BYTES", Whole, Count(|sample, rate| sample.pcie.rx_rate = Some(rate))),
    field("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", Whole, Count(|sample, count| sample.pcie.replays = Some(count))),
    field("DCGM_FI_DEV_PCIE_LINK_GEN", Whole, Number(|sample, number| sample.pcie.generation = Some(number))),
    field("DCGM_FI_DEV_PCIE_LINK_WIDTH", Whole, Number(|sample, number| sample.pcie.width = Some(number))),
    field("DCGM_FI_DEV_PCIE_MAX_LINK_GEN", Whole, Number(|sample, number| sample.pcie.max_generation = Some(number))),
    field("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", Whole, Number(|sample, number| sample.pcie.max_width = Some(number))),
    field("DCGM_FI_PROF_NVLINK_TX_BYTES", Whole, Count(|sample, rate| nvlink(sample).tx_rate = Some(rate))),
    field("DCGM_FI_PROF_NVLINK_RX_BYTES", Whole, Count(|sample, rate| nvlink(sample).rx_rate = Some(rate))),
    field("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", Whole, Count(|sample, count| add(&mut nvlink(sample).crc_errors, count))),
    field("DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", Whole, Count(|sample, count| add(&mut nvlink(sample).crc_errors, count))),
    field("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", Whole, Count(|sample, count| nvlink(sample).replays = Some(count))),
    field("DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", Whole, Count(|sample, count| nvlink(sample).recoveries = Some(count))),
    field("DCGM_FI_DEV_ECC_CURRENT", Whole, Number(|sample, number| ecc(sample).is_enabled = number != 0)),
    field("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", Whole, Count(|sample, count| ecc(sample).corrected = Some(count))),
    field("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", Whole, Count(|sample, count| ecc(sample).uncorrected = Some(count))),
    field("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", Whole, Count(|sample, count| ecc(sample).corrected_lifetime = Some(count))),
    field("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", Whole, Count(|sample, count| ecc(sample).uncorrected_lifetime = Some(count))),
    field("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", Whole, Count(|sample, count| rows(sample).correctable = count)),
    field("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", Whole, Count(|sample, count| rows(sample).uncorrectable = count)),
    field("DCGM_FI_DEV_ROW_REMAP_PENDING", Whole, Number(|sample, number| rows(sample).is_pending = number != 0)),
    field("DCGM_FI_DEV_ROW_REMAP_FAILURE", Whole, Number(|sample, number| rows(sample).has_failed = number != 0)),
    // Within the bounds it fits; 32 is DCGM's and NVML's word for unknown.
    field("DCGM_FI_DEV_PSTATE", Whole, Number(|sample, number| sample.performance_state = u8::try_from(number).ok().filter(|state| *state < 16))),
    field("DCGM_FI_DEV_PERSISTENCE_MODE", Whole, Number(|sample, number| sample.persistence_mode = Some(number != 0))),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_field_is_listed_once_and_changes_the_sample() {
        let mut names = HashSet::new();
        for field in FIELDS {
            assert!(names.insert(field.name), "{} twice", field.name);
            let (mut sample, mut checked) = (Sample::default(), Checked::default());
            field.put(1.0, &mut sample, &mut checked);
            assert_ne!(sample, Sample::default(), "{} goes nowhere", field.name);
            assert_eq!(checked.invalid, 0);
        }
    }

    #[test]
    fn no_field_takes_what_is_no_value() {
        let blanks = [
            2_147_483_632.0,
            2_147_483_634.0,
            9_223_372_036_854_775_792.0,
            9_223_372_036_854_775_794.0,
            140_737_488_355_328.0,
            140_737_488_355_330.0,
        ];
        for field in FIELDS {
            let (mut sample, mut checked) = (Sample::default(), Checked::default());
            blanks.iter().for_each(|value| field.put(*value, &mut sample, &mut checked));
            assert_eq!(checked.invalid, 0, "{}: blank is no nonsense", field.name);
            let nonsense = [f64::NAN, -1000.0, f64::INFINITY, f64::MAX];
            nonsense.iter().for_each(|value| field.put(*value, &mut sample, &mut checked));
            assert_eq!(sample, Sample::default(), "{} took it", field.name);
            assert_eq!(checked.invalid, 4, "{}", field.name);
        }
    }

    #[test]
    fn throttle_reasons_are_bits() {
        use ThrottleReason as R;
        assert_eq!(reasons(0), []);
        assert_eq!(reasons(0x1), [R::Idle]);
        assert_eq!(reasons(0x4 | 0x8 | 0x80), [R::PowerCap, R::HardwareSlowdown, R::PowerBrake]);
        assert_eq!(reasons(0x1000), [R::Other]);
    }
}
