//! This node's sockets, as flows, connections and what was just read tell of them.

use orb8_common::flow::{DIRECTION_EGRESS, HOOK_SOCKET};

use crate::enrich::Sockets;
use crate::event::{DnsSide, Event, Payload, SampleKind, SocketEnd};
use crate::store::FlowStore;
use crate::store::tcp::ConnectionTable;

const TCP: u8 = 6;

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeSockets<'a> {
    pub(super) flows: &'a FlowStore,
    pub(super) connections: &'a ConnectionTable,
    pub(super) arriving: &'a Arriving,
}

impl Sockets for NodeSockets<'_> {
    fn visit(&self, protocol: u8, end: SocketEnd, other: SocketEnd, visit: &mut dyn FnMut(u64)) {
        self.flows.visit_sockets(protocol, end, other, &mut *visit);
        if protocol == TCP {
            self.connections.visit_sockets(end, other, &mut *visit);
        }
        self.arriving.visit(protocol, end, other, visit);
    }
}

/// Tells of none: what the kernel itself sends comes out of nobody's.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoSockets;

impl Sockets for NoSockets {
    fn visit(&self, _: u8, _: SocketEnd, _: SocketEnd, _: &mut dyn FnMut(u64)) {}
}

/// The sockets that a batch tells of, so that the first event of a connection, which is the client's,
/// finds the server's.
#[derive(Debug, Default)]
pub(super) struct Arriving(Vec<Socket>);

/// Protocol, both ends (its own first), and cgroup.
type Socket = (Key, u64);
type Key = (u8, [u8; 16], u16, [u8; 16], u16);

impl Arriving {
    /// Takes the sockets of a batch in place of those of the batch before.
    pub(super) fn read(&mut self, batch: &[Event]) {
        self.0.clear();
        self.0.extend(batch.iter().filter_map(|event| socket(&event.payload)));
        self.0.sort_unstable();
        self.0.dedup();
    }

    fn visit(&self, protocol: u8, end: SocketEnd, other: SocketEnd, visit: &mut dyn FnMut(u64)) {
        let wanted = key(protocol, end, other);
        let start = self.0.partition_point(|(key, _)| *key < wanted);
        let found = self.0[start..].iter().take_while(|(key, _)| *key == wanted);
        found.for_each(|(_, cgroup_id)| visit(*cgroup_id));
    }
}

const fn key(protocol: u8, end: SocketEnd, other: SocketEnd) -> Key {
    (protocol, end.addr, end.port, other.addr, other.port)
}

/// Returns the socket that an event tells of.
fn socket(payload: &Payload) -> Option<Socket> {
    let (protocol, [end, other], cgroup_id) = match payload {
        Payload::Flow(sample)
            if sample.kind == SampleKind::New && sample.key.hook == HOOK_SOCKET =>
        {
            let key = &sample.key;
            let source = SocketEnd { addr: key.source_addr, port: key.source_port };
            let destination = SocketEnd { addr: key.destination_addr, port: key.destination_port };
            let is_sent = key.direction == DIRECTION_EGRESS;
            let ends = if is_sent { [source, destination] } else { [destination, source] };
            (key.protocol, ends, sample.cgroup_id)
        }
        Payload::Dns(exchange) => {
            let ends = match exchange.side {
                DnsSide::Client => [exchange.client, exchange.server],
                DnsSide::Server => [exchange.server, exchange.client],
                DnsSide::Transit => return None,
            };
            (exchange.transport, ends, exchange.cgroup_id)
        }
        Payload::Tcp(sample) if !sample.of_packet => {
            (TCP, [sample.local, sample.remote], sample.cgroup_id)
        }
        Payload::Flow(_) | Payload::Tcp(_) | Payload::Gpu(_) | Payload::Loss(_) => return None,
    };
    (cgroup_id != 0).then_some((key(protocol, end, other), cgroup_id))
}

#[cfg(test)]
mod tests {
    use orb8_common::flow::{DIRECTION_INGRESS, FlowKey};

    use super::*;
    use crate::event::{FlowSample, UnixNanos};

    fn end(last: u8, port: u16) -> SocketEnd {
        SocketEnd { addr: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last], port }
    }

    fn new(kind: SampleKind, direction: u8, cgroup_id: u64) -> Event {
        let (source, destination) = (end(1, 40_000), end(2, 80));
        let key = FlowKey {
            source_addr: source.addr,
            destination_addr: destination.addr,
            source_port: source.port,
            destination_port: destination.port,
            ifindex: 0,
            cgroup_id,
            protocol: TCP,
            direction,
            hook: HOOK_SOCKET,
            flags: 0,
            vlan: 0,
            inner_vlan: 0,
        };
        let sample = FlowSample {
            key,
            kind,
            cgroup_id,
            cookie: 0,
            ifindex: 0,
            packets: 1,
            bytes: 60,
            first: UnixNanos(1),
            last: UnixNanos(1),
            tcp_flags: 2,
        };
        Event { time: UnixNanos(1), subject: None, payload: Payload::Flow(sample) }
    }

    fn at(arriving: &Arriving, own: SocketEnd, other: SocketEnd) -> Vec<u64> {
        let mut found = Vec::new();
        arriving.visit(TCP, own, other, &mut |cgroup_id| found.push(cgroup_id));
        found
    }

    #[test]
    fn both_sockets_of_a_connection_are_found_and_no_other() {
        let mut arriving = Arriving::default();
        let sent = || new(SampleKind::New, DIRECTION_EGRESS, 7);
        arriving.read(&[sent(), new(SampleKind::New, DIRECTION_INGRESS, 8), sent()]);
        assert_eq!(at(&arriving, end(1, 40_000), end(2, 80)), [7]);
        assert_eq!(at(&arriving, end(2, 80), end(1, 40_000)), [8]);
        assert!(at(&arriving, end(2, 80), end(1, 40_001)).is_empty());
        arriving.read(&[sent(), new(SampleKind::New, DIRECTION_EGRESS, 9)]);
        assert_eq!(at(&arriving, end(1, 40_000), end(2, 80)), [7, 9], "of two namespaces");
        assert!(at(&arriving, end(2, 80), end(1, 40_000)).is_empty(), "the last batch is over");
        arriving.read(&[new(SampleKind::New, DIRECTION_EGRESS, 0)]);
        assert!(at(&arriving, end(1, 40_000), end(2, 80)).is_empty(), "without a cgroup");
    }
}
