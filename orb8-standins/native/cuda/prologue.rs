//! How functions of this library begin.

#[cfg(all(target_arch = "x86_64", not(foreign)))]
use std::sync::atomic::AtomicU32;

/// What the real library has there once it was unloaded: then every function answers 4
/// (`CUDA_ERROR_DEINITIALIZED`).
#[cfg(all(target_arch = "x86_64", not(foreign)))]
pub(super) const DEINITIALIZED: u32 = 0x321c_ba00;

#[cfg(all(target_arch = "x86_64", not(foreign)))]
pub(super) static DEINIT_FLAG: AtomicU32 = AtomicU32::new(0);

/// The real library's thunk, byte for byte: 30 bytes at a multiple of 16.
#[cfg(all(target_arch = "x86_64", not(foreign)))]
macro_rules! thunk {
    ($name:ident) => {
        aligned!(
            "cmpl $0x321cba00, {flag}(%rip)",
            "je 2f",
            "jmp *{slot}(%rip)",
            // What the compiler puts before a target: a nop of 6 bytes.
            ".byte 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00",
            "2: movl $4, %eax",
            "ret";
            flag = sym DEINIT_FLAG,
            slot = sym slots::$name,
            options(att_syntax)
        )
    };
}

/// What other compilers begin functions with, one of three by the function's name. The kernel cannot
/// emulate the first instruction of any, so a probe there costs a step.
#[cfg(all(target_arch = "x86_64", foreign))]
macro_rules! thunk {
    ($name:ident) => {
        aligned!(
            ".if {kind} == 0",
            "subq $8, %rsp",
            "addq $8, %rsp",
            ".elseif {kind} == 1",
            "movq %rsp, %rax",
            ".else",
            "endbr64",
            "movq %rsp, %rax",
            ".endif",
            "jmp *{slot}(%rip)";
            kind = const foreign_kind(stringify!($name)),
            slot = sym slots::$name,
            options(att_syntax)
        )
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! thunk {
    ($name:ident) => {
        framed!(slots::$name)
    };
}
pub(super) use thunk;

/// Chooses how a function begins in the foreign build.
#[cfg(all(target_arch = "x86_64", foreign))]
pub(super) const fn foreign_kind(name: &str) -> usize {
    let (bytes, mut index, mut sum) = (name.as_bytes(), 0, 0_usize);
    while index < bytes.len() {
        sum += bytes[index] as usize;
        index += 1;
    }
    sum % 3
}

/// Runs when the library is unloaded or the program ends.
#[cfg(all(target_arch = "x86_64", not(foreign)))]
extern "C" fn deinitialize() {
    DEINIT_FLAG.store(DEINITIALIZED, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(all(target_arch = "x86_64", not(foreign)))]
#[used]
#[unsafe(link_section = ".fini_array")]
static FINI: extern "C" fn() = deinitialize;
