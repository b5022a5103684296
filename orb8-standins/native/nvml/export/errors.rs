//! What goes wrong with a device: errors of its memory, and what was done about them.

use std::ffi::{c_int, c_uint, c_ulonglong};
use std::slice;

use super::super::field;
use super::super::scenario::{Architecture, Quantity};
use super::super::status::{Answer, Status};
use super::super::target::{Handle, Number, Target};
use super::super::types::FieldValue;
use super::super::types::{SramErrors, version};
use super::{getters, place, put_list, tell};

getters! {
    nvmlDeviceGetRetiredPagesPendingStatus(c_uint) |it| it.value(Quantity::RetiredPages).map(|_| 0);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetEccMode(
    device: Handle,
    is_on: *mut c_uint,
    is_pending: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetEccMode", device, is_on, |it| {
            let is_on = it.whole()?.ecc.ok_or(Status::NOT_SUPPORTED)?;
            *place(is_pending)? = u32::from(is_on);
            Ok(u32::from(is_on))
        })
    }
}

/// Returns memory errors: corrected (0) or not (1), since the driver was loaded (0) or ever (1).
pub(in super::super) fn ecc_errors(it: &Target, kind: u32, counter: u32) -> Answer<u64> {
    if it.whole()?.ecc != Some(true) {
        return Err(Status::NOT_SUPPORTED);
    }
    let (since, before) = match kind {
        0 => (Quantity::EccCorrected, Quantity::EccCorrectedBefore),
        1 => (Quantity::EccUncorrected, Quantity::EccUncorrectedBefore),
        _ => return Err(Status::INVALID_ARGUMENT),
    };
    match counter {
        0 => it.counter(since).map(u64::of),
        1 => Ok(u64::of(it.value(since)? + it.value(before)?)),
        _ => Err(Status::INVALID_ARGUMENT),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: Handle,
    kind: c_uint,
    counter: c_uint,
    count: *mut c_ulonglong,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetTotalEccErrors", device, count, |it| ecc_errors(it, kind, counter))
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryErrorCounter(
    device: Handle,
    kind: c_uint,
    counter: c_uint,
    location: c_uint,
    count: *mut c_ulonglong,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetMemoryErrorCounter", device, count, |it| match location {
            // All of them are in device memory.
            2 => ecc_errors(it, kind, counter),
            0 | 1 | 3..=7 => ecc_errors(it, kind, counter).map(|_| 0),
            _ => Err(Status::INVALID_ARGUMENT),
        })
    }
}

/// Returns a value of remapped rows, which devices since Ampere have.
pub(in super::super) fn rows(it: &Target, quantity: Quantity) -> Answer<u32> {
    if it.whole()?.architecture < Architecture::Ampere || it.instances().is_some() {
        return Err(Status::NOT_SUPPORTED);
    }
    it.number(quantity)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetRemappedRows(
    device: Handle,
    correctable: *mut c_uint,
    uncorrectable: *mut c_uint,
    is_pending: *mut c_uint,
    has_failed: *mut c_uint,
) -> u32 {
    let rest = [
        (uncorrectable, Quantity::RowsUncorrectable),
        (is_pending, Quantity::RowsPending),
        (has_failed, Quantity::RowsFailed),
    ];
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetRemappedRows", device, correctable, |it| {
            for (out, quantity) in rest {
                *place(out)? = rows(it, quantity)?;
            }
            rows(it, Quantity::RowsCorrectable)
        })
    }
}

/// Returns the addresses of retired pages.
fn retired_pages(it: &Target, cause: u32) -> Answer<Vec<c_ulonglong>> {
    let pages: u32 = it.number(Quantity::RetiredPages)?;
    match cause {
        // For several errors that were mended; all are for one that could not be.
        0 => Ok(Vec::new()),
        1 => Ok((1..=u64::from(pages)).map(|page| page << 16).collect()),
        _ => Err(Status::INVALID_ARGUMENT),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetRetiredPages(
    device: Handle,
    cause: c_uint,
    count: *mut c_uint,
    addresses: *mut c_ulonglong,
) -> u32 {
    Status::code(Target::find("nvmlDeviceGetRetiredPages", device).and_then(|target| {
        // SAFETY: see the module.
        let count = unsafe { place(count) }?;
        // SAFETY: see the module.
        unsafe { put_list(addresses, count, retired_pages(&target, cause)?) }
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetRetiredPages_v2(
    device: Handle,
    cause: c_uint,
    count: *mut c_uint,
    addresses: *mut c_ulonglong,
    timestamps: *mut c_ulonglong,
) -> u32 {
    Status::code(Target::find("nvmlDeviceGetRetiredPages_v2", device).and_then(|target| {
        // SAFETY: see the module.
        let count = unsafe { place(count) }?;
        let pages = retired_pages(&target, cause)?;
        let times = pages.iter().map(|_| 1_700_000_000).collect();
        let mut room = *count;
        // SAFETY: see the module; both arrays have room for as many.
        unsafe {
            put_list(addresses, count, pages)?;
            put_list(timestamps, &mut room, times)
        }
    }))
}

#[cfg_attr(not(old), unsafe(no_mangle))]
unsafe extern "C" fn nvmlDeviceGetSramEccErrorStatus(
    device: Handle,
    errors: *mut SramErrors,
) -> u32 {
    Status::code(Target::find("nvmlDeviceGetSramEccErrorStatus", device).and_then(|target| {
        // SAFETY: see the module.
        let out = unsafe { place(errors) }?;
        if out.version != version::<SramErrors>(1) {
            return Err(Status::ARGUMENT_VERSION_MISMATCH);
        }
        ecc_errors(&target, 0, 0)?;
        *out = SramErrors { version: out.version, ..SramErrors::default() };
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: Handle,
    count: c_int,
    values: *mut FieldValue,
) -> u32 {
    Status::code(Target::find("nvmlDeviceGetFieldValues", device).and_then(|target| {
        let count = usize::try_from(count).map_err(|_| Status::INVALID_ARGUMENT)?;
        if values.is_null() || count == 0 {
            return Err(Status::INVALID_ARGUMENT);
        }
        // SAFETY: see the module; there are `count` values.
        for value in unsafe { slice::from_raw_parts_mut(values, count) } {
            field::fill(&target, value);
        }
        Ok(())
    }))
}
