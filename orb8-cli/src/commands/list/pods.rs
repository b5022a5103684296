//! `orb8 pods`.

use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::pod::LIST;
use orb8_proto::v1::{Kubernetes, KubernetesState, Pod, QueryPodsRequest, QueryPodsResponse};
use tonic::{Response, Status};

use super::List;
use crate::args::{ListArgs, PodsArgs};
use crate::connection::Connection;
use crate::output::Machine;
use crate::output::pod::PodObject;

impl List for PodsArgs {
    const SIGNAL: Option<&'static str> = None;
    const MEANWHILE: &'static str = "looking";
    const VIEW: &'static View<Pod> = &LIST;
    const NOUN: [&'static str; 2] = ["pod", "pods"];
    type Subject = Pod;
    type Answer = QueryPodsResponse;

    fn args(&self) -> &ListArgs {
        &self.list
    }

    fn order(&self) -> &str {
        "name"
    }

    async fn query(
        &self,
        connection: &mut Connection,
        _: Option<u64>,
    ) -> Result<Response<QueryPodsResponse>, Status> {
        let request = connection.request(QueryPodsRequest {
            include: self.filters.include.clone(),
            exclude: self.filters.exclude.clone(),
            limit: self.list.limit,
            local: self.local,
        });
        connection.client.query_pods(request).await
    }

    fn rows(answer: &QueryPodsResponse) -> Vec<&Pod> {
        answer.pods.iter().collect()
    }

    fn total_matched(answer: &QueryPodsResponse) -> u64 {
        answer.total_matched
    }

    fn gist(answer: &QueryPodsResponse) -> String {
        let local = answer.pods.iter().filter(|pod| pod.local).count();
        match answer.node_name.as_str() {
            "" => format!("{local} here"),
            node => format!("{local} on {node}"),
        }
    }

    async fn caveat(connection: &mut Connection, shown: u64) -> Option<String> {
        let status = connection.status().await.ok()?;
        caveat(&status.kubernetes.unwrap_or_default(), shown)
    }

    fn write(
        machine: Machine,
        out: &mut dyn io::Write,
        answer: &QueryPodsResponse,
    ) -> io::Result<()> {
        answer.pods.iter().try_for_each(|pod| machine.write(out, &PodObject::new(pod)))
    }
}

/// What the Kubernetes API has not told.
fn caveat(kubernetes: &Kubernetes, shown: u64) -> Option<String> {
    let what = match (kubernetes.state(), shown) {
        (KubernetesState::Connected, _) => return None,
        (KubernetesState::Off | KubernetesState::Unspecified, 0) => {
            "the Kubernetes API is not asked, and no cgroup of this node is a pod's"
        }
        (KubernetesState::Off | KubernetesState::Unspecified, _) => {
            "the Kubernetes API is not asked: these are told by this node alone"
        }
        (KubernetesState::Syncing, _) => "the Kubernetes API has not told all yet",
        (KubernetesState::Disconnected, _) => {
            "the Kubernetes API is not connected: what was known stays known"
        }
    };
    Some(match kubernetes.reason.as_str() {
        "" => format!("{what}\n  `orb8 status` says more"),
        reason => format!("{what}\n  {reason}"),
    })
}
