//! The closer look at a packet that may be DNS, and its way into the ring. Few packets get here, so
//! all is read through the helper, wherever it lies.

use crate::glance::{asks, is_dns};
use crate::{COUNTERS, EVENTS, SOCKET_HOOK_CGROUP, SOCKET_HOOK_LEVEL};
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use core::mem::MaybeUninit;
use orb8_common::dns::{CAPTURE_SIZES, Counter, DnsPacket, DnsRecord, NOTHING_CAPTURED};
use orb8_common::flow::{FlowKey, HOOK_INTERFACE, HOOK_SOCKET};
use orb8_common::packet::{
    Link, NoFlow, Packet, Part, Place, TCP_FIN, TCP_RST, TCP_SYN, Transport, parse_ethernet,
    parse_ip, protocol,
};
use orb8_probes::kernel::{atomic_add, monotonic_ns, within};
use orb8_probes::skb::Skb;

/// Where a program runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Socket,
    EthernetInterface,
    RawInterface,
}

/// What a packet has in front of its payload at least: headers of IPv4 and UDP.
const SHORTEST_HEADERS: usize = 28;

/// A message, or a part of one.
struct Payload {
    /// Where it starts in the packet.
    start: u32,
    /// Bytes, as the headers say.
    length: u32,
    /// Bytes of them that the packet has: a first fragment does not have all.
    present: u32,
    /// TCP sequence number of its first byte.
    sequence: u32,
}

/// Reads the headers, and sends what a DNS packet carries to the ring.
#[inline(never)]
pub(crate) fn capture(context: *mut __sk_buff, direction: u8, hook: Hook) -> u64 {
    // SAFETY: the kernel passed it.
    let skb = unsafe { Skb::new(context) };
    let packet = skb.loaded();
    let mut link = Link::NONE;
    if hook == Hook::EthernetInterface {
        link.header_len = link_header(context) as u32;
        if link.header_len == 0 {
            return 0;
        }
    }
    let place = Place { direction, hook: HOOK_SOCKET, ifindex: 0, cgroup_id: 0 };
    let mut key = MaybeUninit::<FlowKey>::uninit();
    let parsed = parse_ip(&packet, link, place, |made| {
        key.write(made);
    });
    let transport = match parsed {
        Ok(transport) => transport,
        Err(NoFlow::NotIp) => return 0,
        Err(NoFlow::Malformed) => return bump(Counter::Unread, 1),
    };
    // SAFETY: `parse_ip` succeeded.
    let key = unsafe { key.assume_init_ref() };
    if !matches!(transport.protocol, protocol::UDP | protocol::TCP) {
        return 0;
    }
    if transport.part == Part::Later || transport.truncated {
        return bump(Counter::Unread, 1);
    }
    let ports = u32::from(key.source_port.to_be()) | u32::from(key.destination_port.to_be()) << 16;
    if !is_dns(ports) && (hook != Hook::Socket || !asks(skb)) {
        return 0;
    }
    let payload = if transport.protocol == protocol::TCP {
        segment(skb, link, &transport)
    } else {
        datagram(skb, link, &transport)
    };
    match payload {
        Some(payload) => tell(context, key, &transport, &payload, hook),
        None => 0,
    }
}

/// Bytes in front of the IP header; 0 where there is none.
#[inline(never)]
fn link_header(context: *mut __sk_buff) -> u64 {
    // SAFETY: the kernel passed it.
    let packet = unsafe { Skb::new(context) }.loaded();
    // A tag that the device took off is no part of the packet.
    parse_ethernet(&packet, None).map_or(0, |link| link.header_len.into())
}

/// What a TCP segment carries; `None` where that is nothing, not even the end of a stream.
#[inline(always)]
fn segment(skb: Skb, link: Link, transport: &Transport) -> Option<Payload> {
    let tcp: [u32; 4] = skb.loaded().load(transport.offset)?;
    let [data_offset, ..] = tcp[3].to_le_bytes();
    let start = transport.offset + u32::from(data_offset >> 4) * 4;
    let length = end_of_ip(skb, link, transport).saturating_sub(start);
    let flags = transport.tcp_flags;
    if length == 0 && flags & (TCP_SYN | TCP_FIN | TCP_RST) == 0 {
        return None;
    }
    // A SYN has a number of its own, in front of the first byte's.
    let sequence = u32::from_be(tcp[1]).wrapping_add(u32::from(flags & TCP_SYN != 0));
    Some(Payload { start, length, present: length, sequence })
}

