//! The pods that the agent knows, and how: by the Kubernetes API, by cgroups of this node, and by
//! the names that the container runtime leaves there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orb8_k8s::object::{ContainerKind, Pod};
use orb8_proto::filter::{PodFields, PodMatcher};

use super::Pipeline;
use crate::identity::{Runtime, Workload};

/// Events wait for so long while names are read for somebody who asks.
const MOMENT: Duration = Duration::from_millis(5);

/// Which pods.
#[derive(Clone, Debug, Default)]
pub struct PodQuery {
    /// Which.
    pub matcher: PodMatcher,
    /// Those of this node only.
    pub local: bool,
    /// How many.
    pub limit: usize,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPage {
    /// As many as asked for, by namespace and name.
    pub rows: Vec<KnownPod>,
    /// Pods that matched.
    pub total: u64,
}

/// A pod that the agent knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownPod {
    /// What the Kubernetes API says of it.
    pub api: Option<Arc<Pod>>,
    /// Its uid.
    pub uid: String,
    /// Namespace, where anything tells it.
    pub namespace: Option<String>,
    /// Name, where anything tells it.
    pub name: Option<String>,
    /// Those that the API or a cgroup tells of; none for pods of other nodes.
    pub containers: Vec<KnownContainer>,
    /// It has a cgroup on this node.
    pub has_cgroup: bool,
    /// The runtime's files name it.
    pub is_named_by_runtime: bool,
    /// It runs on this node.
    pub is_local: bool,
}

/// A container of a [`KnownPod`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownContainer {
    /// Name in the pod; `None` where only its id is known.
    pub name: Option<String>,
    /// The runtime's id; `None` where the API names one that was not made yet.
    pub id: Option<String>,
    /// What it is for.
    pub kind: Option<ContainerKind>,
    /// Who runs it.
    pub runtime: Option<Runtime>,
    /// Its cgroup's id and path, once that was seen.
    pub cgroup: Option<(u64, String)>,
}

/// A look at every pod that is known, which takes its time: names may have to be read from files.
///
/// ```text
/// survey_pods ─▶ PodSurvey ─▶ describe_pods, until it is complete ─▶ page
/// ```
#[derive(Debug)]
pub struct PodSurvey {
    /// By uid.
    pods: BTreeMap<String, KnownPod>,
    /// Of containers that were not looked at yet.
    cgroups: Vec<u64>,
}

impl PodSurvey {
    /// Returns the pods that a query asks for.
    #[must_use]
    pub fn page(self, query: &PodQuery) -> PodPage {
        let mut found: Vec<KnownPod> = self.pods.into_values().collect();
        found.retain(|pod| (pod.is_local || !query.local) && query.matcher.matches(&PodView(pod)));
        let total = found.len() as u64;
        found.sort_by(|a, b| order(a).cmp(&order(b)));
        found.truncate(query.limit);
        PodPage { rows: found, total }
    }

    fn add(&mut self, cgroup_id: u64, owner: &Workload) {
        // Of a static pod, the API's uid is not the one in the path.
        let uid = owner.api.as_ref().map(|pod| pod.uid.to_string());
        let Some(uid) = uid.or_else(|| owner.pod_uid.clone()) else { return };
        let pod = self.pods.entry(uid);
        let pod = pod.or_insert_with_key(|uid| KnownPod { uid: uid.clone(), ..Default::default() });
        pod.add_cgroup(cgroup_id, owner);
    }
}

impl Pipeline {
    /// Begins to look at the pods that are known.
    #[must_use]
    pub fn survey_pods(&mut self) -> PodSurvey {
        let node = self.enrich.node_name();
        let api = self.enrich.kubernetes().map(|index| index.pods()).unwrap_or_default();
        let pods = api.into_iter().map(|pod| (pod.uid.to_string(), KnownPod::of_api(pod, &node)));
        PodSurvey { pods: pods.collect(), cgroups: self.enrich.identity().pod_cgroups() }
    }

    /// Looks at this node's containers for a moment, and returns whether that was all of them. In
    /// between, let others have the pipeline.
    #[must_use]
    pub fn describe_pods(&mut self, survey: &mut PodSurvey) -> bool {
        self.describe_pods_until(survey, Instant::now() + MOMENT)
    }

