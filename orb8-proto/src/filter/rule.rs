//! One [`FlowFilter`], compiled.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::name::{Name, names};
use super::owner::{Owner, Values};
use super::{End, FilterError, FlowFields, Problem};
use crate::v1::{Direction, FlowFilter, Protocol};

/// One compiled [`FlowFilter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    either: Owner,
    ip: Vec<IpNet>,
    port: Vec<u16>,
    source: EndRule,
    destination: EndRule,
    protocol: Vec<Protocol>,
    direction: Vec<Direction>,
    ipv4: Option<bool>,
    interface: Vec<Name>,
}

/// What one given end must be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct EndRule {
    owner: Owner,
    ip: Vec<IpNet>,
    port: Vec<u16>,
}

impl Rule {
    pub(super) fn new(filter: &FlowFilter) -> Result<Self, FilterError> {
        // Exhaustive: a new field must be compiled, or it would match everything.
        let FlowFilter {
            namespace,
            pod,
            container,
            ip,
            port,
            protocol,
            direction,
            source_namespace,
            source_pod,
            source_container,
            source_ip,
            source_port,
            destination_namespace,
            destination_pod,
            destination_container,
            destination_ip,
            destination_port,
            ip_version,
            unit,
            interface,
            label,
            workload,
            service,
            node,
            source_label,
            source_workload,
            source_service,
            source_node,
            destination_label,
            destination_workload,
            destination_service,
            destination_node,
        } = filter;
        Ok(Self {
            either: Owner::new(Values {
                namespace: ("namespace", namespace),
                pod: ("pod", pod),
                container: ("container", container),
                unit: ("unit", unit),
                label: ("label", label),
                workload: ("workload", workload),
                service: ("service", service),
                node: ("node", node),
            })?,
            ip: nets("ip", ip)?,
            port: ports("port", port)?,
            source: EndRule {
                owner: Owner::new(Values {
                    namespace: ("source_namespace", source_namespace),
                    pod: ("source_pod", source_pod),
                    container: ("source_container", source_container),
                    unit: ("unit", &[]),
                    label: ("source_label", source_label),
                    workload: ("source_workload", source_workload),
                    service: ("source_service", source_service),
                    node: ("source_node", source_node),
                })?,
                ip: nets("source_ip", source_ip)?,
                port: ports("source_port", source_port)?,
            },
            destination: EndRule {
                owner: Owner::new(Values {
                    namespace: ("destination_namespace", destination_namespace),
                    pod: ("destination_pod", destination_pod),
                    container: ("destination_container", destination_container),
                    unit: ("unit", &[]),
                    label: ("destination_label", destination_label),
                    workload: ("destination_workload", destination_workload),
                    service: ("destination_service", destination_service),
                    node: ("destination_node", destination_node),
                })?,
                ip: nets("destination_ip", destination_ip)?,
                port: ports("destination_port", destination_port)?,
            },
            protocol: enums("protocol", protocol)?,
            direction: enums("direction", direction)?,
            ipv4: version(ip_version)?,
            interface: names("interface", interface)?,
        })
    }

    pub(super) fn matches(&self, flow: &(impl FlowFields + ?Sized)) -> bool {
        any(&self.protocol, |protocol| *protocol == flow.protocol())
            && any(&self.direction, |direction| *direction == flow.direction())
            && self.version_matches(flow)
            && any(&self.port, |port| End::BOTH.iter().any(|end| flow.port(*end) == Some(*port)))
            && any(&self.ip, |net| End::BOTH.iter().any(|end| contains(net, flow.ip(*end))))
            && any(&self.interface, |name| name.matches(flow.interface()))
            && self.source.matches(flow, End::Source)
            && self.destination.matches(flow, End::Destination)
            && (self.either.is_empty()
                || End::BOTH.iter().any(|end| self.either.matches(flow, *end)))
    }

    fn version_matches(&self, flow: &(impl FlowFields + ?Sized)) -> bool {
        let Some(ipv4) = self.ipv4 else { return true };
        End::BOTH.iter().any(|end| flow.ip(*end).is_some_and(|ip| ip.is_ipv4() == ipv4))
    }
}

impl EndRule {
    fn matches(&self, flow: &(impl FlowFields + ?Sized), end: End) -> bool {
        any(&self.port, |port| flow.port(end) == Some(*port))
            && any(&self.ip, |net| contains(net, flow.ip(end)))
            && self.owner.matches(flow, end)
    }
}

/// A field without values matches everything.
pub(super) fn any<T>(values: &[T], matches: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(matches)
}

fn contains(net: &IpNet, ip: Option<IpAddr>) -> bool {
    ip.is_some_and(|ip| net.contains(&ip))
}

pub(super) fn nets(field: &'static str, values: &[String]) -> Result<Vec<IpNet>, FilterError> {
    values
        .iter()
        .map(|value| {
            parse_net(value)
                .ok_or_else(|| FilterError { field, problem: Problem::NotAnAddress(value.clone()) })
        })
        .collect()
}

/// Reads an address or a prefix. Addresses of flows are never mapped, so a mapped one is unmapped.
fn parse_net(value: &str) -> Option<IpNet> {
    let net = match value.parse::<IpAddr>() {
        Ok(addr) => IpNet::from(addr),
        Err(_) => value.parse::<IpNet>().ok()?,
    };
    Some(match net {
        IpNet::V6(v6) => unmap(v6).map_or(net, IpNet::V4),
        IpNet::V4(_) => net,
    })
}

fn unmap(net: Ipv6Net) -> Option<Ipv4Net> {
    let length = net.prefix_len().checked_sub(96)?;
    Ipv4Net::new(net.addr().to_ipv4_mapped()?, length).ok()
}

fn ports(field: &'static str, values: &[u32]) -> Result<Vec<u16>, FilterError> {
    let port = |value: &u32| match u16::try_from(*value) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(FilterError { field, problem: Problem::NotAPort(*value) }),
    };
    values.iter().map(port).collect()
}

pub(super) fn enums<E>(field: &'static str, values: &[i32]) -> Result<Vec<E>, FilterError>
where
    E: TryFrom<i32>,
{
    let read = |value: &i32| match E::try_from(*value) {
        Ok(read) if *value != 0 => Ok(read),
        _ => Err(FilterError { field, problem: Problem::NotAValue(*value) }),
    };
    values.iter().map(read).collect()
}

/// Returns whether only IPv4 (`true`) or only IPv6 (`false`) is wanted.
fn version(values: &[u32]) -> Result<Option<bool>, FilterError> {
    if let Some(bad) = values.iter().find(|value| !matches!(value, 4 | 6)) {
        return Err(FilterError { field: "ip_version", problem: Problem::NotAnIpVersion(*bad) });
    }
    Ok(match (values.contains(&4), values.contains(&6)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        (true, true) | (false, false) => None,
    })
}
