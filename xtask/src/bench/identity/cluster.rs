//! A cluster of 5,000 pods: an API server on the lab's node, in this process.

use std::{
    collections::BTreeMap,
    future::Future,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use orb8_k8s::testing::{ApiServer, StreamingLists};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::manifests;
use crate::bench::{
    interrupt::pause,
    lab::{Lab, Netns},
};

/// How long the agent may take to open every watch again: its longest wait, and the time for lists.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the [module](self). Dropping it ends it.
pub(super) struct Cluster {
    server: ApiServer,
    directory: TempDir,
    _runtime: Runtime,
}

/// How the agent gets its lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lists {
    /// As streams, from servers since 1.32.
    Streamed,
    /// By pages of 500.
    Paged,
}

impl Lists {
    pub(super) const BOTH: [Self; 2] = [Self::Streamed, Self::Paged];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Streamed => "streamed",
            Self::Paged => "by pages",
        }
    }
}

impl Cluster {
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let runtime = runtime_at(&lab.node, 1)?;
        let server = on(&runtime, ApiServer::start())??;
        // As often as a real one does.
        server.send_bookmarks(Some(Duration::from_secs(60)));
        manifests::all().for_each(|object| server.apply(object));
        let directory = tempfile::tempdir()?;
        let cluster = Self { server, directory, _runtime: runtime };
        cluster.server.write_kubeconfig(&cluster.kubeconfig())?;
        Ok(cluster)
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// What an agent is told, so that it knows the cluster. That watches break is what is wanted.
    pub(super) fn flags(&self) -> Vec<String> {
        let flags = format!(
            "--kubernetes kubeconfig --kubeconfig {} --node-name {} --log error",
            self.kubeconfig().display(),
            manifests::NODE,
        );
        flags.split(' ').map(str::to_owned).collect()
    }

    pub(super) fn offer(&self, lists: Lists) {
        self.server.set_streaming_lists(match lists {
            Lists::Streamed => StreamingLists::Offered,
            Lists::Paged => StreamingLists::Refused,
        });
    }

    /// Says nothing until [`Self::answer`].
    pub(super) fn fall_silent(&self) {
        self.server.freeze();
    }

    pub(super) fn answer(&self) {
        self.server.thaw();
    }

    /// Ends all watches and forgets what happened, so that each gets 410 and lists again; waits until
    /// it was asked for all of them. What a list takes comes after that.
    pub(super) fn force_relist(&self) -> Result<()> {
        let before = self.asked();
        self.server.compact();
        self.server.cut();
        let start = Instant::now();
        // A watch that is told 410, and then a list: by pages, or as a watch that begins with it.
        let is_asked_again = |now: &BTreeMap<String, u64>| {
            before.iter().all(|(resource, times)| {
                let watches = if resource == "pods" { 2 } else { 1 };
                now.get(resource).is_some_and(|now| now - times >= 2 * watches)
            })
        };
        while !is_asked_again(&self.asked()) {
            ensure!(start.elapsed() < PATIENCE, "the agent does not list again");
            pause(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Replaces a pod by another one: deletes it, and makes one that starts and gets an address.
    pub(super) fn replace_pod(&self, round: u32) {
        let at = manifests::LOCAL + round % (manifests::PODS - manifests::LOCAL);
        let old = match round < manifests::PODS - manifests::LOCAL {
            true => manifests::pod_name(at),
            false => successor(at, round - (manifests::PODS - manifests::LOCAL)),
        };
        let mut pod = manifests::pod(at);
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        self.server.delete("pods", &namespace, &old);
        pod["metadata"]["name"] = json!(successor(at, round));
        // The server gives it one.
        pod["metadata"]["uid"] = json!(null);
        let status = std::mem::replace(&mut pod["status"], json!({"phase": "Pending"}));
        self.server.apply(pod.clone());
        pod["status"] = status;
        self.server.apply(pod);
    }

    fn asked(&self) -> BTreeMap<String, u64> {
        let mut asked = BTreeMap::new();
        for (_, resource, times) in self.server.asked() {
            *asked.entry(resource).or_default() += times;
        }
        asked
    }
}

fn successor(pod: u32, round: u32) -> String {
    format!("{}-{round}", manifests::pod_name(pod))
}

/// A runtime whose threads are in a namespace.
pub(in crate::bench) fn runtime_at(netns: &Netns, workers: usize) -> Result<Runtime> {
    let netns = netns.clone()?;
    let enter = move || netns.enter().expect("root may enter the namespaces that it made");
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(workers).on_thread_start(enter).enable_all().build();
    runtime.context("starting a runtime")
}

/// Runs a future on the runtime's own threads, where the caller's is elsewhere.
pub(in crate::bench) fn on<F>(runtime: &Runtime, future: F) -> Result<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    Ok(runtime.block_on(runtime.spawn(future))?)
}
