//! What functions answer.

use std::ffi::{c_char, c_uint};

use super::shared::abi::Out;

/// A `CUresult` other than success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Error(pub(super) c_uint);

pub(super) const INVALID_VALUE: Error = Error(1);
pub(super) const OUT_OF_MEMORY: Error = Error(2);
pub(super) const NOT_INITIALIZED: Error = Error(3);
pub(super) const NO_DEVICE: Error = Error(100);
pub(super) const INVALID_DEVICE: Error = Error(101);
pub(super) const INVALID_IMAGE: Error = Error(200);
pub(super) const INVALID_CONTEXT: Error = Error(201);
pub(super) const FILE_NOT_FOUND: Error = Error(301);
pub(super) const INVALID_HANDLE: Error = Error(400);
pub(super) const ILLEGAL_STATE: Error = Error(401);
pub(super) const NOT_FOUND: Error = Error(500);
pub(super) const NOT_READY: Error = Error(600);
pub(super) const HOST_MEMORY_ALREADY_REGISTERED: Error = Error(712);
pub(super) const HOST_MEMORY_NOT_REGISTERED: Error = Error(713);
pub(super) const NOT_SUPPORTED: Error = Error(801);
pub(super) const STREAM_CAPTURE_UNSUPPORTED: Error = Error(900);
pub(super) const STREAM_CAPTURE_INVALIDATED: Error = Error(901);
pub(super) const UNKNOWN: Error = Error(999);

/// Codes with what `cuGetErrorName` and `cuGetErrorString` say, each ended by a zero.
const TEXTS: [(c_uint, &str, &str); 20] = [
    (0, "CUDA_SUCCESS\0", "no error\0"),
    (1, "CUDA_ERROR_INVALID_VALUE\0", "invalid argument\0"),
    (2, "CUDA_ERROR_OUT_OF_MEMORY\0", "out of memory\0"),
    (3, "CUDA_ERROR_NOT_INITIALIZED\0", "initialization error\0"),
    (4, "CUDA_ERROR_DEINITIALIZED\0", "driver shutting down\0"),
    (100, "CUDA_ERROR_NO_DEVICE\0", "no CUDA-capable device is detected\0"),
    (101, "CUDA_ERROR_INVALID_DEVICE\0", "invalid device ordinal\0"),
    (200, "CUDA_ERROR_INVALID_IMAGE\0", "device kernel image is invalid\0"),
    (201, "CUDA_ERROR_INVALID_CONTEXT\0", "invalid device context\0"),
    (301, "CUDA_ERROR_FILE_NOT_FOUND\0", "file not found\0"),
    (400, "CUDA_ERROR_INVALID_HANDLE\0", "invalid resource handle\0"),
    (401, "CUDA_ERROR_ILLEGAL_STATE\0", "the operation cannot be performed in the present state\0"),
    (500, "CUDA_ERROR_NOT_FOUND\0", "named symbol not found\0"),
    (600, "CUDA_ERROR_NOT_READY\0", "device not ready\0"),
    (
        712,
        "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED\0",
        "part or all of the requested memory range is already mapped\0",
    ),
    (
        713,
        "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED\0",
        "pointer does not correspond to a registered memory region\0",
    ),
    (801, "CUDA_ERROR_NOT_SUPPORTED\0", "operation not supported\0"),
    (
        900,
        "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED\0",
        "operation not permitted when stream is capturing\0",
    ),
    (
        901,
        "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED\0",
        "operation failed due to a previous error during capture\0",
    ),
    (999, "CUDA_ERROR_UNKNOWN\0", "unknown error\0"),
];

/// Turns a function's outcome into its answer.
pub(super) fn answer(call: impl FnOnce() -> Result<(), Error>) -> c_uint {
    match call() {
        Ok(()) => 0,
        Err(Error(code)) => code,
    }
}

/// Gives the caller a value.
pub(super) fn give<T>(out: Out<T>, value: T) -> Result<(), Error> {
    out.put(value).ok_or(INVALID_VALUE)
}

pub(super) extern "C" fn name(code: c_uint, out: Out<*const c_char>) -> c_uint {
    answer(|| text(code, out, |row| row.1))
}

pub(super) extern "C" fn string(code: c_uint, out: Out<*const c_char>) -> c_uint {
    answer(|| text(code, out, |row| row.2))
}

fn text(
    code: c_uint,
    out: Out<*const c_char>,
    which: fn(&(c_uint, &'static str, &'static str)) -> &'static str,
) -> Result<(), Error> {
    let found = TEXTS.iter().find(|row| row.0 == code);
    let text = found.map_or(std::ptr::null(), |row| which(row).as_ptr().cast());
    give(out, text)?;
    found.map(|_| ()).ok_or(INVALID_VALUE)
}
