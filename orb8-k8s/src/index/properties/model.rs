//! The model: what there is, and each answer worked out anew from all of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::tests::date;
use super::super::tracker::Source;
use super::kind_of;

pub(super) const IPS: [&str; 3] = ["10.0.0.1", "10.0.0.2", "fd00::3"];
pub(super) const PORTS: [u16; 3] = [80, 81, 30080];

/// What an object is, besides its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    Service,
    Slice,
    Node,
    Owner(&'static str),
}

/// An object, with only what answers depend on.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) uid: String,
    kind: Kind,
    source: u8,
    created: i64,
    /// Some were queued for longer than others.
    started: i64,
    ips: BTreeSet<&'static str>,
    /// A Service's other addresses.
    external: BTreeSet<&'static str>,
    is_mirror: bool,
    /// Kind and name, which is also the uid, of its controller.
    up: Option<(&'static str, String)>,
    /// What a Service leads to by one port, and a slice's Service.
    port: u16,
    node_port: Option<u16>,
    service: u8,
}

/// Makes an object that differs with the variant, but for what never changes in one.
pub(super) fn object(source: Source, number: u8, variant: u64) -> Object {
    let kind = kind_of(source);
    let prefix = match kind {
        Kind::Pod => "pod",
        Kind::Service => "service",
        Kind::Slice => "slice",
        Kind::Node => "node",
        Kind::Owner(kind) => kind,
    };
    let bit = |bit: u32| variant >> bit & 1 == 1;
    let ups = ["ReplicaSet", "Job", "StatefulSet", "Pod", "Deployment"];
    let up = ups[(variant >> 8) as usize % ups.len()];
    let prefix_of_up = if up == "Pod" { "pod" } else { up };
    let ended = kind == Kind::Pod && bit(7);
    let ips = IPS.iter().zip(0..).filter(|(_, index)| bit(*index) && !ended);
    let external = IPS.iter().zip(24..).filter(|(_, index)| bit(*index));
    let is_mirror = kind == Kind::Pod && bit(27) && bit(28);
    Object {
        uid: format!("{prefix}-{number}"),
        kind,
        source: source as u8,
        // Pairs were made at the same time, and others started at the same time.
        created: -100 * i64::from(number / 2),
        started: -100 * i64::from(number % 2),
        ips: ips.map(|(ip, _)| *ip).collect(),
        external: external.map(|(ip, _)| *ip).collect(),
        is_mirror,
        up: (bit(3) && !is_mirror && matches!(kind, Kind::Pod | Kind::Owner(_)))
            .then(|| (up, format!("{prefix_of_up}-{}", variant >> 16 & 3))),
        port: if bit(4) { 80 } else { 81 },
        node_port: bit(5).then_some(30080),
        service: (variant >> 20 & 1) as u8,
    }
}

impl Object {
    pub(super) fn json(&self) -> Value {
        let mut object = match self.kind {
            Kind::Pod => self.pod(),
            Kind::Service => self.service(),
            Kind::Slice => self.slice(),
            Kind::Node => {
                let all = self.ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip}));
                json!({"status": {"addresses": all.collect::<Vec<_>>()}})
            }
            Kind::Owner(_) => json!({}),
        };
        let node = self.is_mirror.then(|| ("Node", "node".to_owned()));
        let references = self.up.iter().chain(&node).map(|(kind, name)| {
            json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": name, "controller": true})
        });
        object["metadata"] = json!({
            "namespace": "ns",
            "name": self.uid,
            "uid": self.uid,
            "creationTimestamp": date(self.created),
            "labels": {"kubernetes.io/service-name": format!("service-{}", self.service)},
            "annotations": {"kubernetes.io/config.mirror": format!("hash-of-{}", self.uid)},
            "ownerReferences": references.collect::<Vec<_>>(),
        });
        object
    }

    fn pod(&self) -> Value {
        let ips: Vec<_> = self.ips.iter().map(|ip| json!({"ip": ip})).collect();
        let id = format!("containerd://{}-{}", self.uid, self.port);
        json!({
            "spec": {"containers": [{"name": "main"}]},
            "status": {
                "phase": "Running",
                "podIPs": ips,
                "startTime": date(self.started),
                "containerStatuses": [{"name": "main", "containerID": id}],
            },
        })
    }

    fn service(&self) -> Value {
        let ports = json!([{"name": "web", "port": self.port, "nodePort": self.node_port}]);
        let spec = json!({"clusterIPs": self.ips, "externalIPs": self.external, "ports": ports});
        json!({"spec": spec})
    }

    fn slice(&self) -> Value {
        json!({
            "endpoints": [{"addresses": self.ips}],
            "ports": [{"name": "web", "port": self.port}],
        })
    }
}

