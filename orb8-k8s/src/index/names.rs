//! One copy of each text and set of labels.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashSet;

use crate::object::{Labels, Text};

/// Fewer are not worth looking through.
const MIN_SWEEP: usize = 1_024;

/// Texts and labels in use, shared.
#[derive(Default)]
pub(super) struct Names {
    texts: Shared<str>,
    labels: Shared<[(Text, Text)]>,
    /// Objects that came or went since the last sweep.
    changes: usize,
    /// Texts that the last sweep left.
    left: usize,
}

impl Names {
    pub(super) fn text(&mut self, text: &str) -> Text {
        self.texts.get(text)
    }

    pub(super) fn optional(&mut self, text: Option<&str>) -> Option<Text> {
        text.map(|text| self.text(text))
    }

    pub(super) fn labels(&mut self, labels: Option<&BTreeMap<String, String>>) -> Labels {
        let pairs = labels.into_iter().flatten();
        let pairs: Vec<_> =
            pairs.map(|(key, value)| (self.texts.get(key), self.texts.get(value))).collect();
        self.labels.get(&pairs)
    }

    /// Notes that an object came, changed or went. Once in a while, what nobody uses is forgotten:
    /// after as many changes as there were texts, so that a change costs the same however many.
    pub(super) fn changed(&mut self) {
        self.changes += 1;
        if self.changes >= self.left.max(MIN_SWEEP) {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        self.labels.sweep();
        self.texts.sweep();
        self.changes = 0;
        self.left = self.texts.known.len();
    }
}

struct Shared<T: ?Sized> {
    known: HashSet<Arc<T>, foldhash::fast::RandomState>,
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self { known: HashSet::default() }
    }
}

impl<T: Hash + Eq + ?Sized> Shared<T>
where
    Arc<T>: Borrow<T> + for<'a> From<&'a T>,
{
    fn get(&mut self, value: &T) -> Arc<T> {
        Arc::clone(self.known.get_or_insert_with(value, |value| Arc::from(value)))
    }

    fn sweep(&mut self) {
        self.known.retain(|value| Arc::strong_count(value) > 1);
        self.known.shrink_to(self.known.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_and_labels_are_one() {
        let mut names = Names::default();
        assert!(Arc::ptr_eq(&names.text("web"), &names.text("web")));
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let (one, other) = (names.labels(Some(&labels)), names.labels(Some(&labels)));
        assert!(Arc::ptr_eq(&one, &other));
        assert!(Arc::ptr_eq(&one[0].1, &names.text("web")));
        assert!(names.labels(None).is_empty());
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let mut names = Names::default();
        let kept = names.text("kept");
        for pod in 0..10 * MIN_SWEEP {
            let labels = BTreeMap::from([("pod".to_owned(), pod.to_string())]);
            names.labels(Some(&labels));
            names.changed();
        }
        assert!(names.texts.known.len() < 4 * MIN_SWEEP, "{}", names.texts.known.len());
        assert!(names.labels.known.len() < 4 * MIN_SWEEP);
        assert!(Arc::ptr_eq(&kept, &names.text("kept")));
    }
}
