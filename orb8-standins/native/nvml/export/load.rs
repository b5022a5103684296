//! How busy, full, hot and fast a device is.

use std::ffi::{c_uint, c_ulonglong};

use super::super::play::Now;
use super::super::scenario::{Quantity, THROTTLES};
use super::super::status::{Answer, Status};
use super::super::target::{Handle, Number, Target};
use super::super::types::{MemoryV1, Utilization, ViolationTime};
use super::super::types::{MemoryV2, version};
use super::{getters, place, tell};

/// Over how long encoders' and decoders' use is measured, µs.
const SAMPLING_PERIOD: u32 = 166_666;

getters! {
    nvmlDeviceGetUtilizationRates(Utilization) utilization;
    nvmlDeviceGetMemoryInfo(MemoryV1) |it| {
        let memory = it.memory()?;
        Ok(MemoryV1 {
            total: memory.total,
            free: memory.free,
            // What the driver keeps is in it here.
            used: memory.used.saturating_add(memory.reserved),
        })
    };
    nvmlDeviceGetBAR1MemoryInfo(MemoryV1) |it| {
        let total = it.memory()?.total;
        Ok(MemoryV1 { total, free: total - total / 256, used: total / 256 })
    };
    nvmlDeviceGetPowerUsage(c_uint) |it| milliwatts(it, Quantity::Power);
    nvmlDeviceGetEnforcedPowerLimit(c_uint) |it| milliwatts(it, Quantity::PowerLimit);
    nvmlDeviceGetPowerManagementLimit(c_uint) |it| milliwatts(it, Quantity::PowerLimit);
    nvmlDeviceGetPowerManagementDefaultLimit(c_uint) |it| milliwatts(it, Quantity::PowerLimit);
    nvmlDeviceGetPowerManagementMode(c_uint) |it| milliwatts(it, Quantity::PowerLimit).map(|_| 1);
    nvmlDeviceGetTotalEnergyConsumption(c_ulonglong) energy;
    nvmlDeviceGetPerformanceState(c_uint) |it| it.number(Quantity::PerformanceState);
    nvmlDeviceGetPowerState(c_uint) |it| it.number(Quantity::PerformanceState);
    nvmlDeviceGetCurrentClocksThrottleReasons(c_ulonglong) throttles;
    nvmlDeviceGetSupportedClocksThrottleReasons(c_ulonglong) supported_throttles;
    nvmlDeviceGetFanSpeed(c_uint) |it| it.number(Quantity::Fan);
    nvmlDeviceGetNumFans(c_uint) |it| Ok(u32::from(it.whole()?.curve(Quantity::Fan).is_some()));
}

getters! { newer
    nvmlDeviceGetCurrentClocksEventReasons(c_ulonglong) throttles;
    nvmlDeviceGetSupportedClocksEventReasons(c_ulonglong) supported_throttles;
}

fn utilization(it: &Target) -> Answer<Utilization> {
    Ok(Utilization {
        gpu: u32::of(it.utilization(it.now.time)?),
        memory: u32::of(it.memory_utilization(it.now.time)?),
    })
}

fn milliwatts(it: &Target, quantity: Quantity) -> Answer<u32> {
    it.value(quantity).map(|watts| u32::of(watts * 1e3))
}

/// Millijoules.
pub(in super::super) fn energy(it: &Target) -> Answer<u64> {
    it.total(Quantity::Power).map(|joules| u64::of(joules * 1e3))
}

fn throttles(it: &Target) -> Answer<u64> {
    it.whole()?;
    Ok(it.now.throttles(it.index))
}

fn supported_throttles(it: &Target) -> Answer<u64> {
    it.whole().map(|_| THROTTLES.iter().fold(0, |all, (_, bit)| all | bit))
}