/// What the watches told.
#[derive(Default)]
pub(super) struct Model {
    /// By source, with whether it was in the latest list.
    told: BTreeMap<(u8, String), bool>,
    listing: BTreeSet<u8>,
    /// Sources that are up to date.
    current: BTreeSet<u8>,
    /// By uid; pods once, whichever watch told of them.
    objects: BTreeMap<String, Object>,
    /// Owners and pods that are gone, with what controlled them.
    gone: BTreeMap<String, Option<(&'static str, String)>>,
    /// Who has which address.
    holders: BTreeMap<&'static str, String>,
    changes: BTreeMap<&'static str, usize>,
}

impl Model {
    pub(super) fn begin(&mut self, source: Source) {
        self.listing.insert(source as u8);
        self.current.remove(&(source as u8));
        self.told
            .iter_mut()
            .filter(|((of, _), _)| *of == source as u8)
            .for_each(|(_, seen)| *seen = false);
    }

    pub(super) fn apply(&mut self, source: Source, object: Object) {
        self.told.insert((source as u8, object.uid.clone()), true);
        let is_local = self.told.contains_key(&(Source::LocalPods as u8, object.uid.clone()));
        if source == Source::RemotePods && is_local {
            return;
        }
        self.change(|model| {
            model.gone.remove(&object.uid);
            let has = if object.kind == Kind::Pod { object.ips.clone() } else { BTreeSet::new() };
            let before = model.objects.insert(object.uid.clone(), object);
            let had = before.map(|before| before.ips).unwrap_or_default();
            has.difference(&had).copied().collect()
        });
    }

    /// Marks an object as listed.
    pub(super) fn keep(&mut self, source: Source, uid: &str) {
        if let Some(seen) = self.told.get_mut(&(source as u8, uid.to_owned())) {
            *seen = true;
        }
    }

    pub(super) fn interrupted(&mut self, source: Source) {
        self.current.remove(&(source as u8));
    }

    pub(super) fn caught_up(&mut self, source: Source) {
        if self.current.insert(source as u8) {
            self.change(|_| IPS.to_vec());
        }
    }

    pub(super) fn delete(&mut self, source: Source, uid: &str) {
        if self.told.remove(&(source as u8, uid.to_owned())).is_some() {
            self.change(Self::remove_untold);
        }
    }

    pub(super) fn finish(&mut self, source: Source) {
        self.listing.remove(&(source as u8));
        self.told.retain(|(of, _), seen| *of != source as u8 || *seen);
        let is_news = self.current.insert(source as u8);
        self.change(|model| {
            model.remove_untold();
            if is_news { IPS.to_vec() } else { Vec::new() }
        });
    }

    pub(super) fn is_listed(&self, source: Source) -> bool {
        self.listing.contains(&(source as u8))
    }

    pub(super) fn is_listing(&self) -> bool {
        !self.listing.is_empty()
    }

    pub(super) fn pods(&self) -> Vec<String> {
        self.of(Kind::Pod).map(|pod| pod.uid.clone()).collect()
    }

    pub(super) fn holder(&self, ip: &str) -> Option<String> {
        self.holders.get(ip).cloned()
    }

    /// Of the pods that have an address, the one of a source that is up to date, and of those the
    /// one that started last.
    fn highest(&self, ip: &str) -> Option<&Object> {
        let pods = self.of(Kind::Pod).filter(|pod| pod.ips.contains(ip));
        pods.max_by_key(|pod| (self.current.contains(&pod.source), pod.started, &pod.uid))
    }

    /// The uid of a static pod's mirror.
    pub(super) fn mirror(&self, uid: &str) -> Option<String> {
        let is_local = |pod: &&Object| pod.source == Source::LocalPods as u8 && pod.is_mirror;
        self.objects.get(uid).filter(is_local).map(|pod| pod.uid.clone())
    }

    /// How often an address changed hands.
    pub(super) fn changes(&self, ip: &str) -> usize {
        self.changes.get(ip).copied().unwrap_or(0)
    }

