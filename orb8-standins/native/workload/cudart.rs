//! The runtime's functions, as a compiled CUDA program calls them.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

use super::cuda::{IMAGE, KERNEL, first};
use super::layer::{Code, Layer};
use super::shared::counts::{
    CONTEXT, DEVICE, EVENT, MANAGED, PEER, PINNED, POOL, TO_DEVICE, TO_HOST, UNIFIED, WITHIN,
};
use super::shared::library::{Library, MISSING, functions};

functions! {
    Functions {
        set_device: "cudaSetDevice", (device: c_int);
        device: "cudaGetDevice", (out: &mut c_int);
        malloc: "cudaMalloc", (out: &mut u64, bytes: usize);
        malloc_async: "cudaMallocAsync", (out: &mut u64, bytes: usize, stream: usize);
        malloc_managed: "cudaMallocManaged", (out: &mut u64, bytes: usize, flags: c_uint);
        malloc_host: "cudaMallocHost", (out: &mut u64, bytes: usize);
        free: "cudaFree", (address: u64);
        free_async: "cudaFreeAsync", (address: u64, stream: usize);
        free_host: "cudaFreeHost", (address: u64);
        copy: "cudaMemcpy", (to: u64, from: u64, bytes: usize, kind: c_int);
        copy_async: "cudaMemcpyAsync",
            (to: u64, from: u64, bytes: usize, kind: c_int, stream: usize);
        copy_peer: "cudaMemcpyPeer",
            (to: u64, to_device: c_int, from: u64, from_device: c_int, bytes: usize);
        copy_peer_async: "cudaMemcpyPeerAsync",
            (to: u64, to_device: c_int, from: u64, from_device: c_int, bytes: usize,
             stream: usize);
        launch: "cudaLaunchKernel",
            (stub: *const c_void, grid: Size, block: Size, parameters: usize,
             shared_memory: usize, stream: usize);
        create_stream: "cudaStreamCreateWithFlags", (out: &mut usize, flags: c_uint);
        destroy_stream: "cudaStreamDestroy", (stream: usize);
        wait_stream: "cudaStreamSynchronize", (stream: usize);
        create_event: "cudaEventCreateWithFlags", (out: &mut usize, flags: c_uint);
        destroy_event: "cudaEventDestroy", (event: usize);
        record: "cudaEventRecord", (event: usize, stream: usize);
        wait_event: "cudaEventSynchronize", (event: usize);
        wait_device: "cudaDeviceSynchronize", ();
        begin_capture: "cudaStreamBeginCapture", (stream: usize, mode: c_uint);
        end_capture: "cudaStreamEndCapture", (stream: usize, out: &mut usize);
        instantiate: "cudaGraphInstantiate", (out: &mut usize, graph: usize, flags: c_ulonglong);
        destroy_graph: "cudaGraphDestroy", (graph: usize);
        launch_graph: "cudaGraphLaunch", (graph: usize, stream: usize);
    }
}

/// `dim3`.
#[repr(C)]
pub(crate) struct Size {
    x: c_uint,
    y: c_uint,
    z: c_uint,
}

impl Size {
    const ONE: Self = Self { x: 1, y: 1, z: 1 };
}

/// `__fatBinC_Wrapper_t`, as the compiler puts it into a program.
#[repr(C)]
struct Wrapper {
    magic: c_uint,
    version: c_uint,
    data: *const c_char,
    unused: *const c_void,
}

/// What the compiler makes of a kernel in the program: its address names the kernel.
extern "C" fn stub() {}

/// The runtime's library.
pub(crate) struct Cudart(Functions);

