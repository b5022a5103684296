//! Bytes of a DNS message → what the agent keeps of it.
//!
//! The parser is `domain`'s: it reads lazily, part by part, so that a capture that was cut short
//! gives what it has; others take a whole message or nothing. It bounds names and compression, and
//! takes any type and any bytes in names.

use std::{net::IpAddr, sync::Arc};

use domain::{
    base::{
        Message as Octets, ParseRecordData, ParsedName, ParsedRecord, Rtype,
        iana::{Class, Opcode},
        name::{Label, ToLabelIter},
        wire::ParseError,
    },
    rdata::{A, Aaaa, Cname, Mx, Ns, Ptr, Srv},
};

use crate::event::{DnsAnswer, DnsData, DnsQuestion, DnsResponse};

/// Answers that are kept of a message: more addresses than clients try.
pub const MAX_ANSWERS: usize = 16;

/// Text of names that is kept of a message's answers. A record whose names do not fit is only counted,
/// and so are those behind it.
const MAX_NAME_BYTES: usize = 4096;

/// Bytes that a header has: what is shorter is no message.
pub(super) const HEADER: usize = 12;

/// Characters that have a meaning in master files.
const SPECIAL: &[u8] = b"\"$().;@\\";

/// What the agent keeps of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// As the client chose it.
    pub id: u16,
    /// OPCODE: 0 for queries as everybody sends them.
    pub opcode: u8,
    /// The first question.
    pub question: Option<DnsQuestion>,
    /// `None` for a query.
    pub response: Option<DnsResponse>,
}

/// Why bytes gave no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMessage {
    /// They are none.
    Malformed,
    /// What there is of it is too little to tell.
    CutShort,
}

impl Message {
    /// Reads a message of `length` bytes, of which the first were captured.
    ///
    /// # Errors
    /// [`NoMessage`] where there is no header or the question cannot be read.
    pub fn parse(captured: &[u8], length: u32) -> Result<Self, NoMessage> {
        let is_cut = (captured.len() as u64) < u64::from(length);
        let unread = |error: ParseError| match error {
            ParseError::ShortInput if is_cut => NoMessage::CutShort,
            _ => NoMessage::Malformed,
        };
        let message = Octets::from_octets(captured).map_err(|_| unread(ParseError::ShortInput))?;
        let header = message.header();
        let question = message.question().next().transpose().map_err(unread)?;
        let question = question.map(|question| DnsQuestion {
            name: present(question.qname()).into(),
            kind: question.qtype().to_int(),
            class: question.qclass().to_int(),
        });
        let response = header.qr().then(|| read_response(&message, length, question.as_ref()));
        Ok(Self { id: header.id(), opcode: header.opcode().to_int(), question, response })
    }

    /// Whether the first bytes can be those of a message: what tells one from the middle of a
    /// stream.
    #[must_use]
    pub fn is_plausible(captured: &[u8]) -> bool {
        Octets::from_octets(captured).is_ok_and(|message| {
            let known =
                [Opcode::QUERY, Opcode::STATUS, Opcode::NOTIFY, Opcode::UPDATE, Opcode::DSO];
            known.contains(&message.header().opcode()) && message.header_counts().qdcount() <= 1
        })
    }
}

fn read_response(
    message: &Octets<&[u8]>,
    length: u32,
    question: Option<&DnsQuestion>,
) -> DnsResponse {
    let header = message.header();
    let answers = message.answer().into_iter().flatten().map_while(Result::ok);
    let mut names = Names::new(question);
    DnsResponse {
        rcode: upper_rcode(message) << 4 | u16::from(header.rcode().to_int()),
        answers: answers
            .take(MAX_ANSWERS)
            .map_while(|record| read_answer(&record, &mut names))
            .collect(),
        answer_count: message.header_counts().ancount(),
        truncated: header.tc(),
        authoritative: header.aa(),
        recursion_available: header.ra(),
        authentic_data: header.ad(),
        late: false,
        bytes: length,
    }
}

