//! Metadata, as far as it is used.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Deserializer};

/// What a mirror pod says of the static pod that it mirrors.
const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// [`ObjectMeta`] without what is not used: managed fields alone are often half of a manifest.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Trimmed {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<Annotations>,
    owner_references: Option<Vec<OwnerReference>>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
}

/// Reads metadata, as a field's `deserialize_with`.
pub(super) fn trimmed<'de, D: Deserializer<'de>>(source: D) -> Result<ObjectMeta, D::Error> {
    let read = Option::<Trimmed>::deserialize(source)?.unwrap_or_default();
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        labels: read.labels,
        annotations: read.annotations.and_then(annotations),
        owner_references: read.owner_references.map(controllers),
        creation_timestamp: read.creation_timestamp.as_deref().and_then(time),
        deletion_timestamp: read.deletion_timestamp.as_deref().and_then(time),
        ..ObjectMeta::default()
    })
}

fn annotations(read: Annotations) -> Option<BTreeMap<String, String>> {
    let Annotations { mirror } = read;
    Some(BTreeMap::from([(CONFIG_MIRROR.to_owned(), mirror?)]))
}

fn controllers(mut references: Vec<OwnerReference>) -> Vec<OwnerReference> {
    references.retain(|reference| reference.controller == Some(true));
    references
}

/// A time that does not parse is none: an object is worth more than its date.
fn time(text: &str) -> Option<Time> {
    text.parse::<Timestamp>().ok().map(Time)
}

/// Nanoseconds of unix time, of an API object's time.
pub(super) fn unix_ns(text: &str) -> Option<u64> {
    time(text).as_ref().and_then(time_ns)
}

fn time_ns(time: &Time) -> Option<u64> {
    u64::try_from(time.0.as_nanosecond()).ok()
}

/// When an object was made, in nanoseconds of unix time.
pub(crate) fn created(meta: &ObjectMeta) -> Option<u64> {
    meta.creation_timestamp.as_ref().and_then(time_ns)
}

/// The one reference that says who controls an object.
pub(crate) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|reference| reference.controller == Some(true) && !reference.uid.is_empty())
}

/// Whether it is a node that controls an object.
pub(crate) fn is_node(reference: &OwnerReference) -> bool {
    reference.kind == "Node" && reference.api_version == "v1"
}

/// The uid that the kubelet gave a static pod, of its mirror. The kubelet makes its node the
/// mirror's owner; a pod that only has the annotation is anybody's.
pub(super) fn config_hash(meta: &ObjectMeta) -> Option<&str> {
    controller(meta).filter(|owner| is_node(owner))?;
    given(meta.annotations.as_ref()?.get(CONFIG_MIRROR))
}

/// A text that is there.
pub(crate) fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}
