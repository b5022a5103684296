//! Ends, owners and interfaces as objects.

use std::net::IpAddr;

use orb8_proto::v1::{DnsLabel, Endpoint, Interface, Workload};
use serde::Serialize;

use super::value::{Word, timestamp};

/// An end of a flow, exchange or connection.
#[derive(Debug, Serialize)]
pub(super) struct EndObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<WorkloadObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<LabelObject<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct WorkloadObject<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pod: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pod_uid: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    container: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    container_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Word,
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    process: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cgroup_path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attribution: Word,
}

#[derive(Debug, Serialize)]
pub(super) struct InterfaceObject<'a> {
    index: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
}

/// A name that led to an address.
#[derive(Debug, Serialize)]
struct LabelObject<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    learned: Option<String>,
    ttl_seconds: u32,
}

impl<'a> EndObject<'a> {
    pub(super) fn new(endpoint: Option<&'a Endpoint>, port: Option<u16>) -> Self {
        Self {
            ip: endpoint.and_then(Endpoint::addr),
            port,
            workload: endpoint.and_then(|end| end.workload.as_ref()).map(WorkloadObject::new),
            dns: endpoint.and_then(|end| end.dns.as_ref()).map(LabelObject::new),
        }
    }

    /// Makes the object of an end that has a port wherever it is known.
    pub(super) fn with_port(endpoint: Option<&'a Endpoint>) -> Self {
        let port = endpoint.and_then(|end| u16::try_from(end.port).ok()).filter(|port| *port > 0);
        Self::new(endpoint, port)
    }
}

impl<'a> LabelObject<'a> {
    fn new(label: &'a DnsLabel) -> Self {
        let DnsLabel { name, learned_ns, ttl_seconds } = label;
        Self { name, learned: timestamp(*learned_ns), ttl_seconds: *ttl_seconds }
    }
}

impl<'a> InterfaceObject<'a> {
    pub(super) fn new(interface: &'a Interface) -> Self {
        let Interface { index, name } = interface;
        Self { index: *index, name }
    }
}

impl<'a> WorkloadObject<'a> {
    pub(super) fn new(workload: &'a Workload) -> Self {
        Self {
            namespace: &workload.namespace,
            pod: &workload.pod,
            pod_uid: &workload.pod_uid,
            container: &workload.container,
            container_id: &workload.container_id,
            runtime: workload.runtime().word(),
            unit: &workload.unit,
            process: &workload.process,
            cgroup_path: &workload.cgroup_path,
            attribution: workload.attribution().word(),
        }
    }
}
