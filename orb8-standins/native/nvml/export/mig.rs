//! How a device is divided.

use std::ffi::c_uint;

use super::super::status::{Answer, Status};
use super::super::target::{Handle, Target};
use super::super::types::Attributes;
use super::system::tell_handle;
use super::{getters, place, tell};

/// As many instances as a device can be divided into.
const MOST: u32 = 7;

getters! {
    nvmlDeviceGetMaxMigDeviceCount(c_uint) |it| Ok(if it.whole()?.mig { MOST } else { 0 });
    nvmlDeviceIsMigDeviceHandle(c_uint) |it| Ok(u32::from(it.place.is_some()));
    nvmlDeviceGetGpuInstanceId(c_uint) |it| {
        it.instance().map(|instance| instance.gpu).ok_or(Status::NOT_SUPPORTED)
    };
    nvmlDeviceGetComputeInstanceId(c_uint) |it| {
        it.instance().map(|instance| instance.compute).ok_or(Status::NOT_SUPPORTED)
    };
    nvmlDeviceGetAttributes_v2(Attributes) attributes;
    nvmlDeviceGetAttributes(Attributes) attributes;
}

fn attributes(it: &Target) -> Answer<Attributes> {
    let device = it.device()?;
    let memory = it.memory()?.total >> 20;
    let Some(instance) = it.instance() else {
        if !device.mig {
            return Err(Status::NOT_SUPPORTED);
        }
        return Ok(Attributes {
            multiprocessors: device.multiprocessors,
            memory,
            ..Attributes::default()
        });
    };
    Ok(Attributes {
        multiprocessors: instance.multiprocessors,
        copy_engines: instance.slices.0,
        decoders: instance.slices.0 - 1,
        gpu_slices: instance.slices.0,
        compute_slices: instance.slices.1,
        memory,
        ..Attributes::default()
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: Handle,
    is_on: *mut c_uint,
    is_pending: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetMigMode", device, is_on, |it| {
            if !it.whole()?.mig {
                return Err(Status::NOT_SUPPORTED);
            }
            let is_on = u32::from(it.instances().is_some());
            *place(is_pending)? = is_on;
            Ok(is_on)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Handle,
    index: c_uint,
    instance: *mut Handle,
) -> u32 {
    let found = Target::find("nvmlDeviceGetMigDeviceHandleByIndex", device).and_then(|it| {
        if !it.whole()?.mig {
            return Err(Status::NOT_SUPPORTED);
        }
        if index >= MOST {
            return Err(Status::INVALID_ARGUMENT);
        }
        let count = it.instances().map_or(0, <[_]>::len);
        let place = Some(index as usize).filter(|place| *place < count).ok_or(Status::NOT_FOUND)?;
        Ok(Target { place: Some(place), ..it })
    });
    // SAFETY: see the module.
    unsafe { tell_handle(found, instance) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
    instance: Handle,
    device: *mut Handle,
) -> u32 {
    let found = Target::find("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", instance);
    let parent = found.and_then(|it| match it.place {
        Some(_) => Ok(Target { place: None, ..it }),
        None => Err(Status::INVALID_ARGUMENT),
    });
    // SAFETY: see the module.
    unsafe { tell_handle(parent, device) }
}
