//! How the exported functions begin: instruction by instruction as in the real libraries, since what
//! watches them chooses by these bytes where to attach. Behind it each goes on to its function in
//! Rust, with all registers and the stack as they were.

/// An address that the assembly jumps to, or that is looked up by name.
pub(crate) struct Slot(pub(crate) *const ());

// SAFETY: the address of a function, which never changes.
unsafe impl Sync for Slot {}

/// Exports functions: `body!` has the instructions of one, by `{slot}` it finds where to go on.
/// `EXPORTS` lists their names and addresses.
macro_rules! export {
    ($body:ident: $($name:ident => $implementation:expr;)*) => {
        mod slots {
            use super::*;
            $(
                #[expect(non_upper_case_globals, reason = "a function's name")]
                pub(super) static $name: Slot = Slot($implementation as *const ());
            )*
        }
        $(
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            extern "C" fn $name() {
                $body!($name)
            }
        )*
        pub(crate) static EXPORTS: &[(&str, Slot)] =
            &[$((stringify!($name), Slot($name as *const ())),)*];
    };
}
pub(crate) use export;

/// Ends the body of a function so that the next one begins at a multiple of 16, without making this
/// one longer: the section takes the largest alignment in it.
#[cfg(target_arch = "x86_64")]
macro_rules! aligned {
    ($($line:expr),* ; $($operand:tt)*) => {
        core::arch::naked_asm!(
            $($line,)*
            ".subsection 1",
            ".p2align 4",
            ".previous",
            $($operand)*
        )
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use aligned;

/// `bti c`, `stp x29, x30, [sp, #-16]!`, `mov x29, sp`: any function that a compiler makes for arm64
/// with branch protection. The frame is given back before it goes on.
#[cfg(target_arch = "aarch64")]
macro_rules! framed {
    ($slot:expr) => {
        core::arch::naked_asm!(
            "hint #34",
            "stp x29, x30, [sp, #-16]!",
            "mov x29, sp",
            "adrp x16, {slot}",
            "ldr x16, [x16, :lo12:{slot}]",
            "ldp x29, x30, [sp], #16",
            "br x16",
            slot = sym $slot,
        )
    };
}
#[cfg(target_arch = "aarch64")]
pub(crate) use framed;

/// Reads how an exported function begins.
#[cfg(test)]
pub(crate) fn first_bytes(slot: &Slot) -> [u8; 16] {
    // SAFETY: every exported function is longer than that, or has padding behind it.
    unsafe { slot.0.cast::<[u8; 16]>().read() }
}
