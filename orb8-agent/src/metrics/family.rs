//! Metrics as plain data: what every exporter reads, and no exporter's own shape.
//!
//! ```text
//! the agent's table ─┐                 ┌─▶ text, OpenMetrics, protobuf (encode)
//!                    ├─▶ Vec<Family> ──┤
//! traffic series ────┘                 └─▶ OTLP
//! ```

use std::sync::Arc;

use crate::event::UnixNanos;

/// All samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Name as Prometheus has it: a counter's ends in `_total`, after the unit if there is one.
    pub name: &'static str,
    /// What it is, one sentence with its full stop.
    pub help: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// What they are counted in, `None` for things.
    pub unit: Option<Unit>,
    /// One for each label set; no two have the same.
    pub samples: Vec<Sample>,
}

/// What the values of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Sums that never go back: [`Value::Count`] or [`Value::Sum`].
    Counter,
    /// [`Value::Gauge`]s.
    Gauge,
    /// [`Value::Histogram`]s.
    Histogram,
}

/// Base units of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// One value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What tells it from the others.
    pub labels: Labels,
    /// Its value.
    pub value: Value,
    /// When a counter or histogram began at zero; without meaning for gauges.
    pub since: UnixNanos,
}

/// What was counted or measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a counter in parts of its unit.
    Sum(f64),
    /// As it is now.
    Gauge(f64),
    /// How often what was measured.
    Histogram(Arc<Distribution>),
}

/// Labels. Cheap to clone; names are unique, values are never empty: what is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Whose it is, by the user's choice of labels: shared by everything of that owner.
    pub owner: Option<Arc<[Label]>>,
    /// The family's own.
    pub own: [Option<Label>; 2],
}

/// Name and value of a label.
pub type Label = (&'static str, Text);

/// A label's value.
#[derive(Clone, Debug)]
pub enum Text {
    /// One of ours.
    Word(&'static str),
    /// One that was found.
    Found(Arc<str>),
}

/// What was measured, in both ways that histograms are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Upper bounds (inclusive) of the classic buckets, ascending, in the family's unit; a last bucket
    /// beyond them has none.
    pub bounds: &'static [f64],
    /// How often in each of them: one more than there are bounds. Not cumulative.
    pub counts: Vec<u64>,
    /// The same in exponential buckets.
    pub exponential: Exponential,
    /// Sum of the values.
    pub sum: f64,
    /// How many there are.
    pub count: u64,
}

/// Counts in buckets that each are [`SCALE`]'s factor wider than the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exponential {
    /// Values up to [`ZERO_THRESHOLD`].
    pub zero: u64,
    /// Index of the first bucket below: bucket `i` counts values of `(factor^(i-1), factor^i]`, as
    /// Prometheus numbers them. (OpenTelemetry's offset is one less.)
    pub first: i32,
    /// Counts from there on, without holes; the first and the last are not 0.
    pub counts: Vec<u64>,
}

/// Scale (schema) of exponential buckets: their factor is `2^(2^-SCALE)`, here 1.09, which puts a
/// quantile at most 4.5 % off.
pub const SCALE: i32 = 3;

/// Seconds that count as zero, 2^-20, about a microsecond: nothing that goes over a network is faster.
pub const ZERO_THRESHOLD: f64 = 1.0 / 1_048_576.0;

impl Kind {
    /// Returns Prometheus's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Unit {
    /// Returns the unit that a family's name ends in, as the convention has it.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let name = name.strip_suffix("_total").unwrap_or(name);
        [Self::Bytes, Self::Seconds]
            .into_iter()
            .find(|unit| name.strip_suffix(unit.word()).is_some_and(|rest| rest.ends_with('_')))
    }

    /// Returns its word in names.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
        }
    }
}

impl Labels {
    /// Labels of a family's own.
    #[must_use]
    pub const fn own(first: Label) -> Self {
        Self { owner: None, own: [Some(first), None] }
    }

    /// Returns names and values, the owner's first.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let owner = self.owner.as_deref().unwrap_or_default().iter();
        owner.chain(self.own.iter().flatten()).map(|(name, value)| (*name, value.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl Text {
    /// Returns the value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Found(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<&'static str> for Text {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self::Found(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_units() {
        assert_eq!(Unit::of("orb8_flow_bytes_total"), Some(Unit::Bytes));
        assert_eq!(Unit::of("orb8_dns_latency_seconds"), Some(Unit::Seconds));
        assert_eq!(Unit::of("orb8_agent_resident_memory_bytes"), Some(Unit::Bytes));
        assert_eq!(Unit::of("orb8_flow_packets_total"), None);
        assert_eq!(Unit::of("orb8_kilobytes"), None);
    }

    #[test]
    fn labels_are_the_owners_and_then_the_familys() {
        let owner: Arc<[Label]> = [("namespace", Text::from("shop"))].into();
        let labels = Labels {
            owner: Some(owner),
            own: [
                Some(("direction", "egress".into())),
                Some(("reason", Arc::<str>::from("no").into())),
            ],
        };
        let all: Vec<_> = labels.iter().collect();
        assert_eq!(all, [("namespace", "shop"), ("direction", "egress"), ("reason", "no")]);
        assert!(!labels.is_empty() && Labels::default().is_empty());
        assert_eq!(Text::from("no"), Arc::<str>::from("no").into());
    }
}
