//! One [`FlowFilter`], compiled.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

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

/// What the owner of an end must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Owner {
    namespace: Vec<Name>,
    pod: Vec<PodName>,
    container: Vec<Name>,
    unit: Vec<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Exact(Box<str>),
    Prefix(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PodName {
    namespace: Option<Name>,
    name: Name,
}

/// Digits from which a container value may be the beginning of an id, as container tools print it.
const SHORT_ID: usize = 12;

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
        } = filter;
        Ok(Self {
            either: Owner {
                namespace: names("namespace", namespace)?,
                pod: pods("pod", pod)?,
                container: names("container", container)?,
                unit: names("unit", unit)?,
            },
            ip: nets("ip", ip)?,
            port: ports("port", port)?,
            source: EndRule {
                owner: Owner {
                    namespace: names("source_namespace", source_namespace)?,
                    pod: pods("source_pod", source_pod)?,
                    container: names("source_container", source_container)?,
                    unit: Vec::new(),
                },
                ip: nets("source_ip", source_ip)?,
                port: ports("source_port", source_port)?,
            },
            destination: EndRule {
                owner: Owner {
                    namespace: names("destination_namespace", destination_namespace)?,
                    pod: pods("destination_pod", destination_pod)?,
                    container: names("destination_container", destination_container)?,
                    unit: Vec::new(),
                },
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

impl Owner {
    fn is_empty(&self) -> bool {
        let Self { namespace, pod, container, unit } = self;
        namespace.is_empty() && pod.is_empty() && container.is_empty() && unit.is_empty()
    }

    fn matches(&self, flow: &(impl FlowFields + ?Sized), end: End) -> bool {
        any(&self.namespace, |name| name.matches(flow.namespace(end)))
            && any(&self.pod, |pod| pod.matches(flow.namespace(end), flow.pod(end)))
            && any(&self.container, |name| {
                name.matches(flow.container(end)) || name.matches_id(flow.container_id(end))
            })
            && any(&self.unit, |name| name.matches(flow.unit(end)))
    }
}

impl Name {
    fn new(field: &'static str, value: &str) -> Result<Self, FilterError> {
        let prefix = value.strip_suffix('*');
        let text = prefix.unwrap_or(value);
        if text.contains('*') {
            return Err(FilterError { field, problem: Problem::InnerWildcard(value.to_owned()) });
        }
        match prefix {
            Some(prefix) => Ok(Self::Prefix(prefix.into())),
            None if value.is_empty() => Err(FilterError { field, problem: Problem::EmptyName }),
            None => Ok(Self::Exact(value.into())),
        }
    }

    pub(super) fn matches(&self, value: Option<&str>) -> bool {
        match self {
            Self::Exact(name) => value == Some(name),
            Self::Prefix(prefix) => value.is_some_and(|value| value.starts_with(&**prefix)),
        }
    }

    fn matches_id(&self, id: Option<&str>) -> bool {
        match self {
            Self::Exact(name) if name.len() >= SHORT_ID => {
                id.is_some_and(|id| id.starts_with(&**name))
            }
            Self::Exact(_) => false,
            Self::Prefix(_) => self.matches(id),
        }
    }
}

impl PodName {
    fn new(field: &'static str, value: &str) -> Result<Self, FilterError> {
        match value.split_once('/') {
            None => Ok(Self { namespace: None, name: Name::new(field, value)? }),
            Some((namespace, name)) => {
                let name = if name.is_empty() { "*" } else { name };
                let namespace = Some(Name::new(field, namespace)?);
                Ok(Self { namespace, name: Name::new(field, name)? })
            }
        }
    }

    fn matches(&self, namespace: Option<&str>, pod: Option<&str>) -> bool {
        self.name.matches(pod) && self.namespace.as_ref().is_none_or(|name| name.matches(namespace))
    }
}

/// A field without values matches everything.
pub(super) fn any<T>(values: &[T], matches: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(matches)
}

fn contains(net: &IpNet, ip: Option<IpAddr>) -> bool {
    ip.is_some_and(|ip| net.contains(&ip))
}

pub(super) fn names(field: &'static str, values: &[String]) -> Result<Vec<Name>, FilterError> {
    values.iter().map(|value| Name::new(field, value)).collect()
}

fn pods(field: &'static str, values: &[String]) -> Result<Vec<PodName>, FilterError> {
    values.iter().map(|value| PodName::new(field, value)).collect()
}

fn nets(field: &'static str, values: &[String]) -> Result<Vec<IpNet>, FilterError> {
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
