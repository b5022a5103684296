//! The driver's functions: those whose default stream is the context's, or those with a stream of each
//! thread.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_ulonglong};
use std::sync::{Mutex, PoisonError};

use super::layer::{Code, Layer};
use super::shared::counts::{
    CONTEXT, Counts, DEVICE, EVENT, MANAGED, PEER, PHYSICAL, PINNED, POOL, TABLE, TO_DEVICE,
    TO_HOST, UNIFIED, WITHIN,
};
use super::shared::library::{Library, MISSING, functions};

functions! {
    #[expect(clippy::too_many_arguments, reason = "as the C functions have them")]
    Functions {
        init: "cuInit", (flags: c_uint);
        table: "cuGetExportTable", (out: &mut Option<&'static Counts>, id: &[u8; 16]);
        retain: "cuDevicePrimaryCtxRetain", (out: &mut usize, device: c_int);
        set_context: "cuCtxSetCurrent", (context: usize);
        context: "cuCtxGetCurrent", (out: &mut usize);
        device: "cuCtxGetDevice", (out: &mut c_int);
        load: "cuModuleLoadData", (out: &mut usize, image: &c_char);
        unload: "cuModuleUnload", (module: usize);
        function: "cuModuleGetFunction", (out: &mut usize, module: usize, name: &c_char);
        alloc: "cuMemAlloc_v2", (out: &mut u64, bytes: usize);
        free: "cuMemFree_v2", (address: u64);
        alloc_async: "cuMemAllocAsync", (out: &mut u64, bytes: usize, stream: usize);
        free_async: "cuMemFreeAsync", (address: u64, stream: usize);
        alloc_managed: "cuMemAllocManaged", (out: &mut u64, bytes: usize, flags: c_uint);
        host_alloc: "cuMemHostAlloc", (out: &mut u64, bytes: usize, flags: c_uint);
        free_host: "cuMemFreeHost", (address: u64);
        create: "cuMemCreate",
            (out: &mut u64, bytes: usize, properties: &Properties, flags: c_ulonglong);
        release: "cuMemRelease", (handle: u64);
        reserve: "cuMemAddressReserve",
            (out: &mut u64, bytes: usize, alignment: usize, address: u64, flags: c_ulonglong);
        unreserve: "cuMemAddressFree", (address: u64, bytes: usize);
        map: "cuMemMap",
            (address: u64, bytes: usize, offset: usize, handle: u64, flags: c_ulonglong);
        unmap: "cuMemUnmap", (address: u64, bytes: usize);
        to_device: "cuMemcpyHtoD_v2", (to: u64, from: u64, bytes: usize);
        to_host: "cuMemcpyDtoH_v2", (to: u64, from: u64, bytes: usize);
        within: "cuMemcpyDtoD_v2", (to: u64, from: u64, bytes: usize);
        unified: "cuMemcpy", (to: u64, from: u64, bytes: usize);
        peer: "cuMemcpyPeer",
            (to: u64, to_context: usize, from: u64, from_context: usize, bytes: usize);
        to_device_async: "cuMemcpyHtoDAsync_v2", (to: u64, from: u64, bytes: usize, stream: usize);
        to_host_async: "cuMemcpyDtoHAsync_v2", (to: u64, from: u64, bytes: usize, stream: usize);
        within_async: "cuMemcpyDtoDAsync_v2", (to: u64, from: u64, bytes: usize, stream: usize);
        unified_async: "cuMemcpyAsync", (to: u64, from: u64, bytes: usize, stream: usize);
        peer_async: "cuMemcpyPeerAsync",
            (to: u64, to_context: usize, from: u64, from_context: usize, bytes: usize,
             stream: usize);
        launch: "cuLaunchKernel",
            (function: usize, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
             block_x: c_uint, block_y: c_uint, block_z: c_uint,
             shared_memory: c_uint, stream: usize, parameters: usize, extra: usize);
        create_stream: "cuStreamCreate", (out: &mut usize, flags: c_uint);
        destroy_stream: "cuStreamDestroy_v2", (stream: usize);
        wait_stream: "cuStreamSynchronize", (stream: usize);
        create_event: "cuEventCreate", (out: &mut usize, flags: c_uint);
        destroy_event: "cuEventDestroy_v2", (event: usize);
        record: "cuEventRecord", (event: usize, stream: usize);
        wait_event: "cuEventSynchronize", (event: usize);
        wait_context: "cuCtxSynchronize", ();
        begin_capture: "cuStreamBeginCapture_v2", (stream: usize, mode: c_uint);
        end_capture: "cuStreamEndCapture", (stream: usize, out: &mut usize);
        instantiate: "cuGraphInstantiateWithFlags",
            (out: &mut usize, graph: usize, flags: c_ulonglong);
        instantiate_old: "cuGraphInstantiate",
            (out: &mut usize, graph: usize, node: usize, log: usize, length: usize);
        destroy_graph: "cuGraphDestroy", (graph: usize);
        launch_graph: "cuGraphLaunch", (graph: usize, stream: usize);
    }
}

/// `CUmemAllocationProp`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Properties {
    kind: c_uint,
    handle_types: c_uint,
    location_type: c_uint,
    location_id: c_int,
    metadata: usize,
    flags: [u8; 8],
}

