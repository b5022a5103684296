//! What everything that is exported comes from.

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1 as proto;
use opentelemetry_semantic_conventions::SCHEMA_URL;
use opentelemetry_semantic_conventions::attribute::{
    HOST_NAME, K8S_NODE_NAME, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION,
};

use super::attributes::Attributes;

/// The name of the agent as a service, and of what it exports.
const NAME: &str = "orb8-agent";

/// This agent on this node.
#[derive(Clone, Debug)]
pub(super) struct Resource(Attributes);

impl Resource {
    /// Names the agent. What the user adds wins over what is found.
    pub(super) fn new(node_name: &str, in_kubernetes: bool, added: &[(String, String)]) -> Self {
        let host = nix::unistd::gethostname().ok();
        let host = host.and_then(|name| name.into_string().ok());
        let found = [
            (SERVICE_NAME, Some(NAME)),
            (SERVICE_VERSION, Some(env!("CARGO_PKG_VERSION"))),
            // Without one, backends take the same metric of two nodes for one series.
            (SERVICE_INSTANCE_ID, Some(node_name)),
            (HOST_NAME, host.as_deref()),
            (K8S_NODE_NAME, Some(node_name).filter(|_| in_kubernetes)),
        ];
        let mut attributes = Attributes::default();
        for (name, value) in added {
            // Names must be unique: the first one counts.
            if !attributes.has(name) {
                attributes.text(name, value.as_str());
            }
        }
        for (name, value) in found {
            if !attributes.has(name) {
                attributes.text(name, value);
            }
        }
        Self(attributes)
    }

    /// Returns it as messages have it.
    pub(super) fn message(&self) -> proto::Resource {
        proto::Resource { attributes: self.0.clone().into_messages(), ..proto::Resource::default() }
    }
}

/// Returns who made the records and metrics.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Returns which version of the conventions its names are of.
pub(super) fn schema_url() -> String {
    SCHEMA_URL.to_owned()
}
