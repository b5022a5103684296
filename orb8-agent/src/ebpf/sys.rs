//! The `bpf(2)` calls that aya has no API for: batches, storage iterators, a grace period, and
//! shared memory of an array. And what else only the kernel's raw calls do.

mod batch;
mod multi;

use std::{
    fs::File,
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
};

use orb8_common::flow::{Control, Slot};
use zerocopy::FromZeros;

use super::mapping::{Access, Mapping};
pub(crate) use batch::{BatchDrain, BatchRead};
pub(crate) use multi::{MultiProbe, link_multi_probe, load_multi_probe, run_time};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_ITER_CREATE: libc::c_int = 33;

const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
const BPF_TRACE_ITER: u32 = 28;

/// `union bpf_attr` of `BPF_MAP_CREATE`, as far as kernel 5.10 needs it.
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}

/// `union bpf_attr` of `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
#[derive(Default)]
struct UpdateAttr {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` of `BPF_LINK_CREATE` for iterators.
#[repr(C)]
#[derive(Default)]
struct IterLinkAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    reserved: u32,
}

/// `union bpf_attr` of `BPF_ITER_CREATE`.
#[repr(C)]
#[derive(Default)]
struct IterCreateAttr {
    link_fd: u32,
    flags: u32,
}

/// `union bpf_attr` of `BPF_PROG_TEST_RUN`, as far as kernel 5.10 needs it.
#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is a `repr(C)` prefix of `union bpf_attr` for `command`, and the pointers in
    // it live as long as the call. The kernel takes a shorter attr for one padded with zeroes.
    let status =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    match status {
        0.. => Ok(libc::c_int::try_from(status).unwrap_or(libc::c_int::MAX)),
        _ => Err(io::Error::last_os_error()),
    }
}

fn new_fd<T>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the call made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T: ?Sized>(value: *const T) -> u64 {
    value.cast::<()>() as u64
}

/// Makes a table of programs with room for one.
pub(crate) fn new_program_array() -> io::Result<OwnedFd> {
    new_array(BPF_MAP_TYPE_PROG_ARRAY, 0)
}

/// Makes an array of one entry of four bytes. One of maps wants a map like those that will be in it.
fn new_array(map_type: u32, inner_map_fd: u32) -> io::Result<OwnedFd> {
    let mut attr = CreateAttr {
        map_type,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        inner_map_fd,
        ..CreateAttr::default()
    };
    new_fd(BPF_MAP_CREATE, &mut attr)
}

/// Waits until every program run that had started is over.
///
/// Updating a map of maps does that: the kernel ends the call with an RCU grace period, so that
/// user space knows the old inner map unused. Programs run inside RCU read sections.
#[derive(Debug)]
pub(crate) struct GracePeriod {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl GracePeriod {
    /// Makes the two maps.
    pub(crate) fn new() -> io::Result<Self> {
        let inner = new_array(BPF_MAP_TYPE_ARRAY, 0)?;
        let outer = new_array(BPF_MAP_TYPE_ARRAY_OF_MAPS, raw(inner.as_fd()))?;
        Ok(Self { outer, inner })
    }

    /// Blocks for some milliseconds.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let (key, value) = (0_u32, self.inner.as_raw_fd());
        let mut attr = UpdateAttr {
            map_fd: self.outer.as_raw_fd().cast_unsigned(),
            key: address(&raw const key),
            value: address(&raw const value),
            ..UpdateAttr::default()
        };
        bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
    }
}

/// Links an iterator program to the elements of one map.
pub(crate) fn link_map_iterator(
    program: BorrowedFd<'_>,
    map: BorrowedFd<'_>,
) -> io::Result<OwnedFd> {
    // union bpf_iter_link_info: its first member is the map's descriptor.
    let info = raw(map);
    let mut attr = IterLinkAttr {
        prog_fd: raw(program),
        attach_type: BPF_TRACE_ITER,
        iter_info: address(&raw const info),
        iter_info_len: size_of::<u32>() as u32,
        ..IterLinkAttr::default()
    };
    new_fd(BPF_LINK_CREATE, &mut attr)
}

/// Links an iterator program that goes over everything of its kind.
pub(crate) fn link_iterator(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = IterLinkAttr {
        prog_fd: raw(program),
        attach_type: BPF_TRACE_ITER,
        ..IterLinkAttr::default()
    };
    new_fd(BPF_LINK_CREATE, &mut attr)
}

/// Starts a pass of a linked iterator; reading the file runs the program.
pub(crate) fn start_iterator(link: BorrowedFd<'_>) -> io::Result<File> {
    let mut attr = IterCreateAttr { link_fd: raw(link), ..IterCreateAttr::default() };
    Ok(File::from(new_fd(BPF_ITER_CREATE, &mut attr)?))
}

/// Runs a classifier once, on a packet that no interface sees.
pub(crate) fn run_classifier(program: BorrowedFd<'_>) -> io::Result<()> {
    // The shortest frame that the kernel takes.
    let frame = [0_u8; 64];
    let mut attr = TestRunAttr {
        prog_fd: raw(program),
        data_size_in: frame.len() as u32,
        data_in: address(&raw const frame),
        repeat: 1,
        ..TestRunAttr::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

/// An array made with `BPF_F_MMAPABLE`, shared with the programs.
#[derive(Debug)]
struct Shared<T> {
    memory: Mapping,
    len: usize,
    entry: PhantomData<T>,
}

impl<T> Shared<T> {
    fn map(array: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let memory = Mapping::new(array, 0, size_of::<T>() * len, Access::Write)?;
        Ok(Self { memory, len, entry: PhantomData })
    }

    const fn entries(&self) -> NonNull<T> {
        self.memory.start().cast()
    }
}

/// One generation's slots.
#[derive(Debug)]
pub(crate) struct SharedSlots(Shared<Slot>);

impl SharedSlots {
    /// Maps an array of `len` slots.
    pub(crate) fn map(array: BorrowedFd<'_>, len: u32) -> io::Result<Self> {
        Shared::map(array, len as usize).map(Self)
    }

    /// Empties the slots and hands those that were used to `visit`.
    ///
    /// No program may write them meanwhile: see [`GracePeriod`].
    pub(crate) fn drain(&mut self, mut visit: impl FnMut(&Slot)) {
        for index in 0..self.0.len {
            // SAFETY: in the mapping, which programs left.
            let slot = unsafe { self.0.entries().add(index) };
            // SAFETY: as above; every bit pattern is a slot.
            let (tag, claims) = unsafe { ((*slot.as_ptr()).tag, (*slot.as_ptr()).stats.claims) };
            if tag != 0 {
                // SAFETY: as above.
                visit(unsafe { slot.as_ref() });
            }
            if tag != 0 || claims != 0 {
                // SAFETY: as above.
                unsafe { slot.write(Slot::new_zeroed()) };
            }
        }
    }
}

/// The `CONTROL` entry.
#[derive(Debug)]
pub(crate) struct SharedControl(Shared<Control>);

impl SharedControl {
    /// Maps the array.
    pub(crate) fn map(array: BorrowedFd<'_>) -> io::Result<Self> {
        Shared::map(array, 1).map(Self)
    }

    /// Index of the table that programs write.
    pub(crate) fn generation(&self) -> usize {
        self.word(std::mem::offset_of!(Control, generation)).load(SeqCst) as usize & 1
    }

    /// Makes programs write the other table.
    pub(crate) fn flip(&self) {
        let other = 1 - self.generation() as u32;
        self.word(std::mem::offset_of!(Control, generation)).store(other, SeqCst);
    }

    /// Allows the programs another call for a drain.
    pub(crate) fn allow_pressing(&self) {
        self.word(std::mem::offset_of!(Control, pressed)).store(0, SeqCst);
    }

    /// Entries that the programs added to a table since the last [`Self::reset`].
    pub(crate) fn inserted(&self, generation: usize) -> u64 {
        self.of(generation, std::mem::offset_of!(Control, inserted)).load(SeqCst)
    }

    /// Slots that the programs claimed since the last [`Self::reset`].
    pub(crate) fn claimed(&self, generation: usize) -> u64 {
        self.of(generation, std::mem::offset_of!(Control, claimed)).load(SeqCst)
    }

    /// Starts the counts of a generation again, once no program writes it.
    pub(crate) fn reset(&self, generation: usize) {
        self.of(generation, std::mem::offset_of!(Control, inserted)).store(0, SeqCst);
        self.of(generation, std::mem::offset_of!(Control, claimed)).store(0, SeqCst);
    }

    /// Returns the entries added to `CLOSED` and starts their count again.
    pub(crate) fn take_closed(&self) -> u64 {
        self.long(std::mem::offset_of!(Control, closed)).swap(0, SeqCst)
    }

    /// The last moment that the clock program wrote: ticks, and monotonic nanoseconds.
    pub(crate) fn clock(&self) -> (u64, u64) {
        (
            self.long(std::mem::offset_of!(Control, clock_tick)).load(SeqCst),
            self.long(std::mem::offset_of!(Control, clock_ns)).load(SeqCst),
        )
    }

    fn of(&self, generation: usize, offset: usize) -> &AtomicU64 {
        self.long(offset + (generation & 1) * size_of::<u64>())
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `offset` is that of an aligned u32 of the mapped struct, which lives as long as
        // `self`.
        unsafe { AtomicU32::from_ptr(self.0.entries().as_ptr().byte_add(offset).cast()) }
    }

    fn long(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `word`, for an aligned u64.
        unsafe { AtomicU64::from_ptr(self.0.entries().as_ptr().byte_add(offset).cast()) }
    }
}

/// `FSOPEN_CLOEXEC`, `FSMOUNT_CLOEXEC`.
const CLOEXEC: libc::c_int = 1;
/// `FSCONFIG_CMD_CREATE`.
const FSCONFIG_CMD_CREATE: libc::c_int = 6;

/// Opens a file of tracefs through a mount that nobody else sees and that ends with the file.
pub(crate) fn open_in_tracefs(path: &str) -> io::Result<File> {
    let path = std::ffi::CString::new(path)?;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the strings are null-terminated and live as long as the calls.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), CLOEXEC) };
    let context = owned(context)?;
    // SAFETY: the command takes neither key nor value.
    let created = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0)
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call takes numbers only.
    let mount = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, 0) };
    let mount = owned(mount)?;
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the string is null-terminated.
    let file = unsafe { libc::openat(mount.as_raw_fd(), path.as_ptr(), flags) };
    owned(file.into()).map(File::from)
}

/// `struct file_handle` of a file of kernfs.
#[repr(C)]
struct KernfsHandle {
    handle_bytes: u32,
    handle_type: libc::c_int,
    id: u64,
}

/// `FILEID_KERNFS`.
const KERNFS: libc::c_int = 0xfe;

/// Opens the cgroup with this id, as a path only. `mount` is any directory of cgroup v2.
///
/// `ESTALE` says that there is none (any more); `EPERM`, that `CAP_DAC_READ_SEARCH` is missing.
pub(crate) fn open_cgroup(mount: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    let mut handle =
        KernfsHandle { handle_bytes: size_of::<u64>() as u32, handle_type: KERNFS, id };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the handle has as many bytes behind its header as it says, and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            std::ptr::from_mut(&mut handle),
            flags,
        )
    };
    owned(fd)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match libc::c_int::try_from(fd) {
        // SAFETY: the call made it, and nobody else knows it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
