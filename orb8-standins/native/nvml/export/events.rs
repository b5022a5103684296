//! Waiting for what happens.

use std::ffi::{c_uint, c_ulonglong};
use std::time::Duration;

use super::super::event_set::{self, SUPPORTED};
use super::super::play::{self, current};
use super::super::status::Status;
use super::super::target::{Handle, Target};
use super::super::types::EventData;
use super::{getters, place};

getters! {
    nvmlDeviceGetSupportedEventTypes(c_ulonglong) |it| it.whole().map(|_| SUPPORTED);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetCreate(set: *mut usize) -> u32 {
    Status::code(play::enter("nvmlEventSetCreate").and_then(|_| {
        // SAFETY: see the module.
        *unsafe { place(set) }? = event_set::create();
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: usize) -> u32 {
    Status::code(event_set::free(set))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(device: Handle, kinds: c_ulonglong, set: usize) -> u32 {
    Status::code(Target::find("nvmlDeviceRegisterEvents", device).and_then(|target| {
        target.whole()?;
        event_set::register(set, &target.now, target.index, kinds)
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait_v2(set: usize, data: *mut EventData, timeout: c_uint) -> u32 {
    Status::code(play::enter("nvmlEventSetWait_v2").and_then(|_| {
        // SAFETY: see the module.
        let out = unsafe { place(data) }?;
        let event = event_set::wait(set, Duration::from_millis(timeout.into()))?;
        let (gpu_instance, compute_instance) = event.instance.unwrap_or((u32::MAX, u32::MAX));
        *out = EventData {
            device: Handle::new(current()?.epoch, event.index, None),
            kind: event.kind,
            data: event.data,
            gpu_instance,
            compute_instance,
        };
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait(set: usize, data: *mut EventData, timeout: c_uint) -> u32 {
    // SAFETY: see the module.
    unsafe { nvmlEventSetWait_v2(set, data, timeout) }
}
