//! The library itself, the driver, and which devices there are.

use std::ffi::{c_char, c_int, c_uint};

use super::super::play;
use super::super::scenario::Pci;
use super::super::status::{Answer, Status};
use super::super::target::{Handle, Target};
use super::{place, put_text, text};

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> u32 {
    Status::code(play::begin())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit() -> u32 {
    nvmlInit_v2()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> u32 {
    nvmlInit_v2()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> u32 {
    Status::code(play::end())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(result: u32) -> *const c_char {
    Status(result).text().as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> u32 {
    Status::code(play::enter("nvmlSystemGetDriverVersion").and_then(|now| {
        // SAFETY: see the module.
        unsafe { put_text(version, length, &now.play.scenario.driver.version) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> u32 {
    Status::code(play::enter("nvmlSystemGetNVMLVersion").and_then(|now| {
        // SAFETY: see the module.
        unsafe { put_text(version, length, &now.play.scenario.driver.nvml) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> u32 {
    Status::code(play::enter("nvmlSystemGetCudaDriverVersion_v2").and_then(|now| {
        // SAFETY: see the module.
        *unsafe { place(version) }? = now.play.scenario.driver.cuda;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetCudaDriverVersion(version: *mut c_int) -> u32 {
    // SAFETY: see the module.
    unsafe { nvmlSystemGetCudaDriverVersion_v2(version) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetProcessName(
    pid: c_uint,
    name: *mut c_char,
    length: c_uint,
) -> u32 {
    Status::code(process_name(pid).and_then(|known| {
        // The real one cuts what is too long.
        let room = (length as usize).saturating_sub(1).min(known.len());
        let cut = (0..=room).rev().find(|end| known.is_char_boundary(*end)).unwrap_or(0);
        // SAFETY: see the module.
        unsafe { put_text(name, length, &known[..cut]) }
    }))
}

fn process_name(pid: c_uint) -> Answer<String> {
    let now = play::enter("nvmlSystemGetProcessName")?;
    let process = now.processes().find(|process| process.pid == pid);
    if let Some(name) = process.and_then(|process| process.name.clone()) {
        return Ok(name);
    }
    let read = |file| {
        let text = std::fs::read(format!("/proc/{pid}/{file}")).map_err(|_| Status::NOT_FOUND)?;
        let word = text.split(|byte| matches!(byte, 0 | b'\n')).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(word).into_owned())
    };
    let program = read("cmdline")?;
    // It may not have begun yet, or have ended.
    if program.is_empty() { read("comm") } else { Ok(program) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> u32 {
    Status::code(play::enter("nvmlDeviceGetCount_v2").and_then(|now| {
        // SAFETY: see the module.
        *unsafe { place(count) }? = now.play.scenario.devices.len() as u32;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount(count: *mut c_uint) -> u32 {
    // SAFETY: see the module.
    unsafe { nvmlDeviceGetCount_v2(count) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Handle) -> u32 {
    let found = Target::by_index("nvmlDeviceGetHandleByIndex_v2", index as usize);
    // SAFETY: see the module.
    unsafe { tell_handle(found, device) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex(index: c_uint, device: *mut Handle) -> u32 {
    // SAFETY: see the module.
    unsafe { nvmlDeviceGetHandleByIndex_v2(index, device) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Handle) -> u32 {
    // SAFETY: see the module.
    let found = unsafe { text(uuid) }.and_then(|uuid| {
        Target::by("nvmlDeviceGetHandleByUUID", |it| it.uuid == uuid, |it| it.uuid == uuid)
    });
    // SAFETY: see the module.
    unsafe { tell_handle(found, device) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleBySerial(
    serial: *const c_char,
    device: *mut Handle,
) -> u32 {
    // SAFETY: see the module.
    let found = unsafe { text(serial) }.and_then(|serial| {
        let is = |serial_of: Option<&str>| serial_of == Some(serial);
        Target::by("nvmlDeviceGetHandleBySerial", |it| is(it.serial.as_deref()), |_| false)
    });
    // SAFETY: see the module.
    unsafe { tell_handle(found, device) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(
    address: *const c_char,
    device: *mut Handle,
) -> u32 {
    // SAFETY: see the module.
    let found = unsafe { text(address) }.and_then(|address| {
        let pci = Pci::parse(address).ok_or(Status::INVALID_ARGUMENT)?;
        Target::by("nvmlDeviceGetHandleByPciBusId_v2", |it| it.pci == pci, |_| false)
    });
    // SAFETY: see the module.
    unsafe { tell_handle(found, device) }
}

/// Tells the handle of what was found.
///
/// # Safety
/// See the module.
pub(super) unsafe fn tell_handle(found: Answer<Target>, out: *mut Handle) -> u32 {
    Status::code(found.and_then(|target| {
        // SAFETY: see the module.
        *unsafe { place(out) }? = target.handle()?;
        Ok(())
    }))
}
