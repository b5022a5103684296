//! Names of DNS record types and response codes, both ways, and reading an exchange.
//!
//! The tables are the registry's (<https://www.iana.org/assignments/dns-parameters>). A number that
//! is in neither has a name all the same: `TYPE65280` (RFC 3597), `RCODE24`.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::filter::{DnsFields, End, FlowFields};
use crate::flow::{addr, owner_fields, owners_alone, present};
use crate::v1::dns_answer::Data;
use crate::v1::{
    Direction, DnsAnswer, DnsExchange, DnsOutcome, DnsSide, DnsSummary, Endpoint, LocalEnd,
    Protocol, Workload,
};

impl DnsExchange {
    /// Returns the endpoint of one end: the client is the source, the server the destination.
    #[must_use]
    pub fn endpoint(&self, end: End) -> Option<&Endpoint> {
        match end {
            End::Source => self.client.as_ref(),
            End::Destination => self.server.as_ref(),
        }
    }

    /// Returns the workload of one end.
    #[must_use]
    pub fn workload(&self, end: End) -> Option<&Workload> {
        self.endpoint(end)?.workload.as_ref()
    }
}

impl DnsSide {
    /// Returns which end is local.
    #[must_use]
    pub const fn local_end(self) -> LocalEnd {
        match self {
            Self::Client => LocalEnd::Source,
            Self::Server => LocalEnd::Destination,
            Self::Transit | Self::Unspecified => LocalEnd::Unspecified,
        }
    }

    /// Returns which way a query goes, seen from there.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::Client => Direction::Egress,
            Self::Server => Direction::Ingress,
            Self::Transit | Self::Unspecified => Direction::Unspecified,
        }
    }
}

impl FlowFields for DnsExchange {
    fn ip(&self, end: End) -> Option<IpAddr> {
        self.endpoint(end)?.addr()
    }

    fn port(&self, end: End) -> Option<u16> {
        u16::try_from(self.endpoint(end)?.port).ok()
    }

    owner_fields! {}

    fn protocol(&self) -> Protocol {
        DnsExchange::protocol(self)
    }

    fn direction(&self) -> Direction {
        self.side().direction()
    }

    fn interface(&self) -> Option<&str> {
        present(&self.interface.as_ref()?.name)
    }
}

impl DnsFields for DnsExchange {
    fn name(&self) -> Option<&str> {
        present(&self.name)
    }

    fn has_rcode(&self, rcode: u16) -> bool {
        self.rcode == Some(rcode.into())
    }

    fn has_type(&self, query_type: u16) -> bool {
        !self.name.is_empty() && self.query_type == u32::from(query_type)
    }

    fn has_outcome(&self, outcome: DnsOutcome) -> bool {
        self.outcome() == outcome
    }

    fn side(&self) -> DnsSide {
        DnsExchange::side(self)
    }

    fn latency_ns(&self) -> Option<u64> {
        (self.outcome() == DnsOutcome::Answered).then_some(self.latency_ns)
    }
}

impl DnsSummary {
    /// Returns the owner at one end: of a server's summary it is the destination.
    #[must_use]
    pub fn workload(&self, end: End) -> Option<&Workload> {
        let local = self.side().local_end().end().unwrap_or(End::Source);
        self.workload.as_ref().filter(|_| end == local)
    }
}

owners_alone! { DnsSummary }

impl DnsFields for DnsSummary {
    fn name(&self) -> Option<&str> {
        present(&self.name)
    }

    fn has_rcode(&self, rcode: u16) -> bool {
        self.rcodes.iter().any(|count| count.rcode == u32::from(rcode))
    }

    fn has_type(&self, query_type: u16) -> bool {
        self.types.iter().any(|count| count.query_type == u32::from(query_type))
    }

    fn has_outcome(&self, outcome: DnsOutcome) -> bool {
        match outcome {
            DnsOutcome::Answered => self.responses > 0,
            DnsOutcome::Timeout => self.timeouts > 0,
            DnsOutcome::Unasked | DnsOutcome::Malformed | DnsOutcome::Unspecified => false,
        }
    }

    fn side(&self) -> DnsSide {
        DnsSummary::side(self)
    }

    fn latency_ns(&self) -> Option<u64> {
        self.latency.as_ref().filter(|latency| latency.count() > 0).map(|latency| latency.max)
    }
}

impl DnsAnswer {
    /// Returns the address of an A or AAAA record.
    #[must_use]
    pub fn addr(&self) -> Option<IpAddr> {
        match self.data.as_ref()? {
            Data::Ip(ip) => addr(ip),
            Data::Target(_) => None,
        }
    }

    /// Returns the name that a CNAME, PTR, NS, MX or SRV record points to.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        match self.data.as_ref()? {
            Data::Target(target) => Some(target),
            Data::Ip(_) => None,
        }
    }
}

/// Returns what a record type is called: `A`, `HTTPS`, `TYPE65280`.
#[must_use]
pub fn type_name(number: u16) -> Cow<'static, str> {
    name(TYPES, number).map_or_else(|| format!("{TYPE}{number}").into(), Cow::Borrowed)
}

