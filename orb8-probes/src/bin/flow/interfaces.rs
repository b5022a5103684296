//! The interface hook: link headers, fragments, and what is left to the socket hook.

use crate::count::{Seen, count, parse};
use crate::moments::{bump, count_malformed, count_other};
use crate::{FRAGMENTS, SOCKET_HOOK_CGROUP, SOCKET_HOOK_LEVEL};
use aya_ebpf::bindings::__sk_buff;
use core::mem::MaybeUninit;
use orb8_common::flow::{Counter, FlowKey, HOOK_INTERFACE, KEY_FRAGMENT};
use orb8_common::packet::{Link, NoFlow, Part, Place, Transport, parse_ethernet};
use orb8_probes::skb::Skb;

/// What the fragments of a datagram share.
#[repr(C)]
pub(crate) struct FragmentKey {
    pub(crate) source_addr: [u8; 16],
    pub(crate) destination_addr: [u8; 16],
    pub(crate) id: u32,
    pub(crate) ifindex: u32,
    pub(crate) vlan: u16,
    pub(crate) inner_vlan: u16,
    pub(crate) protocol: u32,
}

/// What only the first fragment has.
#[repr(C)]
pub(crate) struct Ports {
    pub(crate) source: u16,
    pub(crate) destination: u16,
}

#[inline(always)]
pub(crate) fn interface_hook(context: *mut __sk_buff, direction: u8, ethernet: bool) {
    // SAFETY: the kernel passed it.
    let skb = unsafe { Skb::new(context) };
    let link = if ethernet {
        match parse_link(skb) {
            Ok(link) => link,
            Err(_) => return count_other(skb, 14),
        }
    } else {
        Link::NONE
    };
    let place = Place { direction, hook: HOOK_INTERFACE, ifindex: skb.ifindex(), cgroup_id: 0 };
    let mut key = MaybeUninit::uninit();
    let transport = match parse(skb, link, place, &mut key) {
        Ok(transport) => transport,
        Err(NoFlow::NotIp) => return count_other(skb, link.header_len),
        Err(NoFlow::Malformed) => {
            return count_malformed(skb.len() - link.header_len, skb.segments());
        }
    };
    // SAFETY: `parse` succeeded.
    let key = unsafe { key.assume_init_mut() };
    if transport.part != Part::Whole {
        find_ports(key, &transport);
    }
    let seen = Seen {
        skb,
        packets: skb.segments(),
        bytes: ip_bytes(skb, link, &transport),
        tcp_flags: transport.tcp_flags,
    };
    if skb.passes_socket_hook(SOCKET_HOOK_CGROUP.load(), SOCKET_HOOK_LEVEL.load()) {
        bump(Counter::OwnedPackets, u64::from(seen.packets));
        bump(Counter::OwnedBytes, u64::from(seen.bytes));
        return;
    }
    count(&seen, key);
}

#[inline(always)]
pub(crate) fn parse_link(skb: Skb) -> Result<Link, NoFlow> {
    let vlan = skb.offloaded_vlan();
    match parse_ethernet(&skb.direct(), vlan) {
        Err(NoFlow::Malformed) => parse_ethernet(&skb.loaded(), vlan),
        parsed => parsed,
    }
}

/// IP bytes of a frame: all behind the link header, but for what pads a short frame.
#[inline(always)]
pub(crate) fn ip_bytes(skb: Skb, link: Link, transport: &Transport) -> u32 {
    // The shortest frame, with one tag: only up to here can there be padding.
    const SHORTEST: u32 = 64;
    let bytes = skb.len() - link.header_len;
    if skb.len() <= SHORTEST && transport.ip_len >= 20 && transport.ip_len < bytes {
        transport.ip_len
    } else {
        bytes
    }
}

/// Remembers the ports of a first fragment, and gives them to the others.
#[inline(always)]
pub(crate) fn find_ports(key: &mut FlowKey, transport: &Transport) {
    let datagram = FragmentKey {
        source_addr: key.source_addr,
        destination_addr: key.destination_addr,
        id: transport.datagram_id,
        ifindex: key.ifindex,
        vlan: key.vlan,
        inner_vlan: key.inner_vlan,
        protocol: u32::from(key.protocol),
    };
    if transport.part == Part::First {
        let ports = Ports { source: key.source_port, destination: key.destination_port };
        // An LRU insertion does not fail for want of room.
        let _ = FRAGMENTS.insert(datagram, ports, 0);
    // SAFETY: read at once; a fragment of a datagram that was evicted has no entry.
    } else if let Some(ports) = unsafe { FRAGMENTS.get(datagram) } {
        key.source_port = ports.source;
        key.destination_port = ports.destination;
    } else {
        key.flags = KEY_FRAGMENT;
    }
}
