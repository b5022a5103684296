//! Reading a [`WorkloadSummary`] as filters do.

use std::net::IpAddr;

use crate::filter::{End, FlowFields};
use crate::flow::{owner_fields, present};
use crate::v1::{Direction, Endpoint, Protocol, Workload, WorkloadSummary};

impl WorkloadSummary {
    /// It is whose both ends would be; only who that is can be asked.
    fn workload(&self, _: End) -> Option<&Workload> {
        self.workload.as_ref()
    }

    /// It has no addresses.
    const fn endpoint(&self, _: End) -> Option<&Endpoint> {
        None
    }
}

impl FlowFields for WorkloadSummary {
    fn ip(&self, _: End) -> Option<IpAddr> {
        None
    }

    fn port(&self, _: End) -> Option<u16> {
        None
    }

    owner_fields! {}

    fn protocol(&self) -> Protocol {
        Protocol::Unspecified
    }

    fn direction(&self) -> Direction {
        Direction::Unspecified
    }

    fn interface(&self) -> Option<&str> {
        None
    }
}
