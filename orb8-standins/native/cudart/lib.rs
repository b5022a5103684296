//! A stand-in for `libcudart.so.12`, the CUDA runtime: the real one's functions with its first
//! instruction, each of which comes down to functions of `libcuda.so.1`, which it finds as the real
//! one does: by `cuGetProcAddress`.
//!
//! Its first call makes the device's primary context; a kernel's first launch loads the library that
//! the kernel is in.

#[cfg(test)]
use crate::shared;
#[cfg(not(test))]
#[path = "../shared/lib.rs"]
mod shared;

mod driver;
mod error;
mod exports;
mod kernels;
mod memory;
mod runtime;
mod streams;