/// The upper bits of the response code, which EDNS has in the TTL of its record.
fn upper_rcode(message: &Octets<&[u8]>) -> u16 {
    let mut records = message.additional().into_iter().flatten().map_while(Result::ok);
    let options = records.find(|record| record.rtype() == Rtype::OPT);
    options.map_or(0, |options| (options.ttl().as_secs() >> 24) as u16)
}

type Octet<'a> = ParsedRecord<'a, &'a [u8]>;

/// The names of one message: many records have the same ones.
struct Names {
    known: Vec<Arc<str>>,
    room: usize,
}

impl Names {
    fn new(question: Option<&DnsQuestion>) -> Self {
        let known = question.map(|question| Arc::clone(&question.name));
        Self { known: known.into_iter().collect(), room: MAX_NAME_BYTES }
    }

    /// Returns a name as [`DnsQuestion::name`] has it; `None` where there is no room for another.
    fn keep(&mut self, text: &str) -> Option<Arc<str>> {
        if let Some(known) = self.known.iter().find(|known| ***known == *text) {
            return Some(Arc::clone(known));
        }
        self.room = self.room.checked_sub(text.len())?;
        let name: Arc<str> = text.into();
        self.known.push(Arc::clone(&name));
        Some(name)
    }
}

/// Returns a record; `None` where there is no room for its names.
fn read_answer(record: &Octet<'_>, names: &mut Names) -> Option<DnsAnswer> {
    Some(DnsAnswer {
        name: names.keep(&present(&record.owner()))?,
        kind: record.rtype().to_int(),
        ttl: record.ttl().as_secs(),
        data: match read_data(record) {
            Some(Data::Address(address)) => DnsData::Address(address),
            Some(Data::Name(name)) => DnsData::Name(names.keep(&name)?),
            None => DnsData::Other,
        },
    })
}

/// What a record says, before its name is kept.
enum Data {
    Address(IpAddr),
    Name(String),
}

/// What a record says; `None` for what the agent does not keep, and for data that is not what the
/// type says.
fn read_data(record: &Octet<'_>) -> Option<Data> {
    if record.class() != Class::IN {
        return None;
    }
    Some(match record.rtype() {
        Rtype::A => Data::Address(IpAddr::V4(data::<A>(record)?.addr())),
        Rtype::AAAA => Data::Address(IpAddr::V6(data::<Aaaa>(record)?.addr())),
        Rtype::CNAME => Data::Name(present(data::<Cname<_>>(record)?.cname())),
        Rtype::PTR => Data::Name(present(data::<Ptr<_>>(record)?.ptrdname())),
        Rtype::NS => Data::Name(present(data::<Ns<_>>(record)?.nsdname())),
        Rtype::MX => Data::Name(present(data::<Mx<_>>(record)?.exchange())),
        Rtype::SRV => Data::Name(present(data::<Srv<_>>(record)?.target())),
        _ => return None,
    })
}

fn data<'a, Parsed: ParseRecordData<'a, &'a [u8]>>(record: &Octet<'a>) -> Option<Parsed> {
    Some(record.to_record::<Parsed>().ok()??.into_data())
}

/// A name as [`DnsQuestion::name`] has it.
fn present<Name: AsRef<[u8]>>(name: &ParsedName<Name>) -> String {
    if name.is_root() {
        return ".".into();
    }
    let mut text = String::with_capacity(name.compose_len().into());
    for label in name.iter().take_while(|label| !label.is_root()) {
        if !text.is_empty() {
            text.push('.');
        }
        present_label(label, &mut text);
    }
    text
}

fn present_label(label: &Label, text: &mut String) {
    for &byte in label.as_slice() {
        match byte {
            byte if SPECIAL.contains(&byte) => text.extend(['\\', byte.into()]),
            b'!'..=b'~' => text.push(byte.to_ascii_lowercase().into()),
            byte => text.push_str(&format!("\\{byte:03}")),
        }
    }
}

#[cfg(test)]
mod tests;
