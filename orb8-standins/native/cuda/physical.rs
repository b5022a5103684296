//! Physical memory that is mapped at addresses which were reserved before.

use std::ffi::{c_int, c_uint, c_ulonglong};
use std::sync::{Mutex, PoisonError};

use super::context;
use super::error::{Error, INVALID_VALUE, OUT_OF_MEMORY, answer, give};
use super::memory::{GRANULARITY, Kind};
use super::shared::abi::{In, Out};
use super::shared::counts::PHYSICAL;
use super::state::{COUNTS, Driver, driver};

/// A piece of a device's memory.
pub(super) struct Physical {
    device: c_int,
    bytes: u64,
    uses: Mutex<Uses>,
}

/// Who has it: it is given back when nobody does.
struct Uses {
    is_held: bool,
    mappings: u32,
}

/// `CUmemAllocationProp`, up to what is looked at.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Properties {
    kind: c_uint,
    handle_types: c_uint,
    location_type: c_uint,
    location_id: c_int,
}

pub(super) extern "C" fn granularity(
    out: Out<usize>,
    _properties: In<Properties>,
    _option: c_uint,
) -> c_uint {
    answer(|| {
        driver()?;
        give(out, GRANULARITY as usize)
    })
}

pub(super) extern "C" fn create(
    out: Out<u64>,
    bytes: usize,
    properties: In<Properties>,
    flags: c_ulonglong,
) -> c_uint {
    let bytes = bytes as u64;
    let code = answer(|| {
        let driver = driver()?;
        let properties = properties.get().ok_or(INVALID_VALUE)?;
        // Pinned, on a device: the only kind there is.
        let is_known = properties.kind == 1 && properties.location_type == 1 && flags == 0;
        if !is_known || bytes == 0 || !bytes.is_multiple_of(GRANULARITY) || out.is_null() {
            return Err(INVALID_VALUE);
        }
        let device = properties.location_id;
        driver.device(device)?.take(bytes)?;
        let uses = Mutex::new(Uses { is_held: true, mappings: 0 });
        give(out, driver.physical.add(Physical { device, bytes, uses }).0 as u64)
    });
    if code == 0 {
        COUNTS.allocated(PHYSICAL, bytes);
    } else {
        COUNTS.failed_allocation();
    }
    code
}

pub(super) extern "C" fn release(handle: u64) -> c_uint {
    answer(|| {
        let driver = driver()?;
        let freed = change(driver, handle as usize, |uses| {
            let was_held = std::mem::replace(&mut uses.is_held, false);
            was_held.then_some(()).ok_or(INVALID_VALUE)
        });
        match freed {
            Ok(bytes) => COUNTS.freed(PHYSICAL, bytes),
            Err(_) => COUNTS.refused_free(),
        }
        freed.map(|_| ())
    })
}

/// Changes who has it, gives it back where nobody does any more, and returns its length.
fn change(
    driver: &Driver,
    handle: usize,
    change: impl FnOnce(&mut Uses) -> Result<(), Error>,
) -> Result<u64, Error> {
    let physical = driver.physical.get(handle).map_err(|_| INVALID_VALUE)?;
    let mut uses = physical.uses.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut uses)?;
    if !uses.is_held && uses.mappings == 0 {
        driver.physical.remove(handle)?;
        driver.device(physical.device)?.give_back(physical.bytes);
    }
    Ok(physical.bytes)
}

pub(super) extern "C" fn reserve(
    out: Out<u64>,
    bytes: usize,
    alignment: usize,
    _address: u64,
    flags: c_ulonglong,
) -> c_uint {
    answer(|| {
        let bytes = bytes as u64;
        let is_odd = bytes == 0 || !bytes.is_multiple_of(GRANULARITY) || flags != 0;
        if is_odd || out.is_null() || !(alignment == 0 || alignment.is_power_of_two()) {
            return Err(INVALID_VALUE);
        }
        let context = context::current().map_or(0, |context| context.id);
        let mut memory = driver()?.memory();
        let alignment = GRANULARITY.max(alignment as u64);
        let address = memory.addresses(bytes, alignment).ok_or(OUT_OF_MEMORY)?;
        memory.insert(address, bytes, Kind::Reserved { reservation: address }, context);
        give(out, address)
    })
}

pub(super) extern "C" fn free_addresses(address: u64, bytes: usize) -> c_uint {
    answer(|| {
        let mut memory = driver()?.memory();
        let (start, found) = memory.find(address).ok_or(INVALID_VALUE)?;
        let is_whole = start == address && found.bytes == bytes as u64;
        if !is_whole || found.reserved() != Some(address) {
            return Err(INVALID_VALUE);
        }
        memory.remove(address, |_| true);
        memory.spare(address, bytes as u64, GRANULARITY);
        Ok(())
    })
}

/// Maps a whole handle at reserved addresses: what is left of them on both sides stays reserved.
pub(super) extern "C" fn map(
    address: u64,
    bytes: usize,
    offset: usize,
    handle: u64,
    flags: c_ulonglong,
) -> c_uint {
    answer(|| {
        let driver = driver()?;
        let (bytes, handle) = (bytes as u64, handle as usize);
        let physical = driver.physical.get(handle).map_err(|_| INVALID_VALUE)?;
        if offset != 0 || flags != 0 || bytes != physical.bytes {
            return Err(INVALID_VALUE);
        }
        let mut memory = driver.memory();
        let (start, found) = memory.find(address).ok_or(INVALID_VALUE)?;
        let reservation = found.reserved().ok_or(INVALID_VALUE)?;
        let end = start + found.bytes;
        if end - address < bytes {
            return Err(INVALID_VALUE);
        }
        change(driver, handle, |uses| {
            uses.mappings += 1;
            Ok(())
        })?;
        memory.remove(start, |_| true);
        let context = context::current().map_or(0, |context| context.id);
        let mut reserve = |start: u64, end: u64| {
            if start < end {
                memory.insert(start, end - start, Kind::Reserved { reservation }, context);
            }
        };
        reserve(start, address);
        reserve(address + bytes, end);
        memory.insert(address, bytes, Kind::Mapped { handle, reservation }, context);
        Ok(())
    })
}

/// Unmaps one mapping; its addresses are reserved again, as one with those next to them.
pub(super) extern "C" fn unmap(address: u64, bytes: usize) -> c_uint {
    answer(|| {
        let driver = driver()?;
        let mut memory = driver.memory();
        let (start, found) = memory.find(address).ok_or(INVALID_VALUE)?;
        let (handle, reservation) = found.mapped().ok_or(INVALID_VALUE)?;
        if start != address || found.bytes != bytes as u64 {
            return Err(INVALID_VALUE);
        }
        memory.remove(address, |_| true);
        let (mut start, mut end) = (address, address + bytes as u64);
        let is_its = |kind: &Kind| matches!(kind, Kind::Reserved { reservation: other } if *other == reservation);
        let before = memory.find(address - 1).map(|(start, _)| start);
        if let Some(before) = before
            && memory.remove(before, is_its).is_some()
        {
            start = before;
        }
        if let Some(after) = memory.remove(end, is_its) {
            end += after.bytes;
        }
        let context = context::current().map_or(0, |context| context.id);
        memory.insert(start, end - start, Kind::Reserved { reservation }, context);
        change(driver, handle, |uses| {
            uses.mappings -= 1;
            Ok(())
        })
        .map(|_| ())
    })
}
