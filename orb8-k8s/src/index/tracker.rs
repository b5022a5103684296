//! What each watch has told.

use hashbrown::HashMap;

use crate::object::Text;

/// A watch that objects come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Pods of this node.
    LocalPods,
    /// Pods of other nodes, and of none yet.
    RemotePods,
    /// Services.
    Services,
    /// EndpointSlices.
    EndpointSlices,
    /// Nodes.
    Nodes,
    /// ReplicaSets.
    ReplicaSets,
    /// Jobs.
    Jobs,
    /// StatefulSets.
    StatefulSets,
}

impl Source {
    /// How many there are.
    const COUNT: usize = Self::StatefulSets as usize + 1;
}

/// A [`Tracker`] of each source.
#[derive(Default)]
pub(super) struct Trackers([Tracker; Source::COUNT]);

impl Trackers {
    pub(super) fn of(&self, source: Source) -> &Tracker {
        &self.0[source as usize]
    }

    pub(super) fn of_mut(&mut self, source: Source) -> &mut Tracker {
        &mut self.0[source as usize]
    }

    /// Whether either watch of pods has told of a pod.
    pub(super) fn have_pod(&self, uid: &str) -> bool {
        self.of(Source::LocalPods).has(uid) || self.of(Source::RemotePods).has(uid)
    }

    /// When a pod surely was, given when it was last told of.
    pub(super) fn pod_held(&self, uid: &str, told: u64, now: u64) -> u64 {
        let sources = [Source::LocalPods, Source::RemotePods].map(|source| self.of(source));
        let seen = sources.iter().filter(|tracker| tracker.has(uid)).map(|one| one.seen(now));
        seen.max().unwrap_or(0).max(told)
    }
}

/// Which objects a source has, by uid, and whether it is up to date.
#[derive(Default)]
pub(super) struct Tracker {
    /// With the list that they were last in.
    objects: HashMap<Text, u32, foldhash::fast::RandomState>,
    list: u32,
    is_current: bool,
    /// When it last was up to date.
    last: u64,
}

impl Tracker {
    pub(super) fn begin(&mut self) {
        self.is_current = false;
        self.list = self.list.wrapping_add(1);
    }

    /// Ends a list; the objects that were not in it are forgotten and returned.
    pub(super) fn finish(&mut self) -> Vec<Text> {
        let list = self.list;
        let gone = self.objects.extract_if(|_, seen| *seen != list);
        gone.map(|(uid, _)| uid).collect()
    }

    pub(super) fn interrupted(&mut self) {
        self.is_current = false;
    }

    /// Returns whether it was not up to date before.
    pub(super) fn caught_up(&mut self, now: u64) -> bool {
        self.last = now;
        !std::mem::replace(&mut self.is_current, true)
    }

    /// Whether it has told all there is to tell.
    pub(super) fn is_current(&self) -> bool {
        self.is_current
    }

    /// Notes an event.
    pub(super) fn touch(&mut self, now: u64) {
        if self.is_current {
            self.last = now;
        }
    }

    pub(super) fn add(&mut self, uid: Text) {
        self.objects.insert(uid, self.list);
    }

    /// Notes that an object that was there is in the list too.
    pub(super) fn keep(&mut self, uid: &str) {
        if let Some(seen) = self.objects.get_mut(uid) {
            *seen = self.list;
        }
    }

    /// Returns whether it was there.
    pub(super) fn remove(&mut self, uid: &str) -> bool {
        self.objects.remove(uid).is_some()
    }

    pub(super) fn has(&self, uid: &str) -> bool {
        self.objects.contains_key(uid)
    }

    pub(super) fn len(&self) -> u64 {
        self.objects.len() as u64
    }

    /// Until when its objects surely were as it told.
    pub(super) fn seen(&self, now: u64) -> u64 {
        if self.is_current { now } else { self.last }
    }
}
