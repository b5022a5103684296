//! Who is at both ends, and what is between them.

use std::fmt;

use orb8_proto::filter::{End, FlowFields};
use orb8_proto::v1::{self, Direction, Protocol};

use crate::identity::{Party, Runtime, Workload};
use crate::otlp::attributes::Attributes;
use crate::otlp::names;

/// What [`FlowFields`] leave out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Between<'a> {
    /// Which end is on this node.
    pub(super) local: Option<End>,
    /// Who is at the source and at the destination.
    pub(super) parties: [Option<&'a Party>; 2],
    /// By which names the other end found them.
    pub(super) domains: [Option<&'a str>; 2],
}

/// Tells who is at both ends.
pub(super) fn tell(fields: &impl FlowFields, between: &Between<'_>, to: &mut Attributes) {
    let Between { local, parties, domains } = between;
    for end in End::BOTH {
        let at = end as usize;
        let (address, port, domain, prefix) = match end {
            End::Source => {
                (names::SOURCE_ADDRESS, names::SOURCE_PORT, names::SOURCE_DOMAIN, "source.")
            }
            End::Destination => (
                names::DESTINATION_ADDRESS,
                names::DESTINATION_PORT,
                names::DESTINATION_DOMAIN,
                "destination.",
            ),
        };
        if let Some(ip) = fields.ip(end) {
            to.text(address, ip.to_string().as_str());
        }
        if let Some(number) = fields.port(end) {
            to.number(port, number);
        }
        to.text(domain, domains[at]);
        kubernetes(fields, end, prefix, to);
        to.text(&format!("{prefix}{}", names::K8S_NODE_NAME), fields.node(end));
        if *local == Some(end) {
            kubernetes(fields, end, "", to);
            if let Some(workload) = parties[at].and_then(Party::workload) {
                owner(workload, to);
            }
        }
    }
    let protocol = fields.protocol();
    to.text(names::NETWORK_TRANSPORT, protocol.word().filter(|_| protocol != Protocol::Other));
    if let Some(ip) = fields.ip(End::Source).or_else(|| fields.ip(End::Destination)) {
        to.text(names::NETWORK_TYPE, if ip.is_ipv4() { "ipv4" } else { "ipv6" });
    }
    let direction = match fields.direction() {
        Direction::Egress => Some(names::direction(true)),
        Direction::Ingress => Some(names::direction(false)),
        Direction::Unspecified => None,
    };
    to.text(names::NETWORK_IO_DIRECTION, direction);
    to.text(names::NETWORK_INTERFACE_NAME, fields.interface());
}

fn kubernetes(fields: &impl FlowFields, end: End, prefix: &str, to: &mut Attributes) {
    let mut tell = |name: &str, value: Option<&str>| {
        if value.is_some() {
            to.text(&format!("{prefix}{name}"), value);
        }
    };
    tell(names::K8S_NAMESPACE_NAME, fields.namespace(end));
    let pod = fields.pod(end);
    tell(names::K8S_POD_NAME, pod);
    tell(names::K8S_CONTAINER_NAME, pod.and_then(|_| fields.container(end)));
    tell(names::K8S_SERVICE_NAME, fields.service(end).map(|(_, name)| name));
    let Some((kind, name)) = fields.controller(end) else { return };
    match names::controller(kind) {
        Some(attribute) => tell(attribute, Some(name)),
        None if prefix.is_empty() => {
            tell(names::WORKLOAD_KIND, Some(kind));
            tell(names::WORKLOAD_NAME, Some(name));
        }
        // The conventions have nothing to put a prefix to.
        None => {}
    }
}

/// Tells more of the owner of this node's end.
pub(super) fn owner(workload: &Workload, to: &mut Attributes) {
    let Workload { pod_uid, api, pod, container, container_id, runtime, unit, .. } = workload;
    // What the API server calls it, which for static pods is not what the cgroup does.
    let uid = api.as_ref().map(|pod| &*pod.uid).or(pod_uid.as_deref());
    to.text(names::K8S_POD_UID, uid);
    to.text(names::CONTAINER_NAME, container.as_deref().filter(|_| pod.is_none() && uid.is_none()));
    to.text(names::CONTAINER_ID, container_id.as_deref());
    let runtime = runtime.map(|runtime| match runtime {
        Runtime::Containerd => v1::Runtime::Containerd,
        Runtime::Crio => v1::Runtime::Crio,
        Runtime::Docker => v1::Runtime::Docker,
        Runtime::Podman => v1::Runtime::Podman,
    });
    to.text(names::CONTAINER_RUNTIME_NAME, runtime.and_then(v1::Runtime::word));
    to.text(names::UNIT, unit.as_deref());
    if container_id.is_none() && unit.is_none() && !workload.cgroup_path.is_empty() {
        // As `/proc/<pid>/cgroup` has it.
        to.text(names::PROCESS_LINUX_CGROUP, format!("0::{}", workload.cgroup_path).as_str());
    }
}

/// Both ends for people: the best name of each.
pub(super) struct Line<'a, T>(pub(super) &'a T, pub(super) &'a Between<'a>);

impl<T: FlowFields> fmt::Display for Line<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(fields, between) = self;
        for end in End::BOTH {
            if end == End::Destination && fields.ip(End::Source).is_some() {
                f.write_str(" -> ")?;
            }
            name(*fields, end, between.domains[end as usize], f)?;
        }
        Ok(())
    }
}

fn name(
    fields: &impl FlowFields,
    end: End,
    domain: Option<&str>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let Some(ip) = fields.ip(end) else { return Ok(()) };
    match (fields.namespace(end), fields.pod(end), fields.service(end)) {
        (_, _, Some((namespace, name))) => write!(f, "service {namespace}/{name}")?,
        (Some(namespace), Some(pod), None) => write!(f, "{namespace}/{pod}")?,
        _ => match fields.container(end).or(fields.unit(end)).or(domain) {
            Some(name) => f.write_str(name)?,
            None if ip.is_ipv6() && fields.port(end).is_some() => write!(f, "[{ip}]")?,
            None => write!(f, "{ip}")?,
        },
    }
    match fields.port(end) {
        Some(port) => write!(f, ":{port}"),
        None => Ok(()),
    }
}
