//! Iterators: what live sockets count, and sockets that are older than the agent.
//!
//! aya-ebpf has no macro for iterators: the section name is what makes it one.

use crate::moments::everything_is_wanted;
use crate::socket::{Sock, cookie_of, fill, identify, offset};
use crate::{LISTENER_DROPS, SOCKETS};
use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, seq_file};
use aya_ebpf::helpers::generated::{bpf_seq_write, bpf_sk_storage_get, bpf_sock_from_file};
use core::ffi::c_void;
use orb8_common::tcp::{ROLE_LISTENER, ROLE_UNKNOWN, STATE_CLOSE, STATE_LISTEN, TcpSocket};
use orb8_probes::kernel::monotonic_ns;

const TCP: u8 = 6;

#[repr(C)]
struct IterMeta {
    seq: *mut seq_file,
}

// ---- storage -------------------------------------------------------------------------------------
// struct bpf_iter__bpf_sk_storage_map { meta, map, sk, value }

#[repr(C)]
struct StorageContext {
    meta: *const IterMeta,
    map: *const c_void,
    sk: *mut c_void,
    value: *mut TcpSocket,
}

/// Writes the record of each socket that moved since it was last written.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn tcp_sockets(ctx: *const StorageContext) -> i32 {
    // SAFETY: the context is the kernel's; both are null after the last socket only.
    unsafe {
        let (socket, record) = ((*ctx).sk, (*ctx).value);
        if socket.is_null() || record.is_null() {
            return 0;
        }
        let sock = Sock(socket as u64);
        let state = sock.state();
        // Its end is told on its own.
        if state == STATE_CLOSE {
            return 0;
        }
        fill(sock, state, record);
        (*record).state = state;
        if state == STATE_LISTEN
            && let Some(others) = LISTENER_DROPS.get_ptr((*record).cookie)
        {
            (*record).drops = (*record).drops.saturating_sub(*others as u32);
        }
        let moved = (*record).bytes_sent
            + (*record).bytes_received
            + u64::from((*record).rtt_samples)
            + u64::from((*record).retransmits)
            + u64::from((*record).drops)
            + (u64::from(state) << 56);
        if moved == (*record).told && !everything_is_wanted() {
            return 0;
        }
        (*record).time_ns = monotonic_ns();
        let length = size_of::<TcpSocket>() as u32;
        // Full: the kernel shows this socket again with the next read.
        if bpf_seq_write((*(*ctx).meta).seq, record.cast(), length) == 0 {
            (*record).told = moved;
        }
    }
    0
}

// ---- sockets that are older than the agent ---------------------------------------------------------
// struct bpf_iter__task_file { meta, task, u32 fd, file }

#[repr(C)]
struct FileContext {
    meta: *const IterMeta,
    task: *const c_void,
    fd: u32,
    file: *mut c_void,
}

/// Makes a record for each TCP socket that a process has open. Its callbacks cannot be asked for from
/// here: the storage iterator samples it instead. Needs 5.11.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn tcp_adopt(ctx: *const FileContext) -> i32 {
    // SAFETY: the context is the kernel's; `file` is null after the last one only. The helper takes
    // any file, and returns null for what is no socket. `sk` is a typed pointer, which the verifier
    // follows.
    unsafe {
        let file = (*ctx).file;
        if file.is_null() {
            return 0;
        }
        let socket = bpf_sock_from_file(file.cast());
        if socket.is_null() {
            return 0;
        }
        let socket = socket.cast::<u8>().add(offset!(socket_sk) as usize);
        let socket = socket.cast::<*mut c_void>().read_volatile();
        if socket.is_null() {
            return 0;
        }
        adopt(socket);
    }
    0
}

/// # Safety
/// A typed pointer to a `struct sock`.
#[inline(always)]
unsafe fn adopt(socket: *mut c_void) {
    let sock = Sock(socket as u64);
    if !sock.is_internet() || sock.protocol() != TCP {
        return;
    }
    let state = sock.state();
    if state == STATE_CLOSE {
        return;
    }
    // SAFETY: the caller vouches for it.
    unsafe {
        let map = (&raw const SOCKETS).cast_mut().cast();
        let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        let record: *mut TcpSocket =
            bpf_sk_storage_get(map, socket, core::ptr::null_mut(), flags).cast();
        // One that is followed already keeps what it has.
        if record.is_null() || (*record).cookie != 0 {
            return;
        }
        identify(sock, cookie_of(socket), record);
        (*record).role = if state == STATE_LISTEN { ROLE_LISTENER } else { ROLE_UNKNOWN };
        (*record).adopted = 1;
    }
}
