//! The library's C functions, as nvml.h has them.
//!
//! What all of them share: pointers are null, which is answered with an error, or point to what the
//! header says, for as long as the call lasts. That is the caller's to see to, and what the `SAFETY`
//! comments refer to.

mod device;
pub(super) mod errors;
mod events;
pub(super) mod links;
pub(super) mod load;
mod mig;
mod processes;
mod profiling;
mod system;

use std::ffi::{CStr, c_char};
use std::slice;

use super::status::{Answer, Status};
use super::target::{Handle, Target};

/// Tells a device's value where the caller wants it.
///
/// # Safety
/// See the module.
unsafe fn tell<T>(
    function: &'static str,
    device: Handle,
    out: *mut T,
    value: impl FnOnce(&Target) -> Answer<T>,
) -> u32 {
    Status::code(Target::find(function, device).and_then(|target| {
        // SAFETY: see the module.
        let out = unsafe { place(out) }?;
        *out = value(&target)?;
        Ok(())
    }))
}

/// Tells a device's text where the caller wants it.
///
/// # Safety
/// See the module; there is room for `length` characters.
unsafe fn tell_text(
    function: &'static str,
    device: Handle,
    out: *mut c_char,
    length: u32,
    value: impl FnOnce(&Target) -> Answer<String>,
) -> u32 {
    Status::code(Target::find(function, device).and_then(|target| {
        // SAFETY: see the module.
        unsafe { put_text(out, length, &value(&target)?) }
    }))
}

/// Returns where a caller wants something.
///
/// # Safety
/// See the module.
unsafe fn place<'a, T>(out: *mut T) -> Answer<&'a mut T> {
    // SAFETY: it is null or points to a `T` that is the caller's and nobody else's during the call;
    // all `T` here are integers and structures of them, which have no invalid bits.
    unsafe { out.as_mut() }.ok_or(Status::INVALID_ARGUMENT)
}

/// Writes a text with its NUL.
///
/// # Safety
/// See the module; there is room for `length` characters.
unsafe fn put_text(out: *mut c_char, length: u32, text: &str) -> Answer<()> {
    if out.is_null() {
        return Err(Status::INVALID_ARGUMENT);
    }
    if text.len() >= length as usize {
        return Err(Status::INSUFFICIENT_SIZE);
    }
    // SAFETY: there is room for `length` characters, which is more than the text has.
    let room = unsafe { slice::from_raw_parts_mut(out.cast::<u8>(), text.len() + 1) };
    room[..text.len()].copy_from_slice(text.as_bytes());
    room[text.len()] = 0;
    Ok(())
}

/// Reads a caller's text.
///
/// # Safety
/// See the module; it ends with a NUL.
unsafe fn text<'a>(text: *const c_char) -> Answer<&'a str> {
    if text.is_null() {
        return Err(Status::INVALID_ARGUMENT);
    }
    // SAFETY: it is not null, and the caller's text ends with a NUL.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| Status::INVALID_ARGUMENT)
}

/// Writes a list into the caller's array: how long it is goes into `count`, which has how long the
/// array is before. What has too little room is told how much it takes.
///
/// # Safety
/// See the module; there is room for `count` items.
unsafe fn put_list<T>(out: *mut T, count: &mut u32, list: Vec<T>) -> Answer<()> {
    let room = std::mem::replace(count, list.len() as u32);
    if list.is_empty() {
        return Ok(());
    }
    if (room as usize) < list.len() {
        return Err(Status::INSUFFICIENT_SIZE);
    }
    if out.is_null() {
        return Err(Status::INVALID_ARGUMENT);
    }
    for (index, item) in list.into_iter().enumerate() {
        // SAFETY: there is room for `count` items, of which there are no fewer than in the list.
        unsafe { out.add(index).write(item) };
    }
    Ok(())
}

/// Functions that tell one value of a device: `nvmlReturn_t name(nvmlDevice_t, type *)`. An old library
/// does not export those that are `newer`.
macro_rules! getters {
    (newer $($rows:tt)*) => { getters! { [cfg_attr(not(old), unsafe(no_mangle))] $($rows)* } };
    ($name:ident $($rows:tt)*) => { getters! { [unsafe(no_mangle)] $name $($rows)* } };
    ($export:tt $($name:ident($out:ty) $value:expr;)*) => { $(
        #$export
        unsafe extern "C" fn $name(device: Handle, out: *mut $out) -> u32 {
            // SAFETY: see the module.
            unsafe { super::tell(stringify!($name), device, out, $value) }
        }
    )* };
}
use getters;
