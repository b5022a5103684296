//! Tracepoints of the kernel's TCP: what happens to any socket, followed or not.

use crate::moments::{Reset, bump, own, tell, tell_empty};
use crate::packet::{Segment, netns_of};
use crate::socket::{STATE_NEW_SYN_RECV, STATE_TIME_WAIT, Sock, offset};
use aya_ebpf::bindings::BPF_SOCK_OPS_STATE_CB_FLAG;
use orb8_common::tcp::{
    MOMENT_ACCEPT, MOMENT_CLOSE, MOMENT_CONNECT, MOMENT_RETRANSMIT, MOMENT_RETRANSMIT_SYNACK,
    ROLE_CLIENT, ROLE_SERVER, ROLE_UNKNOWN, STATE_CLOSE, STATE_ESTABLISHED, STATE_LISTEN,
    STATE_SYN_RECV, STATE_SYN_SENT,
};
use orb8_probes::kernel::read_kernel;

const TCP: u8 = 6;

/// Tells of sockets that `sock_ops` does not follow: those older than the agent, and all where it
/// cannot be attached.
#[inline(always)]
pub(crate) fn set_state(address: u64, old: u8, new: u8) {
    if new != STATE_CLOSE && new != STATE_ESTABLISHED {
        return;
    }
    let sock = Sock(address);
    if sock.protocol() != TCP || u32::from(sock.callbacks()) & BPF_SOCK_OPS_STATE_CB_FLAG != 0 {
        return;
    }
    if new == STATE_CLOSE {
        close(sock, old);
    } else if old == STATE_SYN_SENT {
        tell(sock, MOMENT_CONNECT, |moment| moment.role = ROLE_CLIENT);
    } else if old == STATE_SYN_RECV {
        tell(sock, MOMENT_ACCEPT, |moment| moment.role = ROLE_SERVER);
    }
}

#[inline(always)]
fn close(sock: Sock, old: u8) {
    // One that was never connected, or only listened.
    if old == STATE_CLOSE || old == STATE_LISTEN {
        return;
    }
    tell(sock, MOMENT_CLOSE, |moment| {
        moment.old_state = old;
        moment.state = STATE_CLOSE;
        moment.value = sock.bytes_sent(ROLE_UNKNOWN, old);
        moment.other_value = sock.bytes_received();
        moment.total = sock.retransmits();
        if old == STATE_SYN_SENT {
            moment.role = ROLE_CLIENT;
        }
    });
}

/// Whether nothing was handed down to be sent again, nor counted by the kernel: the first copy still
/// waits in a queue of this host, the peer's window is shut, or memory or the route is missing.
#[inline(always)]
pub(crate) fn was_put_off(error: i32) -> bool {
    const EAGAIN: i32 = -11;
    const ENOMEM: i32 = -12;
    const EBUSY: i32 = -16;
    const EHOSTUNREACH: i32 = -113;
    matches!(error, EAGAIN | ENOMEM | EBUSY | EHOSTUNREACH)
}

#[inline(always)]
pub(crate) fn retransmit(address: u64, skb: u64) {
    let sock = Sock(address);
    tell(sock, MOMENT_RETRANSMIT, |moment| {
        moment.reason = 1;
        if offset!(skb_segments) != 0 && skb != 0 {
            let segments: u16 = read_kernel(skb + offset!(skb_segments));
            moment.reason = u32::from(segments);
        }
        moment.total = sock.retransmits();
    });
}

/// The request has the ends; the listener is whose it is.
#[inline(always)]
pub(crate) fn retransmit_synack(listener: u64, request: u64) {
    tell_empty(MOMENT_RETRANSMIT_SYNACK, |moment| {
        let ends = Sock(request).ends();
        moment.local_addr = ends.local_addr;
        moment.remote_addr = ends.remote_addr;
        moment.local_port = ends.local_port;
        moment.remote_port = ends.remote_port;
        own(Sock(listener), moment);
        // The connection will have a cookie of its own.
        moment.cookie = 0;
        moment.state = STATE_SYN_RECV;
        moment.role = ROLE_SERVER;
        moment.reason = 1;
    });
}

#[inline(always)]
pub(crate) fn reset(which: Reset, address: u64, skb: u64, reason: u32) {
    bump(which.counter(), 1);
    let sock = Sock(address);
    let state = if sock.is_null() { 0 } else { sock.state() };
    let is_connection = state != 0 && state != STATE_LISTEN;
    let is_whole = state != 0 && state != STATE_TIME_WAIT && state != STATE_NEW_SYN_RECV;
    if is_connection && is_whole {
        tell(sock, which.kind(), |moment| moment.reason = reason);
        return;
    }
    tell_empty(which.kind(), |moment| {
        moment.reason = reason;
        moment.state = state;
        if is_whole {
            own(sock, moment);
            moment.cookie = 0;
        }
        if is_connection {
            let ends = sock.ends();
            moment.local_addr = ends.local_addr;
            moment.remote_addr = ends.remote_addr;
            moment.local_port = ends.local_port;
            moment.remote_port = ends.remote_port;
            moment.netns = sock.netns();
        } else if skb != 0 {
            // What it answers: our end is its destination.
            let segment = Segment::of(skb);
            if moment.netns == 0 {
                moment.netns = netns_of(skb);
            }
            moment.local_addr = segment.destination_addr;
            moment.remote_addr = segment.source_addr;
            moment.local_port = segment.destination_port;
            moment.remote_port = segment.source_port;
        }
    });
}
