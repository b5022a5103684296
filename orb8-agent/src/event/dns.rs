//! DNS exchanges, as the `dns` source tells them.

use std::net::IpAddr;
use std::sync::Arc;

use super::{SocketEnd, UnixNanos};

/// What became of one query, seen at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsExchange {
    /// Who asked.
    pub client: SocketEnd,
    /// Who was asked.
    pub server: SocketEnd,
    /// IP protocol number: TCP or UDP.
    pub transport: u8,
    /// Where it was seen.
    pub side: DnsSide,
    /// cgroup v2 id of the local socket, 0 where none is known.
    pub cgroup_id: u64,
    /// Socket cookie, 0 where none is known.
    pub cookie: u64,
    /// Interface as last seen, 0 where none is known.
    pub ifindex: u32,
    /// Message id.
    pub id: u16,
    /// What was asked; `None` for a message that does not parse, or without a question.
    pub question: Option<DnsQuestion>,
    /// What became of it.
    pub outcome: DnsOutcome,
    /// What came back.
    pub response: Option<DnsResponse>,
    /// When the query was first seen; `None` for a response that nobody asked for.
    pub asked: Option<UnixNanos>,
    /// From the first query to the response, or until waiting ended, nanoseconds.
    pub latency_ns: u64,
    /// Times that the same query was seen again.
    pub retries: u32,
    /// How many of them the query's last timeout told of; `None` where none was told yet.
    pub told_retries: Option<u32>,
    /// DNS bytes of the query.
    pub query_bytes: u32,
}

/// Where an exchange was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsSide {
    /// At the client's socket.
    Client,
    /// At the server's socket.
    Server,
    /// On an interface.
    Transit,
}

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsOutcome {
    /// It was answered, whatever the answer.
    Answered,
    /// Nothing came back in time. An answer that comes later is told too, with
    /// [`DnsResponse::late`].
    Timeout,
    /// A response that no query is known of.
    Unasked,
    /// A message that does not parse.
    Malformed,
}

/// The question of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsQuestion {
    /// Lower case, escaped as in master files, without the last dot; `.` is the root.
    pub name: Arc<str>,
    /// QTYPE.
    pub kind: u16,
    /// QCLASS.
    pub class: u16,
}

/// A response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsResponse {
    /// RCODE, with EDNS's upper bits.
    pub rcode: u16,
    /// The first records of the answer section.
    pub answers: Vec<DnsAnswer>,
    /// Records in the answer section.
    pub answer_count: u16,
    /// TC.
    pub truncated: bool,
    /// AA.
    pub authoritative: bool,
    /// RA.
    pub recursion_available: bool,
    /// AD.
    pub authentic_data: bool,
    /// It came after a timeout was told.
    pub late: bool,
    /// DNS bytes.
    pub bytes: u32,
}

/// One record of an answer section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// The record's owner name, as [`DnsQuestion::name`].
    pub name: Arc<str>,
    /// TYPE.
    pub kind: u16,
    /// Seconds.
    pub ttl: u32,
    /// What it says, as far as the agent keeps it.
    pub data: DnsData,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsData {
    /// A and AAAA.
    Address(IpAddr),
    /// CNAME, PTR, NS, MX, SRV: the name that is pointed to.
    Name(Arc<str>),
    /// Anything else.
    Other,
}
