//! What a probe costs on this machine, by the instruction that it is at.
//!
//! A page of code of our own is probed and called, by programs that do what most of the others do. Those
//! that tell of memory take longer, and say how long themselves.

use std::ffi::c_void;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::GpuProbes;
use crate::ebpf::EbpfError;
use crate::ebpf::object::map_error;

/// By how much a call takes longer when it is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeCosts {
    /// At an instruction that the kernel does itself: a push, a jump.
    pub cheap: Duration,
    /// At a nop of several bytes, which newer kernels make a call of.
    pub long_nop: Duration,
    /// At any other instruction, which the thread is stepped over.
    pub stepped: Duration,
    /// What a probe at the return adds.
    pub at_return: Duration,
}

impl ProbeCosts {
    /// Whether the thread is stepped over nops of several bytes, as by older kernels.
    #[must_use]
    pub fn steps_over_nops(&self) -> bool {
        self.long_nop.abs_diff(self.stepped) < self.long_nop.abs_diff(self.cheap)
    }
}

impl Default for ProbeCosts {
    /// As measured in a virtual machine, where stepping is dearest: for where it cannot be measured.
    fn default() -> Self {
        Self {
            cheap: Duration::from_nanos(700),
            long_nop: Duration::from_nanos(700),
            stepped: Duration::from_micros(17),
            at_return: Duration::from_nanos(450),
        }
    }
}

const ENTRY_PROGRAM: &str = "gpu_nothing";
const RETURN_PROGRAM: &str = "gpu_none_returned";

/// A function, by what it begins with.
#[derive(Clone, Copy)]
enum Function {
    Cheap,
    LongNop,
    Stepped,
}

/// Bytes from one function to the next.
const SPACE: usize = 64;

/// `push %rbp; pop %rbp; ret`, `nopl 0x0(%rax,%rax,1); ret`, `mov %rsp,%rax; ret`.
#[cfg(target_arch = "x86_64")]
const FUNCTIONS: [&[u8]; 3] =
    [&[0x55, 0x5d, 0xc3], &[0x0f, 0x1f, 0x44, 0, 0, 0xc3], &[0x48, 0x89, 0xe0, 0xc3]];
/// `adr x0, .; ret`, `nop; ret`, `mov x0, x1; ret`.
#[cfg(target_arch = "aarch64")]
const FUNCTIONS: [&[u8]; 3] = [
    &[0x00, 0x00, 0x00, 0x10, 0xc0, 0x03, 0x5f, 0xd6],
    &[0x1f, 0x20, 0x03, 0xd5, 0xc0, 0x03, 0x5f, 0xd6],
    &[0xe0, 0x03, 0x01, 0xaa, 0xc0, 0x03, 0x5f, 0xd6],
];

/// Calls before those that are timed: a newer kernel makes a call of a nop after the first.
const WARM_UP: u32 = 32;
/// Calls that are timed at one time: 5 ms where they are dearest.
const TIMED: u32 = 256;
/// Of so many times the shortest counts: the others were interrupted.
const ROUNDS: u32 = 4;

impl GpuProbes {
    /// Measures what probes cost here. Takes some tens of milliseconds.
    ///
    /// # Errors
    /// [`EbpfError::Map`] where a page of code cannot be made, and as [`GpuProbes::attach`].
    pub fn calibrate(&mut self) -> Result<ProbeCosts, EbpfError> {
        let code =
            Code::new().map_err(map_error("making a page of code to measure probes with"))?;
        let cheap = self.cost(&code, Function::Cheap, &[ENTRY_PROGRAM])?;
        let with_return = self.cost(&code, Function::Cheap, &[ENTRY_PROGRAM, RETURN_PROGRAM])?;
        Ok(ProbeCosts {
            cheap,
            long_nop: self.cost(&code, Function::LongNop, &[ENTRY_PROGRAM])?,
            stepped: self.cost(&code, Function::Stepped, &[ENTRY_PROGRAM])?,
            at_return: with_return.saturating_sub(cheap),
        })
    }

    fn cost(
        &mut self,
        code: &Code,
        function: Function,
        programs: &[&'static str],
    ) -> Result<Duration, EbpfError> {
        let plain = code.time(function);
        let offset = (function as usize * SPACE) as u64;
        let attach = |program| self.attach_program(program, &code.file, offset);
        let _links: Vec<_> = programs.iter().copied().map(attach).collect::<Result<_, _>>()?;
        Ok(code.time(function).saturating_sub(plain))
    }
}

/// A page of code: a file that exists in memory only, mapped as a program's code is.
pub(super) struct Code {
    file: File,
    memory: NonNull<c_void>,
}

/// Bytes that are mapped; a page of any size holds them.
const MAPPED: usize = 4096;

impl Code {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: a null-terminated string that lives as long as the call.
        let file = unsafe { libc::memfd_create(c"orb8-probe-cost".as_ptr(), libc::MFD_CLOEXEC) };
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call made it, and nobody else knows it.
        let mut file = unsafe { File::from_raw_fd(file) };
        let mut bytes = [0; MAPPED];
        for (function, space) in FUNCTIONS.iter().zip(bytes.chunks_exact_mut(SPACE)) {
            space[..function.len()].copy_from_slice(function);
        }
        file.write_all(&bytes)?;
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        // SAFETY: a new mapping, checked before it is used. Private: the kernel probes no other.
        let memory = unsafe {
            let (none, file) = (std::ptr::null_mut(), file.as_raw_fd());
            libc::mmap(none, MAPPED, protection, libc::MAP_PRIVATE, file, 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { file, memory })
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// How long one call takes.
    fn time(&self, function: Function) -> Duration {
        // SAFETY: in the mapping, where a function without arguments begins, which changes nothing but
        // the register of its result.
        let call: extern "C" fn() -> u64 = unsafe {
            let function = self.memory.byte_add(function as usize * SPACE);
            std::mem::transmute::<*mut c_void, extern "C" fn() -> u64>(function.as_ptr())
        };
        let time = |calls| {
            let began = Instant::now();
            for _ in 0..calls {
                std::hint::black_box(call());
            }
            began.elapsed() / calls
        };
        time(WARM_UP);
        (0..ROUNDS).map(|_| time(TIMED)).min().unwrap_or_default()
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; nothing of it is used after `self`.
        unsafe { libc::munmap(self.memory.as_ptr(), MAPPED) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nop_is_as_dear_as_what_it_is_nearer_to() {
        let costs = |long_nop| ProbeCosts {
            cheap: Duration::from_nanos(400),
            long_nop: Duration::from_nanos(long_nop),
            stepped: Duration::from_nanos(2_000),
            at_return: Duration::from_nanos(200),
        };
        for (long_nop, is_stepped) in
            [(0, false), (200, false), (500, false), (1_900, true), (2_500, true)]
        {
            assert_eq!(costs(long_nop).steps_over_nops(), is_stepped, "{long_nop}");
        }
        assert!(!ProbeCosts::default().steps_over_nops());
    }
}
