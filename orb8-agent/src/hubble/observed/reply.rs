//! Which way a packet goes, between who asked and who is asked.

use orb8_proto::filter::End;
use orb8_proto::ports;

use super::{ACK, ICMP, ICMPV6, SYN, Side};
use crate::event::TcpRole;
use crate::pipeline::TcpEvent;
use crate::store::protocol_of;

/// Linux gives clients ports from here on, unless it is told otherwise.
const EPHEMERAL: u16 = 32_768;

/// Tells by the flags of a dropped packet, or by who opened its connection.
pub(super) fn of_drop(event: &TcpEvent, tcp_flags: u8) -> Option<bool> {
    match tcp_flags & (SYN | ACK) {
        SYN => return Some(false),
        flags if flags == SYN | ACK => return Some(true),
        _ => {}
    }
    let asking = match event.sample.role {
        TcpRole::Client => event.local?,
        TcpRole::Server | TcpRole::Listener => event.local?.other(),
        TcpRole::Unknown => return None,
    };
    Some(asking == End::Destination)
}

/// Tells by type or ports, where nobody saw who began: a server has a port with a name, or one that no
/// client is given.
pub(super) fn guess(
    protocol: u8,
    icmp: Option<(u8, u8)>,
    source: &Side<'_>,
    destination: &Side<'_>,
) -> Option<bool> {
    match (protocol, icmp) {
        (ICMP, Some((8 | 13, _))) | (ICMPV6, Some((128, _))) => return Some(false),
        (ICMP, Some((0 | 14, _))) | (ICMPV6, Some((129, _))) => return Some(true),
        _ => {}
    }
    let ports = (source.port?, destination.port?);
    let protocol = protocol_of(protocol);
    let has_name = |port| ports::name(protocol, port).is_some();
    match (has_name(ports.0), has_name(ports.1)) {
        (true, false) => return Some(true),
        (false, true) => return Some(false),
        _ => {}
    }
    match (ports.0 < EPHEMERAL, ports.1 < EPHEMERAL) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}
