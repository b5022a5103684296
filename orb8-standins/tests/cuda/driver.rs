//! The driver's library as a C program calls it.

use std::ffi::{CString, c_int, c_void};
use std::path::Path;
use std::sync::OnceLock;

use libloading::Library;

use crate::node::paths;

const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const NOT_INITIALIZED: c_int = 3;
const DEINITIALIZED: c_int = 4;
const INVALID_CONTEXT: c_int = 201;
const NOT_FOUND: c_int = 500;

/// Calls a function of a library by its name.
macro_rules! call {
    ($library:expr, $name:ident ($($argument:expr => $type:ty),* $(,)?)) => {{
        let name = stringify!($name);
        // SAFETY: the functions of the driver have these types, and what is passed is there.
        unsafe {
            let function = $library
                .get::<unsafe extern "C" fn($($type),*) -> c_int>(name.as_bytes())
                .unwrap_or_else(|error| panic!("{error}"));
            function($($argument),*)
        }
    }};
}

fn open(path: &Path) -> Library {
    // SAFETY: the stand-in does nothing when it is loaded.
    unsafe { Library::new(path) }.unwrap()
}

/// Returns the driver's library, ready; each thread gets device 0's context.
fn cuda() -> &'static Library {
    static CUDA: OnceLock<Library> = OnceLock::new();
    let cuda = CUDA.get_or_init(|| open(&paths().cuda));
    assert_eq!(call!(cuda, cuInit(0 => u32)), 0);
    let mut context = 0_usize;
    assert_eq!(call!(cuda, cuDevicePrimaryCtxRetain(&mut context => &mut usize, 0 => c_int)), 0);
    assert_eq!(call!(cuda, cuCtxSetCurrent(context => usize)), 0);
    cuda
}

/// A copy of the library in a folder of its own, which knows nothing yet.
fn fresh() -> (tempfile::TempDir, Library) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("libcuda.so.1");
    std::fs::copy(&paths().cuda, &copy).unwrap();
    let library = open(&copy);
    (folder, library)
}

fn exported(library: &Library, name: &str) -> *const c_void {
    // SAFETY: only the address is taken.
    let symbol = unsafe { library.get::<unsafe extern "C" fn()>(name.as_bytes()) };
    symbol.map_or(std::ptr::null(), |symbol| *symbol as *const c_void)
}

/// Asks the driver for a function; returns the answer, the address and the status.
fn address(
    library: &Library,
    name: &str,
    version: c_int,
    flags: u64,
) -> (c_int, *const c_void, u32) {
    let text = CString::new(name).unwrap();
    let (mut address, mut status) = (std::ptr::null(), u32::MAX);
    let code = call!(library, cuGetProcAddress_v2(
        text.as_ptr() => *const std::ffi::c_char,
        &mut address => &mut *const c_void,
        version => c_int,
        flags => u64,
        &mut status => &mut u32,
    ));
    (code, address, status)
}

#[test]
fn addresses_are_those_of_exported_functions() {
    let cuda = cuda();
    for (name, flags, exported_name) in [
        ("cuLaunchKernel", 0, "cuLaunchKernel"),
        ("cuLaunchKernel", 2, "cuLaunchKernel_ptsz"),
        ("cuMemAlloc", 0, "cuMemAlloc_v2"),
        ("cuMemAlloc", 2, "cuMemAlloc_v2"),
        ("cuMemcpyHtoD", 2, "cuMemcpyHtoD_v2_ptds"),
        ("cuMemcpyHtoDAsync", 0, "cuMemcpyHtoDAsync_v2"),
        ("cuMemcpyHtoDAsync", 2, "cuMemcpyHtoDAsync_v2_ptsz"),
        ("cuMemcpyHtoDAsync_v2", 0, "cuMemcpyHtoDAsync_v2"),
        ("cuStreamSynchronize", 1, "cuStreamSynchronize"),
        ("cuStreamSynchronize", 2, "cuStreamSynchronize_ptsz"),
        ("cuGetProcAddress", 0, "cuGetProcAddress_v2"),
        ("cuCtxCreate", 0, "cuCtxCreate_v4"),
    ] {
        let expected = (0, exported(cuda, exported_name), 0);
        assert_eq!(address(cuda, name, 12_080, flags), expected, "{name} with {flags}");
        assert!(!expected.1.is_null());
    }
}

