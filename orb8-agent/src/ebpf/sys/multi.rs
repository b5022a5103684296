//! A program at many places of a file by one link (6.6): aya has no API for it.

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use aya_obj::generated::{bpf_insn, bpf_prog_info};

use super::{BPF_LINK_CREATE, address, bpf, new_fd, raw};
use crate::status::BpfRun;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;
const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;
/// Bytes of a program's name, the NUL byte at its end included.
const NAME: usize = 16;

/// `union bpf_attr` of `BPF_PROG_LOAD`, as far as it is needed.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// `union bpf_attr` of `BPF_LINK_CREATE` for many places.
#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    link_flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    cnt: u32,
    flags: u32,
    pid: u32,
    reserved: u32,
}

/// Where a program is to be attached.
pub(crate) struct MultiProbe<'a> {
    /// The file.
    pub(crate) path: &'a CStr,
    /// Bytes of it.
    pub(crate) offsets: &'a [u64],
    /// What the program is told at each of them.
    pub(crate) cookies: Option<&'a [u64]>,
    /// Whether it runs when the function that begins there returns.
    pub(crate) at_return: bool,
}

/// Loads a program so that [`link_multi_probe`] takes it.
pub(crate) fn load_multi_probe(
    name: &str,
    instructions: &[bpf_insn],
    license: &CStr,
) -> io::Result<OwnedFd> {
    let mut prog_name = [0; NAME];
    for (byte, from) in prog_name[..NAME - 1].iter_mut().zip(name.bytes()) {
        *byte = from;
    }
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: address(instructions.as_ptr()),
        license: address(license.as_ptr()),
        prog_name,
        expected_attach_type: BPF_TRACE_UPROBE_MULTI,
        ..LoadAttr::default()
    };
    new_fd(BPF_PROG_LOAD, &mut attr)
}

/// Links a program to its places, in all processes.
pub(crate) fn link_multi_probe(
    program: BorrowedFd<'_>,
    probe: &MultiProbe<'_>,
) -> io::Result<OwnedFd> {
    let MultiProbe { path, offsets, cookies, at_return } = *probe;
    let mut attr = LinkAttr {
        prog_fd: raw(program),
        attach_type: BPF_TRACE_UPROBE_MULTI,
        path: address(path.as_ptr()),
        offsets: address(offsets.as_ptr()),
        // As long as `offsets`, or the kernel would read behind it.
        cookies: cookies
            .filter(|cookies| cookies.len() == offsets.len())
            .map_or(0, |cookies| address(cookies.as_ptr())),
        cnt: u32::try_from(offsets.len()).map_err(io::Error::other)?,
        flags: if at_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
        ..LinkAttr::default()
    };
    new_fd(BPF_LINK_CREATE, &mut attr)
}

/// `union bpf_attr` of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Returns run time and runs of a program; zero where the kernel keeps no statistics.
pub(crate) fn run_time(program: BorrowedFd<'_>) -> io::Result<BpfRun> {
    // SAFETY: integers.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let info_len = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    let mut attr = InfoAttr { bpf_fd: raw(program), info_len, info: address(&raw mut info) };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(BpfRun { run_ns: info.run_time_ns, runs: info.run_cnt })
}
