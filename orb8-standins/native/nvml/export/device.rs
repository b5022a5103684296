//! What a device is.

use std::ffi::{c_char, c_int, c_uint};

use super::super::scenario::Architecture;
use super::super::scenario::Pci;
use super::super::status::{Answer, Status};
use super::super::target::{Handle, Target};
use super::super::types::PciInfo;
use super::super::types::{Fabric, FabricV, FabricV3, version};
use super::{getters, place, tell, tell_text};

getters! {
    nvmlDeviceGetIndex(c_uint) |it| Ok(it.place.unwrap_or(it.index) as u32);
    nvmlDeviceGetMinorNumber(c_uint) |it| Ok(it.whole()?.minor);
    nvmlDeviceGetBrand(c_uint) |it| Ok(it.device()?.brand);
    nvmlDeviceGetArchitecture(c_uint) |it| Ok(it.device()?.architecture as u32);
    nvmlDeviceGetPersistenceMode(c_uint) |it| Ok(u32::from(it.whole()?.persistence));
    nvmlDeviceGetComputeMode(c_uint) |it| it.device().map(|_| 0);
    nvmlDeviceGetDisplayMode(c_uint) |it| it.whole().map(|_| 0);
    nvmlDeviceGetDisplayActive(c_uint) |it| it.whole().map(|_| 0);
    nvmlDeviceGetMultiGpuBoard(c_uint) |it| it.whole().map(|_| 0);
    nvmlDeviceGetBoardId(c_uint) |it| Ok(it.whole()?.pci.bus << 8);
    nvmlDeviceGetVirtualizationMode(c_uint) |it| it.device().map(|_| 0);
    nvmlDeviceGetPciInfo_v3(PciInfo) |it| Ok(pci_info(it.whole()?.pci));
    nvmlDeviceGetPciInfo_v2(PciInfo) |it| Ok(pci_info(it.whole()?.pci));
}

getters! { newer
    nvmlDeviceGetNumGpuCores(c_uint) cores;
    nvmlDeviceGetGpuFabricInfo(Fabric) fabric;
}

fn cores(it: &Target) -> Answer<u32> {
    let device = it.whole()?;
    // GA100 has half of what its successors have.
    let is_half = device.compute == (8, 0) || device.architecture < Architecture::Ampere;
    Ok(device.multiprocessors * if is_half { 64 } else { 128 })
}

fn characters<const N: usize>(text: &str) -> [c_char; N] {
    let mut characters = [0; N];
    for (to, from) in characters.iter_mut().take(N - 1).zip(text.bytes()) {
        *to = from as c_char;
    }
    characters
}

pub(super) fn pci_info(pci: Pci) -> PciInfo {
    let Pci { domain, bus, device } = pci;
    PciInfo {
        legacy: characters(&format!("{domain:04X}:{bus:02X}:{device:02X}.0")),
        domain,
        bus,
        device,
        // An H100's, and NVIDIA's own number.
        id: 0x2330_10de,
        subsystem: 0x16c1_10de,
        bus_id: characters(&format!("{domain:08X}:{bus:02X}:{device:02X}.0")),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetName(device: Handle, name: *mut c_char, length: c_uint) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell_text("nvmlDeviceGetName", device, name, length, |it| {
            let model = &it.device()?.model;
            Ok(match it.instance() {
                Some(instance) => format!("{model} MIG {}", instance.profile),
                None => model.clone(),
            })
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUUID(device: Handle, uuid: *mut c_char, length: c_uint) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell_text("nvmlDeviceGetUUID", device, uuid, length, |it| {
            let device = it.device()?;
            Ok(match it.instance() {
                // Before the driver's version 470.82, an instance's name said where it is.
                Some(part) if cfg!(old) => {
                    format!("MIG-{}/{}/{}", device.uuid, part.gpu, part.compute)
                }
                Some(part) => part.uuid.clone(),
                None => device.uuid.clone(),
            })
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetSerial(
    device: Handle,
    serial: *mut c_char,
    length: c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell_text("nvmlDeviceGetSerial", device, serial, length, |it| {
            it.whole()?.serial.clone().ok_or(Status::NOT_SUPPORTED)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetVbiosVersion(
    device: Handle,
    version: *mut c_char,
    length: c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell_text("nvmlDeviceGetVbiosVersion", device, version, length, |it| {
            Ok(it.whole()?.vbios.clone())
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetBoardPartNumber(
    device: Handle,
    number: *mut c_char,
    length: c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell_text("nvmlDeviceGetBoardPartNumber", device, number, length, |it| {
            it.whole().map(|_| "692-2G520-0200-000".into())
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: Handle,
    major: *mut c_int,
    minor: *mut c_int,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetCudaComputeCapability", device, major, |it| {
            let compute = it.device()?.compute;
            *place(minor)? = compute.1;
            Ok(compute.0)
        })
    }
}

/// NVL72's fabric, which none of these devices is in.
fn fabric(it: &Target) -> Answer<Fabric> {
    let device = it.whole()?;
    if device.architecture < Architecture::Hopper {
        return Err(Status::NOT_SUPPORTED);
    }
    Ok(Fabric { cluster: [0; 16], status: 0, clique: 0, state: 0 })
}

#[cfg_attr(not(old), unsafe(no_mangle))]
unsafe extern "C" fn nvmlDeviceGetGpuFabricInfoV(device: Handle, info: *mut FabricV) -> u32 {
    Status::code(Target::find("nvmlDeviceGetGpuFabricInfoV", device).and_then(|target| {
        // SAFETY: all versions of the structure begin like the second one.
        let out = unsafe { place(info) }?;
        let is_third = match out.version {
            second if second == version::<FabricV>(2) => false,
            third if third == version::<FabricV3>(3) => true,
            _ => return Err(Status::ARGUMENT_VERSION_MISMATCH),
        };
        let Fabric { cluster, status, clique, state } = fabric(&target)?;
        *out = FabricV { version: out.version, cluster, status, clique, state, health: 0 };
        if is_third {
            // SAFETY: the caller says by the version that it is the third one.
            unsafe { place(info.cast::<FabricV3>()) }?.summary = 0;
        }
        Ok(())
    }))
}
