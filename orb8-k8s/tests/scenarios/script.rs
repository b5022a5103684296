//! Scenario files.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use orb8_k8s::testing::objects;
use serde::Deserialize;
use serde_json::Value;

use crate::expect::Expect;

/// A scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What it shows.
    #[expect(dead_code, reason = "for who reads the file")]
    about: String,
    /// Why a real server cannot run it.
    pub(crate) only_in_process: Option<String>,
    /// What a real server has to have: a path; old ones lack some.
    pub(crate) needs: Option<String>,
    /// What the in-process server makes of streamed lists: `refused`, `ignored` or `cut`.
    pub(crate) streaming: Option<String>,
    /// How often the in-process server sends bookmarks.
    pub(crate) bookmarks_ms: Option<u64>,
    /// Silence that is taken for a stall.
    pub(crate) quiet_ms: Option<u64>,
    /// How long an answer may take.
    pub(crate) answer_ms: Option<u64>,
    pub(crate) step: Vec<Step>,
}

/// What happens.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// The watches start.
    Start {},
    /// An object is created or replaced.
    Apply(Box<Thing>),
    /// An object is deleted: resource, and namespace/name.
    Delete(String, String),
    /// The server: `cut`, `close`, `open`, `freeze`, `thaw`, `compact`, `restore` or `permit`.
    Server(String),
    /// A verb on a resource gets a status.
    Refuse(String, String, u16),
    /// Everything gets a status.
    RefuseAll(u16),
    /// Each event takes so long.
    SlowMs(u64),
    /// So many pods on other nodes are created, `bulk/pod-N` at 10.128.x.y.
    Bulk(u32),
    /// Pods of `bulk` are replaced by others with their addresses: so many, and per second.
    Churn(u32, u32),
    /// Time passes.
    WaitMs(u64),
    /// What the index and the health say at last.
    Expect(Box<Expect>),
}

/// An object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Thing {
    /// Namespace/name; exactly one of these.
    pod: Option<String>,
    service: Option<String>,
    slice: Option<String>,
    node: Option<String>,
    replicaset: Option<String>,
    statefulset: Option<String>,
    job: Option<String>,
    /// Of a pod.
    on: Option<String>,
    phase: Option<String>,
    #[serde(default)]
    ips: Vec<String>,
    port: Option<u16>,
    uid: Option<String>,
    /// Kind, name and uid of the controller.
    controller: Option<(String, String, String)>,
    /// Overrides, by JSON pointer; the last field may be new.
    #[serde(default)]
    set: BTreeMap<String, Value>,
}

impl Scenario {
    pub(crate) fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        Ok(toml::from_str(&std::fs::read_to_string(path)?)?)
    }
}

impl Step {
    /// For messages.
    pub(crate) fn name(&self) -> String {
        let text = format!("{self:?}");
        text.chars().take(80).collect()
    }
}

impl Thing {
    /// As the API has it.
    pub(crate) fn object(&self) -> Value {
        let ips: Vec<&str> = self.ips.iter().map(String::as_str).collect();
        let port = self.port.unwrap_or(80);
        let mut object = if let Some((namespace, name)) = halves(self.pod.as_ref()) {
            let pod = objects::pod(namespace, name, self.on.as_deref().unwrap_or("n2"), &ips);
            objects::with_phase(pod, self.phase.as_deref().unwrap_or("Running"))
        } else if let Some((namespace, name)) = halves(self.service.as_ref()) {
            objects::service(namespace, name, ips.first().copied(), port)
        } else if let Some((namespace, name)) = halves(self.slice.as_ref()) {
            objects::endpoint_slice(namespace, name, &ips, port)
        } else if let Some(name) = &self.node {
            objects::node(name, &ips)
        } else {
            self.owner()
        };
        if let Some(uid) = &self.uid {
            object = objects::with_uid(object, uid);
        }
        if let Some((kind, name, uid)) = &self.controller {
            object = objects::owned(object, kind, name, uid);
        }
        for (pointer, value) in &self.set {
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            match object.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
                Value::Array(values) => values[field.parse::<usize>().unwrap()] = value.clone(),
                parent => parent[field] = value.clone(),
            }
        }
        object
    }

    fn owner(&self) -> Value {
        let owners = [
            ("ReplicaSet", &self.replicaset),
            ("StatefulSet", &self.statefulset),
            ("Job", &self.job),
        ];
        let found = owners.iter().find_map(|(kind, name)| Some((*kind, halves(name.as_ref())?)));
        let (kind, (namespace, name)) = found.expect("a thing of some kind");
        objects::owner(kind, namespace, name, self.uid.as_deref().unwrap_or(name))
    }
}

fn halves(name: Option<&String>) -> Option<(&str, &str)> {
    name.map(|name| name.split_once('/').expect("namespace/name"))
}