/// Returns what a response code is called: `NOERROR`, `NXDOMAIN`, `RCODE24`.
#[must_use]
pub fn rcode_name(number: u16) -> Cow<'static, str> {
    name(RCODES, number).map_or_else(|| format!("{RCODE}{number}").into(), Cow::Borrowed)
}

/// Reads a record type: a name, any case, or a number. `None` where it is neither.
#[must_use]
pub fn type_number(text: &str) -> Option<u16> {
    number(TYPES, TYPE, text)
}

/// Reads a response code: a name, any case, or a number. `None` where it is neither.
#[must_use]
pub fn rcode_number(text: &str) -> Option<u16> {
    number(RCODES, RCODE, text).filter(|rcode| *rcode <= MAX_RCODE)
}

/// Response codes have 12 bits with EDNS.
const MAX_RCODE: u16 = 0xfff;

const TYPE: &str = "TYPE";
const RCODE: &str = "RCODE";

/// A number and its names; the first one is printed.
type Row = (u16, &'static str);

const TYPES: &[Row] = &[
    (1, "A"),
    (2, "NS"),
    (3, "MD"),
    (4, "MF"),
    (5, "CNAME"),
    (6, "SOA"),
    (7, "MB"),
    (8, "MG"),
    (9, "MR"),
    (10, "NULL"),
    (11, "WKS"),
    (12, "PTR"),
    (13, "HINFO"),
    (14, "MINFO"),
    (15, "MX"),
    (16, "TXT"),
    (17, "RP"),
    (18, "AFSDB"),
    (19, "X25"),
    (20, "ISDN"),
    (21, "RT"),
    (24, "SIG"),
    (25, "KEY"),
    (28, "AAAA"),
    (29, "LOC"),
    (33, "SRV"),
    (35, "NAPTR"),
    (36, "KX"),
    (37, "CERT"),
    (39, "DNAME"),
    (41, "OPT"),
    (42, "APL"),
    (43, "DS"),
    (44, "SSHFP"),
    (45, "IPSECKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (49, "DHCID"),
    (50, "NSEC3"),
    (51, "NSEC3PARAM"),
    (52, "TLSA"),
    (53, "SMIMEA"),
    (55, "HIP"),
    (59, "CDS"),
    (60, "CDNSKEY"),
    (61, "OPENPGPKEY"),
    (62, "CSYNC"),
    (63, "ZONEMD"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (108, "EUI48"),
    (109, "EUI64"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (253, "MAILB"),
    (254, "MAILA"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
    (258, "AVC"),
    (260, "AMTRELAY"),
    (32768, "TA"),
    (32769, "DLV"),
];

const RCODES: &[Row] = &[
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (11, "DSOTYPENI"),
    (16, "BADVERS"),
    // The same number, in a TSIG record.
    (16, "BADSIG"),
    (17, "BADKEY"),
    (18, "BADTIME"),
    (19, "BADMODE"),
    (20, "BADNAME"),
    (21, "BADALG"),
    (22, "BADTRUNC"),
    (23, "BADCOOKIE"),
];

fn name(table: &[Row], number: u16) -> Option<&'static str> {
    table.iter().find(|(of, _)| *of == number).map(|(_, name)| *name)
}

fn number(table: &[Row], generic: &str, text: &str) -> Option<u16> {
    if let Some((number, _)) = table.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)) {
        return Some(*number);
    }
    let digits = match text.get(..generic.len()) {
        Some(start) if start.eq_ignore_ascii_case(generic) => &text[generic.len()..],
        _ => text,
    };
    // `parse` takes a sign as well.
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_both_ways() {
        for number in 0..=u16::MAX {
            assert_eq!(type_number(&type_name(number)), Some(number));
        }
        for number in 0..=MAX_RCODE {
            assert_eq!(rcode_number(&rcode_name(number).to_lowercase()), Some(number));
        }
    }

    #[test]
    fn the_usual_ones_are_named() {
        let types = [(1, "A"), (28, "AAAA"), (65, "HTTPS"), (255, "ANY"), (65280, "TYPE65280")];
        for (number, name) in types {
            assert_eq!(type_name(number), name);
        }
        for (number, name) in [(0, "NOERROR"), (3, "NXDOMAIN"), (16, "BADVERS"), (24, "RCODE24")] {
            assert_eq!(rcode_name(number), name);
        }
    }

    #[test]
    fn numbers_are_read_and_nonsense_is_not() {
        assert_eq!((type_number("65"), type_number("Type65")), (Some(65), Some(65)));
        assert_eq!((rcode_number("5"), rcode_number("badsig")), (Some(5), Some(16)));
        for nonsense in ["", "+1", "-1", "65536", "NXDOMAIM", "TYPE", "TYPE+1", "tÿpe1"] {
            assert_eq!(type_number(nonsense), None, "{nonsense}");
            assert_eq!(rcode_number(nonsense), None, "{nonsense}");
        }
        assert_eq!(rcode_number("4096"), None);
    }
}
