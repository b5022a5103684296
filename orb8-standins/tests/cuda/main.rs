//! The stand-ins of CUDA and NCCL and the workload: their first bytes, what they export, that they
//! keep books as a driver does, and that the workload says what it did.

mod driver;
mod elf;
mod node;
mod ranks;
mod workload;
