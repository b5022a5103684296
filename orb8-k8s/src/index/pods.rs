//! Pods, their containers, and who has which address.

use std::sync::Arc;

use hashbrown::HashMap;

use super::departed::Thing;
use super::owners::{Owners, Reference};
use super::tables::{Address, End, Known, Located, Tables, Versions};
use super::tracker::Source;
use super::writer::{Context, Identity};
use crate::object::{Container, ContainerKind, Pod, Text};
use crate::wire::{self, PodObject};

/// The pods that there are.
#[derive(Default)]
pub(super) struct Pods {
    /// By uid.
    records: HashMap<Text, Record, foldhash::fast::RandomState>,
    /// Pods whose address a higher one has too; they get it back if they outlive that one.
    rivals: HashMap<Address, Vec<Text>, foldhash::fast::RandomState>,
}

/// What is known of a pod besides what readers see. Times are nanoseconds of unix time.
struct Record {
    pod: Arc<Pod>,
    started: Option<u64>,
    /// When it was last told of.
    told: u64,
    /// Which watch did.
    source: Source,
    /// Ids of its containers, also of their instances before a restart.
    containers: Box<[Box<str>]>,
}

impl Pods {
    pub(super) fn len(&self) -> u64 {
        self.records.len() as u64
    }

    /// How many addresses several pods have.
    pub(super) fn conflicts(&self) -> u64 {
        self.rivals.len() as u64
    }

    /// Takes in a pod as a source has it.
    pub(super) fn apply(
        &mut self,
        cx: &mut Context,
        owners: &mut Owners,
        source: Source,
        object: &PodObject,
        identity: Identity,
    ) {
        let uid = &identity.uid.clone();
        let reference = wire::controller(&object.metadata);
        let reference = reference.and_then(|read| Reference::read(read, &mut cx.names));
        let is_relinked = owners.set(uid, reference);
        let (pod, located) = read(cx, owners, object, identity, source);
        let before = self.records.remove(uid);
        // Where its source was not watched, it may have given its addresses up any time since then.
        let held = before.as_ref().map_or(0, |record| record.told);
        let end = End { noticed: cx.now, held: held.max(cx.trackers.of(source).seen(cx.now)) };
        let containers: Box<[_]> = located.iter().map(|(id, ..)| id.clone()).collect();
        let is_same = before
            .as_ref()
            .is_some_and(|record| *record.pod == pod && record.containers == containers);
        let pod = match &before {
            Some(record) if is_same => Arc::clone(&record.pod),
            _ => Arc::new(pod),
        };
        let record = Record {
            pod: Arc::clone(&pod),
            started: object.started(),
            told: cx.now,
            source,
            containers,
        };
        self.records.insert(uid.clone(), record);
        if !is_same {
            publish_containers(cx, &pod, located, before.as_ref());
            self.publish(cx, &pod, before.as_ref().map(|record| &*record.pod), end);
        }
        if is_relinked {
            self.name_owners(cx, owners, uid);
        }
    }

    /// Takes in that a pod is gone, which was last certain to be there at a time.
    pub(super) fn remove(&mut self, cx: &mut Context, owners: &mut Owners, uid: &Text, seen: u64) {
        let Some(record) = self.records.remove(uid) else {
            return;
        };
        owners.remove(uid);
        cx.changed = true;
        let end = End { noticed: cx.now, held: record.told.max(seen) };
        for ip in &record.pod.ips {
            self.release(cx, Address::from(*ip), uid, end);
        }
        let guard = cx.tables.guard();
        if record.source != Source::LocalPods {
            cx.tables.pods.remove(uid, &guard);
            return;
        }
        let known = Known { pod: Arc::clone(&record.pod), is_gone: true };
        cx.tables.pods.insert(uid.clone(), known, &guard);
        cx.departed.push(cx.now, Thing::Pod(uid.clone()));
        for id in record.containers {
            cx.departed.push(cx.now, Thing::Container(id));
        }
    }

    /// Names the controllers of all pods below an object anew.
    pub(super) fn name_owners(&mut self, cx: &mut Context, owners: &Owners, uid: &str) {
        for uid in owners.below(uid) {
            let Some(record) = self.records.get_mut(&uid) else {
                continue;
            };
            let controller = owners.top(&uid, &record.pod.labels, &mut cx.names);
            if controller == record.pod.controller {
                continue;
            }
            let before = Arc::clone(&record.pod);
            let pod = Arc::new(Pod { controller, ..(*before).clone() });
            record.pod = Arc::clone(&pod);
            update_containers(cx, &pod, &record.containers);
            self.publish(cx, &pod, Some(&before), End { noticed: cx.now, held: cx.now });
        }
    }