    pub(super) fn node_at(&self, ip: &str) -> Option<String> {
        let nodes = self.of(Kind::Node).filter(|node| node.ips.contains(ip));
        nodes.max_by_key(|node| (node.created, &node.uid)).map(|node| node.uid.clone())
    }

    pub(super) fn controller(&self, uid: &str) -> Option<String> {
        let up = |uid: &str| match self.objects.get(uid) {
            Some(object) => object.up.clone(),
            None => self.gone.get(uid).cloned().flatten(),
        };
        // One that controls itself is controlled by nothing.
        let up = |uid: &str| up(uid).filter(|(_, above)| above != uid);
        let mut top = up(uid)?;
        for _ in 1..8 {
            let Some(above) = up(&top.1) else { break };
            top = above;
        }
        Some(format!("{}/{}", top.0, top.1))
    }

    pub(super) fn service_at(&self, ip: &str, port: u16) -> Option<String> {
        let services = || self.of(Kind::Service);
        let with_port =
            |kind: &str, service: &Object| format!("ns/{}:{} {kind}", service.uid, service.port);
        let cluster: Vec<_> = services().filter(|service| service.ips.contains(ip)).collect();
        let (kind, has) = match cluster.is_empty() {
            true => {
                let external = services().filter(|service| service.external.contains(ip));
                ("External", external.collect())
            }
            false => ("Cluster", cluster),
        };
        // Of several, the first by name: all have one namespace.
        let exact = has.iter().find(|service| service.port == port);
        let is_pod = self.holder(ip).is_some();
        if let Some(service) = exact.filter(|_| !is_pod || kind == "Cluster") {
            return Some(with_port(kind, service));
        }
        if is_pod {
            return None;
        }
        if let Some(found) = self.endpoint_at(ip, port).filter(|_| kind == "External") {
            return Some(found);
        }
        if self.node_at(ip).is_some() {
            let found = services().find(|service| service.node_port == Some(port))?;
            return Some(with_port("NodePort", found));
        }
        match has[..] {
            [service] => Some(format!("ns/{} {kind}", service.uid)),
            _ => None,
        }
    }

    fn endpoint_at(&self, ip: &str, port: u16) -> Option<String> {
        let slices = self.of(Kind::Slice);
        let leading = slices.filter(|slice| slice.ips.contains(ip) && slice.port == port);
        let name = format!("service-{}", leading.map(|slice| slice.service).min()?);
        let port = self.objects.get(&name).map(|service| format!(":{}", service.port));
        Some(format!("ns/{name}{} Endpoint", port.unwrap_or_default()))
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.values().filter(move |object| object.kind == kind)
    }

    /// Takes in a change, which returns the addresses whose holder it puts in question. Others change
    /// hands where their holder has them no longer.
    fn change(&mut self, change: impl FnOnce(&mut Self) -> Vec<&'static str>) {
        let contested = change(self);
        for ip in IPS {
            let before = self.holder(ip);
            let has = |uid: &String| self.objects.get(uid).is_some_and(|pod| pod.ips.contains(ip));
            if before.as_ref().is_some_and(has) && !contested.contains(&ip) {
                continue;
            }
            let after = self.highest(ip).map(|pod| pod.uid.clone());
            *self.changes.entry(ip).or_default() += usize::from(before != after);
            match after {
                Some(uid) => drop(self.holders.insert(ip, uid)),
                None => drop(self.holders.remove(ip)),
            }
        }
        self.forget_unused();
    }

    fn remove_untold(&mut self) -> Vec<&'static str> {
        let told: BTreeSet<_> = self.told.keys().map(|(_, uid)| uid.clone()).collect();
        for (uid, object) in self.objects.extract_if(.., |uid, _| !told.contains(uid)) {
            if matches!(object.kind, Kind::Pod | Kind::Owner(_)) {
                self.gone.insert(uid, object.up);
            }
        }
        Vec::new()
    }

    /// What is gone stays only while it controls, directly or not, something that is there.
    fn forget_unused(&mut self) {
        let mut used = BTreeSet::new();
        for object in self.objects.values() {
            let mut up = object.up.clone();
            while let Some((_, uid)) = up {
                if !used.insert(uid.clone()) {
                    break;
                }
                up = self.gone.get(&uid).cloned().flatten();
            }
        }
        self.gone.retain(|uid, _| used.contains(uid));
    }
}
