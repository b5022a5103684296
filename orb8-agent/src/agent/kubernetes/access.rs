//! From settings to a client of the cluster that this node belongs to.

use std::net::IpAddr;
use std::time::Duration;

use orb8_k8s::client::{Access, Found, Located, Target, locate};

use crate::error::{AgentError, chain};
use crate::netlink::Network;
use crate::pipeline::LocalAddresses;

/// Plugins ask a cloud's servers, which takes seconds; one that asks for a password takes for ever.
const CREDENTIALS: Duration = Duration::from_secs(60);
/// A server that is up tells of one node at once.
const ANSWER: Duration = Duration::from_secs(10);
/// The first and the longest wait before the server is asked for the node again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Settings that were read, and what has to be known before they are used.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) target: Target,
    /// A kubeconfig that was found rather than named may be of any cluster: it is used once it is
    /// known to have this node.
    must_have_node: bool,
    /// How long a plugin may take to make credentials.
    pub(super) patience: Duration,
}

impl Way {
    /// Reads the settings; the other one is why nothing is used.
    ///
    /// # Errors
    /// [`AgentError::Kubernetes`] when access was asked for and the settings are wrong.
    pub(super) async fn find(access: &Access) -> Result<Result<Self, String>, AgentError> {
        match (locate(access).await, access) {
            (Ok(Located::At(target)), _) => Ok(Self::new(target, access)),
            (Ok(Located::Nowhere { reason }), _) => Ok(Err(reason)),
            (Err(error), Access::Auto) => {
                let reason = chain(&error);
                tracing::warn!(reason, "the Kubernetes API is not used");
                Ok(Err(reason))
            }
            (Err(error), _) => Err(AgentError::Kubernetes(error)),
        }
    }

    pub(super) fn new(target: Target, access: &Access) -> Result<Self, String> {
        let must_have_node = *access == Access::Auto && !target.is_in_cluster();
        if must_have_node && target.runs_plugin() {
            return Err(format!(
                "not used: {} was found rather than asked for, and names a program that makes \
                 credentials; ask for it with --kubernetes kubeconfig",
                target.source
            ));
        }
        Ok(Self { target, must_have_node, patience: CREDENTIALS })
    }

    /// Makes the client, and tells what keeps it from that; the error is why there is none.
    pub(super) async fn connect(
        self,
        node: &ThisNode,
        tell: impl Fn(String),
    ) -> Result<Found, String> {
        let Self { target, must_have_node, patience } = self;
        let found = match tokio::time::timeout(patience, target.connect()).await {
            Ok(found) => found.map_err(|error| chain(&error))?,
            Err(_) => {
                return Err(format!(
                    "no credentials after {patience:?}: the program that the kubeconfig names for \
                     them does not end; run it by hand to see why, and start again"
                ));
            }
        };
        if must_have_node {
            node.confirm(&found, tell).await?;
        }
        Ok(found)
    }
}

/// What a cluster has to know of this node, to be the one that it belongs to.
#[derive(Debug)]
pub(super) struct ThisNode {
    pub(super) name: String,
    pub(super) addresses: LocalAddresses,
}

impl ThisNode {
    /// Asks until the server tells; the error is why the cluster is another one.
    async fn confirm(&self, found: &Found, tell: impl Fn(String)) -> Result<(), String> {
        let (mut wait, longest) = BACKOFF;
        loop {
            match tokio::time::timeout(ANSWER, found.node_addresses(&self.name)).await {
                Ok(Ok(listed)) => return self.is_among(listed.as_deref()).await,
                Ok(Err(error)) => tell(chain(&error)),
                Err(_) => tell(format!("{} does not answer", found.server)),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }

    /// Whether the cluster's node of this name is this one: many clusters have a `localhost`.
    async fn is_among(&self, listed: Option<&[IpAddr]>) -> Result<(), String> {
        let name = &self.name;
        let advice = "set --node-name, or ask for this cluster with --kubernetes kubeconfig";
        let Some(listed) = listed else {
            return Err(format!("not used: the cluster has no node `{name}`; {advice}"));
        };
        self.list().await;
        if listed.iter().any(|ip| self.addresses.contains(*ip)) {
            return Ok(());
        }
        Err(format!(
            "not used: the cluster's node `{name}` has none of this machine's addresses; {advice}"
        ))
    }

    /// Lists this machine's addresses: whoever keeps them up to date may be yet to start, or is not
    /// wanted.
    async fn list(&self) {
        if !self.addresses.is_empty() {
            return;
        }
        let listed = async { Network::open()?.addresses().await };
        match listed.await {
            Ok(addresses) => self.addresses.set(addresses),
            Err(error) => tracing::warn!(error = chain(&error), "addresses cannot be listed"),
        }
    }
}
