//! The `gpu` object: what processes ask of CUDA's driver library and of NCCL.
//!
//! ```text
//! entry of a call ─┬─▶ PROCESSES, COLLECTIVES: counts and bytes ──(batch)──▶ agent
//!                  ├─▶ IN_FLIGHT ─(the call returns)─▶ times, and what the call gave
//!                  └─▶ EVENTS: memory, modules, communicators ◀─┘
//! ```
//! This file has the maps, what the loader sets, and the programs; each module is one of the boxes. The
//! trap that a probe is costs more than what most programs do, so there is a program for each shape of
//! call and nothing is sampled here: a program that runs counts.
//!
//! The agent chooses where a program is attached, and there may be an instruction or two in front of
//! that place: none that changes an argument, the return address or the stack pointer.
#![no_std]
#![no_main]

#[path = "gpu/calls.rs"]
mod calls;
#[path = "gpu/collectives.rs"]
mod collectives;
#[path = "gpu/copies.rs"]
mod copies;
#[path = "gpu/memory.rs"]
mod memory;
#[path = "gpu/process.rs"]
mod process;
#[path = "gpu/registers.rs"]
mod registers;

use core::ffi::c_void;
use core::mem::transmute;

use aya_ebpf::bindings::bpf_func_id::BPF_FUNC_tail_call;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use aya_ebpf::macros::{btf_map, uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use aya_ebpf::{EbpfContext, Global};
use orb8_common::gpu::{
    ALLOCATION_DEVICE, ALLOCATION_MANAGED, ALLOCATION_PHYSICAL, ALLOCATION_PINNED, ALLOCATION_POOL,
    CALL_ABORTED, CALL_DESTROYED, CALLS_IN_FLIGHT, COLLECTIVE_ALL_GATHER, COLLECTIVE_ALL_REDUCE,
    COLLECTIVE_ALL_TO_ALL, COLLECTIVE_BROADCAST, COLLECTIVE_RECV, COLLECTIVE_REDUCE,
    COLLECTIVE_REDUCE_SCATTER, COLLECTIVE_SEND, COLLECTIVES, COPY_DEVICE_TO_DEVICE,
    COPY_DEVICE_TO_HOST, COPY_HOST_TO_DEVICE, COPY_PEER, COPY_UNIFIED, Call, Collectives,
    CollectivesKey, Control, Counter, PROCESSES as MAX_PROCESSES, Process, STACKS as MAX_STACKS,
    WAIT_CONTEXT, WAIT_EVENT, WAIT_STREAM, hook_cookie,
};

use crate::calls::{Layer, Pending};
use crate::process::Thread;
use crate::registers::Registers;

/// 1 where the machine is arm64, whose calls have their arguments elsewhere.
#[unsafe(no_mangle)]
static IS_ARM64: Global<u8> = Global::new(0);

/// 0 on every machine, which the verifier knows and the compiler does not.
#[unsafe(no_mangle)]
static NEVER: Global<u8> = Global::new(0);

// The size of the ring is set at load.
#[btf_map]
static EVENTS: RingBuf<Call, 1048576> = RingBuf::new();
#[btf_map]
static PROCESSES: HashMap<u32, Process, MAX_PROCESSES> = HashMap::new();
/// What a new entry of `PROCESSES` is made of: it is too large for a program's stack.
#[btf_map]
static NO_PROCESS: Array<Process, 1> = Array::new();
#[btf_map]
static COLLECTIVE_COUNTS: HashMap<CollectivesKey, Collectives, COLLECTIVES> = HashMap::new();
#[btf_map]
static IN_FLIGHT: HashMap<u64, Pending, CALLS_IN_FLIGHT> = HashMap::new();
#[btf_map]
static STACKS_TOLD: LruHashMap<u64, u32, MAX_STACKS> = LruHashMap::new();
#[btf_map]
static CONTROL: Array<Control, 1> = Array::new();
#[btf_map]
static COUNTERS: PerCpuArray<[u64; Counter::COUNT], 1> = PerCpuArray::new();
#[btf_map]
static NO_PROGRAMS: ProgramArray<1> = ProgramArray::new();

/// Has the program keep its variables on its thread's stack. Since 6.13 the kernel has a stack of each
/// CPU's own for programs with many, and where it is preemptible, a program at a probe in user space
/// can be interrupted by another one there, which writes over them. A program with a tail call gets
/// none; this one is never made, and the verifier takes it out.
#[inline(always)]
fn keep_variables(ctx: &impl EbpfContext) {
    if NEVER.load() != 0 {
        // Here and not by the library's function, which is not inlined: without types the kernel takes
        // tail calls in a program's first function only.
        // SAFETY: the helper of that number, the program's own context, and a map. It is not reached.
        unsafe {
            let tail_call: unsafe extern "C" fn(*mut c_void, *mut c_void, u32) -> i64 =
                transmute(BPF_FUNC_tail_call as usize);
            tail_call(ctx.as_ptr(), (&raw const NO_PROGRAMS).cast_mut().cast(), 0);
        }
    }
}

/// A call that begins.
pub(crate) struct Entry {
    pub(crate) registers: Registers,
    pub(crate) thread: Thread,
}

/// Makes a program of each row, and one of all rows, for kernels that attach a program to many places
/// by one link: it knows by the place's cookie which row is meant.
macro_rules! entries {
    ($($(#[$documentation:meta])+ $name:ident: $see:expr;)+) => {
        $(
            $(#[$documentation])+
            #[uprobe]
            #[inline(always)]
            pub fn $name(ctx: ProbeContext) -> u32 {
                keep_variables(&ctx);
                see(&ctx, $see);
                0
            }
        )+

        /// Any of the others: its place's cookie is the [`hook_cookie`] of that program's name.
        #[uprobe]
        #[inline(always)]
        pub fn gpu_any(ctx: ProbeContext) -> u32 {
            keep_variables(&ctx);
            // SAFETY: the program's own context.
            let cookie = unsafe { bpf_get_attach_cookie(ctx.regs.cast()) } as u32;
            $(
                if cookie == const { hook_cookie(stringify!($name)) } {
                    see(&ctx, $see);
                }
            )+
            0
        }
    };
}

#[inline(always)]
fn see(ctx: &ProbeContext, see: impl FnOnce(&Entry)) {
    see(&Entry { registers: Registers::of(ctx.regs.cast()), thread: Thread::current() });
}

entries! {
    // ---- launches ------------------------------------------------------------------------------

    /// `CUresult cuLaunchKernel(CUfunction f, …)`, `cuLaunchKernelEx(const CUlaunchConfig *config,
    /// CUfunction f, …)`, `cuLaunchCooperativeKernel(CUfunction f, …)`: one kernel, whatever the
    /// arguments.
    gpu_launch: |entry| entry.launch(1);
    /// `CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *launchParamsList,
    /// unsigned int numDevices, unsigned int flags)`
    gpu_launch_many: |entry| entry.launch(entry.registers.argument::<1>() as u32);
    /// `CUresult cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream)`
    gpu_graph: |entry| entry.launch_graph();

    // ---- memory --------------------------------------------------------------------------------

    /// `CUresult cuMemAlloc(CUdeviceptr *dptr, size_t bytesize)`
    gpu_alloc: |entry| entry.allocate(ALLOCATION_DEVICE);
    /// `CUresult cuMemAllocPitch(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes,
    /// size_t Height, unsigned int ElementSizeBytes)`
    gpu_alloc_pitch: |entry| entry.allocate_pitch();
    /// `CUresult cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)`,
    /// `cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool, CUstream)`
    gpu_alloc_pool: |entry| entry.allocate(ALLOCATION_POOL);
    /// `CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
    /// const CUmemAllocationProp *prop, unsigned long long flags)`
    gpu_create: |entry| entry.allocate(ALLOCATION_PHYSICAL);
    /// `CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t bytesize, unsigned int flags)`
    gpu_alloc_man: |entry| entry.allocate(ALLOCATION_MANAGED);
    /// `CUresult cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags)`,
    /// `cuMemAllocHost(void **pp, size_t bytesize)`
    gpu_alloc_host: |entry| entry.allocate(ALLOCATION_PINNED);
    /// `CUresult cuMemHostRegister(void *p, size_t bytesize, unsigned int Flags)`
    gpu_register: |entry| entry.register();
    /// `CUresult cuMemFree(CUdeviceptr dptr)`
    gpu_free: |entry| entry.free(ALLOCATION_DEVICE);
    /// `CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream)`
    gpu_free_pool: |entry| entry.free(ALLOCATION_POOL);
    /// `CUresult cuMemRelease(CUmemGenericAllocationHandle handle)`
    gpu_release: |entry| entry.free(ALLOCATION_PHYSICAL);
    /// `CUresult cuMemFreeHost(void *p)`, `cuMemHostUnregister(void *p)`
    gpu_free_host: |entry| entry.free(ALLOCATION_PINNED);

    // ---- copies --------------------------------------------------------------------------------
    // A name that ends in `_w` is for calls that return when the copy is done: they are timed.

    /// `CUresult cuMemcpyHtoD(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount, …)`
    gpu_htod: |entry| entry.copy::<2>(COPY_HOST_TO_DEVICE);
    /// As `gpu_htod`, done when it returns.
    gpu_htod_w: |entry| entry.copy_and_wait::<2>(COPY_HOST_TO_DEVICE);
    /// `CUresult cuMemcpyDtoH(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount, …)`
    gpu_dtoh: |entry| entry.copy::<2>(COPY_DEVICE_TO_HOST);
    /// As `gpu_dtoh`, done when it returns.
    gpu_dtoh_w: |entry| entry.copy_and_wait::<2>(COPY_DEVICE_TO_HOST);
    /// `CUresult cuMemcpyDtoD(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, …)`
    gpu_dtod: |entry| entry.copy::<2>(COPY_DEVICE_TO_DEVICE);
    /// As `gpu_dtod`, done when it returns.
    gpu_dtod_w: |entry| entry.copy_and_wait::<2>(COPY_DEVICE_TO_DEVICE);
    /// `CUresult cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, …)`
    gpu_copy: |entry| entry.copy::<2>(COPY_UNIFIED);
    /// As `gpu_copy`, done when it returns.
    gpu_copy_w: |entry| entry.copy_and_wait::<2>(COPY_UNIFIED);
    /// `CUresult cuMemcpyPeer(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
    /// CUcontext srcContext, size_t ByteCount, …)`
    gpu_peer: |entry| entry.copy::<4>(COPY_PEER);
    /// As `gpu_peer`, done when it returns.
    gpu_peer_w: |entry| entry.copy_and_wait::<4>(COPY_PEER);
    /// `CUresult cuMemcpyHtoA(CUarray dstArray, size_t dstOffset, const void *srcHost,
    /// size_t ByteCount, …)`
    gpu_htoa: |entry| entry.copy::<3>(COPY_HOST_TO_DEVICE);
    /// As `gpu_htoa`, done when it returns.
    gpu_htoa_w: |entry| entry.copy_and_wait::<3>(COPY_HOST_TO_DEVICE);
    /// `CUresult cuMemcpyAtoH(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount, …)`
    gpu_atoh: |entry| entry.copy::<3>(COPY_DEVICE_TO_HOST);
    /// As `gpu_atoh`, done when it returns.
    gpu_atoh_w: |entry| entry.copy_and_wait::<3>(COPY_DEVICE_TO_HOST);
    /// `CUresult cuMemcpyDtoA(CUarray dstArray, size_t dstOffset, CUdeviceptr srcDevice,
    /// size_t ByteCount)`, `cuMemcpyAtoD(CUdeviceptr dstDevice, CUarray srcArray, size_t srcOffset,
    /// size_t ByteCount)`
    gpu_dtoa: |entry| entry.copy::<3>(COPY_DEVICE_TO_DEVICE);
    /// As `gpu_dtoa`, done when it returns.
    gpu_dtoa_w: |entry| entry.copy_and_wait::<3>(COPY_DEVICE_TO_DEVICE);
    /// `CUresult cuMemcpyAtoA(CUarray dstArray, size_t dstOffset, CUarray srcArray, size_t srcOffset,
    /// size_t ByteCount)`
    gpu_atoa: |entry| entry.copy::<4>(COPY_DEVICE_TO_DEVICE);
    /// As `gpu_atoa`, done when it returns.
    gpu_atoa_w: |entry| entry.copy_and_wait::<4>(COPY_DEVICE_TO_DEVICE);
    /// `CUresult cuMemcpy2D(const CUDA_MEMCPY2D *pCopy, …)`
    gpu_copy2d: |entry| entry.copy_of(copies::of_rectangle);
    /// As `gpu_copy2d`, done when it returns.
    gpu_copy2d_w: |entry| entry.copy_and_wait_of(copies::of_rectangle);
    /// `CUresult cuMemcpy3D(const CUDA_MEMCPY3D *pCopy, …)`
    gpu_copy3d: |entry| entry.copy_of(copies::of_box);
    /// As `gpu_copy3d`, done when it returns.
    gpu_copy3d_w: |entry| entry.copy_and_wait_of(copies::of_box);
    /// `CUresult cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER *pCopy, …)`
    gpu_peer3d: |entry| entry.copy_of(copies::of_box_to_peer);
    /// As `gpu_peer3d`, done when it returns.
    gpu_peer3d_w: |entry| entry.copy_and_wait_of(copies::of_box_to_peer);

    /// `CUresult cuMemcpyBatchAsync(CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes,
    /// size_t count, …)`
    gpu_batch: |entry| entry.copy_of(copies::of_batch);

    // ---- waits and modules ---------------------------------------------------------------------

    /// `CUresult cuStreamSynchronize(CUstream hStream)`
    gpu_wait_stream: |entry| entry.wait(WAIT_STREAM);
    /// `CUresult cuEventSynchronize(CUevent hEvent)`
    gpu_wait_event: |entry| entry.wait(WAIT_EVENT);
    /// `CUresult cuCtxSynchronize(void)`
    gpu_wait_ctx: |entry| entry.wait(WAIT_CONTEXT);
    /// `CUresult cuModuleLoad…(CUmodule *module, …)`, `cuLibraryLoad…(CUlibrary *library, …)`
    gpu_module: |entry| entry.load_module();

    // ---- NCCL ----------------------------------------------------------------------------------

    /// `ncclResult_t ncclAllReduce(const void *sendbuff, void *recvbuff, size_t count,
    /// ncclDataType_t datatype, ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)`
    nccl_all_reduce: |entry| entry.collective::<2, 3, 5>(COLLECTIVE_ALL_REDUCE);
    /// `ncclResult_t ncclReduceScatter(const void *sendbuff, void *recvbuff, size_t recvcount,
    /// ncclDataType_t datatype, ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)`
    nccl_scatter: |entry| entry.collective::<2, 3, 5>(COLLECTIVE_REDUCE_SCATTER);
    /// `ncclResult_t ncclAllGather(const void *sendbuff, void *recvbuff, size_t sendcount,
    /// ncclDataType_t datatype, ncclComm_t comm, cudaStream_t stream)`
    nccl_all_gather: |entry| entry.collective::<2, 3, 4>(COLLECTIVE_ALL_GATHER);
    /// `ncclResult_t ncclAlltoAll(const void *sendbuff, void *recvbuff, size_t count,
    /// ncclDataType_t datatype, ncclComm_t comm, cudaStream_t stream)`
    nccl_all_to_all: |entry| entry.collective::<2, 3, 4>(COLLECTIVE_ALL_TO_ALL);
    /// `ncclResult_t ncclBroadcast(const void *sendbuff, void *recvbuff, size_t count,
    /// ncclDataType_t datatype, int root, ncclComm_t comm, cudaStream_t stream)`
    nccl_broadcast: |entry| entry.collective::<2, 3, 5>(COLLECTIVE_BROADCAST);
    /// `ncclResult_t ncclBcast(void *buff, size_t count, ncclDataType_t datatype, int root,
    /// ncclComm_t comm, cudaStream_t stream)`, which calls `ncclBroadcast`.
    nccl_bcast: |entry| entry.collective_around::<1, 2, 4>(COLLECTIVE_BROADCAST);
    /// `ncclResult_t ncclReduce(const void *sendbuff, void *recvbuff, size_t count,
    /// ncclDataType_t datatype, ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream)`
    nccl_reduce: |entry| entry.collective::<2, 3, 6>(COLLECTIVE_REDUCE);
    /// `ncclResult_t ncclSend(const void *sendbuff, size_t count, ncclDataType_t datatype, int peer,
    /// ncclComm_t comm, cudaStream_t stream)`
    nccl_send: |entry| entry.collective::<1, 2, 4>(COLLECTIVE_SEND);
    /// `ncclResult_t ncclRecv(void *recvbuff, size_t count, ncclDataType_t datatype, int peer,
    /// ncclComm_t comm, cudaStream_t stream)`
    nccl_recv: |entry| entry.collective::<1, 2, 4>(COLLECTIVE_RECV);
    /// `ncclResult_t ncclCommInitRank(ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank)`,
    /// `ncclCommInitRankConfig(…, int rank, ncclConfig_t *config)`
    nccl_init: |entry| entry.join_by_value();
    /// `ncclResult_t ncclCommInitRankScalable(ncclComm_t *newcomm, int nranks, int myrank, int nId,
    /// ncclUniqueId *commIds, ncclConfig_t *config)`
    nccl_init_many: |entry| entry.join_by_first();
    /// `ncclResult_t ncclCommInitAll(ncclComm_t *comm, int ndev, const int *devlist)`
    nccl_init_all: |entry| entry.join_all();
    /// `ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *newcomm,
    /// ncclConfig_t *config)`
    nccl_split: |entry| entry.split();
    /// `ncclResult_t ncclCommAbort(ncclComm_t comm)`
    nccl_abort: |entry| entry.leave(CALL_ABORTED);
    /// `ncclResult_t ncclCommDestroy(ncclComm_t comm)`
    nccl_destroy: |entry| entry.leave(CALL_DESTROYED);
}

/// A call to the driver library returns: `CUresult`.
#[uretprobe]
#[inline(always)]
pub fn gpu_returned(ctx: RetProbeContext) -> u32 {
    keep_variables(&ctx);
    let registers = Registers::of(ctx.regs.cast());
    if let Some((thread, pending)) = calls::end(&registers, Layer::Driver) {
        memory::finish(&registers, thread, &pending);
    }
    0
}

/// A call to NCCL returns: `ncclResult_t`.
#[uretprobe]
#[inline(always)]
pub fn nccl_returned(ctx: RetProbeContext) -> u32 {
    keep_variables(&ctx);
    let registers = Registers::of(ctx.regs.cast());
    if let Some((thread, pending)) = calls::end(&registers, Layer::Nccl) {
        collectives::finish(&registers, thread, &pending);
    }
    0
}

/// What most programs do, for nobody: the agent measures what a probe costs on a page of its own.
#[uprobe]
#[inline(always)]
pub fn gpu_nothing(ctx: ProbeContext) -> u32 {
    keep_variables(&ctx);
    calls::rehearse();
    0
}

/// The same at a return.
#[uretprobe]
#[inline(always)]
pub fn gpu_none_returned(ctx: RetProbeContext) -> u32 {
    keep_variables(&ctx);
    calls::rehearse();
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Unreachable: the verifier refuses a program that could get here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
