//! From what the watches tell to what readers read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;

use super::departed::Departed;
use super::names::Names;
use super::nodes::Nodes;
use super::owners::{Owners, Reference};
use super::pods::Pods;
use super::services::Services;
use super::tables::Tables;
use super::tracker::{Source, Trackers};
use super::{Clock, Counts, Index};
use crate::object::Text;
use crate::wire::{self, Object};

/// Keeps an [`Index`] up to date with what the watches tell. Readers never wait for it, and each
/// step costs as much as it changes.
///
/// A list is [`begin`](Self::begin), [`apply`](Self::apply) for each object, and
/// [`finish`](Self::finish); between lists, changes are [`apply`](Self::apply) and
/// [`delete`](Self::delete). What is known stays known whatever happens to a watch.
pub struct IndexWriter {
    cx: Context,
    clock: Clock,
    pods: Pods,
    pub(super) owners: Owners,
    services: Services,
    nodes: Nodes,
}

/// What a change needs of the rest.
pub(super) struct Context {
    pub(super) tables: Arc<Tables>,
    pub(super) names: Names,
    pub(super) trackers: Trackers,
    pub(super) departed: Departed,
    /// The current change's time, in nanoseconds of unix time; it never goes back.
    pub(super) now: u64,
    /// Whether a reader could see the current change.
    pub(super) changed: bool,
    pub(super) skipped_addresses: u64,
    skipped_objects: u64,
}

/// What identifies an object of a namespace.
pub(super) struct Identity {
    pub(super) namespace: Text,
    pub(super) name: Text,
    pub(super) uid: Text,
}

impl IndexWriter {
    pub(super) fn new(tables: Arc<Tables>, clock: Clock) -> Self {
        let cx = Context {
            tables,
            names: Names::default(),
            trackers: Trackers::default(),
            departed: Departed::default(),
            now: 0,
            changed: false,
            skipped_addresses: 0,
            skipped_objects: 0,
        };
        Self {
            cx,
            clock,
            pods: Pods::default(),
            owners: Owners::default(),
            services: Services::default(),
            nodes: Nodes::default(),
        }
    }

    /// Returns the index that it writes.
    #[must_use]
    pub fn index(&self) -> Index {
        Index(Arc::clone(&self.cx.tables))
    }

    /// Starts a list of a source: objects that are not applied until [`Self::finish`] are gone. It
    /// may be started again without an end.
    pub fn begin(&mut self, source: Source) {
        self.cx.trackers.of_mut(source).begin();
    }

    /// Takes in an object that was listed, added or modified. One without its name, namespace or
    /// uid, or of a kind that is not the source's, is counted and left out.
    pub fn apply(&mut self, source: Source, object: impl Into<Object>) {
        self.apply_object(source, &object.into());
    }

    /// Takes in that an object is still there, which may be all that can be read of it: what is
    /// known of it stays.
    pub fn keep(&mut self, source: Source, uid: &str) {
        self.start(source);
        self.cx.trackers.of_mut(source).keep(uid);
        self.end();
    }

    /// Takes in that an object is gone from a source.
    pub fn delete(&mut self, source: Source, meta: &ObjectMeta) {
        self.start(source);
        let seen = self.cx.trackers.of(source).seen(self.cx.now);
        if let Some(uid) = meta.uid.as_deref()
            && self.cx.trackers.of_mut(source).remove(uid)
        {
            let uid = self.cx.names.text(uid);
            self.remove(source, &uid, seen);
        }
        self.end();
    }

    /// Ends a list.
    pub fn finish(&mut self, source: Source) {
        self.start(source);
        let seen = self.cx.trackers.of(source).seen(self.cx.now);
        let tracker = self.cx.trackers.of_mut(source);
        let gone = tracker.finish();
        let is_news = tracker.caught_up(self.cx.now);
        for uid in gone {
            self.remove(source, &uid, seen);
        }
        if is_news {
            self.pods.settle(&mut self.cx);
        }
        self.end();
    }

    /// Notes that a source's stream broke: until it is [`Self::current`] again or was listed, what
    /// it tells happened at some time since it was last up to date.
    pub fn interrupted(&mut self, source: Source) {
        self.cx.trackers.of_mut(source).interrupted();
    }

    /// Notes that a source has told all there is to tell up to now: a bookmark came.
    pub fn current(&mut self, source: Source) {
        self.tell_time();
        if self.cx.trackers.of_mut(source).caught_up(self.cx.now) {
            self.pods.settle(&mut self.cx);
        }
        self.end();
    }

    /// Forgets what is long gone, which every change does too.
    pub fn expire(&mut self) {
        self.tell_time();
        self.end();
    }

    fn tell_time(&mut self) {
        // The clock may be set back.
        self.cx.now = self.cx.now.max((self.clock)());
    }

