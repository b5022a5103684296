//! What functions answer.

use std::ffi::{c_char, c_int};

use super::shared::abi::Out;

/// An `ncclResult_t` that is not success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Error(pub(super) c_int);

pub(super) const UNHANDLED_CUDA: Error = Error(1);
pub(super) const SYSTEM: Error = Error(2);
pub(super) const INVALID_ARGUMENT: Error = Error(4);
pub(super) const INVALID_USAGE: Error = Error(5);
pub(super) const REMOTE: Error = Error(6);

/// What `ncclGetErrorString` says, by the code.
const TEXTS: [&str; 8] = [
    "no error\0",
    "unhandled cuda error (run with NCCL_DEBUG=INFO for details)\0",
    "unhandled system error (run with NCCL_DEBUG=INFO for details)\0",
    "internal error - please report this issue to the NCCL developers\0",
    "invalid argument (run with NCCL_DEBUG=WARN for details)\0",
    "invalid usage (run with NCCL_DEBUG=WARN for details)\0",
    "remote process exited or there was a network error\0",
    "NCCL operation in progress\0",
];

/// Turns a function's outcome into its answer.
pub(super) fn answer(call: impl FnOnce() -> Result<(), Error>) -> c_int {
    match call() {
        Ok(()) => 0,
        Err(Error(code)) => code,
    }
}

/// Gives the caller a value.
pub(super) fn give<T>(out: Out<T>, value: T) -> Result<(), Error> {
    out.put(value).ok_or(INVALID_ARGUMENT)
}

pub(super) extern "C" fn string(code: c_int) -> *const c_char {
    let text = usize::try_from(code).ok().and_then(|code| TEXTS.get(code));
    text.unwrap_or(&"unknown result code\0").as_ptr().cast()
}

pub(super) extern "C" fn version(out: Out<c_int>) -> c_int {
    answer(|| give(out, 22_907))
}
