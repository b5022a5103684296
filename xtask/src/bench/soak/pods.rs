//! Pods that live for a few seconds: an object at the API server, a cgroup, and a process that talks.

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use anyhow::Result;
use orb8_k8s::testing::{ApiServer, objects};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::bench::{
    identity::cluster::{on, runtime_at},
    lab::{Cgroup, Lab, Netns, SERVER},
    workload::Worker,
};

/// How long each lives, seconds.
pub(super) const LIFE: u32 = 10;

const NODE: &str = "node-a";
const NAMESPACE: &str = "soak";
/// Where the lab's server takes datagrams and connections.
const PORT: u16 = 7777;

/// See the [module](self). Fields are dropped in order: who is in a cgroup goes before it.
pub(super) struct Pods {
    living: VecDeque<Pod>,
    made: u64,
    gone: u64,
    _connections: Worker,
    server: ApiServer,
    directory: TempDir,
    _runtime: Runtime,
    client: Netns,
    kubepods: Cgroup,
}

struct Pod {
    name: String,
    /// In which turn it came.
    turn: u64,
    _worker: Worker,
    _container: Cgroup,
    _pod: Cgroup,
}

impl Pods {
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let runtime = runtime_at(&lab.node, 1)?;
        let server = on(&runtime, ApiServer::start())??;
        server.send_bookmarks(Some(Duration::from_secs(60)));
        server.apply(objects::node(NODE, &["10.88.1.0"]));
        let directory = tempfile::tempdir()?;
        let role = words(&format!("tcp-close 0.0.0.0:{PORT}"));
        let connections = Worker::start(&lab.server, Some(&lab.receivers), None, &role)?;
        let pods = Self {
            living: VecDeque::new(),
            made: 0,
            gone: 0,
            _connections: connections,
            server,
            directory,
            _runtime: runtime,
            client: lab.client.clone()?,
            kubepods: Cgroup::new(&lab.pods.path().join("kubepods"))?,
        };
        pods.server.write_kubeconfig(&pods.kubeconfig())?;
        Ok(pods)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// What the agent is told. Its history is full within the warm-up, as it is on a node after a
    /// quarter of an hour.
    pub(super) fn flags(&self) -> Vec<String> {
        let kubeconfig = self.kubeconfig().display().to_string();
        words(&format!(
            "--kubernetes kubeconfig --kubeconfig {kubeconfig} --node-name {NODE} --log error \
             --history 1m"
        ))
    }

    /// Ends those that are old enough, and makes so many new ones.
    pub(super) fn turn_over(&mut self, count: u32) -> Result<()> {
        let turn = self.made / u64::from(count);
        while let Some(oldest) = self.living.front()
            && oldest.turn + u64::from(LIFE) <= turn
        {
            if let Some(pod) = self.living.pop_front() {
                self.server.delete("pods", NAMESPACE, &pod.name);
                self.gone += 1;
            }
        }
        for _ in 0..count {
            let pod = self.make(turn)?;
            self.living.push_back(pod);
            self.made += 1;
        }
        Ok(())
    }

    /// As the kubelet does: the cgroup, the process, and then the status with the container's id.
    fn make(&self, turn: u64) -> Result<Pod> {
        let number = self.made;
        let uid = format!("5a5a0000-0000-4000-8000-{number:012x}");
        let (name, container) = (format!("job-{number}-0"), format!("{number:064x}"));
        let pod = Cgroup::new(&self.kubepods.path().join(format!("pod{uid}")))?;
        let cgroup = Cgroup::new(&pod.path().join(&container))?;
        // Half of them send datagrams, half make connections.
        let role = match number % 2 {
            0 => format!("udp-send {SERVER}:{PORT} --rate 50 --flows 4 --connected"),
            _ => format!("tcp-connect {SERVER}:{PORT} --rate 20 --addresses 16"),
        };
        let worker = Worker::start(&self.client, Some(&cgroup), None, &words(&role))?;
        let object = objects::with_uid(objects::pod(NAMESPACE, &name, NODE, &[]), &uid);
        // A workload each, so that each has a series of its own.
        let owner = format!("5a5a0000-0000-4000-8001-{number:012x}");
        let mut object = objects::owned(object, "Job", &format!("job-{number}"), &owner);
        object["status"]["containerStatuses"][0]["containerID"] =
            json!(format!("containerd://{container}"));
        self.server.apply(object);
        Ok(Pod { name, turn, _worker: worker, _container: cgroup, _pod: pod })
    }

    /// How many came and went.
    pub(super) const fn gone(&self) -> u64 {
        self.gone
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
