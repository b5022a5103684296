//! `sock_ops`: the handshake, every round-trip time sample, and the end of a socket, under its lock.

use crate::SOCKETS;
use crate::moments::{bump, send_socket, states_are_wanted, tell};
use crate::socket::{Sock, cookie_of, fill, identify, offset};
use aya_ebpf::bindings::{
    BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB,
    BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_RTT_CB_FLAG,
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
    BPF_SOCK_OPS_TCP_LISTEN_CB,
};
use aya_ebpf::helpers::generated::{bpf_sk_storage_get, bpf_sock_ops_cb_flags_set};
use aya_ebpf::programs::SockOpsContext;
use orb8_common::tcp::{
    Counter, MOMENT_ACCEPT, MOMENT_CONNECT, MOMENT_STATE, ROLE_CLIENT, ROLE_LISTENER, ROLE_SERVER,
    RTT_BUCKETS, STATE_CLOSE, TcpSocket,
};
use orb8_probes::kernel::{monotonic_ns, read_kernel};

#[inline(always)]
pub(crate) fn handle(ctx: &SockOpsContext) {
    // Most calls are this one.
    let op = ctx.op();
    if op == BPF_SOCK_OPS_RTT_CB {
        sample(ctx);
    } else if op == BPF_SOCK_OPS_STATE_CB {
        change_state(ctx);
    } else if op == BPF_SOCK_OPS_TCP_CONNECT_CB {
        connect(ctx);
    } else if op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB {
        establish_client(ctx);
    } else if op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        establish_server(ctx);
    } else if op == BPF_SOCK_OPS_TCP_LISTEN_CB {
        listen(ctx);
    }
}

/// The record of the callback's socket, null without one.
#[inline(always)]
fn stored(ctx: &SockOpsContext, flags: u32) -> *mut TcpSocket {
    // SAFETY: the context is live; the field is a pointer in a union of one, null for half a socket.
    unsafe {
        let socket = (*ctx.ops).__bindgen_anon_2.sk;
        if socket.is_null() {
            return core::ptr::null_mut();
        }
        let map = (&raw const SOCKETS).cast_mut().cast();
        let record: *mut TcpSocket =
            bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), u64::from(flags)).cast();
        if !record.is_null() && flags != 0 {
            // What goes through the record comes back as a number, which may be added to.
            (&raw mut (*record).address).write_volatile(socket as u64);
        }
        record
    }
}

/// The kernel's socket behind a record that [`stored`] made.
#[inline(always)]
fn sock_of(record: *mut TcpSocket) -> Sock {
    // SAFETY: a live map value.
    Sock(unsafe { (&raw const (*record).address).read_volatile() })
}

/// Makes a record, and asks for the callbacks beside those that others asked for.
#[inline(always)]
fn follow(ctx: &SockOpsContext, role: u8) -> *mut TcpSocket {
    let record = stored(ctx, BPF_SK_STORAGE_GET_F_CREATE);
    if record.is_null() {
        bump(Counter::Untracked, 1);
        return record;
    }
    let wanted = BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTT_CB_FLAG;
    // SAFETY: a live map value and the program's context.
    unsafe {
        (*record).role = role;
        identify(sock_of(record), cookie_of(ctx.ops.cast()), record);
        bpf_sock_ops_cb_flags_set(ctx.ops, (ctx.cb_flags() | wanted) as i32);
    }
    record
}

/// `connect(2)`: before the SYN is sent.
#[inline(never)]
fn connect(ctx: &SockOpsContext) -> u64 {
    let record = follow(ctx, ROLE_CLIENT);
    if !record.is_null() {
        // SAFETY: a live map value.
        unsafe { restart(record) };
    }
    0
}

/// Begins a connection: the socket may have had another one before.
///
/// # Safety
/// A live map value.
#[inline(always)]
unsafe fn restart(record: *mut TcpSocket) {
    // SAFETY: the caller vouches for it. Volatile, so that the compiler calls no `memset`.
    unsafe {
        (*record).opened_ns = monotonic_ns();
        (*record).handshake_ns = 0;
        (*record).rtt_sum_us = 0;
        (*record).rtt_samples = 0;
        (*record).rtt_min_us = 0;
        (*record).rtt_max_us = 0;
        (*record).adopted = 0;
        let buckets = (&raw mut (*record).rtt).cast::<u32>();
        for bucket in 0..RTT_BUCKETS {
            buckets.add(bucket).write_volatile(0);
        }
    }
}

/// The SYN-ACK came.
#[inline(never)]
fn establish_client(ctx: &SockOpsContext) -> u64 {
    let record = stored(ctx, 0);
    // SAFETY: null is checked first.
    unsafe {
        if record.is_null() || (*record).opened_ns == 0 {
            return 0;
        }
        let handshake = monotonic_ns() - (*record).opened_ns;
        (*record).handshake_ns = handshake;
        tell_opened(record, MOMENT_CONNECT, handshake);
    }
    0
}

