//! Functions that are watched, and how.
//!
//! A call passes through several layers, and is counted at one: the driver's for everything that is
//! done with a device, since all others come down to it, and NCCL's for collectives. The runtime
//! library's own functions are not probed: it opens the driver library before it does anything.

use super::governor::Group;
use super::libraries::Kind;

/// A function, under whatever variant of its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    /// Its name without the suffix of a version or of the default stream that is meant.
    pub name: &'static str,
    /// The program for when it is called.
    pub program: &'static str,
    /// Whether it is followed to its return.
    pub returns: bool,
    /// What it is watched with; `None` for what is always watched.
    pub group: Option<Group>,
    /// Whether every release of the library has it.
    pub is_expected: bool,
}

impl Function {
    /// Counted when it is called.
    const fn counted(group: Group, name: &'static str, program: &'static str) -> Self {
        Self { name, program, returns: false, group: Some(group), is_expected: true }
    }

    /// Followed to its return.
    const fn timed(group: Group, name: &'static str, program: &'static str) -> Self {
        Self { returns: true, ..Self::counted(group, name, program) }
    }

    /// Rare, and watched all the time.
    const fn rare(name: &'static str, program: &'static str) -> Self {
        Self { name, program, returns: true, group: None, is_expected: true }
    }

    /// Some releases do not have it.
    const fn newer(self) -> Self {
        Self { is_expected: false, ..self }
    }
}

use Group::{Allocations, Collectives, Copies, Launches, Waits};

const DRIVER: &[Function] = &[
    Function::counted(Launches, "cuLaunchKernel", "gpu_launch"),
    Function::counted(Launches, "cuLaunchKernelEx", "gpu_launch").newer(),
    Function::counted(Launches, "cuLaunchCooperativeKernel", "gpu_launch"),
    Function::counted(Launches, "cuLaunchCooperativeKernelMultiDevice", "gpu_launch_many").newer(),
    Function::counted(Launches, "cuLaunch", "gpu_launch").newer(),
    Function::counted(Launches, "cuLaunchGrid", "gpu_launch").newer(),
    Function::counted(Launches, "cuLaunchGridAsync", "gpu_launch").newer(),
    Function::counted(Launches, "cuGraphLaunch", "gpu_graph"),
    Function::timed(Allocations, "cuMemAlloc", "gpu_alloc"),
    Function::timed(Allocations, "cuMemAllocPitch", "gpu_alloc_pitch"),
    Function::timed(Allocations, "cuMemAllocAsync", "gpu_alloc_pool"),
    Function::timed(Allocations, "cuMemAllocFromPoolAsync", "gpu_alloc_pool"),
    Function::timed(Allocations, "cuMemCreate", "gpu_create"),
    Function::timed(Allocations, "cuMemAllocManaged", "gpu_alloc_man"),
    Function::timed(Allocations, "cuMemHostAlloc", "gpu_alloc_host"),
    Function::timed(Allocations, "cuMemAllocHost", "gpu_alloc_host"),
    Function::timed(Allocations, "cuMemHostRegister", "gpu_register"),
    Function::counted(Allocations, "cuMemFree", "gpu_free"),
    Function::counted(Allocations, "cuMemFreeAsync", "gpu_free_pool"),
    Function::counted(Allocations, "cuMemRelease", "gpu_release"),
    Function::counted(Allocations, "cuMemFreeHost", "gpu_free_host"),
    Function::counted(Allocations, "cuMemHostUnregister", "gpu_free_host"),
    Function::counted(Copies, "cuMemcpyHtoDAsync", "gpu_htod"),
    Function::timed(Copies, "cuMemcpyHtoD", "gpu_htod_w"),
    Function::counted(Copies, "cuMemcpyDtoHAsync", "gpu_dtoh"),
    Function::timed(Copies, "cuMemcpyDtoH", "gpu_dtoh_w"),
    Function::counted(Copies, "cuMemcpyDtoDAsync", "gpu_dtod"),
    Function::timed(Copies, "cuMemcpyDtoD", "gpu_dtod_w"),
    Function::counted(Copies, "cuMemcpyAsync", "gpu_copy"),
    Function::timed(Copies, "cuMemcpy", "gpu_copy_w"),
    Function::counted(Copies, "cuMemcpyPeerAsync", "gpu_peer"),
    Function::timed(Copies, "cuMemcpyPeer", "gpu_peer_w"),
    Function::counted(Copies, "cuMemcpyHtoAAsync", "gpu_htoa"),
    Function::timed(Copies, "cuMemcpyHtoA", "gpu_htoa_w"),
    Function::counted(Copies, "cuMemcpyAtoHAsync", "gpu_atoh"),
    Function::timed(Copies, "cuMemcpyAtoH", "gpu_atoh_w"),
    Function::timed(Copies, "cuMemcpyDtoA", "gpu_dtoa_w"),
    Function::timed(Copies, "cuMemcpyAtoD", "gpu_dtoa_w"),
    Function::timed(Copies, "cuMemcpyAtoA", "gpu_atoa_w"),
    Function::counted(Copies, "cuMemcpy2DAsync", "gpu_copy2d"),
    Function::timed(Copies, "cuMemcpy2D", "gpu_copy2d_w"),
    Function::timed(Copies, "cuMemcpy2DUnaligned", "gpu_copy2d_w"),
    Function::counted(Copies, "cuMemcpy3DAsync", "gpu_copy3d"),
    Function::timed(Copies, "cuMemcpy3D", "gpu_copy3d_w"),
    Function::counted(Copies, "cuMemcpy3DPeerAsync", "gpu_peer3d"),
    Function::timed(Copies, "cuMemcpy3DPeer", "gpu_peer3d_w"),
    Function::counted(Copies, "cuMemcpyBatchAsync", "gpu_batch").newer(),
    Function::timed(Waits, "cuStreamSynchronize", "gpu_wait_stream"),
    Function::timed(Waits, "cuEventSynchronize", "gpu_wait_event"),
    Function::timed(Waits, "cuCtxSynchronize", "gpu_wait_ctx"),
    Function::rare("cuModuleLoad", "gpu_module"),
    Function::rare("cuModuleLoadData", "gpu_module"),
    Function::rare("cuModuleLoadDataEx", "gpu_module"),
    Function::rare("cuModuleLoadFatBinary", "gpu_module"),
    Function::rare("cuLibraryLoadData", "gpu_module").newer(),
    Function::rare("cuLibraryLoadFromFile", "gpu_module").newer(),
];

