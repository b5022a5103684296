//! A held flow as filters see it.

use std::net::{IpAddr, Ipv6Addr};

use hashbrown::HashMap;
use orb8_common::flow::{DIRECTION_EGRESS, HOOK_INTERFACE, KEY_FRAGMENT};
use orb8_proto::filter::{End, FlowFields};
use orb8_proto::v1::{self, Direction, Protocol};

use super::Flow;
use crate::event::{DnsOutcome, DnsSide};
use crate::identity::Party;

/// IP protocol numbers.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// The parts of [`FlowFields`] that read who is at an end.
macro_rules! owner_fields {
    () => {
        fn namespace(&self, end: End) -> Option<&str> {
            self.party(end)?.namespace()
        }

        fn pod(&self, end: End) -> Option<&str> {
            self.party(end)?.pod_name()
        }

        fn container(&self, end: End) -> Option<&str> {
            self.party(end)?.workload()?.container_label()
        }

        fn container_id(&self, end: End) -> Option<&str> {
            self.party(end)?.workload()?.container_id.as_deref()
        }

        fn unit(&self, end: End) -> Option<&str> {
            self.party(end)?.workload()?.unit.as_deref()
        }

        fn label(&self, end: End, key: &str) -> Option<&str> {
            self.party(end)?.label(key)
        }

        fn has_labels(&self, end: End) -> bool {
            self.party(end).is_some_and(|party| party.pod().is_some())
        }

        fn controller(&self, end: End) -> Option<(&str, &str)> {
            let controller = self.party(end)?.controller()?;
            Some((&controller.kind, &controller.name))
        }

        fn service(&self, end: End) -> Option<(&str, &str)> {
            let service = &self.party(end)?.service()?.service;
            Some((&service.namespace, &service.name))
        }

        fn node(&self, end: End) -> Option<&str> {
            self.party(end)?.node_name()
        }
    };
}

pub(crate) use owner_fields;

/// Names of the interfaces of this agent's network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceNames(HashMap<u32, Box<str>>);

impl InterfaceNames {
    /// Returns the name of an interface.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&str> {
        self.0.get(&index).map(|name| &**name)
    }

    /// Adds or renames an interface.
    pub fn insert(&mut self, index: u32, name: &str) {
        self.0.insert(index, name.into());
    }

    /// Forgets an interface.
    pub fn remove(&mut self, index: u32) {
        self.0.remove(&index);
    }
}

impl<'a> FromIterator<(u32, &'a str)> for InterfaceNames {
    fn from_iter<T: IntoIterator<Item = (u32, &'a str)>>(names: T) -> Self {
        Self(names.into_iter().map(|(index, name)| (index, name.into())).collect())
    }
}

/// A flow with what it takes to name its parts.
#[derive(Clone, Copy, Debug)]
pub struct FlowView<'a> {
    /// The flow.
    pub flow: &'a Flow,
    /// Names of interfaces.
    pub interfaces: &'a InterfaceNames,
}

impl<'a> FlowView<'a> {
    /// Returns who is at one end.
    #[must_use]
    pub fn party(&self, end: End) -> Option<&'a Party> {
        Some(self.flow.ends.get(end))
    }

    /// Returns the address of one end as it is in the key.
    #[must_use]
    pub fn raw_ip(&self, end: End) -> [u8; 16] {
        match end {
            End::Source => self.flow.key.source_addr,
            End::Destination => self.flow.key.destination_addr,
        }
    }

    /// Whether the two port fields of the key are ports.
    #[must_use]
    pub fn has_ports(&self) -> bool {
        matches!(self.flow.key.protocol, TCP | UDP | SCTP) && !self.is_fragment()
    }

    /// Whether the two port fields of the key are an ICMP type and code.
    #[must_use]
    pub fn has_icmp_type(&self) -> bool {
        matches!(self.flow.key.protocol, ICMP | ICMPV6) && !self.is_fragment()
    }

    /// Whether it is what is left of a packet whose first fragment was not seen.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.flow.key.flags & KEY_FRAGMENT != 0
    }
}

impl FlowFields for FlowView<'_> {
    fn ip(&self, end: End) -> Option<IpAddr> {
        Some(ip_of(self.raw_ip(end)))
    }

    fn port(&self, end: End) -> Option<u16> {
        let port = match end {
            End::Source => self.flow.key.source_port,
            End::Destination => self.flow.key.destination_port,
        };
        self.has_ports().then_some(port)
    }

    owner_fields! {}

    fn protocol(&self) -> Protocol {
        protocol_of(self.flow.key.protocol)
    }

    fn direction(&self) -> Direction {
        direction_of(self.flow.key.direction)
    }

    /// Only where the index is of this agent's namespace: a socket's may be another one's.
    fn interface(&self) -> Option<&str> {
        let owner = self.flow.subject();
        let is_ours = self.flow.key.hook == HOOK_INTERFACE
            || owner.is_some_and(|workload| workload.host_network);
        self.interfaces.get(self.flow.ifindex).filter(|_| is_ours)
    }
}

/// Returns an address of a record as an address; IPv4 as IPv4.
#[must_use]
pub fn ip_of(addr: [u8; 16]) -> IpAddr {
    IpAddr::from(Ipv6Addr::from(addr)).to_canonical()
}

/// Returns the enum of an IP protocol number.
#[must_use]
pub fn protocol_of(number: u8) -> Protocol {
    match number {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        ICMP => Protocol::Icmp,
        ICMPV6 => Protocol::Icmpv6,
        SCTP => Protocol::Sctp,
        _ => Protocol::Other,
    }
}

/// Returns the enum of a key's direction.
#[must_use]
pub fn direction_of(direction: u8) -> Direction {
    match direction {
        DIRECTION_EGRESS => Direction::Egress,
        _ => Direction::Ingress,
    }
}

/// Returns the enum of a TCP state as the kernel numbers it.
#[must_use]
pub fn state_of(state: u8) -> v1::TcpState {
    v1::TcpState::try_from(i32::from(state)).unwrap_or_default()
}

impl From<DnsSide> for v1::DnsSide {
    fn from(side: DnsSide) -> Self {
        match side {
            DnsSide::Client => Self::Client,
            DnsSide::Server => Self::Server,
            DnsSide::Transit => Self::Transit,
        }
    }
}

impl From<DnsOutcome> for v1::DnsOutcome {
    fn from(outcome: DnsOutcome) -> Self {
        match outcome {
            DnsOutcome::Answered => Self::Answered,
            DnsOutcome::Timeout => Self::Timeout,
            DnsOutcome::Unasked => Self::Unasked,
            DnsOutcome::Malformed => Self::Malformed,
        }
    }
}