#[test]
fn addresses_are_those_of_the_version_that_is_asked_for() {
    let cuda = cuda();
    let of = |name, version| address(cuda, name, version, 0).1;
    assert_eq!(of("cuCtxCreate", 11_000), exported(cuda, "cuCtxCreate_v2"));
    assert_eq!(of("cuCtxCreate", 11_040), exported(cuda, "cuCtxCreate_v3"));
    assert_eq!(of("cuMemAlloc", 2_000), exported(cuda, "cuMemAlloc"));
    assert_eq!(of("cuGraphInstantiate", 10_000), exported(cuda, "cuGraphInstantiate"));
    let null = std::ptr::null();
    assert_eq!(address(cuda, "cuMemAllocAsync", 11_010, 0), (0, null, 2), "it came with 11.2");
    assert_eq!(address(cuda, "cuDance", 12_000, 0), (0, null, 1));
    assert_eq!(address(cuda, "cuInit", 99_000, 0).0, INVALID_VALUE, "newer than the driver");
}

#[test]
fn there_is_no_table_of_the_real_library() {
    let mut table = std::ptr::null::<c_void>();
    let id = [0x6b_u8; 16];
    let code = call!(cuda(), cuGetExportTable(
        &mut table => &mut *const c_void,
        &id => &[u8; 16],
    ));
    assert_eq!((code, table.is_null()), (NOT_FOUND, true));
}

