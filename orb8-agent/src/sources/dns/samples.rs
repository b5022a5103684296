//! Messages and packets for tests.

use orb8_common::{
    dns::DnsPacket,
    flow::{DIRECTION_EGRESS, DIRECTION_INGRESS, HOOK_INTERFACE, HOOK_SOCKET},
    packet::protocol,
};

pub(super) const A: u16 = 1;
pub(super) const CNAME: u16 = 5;
pub(super) const OPT: u16 = 41;

/// A pointer to the question's name.
pub(super) const ASKED: &[u8] = &[0xc0, 12];

/// A query for a type of a name's records.
pub(super) fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let header = words([id, 0x0100, 1, 0, 0, 0]);
    [header, wire(name), words([kind, 1])].concat()
}

/// A query as `dig` sends it: with an EDNS record.
pub(super) fn edns_query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut query = query(id, name, kind);
    query[11] = 1;
    [query, record(&[0], OPT, 4096, 0, &[])].concat()
}

/// A response to [`query`], with these records in its answer section.
pub(super) fn response(id: u16, name: &str, kind: u16, answers: &[Vec<u8>]) -> Vec<u8> {
    let header = words([id, 0x8180, 1, answers.len() as u16, 0, 0]);
    [header, wire(name), words([kind, 1]), answers.concat()].concat()
}

pub(super) fn address(last: u8) -> Vec<u8> {
    record(ASKED, A, 1, 300, &[192, 0, 2, last])
}

pub(super) fn record(name: &[u8], kind: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u16).to_be_bytes();
    [name, &words([kind, class]), &ttl.to_be_bytes(), &length, data].concat()
}

/// A name in wire format, without compression.
pub(super) fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

pub(super) fn words<const N: usize>(words: [u16; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A message as a stream carries it.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

pub(super) const CLIENT: (u8, u16) = (1, 40_000);
pub(super) const SERVER: (u8, u16) = (2, 53);

/// A UDP packet at a socket: from `source` to `destination`, at `time_ms`.
pub(super) fn packet(
    source: (u8, u16),
    destination: (u8, u16),
    direction: u8,
    time_ms: u64,
) -> DnsPacket {
    DnsPacket {
        source_addr: [source.0; 16],
        destination_addr: [destination.0; 16],
        time_ns: time_ms * 1_000_000,
        cgroup_id: 7,
        cookie: 9,
        source_port: source.1,
        destination_port: destination.1,
        sequence: 0,
        length: 0,
        captured: 0,
        protocol: protocol::UDP,
        direction,
        ifindex: 2,
        hook: HOOK_SOCKET,
        tcp_flags: 0,
        reserved: [0; 2],
    }
}

/// A query's packet at the client's socket.
pub(super) fn asking(time_ms: u64) -> DnsPacket {
    packet(CLIENT, SERVER, DIRECTION_EGRESS, time_ms)
}

/// Its response's.
pub(super) fn answering(time_ms: u64) -> DnsPacket {
    packet(SERVER, CLIENT, DIRECTION_INGRESS, time_ms)
}

/// The same packet on an interface.
pub(super) fn on_interface(packet: DnsPacket) -> DnsPacket {
    DnsPacket { hook: HOOK_INTERFACE, cgroup_id: 0, cookie: 0, ..packet }
}
