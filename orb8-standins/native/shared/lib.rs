//! What the stand-ins of CUDA and NCCL and the workload have in common.

pub(crate) mod abi;
pub(crate) mod counts;
pub(crate) mod library;
pub(crate) mod prologue;