#[test]
fn nothing_works_before_there_is_a_context() {
    let (_folder, cuda) = fresh();
    let (mut out, mut number) = (0_u64, 0);
    let alloc = |out: &mut u64| call!(cuda, cuMemAlloc_v2(out => &mut u64, 4096 => usize));
    assert_eq!(alloc(&mut out), NOT_INITIALIZED);
    assert_eq!(call!(cuda, cuInit(1 => u32)), INVALID_VALUE);
    assert_eq!(call!(cuda, cuInit(0 => u32)), 0);
    assert_eq!(alloc(&mut out), INVALID_CONTEXT);
    assert_eq!(call!(cuda, cuDeviceGetCount(&mut number => &mut c_int)), 0);
    assert_eq!(number, 8);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_flag_at_the_beginning_ends_everything() {
    let (_folder, cuda) = fresh();
    assert_eq!(call!(cuda, cuInit(0 => u32)), 0);
    let thunk = exported(&cuda, "cuInit").cast::<u8>();
    // SAFETY: the thunk's bytes are there, as the tests of its form say, and nobody else uses this
    // copy's flag.
    unsafe {
        let distance = thunk.add(2).cast::<i32>().read_unaligned();
        let flag = thunk.add(10).offset(distance as isize).cast_mut().cast::<u32>();
        flag.write(0x321c_ba00);
    }
    assert_eq!(call!(cuda, cuInit(0 => u32)), DEINITIALIZED);
}

#[test]
fn memory_is_given_and_taken_back_once() {
    // No other test takes so much: addresses of one length are given again.
    const SIZE: usize = 12_800;
    let cuda = cuda();
    let (mut one, mut two) = (0_u64, 0_u64);
    let alloc = |out: &mut u64, bytes| call!(cuda, cuMemAlloc_v2(out => &mut u64, bytes => usize));
    let free = |address: u64| call!(cuda, cuMemFree_v2(address => u64));
    assert_eq!((alloc(&mut one, SIZE), alloc(&mut two, SIZE)), (0, 0));
    assert!(one != 0 && one.abs_diff(two) >= SIZE as u64);
    let copy = |to: u64, bytes: usize| {
        let from = vec![0_u8; bytes];
        call!(cuda, cuMemcpyHtoD_v2(
            to => u64,
            from.as_ptr().cast() => *const c_void,
            bytes => usize,
        ))
    };
    assert_eq!((copy(one, SIZE), copy(one, SIZE + 1), copy(one + 1, SIZE)), (0, 1, 1));
    assert_eq!((free(one + 512), free(one), free(one)), (INVALID_VALUE, 0, INVALID_VALUE));
    assert_eq!((copy(one, 1), free(0), free(0xdead)), (INVALID_VALUE, 1, 1));
    let mut again = 0;
    assert_eq!((alloc(&mut again, SIZE), again), (0, one), "as drivers do");
    assert_eq!((free(again), free(two)), (0, 0));
    assert_eq!(alloc(&mut one, 0), INVALID_VALUE);
}

#[test]
fn memory_runs_out() {
    // Device 7 is nobody else's here.
    let cuda = cuda();
    let mut context = 0_usize;
    assert_eq!(call!(cuda, cuDevicePrimaryCtxRetain(&mut context => &mut usize, 7 => c_int)), 0);
    assert_eq!(call!(cuda, cuCtxSetCurrent(context => usize)), 0);
    let (mut left, mut total, mut address) = (0_usize, 0_usize, 0_u64);
    let mut info = || {
        let code = call!(cuda, cuMemGetInfo_v2(
            &mut left => &mut usize,
            &mut total => &mut usize,
        ));
        assert_eq!(code, 0);
        (left, total)
    };
    let (before, all) = info();
    assert_eq!(before, all);
    let alloc =
        |address: &mut u64, bytes| call!(cuda, cuMemAlloc_v2(address => &mut u64, bytes => usize));
    assert_eq!(alloc(&mut address, all + 1), OUT_OF_MEMORY);
    assert_eq!(alloc(&mut address, all - 4096), 0);
    assert_eq!(info().0, 4096);
    assert_eq!(alloc(&mut 0, 4097), OUT_OF_MEMORY);
    assert_eq!(call!(cuda, cuMemFree_v2(address => u64)), 0);
    assert_eq!(info().0, all);
    assert_eq!(alloc(&mut address, 4096), 0);
    assert_eq!(call!(cuda, cuDevicePrimaryCtxReset_v2(7 => c_int)), 0, "takes all back");
    assert_eq!(call!(cuda, cuMemFree_v2(address => u64)), INVALID_CONTEXT);
}

/// `CUmemAllocationProp`.
#[repr(C)]
struct Properties([u32; 4], [u64; 2]);

#[test]
fn physical_memory_stays_while_it_is_mapped() {
    const SIZE: usize = 4 << 20;
    let cuda = cuda();
    let mut context = 0_usize;
    assert_eq!(call!(cuda, cuDevicePrimaryCtxRetain(&mut context => &mut usize, 6 => c_int)), 0);
    assert_eq!(call!(cuda, cuCtxSetCurrent(context => usize)), 0);
    let left = || {
        let (mut left, mut total) = (0_usize, 0_usize);
        call!(cuda, cuMemGetInfo_v2(&mut left => &mut usize, &mut total => &mut usize));
        left
    };
    let before = left();
    let properties = Properties([1, 0, 1, 6], [0; 2]);
    let (mut handle, mut address) = (0_u64, 0_u64);
    let mut create = |bytes| {
        call!(cuda, cuMemCreate(
            &mut handle => &mut u64,
            bytes => usize,
            &properties => &Properties,
            0 => u64,
        ))
    };
    assert_eq!((create(4096), create(SIZE)), (INVALID_VALUE, 0), "not a multiple of 2 MiB");
    assert_eq!(left(), before - SIZE);
    let reserved = call!(cuda, cuMemAddressReserve(
        &mut address => &mut u64, 2 * SIZE => usize, 0 => usize, 0 => u64, 0 => u64,
    ));
    assert_eq!(reserved, 0);
    let middle = address + SIZE as u64 / 2;
    let map = || {
        call!(cuda, cuMemMap(
            middle => u64, SIZE => usize, 0 => usize, handle => u64, 0 => u64,
        ))
    };
    assert_eq!((map(), map()), (0, INVALID_VALUE), "once");
    let copy = |to: u64| call!(cuda, cuMemsetD8_v2(to => u64, 0 => u8, 16 => usize));
    assert_eq!((copy(middle), copy(address)), (0, INVALID_VALUE), "only where it is mapped");
    let release = || call!(cuda, cuMemRelease(handle => u64));
    assert_eq!((release(), release()), (0, INVALID_VALUE));
    assert_eq!(left(), before - SIZE, "it is still mapped");
    let free = || call!(cuda, cuMemAddressFree(address => u64, 2 * SIZE => usize));
    assert_eq!(free(), INVALID_VALUE);
    assert_eq!(call!(cuda, cuMemUnmap(middle => u64, SIZE => usize)), 0);
    assert_eq!((left(), free()), (before, 0));
}

#[test]
fn a_graph_has_what_was_captured() {
    let cuda = cuda();
    let image = c".version 6.0\n.entry one() { ret; }";
    let (mut module, mut kernel, mut stream) = (0_usize, 0_usize, 0_usize);
    let loaded = call!(cuda, cuModuleLoadData(
        &mut module => &mut usize,
        image.as_ptr() => *const std::ffi::c_char,
    ));
    assert_eq!(loaded, 0);
    let mut function = |name: &std::ffi::CStr| {
        call!(cuda, cuModuleGetFunction(
            &mut kernel => &mut usize,
            module => usize,
            name.as_ptr() => *const std::ffi::c_char,
        ))
    };
    assert_eq!((function(c"two"), function(c"one")), (NOT_FOUND, 0));
    assert_eq!(call!(cuda, cuStreamCreate(&mut stream => &mut usize, 1 => u32)), 0);
    assert_eq!(call!(cuda, cuStreamBeginCapture_v2(stream => usize, 0 => u32)), 0);
    for _ in 0..3 {
        let launched = call!(cuda, cuLaunchKernel(
            kernel => usize, 1 => u32, 1 => u32, 1 => u32, 32 => u32, 1 => u32, 1 => u32, 0 => u32,
            stream => usize, 0 => usize, 0 => usize,
        ));
        assert_eq!(launched, 0);
    }
    assert_eq!(call!(cuda, cuStreamSynchronize(stream => usize)), 900, "it captures");
    let (mut graph, mut executable, mut nodes) = (0_usize, 0_usize, 0_usize);
    assert_eq!(call!(cuda, cuStreamEndCapture(stream => usize, &mut graph => &mut usize)), 0);
    let counted = call!(cuda, cuGraphGetNodes(
        graph => usize, std::ptr::null_mut() => *mut usize, &mut nodes => &mut usize,
    ));
    assert_eq!((counted, nodes), (0, 3));
    let made = call!(cuda, cuGraphInstantiateWithFlags(
        &mut executable => &mut usize, graph => usize, 0 => u64,
    ));
    assert_eq!(made, 0);
    assert_eq!(call!(cuda, cuGraphLaunch(executable => usize, stream => usize)), 0);
    assert_eq!(call!(cuda, cuStreamSynchronize(stream => usize)), 0);
    assert_eq!(call!(cuda, cuGraphLaunch(graph => usize, stream => usize)), 400);
}

#[test]
fn devices_are_those_of_nvml() {
    let cuda = cuda();
    let folder = tempfile::tempdir().unwrap();
    let node = orb8_standins::install(folder.path()).unwrap();
    node.play(orb8_standins::scenario("h100x8").unwrap().text).unwrap();
    let nvml = nvml_wrapper::Nvml::builder().lib_path(node.nvml.as_os_str()).init().unwrap();
    for device in 0..8 {
        let mut id = [0_u8; 16];
        let code = call!(cuda, cuDeviceGetUuid_v2(
            &mut id => &mut [u8; 16],
            device => c_int,
        ));
        assert_eq!(code, 0);
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let uuid = nvml.device_by_index(device.cast_unsigned()).unwrap().uuid().unwrap();
        assert_eq!(uuid.replace("GPU-", "").replace('-', ""), hex);
    }
}
