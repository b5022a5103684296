//! What is read of the API's objects: the few fields that are used; the rest of a manifest is
//! skipped unread. Lists may be null and a status missing.

mod meta;
mod node;
mod owner;
mod pod;
mod service;
#[cfg(test)]
mod tests;

pub use node::NodeObject;
pub use owner::{OwnerKind, OwnerObject};
pub use pod::PodObject;
pub use service::{EndpointSliceObject, ServiceObject};

pub(crate) use meta::{controller, created, given, is_node};
pub(crate) use service::ServicePort;
#[cfg(test)]
pub(crate) use {pod::ContainerFacts, service::Endpoint};

use std::net::IpAddr;

/// An object of any of the watches.
#[derive(Clone, Debug)]
pub enum Object {
    /// A pod.
    Pod(PodObject),
    /// A Service.
    Service(ServiceObject),
    /// An EndpointSlice.
    EndpointSlice(EndpointSliceObject),
    /// A node.
    Node(NodeObject),
    /// A ReplicaSet, Job or StatefulSet.
    Owner(OwnerObject),
}

/// Converts an object of one kind.
macro_rules! from_object {
    ($($variant:ident($object:ty)),*) => {$(
        impl From<$object> for Object {
            fn from(object: $object) -> Self {
                Self::$variant(object)
            }
        }
    )*};
}
from_object!(
    Pod(PodObject),
    Service(ServiceObject),
    EndpointSlice(EndpointSliceObject),
    Node(NodeObject),
    Owner(OwnerObject)
);

/// Says where the API server keeps objects of a type whose `metadata` is an `ObjectMeta`.
macro_rules! resource {
    ($object:ty, $scope:ty, $group:literal, $version:literal, $kind:literal, $plural:literal) => {
        impl kube::Resource for $object {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> std::borrow::Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> std::borrow::Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(
                &mut self,
            ) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
use resource;

/// Addresses that were read, each once, and how many could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) skipped: u64,
}

impl Addresses {
    /// Reads addresses as text; the empty one is none.
    fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut read = Self::default();
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
                Ok(ip) if !tells_someone(ip) => read.skipped += 1,
                Ok(ip) if read.ips.contains(&ip) => {}
                Ok(ip) => read.ips.push(ip),
                Err(_) => read.skipped += 1,
            }
        }
        read
    }
}

/// Whether an address can be one's own: every host has `127.0.0.1`.
fn tells_someone(ip: IpAddr) -> bool {
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast())
}