    /// Forgets something that is gone, unless it came back.
    pub(super) fn forget(&self, cx: &Context, thing: &Thing, at: u64) {
        let tables = &cx.tables;
        let guard = tables.guard();
        match thing {
            Thing::Pod(uid) if !self.records.contains_key(uid) => {
                let known = tables.pods.remove(uid, &guard);
                if let Some(known) = known {
                    forget_static(tables, &known.pod);
                }
            }
            Thing::Container(id) => {
                let owner = tables.containers.get(id, &guard).map(|located| &located.pod.uid);
                let record = owner.and_then(|uid| self.records.get(uid));
                if !record.is_some_and(|record| record.containers.contains(id)) {
                    tables.containers.remove(id, &guard);
                }
            }
            Thing::Address(address) => {
                let kept = tables.addresses.get(address, &guard).and_then(|all| all.since(at));
                match kept {
                    Some(versions) => drop(tables.addresses.insert(*address, versions, &guard)),
                    None => drop(tables.addresses.remove(address, &guard)),
                }
            }
            Thing::Pod(_) => {}
        }
    }

    /// Shows a pod to readers, and gives it its addresses.
    fn publish(&mut self, cx: &mut Context, pod: &Arc<Pod>, before: Option<&Pod>, end: End) {
        cx.changed = true;
        let tables = Arc::clone(&cx.tables);
        let guard = tables.guard();
        let known = Known { pod: Arc::clone(pod), is_gone: false };
        let former = tables.pods.insert(pod.uid.clone(), known, &guard);
        if let Some(former) = former.filter(|former| former.pod.config_hash != pod.config_hash) {
            forget_static(&tables, &former.pod);
        }
        if let Some(hash) = &pod.config_hash {
            tables.static_pods.insert(hash.clone(), pod.uid.clone(), &guard);
        }
        let former = before.map(|before| &*before.ips).unwrap_or_default();
        for ip in &pod.ips {
            match former.contains(ip) {
                true => update(cx, Address::from(*ip), pod),
                false => self.hold(cx, Address::from(*ip), pod),
            }
        }
        for ip in former.iter().filter(|ip| !pod.ips.contains(ip)) {
            self.release(cx, Address::from(*ip), &pod.uid, end);
        }
    }

    /// Gives a pod an address that it has from now on, unless a higher one has it.
    fn hold(&mut self, cx: &mut Context, address: Address, pod: &Arc<Pod>) {
        let tables = Arc::clone(&cx.tables);
        let guard = tables.guard();
        let Some(versions) = tables.addresses.get(&address, &guard) else {
            tables.addresses.insert(address, Versions::first(Arc::clone(pod)), &guard);
            return;
        };
        if versions.is_held() {
            self.add_rival(address, &pod.uid);
            self.contest(cx, address);
            return;
        }
        let started = self.records.get(&pod.uid).and_then(|record| record.started);
        tables.addresses.insert(address, versions.opened(Arc::clone(pod), started), &guard);
    }

    /// Decides anew whose the addresses are that several pods have, after a source caught up.
    pub(super) fn settle(&mut self, cx: &mut Context) {
        let contested: Vec<_> = self.rivals.keys().copied().collect();
        for address in contested {
            self.contest(cx, address);
        }
    }

    /// Gives an address to the highest of the pods that have it.
    fn contest(&mut self, cx: &mut Context, address: Address) {
        let tables = Arc::clone(&cx.tables);
        let guard = tables.guard();
        let Some(versions) = tables.addresses.get(&address, &guard) else {
            return;
        };
        let (Some(holder), Some(heir)) = (versions.holder(), self.heir(cx, address)) else {
            return;
        };
        if self.rank(cx, &holder.uid) > self.rank(cx, &heir.pod.uid) {
            return;
        }
        let told = self.records.get(&holder.uid).map_or(0, |record| record.told);
        let held = cx.trackers.pod_held(&holder.uid, told, cx.now);
        let pod = Arc::clone(&heir.pod);
        let next = versions.released(End { noticed: cx.now, held });
        let next = next.opened(Arc::clone(&pod), heir.started);
        self.add_rival(address, &holder.uid);
        self.remove_rival(address, &pod.uid);
        cx.departed.push(cx.now, Thing::Address(address));
        tables.addresses.insert(address, next, &guard);
        cx.changed = true;
    }

    /// Takes an address from a pod, and gives it back to who has it too.
    fn release(&mut self, cx: &mut Context, address: Address, uid: &Text, end: End) {
        self.remove_rival(address, uid);
        let tables = Arc::clone(&cx.tables);
        let guard = tables.guard();
        let Some(versions) = tables.addresses.get(&address, &guard) else {
            return;
        };
        if versions.holder().is_none_or(|holder| holder.uid != *uid) {
            return;
        }
        let mut next = versions.released(end);
        if let Some(heir) = self.heir(cx, address) {
            let pod = Arc::clone(&heir.pod);
            next = next.opened(Arc::clone(&pod), heir.started);
            self.remove_rival(address, &pod.uid);
        }
        cx.departed.push(cx.now, Thing::Address(address));
        tables.addresses.insert(address, next, &guard);
    }