const NCCL: &[Function] = &[
    Function::counted(Collectives, "ncclAllReduce", "nccl_all_reduce"),
    Function::counted(Collectives, "ncclReduceScatter", "nccl_scatter"),
    Function::counted(Collectives, "ncclAllGather", "nccl_all_gather"),
    Function::counted(Collectives, "ncclAlltoAll", "nccl_all_to_all").newer(),
    Function::counted(Collectives, "ncclBroadcast", "nccl_broadcast"),
    Function::timed(Collectives, "ncclBcast", "nccl_bcast"),
    Function::counted(Collectives, "ncclReduce", "nccl_reduce"),
    Function::counted(Collectives, "ncclSend", "nccl_send"),
    Function::counted(Collectives, "ncclRecv", "nccl_recv"),
    Function::rare("ncclCommInitRank", "nccl_init"),
    Function::rare("ncclCommInitRankConfig", "nccl_init").newer(),
    Function::rare("ncclCommInitRankScalable", "nccl_init_many").newer(),
    Function::rare("ncclCommInitAll", "nccl_init_all"),
    Function::rare("ncclCommSplit", "nccl_split").newer(),
    Function { returns: false, ..Function::rare("ncclCommAbort", "nccl_abort") },
    Function { returns: false, ..Function::rare("ncclCommDestroy", "nccl_destroy") },
];

/// Returns what is watched in a library.
pub(super) const fn functions(kind: Kind) -> &'static [Function] {
    match kind {
        Kind::Driver => DRIVER,
        Kind::Nccl => NCCL,
        Kind::Runtime => &[],
    }
}

/// Returns the program for when a library's functions return.
pub(super) const fn return_program(kind: Kind) -> &'static str {
    match kind {
        Kind::Nccl => "nccl_returned",
        Kind::Driver | Kind::Runtime => "gpu_returned",
    }
}

/// Returns the function that a symbol is a variant of: `^(name)(_v\d+)?(_pt(sz|ds))?$`.
pub(super) fn function_of(kind: Kind, symbol: &str) -> Option<&'static Function> {
    let stream = |suffix| symbol.strip_suffix(suffix);
    let name = stream("_ptsz").or_else(|| stream("_ptds")).unwrap_or(symbol);
    let name = match name.rsplit_once("_v") {
        Some((name, version)) if is_number(version) => name,
        _ => name,
    };
    functions(kind).iter().find(|function| function.name == name)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use orb8_common::gpu::hook_cookie;

    use super::*;
    use crate::ebpf::GPU_OBJECT;

    #[test]
    fn every_variant_of_a_name_is_found() {
        let name = |symbol| function_of(Kind::Driver, symbol).map(|function| function.name);
        for symbol in ["cuMemcpyHtoD", "cuMemcpyHtoD_v2", "cuMemcpyHtoD_v2_ptds"] {
            assert_eq!(name(symbol), Some("cuMemcpyHtoD"));
        }
        assert_eq!(name("cuLaunchKernel_ptsz"), Some("cuLaunchKernel"));
        assert_eq!(name("cuMemcpyBatchAsync_v2_ptsz"), Some("cuMemcpyBatchAsync"));
        assert_eq!(name("cuGraphLaunch_v11_ptsz"), Some("cuGraphLaunch"));
        for other in ["cuMemAlloc_v", "cuMemAlloc_v2x", "cuMemAlloc_ptsz_v2", "xcuMemAlloc", ""] {
            assert_eq!(name(other), None, "{other}");
        }
        assert_eq!(name("ncclAllReduce"), None);
        let nccl = function_of(Kind::Nccl, "ncclAllReduce").map(|function| function.program);
        assert_eq!(nccl, Some("nccl_all_reduce"));
        assert!(function_of(Kind::Nccl, "pncclAllReduce").is_none(), "the same code");
    }

    #[test]
    fn a_name_is_in_one_row_and_its_program_in_the_object() {
        let object = aya_obj::Object::parse(GPU_OBJECT).expect("the object");
        let rows: Vec<_> = DRIVER.iter().chain(NCCL).collect();
        let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len());
        let mut cookies = BTreeMap::new();
        for row in rows {
            assert!(object.programs.contains_key(row.program), "{}", row.program);
            let other = cookies.insert(hook_cookie(row.program), row.program);
            assert!(other.is_none_or(|other| other == row.program), "{other:?} {}", row.program);
        }
        // What follows a call needs the program at its return, and the reverse.
        for row in DRIVER.iter().filter(|row| row.program.ends_with("_w")) {
            assert!(row.returns, "{}", row.name);
        }
    }
}
