//! Memory and copies.

use std::ffi::{c_int, c_uint};

use super::driver::driver;
use super::error::{Code, INVALID_VALUE, answer, give};
use super::shared::abi::Out;

/// `cudaErrorInvalidMemcpyDirection`.
const INVALID_DIRECTION: Code = 21;

/// Asks for memory and gives the caller its address.
fn allocate<const OWN_STREAM: bool>(
    out: Out<u64>,
    take: impl FnOnce(&super::driver::Driver, &mut u64) -> Result<(), Code>,
) -> c_int {
    answer(|| {
        if out.is_null() {
            return Err(INVALID_VALUE);
        }
        let mut address = 0;
        take(driver::<OWN_STREAM>()?, &mut address)?;
        give(out, address)
    })
}

pub(super) extern "C" fn malloc(out: Out<u64>, bytes: usize) -> c_int {
    allocate::<false>(out, |driver, address| driver.alloc(address, bytes))
}

pub(super) extern "C" fn malloc_pitch(
    out: Out<u64>,
    pitch: Out<usize>,
    width: usize,
    height: usize,
) -> c_int {
    allocate::<false>(out, |driver, address| {
        let mut length = 0;
        driver.alloc_pitch(address, &mut length, width, height, 4)?;
        give(pitch, length)
    })
}

pub(super) extern "C" fn malloc_managed(out: Out<u64>, bytes: usize, flags: c_uint) -> c_int {
    allocate::<false>(out, |driver, address| driver.alloc_managed(address, bytes, flags))
}

pub(super) extern "C" fn malloc_async<const OWN_STREAM: bool>(
    out: Out<u64>,
    bytes: usize,
    stream: usize,
) -> c_int {
    allocate::<OWN_STREAM>(out, |driver, address| driver.alloc_async(address, bytes, stream))
}

pub(super) extern "C" fn malloc_host(out: Out<u64>, bytes: usize) -> c_int {
    host_alloc(out, bytes, 0)
}

pub(super) extern "C" fn host_alloc(out: Out<u64>, bytes: usize, flags: c_uint) -> c_int {
    allocate::<false>(out, |driver, address| driver.host_alloc(address, bytes, flags))
}

/// Freeing nothing is no error, and nothing that the driver hears of.
fn free_by(
    address: u64,
    free: impl FnOnce(&super::driver::Driver) -> Result<(), Code>,
) -> Result<(), Code> {
    let driver = driver::<false>()?;
    if address == 0 { Ok(()) } else { free(driver) }
}

pub(super) extern "C" fn free(address: u64) -> c_int {
    answer(|| free_by(address, |driver| driver.free(address)))
}

pub(super) extern "C" fn free_async<const OWN_STREAM: bool>(address: u64, stream: usize) -> c_int {
    answer(|| driver::<OWN_STREAM>()?.free_async(address, stream))
}

pub(super) extern "C" fn free_host(address: u64) -> c_int {
    answer(|| free_by(address, |driver| driver.free_host(address)))
}

pub(super) extern "C" fn register_host(address: u64, bytes: usize, flags: c_uint) -> c_int {
    answer(|| driver::<false>()?.register_host(address, bytes, flags))
}

pub(super) extern "C" fn unregister_host(address: u64) -> c_int {
    answer(|| driver::<false>()?.unregister_host(address))
}

pub(super) extern "C" fn info(free: Out<usize>, total: Out<usize>) -> c_int {
    answer(|| {
        let (mut left, mut all) = (0, 0);
        driver::<false>()?.memory(&mut left, &mut all)?;
        give(free, left)?;
        give(total, all)
    })
}

/// `cudaMemcpy(to, from, bytes, kind)`.
pub(super) extern "C" fn copy<const OWN_STREAM: bool>(
    to: u64,
    from: u64,
    bytes: usize,
    kind: c_int,
) -> c_int {
    answer(|| {
        let driver = driver::<OWN_STREAM>()?;
        match kind {
            1 => driver.to_device(to, from, bytes),
            2 => driver.to_host(to, from, bytes),
            3 => driver.within(to, from, bytes),
            0 | 4 => driver.unified(to, from, bytes),
            _ => Err(INVALID_DIRECTION),
        }
    })
}

pub(super) extern "C" fn copy_async<const OWN_STREAM: bool>(
    to: u64,
    from: u64,
    bytes: usize,
    kind: c_int,
    stream: usize,
) -> c_int {
    answer(|| {
        let driver = driver::<OWN_STREAM>()?;
        match kind {
            1 => driver.to_device_async(to, from, bytes, stream),
            2 => driver.to_host_async(to, from, bytes, stream),
            3 => driver.within_async(to, from, bytes, stream),
            0 | 4 => driver.unified_async(to, from, bytes, stream),
            _ => Err(INVALID_DIRECTION),
        }
    })
}

pub(super) extern "C" fn copy_peer(
    to: u64,
    _to_device: c_int,
    from: u64,
    _from_device: c_int,
    bytes: usize,
) -> c_int {
    answer(|| driver::<false>()?.peer(to, 0, from, 0, bytes))
}

pub(super) extern "C" fn copy_peer_async<const OWN_STREAM: bool>(
    to: u64,
    _to_device: c_int,
    from: u64,
    _from_device: c_int,
    bytes: usize,
    stream: usize,
) -> c_int {
    answer(|| driver::<OWN_STREAM>()?.peer_async(to, 0, from, 0, bytes, stream))
}

pub(super) extern "C" fn fill<const OWN_STREAM: bool>(
    to: u64,
    value: c_int,
    bytes: usize,
) -> c_int {
    answer(|| driver::<OWN_STREAM>()?.fill(to, value.cast_unsigned() & 0xff, bytes))
}

pub(super) extern "C" fn fill_async<const OWN_STREAM: bool>(
    to: u64,
    value: c_int,
    bytes: usize,
    stream: usize,
) -> c_int {
    let value = value.cast_unsigned() & 0xff;
    answer(|| driver::<OWN_STREAM>()?.fill_async(to, value, bytes, stream))
}
