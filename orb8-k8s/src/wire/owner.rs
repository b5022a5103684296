//! Owners of pods that may have an owner themselves.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;

use super::meta;

/// A kind of [`OwnerObject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnerKind {
    /// `replicasets.apps`.
    ReplicaSet,
    /// `jobs.batch`.
    Job,
    /// `statefulsets.apps`.
    StatefulSet,
}

/// The metadata of a ReplicaSet, Job or StatefulSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OwnerObject {
    #[serde(deserialize_with = "meta::trimmed")]
    pub(crate) metadata: ObjectMeta,
}

impl Resource for OwnerObject {
    type DynamicType = OwnerKind;
    type Scope = NamespaceResourceScope;

    fn kind(owner: &OwnerKind) -> Cow<'_, str> {
        match owner {
            OwnerKind::ReplicaSet => "ReplicaSet".into(),
            OwnerKind::Job => "Job".into(),
            OwnerKind::StatefulSet => "StatefulSet".into(),
        }
    }

    fn group(owner: &OwnerKind) -> Cow<'_, str> {
        match owner {
            OwnerKind::ReplicaSet | OwnerKind::StatefulSet => "apps".into(),
            OwnerKind::Job => "batch".into(),
        }
    }

    fn version(_: &OwnerKind) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(owner: &OwnerKind) -> Cow<'_, str> {
        match owner {
            OwnerKind::ReplicaSet => "replicasets".into(),
            OwnerKind::Job => "jobs".into(),
            OwnerKind::StatefulSet => "statefulsets".into(),
        }
    }

    fn metadata_api() -> bool {
        true
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