    /// Who has an address after its holder.
    fn heir(&self, cx: &Context, address: Address) -> Option<&Record> {
        let rivals = self.rivals.get(&address)?;
        self.records.get(rivals.iter().max_by_key(|uid| self.rank(cx, uid))?)
    }

    /// Of two pods with one address, it is the higher one's. One that may be gone without anybody
    /// having told is lower, then the one that started earlier: it may have been queued for longer.
    fn rank<'a>(&self, cx: &Context, uid: &'a Text) -> (bool, Option<u64>, &'a Text) {
        let record = self.records.get(uid);
        let is_current = record.is_some_and(|one| cx.trackers.of(one.source).is_current());
        (is_current, record.and_then(|record| record.started), uid)
    }

    fn add_rival(&mut self, address: Address, uid: &Text) {
        let rivals = self.rivals.entry(address).or_default();
        if !rivals.contains(uid) {
            rivals.push(uid.clone());
        }
    }

    fn remove_rival(&mut self, address: Address, uid: &Text) {
        let Some(rivals) = self.rivals.get_mut(&address) else {
            return;
        };
        rivals.retain(|rival| rival != uid);
        if rivals.is_empty() {
            self.rivals.remove(&address);
        }
    }
}

/// Shows a pod as it is now as the one that has an address, if it has.
fn update(cx: &Context, address: Address, pod: &Arc<Pod>) {
    let guard = cx.tables.guard();
    let versions = cx.tables.addresses.get(&address, &guard);
    let is_holder = |versions: &&Versions| versions.holder().is_some_and(|it| it.uid == pod.uid);
    if let Some(versions) = versions.filter(is_holder) {
        cx.tables.addresses.insert(address, versions.updated(Arc::clone(pod)), &guard);
    }
}

/// Forgets that a pod is a static pod's mirror. The one that was made anew since then is not it.
fn forget_static(tables: &Tables, pod: &Pod) {
    if let Some(hash) = &pod.config_hash {
        let is_own = |_: &Text, mirror: &Text| *mirror == pod.uid;
        let _ = tables.static_pods.remove_if(hash, is_own, &tables.guard());
    }
}

/// A container's id, name and kind.
type Place = (Box<str>, Text, ContainerKind);

/// Reads a pod, and where its containers are.
fn read(
    cx: &mut Context,
    owners: &Owners,
    object: &PodObject,
    Identity { namespace, name, uid }: Identity,
    source: Source,
) -> (Pod, Vec<Place>) {
    let is_local = source == Source::LocalPods;
    let names = &mut cx.names;
    let labels = names.labels(object.metadata.labels.as_ref());
    let addresses = object.addresses();
    cx.skipped_addresses += addresses.skipped;
    let mut located = Vec::new();
    let mut containers = Vec::new();
    for facts in object.containers().filter(|_| is_local) {
        let name = names.text(facts.name);
        let ids = facts.previous.into_iter().chain(facts.id);
        located.extend(ids.map(|id| (id.into(), name.clone(), facts.kind)));
        containers.push(Container { id: facts.id.map(Box::from), name, kind: facts.kind });
    }
    let pod = Pod {
        namespace,
        name,
        config_hash: names.optional(object.config_hash().filter(|_| is_local)),
        node: names.optional(object.node()),
        controller: owners.top(&uid, &labels, names),
        uid,
        labels,
        host_network: object.host_network(),
        ips: addresses.ips.into(),
        containers: containers.into(),
        phase: object.phase(),
    };
    (pod, located)
}

/// Shows a pod's containers to readers. Those that it no longer has stay a while.
fn publish_containers(
    cx: &mut Context,
    pod: &Arc<Pod>,
    located: Vec<Place>,
    before: Option<&Record>,
) {
    let former = before.map(|record| &*record.containers).unwrap_or_default();
    for id in former.iter().filter(|former| !located.iter().any(|(id, ..)| id == *former)) {
        cx.departed.push(cx.now, Thing::Container(id.clone()));
    }
    let guard = cx.tables.guard();
    for (id, name, kind) in located {
        cx.tables.containers.insert(id, Located { pod: Arc::clone(pod), name, kind }, &guard);
    }
}

/// Shows a pod as it is now as the one that its containers are in.
fn update_containers(cx: &Context, pod: &Arc<Pod>, ids: &[Box<str>]) {
    let guard = cx.tables.guard();
    for id in ids {
        let Some(Located { name, kind, .. }) = cx.tables.containers.get(id, &guard) else {
            continue;
        };
        let located = Located { pod: Arc::clone(pod), name: name.clone(), kind: *kind };
        cx.tables.containers.insert(id.clone(), located, &guard);
    }
}