    fn start(&mut self, source: Source) {
        self.tell_time();
        self.cx.trackers.of_mut(source).touch(self.cx.now);
    }

    fn apply_object(&mut self, source: Source, object: &Object) {
        self.start(source);
        match self.take_in(source, object) {
            Some(uid) => self.cx.trackers.of_mut(source).add(uid),
            None => self.cx.skipped_objects += 1,
        }
        self.end();
    }

    /// Takes in an object, and returns its uid; `None` where it cannot be told from others.
    fn take_in(&mut self, source: Source, object: &Object) -> Option<Text> {
        let cx = &mut self.cx;
        let meta = Some(meta_of(object)).filter(|_| is_of(object, source))?;
        let uid = cx.names.text(wire::given(meta.uid.as_ref())?);
        let name = cx.names.text(wire::given(meta.name.as_ref())?);
        let namespace = wire::given(meta.namespace.as_ref()).map(|given| cx.names.text(given));
        let identity = || {
            let namespace = namespace?;
            Some(Identity { namespace, name: name.clone(), uid: uid.clone() })
        };
        match object {
            // The watch of this node's pods is ahead of the other one, and knows more.
            Object::Pod(_)
                if source == Source::RemotePods && cx.trackers.of(Source::LocalPods).has(&uid) => {}
            Object::Pod(pod) => {
                self.pods.apply(cx, &mut self.owners, source, pod, identity()?);
            }
            Object::Service(service) => self.services.apply(cx, service, &identity()?),
            Object::EndpointSlice(slice) => self.services.apply_slice(cx, slice, &identity()?),
            Object::Node(node) => self.nodes.apply(cx, node, name, &uid),
            Object::Owner(owner) => {
                let reference = wire::controller(&owner.metadata);
                let reference = reference.and_then(|read| Reference::read(read, &mut cx.names));
                if self.owners.set(&uid, reference) {
                    self.pods.name_owners(cx, &self.owners, &uid);
                }
            }
        }
        Some(uid)
    }

    /// Takes in that an object is gone, which surely was there until a time.
    fn remove(&mut self, source: Source, uid: &Text, seen: u64) {
        self.cx.names.changed();
        match source {
            // It may have been scheduled: then one watch has it no longer, and the other one has.
            Source::LocalPods | Source::RemotePods if self.cx.trackers.have_pod(uid) => {}
            Source::LocalPods | Source::RemotePods => {
                self.pods.remove(&mut self.cx, &mut self.owners, uid, seen);
            }
            Source::Services => self.services.remove(&mut self.cx, uid),
            Source::EndpointSlices => self.services.remove_slice(&mut self.cx, uid),
            Source::Nodes => self.nodes.remove(&mut self.cx, uid),
            Source::ReplicaSets | Source::Jobs | Source::StatefulSets => self.owners.remove(uid),
        }
    }

    fn end(&mut self) {
        self.cx.names.changed();
        while let Some((at, thing)) = self.cx.departed.pop(self.cx.now) {
            self.pods.forget(&self.cx, &thing, at);
        }
        self.cx.tables.figures.set(self.counts());
        if std::mem::take(&mut self.cx.changed) {
            self.cx.tables.generation.fetch_add(1, Ordering::Release);
        }
    }

    fn counts(&self) -> Counts {
        let len = |source| self.cx.trackers.of(source).len();
        Counts {
            pods: self.pods.len(),
            local_pods: len(Source::LocalPods),
            services: len(Source::Services),
            endpoints: self.services.endpoints(),
            nodes: len(Source::Nodes),
            owners: len(Source::ReplicaSets) + len(Source::Jobs) + len(Source::StatefulSets),
            conflicts: self.pods.conflicts(),
            skipped_addresses: self.cx.skipped_addresses,
            skipped_objects: self.cx.skipped_objects,
        }
    }
}

impl fmt::Debug for IndexWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexWriter").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

fn meta_of(object: &Object) -> &ObjectMeta {
    match object {
        Object::Pod(object) => object.meta(),
        Object::Service(object) => object.meta(),
        Object::EndpointSlice(object) => object.meta(),
        Object::Node(object) => object.meta(),
        Object::Owner(object) => object.meta(),
    }
}

/// Whether a source has objects of this kind.
fn is_of(object: &Object, source: Source) -> bool {
    match source {
        Source::LocalPods | Source::RemotePods => matches!(object, Object::Pod(_)),
        Source::Services => matches!(object, Object::Service(_)),
        Source::EndpointSlices => matches!(object, Object::EndpointSlice(_)),
        Source::Nodes => matches!(object, Object::Node(_)),
        Source::ReplicaSets | Source::Jobs | Source::StatefulSets => {
            matches!(object, Object::Owner(_))
        }
    }
}
