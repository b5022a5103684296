//! Who controls whom.
//!
//! Owners may be told of after the objects that they own, and go before them: a Deployment's pods
//! end after their ReplicaSet is gone. An owner that is gone is kept while something below it is
//! there, so that a pod's controller does not change while it ends.

use hashbrown::{HashMap, HashSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::names::Names;
use crate::object::{Controller, Text};
use crate::wire;

/// The longest chain in use has five links (LeaderWorkerSet); a longer one is a mistake or a circle.
const MAX_DEPTH: usize = 8;

/// What a Deployment's pods are marked with; their ReplicaSet's name is the Deployment's, a dash,
/// and this.
const TEMPLATE_HASH: &str = "pod-template-hash";

type ByUid<T> = HashMap<Text, T, foldhash::fast::RandomState>;
type Uids = HashSet<Text, foldhash::fast::RandomState>;

/// What an object says of its controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    uid: Text,
    api_version: Text,
    controller: Controller,
}

impl Reference {
    /// Reads a reference. A static pod's is to its node, which controls nothing.
    pub(super) fn read(reference: &OwnerReference, names: &mut Names) -> Option<Self> {
        (!wire::is_node(reference)).then(|| Self {
            uid: names.text(&reference.uid),
            api_version: names.text(&reference.api_version),
            controller: Controller {
                kind: names.text(&reference.kind),
                name: names.text(&reference.name),
            },
        })
    }
}

/// Owners and pods, and what controls them.
#[derive(Debug, Default)]
pub(super) struct Owners {
    links: ByUid<Link>,
    /// What says that an object controls it, whether that object is known or not.
    dependents: ByUid<Uids>,
}

#[derive(Debug)]
struct Link {
    up: Option<Reference>,
    is_gone: bool,
}

impl Owners {
    /// Takes in what an object says of its controller; returns whether anything changed.
    pub(super) fn set(&mut self, uid: &Text, up: Option<Reference>) -> bool {
        let up = up.filter(|up| up.uid != *uid);
        if let Some(link) = self.links.get_mut(uid) {
            link.is_gone = false;
            if link.up == up {
                return false;
            }
        }
        let former = self.forget(uid);
        if let Some(up) = &up {
            self.dependents.entry(up.uid.clone()).or_default().insert(uid.clone());
        }
        self.links.insert(uid.clone(), Link { up, is_gone: false });
        if let Some(former) = former {
            self.forget_unused(&former.uid);
        }
        true
    }

    /// Takes in that an object is gone.
    pub(super) fn remove(&mut self, uid: &str) {
        if let Some(link) = self.links.get_mut(uid) {
            link.is_gone = true;
        }
        self.forget_unused(uid);
    }

    fn forget_unused(&mut self, uid: &str) {
        for unused in self.unused(uid) {
            self.forget(&unused);
        }
    }

    /// What of an object and those above it is gone and controls nothing that is not.
    fn unused(&self, uid: &str) -> Vec<Text> {
        let mut unused: Vec<Text> = Vec::new();
        let mut next = self.links.get_key_value(uid);
        while let Some((uid, link)) = next.take() {
            // A circle ends where it began.
            if !link.is_gone || unused.contains(uid) || self.is_used(uid) {
                break;
            }
            unused.push(uid.clone());
            next = link.up.as_ref().and_then(|up| self.links.get_key_value(&up.uid));
        }
        unused
    }

    /// Whether an object controls one that is there, directly or not.
    fn is_used(&self, uid: &str) -> bool {
        let mut seen = HashSet::<&Text, foldhash::fast::RandomState>::default();
        let mut left: Vec<&Text> = self.dependents.get(uid).into_iter().flatten().collect();
        while let Some(uid) = left.pop() {
            if self.links.get(uid).is_some_and(|link| !link.is_gone) {
                return true;
            }
            if seen.insert(uid) {
                left.extend(self.dependents.get(uid).into_iter().flatten());
            }
        }
        false
    }

    /// Drops an object's link, and with it the place below its controller, which is returned.
    fn forget(&mut self, uid: &str) -> Option<Reference> {
        let up = self.links.remove(uid)?.up?;
        if let Some(dependents) = self.dependents.get_mut(&up.uid) {
            dependents.remove(uid);
            if dependents.is_empty() {
                self.dependents.remove(&up.uid);
            }
        }
        Some(up)
    }

    /// Returns all that an object controls, directly or not, as far as chains reach.
    pub(super) fn below(&self, uid: &str) -> Uids {
        let mut below = Uids::default();
        let mut level: Vec<&Text> = self.dependents.get(uid).into_iter().flatten().collect();
        for _ in 0..MAX_DEPTH {
            level.retain(|uid| below.insert(Text::clone(uid)));
            level = level.iter().filter_map(|uid| self.dependents.get(*uid)).flatten().collect();
        }
        below
    }

    /// Returns the controller at the top of an object's chain, as far as it is known.
    ///
    /// Where a ReplicaSet has not been told of (its watch is behind, or refused), the pod's label
    /// and the ReplicaSet's name tell the Deployment: its controller builds the one from the other.
    /// Only a ReplicaSet that was orphaned keeps such a name, and once it is known it is believed.
    pub(super) fn top(
        &self,
        uid: &str,
        labels: &[(Text, Text)],
        names: &mut Names,
    ) -> Option<Controller> {
        let direct = self.links.get(uid)?.up.as_ref()?;
        if !self.links.contains_key(&direct.uid)
            && let Some(deployment) = deployment_of(direct, labels)
        {
            return Some(Controller {
                kind: names.text("Deployment"),
                name: names.text(deployment),
            });
        }
        let mut top = direct;
        for _ in 1..MAX_DEPTH {
            let Some(up) = self.links.get(&top.uid).and_then(|link| link.up.as_ref()) else {
                break;
            };
            top = up;
        }
        Some(top.controller.clone())
    }
}

fn deployment_of<'a>(direct: &'a Reference, labels: &[(Text, Text)]) -> Option<&'a str> {
    let Reference { api_version, controller: Controller { kind, name }, .. } = direct;
    // Others have a kind of that name too.
    if &**kind != "ReplicaSet" || !api_version.starts_with("apps/") {
        return None;
    }
    let (_, hash) = labels.iter().find(|(key, _)| &**key == TEMPLATE_HASH)?;
    let name = name.strip_suffix(&**hash)?.strip_suffix('-')?;
    (!hash.is_empty() && !name.is_empty()).then_some(name)
}

#[cfg(test)]
impl Owners {
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty() && self.dependents.is_empty()
    }
}