/// A kernel that does nothing, for the stand-in and for real drivers.
pub(crate) const IMAGE: &str = ".version 6.0\n.target sm_50\n.address_size 64\n\
    .visible .entry step() { ret; }\n\0";
pub(crate) const KERNEL: &str = "step\0";

/// What physical memory is a multiple of.
pub(crate) const GRANULARITY: u64 = 2 << 20;

/// The driver's library.
pub(crate) struct Cuda {
    functions: Functions,
    is_per_thread: bool,
    /// By device.
    contexts: Mutex<HashMap<c_int, Context>>,
    /// Physical memory by the address where it is mapped.
    handles: Mutex<HashMap<u64, u64>>,
}

/// A device's context and the kernel in it.
#[derive(Clone, Copy)]
struct Context {
    handle: usize,
    kernel: usize,
}

thread_local! {
    /// The kernel in the context that this thread uses.
    static KERNEL_HANDLE: Cell<usize> = const { Cell::new(0) };
}

/// Returns the first character of a text that a zero ends.
pub(crate) fn first(text: &'static str) -> &'static c_char {
    // SAFETY: the text is not empty, and as constant as the reference.
    unsafe { &*text.as_ptr().cast() }
}

impl Cuda {
    pub(crate) fn new(library: Library, is_per_thread: bool) -> Self {
        let functions = Functions::new(|name| {
            let own = |suffix| library.symbol(&format!("{name}_{suffix}"));
            let own = is_per_thread.then(|| own("ptsz").or_else(|| own("ptds"))).flatten();
            own.or_else(|| library.symbol(name))
        });
        Self { functions, is_per_thread, contexts: Mutex::default(), handles: Mutex::default() }
    }

    /// Returns what the driver was asked, of a driver that tells.
    pub(crate) fn counts(&self) -> Option<&'static Counts> {
        let mut counts = None;
        self.functions.table(&mut counts, &TABLE).ok()?;
        counts
    }

    fn map(&self, bytes: u64) -> Result<u64, Code> {
        let functions = &self.functions;
        let length = bytes.next_multiple_of(GRANULARITY) as usize;
        let mut properties = Properties { kind: 1, location_type: 1, ..Properties::default() };
        functions.device(&mut properties.location_id)?;
        let (mut handle, mut address) = (0, 0);
        functions.create(&mut handle, length, &properties, 0)?;
        functions.reserve(&mut address, length, 0, 0, 0)?;
        functions.map(address, length, 0, handle, 0)?;
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.insert(address, handle);
        Ok(address)
    }

    fn unmap(&self, address: u64, bytes: u64) -> Result<(), Code> {
        let length = bytes.next_multiple_of(GRANULARITY) as usize;
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = handles.remove(&address).ok_or(MISSING)?;
        self.functions.unmap(address, length)?;
        self.functions.unreserve(address, length)?;
        self.functions.release(handle)
    }
}

impl Layer for Cuda {
    fn enter(&self, device: c_int) -> Result<(), Code> {
        let functions = &self.functions;
        functions.init(0)?;
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = contexts.get(&device) {
            KERNEL_HANDLE.set(context.kernel);
            return functions.set_context(context.handle);
        }
        let (mut handle, mut module, mut kernel) = (0, 0, 0);
        functions.retain(&mut handle, device)?;
        functions.set_context(handle)?;
        functions.load(&mut module, first(IMAGE))?;
        functions.function(&mut kernel, module, first(KERNEL))?;
        contexts.insert(device, Context { handle, kernel });
        KERNEL_HANDLE.set(kernel);
        Ok(())
    }

