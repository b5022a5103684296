//! The driver's functions that the runtime calls.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::error::Code;
use super::shared::abi::Out;
use super::shared::library::{Library, functions};

/// The version of CUDA that this runtime is made for.
pub(super) const VERSION: c_int = 12_080;

/// No driver, or one that is too old.
const INSUFFICIENT_DRIVER: Code = 35;
const INITIALIZATION: Code = 3;
const INVALID_DEVICE: Code = 101;

functions! {
    /// Of one kind of default stream. Versions are the driver's to choose, so that these are names
    /// without one.
    #[expect(clippy::too_many_arguments, reason = "as the C functions have them")]
    Driver {
        init: "cuInit", (flags: c_uint);
        driver_version: "cuDriverGetVersion", (out: &mut c_int);
        device_count: "cuDeviceGetCount", (out: &mut c_int);
        retain: "cuDevicePrimaryCtxRetain", (out: &mut usize, device: c_int);
        reset: "cuDevicePrimaryCtxReset", (device: c_int);
        set_context: "cuCtxSetCurrent", (context: usize);
        synchronize: "cuCtxSynchronize", ();
        alloc: "cuMemAlloc", (out: &mut u64, bytes: usize);
        alloc_pitch: "cuMemAllocPitch",
            (out: &mut u64, pitch: &mut usize, width: usize, height: usize, element: c_uint);
        alloc_managed: "cuMemAllocManaged", (out: &mut u64, bytes: usize, flags: c_uint);
        alloc_async: "cuMemAllocAsync", (out: &mut u64, bytes: usize, stream: usize);
        free: "cuMemFree", (address: u64);
        free_async: "cuMemFreeAsync", (address: u64, stream: usize);
        host_alloc: "cuMemHostAlloc", (out: &mut u64, bytes: usize, flags: c_uint);
        free_host: "cuMemFreeHost", (address: u64);
        register_host: "cuMemHostRegister", (address: u64, bytes: usize, flags: c_uint);
        unregister_host: "cuMemHostUnregister", (address: u64);
        memory: "cuMemGetInfo", (free: &mut usize, total: &mut usize);
        to_device: "cuMemcpyHtoD", (to: u64, from: u64, bytes: usize);
        to_host: "cuMemcpyDtoH", (to: u64, from: u64, bytes: usize);
        within: "cuMemcpyDtoD", (to: u64, from: u64, bytes: usize);
        unified: "cuMemcpy", (to: u64, from: u64, bytes: usize);
        to_device_async: "cuMemcpyHtoDAsync", (to: u64, from: u64, bytes: usize, stream: usize);
        to_host_async: "cuMemcpyDtoHAsync", (to: u64, from: u64, bytes: usize, stream: usize);
        within_async: "cuMemcpyDtoDAsync", (to: u64, from: u64, bytes: usize, stream: usize);
        unified_async: "cuMemcpyAsync", (to: u64, from: u64, bytes: usize, stream: usize);
        peer: "cuMemcpyPeer",
            (to: u64, to_context: usize, from: u64, from_context: usize, bytes: usize);
        peer_async: "cuMemcpyPeerAsync",
            (to: u64, to_context: usize, from: u64, from_context: usize, bytes: usize, stream: usize);
        fill: "cuMemsetD8", (to: u64, value: c_uint, number: usize);
        fill_async: "cuMemsetD8Async", (to: u64, value: c_uint, number: usize, stream: usize);
        create_stream: "cuStreamCreateWithPriority",
            (out: &mut usize, flags: c_uint, priority: c_int);
        destroy_stream: "cuStreamDestroy", (stream: usize);
        synchronize_stream: "cuStreamSynchronize", (stream: usize);
        query_stream: "cuStreamQuery", (stream: usize);
        wait_event: "cuStreamWaitEvent", (stream: usize, event: usize, flags: c_uint);
        begin_capture: "cuStreamBeginCapture", (stream: usize, mode: c_uint);
        end_capture: "cuStreamEndCapture", (stream: usize, out: &mut usize);
        create_event: "cuEventCreate", (out: &mut usize, flags: c_uint);
        destroy_event: "cuEventDestroy", (event: usize);
        record: "cuEventRecord", (event: usize, stream: usize);
        synchronize_event: "cuEventSynchronize", (event: usize);
        query_event: "cuEventQuery", (event: usize);
        elapsed: "cuEventElapsedTime", (out: &mut f32, start: usize, end: usize);
        load_library: "cuLibraryLoadData",
            (out: &mut usize, code: usize, jit_options: usize, jit_values: usize,
             jit_count: c_uint, options: usize, values: usize, count: c_uint);
        kernel: "cuLibraryGetKernel", (out: &mut usize, library: usize, name: &c_char);
        load_module: "cuModuleLoadData", (out: &mut usize, image: usize);
        function: "cuModuleGetFunction", (out: &mut usize, module: usize, name: &c_char);
        launch: "cuLaunchKernel",
            (function: usize, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
             block_x: c_uint, block_y: c_uint, block_z: c_uint,
             shared_memory: c_uint, stream: usize, parameters: usize, extra: usize);
        launch_cooperative: "cuLaunchCooperativeKernel",
            (function: usize, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
             block_x: c_uint, block_y: c_uint, block_z: c_uint,
             shared_memory: c_uint, stream: usize, parameters: usize);
        launch_configured: "cuLaunchKernelEx",
            (config: usize, function: usize, parameters: usize, extra: usize);
        instantiate: "cuGraphInstantiateWithFlags",
            (out: &mut usize, graph: usize, flags: c_ulonglong);
        instantiate_old: "cuGraphInstantiate",
            (out: &mut usize, graph: usize, node: usize, log: usize, length: usize);
        destroy_graph: "cuGraphDestroy", (graph: usize);
        destroy_executable: "cuGraphExecDestroy", (executable: usize);
        launch_graph: "cuGraphLaunch", (executable: usize, stream: usize);
    }
}

