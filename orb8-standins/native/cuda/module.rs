//! Modules and libraries of kernels, and kernels' names.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::context;
use super::error::{Error, FILE_NOT_FOUND, INVALID_IMAGE, INVALID_VALUE, NOT_FOUND, answer, give};
use super::shared::abi::{In, Out};
use super::state::{COUNTS, driver};

/// First bytes of compiled kernels: ELF, and the container that holds several of them.
const ELF: u32 = 0x464c_457f;
const FAT_BINARY: u32 = 0xba55_ed50;
/// What points to such a container: `__fatBinC_Wrapper_t`.
const WRAPPER: u32 = 0x4662_43b1;

/// Kernels that were loaded together.
pub(super) struct Module {
    /// The kernels of a text; of what is compiled any name will do.
    names: Option<Vec<String>>,
    /// Handles that were given out, by name.
    functions: Mutex<HashMap<String, usize>>,
}

/// A kernel.
pub(super) struct Function {
    /// Its name, with the zero that ends it.
    name: String,
    module: usize,
}

/// Looks at an image and returns its kernels' names, where it is a text.
fn names(image: In<c_void>) -> Result<Option<Vec<String>>, Error> {
    let magic = image.cast::<u32>().get().ok_or(INVALID_VALUE)?;
    if matches!(magic, ELF | FAT_BINARY | WRAPPER) {
        return Ok(None);
    }
    if !matches!(magic.to_ne_bytes()[0], b'.' | b'/' | b'\n' | b' ') {
        return Err(INVALID_IMAGE);
    }
    let text = image.cast::<c_char>().text().ok_or(INVALID_IMAGE)?;
    names_in(&text).map(Some)
}

fn names_in(text: &str) -> Result<Vec<String>, Error> {
    if !text.contains(".version") {
        return Err(INVALID_IMAGE);
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$');
    let name = |rest: &str| {
        let rest = rest.trim_start();
        rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())].to_owned()
    };
    Ok(text.split(".entry").skip(1).map(name).collect())
}

/// Loads a module, which takes as long as the configuration says.
fn load(out: Out<usize>, names: Result<Option<Vec<String>>, Error>) -> Result<(), Error> {
    let driver = driver()?;
    let module = Module { names: names?, functions: Mutex::default() };
    thread::sleep(Duration::from_millis(driver.config.jit_ms));
    if out.is_null() {
        return Err(INVALID_VALUE);
    }
    give(out, driver.modules.add(module).0)
}

/// Counts a load, with the time that it took.
fn timed(load: impl FnOnce() -> Result<(), Error>) -> c_uint {
    let start = Instant::now();
    let code = answer(load);
    COUNTS.loaded(start.elapsed());
    code
}

fn names_of_file(path: In<c_char>) -> Result<Option<Vec<String>>, Error> {
    let content = fs::read(path.text().ok_or(INVALID_VALUE)?).map_err(|_| FILE_NOT_FOUND)?;
    match String::from_utf8(content) {
        Ok(text) if text.contains(".entry") => names_in(&text).map(Some),
        _ => Ok(None),
    }
}

pub(super) extern "C" fn load_file(out: Out<usize>, path: In<c_char>) -> c_uint {
    timed(|| {
        context::current()?;
        load(out, names_of_file(path))
    })
}

pub(super) extern "C" fn load_data(out: Out<usize>, image: In<c_void>) -> c_uint {
    timed(|| {
        context::current()?;
        load(out, names(image))
    })
}

pub(super) extern "C" fn load_data_with_options(
    out: Out<usize>,
    image: In<c_void>,
    _count: c_uint,
    _options: In<c_int>,
    _values: In<usize>,
) -> c_uint {
    load_data(out, image)
}

pub(super) extern "C" fn unload(module: usize) -> c_uint {
    answer(|| {
        let driver = driver()?;
        driver.modules.remove(module)?;
        driver.functions.retain(|function| function.module != module);
        Ok(())
    })
}

pub(super) extern "C" fn function(out: Out<usize>, module: usize, name: In<c_char>) -> c_uint {
    answer(|| {
        let driver = driver()?;
        let loaded = driver.modules.get(module)?;
        let name = name.text().ok_or(INVALID_VALUE)?;
        if loaded.names.as_ref().is_some_and(|names| !names.contains(&name)) {
            return Err(NOT_FOUND);
        }
        let mut functions = loaded.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = *functions.entry(name).or_insert_with_key(|name| {
            driver.functions.add(Function { name: format!("{name}\0"), module }).0
        });
        give(out, handle)
    })
}

pub(super) extern "C" fn load_library(
    out: Out<usize>,
    code: In<c_void>,
    _jit_options: In<c_int>,
    _jit_values: In<usize>,
    _jit_count: c_uint,
    _options: In<c_int>,
    _values: In<usize>,
    _count: c_uint,
) -> c_uint {
    timed(|| load(out, names(code)))
}

pub(super) extern "C" fn load_library_file(
    out: Out<usize>,
    path: In<c_char>,
    _jit_options: In<c_int>,
    _jit_values: In<usize>,
    _jit_count: c_uint,
    _options: In<c_int>,
    _values: In<usize>,
    _count: c_uint,
) -> c_uint {
    timed(|| load(out, names_of_file(path)))
}

/// `cuLibraryGetModule` and `cuKernelGetFunction`: both have the same handle here.
pub(super) extern "C" fn module_of(out: Out<usize>, library: usize) -> c_uint {
    answer(|| driver()?.modules.get(library).and_then(|_| give(out, library)))
}

pub(super) extern "C" fn function_of(out: Out<usize>, kernel: usize) -> c_uint {
    answer(|| driver()?.functions.get(kernel).and_then(|_| give(out, kernel)))
}

pub(super) extern "C" fn name(out: Out<*const c_char>, function: usize) -> c_uint {
    answer(|| {
        let function = driver()?.functions.get(function)?;
        give(out, function.name.as_ptr().cast())
    })
}

pub(super) extern "C" fn module_of_function(out: Out<usize>, function: usize) -> c_uint {
    answer(|| give(out, driver()?.functions.get(function)?.module))
}

/// `cuFuncGetAttribute`: threads that a block may have, and 0 of everything else.
pub(super) extern "C" fn attribute(out: Out<c_int>, attribute: c_int, function: usize) -> c_uint {
    answer(|| {
        driver()?.functions.get(function)?;
        give(out, if attribute == 0 { 1_024 } else { 0 })
    })
}

pub(super) extern "C" fn set_attribute(
    function: usize,
    _attribute: c_int,
    _value: c_int,
) -> c_uint {
    answer(|| driver()?.functions.get(function).map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_of_a_text() {
        let text = ".version 8.0\n.target sm_90\n.visible .entry step(\n)\n{ ret; }\n.entry _Z1fv() { ret; }";
        assert_eq!(names_in(text), Ok(vec!["step".to_owned(), "_Z1fv".to_owned()]));
        assert_eq!(names_in("no kernel"), Err(INVALID_IMAGE));
    }
}
