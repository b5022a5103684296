//! What is read of a device each time.

use std::time::{Duration, Instant};

use nvml_wrapper::Device as Handle;
use nvml_wrapper::enum_wrappers::device::{
    Clock, PcieUtilCounter, PerformancePolicy, PerformanceState, TemperatureSensor,
};
use nvml_wrapper::sys_exports::field_id as id;

use crate::gpu::sample::{
    Busy, Clocks, Memory, Pcie, Power, Temperature, Throttle, ThrottleReason,
};

use super::call::{Asker, Call, Refused, Stop};
use super::facts::{self, Limits};
use super::fields::Values;
use super::gpm::Rates;
use super::raw;

/// Bytes a second that no PCIe link comes near.
const FASTEST_PCIE: f64 = 1e12;

/// Why a device does not run faster, by NVML's bits.
const REASONS: [(u64, ThrottleReason); 9] = [
    (0x1, ThrottleReason::Idle),
    (0x2, ThrottleReason::ApplicationClocks),
    (0x4, ThrottleReason::PowerCap),
    (0x8, ThrottleReason::HardwareSlowdown),
    (0x10, ThrottleReason::SyncBoost),
    (0x20, ThrottleReason::SoftwareThermal),
    (0x40, ThrottleReason::HardwareThermal),
    (0x80, ThrottleReason::PowerBrake),
    (0x100, ThrottleReason::DisplayClocks),
];

/// Counters of lost time, nanoseconds: the field, what it counts, and the call of older drivers.
const LOST: [(u32, ThrottleReason, Option<PerformancePolicy>); 7] = [
    (id::NVML_FI_DEV_PERF_POLICY_POWER, ThrottleReason::PowerCap, Some(PerformancePolicy::Power)),
    (
        id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN,
        ThrottleReason::SoftwareThermal,
        Some(PerformancePolicy::Thermal),
    ),
    (
        id::NVML_FI_DEV_PERF_POLICY_SYNC_BOOST,
        ThrottleReason::SyncBoost,
        Some(PerformancePolicy::SyncBoost),
    ),
    (
        id::NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT,
        ThrottleReason::BoardLimit,
        Some(PerformancePolicy::BoardLimit),
    ),
    (
        id::NVML_FI_DEV_PERF_POLICY_RELIABILITY,
        ThrottleReason::Reliability,
        Some(PerformancePolicy::Reliability),
    ),
    (id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN, ThrottleReason::HardwareThermal, None),
    (id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN, ThrottleReason::PowerBrake, None),
];

/// A device while it is asked.
pub(super) struct Subject<'a, 'nvml> {
    pub(super) asker: &'a mut Asker,
    pub(super) refused: &'a mut Refused,
    pub(super) handle: &'a Handle<'nvml>,
}

/// What a counter was before, for its rate.
#[derive(Debug, Default)]
pub(super) struct Meter(Option<(Instant, u64)>);

impl Meter {
    /// Takes the counter as it is now, and returns by how much it rose a second. One that was set
    /// back has no rate this time.
    pub(super) fn rate(&mut self, now: Instant, count: Option<u64>) -> Option<f64> {
        let before = std::mem::replace(&mut self.0, count.map(|count| (now, count)));
        let ((then, before), count) = (before?, count?);
        let seconds = now.saturating_duration_since(then).as_secs_f64();
        (seconds > 0.0).then_some(count.checked_sub(before)? as f64 / seconds)
    }
}

impl Subject<'_, '_> {
    /// Reads how busy the device was.
    pub(super) fn busy(&mut self, rates: &Rates) -> Result<Busy, Stop> {
        let Self { asker, refused, handle } = self;
        let mut busy = Busy::default();
        if let Some(read) = asker.ask(refused, Call::Utilization, || handle.utilization_rates())? {
            busy.gpu = asker.checked.percent(read.gpu.into());
            busy.memory = asker.checked.percent(read.memory.into());
        }
        if let Some(read) = asker.ask(refused, Call::Encoder, || handle.encoder_utilization())? {
            busy.encoder = asker.checked.percent(read.utilization.into());
        }
        if let Some(read) = asker.ask(refused, Call::Decoder, || handle.decoder_utilization())? {
            busy.decoder = asker.checked.percent(read.utilization.into());
        }
        rates.put(&mut busy);
        Ok(busy)
    }

