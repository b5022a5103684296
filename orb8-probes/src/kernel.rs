//! Kernel facilities that aya-ebpf has no safe name for.

use aya_ebpf::helpers::{bpf_ktime_get_ns, generated::bpf_jiffies64};

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
