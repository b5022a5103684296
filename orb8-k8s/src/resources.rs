//! What is asked of the API server: one table, from which the watches and the agent's RBAC derive.

use crate::index::Source;

/// A resource that is listed and watched.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core one.
    pub group: &'static str,
    /// Version in the group.
    pub version: &'static str,
    /// Plural name, as in paths and RBAC rules.
    pub plural: &'static str,
    /// What its watches tell of, one each.
    pub sources: &'static [Source],
    /// What is done with it, as in RBAC rules.
    pub verbs: &'static [&'static str],
    /// How much of each object is asked for.
    pub part: Part,
    /// Whether names are complete without it.
    pub need: Need,
    /// What is lost without it.
    pub why: &'static str,
}

/// How much of each object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// `PartialObjectMetadata`: spec and status stay on the server.
    Metadata,
}

/// Whether names are complete without a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Ends of flows have no name without it.
    Required,
    /// Pods show their direct owner without it.
    Optional,
}

const LIST_AND_WATCH: &[&str] = &["list", "watch"];

/// All of them.
pub static RESOURCES: [Resource; 7] = [
    Resource {
        group: "",
        version: "v1",
        plural: "pods",
        sources: &[Source::LocalPods, Source::RemotePods],
        verbs: LIST_AND_WATCH,
        part: Part::Whole,
        need: Need::Required,
        why: "the pods of this node with their containers, and the addresses of all others",
    },
    Resource {
        group: "",
        version: "v1",
        plural: "services",
        sources: &[Source::Services],
        verbs: LIST_AND_WATCH,
        part: Part::Whole,
        need: Need::Required,
        why: "the names of cluster, external and load-balancer addresses",
    },
    Resource {
        group: "",
        version: "v1",
        plural: "nodes",
        sources: &[Source::Nodes],
        verbs: LIST_AND_WATCH,
        part: Part::Whole,
        need: Need::Required,
        why: "the names of nodes' addresses, and node ports",
    },
    Resource {
        group: "discovery.k8s.io",
        version: "v1",
        plural: "endpointslices",
        sources: &[Source::EndpointSlices],
        verbs: LIST_AND_WATCH,
        part: Part::Whole,
        need: Need::Required,
        why: "what is behind Services that lead to no pod, such as the API server's own",
    },
    Resource {
        group: "apps",
        version: "v1",
        plural: "replicasets",
        sources: &[Source::ReplicaSets],
        verbs: LIST_AND_WATCH,
        part: Part::Metadata,
        need: Need::Optional,
        why: "the Deployment (or Rollout) of a pod",
    },
    Resource {
        group: "apps",
        version: "v1",
        plural: "statefulsets",
        sources: &[Source::StatefulSets],
        verbs: LIST_AND_WATCH,
        part: Part::Metadata,
        need: Need::Optional,
        why: "the owner of a StatefulSet, such as a LeaderWorkerSet",
    },
    Resource {
        group: "batch",
        version: "v1",
        plural: "jobs",
        sources: &[Source::Jobs],
        verbs: LIST_AND_WATCH,
        part: Part::Metadata,
        need: Need::Optional,
        why: "the CronJob or JobSet of a Job",
    },
];

impl Resource {
    /// Where its objects of all namespaces are listed.
    pub fn path(&self) -> String {
        match self.group {
            "" => format!("/api/{}/{}", self.version, self.plural),
            group => format!("/apis/{group}/{}/{}", self.version, self.plural),
        }
    }

    /// Its plural name with the group, unless that is the core one: `jobs.batch`.
    pub fn name(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Whether an old API server may lack it; the core group is what makes one.
    pub fn may_lack(&self) -> bool {
        !self.group.is_empty()
    }

    /// Whether names are incomplete without it.
    pub fn is_required(&self) -> bool {
        self.need == Need::Required
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_are_the_api_servers() {
        let paths: Vec<_> = RESOURCES.iter().map(Resource::path).collect();
        assert_eq!(paths[0], "/api/v1/pods");
        assert_eq!(paths[3], "/apis/discovery.k8s.io/v1/endpointslices");
        assert_eq!(RESOURCES[0].name(), "pods");
        assert_eq!(RESOURCES[6].name(), "jobs.batch");
    }

    #[test]
    fn nothing_is_written_and_no_resource_is_listed_twice() {
        for (at, row) in RESOURCES.iter().enumerate() {
            assert!(
                row.verbs.iter().all(|verb| ["get", "list", "watch"].contains(verb)),
                "{row:?}"
            );
            for other in &RESOURCES[..at] {
                assert_ne!(other.name(), row.name());
                assert!(!row.sources.iter().any(|it| other.sources.contains(it)), "{row:?}");
            }
        }
    }
}