    /// Reads its memory.
    pub(super) fn memory(&mut self) -> Result<Memory, Stop> {
        let Self { asker, refused, handle } = self;
        if let Some(read) = asker.ask(refused, Call::Memory, || handle.memory_info())? {
            return Ok(Memory {
                total: asker.checked.whole(read.total),
                used: asker.checked.whole(read.used),
                reserved: asker.checked.whole(read.reserved),
                free: asker.checked.whole(read.free),
            });
        }
        if !refused.has(Call::Memory) {
            return Ok(Memory::default());
        }
        let read = asker.ask(refused, Call::MemoryOld, || raw::old_memory(handle))?;
        Ok(read.map_or_else(Memory::default, |read| Memory {
            total: asker.checked.whole(read.total),
            used: asker.checked.whole(read.used),
            reserved: None,
            free: asker.checked.whole(read.free),
        }))
    }

    /// Reads how hot it is.
    pub(super) fn temperature(
        &mut self,
        limits: &Limits,
        values: &Values,
    ) -> Result<Temperature, Stop> {
        let Self { asker, refused, handle } = self;
        let gpu =
            asker.ask(refused, Call::Temperature, || handle.temperature(TemperatureSensor::Gpu))?;
        let memory = values.get(id::NVML_FI_DEV_MEMORY_TEMP);
        Ok(Temperature {
            gpu: gpu.and_then(|degrees| asker.checked.celsius(degrees.into())),
            memory: memory.and_then(|degrees| asker.checked.celsius(degrees as f64)),
            slowdown: limits.slowdown,
            shutdown: limits.shutdown,
        })
    }

    /// Reads what it draws.
    pub(super) fn power(&mut self, limits: &Limits) -> Result<Power, Stop> {
        let Self { asker, refused, handle } = self;
        let draw = asker.ask(refused, Call::Power, || handle.power_usage())?;
        let energy = asker.ask(refused, Call::Energy, || handle.total_energy_consumption())?;
        Ok(Power {
            draw: draw.and_then(|milliwatts| facts::watts(asker, milliwatts)),
            limit: limits.power,
            energy_mj: energy.and_then(|energy| asker.checked.whole(energy)),
        })
    }

    /// Reads how fast it runs.
    pub(super) fn clocks(&mut self, limits: &Limits) -> Result<Clocks, Stop> {
        let mut read = |call, clock| {
            let Self { asker, refused, handle } = self;
            let read = asker.ask(refused, call, || handle.clock_info(clock))?;
            Ok(read.and_then(|megahertz| asker.checked.megahertz(megahertz.into())))
        };
        Ok(Clocks {
            sm: read(Call::ClockSm, Clock::SM)?,
            memory: read(Call::ClockMemory, Clock::Memory)?,
            video: read(Call::ClockVideo, Clock::Video)?,
            max_sm: limits.sm_clock,
            max_memory: limits.memory_clock,
        })
    }

    /// Reads what holds it back.
    pub(super) fn throttle(&mut self, values: &Values) -> Result<Throttle, Stop> {
        let Self { asker, refused, handle } = self;
        let mut bits = asker.ask(refused, Call::EventReasons, || raw::event_reasons(handle))?;
        if refused.has(Call::EventReasons) {
            bits = asker.ask(refused, Call::ThrottleReasons, || raw::throttle_reasons(handle))?;
        }
        let mut lost = Vec::new();
        for (field, reason, policy) in LOST {
            let time = match (values.get(field), policy) {
                (Some(nanoseconds), _) => Some(nanoseconds),
                (None, Some(policy)) => self.violation(policy)?,
                (None, None) => None,
            };
            lost.extend(time.map(|nanoseconds| (reason, Duration::from_nanos(nanoseconds))));
        }
        Ok(Throttle { reasons: bits.map(reasons), lost })
    }

    fn violation(&mut self, policy: PerformancePolicy) -> Result<Option<u64>, Stop> {
        let Self { asker, refused, handle } = self;
        let read = asker.ask(refused, Call::Violations, || handle.violation_status(policy))?;
        Ok(read.and_then(|read| asker.checked.whole(read.violation_time)))
    }

