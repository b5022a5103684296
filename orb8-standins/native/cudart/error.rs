//! What functions answer, and what the last one that failed answered.

use std::cell::Cell;
use std::ffi::{c_char, c_int};

use super::shared::abi::Out;
use super::shared::library::MISSING;

/// A `cudaError_t` that is not success. Its numbers are the driver's, where both have the same error.
pub(super) type Code = c_int;

pub(super) const INVALID_VALUE: Code = 1;
pub(super) const NEWER_DRIVER: Code = 36;
pub(super) const INVALID_FUNCTION: Code = 98;

const TEXTS: [(Code, &str, &str); 12] = [
    (0, "cudaSuccess\0", "no error\0"),
    (1, "cudaErrorInvalidValue\0", "invalid argument\0"),
    (2, "cudaErrorMemoryAllocation\0", "out of memory\0"),
    (3, "cudaErrorInitializationError\0", "initialization error\0"),
    (4, "cudaErrorCudartUnloading\0", "driver shutting down\0"),
    (
        35,
        "cudaErrorInsufficientDriver\0",
        "CUDA driver version is insufficient for CUDA runtime version\0",
    ),
    (
        36,
        "cudaErrorCallRequiresNewerDriver\0",
        "API call is not supported in the installed CUDA driver\0",
    ),
    (98, "cudaErrorInvalidDeviceFunction\0", "invalid device function\0"),
    (100, "cudaErrorNoDevice\0", "no CUDA-capable device is detected\0"),
    (101, "cudaErrorInvalidDevice\0", "invalid device ordinal\0"),
    (400, "cudaErrorInvalidResourceHandle\0", "invalid resource handle\0"),
    (600, "cudaErrorNotReady\0", "device not ready\0"),
];

thread_local! {
    static LAST: Cell<Code> = const { Cell::new(0) };
}

/// Turns a function's outcome into its answer.
pub(super) fn answer(call: impl FnOnce() -> Result<(), Code>) -> c_int {
    match call() {
        Ok(()) => 0,
        Err(code) => {
            let code = if code == MISSING { NEWER_DRIVER } else { code };
            LAST.set(code);
            code
        }
    }
}

/// Gives the caller a value.
pub(super) fn give<T>(out: Out<T>, value: T) -> Result<(), Code> {
    out.put(value).ok_or(INVALID_VALUE)
}

pub(super) extern "C" fn last() -> c_int {
    LAST.replace(0)
}

pub(super) extern "C" fn peek() -> c_int {
    LAST.get()
}

pub(super) extern "C" fn name(code: c_int) -> *const c_char {
    text(code, |row| row.1, "unrecognized error code\0")
}

pub(super) extern "C" fn string(code: c_int) -> *const c_char {
    text(code, |row| row.2, "unrecognized error code\0")
}

fn text(
    code: c_int,
    which: fn(&(Code, &'static str, &'static str)) -> &'static str,
    other: &'static str,
) -> *const c_char {
    let found = TEXTS.iter().find(|row| row.0 == code);
    found.map_or(other, which).as_ptr().cast()
}
