//! The Kubernetes API: from access to an index that the pipeline asks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orb8_k8s::client::Found;
use orb8_k8s::index::{Index, Source};
use orb8_k8s::watch::{Health, Timing, WatchConfig, Watches};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::AgentError;
use crate::pipeline::{LocalAddresses, SharedPipeline, lock};
use crate::status::{KubernetesState, KubernetesStatus, StatusBoard};
use access::{ThisNode, Way};

mod access;

/// How often status is made, and lists that became complete are noticed.
const LOOK: Duration = Duration::from_secs(1);

/// What there is to do with the API, once there is access to it.
pub(super) struct Kubernetes {
    node: ThisNode,
    remote_pods: bool,
    pipeline: SharedPipeline,
    board: StatusBoard,
}

/// The watches, and what they are for.
struct Watching {
    watches: Watches,
    index: Index,
    node_name: String,
    access: String,
    server: String,
    pipeline: SharedPipeline,
    board: StatusBoard,
}

impl Kubernetes {
    pub(super) fn new(
        config: &Config,
        addresses: LocalAddresses,
        pipeline: SharedPipeline,
        board: StatusBoard,
    ) -> Self {
        let node = ThisNode { name: config.node_name.clone(), addresses };
        Self { node, remote_pods: config.kubernetes.remote_pods, pipeline, board }
    }

    /// Starts to watch, where there is access. Nothing waits for the API server, nor for the program
    /// that makes credentials for it.
    ///
    /// # Errors
    /// [`AgentError::Kubernetes`] when access was asked for and the settings are wrong.
    pub(super) async fn start(
        self,
        config: &Config,
        tasks: &mut JoinSet<()>,
        cancel: &CancellationToken,
    ) -> Result<(), AgentError> {
        match Way::find(&config.kubernetes.access).await? {
            Ok(way) => {
                tasks.spawn(self.run(way, cancel.clone()));
            }
            Err(reason) => self.off(reason),
        }
        Ok(())
    }

    fn off(&self, reason: String) {
        self.board.update(|status| status.kubernetes = KubernetesStatus::off(reason));
    }

    /// Connects, and follows the watches until the end.
    async fn run(self, way: Way, cancel: CancellationToken) {
        self.board.update(|status| {
            status.kubernetes = KubernetesStatus {
                state: KubernetesState::Syncing,
                access: way.target.source.clone(),
                server: way.target.server.clone(),
                ..KubernetesStatus::default()
            };
        });
        let tell = |reason| self.board.update(|status| status.kubernetes.reason = Some(reason));
        match cancel.run_until_cancelled(way.connect(&self.node, tell)).await {
            Some(Ok(found)) => self.watch(found, &cancel).run(cancel).await,
            Some(Err(reason)) => {
                tracing::warn!(reason, "the Kubernetes API is not used");
                self.off(reason);
                // A task that ends says that something failed which everything needs.
                cancel.cancelled().await;
            }
            None => {}
        }
    }

    fn watch(self, found: Found, cancel: &CancellationToken) -> Watching {
        let Self { node, remote_pods, pipeline, board } = self;
        let Found { client, source: access, server } = found;
        let (index, writer) = Index::new();
        let watch = WatchConfig {
            node_name: Some(node.name.clone()),
            remote_pods,
            timing: Timing::default(),
        };
        let watches = Watches::start(&client, &watch, Arc::new(Mutex::new(writer)), cancel);
        {
            let mut pipeline = lock(&pipeline);
            pipeline.set_kubernetes(index.clone());
            pipeline.set_pods_are_told(false);
        }
        Watching { watches, index, node_name: node.name, access, server, pipeline, board }
    }
}

impl Watching {
    async fn run(self, cancel: CancellationToken) {
        let mut lists = 0;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while cancel.run_until_cancelled(looks.tick()).await.is_some() {
            let health = self.watches.health();
            let listed = complete_lists(health);
            let has_news = health.is_synced() && listed != lists;
            {
                let mut pipeline = lock(&self.pipeline);
                pipeline.set_pods_are_told(tells_of_pods(health));
                if has_news {
                    // What had no name may have one now.
                    pipeline.renew_kubernetes();
                    lists = listed;
                }
            }
            let status = self.status(health);
            self.board.update(|board| board.kubernetes = status);
        }
        self.watches.stop().await;
    }

    fn status(&self, health: &Health) -> KubernetesStatus {
        KubernetesStatus {
            state: match (health.is_synced(), health.is_connected()) {
                (true, true) => KubernetesState::Connected,
                (true, false) => KubernetesState::Disconnected,
                (false, _) => KubernetesState::Syncing,
            },
            access: self.access.clone(),
            server: self.server.clone(),
            reason: self.reason(health),
            watches: health.watches(),
            counts: self.index.counts(),
        }
    }

    /// Says what is wrong although the watches may work.
    fn reason(&self, health: &Health) -> Option<String> {
        let name = &self.node_name;
        if !health.is_synced() {
            return None;
        }
        if self.index.node(name).is_some() {
            return health.lacking();
        }
        Some(format!(
            "the cluster has no node `{name}`, so that this node's pods are known as other nodes' \
             are, without their containers and only until they end; set NODE_NAME by the downward \
             API (spec.nodeName), or --node-name"
        ))
    }
}

fn complete_lists(health: &Health) -> u64 {
    health.watches().iter().filter(|watch| watch.synced).map(|watch| watch.lists).sum()
}

/// Whether a pod of this node that was just started will be told of soon.
fn tells_of_pods(health: &Health) -> bool {
    health.watch(Source::LocalPods).is_some_and(|pods| pods.synced && pods.is_connected())
}

#[cfg(test)]
mod tests;
