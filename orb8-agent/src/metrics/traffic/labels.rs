//! Which labels tell whose traffic it is: the user's choice, and what they are for somebody.

use std::sync::Arc;

use crate::identity::Party;
use crate::metrics::family::{Label, Text};

/// Between words of which the first that is known is told.
const OR: char = '|';

/// What the root cgroup's workload is called.
const HOST: &str = "host";

/// The value of every label of what had no room.
pub(super) const OTHER: &str = "other";

/// Something that can be a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Word {
    Namespace,
    Workload,
    WorkloadKind,
    Pod,
    Container,
    Unit,
    PeerNamespace,
    PeerWorkload,
    PeerPod,
    PeerService,
    PeerNode,
}

/// Every word, with its label's name.
const WORDS: &[(&str, &str, Word)] = &[
    ("namespace", "namespace", Word::Namespace),
    ("workload", "workload", Word::Workload),
    ("workload-kind", "workload_kind", Word::WorkloadKind),
    ("pod", "pod", Word::Pod),
    ("container", "container", Word::Container),
    ("unit", "unit", Word::Unit),
    ("peer-namespace", "peer_namespace", Word::PeerNamespace),
    ("peer-workload", "peer_workload", Word::PeerWorkload),
    ("peer-pod", "peer_pod", Word::PeerPod),
    ("peer-service", "peer_service", Word::PeerService),
    ("peer-node", "peer_node", Word::PeerNode),
];

/// Labels that tell whose traffic it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelChoice(Vec<Entry>);

/// One label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: &'static str,
    /// The first one that is known is its value.
    words: Vec<Word>,
}

impl LabelChoice {
    /// No labels: everything is one.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Reads words as in `namespace,workload|pod`.
    ///
    /// # Errors
    ///
    /// What is wrong, in words that follow the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut entries: Vec<Entry> = Vec::new();
        for entry in text.split(',') {
            let words: Vec<_> =
                entry.split(OR).map(|word| named(word.trim())).collect::<Result<_, _>>()?;
            let Some((name, _)) = words.first().copied() else { continue };
            if entries.iter().any(|known| known.name == name) {
                return Err(format!("has the label {name} twice; leave one out"));
            }
            entries.push(Entry { name, words: words.into_iter().map(|(_, word)| word).collect() });
        }
        Ok(Self(entries))
    }

    /// Returns the names of the labels.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|entry| entry.name)
    }

    /// Returns the words that can be chosen.
    #[must_use]
    pub fn words() -> String {
        WORDS.iter().map(|(word, ..)| *word).collect::<Vec<_>>().join(", ")
    }

    /// Whether a label tells of the other end.
    pub(super) fn has_peer(&self) -> bool {
        self.0.iter().flat_map(|entry| &entry.words).any(|word| word.is_of_peer())
    }

    /// Returns the labels of an owner, and of who is at the other end. What is not known is left out.
    pub(super) fn of(&self, owner: &Party, peer: &Party) -> Vec<Label> {
        let value = |entry: &Entry| {
            let known = entry.words.iter().find_map(|word| word.value(owner, peer));
            known.filter(|value| !value.as_str().is_empty())
        };
        self.0.iter().filter_map(|entry| Some((entry.name, value(entry)?))).collect()
    }

    /// Returns the labels of what had no room.
    pub(super) fn other(&self) -> Vec<Label> {
        self.names().map(|name| (name, Text::Word(OTHER))).collect()
    }
}

fn named(text: &str) -> Result<(&'static str, Word), String> {
    let found = WORDS.iter().find(|(word, ..)| *word == text);
    found.map(|(_, label, word)| (*label, *word)).ok_or_else(|| {
        let words = LabelChoice::words();
        format!(
            "must be words separated by commas, or by | where the first that is known is wanted; \
             `{text}` is none of {words}, and `off` stands for no labels"
        )
    })
}

impl Word {
    const fn is_of_peer(self) -> bool {
        match self {
            Self::Namespace
            | Self::Workload
            | Self::WorkloadKind
            | Self::Pod
            | Self::Container
            | Self::Unit => false,
            Self::PeerNamespace
            | Self::PeerWorkload
            | Self::PeerPod
            | Self::PeerService
            | Self::PeerNode => true,
        }
    }

    fn value(self, owner: &Party, peer: &Party) -> Option<Text> {
        let party = if self.is_of_peer() { peer } else { owner };
        match self {
            Self::Namespace | Self::PeerNamespace => found(party.namespace()?),
            Self::Workload | Self::PeerWorkload => workload(party).map(|(_, name)| name),
            Self::WorkloadKind => workload(party).map(|(kind, _)| kind),
            Self::Pod | Self::PeerPod => found(party.pod_name()?),
            Self::Container => found(party.workload()?.container_label()?),
            Self::Unit => found(party.workload()?.unit.as_deref()?),
            Self::PeerService => Some(Arc::clone(&party.service()?.service.name).into()),
            Self::PeerNode => found(party.node_name()?),
        }
    }
}

/// Returns the kind and name of what is started and scaled as one, as far as that is known.
fn workload(party: &Party) -> Option<(Text, Text)> {
    if let Some(controller) = party.controller() {
        return Some((Arc::clone(&controller.kind).into(), Arc::clone(&controller.name).into()));
    }
    let kind = |kind: &'static str, name: &str| Some((Text::Word(kind), found(name)?));
    if let Some(pod) = party.pod_name() {
        return kind("Pod", pod);
    }
    let owner = party.workload()?;
    if let Some(container) = owner.container_label() {
        return kind("Container", container);
    }
    match owner.unit.as_deref() {
        Some(unit) => kind("Unit", unit),
        None if owner.is_root() => kind("Host", HOST),
        None => None,
    }
}

fn found(text: &str) -> Option<Text> {
    Some(Text::Found(text.into()))
}

#[cfg(test)]
mod tests;
