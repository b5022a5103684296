//! Libraries and servers that look like a GPU node's, so that what watches GPUs can be tested and
//! shown without one.
//!
//! ```text
//! scenarios/*.scenario ─▶ libnvidia-ml.so.1 ◀── agent, nvidia-smi-like tools
//! gpu-workload ─▶ libcudart.so.12 ─▶ libcuda.so.1 ◀── uprobes
//!            └──▶ libnccl.so.2
//! ```
//! The libraries have the C ABI of the real ones. They are compiled with this crate and are a part of
//! it; [`install`] writes them into a folder. [`scenarios`] says what NVML's stand-in can play. The
//! README tells all about them.

pub mod dcgm;
mod install;
pub mod pod_resources;
pub mod ras;
mod scenario;
mod serving;
pub mod tpu;

pub use install::{ENVIRONMENT, Paths, install};
pub use scenario::{Scenario, scenario, scenarios};

// The libraries are compiled by `build.rs`; here they are only looked at, by the tools that look at
// modules and by their own tests.
#[cfg(test)]
#[path = "../native/cuda/lib.rs"]
mod cuda;
#[cfg(test)]
#[path = "../native/cudart/lib.rs"]
mod cudart;
#[cfg(test)]
#[path = "../native/nccl/lib.rs"]
mod nccl;
#[cfg(test)]
#[path = "../native/nvml/lib.rs"]
mod nvml;
#[cfg(test)]
#[path = "../native/shared/lib.rs"]
mod shared;
#[cfg(test)]
#[path = "../native/workload/main.rs"]
mod workload;
