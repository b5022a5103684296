//! Libraries that are looked for while the program runs.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

const RTLD_NOW: c_int = 2;
const RTLD_GLOBAL: c_int = 0x100;

/// A library; it stays loaded until the program ends.
#[derive(Clone, Copy)]
pub(crate) struct Library(*mut c_void);

// SAFETY: the loader's functions may be called from any thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Loads a library by its path, or by its name from where the loader searches.
    pub(crate) fn open(path: &str) -> Result<Self, String> {
        let text = CString::new(path).map_err(|error| error.to_string())?;
        // SAFETY: the text ends with a zero; what the library does when it is loaded is its own.
        let handle = unsafe { dlopen(text.as_ptr(), RTLD_NOW | RTLD_GLOBAL) };
        if handle.is_null() {
            // SAFETY: the last call failed, so there is a text, this thread's until its next call.
            let error = unsafe { CStr::from_ptr(dlerror()) };
            return Err(error.to_string_lossy().into_owned());
        }
        Ok(Self(handle))
    }

    /// Returns a function's address; `None` where the library has no such function.
    pub(crate) fn symbol(self, name: &str) -> Option<*mut c_void> {
        let text = CString::new(name).ok()?;
        // SAFETY: the handle is a loaded library's, and the text ends with a zero.
        let address = unsafe { dlsym(self.0, text.as_ptr()) };
        (!address.is_null()).then_some(address)
    }
}

/// What a call of a missing function answers.
pub(crate) const MISSING: c_int = -1;

/// Functions of a library, looked up all at once, as methods that answer with the function's code: an
/// error where it is not 0, [`MISSING`] where the library has no such function.
macro_rules! functions {
    (
        $(#[$attribute:meta])*
        $table:ident {
            $($method:ident: $symbol:expr, ($($argument:ident: $type:ty),*);)*
        }
    ) => {
        pub(crate) struct $table {
            $($method: Option<unsafe extern "C" fn($($type),*) -> std::ffi::c_int>,)*
        }

        $(#[$attribute])*
        impl $table {
            /// Looks each of them up.
            pub(crate) fn new(find: impl Fn(&str) -> Option<*mut std::ffi::c_void>) -> Self {
                Self {
                    $($method: find($symbol).map(|address| {
                        // SAFETY: a function of this name has this type, as its header says.
                        unsafe {
                            std::mem::transmute::<
                                *mut std::ffi::c_void,
                                unsafe extern "C" fn($($type),*) -> std::ffi::c_int,
                            >(address)
                        }
                    }),)*
                }
            }

            $(pub(crate) fn $method(&self, $($argument: $type),*) -> Result<(), std::ffi::c_int> {
                let function = self.$method.ok_or($crate::shared::library::MISSING)?;
                // SAFETY: references are valid for the call, numbers and handles are looked at by the
                // function itself.
                match unsafe { function($($argument),*) } {
                    0 => Ok(()),
                    code => Err(code),
                }
            })*
        }
    };
}
pub(crate) use functions;
