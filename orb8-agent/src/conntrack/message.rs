//! Netlink's questions and answers about one connection (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! A message is its header, the address family, and attributes; those with a `TUPLE` in their name
//! have attributes inside.

use std::io;
use std::net::Ipv6Addr;

use netlink_packet_core::{
    NLA_F_NESTED, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NlaBuffer, NlasIterator,
};

use super::Tuple;
use crate::event::SocketEnd;

/// Message types: subsystem 1 (`NFNL_SUBSYS_CTNETLINK`) in the upper byte.
const CT_NEW: u16 = 0x100;
const CT_GET: u16 = 0x101;

/// `enum ctattr_type`
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
/// `enum ctattr_tuple`
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
/// `enum ctattr_ip`
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;
/// `enum ctattr_l4proto`
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;

/// `struct nlmsghdr`
const HEADER: usize = 16;
/// `struct nfgenmsg`: address family, version, resource.
const FAMILY: usize = 4;
/// `struct nlattr`: length, type.
const ATTRIBUTE: usize = 4;

/// Bytes of the longest question, which is one about IPv6.
const LONGEST: usize = HEADER + FAMILY + 3 * ATTRIBUTE + 2 * (ATTRIBUTE + 16) + 3 * 8;

/// Asks for the connection that one direction belongs to.
pub(super) struct Question {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Question {
    /// `None` where the ends are of different IP versions.
    pub(super) fn new(tuple: &Tuple, sequence: u32) -> Option<Self> {
        let Tuple { source, destination, protocol } = tuple;
        let [from, to] = [source, destination].map(|end| Ipv6Addr::from(end.addr).to_ipv4_mapped());
        let mut question = Self { bytes: [0; LONGEST], length: HEADER + FAMILY };
        question.bytes[HEADER] = match (from, to) {
            (Some(_), Some(_)) => libc::AF_INET as u8,
            (None, None) => libc::AF_INET6 as u8,
            _ => return None,
        };
        question.nested(TUPLE_ORIG, |tuple| {
            tuple.nested(TUPLE_IP, |ip| match (from, to) {
                (Some(from), Some(to)) => {
                    ip.attribute(IP_V4_SRC, &from.octets());
                    ip.attribute(IP_V4_DST, &to.octets());
                }
                _ => {
                    ip.attribute(IP_V6_SRC, &source.addr);
                    ip.attribute(IP_V6_DST, &destination.addr);
                }
            });
            tuple.nested(TUPLE_PROTO, |proto| {
                proto.attribute(PROTO_NUM, &[*protocol]);
                proto.attribute(PROTO_SRC_PORT, &source.port.to_be_bytes());
                proto.attribute(PROTO_DST_PORT, &destination.port.to_be_bytes());
            });
        });
        let length = question.length as u32;
        let mut header = NetlinkBuffer::new(&mut question.bytes[..HEADER]);
        header.set_length(length);
        header.set_message_type(CT_GET);
        header.set_flags(NLM_F_REQUEST);
        header.set_sequence_number(sequence);
        Some(question)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.length;
        self.length += ATTRIBUTE;
        fill(self);
        self.head(start, kind | NLA_F_NESTED, self.length - start);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let start = self.length;
        let end = start + ATTRIBUTE + value.len();
        self.bytes[start + ATTRIBUTE..end].copy_from_slice(value);
        self.head(start, kind, end - start);
        self.length = end.next_multiple_of(4);
    }

    fn head(&mut self, at: usize, kind: u16, length: usize) {
        self.bytes[at..at + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        self.bytes[at + 2..at + ATTRIBUTE].copy_from_slice(&kind.to_ne_bytes());
    }
}

/// What the kernel says of a connection.
#[derive(Debug)]
pub(super) enum Answer {
    /// Both directions, each as its packets are when they arrive here.
    Tracked {
        /// Of who opened it.
        original: Tuple,
        /// Of who answers.
        reply: Tuple,
    },
    /// There is no such connection.
    Untracked,
    /// It does not tell.
    Refused(io::Error),
}

impl Answer {
    /// Finds the answer to the question of that number in what was read; `None` where it is not there.
    pub(super) fn read(mut bytes: &[u8], sequence: u32) -> Option<Self> {
        loop {
            let message = NetlinkBuffer::new_checked(bytes).ok()?;
            let length = message.length() as usize;
            if message.sequence_number() == sequence {
                return match message.message_type() {
                    CT_NEW => Some(Self::tracked(bytes.get(HEADER + FAMILY..length)?)),
                    NLMSG_ERROR => Some(Self::error(bytes.get(HEADER..length)?)),
                    _ => None,
                };
            }
            bytes = bytes.get(length.next_multiple_of(4)..)?;
        }
    }

    fn tracked(attributes: &[u8]) -> Self {
        let of = |kind| tuple(value(attributes, kind)?);
        match (of(TUPLE_ORIG), of(TUPLE_REPLY)) {
            (Some(original), Some(reply)) => Self::Tracked { original, reply },
            _ => Self::Refused(io::Error::new(
                io::ErrorKind::InvalidData,
                "the kernel's entry of a connection does not parse",
            )),
        }
    }

    fn error(payload: &[u8]) -> Self {
        let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        match code.checked_neg() {
            Some(libc::ENOENT) => Self::Untracked,
            Some(code @ 1..) => Self::Refused(io::Error::from_raw_os_error(code)),
            _ => Self::Refused(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The value of the first attribute of a kind.
fn value(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes).map_while(Result::ok);
    let found = found.map(NlaBuffer::into_inner).find(|found| NlaBuffer::new(found).kind() == kind);
    let found = found?;
    let length = usize::from(NlaBuffer::new(found).length());
    found.get(ATTRIBUTE..length)
}

fn tuple(attributes: &[u8]) -> Option<Tuple> {
    let (ip, proto) = (value(attributes, TUPLE_IP)?, value(attributes, TUPLE_PROTO)?);
    let address = |v4, v6| match value(ip, v4) {
        Some(v4) => mapped(v4.try_into().ok()?),
        None => value(ip, v6)?.try_into().ok(),
    };
    let port = |kind| Some(u16::from_be_bytes(value(proto, kind)?.try_into().ok()?));
    Some(Tuple {
        source: SocketEnd { addr: address(IP_V4_SRC, IP_V6_SRC)?, port: port(PROTO_SRC_PORT)? },
        destination: SocketEnd {
            addr: address(IP_V4_DST, IP_V6_DST)?,
            port: port(PROTO_DST_PORT)?,
        },
        protocol: *value(proto, PROTO_NUM)?.first()?,
    })
}

fn mapped(v4: [u8; 4]) -> Option<[u8; 16]> {
    Some(std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets())
}

#[cfg(test)]
mod tests;
