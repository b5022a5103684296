//! Reading a [`Flow`] without repeating what its encoding means.

use std::net::IpAddr;

use crate::filter::{End, FlowFields};
use crate::v1::{Direction, Endpoint, Flow, LocalEnd, Protocol, Workload};

/// The parts of [`FlowFields`] that read an end's [`Workload`].
macro_rules! owner_fields {
    () => {
        fn namespace(&self, end: End) -> Option<&str> {
            present(&self.workload(end)?.namespace)
        }

        fn pod(&self, end: End) -> Option<&str> {
            present(&self.workload(end)?.pod)
        }

        fn container(&self, end: End) -> Option<&str> {
            present(&self.workload(end)?.container)
        }

        fn container_id(&self, end: End) -> Option<&str> {
            present(&self.workload(end)?.container_id)
        }

        fn unit(&self, end: End) -> Option<&str> {
            present(&self.workload(end)?.unit)
        }
    };
}

pub(crate) use owner_fields;

impl Endpoint {
    /// Returns the address, `None` where `ip` is not 4 or 16 bytes. A mapped IPv4 address is IPv4.
    #[must_use]
    pub fn addr(&self) -> Option<IpAddr> {
        addr(&self.ip)
    }
}

/// Reads 4 or 16 bytes. A mapped IPv4 address is IPv4.
pub(crate) fn addr(ip: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(ip).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(ip).map(IpAddr::from);
    v4.or_else(|_| v6()).ok().map(|addr| addr.to_canonical())
}

impl Flow {
    /// Returns the endpoint of one end.
    #[must_use]
    pub fn endpoint(&self, end: End) -> Option<&Endpoint> {
        match end {
            End::Source => self.source.as_ref(),
            End::Destination => self.destination.as_ref(),
        }
    }

    /// Returns the workload of one end.
    #[must_use]
    pub fn workload(&self, end: End) -> Option<&Workload> {
        self.endpoint(end)?.workload.as_ref()
    }

    /// Returns which end is on this node: by `local_end`, else by the only end with a workload.
    #[must_use]
    pub fn local(&self) -> Option<End> {
        match self.local_end() {
            LocalEnd::Source => Some(End::Source),
            LocalEnd::Destination => Some(End::Destination),
            LocalEnd::Unspecified => {
                match (self.workload(End::Source), self.workload(End::Destination)) {
                    (Some(_), None) => Some(End::Source),
                    (None, Some(_)) => Some(End::Destination),
                    (Some(_), Some(_)) | (None, None) => None,
                }
            }
        }
    }

    /// Returns the workload of the local end.
    #[must_use]
    pub fn owner(&self) -> Option<&Workload> {
        self.workload(self.local()?)
    }

    /// Whether the flow has ports: TCP, UDP and SCTP do, but not their late fragments.
    #[must_use]
    pub fn has_ports(&self) -> bool {
        let ported = matches!(self.protocol(), Protocol::Tcp | Protocol::Udp | Protocol::Sctp);
        ported && !self.fragment
    }
}

impl FlowFields for Flow {
    fn ip(&self, end: End) -> Option<IpAddr> {
        self.endpoint(end)?.addr()
    }

    fn port(&self, end: End) -> Option<u16> {
        let port = self.endpoint(end)?.port;
        self.has_ports().then(|| u16::try_from(port).ok()).flatten()
    }

    owner_fields! {}

    fn protocol(&self) -> Protocol {
        Flow::protocol(self)
    }

    fn direction(&self) -> Direction {
        Flow::direction(self)
    }

    fn interface(&self) -> Option<&str> {
        present(&self.interface.as_ref()?.name)
    }
}

/// proto3 has no absent string: the empty one stands for it.
pub(crate) fn present(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
