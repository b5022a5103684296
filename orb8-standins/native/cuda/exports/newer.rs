//! What came to drivers after CUDA 10.

use super::super::prologue::*;
use super::super::shared::prologue::*;
use super::super::{
    context, copies, device, entry, event, graph, launch, memory, module, physical, stream,
};
use super::{OWN, SHARED};

export! { thunk:
    cuGetProcAddress => entry::address_or_error;
    cuGetProcAddress_v2 => entry::address;
    // Devices and contexts.
    cuDeviceGetUuid_v2 => device::get_uuid;
    cuDeviceGetDefaultMemPool => device::default_pool;
    cuDeviceGetMemPool => device::default_pool;
    cuDevicePrimaryCtxRelease_v2 => device::release_primary;
    cuDevicePrimaryCtxReset_v2 => device::reset_primary;
    cuDevicePrimaryCtxSetFlags_v2 => device::set_primary_flags;
    cuCtxCreate_v3 => context::create_with_affinity;
    cuCtxCreate_v4 => context::create_with_parameters;
    cuCtxGetDevice_v2 => context::device_of;
    cuCtxSynchronize_v2 => context::synchronize_of;
    // Memory in the order of a stream.
    cuMemAllocAsync => memory::alloc_async::<SHARED>;
    cuMemAllocAsync_ptsz => memory::alloc_async::<OWN>;
    cuMemAllocFromPoolAsync => memory::alloc_from_pool::<SHARED>;
    cuMemAllocFromPoolAsync_ptsz => memory::alloc_from_pool::<OWN>;
    cuMemFreeAsync => memory::free_async::<SHARED>;
    cuMemFreeAsync_ptsz => memory::free_async::<OWN>;
    cuMemPoolCreate => memory::create_pool;
    cuMemPoolDestroy => memory::accepted;
    cuMemPoolTrimTo => memory::accepted;
    cuMemPoolSetAttribute => memory::accepted;
    cuMemPoolSetAccess => memory::accepted;
    // Physical memory and addresses.
    cuMemGetAllocationGranularity => physical::granularity;
    cuMemCreate => physical::create;
    cuMemRelease => physical::release;
    cuMemAddressReserve => physical::reserve;
    cuMemAddressFree => physical::free_addresses;
    cuMemMap => physical::map;
    cuMemUnmap => physical::unmap;
    cuMemSetAccess => memory::accepted;
    // Copies.
    cuMemcpyBatchAsync => copies::batch::<SHARED>;
    cuMemcpyBatchAsync_ptsz => copies::batch::<OWN>;
    cuMemcpyBatchAsync_v2 => copies::batch_v2::<SHARED>;
    cuMemcpyBatchAsync_v2_ptsz => copies::batch_v2::<OWN>;
    // Streams and events.
    cuStreamGetId => stream::id::<SHARED>;
    cuStreamGetId_ptsz => stream::id::<OWN>;
    cuStreamWaitValue32_v2 => stream::wait_value32::<SHARED>;
    cuStreamWaitValue32_v2_ptsz => stream::wait_value32::<OWN>;
    cuStreamWaitValue64_v2 => stream::wait_value64::<SHARED>;
    cuStreamWaitValue64_v2_ptsz => stream::wait_value64::<OWN>;
    cuEventRecordWithFlags => event::record_with_flags::<SHARED>;
    cuEventRecordWithFlags_ptsz => event::record_with_flags::<OWN>;
    cuEventElapsedTime_v2 => event::elapsed;
    // Libraries and launches.
    cuLibraryLoadData => module::load_library;
    cuLibraryLoadFromFile => module::load_library_file;
    cuLibraryUnload => module::unload;
    cuLibraryGetKernel => module::function;
    cuLibraryGetModule => module::module_of;
    cuKernelGetFunction => module::function_of;
    cuKernelGetName => module::name;
    cuFuncGetName => module::name;
    cuFuncGetModule => module::module_of_function;
    cuLaunchKernelEx => launch::configured::<SHARED>;
    cuLaunchKernelEx_ptsz => launch::configured::<OWN>;
    // Graphs.
    cuGraphAddKernelNode_v2 => graph::add_kernel;
    cuGraphInstantiate_v2 => graph::instantiate;
    cuGraphInstantiateWithFlags => graph::instantiate_with_flags;
    cuGraphInstantiateWithParams => graph::instantiate_with_parameters;
    cuGraphInstantiateWithParams_ptsz => graph::instantiate_with_parameters;
    cuGraphExecUpdate_v2 => graph::update;
    cuGraphUpload => graph::upload::<SHARED>;
    cuGraphUpload_ptsz => graph::upload::<OWN>;
}
