//! The `dns` signal's kernel records.
//!
//! Programs tell packets of the DNS ports by their header and copy a bounded part of the message;
//! user space parses. One ring record is a [`DnsPacket`] and the captured bytes behind it, in one
//! of the sizes of [`CAPTURE_SIZES`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Ports that the programs can be told of.
pub const MAX_PORTS: usize = 8;

/// Room for captured bytes behind a [`DnsPacket`]: a record has the smallest that what its packet
/// can carry fits, else the largest. Queries fit the first, most answers the second, and what an
/// answer has behind the third is not needed.
pub const CAPTURE_SIZES: [usize; 3] = [128, 512, 2048];

/// The message's first bytes were not captured: the packet carries none ([`DnsPacket::captured`] is
/// 0), or its bytes could not be read.
pub const NOTHING_CAPTURED: u16 = 0;

/// What the ring carries: one packet from or to a DNS port, before its bytes. 80 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DnsPacket {
    /// Network order; IPv4 as `::ffff:a.b.c.d`.
    pub source_addr: [u8; 16],
    /// Network order; IPv4 as `::ffff:a.b.c.d`.
    pub destination_addr: [u8; 16],
    /// Monotonic clock, nanoseconds.
    pub time_ns: u64,
    /// cgroup v2 id of the packet's socket, 0 where none is known.
    pub cgroup_id: u64,
    /// Socket cookie, 0 where there is none.
    pub cookie: u64,
    /// Host order.
    pub source_port: u16,
    /// Host order.
    pub destination_port: u16,
    /// TCP sequence number of the first payload byte; 0 for UDP.
    pub sequence: u32,
    /// Payload bytes of the packet. A GSO packet's may exceed 64 KiB.
    pub length: u32,
    /// Payload bytes behind this header.
    pub captured: u16,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// [`crate::flow::DIRECTION_INGRESS`] or [`crate::flow::DIRECTION_EGRESS`].
    pub direction: u8,
    /// Interface as seen by the hook.
    pub ifindex: u32,
    /// [`crate::flow::HOOK_SOCKET`] or [`crate::flow::HOOK_INTERFACE`].
    pub hook: u8,
    /// TCP flags as in the header: a SYN or FIN without payload tells where a stream begins or ends.
    pub tcp_flags: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// A ring record with room for `N` captured bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DnsRecord<const N: usize> {
    /// The packet.
    pub packet: DnsPacket,
    /// Its payload: [`DnsPacket::captured`] bytes, then whatever the ring held before.
    pub bytes: [u8; N],
}

/// Index into the `COUNTERS` entry, an array per CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Packets of the DNS ports that carry something, or begin or end a stream: each is in the ring or
    /// [`Self::Lost`].
    Packets = 0,
    /// Those that the ring had no room for.
    Lost = 1,
    /// Those that the interface hook left to the socket hook (`both` only).
    Owned = 2,
    /// Fragments that have no ports, and packets whose header does not parse: nobody can tell whether
    /// they were DNS.
    Unread = 3,
}

impl Counter {
    /// Length of the array.
    pub const COUNT: usize = 4;
}

impl DnsPacket {
    /// Splits a ring record into its header and what was captured of the payload. `None` where the
    /// bytes are no such record.
    #[must_use]
    pub fn read(record: &[u8]) -> Option<(Self, &[u8])> {
        let (packet, bytes) = Self::read_from_prefix(record).ok()?;
        let captured = usize::from(packet.captured);
        (captured as u64 <= u64::from(packet.length)).then_some(())?;
        Some((packet, bytes.get(..captured)?))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    fn record(length: u32, captured: u16, room: usize) -> Vec<u8> {
        let mut record = std::vec![0_u8; size_of::<DnsPacket>() + room];
        let mut packet = DnsPacket::read_from_bytes(&record[..80]).unwrap();
        (packet.length, packet.captured) = (length, captured);
        packet.write_to_prefix(&mut record).unwrap();
        record
    }

    #[test]
    fn a_record_is_read_as_far_as_it_was_captured() {
        assert_eq!(size_of::<DnsPacket>(), 80);
        let captured = |record: &[u8]| DnsPacket::read(record).map(|(_, bytes)| bytes.len());
        for room in CAPTURE_SIZES {
            assert_eq!(captured(&record(40, 40, room)), Some(40));
            assert_eq!(captured(&record(9000, room as u16, room)), Some(room));
        }
        assert_eq!(captured(&record(40, NOTHING_CAPTURED, 128)), Some(0));
        assert_eq!(captured(&record(39, 40, 128)), None, "more than there was");
        assert_eq!(captured(&record(200, 129, 128)), None, "more than there is room for");
        assert_eq!(captured(&record(0, 0, 0)[1..]), None);
    }
}
