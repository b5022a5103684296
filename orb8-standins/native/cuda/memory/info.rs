//! What is known of memory.

use std::ffi::{c_int, c_uint};

use super::super::context;
use super::super::error::{INVALID_VALUE, NOT_FOUND, NOT_SUPPORTED, answer, give};
use super::super::shared::abi::Out;
use super::super::state::driver;
use super::Kind;

pub(in super::super) extern "C" fn info(free: Out<usize>, total: Out<usize>) -> c_uint {
    answer(|| {
        let (left, all) = driver()?.device(context::current()?.device)?.memory();
        give(free, usize::try_from(left).map_err(|_| INVALID_VALUE)?)?;
        give(total, usize::try_from(all).map_err(|_| INVALID_VALUE)?)
    })
}

pub(in super::super) extern "C" fn address_range(
    base: Out<u64>,
    size: Out<usize>,
    address: u64,
) -> c_uint {
    answer(|| {
        let memory = driver()?.memory();
        let (start, found) = memory.find(address).ok_or(NOT_FOUND)?;
        if !base.is_null() {
            give(base, start)?;
        }
        if size.is_null() {
            return Ok(());
        }
        give(size, usize::try_from(found.bytes).map_err(|_| INVALID_VALUE)?)
    })
}

/// `cuPointerGetAttribute`: what kind of memory it is, whose, and where it begins.
pub(in super::super) extern "C" fn pointer_attribute(
    out: Out<u64>,
    attribute: c_uint,
    address: u64,
) -> c_uint {
    answer(|| {
        let memory = driver()?.memory();
        let (start, found) = memory.find(address).ok_or(INVALID_VALUE)?;
        let (is_host, device) = match found.kind {
            Kind::Device { device, .. } | Kind::Managed { device, .. } => (false, device),
            Kind::Pinned { .. } | Kind::Registered => (true, 0),
            Kind::Reserved { .. } => return Err(INVALID_VALUE),
            Kind::Mapped { .. } => (false, 0),
        };
        // The attributes have several widths: what the caller has room for is what is written.
        let narrow: Out<c_int> = out.cast();
        let put = match attribute {
            2 => narrow.put(if is_host { 1 } else { 2 }),
            3 | 4 => out.put(address),
            8 => narrow.put(matches!(found.kind, Kind::Managed { .. }).into()),
            9 => narrow.put(device),
            11 => out.put(start),
            12 => out.put(found.bytes),
            _ => return Err(NOT_SUPPORTED),
        };
        put.ok_or(INVALID_VALUE)
    })
}
