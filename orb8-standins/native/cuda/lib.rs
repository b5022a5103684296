//! A stand-in for `libcuda.so.1`, the CUDA driver's library: the real one's functions, with its C ABI
//! and its first instructions, over devices that exist only in the process.
//!
//! It keeps books as a driver does: memory that runs out, pointers that are known or not, streams with
//! work that takes its time, graphs, modules. What device memory holds is not kept. See `config` for
//! what can be chosen.
//!
//! `--cfg foreign` builds it with other first instructions, `--cfg partial` without what came to the
//! real one after CUDA 10.

#[cfg(test)]
use crate::shared;
#[cfg(not(test))]
#[path = "../shared/lib.rs"]
mod shared;

mod config;
mod context;
mod copies;
mod device;
mod entry;
mod error;
mod event;
mod exports;
mod graph;
mod launch;
mod memory;
mod module;
mod physical;
mod prologue;
mod registry;
mod state;
mod stream;
mod timeline;
