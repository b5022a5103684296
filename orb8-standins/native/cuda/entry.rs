//! How programs find functions: by name, for the version of CUDA that they were made for.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};

use super::error::{INVALID_VALUE, NOT_FOUND, answer, give};
use super::exports;
use super::shared::abi::{In, Out};
use super::shared::counts::{Counts, TABLE};
use super::state::{COUNTS, driver};

/// `CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM`.
const PER_THREAD: c_ulonglong = 2;

/// `CUdriverProcAddressQueryResult`.
const FOUND: c_uint = 0;
const NO_SYMBOL: c_uint = 1;
const TOO_NEW: c_uint = 2;

/// In which version of CUDA functions came, where it is not what [`since`] says.
const SINCE: [(&str, c_int); 44] = [
    ("cuCtxCreate_v3", 11_040),
    ("cuCtxCreate_v4", 12_050),
    ("cuCtxGetDevice_v2", 13_000),
    ("cuCtxSynchronize_v2", 13_000),
    ("cuDeviceGetDefaultMemPool", 11_020),
    ("cuDeviceGetUuid", 9_020),
    ("cuDeviceGetUuid_v2", 11_040),
    ("cuDevicePrimaryCtxRelease_v2", 11_000),
    ("cuDevicePrimaryCtxReset_v2", 11_000),
    ("cuDevicePrimaryCtxSetFlags_v2", 11_000),
    ("cuEventElapsedTime_v2", 12_080),
    ("cuEventRecordWithFlags", 11_010),
    ("cuFuncGetName", 12_030),
    ("cuGetProcAddress", 11_030),
    ("cuGetProcAddress_v2", 12_000),
    ("cuGraphAddKernelNode", 10_000),
    ("cuGraphAddKernelNode_v2", 12_000),
    ("cuGraphInstantiate", 10_000),
    ("cuGraphInstantiateWithFlags", 11_040),
    ("cuGraphInstantiateWithParams", 12_000),
    ("cuGraphInstantiate_v2", 11_000),
    ("cuGraphLaunch", 10_000),
    ("cuKernelGetFunction", 12_000),
    ("cuKernelGetName", 12_030),
    ("cuLaunchCooperativeKernel", 9_000),
    ("cuLaunchKernelEx", 11_060),
    ("cuLibraryGetKernel", 12_000),
    ("cuLibraryGetModule", 12_000),
    ("cuLibraryLoadData", 12_000),
    ("cuLibraryLoadFromFile", 12_000),
    ("cuLibraryUnload", 12_000),
    ("cuMemAllocAsync", 11_020),
    ("cuMemAllocFromPoolAsync", 11_020),
    ("cuMemCreate", 10_020),
    ("cuMemFreeAsync", 11_020),
    ("cuMemMap", 10_020),
    ("cuMemRelease", 10_020),
    ("cuMemcpyBatchAsync", 12_080),
    ("cuMemcpyBatchAsync_v2", 13_000),
    ("cuStreamBeginCapture", 10_000),
    ("cuStreamBeginCapture_v2", 10_010),
    ("cuStreamGetCtx", 9_020),
    ("cuStreamWaitValue32_v2", 11_070),
    ("cuStreamWaitValue64_v2", 11_070),
];

fn since(name: &str) -> c_int {
    let known = SINCE.iter().find(|row| row.0 == name).map(|row| row.1);
    known.unwrap_or(if name.ends_with("_v2") { 3_020 } else { 2_000 })
}

/// Finds the newest version of a function up to a version of CUDA, the thread's variant where that
/// is wanted and there is one.
fn find(symbol: &str, version: c_int, flags: c_ulonglong) -> Result<*const (), c_uint> {
    let is_version = |name: &str| {
        name.strip_prefix(symbol).is_some_and(|rest| {
            let number = rest.strip_prefix("_v");
            rest.is_empty() || number.is_some_and(|n| n.parse::<u32>().is_ok())
        })
    };
    let mut versions: Vec<&str> =
        exports::all().map(|(name, _)| *name).filter(|name| is_version(name)).collect();
    if versions.is_empty() {
        return Err(NO_SYMBOL);
    }
    versions.retain(|name| since(name) <= version);
    let newest =
        versions.into_iter().max_by_key(|name| (since(name), name.len())).ok_or(TOO_NEW)?;
    let address =
        |name: &str| exports::all().find(|(known, _)| *known == name).map(|(_, slot)| slot.0);
    let own = |suffix| address(&format!("{newest}_{suffix}"));
    let own = (flags & PER_THREAD != 0).then(|| own("ptsz").or_else(|| own("ptds"))).flatten();
    own.or_else(|| address(newest)).ok_or(NO_SYMBOL)
}

/// `cuGetProcAddress_v2(symbol, address*, version, flags, status*)`. What is not found is no error:
/// the address is null then.
pub(super) extern "C" fn address(
    symbol: In<c_char>,
    out: Out<*const ()>,
    version: c_int,
    flags: c_ulonglong,
    status: Out<c_uint>,
) -> c_uint {
    answer(|| {
        let symbol = symbol.text().ok_or(INVALID_VALUE)?;
        let newest = driver().map_or(c_int::MAX, |driver| driver.config.version as c_int);
        if version > newest || flags > 3 {
            return Err(INVALID_VALUE);
        }
        let found = find(&symbol, version, flags);
        give(out, found.unwrap_or(std::ptr::null()))?;
        if status.is_null() { Ok(()) } else { give(status, found.err().unwrap_or(FOUND)) }
    })
}

/// `cuGetProcAddress` before CUDA 12: what is not found is an error.
pub(super) extern "C" fn address_or_error(
    symbol: In<c_char>,
    out: Out<*const ()>,
    version: c_int,
    flags: c_ulonglong,
) -> c_uint {
    answer(|| {
        let symbol = symbol.text().ok_or(INVALID_VALUE)?;
        let found = find(&symbol, version, flags);
        give(out, found.unwrap_or(std::ptr::null()))?;
        found.map(|_| ()).map_err(|_| NOT_FOUND)
    })
}

/// `cuGetExportTable(table**, id*)`: of the real library's tables, which nobody describes, there is
/// none. The one that there is holds what was asked of the driver.
pub(super) extern "C" fn table(out: Out<*const Counts>, id: In<[u8; 16]>) -> c_uint {
    answer(|| {
        let is_known = id.get().ok_or(INVALID_VALUE)? == TABLE;
        give(out, if is_known { &raw const COUNTS } else { std::ptr::null() })?;
        if is_known { Ok(()) } else { Err(NOT_FOUND) }
    })
}
