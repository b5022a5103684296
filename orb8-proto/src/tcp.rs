//! Reading TCP events and connections without repeating what their encoding means.

use std::net::IpAddr;

use crate::filter::{End, FlowFields, TcpFields};
use crate::flow::{owner_fields, present};
use crate::v1::{
    Direction, Endpoint, Protocol, TcpConnection, TcpEvent, TcpEventKind, TcpHealth, TcpState,
    Workload,
};

/// Messages with two ends of which one may be local.
macro_rules! ends {
    ($($type:ident)*) => { $(
        impl $type {
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

            /// Returns which end is on this node, where that is known.
            #[must_use]
            pub fn local(&self) -> Option<End> {
                self.local_end().end()
            }
        }

        impl FlowFields for $type {
            fn ip(&self, end: End) -> Option<IpAddr> {
                self.endpoint(end)?.addr()
            }

            fn port(&self, end: End) -> Option<u16> {
                u16::try_from(self.endpoint(end)?.port).ok()
            }

            owner_fields! {}

            fn protocol(&self) -> Protocol {
                Protocol::Tcp
            }

            fn direction(&self) -> Direction {
                direction(self.local())
            }

            fn interface(&self) -> Option<&str> {
                interface!(self $type)
            }
        }
    )* };
}

/// Connections are at no interface.
macro_rules! interface {
    ($self:ident TcpEvent) => {
        present(&$self.interface.as_ref()?.name)
    };
    ($self:ident TcpConnection) => {
        None
    };
}

ends! { TcpEvent TcpConnection }

/// Returns which way a connection goes, seen from its local end: in the direction that its packets
/// go from source to destination.
#[must_use]
pub fn direction(local: Option<End>) -> Direction {
    match local {
        Some(End::Source) => Direction::Egress,
        Some(End::Destination) => Direction::Ingress,
        None => Direction::Unspecified,
    }
}

impl TcpFields for TcpEvent {
    fn kind(&self) -> Option<TcpEventKind> {
        Some(TcpEvent::kind(self))
    }

    fn state(&self) -> TcpState {
        TcpEvent::state(self)
    }

    fn reason(&self) -> Option<&str> {
        present(&self.reason)
    }

    fn latency_ns(&self) -> Option<u64> {
        self.health.as_ref()?.latency_ns()
    }
}

impl TcpFields for TcpConnection {
    fn kind(&self) -> Option<TcpEventKind> {
        None
    }

    fn state(&self) -> TcpState {
        self.health.as_ref().map_or(TcpState::Unspecified, TcpHealth::state)
    }

    fn reason(&self) -> Option<&str> {
        None
    }

    fn latency_ns(&self) -> Option<u64> {
        self.health.as_ref()?.latency_ns()
    }
}

impl TcpHealth {
    /// Returns what `--slow` looks at: the longer of the handshake and the smoothed round-trip time.
    /// `None` without either.
    #[must_use]
    pub fn latency_ns(&self) -> Option<u64> {
        self.handshake_ns.max(self.rtt_ns)
    }
}
