//! Every exported function, with what does its work. All begin with `endbr64`, which the kernel
//! cannot emulate, and then save a register, as the real ones.

use super::shared::prologue::*;
use super::{collectives, communicator, driver, error};

#[cfg(target_arch = "x86_64")]
macro_rules! marked {
    ($name:ident) => {
        aligned!(
            "endbr64",
            ".if {is_short}",
            "pushq %rbp",
            "movq %rsp, %rbp",
            "popq %rbp",
            ".else",
            "pushq %r15",
            "popq %r15",
            ".endif",
            "jmp *{slot}(%rip)";
            is_short = const (stringify!($name).len() % 2),
            slot = sym slots::$name,
            options(att_syntax)
        )
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! marked {
    ($name:ident) => {
        framed!(slots::$name)
    };
}

export! { marked:
    ncclGetVersion => error::version;
    ncclGetErrorString => error::string;
    ncclGetLastError => communicator::last_error;
    ncclGetUniqueId => communicator::unique_id;
    ncclCommInitRank => communicator::init;
    ncclCommInitRankConfig => communicator::init_with_config;
    ncclCommInitAll => communicator::init_all;
    ncclCommSplit => communicator::split;
    ncclCommFinalize => communicator::finalize;
    ncclCommDestroy => communicator::destroy;
    ncclCommAbort => communicator::abort;
    ncclCommGetAsyncError => communicator::async_error;
    ncclCommCount => communicator::count;
    ncclCommUserRank => communicator::rank;
    ncclCommCuDevice => communicator::device;
    ncclMemAlloc => driver::mem_alloc;
    ncclMemFree => driver::mem_free;
    ncclGroupStart => collectives::group_start;
    ncclGroupEnd => collectives::group_end;
    ncclAllReduce => collectives::reduce_all;
    ncclReduceScatter => collectives::reduce_all;
    ncclAllGather => collectives::gather_all;
    ncclAlltoAll => collectives::gather_all;
    ncclBroadcast => collectives::broadcast;
    ncclBcast => collectives::broadcast_in_place;
    ncclReduce => collectives::reduce;
    ncclSend => collectives::exchange;
    ncclRecv => collectives::exchange;
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::EXPORTS;
    use crate::shared::prologue::first_bytes;

    #[test]
    fn all_begin_as_the_real_ones() {
        for (name, slot) in EXPORTS {
            let bytes = first_bytes(slot);
            assert_eq!(bytes[..4], [0xf3, 0x0f, 0x1e, 0xfa], "{name}");
            assert!(bytes[4..6] == [0x41, 0x57] || bytes[4] == 0x55, "{name}: {bytes:x?}");
        }
    }
}
