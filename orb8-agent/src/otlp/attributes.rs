//! Attributes of what is exported. What is not known is left out.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};

/// Names and values; each name once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// Adds a text, unless there is none.
    pub(super) fn text<'a>(&mut self, key: &str, value: impl Into<Option<&'a str>>) {
        if let Some(value) = value.into().filter(|value| !value.is_empty()) {
            self.add(key, Value::StringValue(value.to_owned()));
        }
    }

    /// Adds a number. What is beyond the protocol's is told as its largest.
    pub(super) fn number(&mut self, key: &str, value: impl Into<u64>) {
        self.add(key, Value::IntValue(i64::try_from(value.into()).unwrap_or(i64::MAX)));
    }

    /// Adds nanoseconds as seconds, which is what the conventions have for durations.
    pub(super) fn seconds(&mut self, key: &str, nanos: Option<u64>) {
        if let Some(nanos) = nanos {
            self.add(key, Value::DoubleValue(nanos as f64 / 1e9));
        }
    }

    /// Adds what is true; what is not goes without saying.
    pub(super) fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.add(key, Value::BoolValue(true));
        }
    }

    /// Adds texts, unless there are none.
    pub(super) fn list(&mut self, key: &str, values: impl IntoIterator<Item = String>) {
        let text = |value| AnyValue { value: Some(Value::StringValue(value)) };
        let values: Vec<AnyValue> = values.into_iter().map(text).collect();
        if !values.is_empty() {
            self.add(key, Value::ArrayValue(ArrayValue { values }));
        }
    }

    /// Returns them as messages have them.
    pub(super) fn into_messages(self) -> Vec<KeyValue> {
        self.0
    }

    /// Whether the name is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|pair| pair.key == key)
    }

    fn add(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
}

/// Returns a text as messages have values.
pub(super) fn text(value: String) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(value)) }
}