    fn load(&self) -> Result<u64, Code> {
        let mut module = 0;
        self.functions.load(&mut module, first(IMAGE))?;
        self.functions.unload(module)?;
        Ok(1)
    }

    fn alloc(&self, kind: usize, bytes: u64) -> Result<u64, Code> {
        let (functions, length, mut address) = (&self.functions, bytes as usize, 0);
        match kind {
            DEVICE => functions.alloc(&mut address, length)?,
            POOL => functions.alloc_async(&mut address, length, 0)?,
            PHYSICAL => address = self.map(bytes)?,
            MANAGED => functions.alloc_managed(&mut address, length, 1)?,
            PINNED => functions.host_alloc(&mut address, length, 0)?,
            _ => return Err(MISSING),
        }
        Ok(address)
    }

    fn free(&self, kind: usize, address: u64, bytes: u64) -> Result<(), Code> {
        match kind {
            DEVICE | MANAGED => self.functions.free(address),
            POOL => self.functions.free_async(address, 0),
            PHYSICAL => self.unmap(address, bytes),
            PINNED => self.functions.free_host(address),
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
        let (functions, bytes) = (&self.functions, bytes as usize);
        let mut context = 0;
        if kind == PEER {
            functions.context(&mut context)?;
        }
        match (kind, stream) {
            (TO_DEVICE, None) => functions.to_device(to, from, bytes),
            (TO_DEVICE, Some(stream)) => functions.to_device_async(to, from, bytes, stream),
            (TO_HOST, None) => functions.to_host(to, from, bytes),
            (TO_HOST, Some(stream)) => functions.to_host_async(to, from, bytes, stream),
            (WITHIN, None) => functions.within(to, from, bytes),
            (WITHIN, Some(stream)) => functions.within_async(to, from, bytes, stream),
            (UNIFIED, None) => functions.unified(to, from, bytes),
            (UNIFIED, Some(stream)) => functions.unified_async(to, from, bytes, stream),
            (PEER, None) => functions.peer(to, context, from, context, bytes),
            (PEER, Some(stream)) => functions.peer_async(to, context, from, context, bytes, stream),
            _ => Err(MISSING),
        }
    }

    fn launch(&self, stream: usize) -> Result<(), Code> {
        let kernel = KERNEL_HANDLE.get();
        self.functions.launch(kernel, 1, 1, 1, 1, 1, 1, 0, stream, 0, 0)
    }

    fn stream(&self) -> Result<usize, Code> {
        let mut stream = 0;
        if !self.is_per_thread {
            self.functions.create_stream(&mut stream, 1)?;
        }
        Ok(stream)
    }

    fn destroy_stream(&self, stream: usize) -> Result<(), Code> {
        if stream == 0 { Ok(()) } else { self.functions.destroy_stream(stream) }
    }

    fn wait(&self, kind: usize, stream: usize) -> Result<(), Code> {
        match kind {
            CONTEXT => self.functions.wait_context(),
            EVENT => {
                let mut event = 0;
                self.functions.create_event(&mut event, 2)?;
                self.functions.record(event, stream)?;
                self.functions.wait_event(event)?;
                self.functions.destroy_event(event)
            }
            _ => self.functions.wait_stream(stream),
        }
    }

    fn graph(&self, stream: usize, launches: u64) -> Result<usize, Code> {
        let (functions, mut graph, mut executable) = (&self.functions, 0, 0);
        functions.begin_capture(stream, 0)?;
        (0..launches).try_for_each(|_| self.launch(stream))?;
        functions.end_capture(stream, &mut graph)?;
        match functions.instantiate(&mut executable, graph, 0) {
            Err(MISSING) => functions.instantiate_old(&mut executable, graph, 0, 0, 0)?,
            made => made?,
        }
        functions.destroy_graph(graph)?;
        Ok(executable)
    }

    fn launch_graph(&self, graph: usize, stream: usize) -> Result<(), Code> {
        self.functions.launch_graph(graph, stream)
    }
}