/// What a UDP datagram carries; `None` where that is nothing.
#[inline(always)]
fn datagram(skb: Skb, link: Link, transport: &Transport) -> Option<Payload> {
    const HEADER: u32 = 8;
    let udp: [u16; 4] = skb.loaded().load(transport.offset)?;
    let start = transport.offset + HEADER;
    let present = end_of_ip(skb, link, transport).saturating_sub(start);
    let said = u32::from(u16::from_be(udp[2]));
    let length = if said > HEADER { said - HEADER } else { present };
    if length == 0 {
        return None;
    }
    // Datagrams that the kernel handles as one: only the first can be told.
    let segments = skb.segments();
    let length = if segments > 1 {
        bump(Counter::Unread, u64::from(segments - 1));
        length.min(skb.segment_size())
    } else {
        length
    };
    Some(Payload { start, length, present: present.min(length), sequence: 0 })
}

/// Where the IP packet ends: a short frame is padded. What the kernel handles as one packet may be
/// longer than the header can say.
#[inline(always)]
fn end_of_ip(skb: Skb, link: Link, transport: &Transport) -> u32 {
    let end = link.header_len + transport.ip_len;
    if skb.segments() == 1 && transport.ip_len != 0 && end < skb.len() { end } else { skb.len() }
}

#[inline(never)]
fn tell(
    context: *mut __sk_buff,
    key: &FlowKey,
    transport: &Transport,
    payload: &Payload,
    hook: Hook,
) -> u64 {
    // SAFETY: the kernel passed it.
    let skb = unsafe { Skb::new(context) };
    if hook != Hook::Socket
        && skb.passes_socket_hook(SOCKET_HOOK_CGROUP.load(), SOCKET_HOOK_LEVEL.load())
    {
        return bump(Counter::Owned, 1);
    }
    bump(Counter::Packets, 1);
    let [small, medium, large] = CAPTURE_SIZES;
    let captured = payload.present.min(large as u32);
    let packet = DnsPacket {
        source_addr: key.source_addr,
        destination_addr: key.destination_addr,
        time_ns: monotonic_ns(),
        cgroup_id: skb.cgroup_id(),
        cookie: skb.socket_cookie(),
        source_port: key.source_port,
        destination_port: key.destination_port,
        sequence: payload.sequence,
        length: payload.length,
        captured: captured as u16,
        protocol: transport.protocol,
        direction: key.direction,
        ifindex: skb.ifindex(),
        hook: if hook == Hook::Socket { HOOK_SOCKET } else { HOOK_INTERFACE },
        tcp_flags: transport.tcp_flags,
        reserved: [0; 2],
    };
    // By the packet's length, which is near enough: by `captured` the verifier would tell apart all
    // paths that led to it, and take ten times as long.
    let length = skb.len() as usize - SHORTEST_HEADERS;
    let sent = if length <= small {
        send::<{ CAPTURE_SIZES[0] }>(context, &packet, payload.start)
    } else if length <= medium {
        send::<{ CAPTURE_SIZES[1] }>(context, &packet, payload.start)
    } else {
        send::<{ CAPTURE_SIZES[2] }>(context, &packet, payload.start)
    };
    if sent == 0 {
        bump(Counter::Lost, 1);
    }
    sent
}

/// Puts a packet and its bytes into the ring; 0 where there is no room. Without flags the kernel
/// wakes the reader only when it had read everything, and the reader rests between reads, so
/// wake-ups are bounded by its rests.
#[inline(never)]
fn send<const N: usize>(context: *mut __sk_buff, packet: &DnsPacket, start: u32) -> u64 {
    let Some(mut entry) = EVENTS.reserve_untyped::<DnsRecord<N>>(0) else { return 0 };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved, and at most its `N` bytes are written behind the packet.
    unsafe {
        (&raw mut (*record).packet).write(*packet);
        // Read back from where the verifier does not follow: else it would tell apart the paths that
        // led to this length, and there are many.
        let captured = (&raw const (*record).packet.captured).read_volatile();
        if captured != NOTHING_CAPTURED {
            let bytes = (&raw mut (*record).bytes).cast();
            let length = within::<N>(captured.into());
            if bpf_skb_load_bytes(context.cast(), start, bytes, length) != 0 {
                (&raw mut (*record).packet.captured).write(NOTHING_CAPTURED);
            }
        }
    }
    entry.submit(0);
    1
}

/// Softirqs interrupt programs that run in process context, so even a CPU's own counter needs an
/// atomic addition.
#[inline(always)]
fn bump(counter: Counter, value: u64) -> u64 {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a live map value, and the index is a constant below its length.
        unsafe { atomic_add(counters.cast::<u64>().add(counter as usize), value) };
    }
    0
}