impl Cudart {
    /// Finds the functions and registers the kernel, which compiled programs do before `main`.
    pub(crate) fn new(library: Library) -> Result<Self, String> {
        let find = |name| library.symbol(name).ok_or(format!("libcudart has no {name}"));
        let register_image = find("__cudaRegisterFatBinary")?;
        let register = find("__cudaRegisterFunction")?;
        let wrapper = Wrapper {
            magic: 0x4662_43b1,
            version: 1,
            data: IMAGE.as_ptr().cast(),
            unused: std::ptr::null(),
        };
        // SAFETY: a function of this name has this type.
        let register_image: unsafe extern "C" fn(*const Wrapper) -> usize =
            unsafe { std::mem::transmute(register_image) };
        // SAFETY: as above.
        let register: unsafe extern "C" fn(usize, *const c_void, *const c_char, *const c_char) =
            unsafe { std::mem::transmute(register) };
        // SAFETY: the image and the names are constants; of the wrapper only the call's time is used.
        unsafe {
            let image = register_image(&wrapper);
            register(image, Self::stub(), first(KERNEL), first(KERNEL));
        }
        Ok(Self(Functions::new(|name| library.symbol(name))))
    }

    fn stub() -> *const c_void {
        stub as *const c_void
    }
}

impl Layer for Cudart {
    fn enter(&self, device: c_int) -> Result<(), Code> {
        self.0.set_device(device)
    }

    /// The runtime loads what is registered, once: there is nothing to load again.
    fn load(&self) -> Result<u64, Code> {
        Ok(0)
    }

    fn alloc(&self, kind: usize, bytes: u64) -> Result<u64, Code> {
        let (bytes, mut address) = (bytes as usize, 0);
        match kind {
            DEVICE => self.0.malloc(&mut address, bytes)?,
            POOL => self.0.malloc_async(&mut address, bytes, 0)?,
            MANAGED => self.0.malloc_managed(&mut address, bytes, 1)?,
            PINNED => self.0.malloc_host(&mut address, bytes)?,
            _ => return Err(MISSING),
        }
        Ok(address)
    }

    fn free(&self, kind: usize, address: u64, _bytes: u64) -> Result<(), Code> {
        match kind {
            DEVICE | MANAGED => self.0.free(address),
            POOL => self.0.free_async(address, 0),
            PINNED => self.0.free_host(address),
            _ => Err(MISSING),
        }
    }

    fn copy(
        &self,
        kind: usize,
        to: u64,
        from: u64,
        bytes: u64,
        stream: Option<usize>,
    ) -> Result<(), Code> {
        let bytes = bytes as usize;
        let mut device = 0;
        self.0.device(&mut device)?;
        let number = match kind {
            TO_DEVICE => 1,
            TO_HOST => 2,
            WITHIN => 3,
            UNIFIED => 4,
            PEER => {
                return match stream {
                    Some(stream) => self.0.copy_peer_async(to, device, from, device, bytes, stream),
                    None => self.0.copy_peer(to, device, from, device, bytes),
                };
            }
            _ => return Err(MISSING),
        };
        match stream {
            Some(stream) => self.0.copy_async(to, from, bytes, number, stream),
            None => self.0.copy(to, from, bytes, number),
        }
    }

    fn launch(&self, stream: usize) -> Result<(), Code> {
        self.0.launch(Self::stub(), Size::ONE, Size::ONE, 0, 0, stream)
    }

    fn stream(&self) -> Result<usize, Code> {
        let mut stream = 0;
        self.0.create_stream(&mut stream, 1)?;
        Ok(stream)
    }

    fn destroy_stream(&self, stream: usize) -> Result<(), Code> {
        self.0.destroy_stream(stream)
    }

    fn wait(&self, kind: usize, stream: usize) -> Result<(), Code> {
        match kind {
            CONTEXT => self.0.wait_device(),
            EVENT => {
                let mut event = 0;
                self.0.create_event(&mut event, 2)?;
                self.0.record(event, stream)?;
                self.0.wait_event(event)?;
                self.0.destroy_event(event)
            }
            _ => self.0.wait_stream(stream),
        }
    }

    fn graph(&self, stream: usize, launches: u64) -> Result<usize, Code> {
        let (mut graph, mut executable) = (0, 0);
        self.0.begin_capture(stream, 0)?;
        (0..launches).try_for_each(|_| self.launch(stream))?;
        self.0.end_capture(stream, &mut graph)?;
        self.0.instantiate(&mut executable, graph, 0)?;
        self.0.destroy_graph(graph)?;
        Ok(executable)
    }

    fn launch_graph(&self, graph: usize, stream: usize) -> Result<(), Code> {
        self.0.launch_graph(graph, stream)
    }
}
