//! Arguments and results of calls, as the processor's calling convention has them.

use core::ffi::c_void;

use orb8_probes::kernel::{load_context, read_user};

use crate::IS_ARM64;

/// The kernel's copy of a thread's registers: `struct pt_regs` of x86-64, `struct user_pt_regs` of
/// arm64.
#[derive(Clone, Copy)]
pub(crate) struct Registers(*mut c_void);

/// Where x86-64 has the first six arguments: di, si, dx, cx, r8, r9. The others are on the stack, above
/// the return address.
const X86_ARGUMENTS: [usize; 6] = [112, 104, 96, 88, 72, 64];
const X86_SP: usize = 152;
const X86_AX: usize = 80;
/// Arguments that arm64 has in x0 to x7; the others are on the stack.
const ARM_ARGUMENTS: usize = 8;
const ARM_SP: usize = 248;

impl Registers {
    #[inline(always)]
    pub(crate) const fn of(context: *mut c_void) -> Self {
        Self(context)
    }

    #[inline(always)]
    pub(crate) const fn context(self) -> *mut c_void {
        self.0
    }

    /// An argument that is an integer or a pointer, where all before it are.
    #[inline(always)]
    pub(crate) fn argument<const N: usize>(self) -> u64 {
        if is_arm64() {
            return if N < ARM_ARGUMENTS {
                self.arm_argument::<N>()
            } else {
                read_user(self.load::<ARM_SP>() + 8 * (N as u64 - ARM_ARGUMENTS as u64))
            };
        }
        match N {
            0 => self.load::<{ X86_ARGUMENTS[0] }>(),
            1 => self.load::<{ X86_ARGUMENTS[1] }>(),
            2 => self.load::<{ X86_ARGUMENTS[2] }>(),
            3 => self.load::<{ X86_ARGUMENTS[3] }>(),
            4 => self.load::<{ X86_ARGUMENTS[4] }>(),
            5 => self.load::<{ X86_ARGUMENTS[5] }>(),
            _ => read_user(self.load::<X86_SP>() + 8 * (N as u64 - 5)),
        }
    }

    #[inline(always)]
    fn arm_argument<const N: usize>(self) -> u64 {
        match N {
            0 => self.load::<0>(),
            1 => self.load::<8>(),
            2 => self.load::<16>(),
            3 => self.load::<24>(),
            4 => self.load::<32>(),
            5 => self.load::<40>(),
            6 => self.load::<48>(),
            _ => self.load::<56>(),
        }
    }

    /// Where a large structure is that is passed by value: x86-64 has it on the stack, where it takes
    /// no register, and arm64 has its address as argument `N`.
    #[inline(always)]
    pub(crate) fn structure<const N: usize>(self) -> u64 {
        if is_arm64() { self.argument::<N>() } else { self.load::<X86_SP>() + 8 }
    }

    /// An argument after one structure as in [`Self::structure`], `N` counting that too.
    #[inline(always)]
    pub(crate) fn argument_after_structure<const N: usize, const BEFORE: usize>(self) -> u64 {
        if is_arm64() { self.argument::<N>() } else { self.argument::<BEFORE>() }
    }

    /// What the call returned, of an `int` or an enum.
    #[inline(always)]
    pub(crate) fn result(self) -> u32 {
        (if is_arm64() { self.load::<0>() } else { self.load::<X86_AX>() }) as u32
    }

    /// The stack pointer at a call's first instruction: the same until the call returns, and lower in
    /// what it calls.
    #[inline(always)]
    pub(crate) fn frame(self) -> u64 {
        if is_arm64() { self.load::<ARM_SP>() } else { self.load::<X86_SP>() }
    }

    /// What [`Self::frame`] was, when the call has returned: x86-64 has taken the return address off.
    #[inline(always)]
    pub(crate) fn returned_frame(self) -> u64 {
        if is_arm64() { self.load::<ARM_SP>() } else { self.load::<X86_SP>() - 8 }
    }

    #[inline(always)]
    fn load<const OFFSET: usize>(self) -> u64 {
        // SAFETY: the program's own context, whose registers are longer than any offset here.
        unsafe { load_context::<OFFSET>(self.0) }
    }
}

/// The verifier knows the answer, and leaves the other machine's half out.
#[inline(always)]
pub(crate) fn is_arm64() -> bool {
    IS_ARM64.load() != 0
}
