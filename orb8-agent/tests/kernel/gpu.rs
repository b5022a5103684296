//! The probes at CUDA's and NCCL's functions, compared with what a program says that it called.
//!
//! The libraries and the program are `orb8-standins`': the same first instructions as the real ones.

mod counts;
mod libraries;
mod limits;
mod nccl;
mod watch;
mod workload;

use watch::Watch;
use workload::{Node, Workload};

use super::support::turn_beside;
