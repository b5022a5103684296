//! How far an address tells who has it.

use std::net::IpAddr;

/// See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// It is no one's in particular: whoever listens gets what is sent there.
    Nobody,
    /// Everybody has it: only those who share a network namespace can mean the same one.
    Host,
    /// Every link may have it. IPv4 ones may be a node's own, as that of its DNS cache is.
    Link,
    /// Anything else.
    Routed,
}

impl Scope {
    /// Returns the scope of an address.
    pub(super) fn of(ip: IpAddr) -> Self {
        let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        let is_link_local = match ip {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if ip.is_multicast() || ip.is_unspecified() || is_broadcast {
            Self::Nobody
        } else if ip.is_loopback() {
            Self::Host
        } else if is_link_local {
            Self::Link
        } else {
            Self::Routed
        }
    }

    /// Whether somebody may be known by such an address alone.
    pub(super) const fn is_told_by_address(self, ip: IpAddr) -> bool {
        match self {
            Self::Nobody | Self::Host => false,
            Self::Link => ip.is_ipv4(),
            Self::Routed => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_routed_addresses_are_somebodys() {
        for (address, scope, tells) in [
            ("0.0.0.0", Scope::Nobody, false),
            ("255.255.255.255", Scope::Nobody, false),
            ("224.0.0.251", Scope::Nobody, false),
            ("ff02::1", Scope::Nobody, false),
            ("::", Scope::Nobody, false),
            ("127.0.0.53", Scope::Host, false),
            ("::1", Scope::Host, false),
            ("169.254.20.10", Scope::Link, true),
            ("fe80::1", Scope::Link, false),
            ("10.0.0.1", Scope::Routed, true),
            ("fd00::1", Scope::Routed, true),
        ] {
            let ip: IpAddr = address.parse().unwrap();
            let found = Scope::of(ip);
            assert_eq!((found, found.is_told_by_address(ip)), (scope, tells), "{address}");
        }
    }
}
