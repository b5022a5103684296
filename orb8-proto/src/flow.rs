//! Reading a [`Flow`] without repeating what its encoding means.

use std::net::IpAddr;

use crate::filter::{End, FlowFields};
use crate::v1::{
    Attribution, Direction, Endpoint, Flow, LocalEnd, Protocol, Translation, Workload,
};

/// The parts of [`FlowFields`] that read who is at an end.
macro_rules! owner_fields {
    () => {
        fn namespace(&self, end: End) -> Option<&str> {
            let of_pod = self.workload(end).and_then(|workload| present(&workload.namespace));
            of_pod.or_else(|| present(&self.endpoint(end)?.service.as_ref()?.namespace))
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

        fn has_labels(&self, end: End) -> bool {
            self.workload(end).is_some_and(|workload| workload.has_labels())
        }

        fn label(&self, end: End, key: &str) -> Option<&str> {
            self.workload(end)?.labels.get(key).map(String::as_str)
        }

        fn controller(&self, end: End) -> Option<(&str, &str)> {
            let controller = self.workload(end)?.controller.as_ref()?;
            Some((&controller.kind, &controller.name))
        }

        fn service(&self, end: End) -> Option<(&str, &str)> {
            let service = self.endpoint(end)?.service.as_ref()?;
            Some((&service.namespace, &service.name))
        }

        fn node(&self, end: End) -> Option<&str> {
            let of_pod = self.workload(end).and_then(|workload| present(&workload.node_name));
            of_pod.or_else(|| present(&self.endpoint(end)?.node))
        }
    };
}

pub(crate) use owner_fields;

/// Has filters read something that has owners, and no addresses, ports or direction.
macro_rules! owners_alone {
    ($of:ty) => {
        impl $of {
            /// It has no addresses.
            const fn endpoint(&self, _: End) -> Option<&$crate::v1::Endpoint> {
                None
            }
        }

        impl $crate::filter::FlowFields for $of {
            fn ip(&self, _: End) -> Option<std::net::IpAddr> {
                None
            }

            fn port(&self, _: End) -> Option<u16> {
                None
            }

            $crate::flow::owner_fields! {}

            fn protocol(&self) -> $crate::v1::Protocol {
                $crate::v1::Protocol::Unspecified
            }

            fn direction(&self) -> $crate::v1::Direction {
                $crate::v1::Direction::Unspecified
            }

            fn interface(&self) -> Option<&str> {
                None
            }
        }
    };
}

pub(crate) use owners_alone;

impl Endpoint {
    /// Returns the address, `None` where `ip` is not 4 or 16 bytes. A mapped IPv4 address is IPv4.
    #[must_use]
    pub fn addr(&self) -> Option<IpAddr> {
        addr(&self.ip)
    }

    /// Returns how it is known who is there: `cgroup`, `pod-ip`, `service`, `node` or `dns`.
    #[must_use]
    pub fn found(&self) -> Option<&'static str> {
        match self {
            Self { service: Some(_), .. } => Some("service"),
            Self { workload: Some(workload), .. } => workload.attribution().word(),
            Self { node, .. } if !node.is_empty() => Some("node"),
            Self { dns, .. } => dns.as_ref().map(|_| "dns"),
        }
    }
}

impl Translation {
    /// Returns the address, `None` where `ip` is not 4 or 16 bytes. A mapped IPv4 address is IPv4.
    #[must_use]
    pub fn addr(&self) -> Option<IpAddr> {
        addr(&self.ip)
    }
}

impl Workload {
    /// Whether it is a pod of which the Kubernetes API told the labels, be it that it has none.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        let is_told = !self.labels.is_empty() || !self.node_name.is_empty();
        !self.pod.is_empty() && is_told
    }
}

impl LocalEnd {
    /// Returns the end.
    #[must_use]
    pub const fn end(self) -> Option<End> {
        match self {
            Self::Source => Some(End::Source),
            Self::Destination => Some(End::Destination),
            Self::Unspecified => None,
        }
    }
}

/// Whether a workload is of the node: a cgroup told it, or the Kubernetes API says so.
pub(crate) fn is_on_node(workload: &Workload, node_name: &str) -> bool {
    workload.attribution() != Attribution::PodIp
        || (!node_name.is_empty() && workload.node_name == node_name)
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

    /// Returns which end has a socket here, where that is known.
    #[must_use]
    pub fn local(&self) -> Option<End> {
        self.local_end().end()
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
