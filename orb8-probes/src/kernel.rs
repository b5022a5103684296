//! Kernel facilities that aya-ebpf has no safe name for.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::{
    bpf_ktime_get_ns,
    generated::{bpf_jiffies64, bpf_probe_read_kernel, bpf_probe_read_user},
};
use zerocopy::FromBytes;

/// `lock *(u64 *)(counter) += value`: the only atomic that kernel 5.10 knows.
///
/// # Safety
/// `counter` points to a live map value and is aligned.
#[inline(always)]
pub unsafe fn atomic_add(counter: *mut u64, value: u64) {
    // SAFETY: the caller vouches for the pointer; the instruction touches those 8 bytes only.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {value}",
            counter = in(reg) counter,
            value = in(reg) value,
            options(nostack)
        );
    }
}

/// `lock *(u32 *)(counter) += 1`.
///
/// # Safety
/// `counter` points into a live map value and is aligned.
#[inline(always)]
pub unsafe fn atomic_increment(counter: *mut u32) {
    // SAFETY: the caller vouches for the pointer; the instruction touches those 4 bytes only.
    unsafe {
        core::arch::asm!(
            "lock *(u32 *)({counter} + 0) += {one}",
            counter = in(reg) counter,
            one = in(reg) 1_u64,
            options(nostack)
        );
    }
}

/// Returns `length`, which is from 1 to `N`, in a form that every kernel's verifier follows: the
/// compiler would leave out a check of what it knows. `N` is a power of two.
#[inline(always)]
pub fn within<const N: usize>(length: u32) -> u32 {
    const { assert!(N.is_power_of_two()) };
    let mut below = u64::from(length) - 1;
    // SAFETY: an operation on one register.
    unsafe {
        core::arch::asm!(
            "{below} &= {mask}",
            below = inout(reg) below,
            mask = const N - 1,
            options(pure, nomem, nostack)
        );
    }
    below as u32 + 1
}

/// Returns `index`, which is below `N`, in a form that every kernel's verifier follows, also where the
/// compiler keeps it on the stack after it was compared. `N` is a power of two.
#[inline(always)]
pub fn index<const N: usize>(index: u32) -> usize {
    const { assert!(N.is_power_of_two()) };
    let mut below = u64::from(index);
    // SAFETY: an operation on one register.
    unsafe {
        core::arch::asm!(
            "{below} &= {mask}",
            below = inout(reg) below,
            mask = const N - 1,
            options(pure, nomem, nostack)
        );
    }
    below as usize
}

/// Ticks since boot. The JIT makes a load of it, so it costs next to nothing, where the monotonic
/// clock costs 27 ns and its coarse variant up to as much.
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: the helper has no arguments.
    unsafe { bpf_jiffies64() }
}

/// Monotonic nanoseconds.
#[inline(always)]
pub fn monotonic_ns() -> u64 {
    // SAFETY: the helper has no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Reads kernel memory; zeroes where there is none.
#[inline(always)]
pub fn read_kernel<T: FromBytes>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes exactly `size_of::<T>()` bytes, or zeroes them and fails.
    unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        );
        value.assume_init()
    }
}

/// Loads 8 bytes from a program's context. The kernel takes a load at a constant place only; of two at
/// different places the compiler would make one, so it is not told that these are loads.
///
/// # Safety
/// `context` is the program's context, and has so many bytes.
#[inline(always)]
pub unsafe fn load_context<const OFFSET: usize>(context: *mut c_void) -> u64 {
    let value: u64;
    // SAFETY: the caller vouches for it, and the verifier checks it.
    unsafe {
        core::arch::asm!(
            "{value} = *(u64 *)({context} + {offset})",
            value = out(reg) value,
            context = in(reg) context,
            offset = const OFFSET,
            options(pure, readonly, nostack)
        );
    }
    value
}

/// Reads memory of the current process; `None` where there is none, or where it is not in memory now.
#[inline(always)]
pub fn try_read_user<T: FromBytes>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes exactly `size_of::<T>()` bytes, or zeroes them and fails.
    unsafe {
        let size = size_of::<T>() as u32;
        let status = bpf_probe_read_user(value.as_mut_ptr().cast(), size, address as *const _);
        (status == 0).then_some(value.assume_init())
    }
}

/// As [`try_read_user`]; zeroes where there is none.
#[inline(always)]
pub fn read_user<T: FromBytes>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes exactly `size_of::<T>()` bytes, or zeroes them and fails.
    unsafe {
        let size = size_of::<T>() as u32;
        bpf_probe_read_user(value.as_mut_ptr().cast(), size, address as *const _);
        value.assume_init()
    }
}
