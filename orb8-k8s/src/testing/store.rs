//! Objects, their versions, and what happened to them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::lock;

/// Changes that are kept for watches; older ones are compacted.
const HISTORY: usize = 100_000;

/// Kinds that are served, with the plural names of their resources.
const KINDS: [(&str, &str, &str); 8] = [
    ("v1", "Pod", "pods"),
    ("v1", "Service", "services"),
    ("v1", "Node", "nodes"),
    ("v1", "Namespace", "namespaces"),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("batch/v1", "Job", "jobs"),
];

/// The objects of a server.
pub(super) struct Store {
    inner: Mutex<Objects>,
    /// The newest version.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Objects {
    version: u64,
    /// By resource, namespace and name.
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    /// Older versions are no longer known to who comes with one.
    compacted: u64,
    /// The newest change that is no longer kept.
    dropped: u64,
}

/// Resource, namespace (empty: none) and name.
pub(super) type Key = (String, String, String);

/// What happened to an object.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) resource: String,
    /// What it was; `None`: it was created.
    pub(super) before: Option<Arc<Value>>,
    /// What it is, or was when it was deleted.
    pub(super) object: Arc<Value>,
    pub(super) deleted: bool,
}

/// The version asked for is older than what is known.
#[derive(Debug)]
pub(super) struct TooOld;

impl Default for Store {
    fn default() -> Self {
        // Version 0 means any to clients.
        let inner = Objects { version: 1, ..Objects::default() };
        Self { inner: Mutex::new(inner), changed: watch::channel(1).0 }
    }
}

/// API version and kind of a resource that is served.
pub(super) fn kind(resource: &str) -> Option<(&'static str, &'static str)> {
    KINDS.iter().find(|row| row.2 == resource).map(|(version, kind, _)| (*version, *kind))
}

impl Store {
    pub(super) fn apply(&self, mut object: Value) {
        let key = key_of(&object);
        let mut inner = lock(&self.inner);
        inner.version += 1;
        let version = inner.version;
        let before = inner.objects.get(&key).cloned();
        complete(&mut object, version, before.as_deref());
        let object = Arc::new(object);
        inner.objects.insert(key.clone(), Arc::clone(&object));
        inner.note(Change { version, resource: key.0, before, object, deleted: false });
        drop(inner);
        self.changed.send_replace(version);
    }

    pub(super) fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let mut inner = lock(&self.inner);
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let Some(before) = inner.objects.remove(&key) else {
            return false;
        };
        inner.version += 1;
        let version = inner.version;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = json!(version.to_string());
        let (before, object) = (Some(before), Arc::new(last));
        inner.note(Change { version, resource: key.0, before, object, deleted: true });
        drop(inner);
        self.changed.send_replace(version);
        true
    }

    pub(super) fn compact(&self) {
        let mut inner = lock(&self.inner);
        // A version of its own, so that the newest object's is too old as well.
        inner.version += 1;
        inner.compacted = inner.version;
    }

    /// Begins again without objects, at a version that was there before.
    pub(super) fn restore(&self) {
        *lock(&self.inner) = Objects { version: 1, ..Objects::default() };
    }

    /// Whether a version is still to come.
    pub(super) fn is_ahead(&self, version: u64) -> bool {
        version > lock(&self.inner).version
    }

    /// Whether a watch or a list can go on from a version.
    pub(super) fn knows(&self, version: u64) -> bool {
        let inner = lock(&self.inner);
        version >= inner.compacted.max(inner.dropped)
    }

    /// Told of each change.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The objects of a resource in the order of their keys, from after one on, and the version.
    pub(super) fn list(
        &self,
        resource: &str,
        after: Option<&Key>,
    ) -> (Vec<(Key, Arc<Value>)>, u64) {
        let inner = lock(&self.inner);
        let objects = inner.objects.iter();
        let objects =
            objects.filter(|(key, _)| key.0 == resource && after.is_none_or(|it| *key > it));
        (objects.map(|(key, object)| (key.clone(), Arc::clone(object))).collect(), inner.version)
    }

    /// What happened to a resource since a version, and the version now.
    pub(super) fn since(&self, resource: &str, version: u64) -> Result<(Vec<Change>, u64), TooOld> {
        let inner = lock(&self.inner);
        if version < inner.dropped {
            return Err(TooOld);
        }
        let start = inner.history.partition_point(|change| change.version <= version);
        let changes = inner.history.range(start..).filter(|change| change.resource == resource);
        Ok((changes.cloned().collect(), inner.version))
    }
}

impl Objects {
    fn note(&mut self, change: Change) {
        if self.history.len() == HISTORY {
            self.dropped = self.history.pop_front().map_or(0, |oldest| oldest.version);
        }
        self.history.push_back(change);
    }
}

fn key_of(object: &Value) -> Key {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("/apiVersion"), text("/kind"));
    let row = KINDS.iter().find(|row| (row.0, row.1) == (version, kind));
    let (_, _, resource) = row.unwrap_or_else(|| panic!("`{version}` `{kind}` is not served"));
    let name = text("/metadata/name");
    assert!(!name.is_empty(), "an object without a name: {object}");
    ((*resource).to_owned(), text("/metadata/namespace").to_owned(), name.to_owned())
}

/// Adds what a server adds.
fn complete(object: &mut Value, version: u64, before: Option<&Value>) {
    let now = k8s_openapi::jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let second = k8s_openapi::jiff::Timestamp::from_second(now.as_second()).unwrap_or_default();
    let added = [
        ("uid", json!(format!("00000000-0000-4000-8000-{version:012}"))),
        ("creationTimestamp", json!(second.to_string())),
    ];
    for (field, value) in added {
        let kept = before.map_or(&Value::Null, |before| &before["metadata"][field]);
        let place = &mut object["metadata"][field];
        if place.is_null() {
            *place = if kept.is_null() { value } else { kept.clone() };
        }
    }
    object["metadata"]["resourceVersion"] = json!(version.to_string());
}
