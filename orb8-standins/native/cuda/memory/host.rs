//! The machine's memory, for devices to reach.

use std::alloc::Layout;
use std::ffi::c_uint;

use super::super::context;
use super::super::error::{
    Error, HOST_MEMORY_ALREADY_REGISTERED, HOST_MEMORY_NOT_REGISTERED, INVALID_VALUE,
    OUT_OF_MEMORY, answer, give,
};
use super::super::shared::abi::Out;
use super::super::shared::counts::PINNED;
use super::super::state::{COUNTS, driver};
use super::{Allocation, Kind, allocate, take_back};

/// The machine's pages.
const PAGE: usize = 4_096;

/// Takes memory of the machine; pages that nobody touches cost nothing.
pub(super) fn take_host(bytes: u64) -> Result<(u64, Layout), Error> {
    let bytes = usize::try_from(bytes).map_err(|_| OUT_OF_MEMORY)?;
    let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| OUT_OF_MEMORY)?;
    // SAFETY: the callers refuse a length of 0.
    let address = unsafe { std::alloc::alloc(layout) };
    if address.is_null() { Err(OUT_OF_MEMORY) } else { Ok((address as u64, layout)) }
}

pub(super) fn free_host(address: u64, layout: Layout) {
    // SAFETY: it was taken by `take_host` with this layout and has just left the table.
    unsafe { std::alloc::dealloc(address as *mut u8, layout) };
}

pub(in super::super) extern "C" fn host_alloc(
    out: Out<u64>,
    bytes: usize,
    flags: c_uint,
) -> c_uint {
    allocate(out, bytes as u64, PINNED, |driver| {
        let context = context::current()?;
        if flags > 7 {
            return Err(INVALID_VALUE);
        }
        let (address, layout) = take_host(bytes as u64)?;
        driver.memory().insert(address, bytes as u64, Kind::Pinned { layout, flags }, context.id);
        Ok(address)
    })
}

pub(in super::super) extern "C" fn alloc_host(out: Out<u64>, bytes: usize) -> c_uint {
    host_alloc(out, bytes, 0)
}

pub(in super::super) extern "C" fn register_host(
    address: u64,
    bytes: usize,
    flags: c_uint,
) -> c_uint {
    let code = answer(|| {
        let context = context::current()?;
        if address == 0 || bytes == 0 || flags > 0xf {
            return Err(INVALID_VALUE);
        }
        let mut memory = driver()?.memory();
        if memory.find(address).is_some() {
            return Err(HOST_MEMORY_ALREADY_REGISTERED);
        }
        memory.insert(address, bytes as u64, Kind::Registered, context.id);
        Ok(())
    });
    if code == 0 {
        COUNTS.allocated(PINNED, bytes as u64);
    } else {
        COUNTS.failed_allocation();
    }
    code
}

pub(in super::super) extern "C" fn free_host_memory(address: u64) -> c_uint {
    answer(|| take_back(address, INVALID_VALUE, |kind| matches!(kind, Kind::Pinned { .. })))
}

pub(in super::super) extern "C" fn unregister_host(address: u64) -> c_uint {
    answer(|| {
        let is_registered = |kind: &Kind| matches!(kind, Kind::Registered);
        take_back(address, HOST_MEMORY_NOT_REGISTERED, is_registered)
    })
}

pub(in super::super) extern "C" fn host_device_pointer(
    out: Out<u64>,
    address: u64,
    _flags: c_uint,
) -> c_uint {
    answer(|| {
        driver()?.memory().find(address).ok_or(INVALID_VALUE)?;
        give(out, address)
    })
}

pub(in super::super) extern "C" fn host_flags(out: Out<c_uint>, address: u64) -> c_uint {
    answer(|| match driver()?.memory().find(address) {
        Some((_, Allocation { kind: Kind::Pinned { flags, .. }, .. })) => give(out, *flags),
        Some((_, Allocation { kind: Kind::Registered, .. })) => give(out, 0),
        _ => Err(INVALID_VALUE),
    })
}
