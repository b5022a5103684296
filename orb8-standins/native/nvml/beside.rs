//! Where this library is.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// `Dl_info` of the C library.
#[repr(C)]
struct Info {
    file: *const c_char,
    base: *mut c_void,
    symbol: *const c_char,
    address: *mut c_void,
}

unsafe extern "C" {
    fn dladdr(address: *const c_void, info: *mut Info) -> c_int;
}

/// Returns the folder that the library was loaded from.
pub(super) fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(find).as_deref()
}

fn find() -> Option<PathBuf> {
    let mut info = Info {
        file: std::ptr::null(),
        base: std::ptr::null_mut(),
        symbol: std::ptr::null(),
        address: std::ptr::null_mut(),
    };
    let here: fn() -> Option<&'static Path> = folder;
    // SAFETY: dladdr takes any address, and writes into a `Dl_info` that lives until it returns.
    let found = unsafe { dladdr(here as *const c_void, &raw mut info) };
    if found == 0 || info.file.is_null() {
        return None;
    }
    // SAFETY: dladdr answered with a string that stays as long as the library is loaded.
    let file = unsafe { CStr::from_ptr(info.file) };
    let file = Path::new(OsStr::from_bytes(file.to_bytes()));
    Some(std::fs::canonicalize(file).ok()?.parent()?.to_owned())
}
