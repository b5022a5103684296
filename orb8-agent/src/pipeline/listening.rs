//! Which cgroups answer at which addresses, as events tell it.

use std::time::Instant;

use orb8_common::flow::{DIRECTION_INGRESS, HOOK_SOCKET};

use super::Pipeline;
use crate::event::{DnsSide, Event, FlowSample, Payload, SocketEnd, TcpRole};

const TCP: u8 = 6;
/// TCP flags as in the header.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

impl Pipeline {
    /// Notes who answers where before the batch's events are told: the client's side of a new
    /// connection comes before the server's.
    pub(super) fn note_listeners(&mut self, batch: &[Event], now: Instant) {
        for event in batch {
            if let Some((protocol, at, cgroup_id)) = listener(&event.payload) {
                self.enrich.listens(protocol, at, cgroup_id, now);
            }
        }
    }
}

/// Returns the protocol, address and cgroup of the server that an event tells of.
fn listener(payload: &Payload) -> Option<(u8, SocketEnd, u64)> {
    match payload {
        Payload::Flow(sample) if is_request(sample) => {
            let key = &sample.key;
            let at = SocketEnd { addr: key.destination_addr, port: key.destination_port };
            Some((TCP, at, sample.cgroup_id))
        }
        Payload::Dns(exchange) if exchange.side == DnsSide::Server => {
            Some((exchange.transport, exchange.server, exchange.cgroup_id))
        }
        Payload::Tcp(sample)
            if !sample.of_packet && matches!(sample.role, TcpRole::Server | TcpRole::Listener) =>
        {
            Some((TCP, sample.local, sample.cgroup_id))
        }
        Payload::Flow(_)
        | Payload::Dns(_)
        | Payload::Tcp(_)
        | Payload::Gpu(_)
        | Payload::Loss(_) => None,
    }
}

/// Whether a connection was opened to a local socket.
fn is_request(sample: &FlowSample) -> bool {
    let key = &sample.key;
    key.hook == HOOK_SOCKET
        && key.protocol == TCP
        && key.direction == DIRECTION_INGRESS
        && sample.tcp_flags & (SYN | ACK) == SYN
}