    /// Reads its link to the machine.
    pub(super) fn pcie(
        &mut self,
        limits: &Limits,
        rates: &Rates,
        counted: [Option<f64>; 2],
        replays: Option<u64>,
    ) -> Result<Pcie, Stop> {
        let tx_rate = self.pcie_rate(rates.pcie_tx, counted[0], PcieUtilCounter::Send)?;
        let rx_rate = self.pcie_rate(rates.pcie_rx, counted[1], PcieUtilCounter::Receive)?;
        let Self { asker, refused, handle } = self;
        let generation = asker.ask(refused, Call::PcieLink, || handle.current_pcie_link_gen())?;
        let width = asker.ask(refused, Call::PcieLink, || handle.current_pcie_link_width())?;
        Ok(Pcie {
            tx_rate,
            rx_rate,
            replays,
            generation: generation.and_then(|value| facts::pcie_generation(asker, value)),
            width: width.and_then(|value| facts::pcie_width(asker, value)),
            max_generation: limits.pcie_generation,
            max_width: limits.pcie_width,
        })
    }

    /// The driver measures over 20 ms for one answer, so that is asked for last.
    fn pcie_rate(
        &mut self,
        profiled: Option<u64>,
        counted: Option<f64>,
        direction: PcieUtilCounter,
    ) -> Result<Option<u64>, Stop> {
        let Self { asker, refused, handle } = self;
        if profiled.is_some() {
            return Ok(profiled);
        }
        if let Some(rate) = counted {
            return Ok(asker.checked.within(rate, 0.0, FASTEST_PCIE).map(|rate| rate as u64));
        }
        let read =
            asker.ask(refused, Call::PcieThroughput, || handle.pcie_throughput(direction))?;
        let Some(kilobytes) = read else { return Ok(None) };
        let rate = f64::from(kilobytes) * 1024.0;
        Ok(asker.checked.within(rate, 0.0, FASTEST_PCIE).map(|rate| rate as u64))
    }

    /// Reads its performance state.
    pub(super) fn performance_state(&mut self) -> Result<Option<u8>, Stop> {
        let Self { asker, refused, handle } = self;
        let state = asker.ask(refused, Call::PerformanceState, || handle.performance_state())?;
        Ok(state.and_then(performance_state))
    }
}

fn reasons(bits: u64) -> Vec<ThrottleReason> {
    let known = REASONS.iter().fold(0, |known, (bit, _)| known | bit);
    let named = REASONS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, reason)| *reason);
    let other = (bits & !known != 0).then_some(ThrottleReason::Other);
    named.chain(other).collect()
}

/// NVML numbers them from 0, and has a number for "unknown".
fn performance_state(state: PerformanceState) -> Option<u8> {
    u8::try_from(state.as_c()).ok().filter(|state| *state < 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_by_name_and_unknown_ones_as_other() {
        assert_eq!(reasons(0), []);
        assert_eq!(
            reasons(0x4 | 0x20),
            [ThrottleReason::PowerCap, ThrottleReason::SoftwareThermal]
        );
        assert_eq!(reasons(0x8000), [ThrottleReason::Other]);
        assert_eq!(reasons(u64::MAX).len(), 10, "each once");
    }

    #[test]
    fn a_rate_is_a_difference_and_a_counter_set_back_has_none() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut meter = Meter::default();
        assert_eq!(meter.rate(at(0), Some(100)), None);
        assert_eq!(meter.rate(at(2), Some(300)), Some(100.0));
        assert_eq!(meter.rate(at(2), Some(400)), None, "no time has passed");
        assert_eq!(meter.rate(at(3), Some(10)), None, "set back");
        assert_eq!(meter.rate(at(4), Some(10)), Some(0.0));
        assert_eq!(meter.rate(at(5), None), None);
        assert_eq!(meter.rate(at(6), Some(20)), None, "nothing to compare with");
    }

    #[test]
    fn states_are_numbers_and_unknown_is_none() {
        assert_eq!(performance_state(PerformanceState::Zero), Some(0));
        assert_eq!(performance_state(PerformanceState::Fifteen), Some(15));
        assert_eq!(performance_state(PerformanceState::Unknown), None);
    }
}
