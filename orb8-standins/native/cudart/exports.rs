//! Every exported function, with what does its work. All begin with `push %rbp`, as the real ones.

use super::shared::prologue::*;
use super::{error, kernels, memory, runtime, streams};

const SHARED: bool = false;
const OWN: bool = true;

#[cfg(target_arch = "x86_64")]
macro_rules! pushed {
    ($name:ident) => {
        aligned!(
            "pushq %rbp",
            "movq %rsp, %rbp",
            "popq %rbp",
            "jmp *{slot}(%rip)";
            slot = sym slots::$name,
            options(att_syntax)
        )
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! pushed {
    ($name:ident) => {
        framed!(slots::$name)
    };
}

export! { pushed:
    cudaRuntimeGetVersion => runtime::runtime_version;
    cudaDriverGetVersion => runtime::driver_version;
    cudaGetDeviceCount => runtime::device_count;
    cudaGetDevice => runtime::device;
    cudaSetDevice => runtime::set_device;
    cudaDeviceReset => runtime::reset;
    cudaDeviceSynchronize => streams::synchronize_device;
    cudaGetLastError => error::last;
    cudaPeekAtLastError => error::peek;
    cudaGetErrorName => error::name;
    cudaGetErrorString => error::string;
    // Memory.
    cudaMalloc => memory::malloc;
    cudaMallocPitch => memory::malloc_pitch;
    cudaMallocManaged => memory::malloc_managed;
    cudaMallocAsync => memory::malloc_async::<SHARED>;
    cudaMallocAsync_ptsz => memory::malloc_async::<OWN>;
    cudaMallocHost => memory::malloc_host;
    cudaHostAlloc => memory::host_alloc;
    cudaFree => memory::free;
    cudaFreeAsync => memory::free_async::<SHARED>;
    cudaFreeAsync_ptsz => memory::free_async::<OWN>;
    cudaFreeHost => memory::free_host;
    cudaHostRegister => memory::register_host;
    cudaHostUnregister => memory::unregister_host;
    cudaMemGetInfo => memory::info;
    cudaMemcpy => memory::copy::<SHARED>;
    cudaMemcpy_ptds => memory::copy::<OWN>;
    cudaMemcpyAsync => memory::copy_async::<SHARED>;
    cudaMemcpyAsync_ptsz => memory::copy_async::<OWN>;
    cudaMemcpyPeer => memory::copy_peer;
    cudaMemcpyPeerAsync => memory::copy_peer_async::<SHARED>;
    cudaMemcpyPeerAsync_ptsz => memory::copy_peer_async::<OWN>;
    cudaMemset => memory::fill::<SHARED>;
    cudaMemset_ptds => memory::fill::<OWN>;
    cudaMemsetAsync => memory::fill_async::<SHARED>;
    cudaMemsetAsync_ptsz => memory::fill_async::<OWN>;
    // Streams, events and graphs.
    cudaStreamCreate => streams::create;
    cudaStreamCreateWithFlags => streams::create_with_flags;
    cudaStreamCreateWithPriority => streams::create_with_priority;
    cudaStreamDestroy => streams::destroy;
    cudaStreamSynchronize => streams::synchronize::<SHARED>;
    cudaStreamSynchronize_ptsz => streams::synchronize::<OWN>;
    cudaStreamQuery => streams::query::<SHARED>;
    cudaStreamQuery_ptsz => streams::query::<OWN>;
    cudaStreamWaitEvent => streams::wait_event::<SHARED>;
    cudaStreamWaitEvent_ptsz => streams::wait_event::<OWN>;
    cudaStreamBeginCapture => streams::begin_capture::<SHARED>;
    cudaStreamBeginCapture_ptsz => streams::begin_capture::<OWN>;
    cudaStreamEndCapture => streams::end_capture::<SHARED>;
    cudaStreamEndCapture_ptsz => streams::end_capture::<OWN>;
    cudaEventCreate => streams::create_event;
    cudaEventCreateWithFlags => streams::create_event_with_flags;
    cudaEventDestroy => streams::destroy_event;
    cudaEventRecord => streams::record::<SHARED>;
    cudaEventRecord_ptsz => streams::record::<OWN>;
    cudaEventSynchronize => streams::synchronize_event;
    cudaEventQuery => streams::query_event;
    cudaEventElapsedTime => streams::elapsed;
    cudaGraphInstantiate => streams::instantiate;
    cudaGraphDestroy => streams::destroy_graph;
    cudaGraphExecDestroy => streams::destroy_executable;
    cudaGraphLaunch => streams::launch_graph::<SHARED>;
    cudaGraphLaunch_ptsz => streams::launch_graph::<OWN>;
    // Kernels.
    cudaLaunchKernel => kernels::launch::<SHARED>;
    cudaLaunchKernel_ptsz => kernels::launch::<OWN>;
    cudaLaunchKernelExC => kernels::launch_configured::<SHARED>;
    cudaLaunchKernelExC_ptsz => kernels::launch_configured::<OWN>;
    cudaLaunchCooperativeKernel => kernels::launch_cooperative::<SHARED>;
    cudaLaunchCooperativeKernel_ptsz => kernels::launch_cooperative::<OWN>;
    __cudaRegisterFatBinary => kernels::register_image;
    __cudaRegisterFatBinaryEnd => kernels::registered;
    __cudaRegisterFunction => kernels::register;
    __cudaUnregisterFatBinary => kernels::unregister;
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::EXPORTS;
    use crate::shared::prologue::first_bytes;

    #[test]
    fn all_begin_as_the_real_ones() {
        for (name, slot) in EXPORTS {
            assert_eq!(first_bytes(slot)[..1], [0x55], "{name}");
        }
    }
}
