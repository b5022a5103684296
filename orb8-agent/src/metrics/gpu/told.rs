//! Values of a metric, each with the metric's own labels.

use std::time::Duration;

use crate::metrics::family::{Label, Text, Value};

/// Values with a metric's own labels.
pub(super) struct Told {
    labels: &'static [&'static str],
    values: Vec<(Vec<Label>, Value)>,
}

impl Told {
    pub(super) const fn new(labels: &'static [&'static str]) -> Self {
        Self { labels, values: Vec::new() }
    }

    /// Returns what was told, and begins anew.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Vec<Label>, Value)> {
        std::mem::take(&mut self.values).into_iter()
    }

    pub(super) fn gauge(&mut self, value: Option<f64>) {
        self.put([], value.map(Value::Gauge));
    }

    pub(super) fn bytes(&mut self, value: Option<u64>) {
        self.gauge(value.map(|bytes| bytes as f64));
    }

    pub(super) fn number(&mut self, value: Option<u32>) {
        self.gauge(value.map(f64::from));
    }

    pub(super) fn flag(&mut self, value: Option<bool>) {
        self.gauge(value.map(|is| if is { 1.0 } else { 0.0 }));
    }

    pub(super) fn count(&mut self, value: u64) {
        self.put([], Some(Value::Count(value)));
    }

    pub(super) fn time(&mut self, value: Duration) {
        self.put([], Some(Value::Sum(value.as_secs_f64())));
    }

    /// Adds a value with the metric's own labels, in their order. Those that are empty are left out.
    pub(super) fn put<const N: usize>(&mut self, own: [Text; N], value: Option<Value>) {
        let Some(value) = value else { return };
        let labels = self.labels.iter().copied().zip(own);
        let labels = labels.filter(|(_, text)| !text.as_str().is_empty()).collect();
        self.values.push((labels, value));
    }

    pub(super) fn gauge_of(&mut self, label: &'static str, value: Option<f64>) {
        self.put([label.into()], value.map(Value::Gauge));
    }

    pub(super) fn count_of(&mut self, label: &'static str, value: Option<u64>) {
        self.put([label.into()], value.map(Value::Count));
    }

    pub(super) fn time_of(&mut self, label: &'static str, value: Duration) {
        self.put([label.into()], Some(Value::Sum(value.as_secs_f64())));
    }
}