#[cfg_attr(not(old), unsafe(no_mangle))]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, memory: *mut MemoryV2) -> u32 {
    Status::code(Target::find("nvmlDeviceGetMemoryInfo_v2", device).and_then(|target| {
        // SAFETY: see the module.
        let out = unsafe { place(memory) }?;
        if out.version != version::<MemoryV2>(2) {
            return Err(Status::ARGUMENT_VERSION_MISMATCH);
        }
        let memory = target.memory()?;
        out.total = memory.total;
        out.reserved = memory.reserved;
        out.free = memory.free;
        out.used = memory.used;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetEncoderUtilization(
    device: Handle,
    utilization: *mut c_uint,
    period: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetEncoderUtilization", device, utilization, |it| {
            *place(period)? = SAMPLING_PERIOD;
            it.number(Quantity::Encoder)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetDecoderUtilization(
    device: Handle,
    utilization: *mut c_uint,
    period: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetDecoderUtilization", device, utilization, |it| {
            *place(period)? = SAMPLING_PERIOD;
            it.number(Quantity::Decoder)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: Handle,
    sensor: c_uint,
    temperature: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetTemperature", device, temperature, |it| match sensor {
            0 => it.number(Quantity::Temperature),
            _ => Err(Status::INVALID_ARGUMENT),
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTemperatureThreshold(
    device: Handle,
    threshold: c_uint,
    temperature: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetTemperatureThreshold", device, temperature, |it| match threshold {
            0 => it.number(Quantity::Shutdown),
            1 => it.number(Quantity::Slowdown),
            2 => it.number(Quantity::HottestMemory),
            3 => it.number(Quantity::HottestGpu),
            4..=7 => Err(Status::NOT_SUPPORTED),
            _ => Err(Status::INVALID_ARGUMENT),
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetFanSpeed_v2(
    device: Handle,
    fan: c_uint,
    speed: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetFanSpeed_v2", device, speed, |it| match fan {
            0 => it.number(Quantity::Fan),
            _ => Err(Status::INVALID_ARGUMENT),
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPowerManagementLimitConstraints(
    device: Handle,
    least: *mut c_uint,
    most: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetPowerManagementLimitConstraints", device, least, |it| {
            let limit = milliwatts(it, Quantity::PowerLimit)?;
            *place(most)? = limit;
            Ok(limit / 4)
        })
    }
}

fn clock(it: &Target, kind: c_uint, of: [Quantity; 3]) -> Answer<u32> {
    let [sm, memory, video] = of;
    match kind {
        0 | 1 => it.number(sm),
        2 => it.number(memory),
        3 => it.number(video),
        _ => Err(Status::INVALID_ARGUMENT),
    }
}

const CLOCKS: [Quantity; 3] = [Quantity::SmClock, Quantity::MemoryClock, Quantity::VideoClock];

const MOST: [Quantity; 3] =
    [Quantity::MaxSmClock, Quantity::MaxMemoryClock, Quantity::MaxVideoClock];

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetClockInfo(
    device: Handle,
    kind: c_uint,
    clock_mhz: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe { tell("nvmlDeviceGetClockInfo", device, clock_mhz, |it| clock(it, kind, CLOCKS)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMaxClockInfo(
    device: Handle,
    kind: c_uint,
    clock_mhz: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe { tell("nvmlDeviceGetMaxClockInfo", device, clock_mhz, |it| clock(it, kind, MOST)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetApplicationsClock(
    device: Handle,
    kind: c_uint,
    clock_mhz: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe { tell("nvmlDeviceGetApplicationsClock", device, clock_mhz, |it| clock(it, kind, MOST)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetViolationStatus(
    device: Handle,
    policy: c_uint,
    time: *mut ViolationTime,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetViolationStatus", device, time, |it| {
            it.whole()?;
            Ok(ViolationTime {
                reference: it.now.micros,
                violation: violated(&it.now, it.index, policy)?,
            })
        })
    }
}

/// Returns for how long a policy has held a device back, ns.
pub(in super::super) fn violated(now: &Now, index: usize, policy: c_uint) -> Answer<u64> {
    let bits = match policy {
        0 => 0x4,
        1 => 0x20 | 0x40,
        2 => 0x10,
        // Of these it says nothing here: the board's limit, reliability.
        3 | 5 => 0,
        // Low utilization.
        4 => 0x1,
        // All that keeps it below the clocks that were set, or the base clocks.
        10 | 11 => 0x4 | 0x8 | 0x20 | 0x40 | 0x80,
        _ => return Err(Status::INVALID_ARGUMENT),
    };
    Ok(u64::of(now.throttled(index, bits) * 1e9))
}
