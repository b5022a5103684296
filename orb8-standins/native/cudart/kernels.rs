//! Kernels: what the compiler registers for a program, and launches of it.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_uint};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::driver::{Driver, driver};
use super::error::{Code, INVALID_FUNCTION, INVALID_VALUE, answer};
use super::shared::abi::In;
use super::shared::library::MISSING;

/// `dim3`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Size {
    x: c_uint,
    y: c_uint,
    z: c_uint,
}

/// `__fatBinC_Wrapper_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Wrapper {
    magic: c_uint,
    version: c_uint,
    data: usize,
    unused: usize,
}

/// What was registered.
#[derive(Default)]
struct Kernels {
    images: Vec<Image>,
    /// By the address of the function that stands for the kernel in the program.
    kernels: HashMap<usize, Kernel>,
}

/// Compiled kernels of one part of the program, and the driver's handle once they are loaded.
struct Image {
    data: usize,
    loaded: Option<Loaded>,
}

#[derive(Clone, Copy)]
enum Loaded {
    Library(usize),
    /// Of a driver that has no libraries.
    Module(usize),
}

struct Kernel {
    image: usize,
    name: CString,
    handle: Option<usize>,
}

static KERNELS: Mutex<Option<Kernels>> = Mutex::new(None);

fn with<T>(call: impl FnOnce(&mut Kernels) -> T) -> T {
    let mut kernels: MutexGuard<'_, _> = KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
    call(kernels.get_or_insert_default())
}

/// `__cudaRegisterFatBinary(wrapper*)`: runs before `main`. The handle is the image's number.
pub(super) extern "C" fn register_image(wrapper: In<Wrapper>) -> usize {
    let data = wrapper.get().map_or(0, |wrapper| wrapper.data);
    with(|kernels| {
        kernels.images.push(Image { data, loaded: None });
        kernels.images.len()
    })
}

pub(super) extern "C" fn registered(_image: usize) {}

/// `__cudaRegisterFunction`: the arguments behind the name are not looked at.
pub(super) extern "C" fn register(
    image: usize,
    stub: usize,
    _device_name: In<c_char>,
    name: In<c_char>,
) {
    let Some(name) = name.text().and_then(|name| CString::new(name).ok()) else { return };
    with(|kernels| kernels.kernels.insert(stub, Kernel { image, name, handle: None }));
}

/// `__cudaUnregisterFatBinary(image)`.
pub(super) extern "C" fn unregister(image: usize) {
    with(|kernels| kernels.kernels.retain(|_, kernel| kernel.image != image));
}

/// Returns a kernel's handle; the first time it is loaded.
fn handle(driver: &Driver, stub: usize) -> Result<usize, Code> {
    with(|kernels| {
        let kernel = kernels.kernels.get_mut(&stub).ok_or(INVALID_FUNCTION)?;
        if let Some(handle) = kernel.handle {
            return Ok(handle);
        }
        let index = kernel.image.checked_sub(1).ok_or(INVALID_FUNCTION)?;
        let image = kernels.images.get_mut(index).ok_or(INVALID_FUNCTION)?;
        let loaded = match image.loaded {
            Some(loaded) => loaded,
            None => *image.loaded.insert(load(driver, image.data)?),
        };
        let mut handle = 0;
        let name = name(&kernel.name)?;
        match loaded {
            Loaded::Library(library) => driver.kernel(&mut handle, library, name)?,
            Loaded::Module(module) => driver.function(&mut handle, module, name)?,
        }
        kernel.handle = Some(handle);
        Ok(handle)
    })
}

fn name(text: &CString) -> Result<&c_char, Code> {
    // SAFETY: the text lives as long as the reference, and ends with a zero.
    unsafe { text.as_ptr().as_ref() }.ok_or(INVALID_VALUE)
}

fn load(driver: &Driver, data: usize) -> Result<Loaded, Code> {
    let mut handle = 0;
    match driver.load_library(&mut handle, data, 0, 0, 0, 0, 0, 0) {
        Ok(()) => Ok(Loaded::Library(handle)),
        Err(MISSING) => {
            driver.load_module(&mut handle, data)?;
            Ok(Loaded::Module(handle))
        }
        Err(code) => Err(code),
    }
}

/// `cudaLaunchKernel(stub, grid, block, arguments, shared memory, stream)`: sizes come packed, two
/// registers each.
pub(super) extern "C" fn launch<const OWN_STREAM: bool>(
    stub: usize,
    grid: Size,
    block: Size,
    parameters: usize,
    shared_memory: usize,
    stream: usize,
) -> c_int {
    answer(|| {
        let driver = driver::<OWN_STREAM>()?;
        let function = handle(driver, stub)?;
        let shared_memory = c_uint::try_from(shared_memory).map_err(|_| INVALID_VALUE)?;
        driver.launch(
            function,
            grid.x,
            grid.y,
            grid.z,
            block.x,
            block.y,
            block.z,
            shared_memory,
            stream,
            parameters,
            0,
        )
    })
}

pub(super) extern "C" fn launch_cooperative<const OWN_STREAM: bool>(
    stub: usize,
    grid: Size,
    block: Size,
    parameters: usize,
    shared_memory: usize,
    stream: usize,
) -> c_int {
    answer(|| {
        let driver = driver::<OWN_STREAM>()?;
        let function = handle(driver, stub)?;
        let shared_memory = c_uint::try_from(shared_memory).map_err(|_| INVALID_VALUE)?;
        driver.launch_cooperative(
            function,
            grid.x,
            grid.y,
            grid.z,
            block.x,
            block.y,
            block.z,
            shared_memory,
            stream,
            parameters,
        )
    })
}

/// `cudaLaunchKernelExC(config*, stub, arguments)`: the driver's configuration has the same layout.
pub(super) extern "C" fn launch_configured<const OWN_STREAM: bool>(
    config: usize,
    stub: usize,
    parameters: usize,
) -> c_int {
    answer(|| {
        let driver = driver::<OWN_STREAM>()?;
        driver.launch_configured(config, handle(driver, stub)?, parameters, 0)
    })
}
