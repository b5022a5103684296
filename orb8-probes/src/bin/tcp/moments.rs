//! The ring, and the counters of what it had no room for.

use crate::socket::Sock;
use crate::{CONTROL, COUNTERS, EVENTS};
use orb8_common::tcp::{Counter, MOMENT_RESET_RECEIVED, MOMENT_RESET_SENT, TcpMoment, TcpSocket};
use orb8_probes::kernel::{atomic_add, monotonic_ns};

/// Which way a RST went.
#[derive(Clone, Copy)]
pub(crate) enum Reset {
    Sent,
    Received,
}

impl Reset {
    pub(crate) const fn kind(self) -> u8 {
        match self {
            Self::Sent => MOMENT_RESET_SENT,
            Self::Received => MOMENT_RESET_RECEIVED,
        }
    }

    pub(crate) const fn counter(self) -> Counter {
        match self {
            Self::Sent => Counter::ResetsSent,
            Self::Received => Counter::ResetsReceived,
        }
    }
}

/// Tells of something that happened to a whole socket: `finish` adds what that was.
#[inline(always)]
pub(crate) fn tell(sock: Sock, kind: u8, finish: impl FnOnce(&mut TcpMoment)) {
    tell_empty(kind, |moment| {
        own(sock, moment);
        let ends = sock.ends();
        moment.local_addr = ends.local_addr;
        moment.remote_addr = ends.remote_addr;
        moment.local_port = ends.local_port;
        moment.remote_port = ends.remote_port;
        moment.state = sock.state();
        moment.error = sock.error();
        moment.srtt_us = sock.srtt_us();
        finish(moment);
    });
}

/// Writes whose a moment is.
#[inline(always)]
pub(crate) fn own(sock: Sock, moment: &mut TcpMoment) {
    moment.netns = sock.netns();
    moment.cookie = sock.cookie();
    moment.cgroup_id = sock.cgroup_id();
}

/// Puts a moment into the ring; `finish` fills it. Without flags the kernel wakes the reader only when
/// it had read everything, and the reader rests between reads, so wake-ups are bounded by its rests.
#[inline(always)]
pub(crate) fn tell_empty(kind: u8, finish: impl FnOnce(&mut TcpMoment)) {
    let Some(mut entry) = EVENTS.reserve(0) else {
        bump(Counter::Lost, 1);
        return;
    };
    let empty: TcpMoment = zerocopy::transmute!([0_u64; size_of::<TcpMoment>() / 8]);
    let moment = entry.write(empty);
    moment.kind = kind;
    moment.time_ns = monotonic_ns();
    finish(moment);
    entry.submit(0);
}

/// Hands a closed socket's record to the agent.
#[inline(always)]
pub(crate) fn send_socket(record: *mut TcpSocket) {
    // SAFETY: a live map value; the socket's lock is held.
    let record = unsafe { &*record };
    if EVENTS.output_untyped::<TcpSocket>(record, 0).is_err() {
        bump(Counter::Lost, 1);
    }
}

/// Whether somebody follows changes of state.
#[inline(always)]
pub(crate) fn states_are_wanted() -> bool {
    match CONTROL.get_ptr(0) {
        // SAFETY: the only entry of the array.
        Some(control) => unsafe { (&raw const (*control).states).read_volatile() != 0 },
        None => false,
    }
}

/// Whether the iterator is to hand over every socket.
#[inline(always)]
pub(crate) fn everything_is_wanted() -> bool {
    match CONTROL.get_ptr(0) {
        // SAFETY: the only entry of the array.
        Some(control) => unsafe { (&raw const (*control).everything).read_volatile() != 0 },
        None => false,
    }
}

/// Softirqs interrupt programs that run in process context, so even a CPU's own counter needs an
/// atomic addition.
#[inline(always)]
pub(crate) fn bump(counter: Counter, value: u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a live map value, and the index is a constant below its length.
        unsafe { atomic_add(counters.cast::<u64>().add(counter as usize), value) };
    }
}
