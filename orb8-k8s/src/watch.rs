//! The watches: one task each, which keeps the index up to date for as long as the agent runs.
//!
//! kube's own watcher hides bookmarks, reconnections and objects that it cannot read, all of which
//! health and the index need; so the conversation is held here, over kube's client and requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    index::{IndexWriter, Source},
    resources::{RESOURCES, Resource},
};

mod failure;
mod feed;
mod health;
mod lines;
mod list;
mod timing;

pub use health::{Health, WatchHealth, WatchState};
pub use timing::Timing;

use feed::Feed;

/// Between two sweeps of what the index no longer needs; events sweep as well.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// What is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchConfig {
    /// The node whose pods are wanted with their containers; `None`: there is no such node, and
    /// all pods are those of others.
    pub node_name: Option<String>,
    /// The pods of other nodes too: else their addresses have no name.
    pub remote_pods: bool,
    /// How long to wait for what.
    pub timing: Timing,
}

/// The watches, as tasks that end with it.
#[derive(Debug)]
pub struct Watches {
    health: Health,
    tasks: JoinSet<()>,
    cancel: CancellationToken,
}

impl Watches {
    /// Starts them; they write to an index until they are stopped or `cancel` is cancelled.
    pub fn start(
        client: &Client,
        config: &WatchConfig,
        writer: Arc<Mutex<IndexWriter>>,
        cancel: &CancellationToken,
    ) -> Self {
        let plan = config.plan();
        let health = Health::new(plan.iter().map(|planned| (planned.source, planned.resource)));
        let cancel = cancel.child_token();
        let mut tasks = JoinSet::new();
        for (at, Planned { source, resource, selector }) in plan.into_iter().enumerate() {
            let feed = Feed {
                client: client.clone(),
                source,
                resource,
                selector,
                timing: config.timing.clone(),
                writer: Arc::clone(&writer),
                health: health.clone(),
                at,
            };
            let span = tracing::info_span!("watch", ?source);
            tasks.spawn(feed.run(cancel.clone()).instrument(span));
        }
        let span = tracing::info_span!("expire");
        tasks.spawn(expire(writer, cancel.clone()).instrument(span));
        Self { health, tasks, cancel }
    }

    /// How they fare.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Waits for the first lists; false when that takes longer, and the watches go on.
    pub async fn synced(&self, within: Duration) -> bool {
        self.health.synced(within).await
    }

    /// Ends them.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

struct Planned {
    source: Source,
    resource: &'static Resource,
    selector: Option<String>,
}

impl WatchConfig {
    /// What is watched of each resource.
    fn plan(&self) -> Vec<Planned> {
        let planned = |resource: &'static Resource| {
            let sources = resource.sources.iter().filter(|source| self.is_wanted(**source));
            sources.map(move |&source| Planned {
                source,
                resource,
                selector: self.selector(source),
            })
        };
        RESOURCES.iter().flat_map(planned).collect()
    }

    fn is_wanted(&self, source: Source) -> bool {
        match source {
            Source::LocalPods => self.node_name.is_some(),
            Source::RemotePods => self.remote_pods,
            _ => true,
        }
    }

    /// The objects that a watch is about; `None`: all of the resource.
    fn selector(&self, source: Source) -> Option<String> {
        // Pods that ended have no address any more; the server tells of them as deleted.
        const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
        match (source, &self.node_name) {
            (Source::LocalPods, Some(node)) => Some(format!("spec.nodeName={node}")),
            (Source::RemotePods, Some(node)) => Some(format!("spec.nodeName!={node},{UNFINISHED}")),
            (Source::RemotePods, None) => Some(UNFINISHED.to_owned()),
            _ => None,
        }
    }
}

async fn expire(writer: Arc<Mutex<IndexWriter>>, cancel: CancellationToken) {
    let sweep = async {
        loop {
            tokio::time::sleep(EXPIRE_EVERY).await;
            writer.lock().unwrap_or_else(PoisonError::into_inner).expire();
        }
    };
    cancel.run_until_cancelled(sweep).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(node_name: Option<&str>, remote_pods: bool) -> WatchConfig {
        let node_name = node_name.map(str::to_owned);
        WatchConfig { node_name, remote_pods, timing: Timing::default() }
    }

    #[test]
    fn every_resource_of_the_table_is_watched() {
        let plan = config(Some("n1"), false).plan();
        let watched: Vec<_> = plan.iter().map(|planned| planned.resource.plural).collect();
        let table: Vec<_> = RESOURCES.iter().map(|resource| resource.plural).collect();
        assert_eq!(watched, table);
    }

    #[test]
    fn each_pod_is_watched_once() {
        let selectors = |node, remote| {
            let plan = config(node, remote).plan().into_iter();
            let pods = plan.filter(|planned| planned.resource.plural == "pods");
            pods.map(|planned| planned.selector.unwrap()).collect::<Vec<_>>()
        };
        let ended = "status.phase!=Succeeded,status.phase!=Failed";
        let (local, remote) = ("spec.nodeName=n1".to_owned(), format!("spec.nodeName!=n1,{ended}"));
        assert_eq!(selectors(Some("n1"), true), [local.clone(), remote]);
        assert_eq!(selectors(Some("n1"), false), [local]);
        assert_eq!(selectors(None, true), [ended]);
        assert!(selectors(None, false).is_empty());
    }
}
