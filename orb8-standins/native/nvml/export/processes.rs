//! Who uses a device.

use std::ffi::{c_uint, c_ulonglong};

use super::super::samples;
use super::super::scenario::{Process, ProcessKind, Quantity, What};
use super::super::status::{Answer, Status};
use super::super::target::{Handle, Number, Target};
use super::super::types::{
    ProcessDetail, ProcessDetailList, ProcessUtilization, ProcessesUtilization, version,
};
use super::super::types::{ProcessInfo, ProcessInfoV1, ProcessSample, Sample, Value};
use super::{getters, place, put_list};

/// What is told of an instance where there is none, and of memory that is not known.
const NONE: u32 = u32::MAX;

getters! {
    nvmlDeviceGetAccountingMode(c_uint) |it| it.whole().map(|_| 0);
}

/// Accounting is off here: nobody has numbers.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetAccountingPids(
    device: Handle,
    _count: *mut c_uint,
    _pids: *mut c_uint,
) -> u32 {
    let found = Target::find("nvmlDeviceGetAccountingPids", device);
    Status::code(found.and(Err(Status::NOT_SUPPORTED)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetAccountingStats(
    device: Handle,
    _pid: c_uint,
    _stats: *mut c_ulonglong,
) -> u32 {
    let found = Target::find("nvmlDeviceGetAccountingStats", device);
    Status::code(found.and(Err(Status::NOT_SUPPORTED)))
}

fn info(process: &Process, time: f64) -> ProcessInfo {
    let (gpu_instance, compute_instance) = process.instance.unwrap_or((NONE, NONE));
    let memory = process.memory.as_ref().map_or(u64::MAX, |memory| u64::of(memory.value(time)));
    ProcessInfo { pid: process.pid, memory, gpu_instance, compute_instance }
}

fn infos(it: &Target, kind: ProcessKind) -> Vec<ProcessInfo> {
    let of_kind = it.processes().filter(|process| process.kind == kind);
    of_kind.map(|process| info(process, it.now.time)).collect()
}

fn infos_v1(it: &Target, kind: ProcessKind) -> Vec<ProcessInfoV1> {
    let all = infos(it, kind).into_iter();
    all.map(|ProcessInfo { pid, memory, .. }| ProcessInfoV1 { pid, memory }).collect()
}

/// Tells processes in the caller's array.
///
/// # Safety
/// See the module; there is room for `count`.
unsafe fn tell_list<T>(
    function: &'static str,
    device: Handle,
    count: *mut c_uint,
    out: *mut T,
    list: impl FnOnce(&Target) -> Vec<T>,
) -> u32 {
    Status::code(Target::find(function, device).and_then(|target| {
        // SAFETY: see the module.
        let count = unsafe { place(count) }?;
        // SAFETY: see the module.
        unsafe { put_list(out, count, list(&target)) }
    }))
}

/// `nvmlReturn_t name(nvmlDevice_t, unsigned int *count, type *processes)`.
macro_rules! lists {
    (newer $($rows:tt)*) => { lists! { [cfg_attr(not(old), unsafe(no_mangle))] $($rows)* } };
    ($name:ident $($rows:tt)*) => { lists! { [unsafe(no_mangle)] $name $($rows)* } };
    ($export:tt $($name:ident($out:ty) $list:ident $kind:ident;)*) => { $(
        #$export
        unsafe extern "C" fn $name(device: Handle, count: *mut c_uint, out: *mut $out) -> u32 {
            // SAFETY: see the module.
            unsafe {
                tell_list(stringify!($name), device, count, out, |it| $list(it, ProcessKind::$kind))
            }
        }
    )* };
}

lists! {
    nvmlDeviceGetComputeRunningProcesses(ProcessInfoV1) infos_v1 Compute;
    nvmlDeviceGetGraphicsRunningProcesses(ProcessInfoV1) infos_v1 Graphics;
    nvmlDeviceGetMPSComputeRunningProcesses(ProcessInfoV1) infos_v1 Mps;
    nvmlDeviceGetComputeRunningProcesses_v2(ProcessInfo) infos Compute;
    nvmlDeviceGetGraphicsRunningProcesses_v2(ProcessInfo) infos Graphics;
    nvmlDeviceGetMPSComputeRunningProcesses_v2(ProcessInfo) infos Mps;
}

lists! { newer
    nvmlDeviceGetComputeRunningProcesses_v3(ProcessInfo) infos Compute;
    nvmlDeviceGetGraphicsRunningProcesses_v3(ProcessInfo) infos Graphics;
    nvmlDeviceGetMPSComputeRunningProcesses_v3(ProcessInfo) infos Mps;
}

#[cfg_attr(not(old), unsafe(no_mangle))]
unsafe extern "C" fn nvmlDeviceGetRunningProcessDetailList(
    device: Handle,
    list: *mut ProcessDetailList,
) -> u32 {
    Status::code(Target::find("nvmlDeviceGetRunningProcessDetailList", device).and_then(|it| {
        // SAFETY: see the module.
        let out = unsafe { place(list) }?;
        if out.version != version::<ProcessDetailList>(1) {
            return Err(Status::ARGUMENT_VERSION_MISMATCH);
        }
        let of_mode = it.processes().filter(|process| process.kind.mode() == out.mode);
        let details = of_mode.map(|process| info(process, it.now.time)).map(|info| ProcessDetail {
            pid: info.pid,
            memory: info.memory,
            gpu_instance: info.gpu_instance,
            compute_instance: info.compute_instance,
            protected_memory: 0,
        });
        // SAFETY: see the module.
        unsafe { put_list(out.processes, &mut out.count, details.collect()) }
    }))
}

/// Returns processes' samples that are newer than a time.
fn newer(it: &Target, after: u64) -> Answer<Vec<samples::Busy>> {
    it.whole()?;
    if it.instances().is_some() {
        // Not told of divided devices.
        return Err(Status::NOT_SUPPORTED);
    }
    if it.now.is_so(it.index, |what| matches!(what, What::DropsSamples)) {
        return Err(Status::NOT_FOUND);
    }
    let samples = samples::processes(it, after);
    if samples.is_empty() { Err(Status::NOT_FOUND) } else { Ok(samples) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetProcessUtilization(
    device: Handle,
    out: *mut ProcessSample,
    count: *mut c_uint,
    after: c_ulonglong,
) -> u32 {
    Status::code(Target::find("nvmlDeviceGetProcessUtilization", device).and_then(|target| {
        // SAFETY: see the module.
        let count = unsafe { place(count) }?;
        if out.is_null() {
            // So many there may be: whoever runs, whether it has a sample or not.
            target.whole()?;
            *count = target.processes().count().max(1) as u32;
            return Err(Status::INSUFFICIENT_SIZE);
        }
        let samples = newer(&target, after)?.into_iter().map(|busy| ProcessSample {
            pid: busy.pid,
            time: busy.time,
            sm: busy.sm,
            memory: busy.memory,
            encoder: busy.encoder,
            decoder: busy.decoder,
        });
        // SAFETY: see the module.
        unsafe { put_list(out, count, samples.collect()) }
    }))
}

#[cfg_attr(not(old), unsafe(no_mangle))]
unsafe extern "C" fn nvmlDeviceGetProcessesUtilizationInfo(
    device: Handle,
    info: *mut ProcessesUtilization,
) -> u32 {
    Status::code(Target::find("nvmlDeviceGetProcessesUtilizationInfo", device).and_then(|target| {
        // SAFETY: see the module.
        let out = unsafe { place(info) }?;
        if out.version != version::<ProcessesUtilization>(1) {
            return Err(Status::ARGUMENT_VERSION_MISMATCH);
        }
        let samples = newer(&target, out.last_seen)?.into_iter().map(|busy| ProcessUtilization {
            time: busy.time,
            pid: busy.pid,
            sm: busy.sm,
            memory: busy.memory,
            encoder: busy.encoder,
            decoder: busy.decoder,
            jpeg: 0,
            optical_flow: 0,
        });
        // SAFETY: see the module.
        unsafe { put_list(out.processes, &mut out.count, samples.collect()) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetSamples(
    device: Handle,
    kind: c_uint,
    after: c_ulonglong,
    value_type: *mut c_uint,
    count: *mut c_uint,
    out: *mut Sample,
) -> u32 {
    Status::code(Target::find("nvmlDeviceGetSamples", device).and_then(|target| {
        // SAFETY: see the module.
        let (value_type, count) = unsafe { (place(value_type)?, place(count)?) };
        // Unsigned integers.
        *value_type = 1;
        let values = values(&target, kind, after)?;
        if values.is_empty() {
            return Err(Status::NOT_FOUND);
        }
        if out.is_null() {
            *count = values.len() as u32;
            return Ok(());
        }
        // The newest of them where there is room for less.
        let skip = values.len().saturating_sub(*count as usize);
        let samples = values
            .into_iter()
            .skip(skip)
            .map(|(time, value)| Sample { time, value: Value { ulonglong: u64::from(value) } });
        // SAFETY: see the module.
        unsafe { put_list(out, count, samples.collect()) }
    }))
}

fn values(it: &Target, kind: c_uint, after: u64) -> Answer<Vec<(u64, u32)>> {
    if it.now.is_so(it.index, |what| matches!(what, What::DropsSamples)) {
        return Err(Status::NOT_FOUND);
    }
    let (quantity, factor) = match kind {
        0 => (Quantity::Power, 1e3),
        1 => {
            it.utilization(it.now.time)?;
            return Ok(samples::values(&it.now, after, |time| it.utilization(time).unwrap_or(0.0)));
        }
        2 => {
            it.utilization(it.now.time)?;
            let memory = |time| it.memory_utilization(time).unwrap_or(0.0);
            return Ok(samples::values(&it.now, after, memory));
        }
        3 => (Quantity::Encoder, 1.0),
        4 => (Quantity::Decoder, 1.0),
        5 => (Quantity::SmClock, 1.0),
        6 => (Quantity::MemoryClock, 1.0),
        _ => return Err(Status::INVALID_ARGUMENT),
    };
    it.value(quantity)?;
    let value = |time| it.value_at(quantity, time).unwrap_or(0.0) * factor;
    Ok(samples::values(&it.now, after, value))
}
