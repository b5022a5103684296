//! What readers get; see `properties` for orders of events.

mod owners;
mod pods;
mod services;
mod versions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::wire::{EndpointSliceObject, NodeObject, Object, OwnerObject, PodObject, ServiceObject};

/// 2024-01-01, and the clock when a test starts.
const START: u64 = 1_704_067_200;

/// An index with a clock that the test sets. Times are seconds from the start.
pub(super) struct World {
    pub(super) index: Index,
    pub(super) writer: IndexWriter,
    clock: Arc<AtomicU64>,
}

impl World {
    pub(super) fn new() -> Self {
        let clock = Arc::new(AtomicU64::new(at(0)));
        let tells = Arc::clone(&clock);
        let (index, writer) = Index::with_clock(Arc::new(move || tells.load(Ordering::Relaxed)));
        Self { index, writer, clock }
    }

    /// With all watches up to date.
    pub(super) fn synced() -> Self {
        let mut world = Self::new();
        for source in SOURCES {
            world.list(source, &[]);
        }
        world
    }

    pub(super) fn set_time(&self, seconds: i64) {
        self.clock.store(at(seconds), Ordering::Relaxed);
    }

    pub(super) fn apply(&mut self, source: Source, object: &Value) {
        self.writer.apply(source, parse(source, object));
    }

    pub(super) fn delete(&mut self, source: Source, object: &Value) {
        match parse(source, object) {
            Object::Pod(object) => self.writer.delete(source, &object.metadata),
            Object::Service(object) => self.writer.delete(source, &object.metadata),
            Object::EndpointSlice(object) => self.writer.delete(source, &object.metadata),
            Object::Node(object) => self.writer.delete(source, &object.metadata),
            Object::Owner(object) => self.writer.delete(source, &object.metadata),
        }
    }

    pub(super) fn list(&mut self, source: Source, objects: &[&Value]) {
        self.writer.begin(source);
        for object in objects {
            self.apply(source, object);
        }
        self.writer.finish(source);
    }

    /// Name of the pod that had an address at a time.
    pub(super) fn pod_at(&self, ip: &str, seconds: i64) -> Option<String> {
        let pod = self.index.pod_at(ip.parse().unwrap(), at(seconds))?;
        Some(pod.name.to_string())
    }

    /// `Kind/name` of a pod's controller.
    pub(super) fn controller(&self, uid: &str) -> Option<String> {
        let controller = self.index.pod(uid)?.controller.clone()?;
        Some(format!("{}/{}", controller.kind, controller.name))
    }

    /// `namespace/name:port kind` of an address.
    pub(super) fn service_at(&self, ip: &str, protocol: u8, port: u16) -> Option<String> {
        let found = self.index.service_at(ip.parse().unwrap(), protocol, port)?;
        let port = found.port.map(|port| format!(":{port}")).unwrap_or_default();
        let service = &found.service;
        Some(format!("{}/{}{port} {:?}", service.namespace, service.name, found.kind))
    }
}

pub(super) const SOURCES: [Source; 8] = [
    Source::LocalPods,
    Source::RemotePods,
    Source::Services,
    Source::EndpointSlices,
    Source::Nodes,
    Source::ReplicaSets,
    Source::Jobs,
    Source::StatefulSets,
];

/// Nanoseconds of unix time.
pub(super) fn at(seconds: i64) -> u64 {
    START.checked_add_signed(seconds).unwrap() * 1_000_000_000
}

/// A time as the API server prints it.
pub(super) fn date(seconds: i64) -> String {
    Timestamp::from_nanosecond(at(seconds).into()).unwrap().to_string()
}

pub(super) fn parse(source: Source, object: &Value) -> Object {
    fn read<T: DeserializeOwned>(object: &Value) -> T {
        serde_json::from_value(object.clone()).unwrap()
    }
    match source {
        Source::LocalPods | Source::RemotePods => read::<PodObject>(object).into(),
        Source::Services => read::<ServiceObject>(object).into(),
        Source::EndpointSlices => read::<EndpointSliceObject>(object).into(),
        Source::Nodes => read::<NodeObject>(object).into(),
        Source::ReplicaSets | Source::Jobs | Source::StatefulSets => {
            read::<OwnerObject>(object).into()
        }
    }
}

/// A running pod whose uid is its name, made and started at a time.
pub(super) fn pod(name: &str, ip: &str, created: i64) -> Value {
    json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name,
                     "creationTimestamp": date(created)},
        "spec": {"nodeName": "node-a", "containers": [{"name": "main"}]},
        "status": {"phase": "Running", "podIP": ip, "startTime": date(created)},
    })
}

/// Any object with only metadata.
pub(super) fn object(name: &str) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name, "uid": name}})
}

/// An object with a controller, by kind and name; its uid is its name.
pub(super) fn owned(mut object: Value, kind: &str, name: &str) -> Value {
    let version = match kind {
        "Pod" | "Node" => "v1",
        "Job" | "CronJob" => "batch/v1",
        _ => "apps/v1",
    };
    object["metadata"]["ownerReferences"] = json!([
        {"apiVersion": version, "kind": kind, "name": name, "uid": name, "controller": true}
    ]);
    object
}

/// The mirror of a static pod, by the uid that the kubelet gave that.
pub(super) fn mirror(name: &str, hash: &str) -> Value {
    let mut mirror = owned(pod(name, "", 0), "Node", "node-a");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": hash});
    mirror
}

/// A Service with one address.
pub(super) fn service(name: &str, ip: &str, ports: &Value) -> Value {
    let mut service = object(name);
    service["spec"] = json!({"clusterIP": ip, "ports": ports});
    service
}
