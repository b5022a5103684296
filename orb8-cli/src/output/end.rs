//! Ends, owners and interfaces as objects.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Not;

use orb8_proto::v1::{
    Controller, DnsLabel, Endpoint, Interface, ServiceAddress, Translation, Workload,
};
use serde::Serialize;

use super::value::{Word, is_zero_u32, timestamp};

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
    service: Option<ServiceObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    translated: Option<TranslatedObject>,
    #[serde(skip_serializing_if = "str::is_empty")]
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<LabelObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Word,
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
    container_kind: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<ControllerObject<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
    #[serde(skip_serializing_if = "Not::not")]
    host_network: bool,
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

/// What made a pod.
#[derive(Debug, Serialize)]
pub(super) struct ControllerObject<'a> {
    kind: &'a str,
    name: &'a str,
}

/// The Service whose address it is.
#[derive(Debug, Serialize)]
struct ServiceObject<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "is_zero_u32")]
    port: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    port_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Word,
}

/// The address that connection tracking puts in place.
#[derive(Debug, Serialize)]
struct TranslatedObject {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "is_zero_u32")]
    port: u32,
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
            service: endpoint.and_then(|end| end.service.as_ref()).map(ServiceObject::new),
            translated: endpoint.and_then(|end| end.translated.as_ref()).map(TranslatedObject::new),
            node: endpoint.map_or("", |end| &end.node),
            dns: endpoint.and_then(|end| end.dns.as_ref()).map(LabelObject::new),
            found: endpoint.and_then(Endpoint::found),
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

impl<'a> ControllerObject<'a> {
    pub(super) fn new(controller: &'a Controller) -> Self {
        let Controller { kind, name } = controller;
        Self { kind, name }
    }
}

impl<'a> ServiceObject<'a> {
    fn new(service: &'a ServiceAddress) -> Self {
        let ServiceAddress { namespace, name, port, port_name, kind: _ } = service;
        Self { namespace, name, port: *port, port_name, kind: service.kind().word() }
    }
}

impl TranslatedObject {
    fn new(translated: &Translation) -> Self {
        Self { ip: translated.addr(), port: translated.port }
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
            container_kind: workload.container_kind().word(),
            controller: workload.controller.as_ref().map(ControllerObject::new),
            labels: &workload.labels,
            node_name: &workload.node_name,
            host_network: workload.host_network,
            runtime: workload.runtime().word(),
            unit: &workload.unit,
            process: &workload.process,
            cgroup_path: &workload.cgroup_path,
            attribution: workload.attribution().word(),
        }
    }
}
