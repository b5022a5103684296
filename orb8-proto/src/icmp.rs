//! Names of ICMP and ICMPv6 messages, for output only.

use crate::v1::{IcmpType, Protocol};

/// Returns what a message is, `None` where it has no name here: `echo-request`, `port-unreachable`.
#[must_use]
pub fn name(protocol: Protocol, icmp: IcmpType) -> Option<&'static str> {
    let IcmpType { r#type, code } = icmp;
    match protocol {
        Protocol::Icmp => v4(r#type, code),
        Protocol::Icmpv6 => v6(r#type, code),
        _ => None,
    }
}

fn v4(r#type: u32, code: u32) -> Option<&'static str> {
    Some(match (r#type, code) {
        (0, _) => "echo-reply",
        (3, 0) => "net-unreachable",
        (3, 1) => "host-unreachable",
        (3, 2) => "proto-unreachable",
        (3, 3) => "port-unreachable",
        (3, 4) => "frag-needed",
        (3, 9 | 10 | 13) => "prohibited",
        (3, _) => "unreachable",
        (5, _) => "redirect",
        (8, _) => "echo-request",
        (9, _) => "router-advert",
        (10, _) => "router-solicit",
        (11, _) => "time-exceeded",
        (12, _) => "bad-parameter",
        (13, _) => "time-request",
        (14, _) => "time-reply",
        _ => return None,
    })
}

fn v6(r#type: u32, code: u32) -> Option<&'static str> {
    Some(match (r#type, code) {
        (1, 0) => "no-route",
        (1, 1) => "prohibited",
        (1, 3) => "host-unreachable",
        (1, 4) => "port-unreachable",
        (1, _) => "unreachable",
        (2, _) => "too-big",
        (3, _) => "time-exceeded",
        (4, _) => "bad-parameter",
        (128, _) => "echo-request",
        (129, _) => "echo-reply",
        (130, _) => "group-query",
        (131 | 143, _) => "group-report",
        (132, _) => "group-done",
        (133, _) => "router-solicit",
        (134, _) => "router-advert",
        (135, _) => "neighbor-solicit",
        (136, _) => "neighbor-advert",
        (137, _) => "redirect",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_depends_on_the_protocol() {
        let of = |protocol, r#type, code| name(protocol, IcmpType { r#type, code });
        assert_eq!(of(Protocol::Icmp, 8, 0), Some("echo-request"));
        assert_eq!(of(Protocol::Icmpv6, 128, 0), Some("echo-request"));
        assert_eq!(of(Protocol::Icmp, 128, 0), None);
        assert_eq!(of(Protocol::Icmp, 3, 3), Some("port-unreachable"));
        assert_eq!(of(Protocol::Icmpv6, 1, 4), Some("port-unreachable"));
        assert_eq!(of(Protocol::Icmp, 3, 200), Some("unreachable"));
        assert_eq!(of(Protocol::Tcp, 8, 0), None);
    }

    #[test]
    fn names_are_words_that_fit_a_column() {
        for protocol in [Protocol::Icmp, Protocol::Icmpv6] {
            for icmp in (0..=255).map(|r#type| IcmpType { r#type, code: 0 }) {
                let name = name(protocol, icmp).unwrap_or("a");
                assert!(name.len() <= 17, "{name}");
                assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
            }
        }
    }
}
