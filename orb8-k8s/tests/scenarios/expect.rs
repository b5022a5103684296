//! What a scenario expects.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use orb8_k8s::index::Index;
use orb8_k8s::watch::{Health, WatchHealth};
use serde::Deserialize;

/// How long what is expected may take, unless the scenario says.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is asked.
pub(crate) struct World<'a> {
    pub(crate) index: &'a Index,
    pub(crate) health: &'a Health,
}

/// What has to hold at last, all at once. An empty text is nobody.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// It holds at once, and for so long.
    for_ms: Option<u64>,
    /// Namespace/name by address, now.
    pods: BTreeMap<IpAddr, String>,
    /// Namespace/name by container id.
    containers: BTreeMap<String, String>,
    /// Namespace/name by TCP address and port.
    services: BTreeMap<std::net::SocketAddr, String>,
    /// Name by address.
    nodes: BTreeMap<IpAddr, String>,
    /// Kind/name by the pod's address.
    controllers: BTreeMap<IpAddr, String>,
    /// Pods in the index.
    pod_count: Option<u64>,
    connected: Option<bool>,
    synced: Option<bool>,
    /// Within what the server lacks; empty: nothing.
    lacking: Option<String>,
    /// By watch.
    watches: BTreeMap<String, ExpectWatch>,
}

/// What has to hold for a watch.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ExpectWatch {
    state: Option<String>,
    synced: Option<bool>,
    /// Within its error; empty: there is none.
    error: Option<String>,
    lists: Option<u64>,
    objects: Option<u64>,
    bad_objects: Option<u64>,
    reconnections: Option<u64>,
    /// At least.
    stalls: Option<u64>,
}

impl Expect {
    /// Waits until it holds, or says what does not.
    pub(crate) async fn met(&self, world: &World<'_>) -> Result<(), Box<dyn Error>> {
        let begun = Instant::now();
        let lasts = self.for_ms.map(Duration::from_millis);
        loop {
            let wrong = self.wrong(world);
            match (wrong.is_empty(), lasts) {
                (true, None) => return Ok(()),
                (true, Some(lasts)) if begun.elapsed() >= lasts => return Ok(()),
                (true, Some(_)) => {}
                (false, None) if begun.elapsed() < PATIENCE => {}
                (false, _) => return Err(wrong.join("; ").into()),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn wrong(&self, World { index, health }: &World<'_>) -> Vec<String> {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let mut wrong = Wrong::default();
        for (ip, expected) in &self.pods {
            let pod = index.pod_at(*ip, now);
            wrong.unless(expected, pod.map(|pod| format!("{}/{}", pod.namespace, pod.name)), ip);
        }
        for (id, expected) in &self.containers {
            let pod = index.container(id).map(|(pod, ..)| pod);
            wrong.unless(expected, pod.map(|pod| format!("{}/{}", pod.namespace, pod.name)), id);
        }
        for (ip, expected) in &self.controllers {
            let controller = index.pod_at(*ip, now).and_then(|pod| pod.controller.clone());
            let found = controller.map(|owner| format!("{}/{}", owner.kind, owner.name));
            wrong.unless(expected, found, format!("controller of {ip}"));
        }
        for (address, expected) in &self.services {
            let found = index.service_at(address.ip(), 6, address.port());
            let found = found.map(|it| format!("{}/{}", it.service.namespace, it.service.name));
            wrong.unless(expected, found, address);
        }
        for (ip, expected) in &self.nodes {
            wrong.unless(expected, index.node_at(*ip).map(|node| node.name.to_string()), ip);
        }
        wrong.unless_equal(self.pod_count, index.counts().pods, "pods in the index");
        wrong.unless_equal(self.connected, health.is_connected(), "connected");
        wrong.unless_equal(self.synced, health.is_synced(), "synced");
        wrong.unless_within(self.lacking.as_deref(), health.lacking(), "lacking");
        let watches = health.watches();
        for (name, expected) in &self.watches {
            match watches.iter().find(|watch| format!("{:?}", watch.source) == *name) {
                Some(watch) => expected.compare(watch, &mut wrong),
                None => wrong.0.push(format!("there is no watch {name}")),
            }
        }
        wrong.0
    }
}

impl ExpectWatch {
    fn compare(&self, watch: &WatchHealth, wrong: &mut Wrong) {
        let what = |field: &str| format!("{field} of {:?}", watch.source);
        wrong.unless_equal(self.state.clone(), format!("{:?}", watch.state), what("state"));
        wrong.unless_equal(self.synced, watch.synced, what("synced"));
        wrong.unless_equal(self.lists, watch.lists, what("lists"));
        wrong.unless_equal(self.objects, watch.objects, what("objects"));
        wrong.unless_equal(self.bad_objects, watch.bad_objects, what("bad_objects"));
        wrong.unless_equal(self.reconnections, watch.reconnections, what("reconnections"));
        if self.stalls.is_some_and(|least| watch.stalls < least) {
            wrong.0.push(format!("{}: {}", what("stalls"), watch.stalls));
        }
        wrong.unless_within(self.error.as_deref(), watch.error.clone(), what("error"));
    }
}

#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, expected: &str, found: Option<String>, what: impl ToString) {
        self.unless_equal(Some(expected.to_owned()), found.unwrap_or_default(), what);
    }

    /// An empty text is none.
    fn unless_within(&mut self, part: Option<&str>, found: Option<String>, what: impl ToString) {
        match (part, found) {
            (None, _) | (Some(""), None) => {}
            (Some(part), Some(found)) if !part.is_empty() && found.contains(part) => {}
            (Some(part), found) => {
                self.0.push(format!("{} is {found:?}, not `{part}`", what.to_string()));
            }
        }
    }

    fn unless_equal<T: PartialEq + std::fmt::Debug>(
        &mut self,
        expected: Option<T>,
        found: T,
        what: impl ToString,
    ) {
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            self.0.push(format!("{} is {found:?}, not {expected:?}", what.to_string()));
        }
    }
}
