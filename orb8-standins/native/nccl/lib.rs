//! A stand-in for `libnccl.so.2`: the real one's functions with its first instructions. Ranks find
//! each other by the unique id, in one process or in several on one machine, and a collective is done
//! when all of them have asked for it: a rank that does not leaves the others' streams waiting, as
//! with the real one. No data is moved.
//!
//! Each collective, or all of a group together, is one launch of a kernel.

#[cfg(test)]
use crate::shared;
#[cfg(not(test))]
#[path = "../shared/lib.rs"]
mod shared;

mod collectives;
mod communicator;
mod driver;
mod error;
mod exports;
mod meeting;
