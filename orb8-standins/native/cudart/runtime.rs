//! Devices and versions.

use std::ffi::c_int;

use super::driver::{self, VERSION};
use super::error::{answer, give};
use super::shared::abi::Out;

pub(super) extern "C" fn device_count(out: Out<c_int>) -> c_int {
    answer(|| {
        let mut count = 0;
        driver::without_context()?.device_count(&mut count)?;
        give(out, count)
    })
}

pub(super) extern "C" fn device(out: Out<c_int>) -> c_int {
    answer(|| driver::device(out))
}

pub(super) extern "C" fn set_device(device: c_int) -> c_int {
    answer(|| driver::choose(device))
}

pub(super) extern "C" fn reset() -> c_int {
    answer(driver::reset)
}

pub(super) extern "C" fn driver_version(out: Out<c_int>) -> c_int {
    answer(|| {
        let mut version = 0;
        driver::without_context()?.driver_version(&mut version)?;
        give(out, version)
    })
}

pub(super) extern "C" fn runtime_version(out: Out<c_int>) -> c_int {
    answer(|| give(out, VERSION))
}