/// By it the driver finds all others.
type GetProcAddress =
    unsafe extern "C" fn(*const c_char, *mut *mut c_void, c_int, c_ulonglong, *mut c_uint) -> c_int;

/// Finds the driver's functions, as the context's or the thread's own stream wants them.
fn find(library: Library, flags: c_ulonglong) -> Driver {
    let search = library.symbol("cuGetProcAddress_v2").map(|address| {
        // SAFETY: a function of this name has this type, as its header says.
        unsafe { std::mem::transmute::<*mut c_void, GetProcAddress>(address) }
    });
    Driver::new(|name| {
        let Some(search) = search else {
            // A driver before CUDA 11.3: the second version is the one without limits.
            return library.symbol(&format!("{name}_v2")).or_else(|| library.symbol(name));
        };
        let text = std::ffi::CString::new(name).ok()?;
        let (mut address, mut status) = (std::ptr::null_mut(), 0);
        // SAFETY: the text ends with a zero, and both places are there for the call.
        let code = unsafe { search(text.as_ptr(), &mut address, VERSION, flags, &mut status) };
        (code == 0 && !address.is_null()).then_some(address)
    })
}

/// Both sets: by the context's default stream and by the thread's own.
struct Drivers {
    shared: Driver,
    own: Driver,
    /// Primary contexts by device, once they are there.
    contexts: Mutex<Vec<(c_int, usize)>>,
}

static DRIVERS: OnceLock<Result<Drivers, Code>> = OnceLock::new();

thread_local! {
    /// The device that this thread chose, and the one whose context it uses.
    static DEVICE: Cell<c_int> = const { Cell::new(0) };
    static BOUND: Cell<Option<c_int>> = const { Cell::new(None) };
}

fn drivers() -> Result<&'static Drivers, Code> {
    let drivers = DRIVERS.get_or_init(|| {
        let library = Library::open("libcuda.so.1").map_err(|_| INSUFFICIENT_DRIVER)?;
        let shared = find(library, 0);
        shared.init(0).map_err(|code| if code > 0 { code } else { INITIALIZATION })?;
        Ok(Drivers { shared, own: find(library, 2), contexts: Mutex::default() })
    });
    drivers.as_ref().map_err(|code| *code)
}

/// Returns the driver's functions, before there is a context.
pub(super) fn without_context() -> Result<&'static Driver, Code> {
    drivers().map(|drivers| &drivers.shared)
}

/// Returns the driver's functions once this thread uses its device's context.
pub(super) fn driver<const OWN_STREAM: bool>() -> Result<&'static Driver, Code> {
    let drivers = drivers()?;
    let device = DEVICE.get();
    if BOUND.get() != Some(device) {
        let mut contexts = drivers.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = contexts.iter().find(|row| row.0 == device).map(|row| row.1);
        let context = match known {
            Some(context) => context,
            None => {
                let mut context = 0;
                drivers.shared.retain(&mut context, device)?;
                contexts.push((device, context));
                context
            }
        };
        drivers.shared.set_context(context)?;
        BOUND.set(Some(device));
    }
    Ok(if OWN_STREAM { &drivers.own } else { &drivers.shared })
}

/// Chooses the thread's device.
pub(super) fn choose(device: c_int) -> Result<(), Code> {
    let mut count = 0;
    without_context()?.device_count(&mut count)?;
    if !(0..count).contains(&device) {
        return Err(INVALID_DEVICE);
    }
    DEVICE.set(device);
    driver::<false>().map(|_| ())
}

/// Returns the thread's device.
pub(super) fn device(out: Out<c_int>) -> Result<(), Code> {
    without_context()?;
    out.put(DEVICE.get()).ok_or(super::error::INVALID_VALUE)
}

/// Ends the context of the thread's device.
pub(super) fn reset() -> Result<(), Code> {
    let drivers = drivers()?;
    let device = DEVICE.get();
    let mut contexts = drivers.contexts.lock().unwrap_or_else(PoisonError::into_inner);
    contexts.retain(|row| row.0 != device);
    BOUND.set(None);
    drivers.shared.reset(device)
}
