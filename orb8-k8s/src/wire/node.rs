//! Nodes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ClusterResourceScope;
use serde::Deserialize;

use super::{Addresses, meta, resource};

/// A node's name and addresses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeObject {
    #[serde(deserialize_with = "meta::trimmed")]
    pub(crate) metadata: ObjectMeta,
    status: Option<NodeStatus>,
}

resource!(NodeObject, ClusterResourceScope, "", "v1", "Node", "nodes");

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    addresses: Option<Vec<NodeAddress>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAddress {
    r#type: Option<String>,
    address: Option<String>,
}

impl NodeObject {
    /// Internal and external addresses; names are left out.
    pub(crate) fn addresses(&self) -> Addresses {
        let listed = self.status.iter().flat_map(|status| &status.addresses).flatten();
        let numeric = listed.filter(|address| {
            matches!(address.r#type.as_deref(), Some("InternalIP" | "ExternalIP"))
        });
        Addresses::read(numeric.filter_map(|address| address.address.as_deref()))
    }
}