/// The handshake's last ACK came. The kernel has measured what it took since the SYN-ACK.
#[inline(never)]
fn establish_server(ctx: &SockOpsContext) -> u64 {
    let record = follow(ctx, ROLE_SERVER);
    if record.is_null() {
        return 0;
    }
    let srtt_us = sock_of(record).srtt_us();
    // SAFETY: a live map value.
    unsafe {
        (*record).opened_ns = monotonic_ns();
        (*record).handshake_ns = u64::from(srtt_us) * 1000;
        if srtt_us != 0 {
            add_sample(record, srtt_us);
        }
        tell_opened(record, MOMENT_ACCEPT, (*record).handshake_ns);
    }
    0
}

#[inline(never)]
fn listen(ctx: &SockOpsContext) -> u64 {
    follow(ctx, ROLE_LISTENER);
    0
}

/// # Safety
/// A live map value.
#[inline(always)]
unsafe fn tell_opened(record: *mut TcpSocket, kind: u8, handshake_ns: u64) {
    // SAFETY: the caller vouches for it.
    let role = unsafe { (*record).role };
    tell(sock_of(record), kind, |moment| {
        moment.value = handshake_ns;
        moment.role = role;
    });
}

/// A new round-trip time.
#[inline(never)]
fn sample(ctx: &SockOpsContext) -> u64 {
    let record = stored(ctx, 0);
    if record.is_null() {
        return 0;
    }
    // Told since 6.10. Before, RACK has the round-trip time of the segment that was just acknowledged.
    let mut sample = ctx.arg(0);
    if sample == 0 && offset!(rack_rtt) != 0 {
        sample = read_kernel(sock_of(record).0 + offset!(rack_rtt));
    }
    if sample != 0 {
        // SAFETY: a live map value.
        unsafe { add_sample(record, sample) };
    }
    0
}

/// # Safety
/// A live map value. Callbacks of a socket run one after the other, under its lock.
#[inline(always)]
unsafe fn add_sample(record: *mut TcpSocket, sample_us: u32) {
    // SAFETY: the caller vouches for it; the index is bounded.
    unsafe {
        if (*record).rtt_samples == 0 || sample_us < (*record).rtt_min_us {
            (*record).rtt_min_us = sample_us;
        }
        if sample_us > (*record).rtt_max_us {
            (*record).rtt_max_us = sample_us;
        }
        (*record).rtt_samples += 1;
        (*record).rtt_sum_us += u64::from(sample_us);
        let bucket = bucket_of(sample_us);
        if bucket < RTT_BUCKETS {
            (*record).rtt[bucket] += 1;
        }
    }
}

/// The number of bits that a value takes, at most the last bucket's.
#[inline(always)]
fn bucket_of(value: u32) -> usize {
    let mut bits = 0;
    let mut rest = value;
    for shift in [16, 8, 4, 2, 1] {
        if rest >> shift != 0 {
            bits += shift;
            rest >>= shift;
        }
    }
    if rest != 0 {
        bits += 1;
    }
    let last = RTT_BUCKETS - 1;
    if bits as usize > last { last } else { bits as usize }
}

/// Makes the record of a socket that closes and has none: its callbacks were asked for by an agent
/// before this one, or by another program.
#[inline(always)]
fn adopt_last(ctx: &SockOpsContext) -> *mut TcpSocket {
    let record = stored(ctx, BPF_SK_STORAGE_GET_F_CREATE);
    if record.is_null() {
        bump(Counter::Untracked, 1);
        return record;
    }
    // SAFETY: a live map value and the program's context.
    unsafe {
        identify(sock_of(record), cookie_of(ctx.ops.cast()), record);
        (*record).adopted = 1;
    }
    record
}

#[inline(never)]
fn change_state(ctx: &SockOpsContext) -> u64 {
    let (old, new) = (ctx.arg(0) as u8, ctx.arg(1) as u8);
    if new != STATE_CLOSE && !states_are_wanted() {
        return 0;
    }
    let mut record = stored(ctx, 0);
    if record.is_null() && new == STATE_CLOSE {
        record = adopt_last(ctx);
    }
    if record.is_null() {
        return 0;
    }
    let sock = sock_of(record);
    // SAFETY: a live map value.
    unsafe {
        if new == STATE_CLOSE {
            fill(sock, old, record);
            (*record).time_ns = monotonic_ns();
            (*record).old_state = old;
            (*record).state = new;
            send_socket(record);
        } else {
            let role = (*record).role;
            tell(sock, MOMENT_STATE, |moment| {
                moment.old_state = old;
                moment.state = new;
                moment.role = role;
            });
        }
    }
    0
}
