//! What it needs of the driver: memory that is mapped, a kernel, and streams that wait.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};
use std::sync::OnceLock;

use super::error::{Error, UNHANDLED_CUDA};
use super::shared::abi::Out;
use super::shared::library::{Library, functions};

functions! {
    #[expect(clippy::too_many_arguments, reason = "as the C functions have them")]
    Functions {
        context: "cuCtxGetCurrent", (out: &mut usize);
        device: "cuCtxGetDevice", (out: &mut c_int);
        use_context: "cuCtxSetCurrent", (context: usize);
        retain: "cuDevicePrimaryCtxRetain", (out: &mut usize, device: c_int);
        load: "cuLibraryLoadData",
            (out: &mut usize, code: &c_char, jit_options: usize, jit_values: usize,
             jit_count: c_uint, options: usize, values: usize, count: c_uint);
        kernel: "cuLibraryGetKernel", (out: &mut usize, library: usize, name: &c_char);
        launch: "cuLaunchKernelEx",
            (config: &Config, function: usize, parameters: usize, extra: usize);
        wait: "cuStreamWaitValue64_v2",
            (stream: usize, address: u64, value: u64, flags: c_uint);
        create: "cuMemCreate",
            (out: &mut u64, bytes: usize, properties: &Properties, flags: c_ulonglong);
        release: "cuMemRelease", (handle: u64);
        reserve: "cuMemAddressReserve",
            (out: &mut u64, bytes: usize, alignment: usize, address: u64, flags: c_ulonglong);
        unreserve: "cuMemAddressFree", (address: u64, bytes: usize);
        map: "cuMemMap",
            (address: u64, bytes: usize, offset: usize, handle: u64, flags: c_ulonglong);
        unmap: "cuMemUnmap", (address: u64, bytes: usize);
    }
}

/// `CUlaunchConfig`.
#[repr(C)]
pub(super) struct Config {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared_memory: c_uint,
    stream: usize,
    attributes: usize,
    attribute_count: c_uint,
}

/// `CUmemAllocationProp`.
#[repr(C)]
#[derive(Default)]
pub(super) struct Properties {
    kind: c_uint,
    handle_types: c_uint,
    location_type: c_uint,
    location_id: c_int,
    metadata: usize,
    flags: [u8; 8],
}

/// What memory is a multiple of.
const GRANULARITY: usize = 2 << 20;

/// The kernel that stands for all of them.
const IMAGE: &str = ".version 8.0\n.target sm_70\n.address_size 64\n\
    .visible .entry ncclDevKernel_Generic() { ret; }\n\0";
const KERNEL: &str = "ncclDevKernel_Generic\0";

/// Memory that is mapped.
pub(super) struct Mapped {
    pub(super) address: u64,
    bytes: usize,
    handle: u64,
}

impl From<c_int> for Error {
    fn from(_: c_int) -> Self {
        UNHANDLED_CUDA
    }
}

fn functions() -> Result<&'static Functions, Error> {
    static FUNCTIONS: OnceLock<Option<Functions>> = OnceLock::new();
    let functions = FUNCTIONS.get_or_init(|| {
        let library = Library::open("libcuda.so.1").ok()?;
        Some(Functions::new(|name| library.symbol(name)))
    });
    functions.as_ref().ok_or(UNHANDLED_CUDA)
}

/// Returns the number of the device that the thread uses.
pub(super) fn device() -> Result<c_int, Error> {
    let functions = functions()?;
    let mut device = 0;
    functions.device(&mut device)?;
    Ok(device)
}

/// Does something with a device's primary context, which stays, and goes back to the thread's own.
pub(super) fn on_device<T>(
    device: c_int,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let functions = functions()?;
    let (mut before, mut context) = (0, 0);
    functions.context(&mut before)?;
    functions.retain(&mut context, device)?;
    functions.use_context(context)?;
    let done = work();
    functions.use_context(before)?;
    done
}

fn first(text: &'static str) -> &'static c_char {
    // SAFETY: the text is not empty, and as constant as the reference.
    unsafe { &*text.as_ptr().cast() }
}

/// Loads the kernel and returns its handle.
pub(super) fn kernel() -> Result<usize, Error> {
    static KERNEL_HANDLE: OnceLock<Result<usize, Error>> = OnceLock::new();
    *KERNEL_HANDLE.get_or_init(|| {
        let functions = functions()?;
        let (mut library, mut kernel) = (0, 0);
        functions.load(&mut library, first(IMAGE), 0, 0, 0, 0, 0, 0)?;
        functions.kernel(&mut kernel, library, first(KERNEL))?;
        Ok(kernel)
    })
}

/// Launches the kernel behind what the stream has to do, once a number has got that far.
pub(super) fn launch(stream: usize, number: *const u64, wanted: u64) -> Result<(), Error> {
    let functions = functions()?;
    functions.wait(stream, number as u64, wanted, 0)?;
    let config = Config {
        grid: [16, 1, 1],
        block: [512, 1, 1],
        shared_memory: 0,
        stream,
        attributes: 0,
        attribute_count: 0,
    };
    functions.launch(&config, kernel()?, 0, 0)?;
    Ok(())
}

/// Takes memory of the thread's device.
pub(super) fn allocate(bytes: usize) -> Result<Mapped, Error> {
    let functions = functions()?;
    let bytes = bytes.max(1).checked_next_multiple_of(GRANULARITY).ok_or(UNHANDLED_CUDA)?;
    let properties =
        Properties { kind: 1, location_type: 1, location_id: device()?, ..Properties::default() };
    let (mut handle, mut address) = (0, 0);
    functions.create(&mut handle, bytes, &properties, 0)?;
    functions.reserve(&mut address, bytes, 0, 0, 0)?;
    functions.map(address, bytes, 0, handle, 0)?;
    Ok(Mapped { address, bytes, handle })
}

/// Gives it back.
pub(super) fn free(memory: &Mapped) -> Result<(), Error> {
    let functions = functions()?;
    functions.unmap(memory.address, memory.bytes)?;
    functions.unreserve(memory.address, memory.bytes)?;
    functions.release(memory.handle)?;
    Ok(())
}

/// Whether the thread uses a device.
pub(super) fn has_context() -> bool {
    let mut context = 0;
    functions().is_ok_and(|functions| functions.context(&mut context).is_ok()) && context != 0
}

/// `ncclMemAlloc` and `ncclMemFree` keep what they gave here.
static GIVEN: std::sync::Mutex<Vec<Mapped>> = std::sync::Mutex::new(Vec::new());

pub(super) extern "C" fn mem_alloc(out: Out<u64>, bytes: usize) -> c_int {
    super::error::answer(|| {
        let memory = allocate(bytes)?;
        super::error::give(out, memory.address)?;
        GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(memory);
        Ok(())
    })
}

pub(super) extern "C" fn mem_free(address: u64) -> c_int {
    super::error::answer(|| {
        let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let index = given.iter().position(|memory| memory.address == address);
        free(&given.swap_remove(index.ok_or(super::error::INVALID_ARGUMENT)?))
    })
}