    fn describe_pods_until(&mut self, survey: &mut PodSurvey, end: Instant) -> bool {
        while let Some(cgroup_id) = survey.cgroups.pop() {
            let now = Instant::now();
            if let Some(owner) = self.enrich.owner(cgroup_id, now) {
                survey.add(cgroup_id, &owner);
            }
            if now >= end {
                break;
            }
        }
        survey.cgroups.is_empty()
    }
}

fn order(pod: &KnownPod) -> (Option<&str>, Option<&str>, &str) {
    (pod.namespace.as_deref(), pod.name.as_deref(), &pod.uid)
}

impl KnownPod {
    fn of_api(pod: Arc<Pod>, node: &str) -> Self {
        let container = |of: &orb8_k8s::object::Container| KnownContainer {
            name: Some(of.name.to_string()),
            id: of.id.as_deref().map(str::to_owned),
            kind: Some(of.kind),
            ..KnownContainer::default()
        };
        Self {
            uid: pod.uid.to_string(),
            namespace: Some(pod.namespace.to_string()),
            name: Some(pod.name.to_string()),
            containers: pod.containers.iter().map(container).collect(),
            is_local: pod.node.as_deref() == Some(node),
            api: Some(pod),
            ..Self::default()
        }
    }

    fn add_cgroup(&mut self, cgroup_id: u64, owner: &Workload) {
        self.has_cgroup = true;
        self.is_local = true;
        self.is_named_by_runtime |= owner.is_named_by_runtime;
        self.namespace = self.namespace.take().or_else(|| owner.namespace.clone());
        self.name = self.name.take().or_else(|| owner.pod.clone());
        let id = owner.container_id.as_deref();
        let known = self.containers.iter().position(|container| container.id.as_deref() == id);
        let at = known.unwrap_or_else(|| {
            self.containers.push(KnownContainer::default());
            self.containers.len() - 1
        });
        let container = &mut self.containers[at];
        container.name = container.name.take().or_else(|| owner.container.clone());
        container.id.clone_from(&owner.container_id);
        container.kind = container.kind.or(owner.container_kind);
        container.runtime = owner.runtime;
        container.cgroup = Some((cgroup_id, owner.cgroup_path.clone()));
    }
}

/// A pod as filters see it.
#[derive(Clone, Copy, Debug)]
pub struct PodView<'a>(pub &'a KnownPod);

impl PodFields for PodView<'_> {
    fn namespace(&self) -> Option<&str> {
        self.0.namespace.as_deref()
    }

    fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    fn has_labels(&self) -> bool {
        self.0.api.is_some()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.0.api.as_ref()?.label(key)
    }

    fn controller(&self) -> Option<(&str, &str)> {
        let controller = self.0.api.as_ref()?.controller.as_ref()?;
        Some((&controller.kind, &controller.name))
    }

    fn node(&self) -> Option<&str> {
        self.0.api.as_ref()?.node.as_deref()
    }

    fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.0.api.iter().flat_map(|pod| pod.ips.iter().copied())
    }

    fn containers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.containers.iter().map(|KnownContainer { name, id, .. }| {
            (name.as_deref().unwrap_or_default(), id.as_deref().unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::pipeline::LocalAddresses;

    #[test]
    fn containers_are_looked_at_bit_by_bit() {
        let root = tempfile::tempdir().unwrap();
        let uid = |pod| format!("3f2b7c1e-9d4a-4c55-8e0b-00000000000{pod}");
        for pod in 0..3 {
            let path = format!("kubepods/pod{}/{}", uid(pod), "a".repeat(64));
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let mut config = Config::in_process().unwrap();
        config.cgroup_root = Some(root.path().to_owned());
        let mut pipeline = Pipeline::new(&config, LocalAddresses::default());
        // Anybody's question finds them all.
        pipeline.enrich.owner(1, Instant::now());
        let mut survey = pipeline.survey_pods();
        let over = Instant::now();
        for done in [false, false, true] {
            assert_eq!(pipeline.describe_pods_until(&mut survey, over), done);
        }
        let page = survey.page(&PodQuery { limit: 2, ..PodQuery::default() });
        let uids: Vec<_> = page.rows.iter().map(|pod| pod.uid.clone()).collect();
        assert_eq!((page.total, uids), (3, vec![uid(0), uid(1)]));
    }
}
