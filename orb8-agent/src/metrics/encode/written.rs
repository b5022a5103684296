//! Labels as the text formats have them.

use std::fmt::{self, Write};

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

use crate::metrics::family::Labels;

/// Labels that are written once and then copied: a histogram has some twenty lines with the same ones,
/// and most of a page is histograms. The encoder copies a name as it is, so everything but the last
/// value, which it writes itself, goes for a name.
pub(super) struct Written<'a> {
    before: String,
    last: &'a str,
}

impl<'a> Written<'a> {
    /// `None` where there are no labels.
    pub(super) fn new(labels: &'a Labels) -> Option<Self> {
        let mut labels = labels.iter();
        let (name, mut last) = labels.next()?;
        // Enough for most, without a second allocation.
        let mut before = String::with_capacity(128);
        before.push_str(name);
        for (name, value) in labels {
            before.push_str("=\"");
            escape(last, &mut before);
            before.push_str("\",");
            before.push_str(name);
            last = value;
        }
        Some(Self { before, last })
    }
}

impl EncodeLabelSet for Written<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let mut label = encoder.encode_label();
        let mut name = label.encode_label_key()?;
        name.write_str(&self.before)?;
        let mut value = name.encode_label_value()?;
        value.write_str(self.last)?;
        value.finish()
    }
}

fn escape(value: &str, into: &mut String) {
    if !value.contains(['\\', '"', '\n']) {
        return into.push_str(value);
    }
    for letter in value.chars() {
        match letter {
            '\\' => into.push_str("\\\\"),
            '"' => into.push_str("\\\""),
            '\n' => into.push_str("\\n"),
            letter => into.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::DescriptorEncoder;
    use prometheus_client::encoding::text::encode_registry;
    use prometheus_client::metrics::MetricType;
    use prometheus_client::registry::Registry;
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::family::{Label, Text};

    /// The same labels, as they are written here and as the library writes them.
    #[derive(Debug)]
    struct Twice(Labels);

    impl Collector for Twice {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let mut metric = encoder.encode_descriptor("a", "A.", None, MetricType::Gauge)?;
            let written = Written::new(&self.0).expect("labels");
            metric.encode_family(&written)?.encode_gauge(&1)?;
            metric.encode_family(&self.0)?.encode_gauge(&1)
        }
    }

    proptest! {
        #[test]
        fn labels_are_what_the_library_writes(
            values in proptest::collection::vec("[a-c\\\\\"\n=,é{}]{0,6}", 1..5),
        ) {
            let names = ["namespace", "pod", "container", "unit", "peer_pod"];
            let label = |(name, value): (&&'static str, &String)| {
                (*name, Text::Found(value.as_str().into()))
            };
            let labels: Vec<Label> = names.iter().zip(&values).map(label).collect();
            let labels = Labels { owner: Some(Arc::from(labels)), own: [None, None] };
            let mut registry = Registry::default();
            registry.register_collector(Box::new(Twice(labels)));
            let mut text = String::new();
            encode_registry(&mut text, &registry).unwrap();
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            prop_assert_eq!(lines.len(), 2, "{}", text);
            prop_assert_eq!(lines[0], lines[1]);
        }
    }
}
