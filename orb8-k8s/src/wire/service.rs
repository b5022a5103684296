//! Services and their endpoints.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;

use super::{Addresses, meta, resource};

/// The label that tells whose a slice is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A Service's addresses and ports.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceObject {
    #[serde(deserialize_with = "meta::trimmed")]
    pub(crate) metadata: ObjectMeta,
    spec: Option<ServiceSpec>,
    status: Option<ServiceStatus>,
}

resource!(ServiceObject, NamespaceResourceScope, "", "v1", "Service", "services");

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    ports: Option<Vec<ServicePortSpec>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServicePortSpec {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i64>,
    node_port: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Ingress {
    ip: Option<String>,
}

/// A port of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServicePort<'a> {
    pub(crate) name: Option<&'a str>,
    /// IP protocol number.
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
}

impl ServiceObject {
    fn has_addresses(&self) -> bool {
        let Some(spec) = &self.spec else { return false };
        let headless = spec.cluster_ip.as_deref() == Some("None")
            || spec.cluster_ips.iter().flatten().any(|ip| ip == "None");
        !headless && spec.r#type.as_deref() != Some("ExternalName")
    }

    /// Addresses within the cluster; none of a headless Service or an alias.
    pub(crate) fn cluster_addresses(&self) -> Addresses {
        let Some(spec) = self.spec.as_ref().filter(|_| self.has_addresses()) else {
            return Addresses::default();
        };
        let all = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten());
        Addresses::read(all.map(String::as_str))
    }

    /// External addresses, and those of its load balancer.
    pub(crate) fn external_addresses(&self) -> Addresses {
        let Some(spec) = self.spec.as_ref().filter(|_| self.has_addresses()) else {
            return Addresses::default();
        };
        let balancer = self.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
        let all = spec.external_ips.iter().flatten();
        Addresses::read(all.chain(ingress.filter_map(|one| one.ip.as_ref())).map(String::as_str))
    }

    /// Its ports; one of a protocol that is not known is left out.
    pub(crate) fn ports(&self) -> impl Iterator<Item = ServicePort<'_>> {
        let listed = self.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        listed.filter_map(|spec| {
            Some(ServicePort {
                name: name(&spec.name),
                protocol: protocol(spec.protocol.as_deref())?,
                port: port(spec.port)?,
                node_port: port(spec.node_port),
            })
        })
    }
}

/// Some of a Service's endpoints.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSliceObject {
    #[serde(deserialize_with = "meta::trimmed")]
    pub(crate) metadata: ObjectMeta,
    address_type: Option<String>,
    endpoints: Option<Vec<EndpointSpec>>,
    ports: Option<Vec<EndpointPort>>,
}

resource!(
    EndpointSliceObject,
    NamespaceResourceScope,
    "discovery.k8s.io",
    "v1",
    "EndpointSlice",
    "endpointslices"
);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EndpointSpec {
    addresses: Option<Vec<String>>,
    target_ref: Option<TargetRef>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TargetRef {
    kind: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct EndpointPort {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i64>,
}

/// An address and port behind a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint<'a> {
    pub(crate) ip: IpAddr,
    /// IP protocol number.
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    /// Name of the Service's port.
    pub(crate) name: Option<&'a str>,
}

impl EndpointSliceObject {
    /// Name of the Service that it is of, in its own namespace.
    pub(crate) fn service(&self) -> Option<&str> {
        let labels = self.metadata.labels.as_ref()?;
        labels.get(SERVICE_NAME).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Endpoints that are no pods, and how many addresses could not be read. Pods are found by
    /// their own addresses, and keeping their endpoints too would double an agent's memory.
    pub(crate) fn endpoints(&self) -> (Vec<Endpoint<'_>>, u64) {
        if self.address_type.as_deref() == Some("FQDN") {
            return (Vec::new(), 0);
        }
        let others = self.endpoints.iter().flatten().filter(|endpoint| !endpoint.is_pod());
        let texts = others.flat_map(|endpoint| endpoint.addresses.iter().flatten());
        let addresses = Addresses::read(texts.map(String::as_str));
        let ports = || self.ports.iter().flatten().filter_map(EndpointPort::read);
        let each = addresses.ips.iter().flat_map(|ip| {
            ports().map(|(name, protocol, port)| Endpoint { ip: *ip, protocol, port, name })
        });
        (each.collect(), addresses.skipped)
    }
}

impl EndpointSpec {
    fn is_pod(&self) -> bool {
        self.target_ref.as_ref().is_some_and(|target| target.kind.as_deref() == Some("Pod"))
    }
}

impl EndpointPort {
    fn read(&self) -> Option<(Option<&str>, u8, u16)> {
        Some((name(&self.name), protocol(self.protocol.as_deref())?, port(self.port)?))
    }
}

fn name(name: &Option<String>) -> Option<&str> {
    name.as_deref().filter(|name| !name.is_empty())
}

fn port(number: Option<i64>) -> Option<u16> {
    number.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// The IP protocol number of a port's protocol.
fn protocol(name: Option<&str>) -> Option<u8> {
    match name {
        None | Some("" | "TCP") => Some(6),
        Some("UDP") => Some(17),
        Some("SCTP") => Some(132),
        Some(_) => None,
    }
}
