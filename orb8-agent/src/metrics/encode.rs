//! Families as Prometheus reads them. The formats are the client library's; this tells it what to write.

mod accept;
mod native;
mod protobuf;
mod written;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabel, EncodeLabelSet,
    LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit as ClientUnit};

use super::family::{Distribution, Family, Kind, Labels, Sample, Unit, Value};
pub use accept::accepts_gzip;
use written::Written;

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus's text, version 0.0.4.
    Text,
    /// OpenMetrics' text, version 1.0.0.
    OpenMetrics,
    /// Prometheus's protobuf messages, each behind its length: the one with native histograms.
    Protobuf,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::Protobuf];

    /// Returns the format that a client prefers, by its `Accept` headers.
    #[must_use]
    pub fn accepted<'a>(headers: impl Iterator<Item = &'a str>) -> Self {
        accept::format(headers)
    }

    /// Returns its content type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited"
            }
        }
    }

    /// Writes families, one at a time: there is never all of it in two shapes.
    #[must_use]
    pub fn encode(self, families: impl IntoIterator<Item = Family>) -> Vec<u8> {
        let mut page = Page { format: self, text: String::new(), messages: Vec::new() };
        families.into_iter().for_each(|family| page.add(family));
        page.finish()
    }
}

/// What was written so far.
struct Page {
    format: Format,
    text: String,
    messages: Vec<u8>,
}

impl Page {
    fn add(&mut self, family: Family) {
        let (name, format) = (family.name, self.format);
        let written = match format {
            Format::Text | Format::OpenMetrics => {
                let mut registry = Registry::default();
                registry.register_collector(Box::new(Encoded { family, format }));
                encode_registry(&mut self.text, &registry).map_err(|error| error.to_string())
            }
            Format::Protobuf => {
                protobuf::write(&family, &mut self.messages).map_err(|error| error.to_string())
            }
        };
        if let Err(error) = written {
            // Neither a String nor a Vec refuses anything.
            tracing::error!(error, name, "a metric cannot be written");
        }
    }

    fn finish(self) -> Vec<u8> {
        let Self { format, mut text, messages } = self;
        match format {
            Format::Protobuf => messages,
            Format::Text => text.into_bytes(),
            Format::OpenMetrics => {
                // Writing to a String cannot fail.
                let _ = encode_eof(&mut text);
                text.into_bytes()
            }
        }
    }
}

/// A family on its way to text.
#[derive(Debug)]
struct Encoded {
    family: Family,
    format: Format,
}

impl Collector for Encoded {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Family { name, help, kind, unit, samples } = &self.family;
        // The encoder adds the suffix of counters, and the unit.
        let (name, unit) = match self.format {
            Format::Text => (*name, None),
            Format::OpenMetrics | Format::Protobuf => bare(name, *kind, *unit),
        };
        let kind = match kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        samples.iter().try_for_each(|sample| match Written::new(&sample.labels) {
            Some(labels) => self.write(sample, &mut metric.encode_family(&labels)?),
            None => self.write(sample, &mut metric),
        })
    }
}

impl Encoded {
    fn write(&self, sample: &Sample, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match &sample.value {
            Value::Count(value) => self.write_counter(value, metric),
            Value::Sum(value) => self.write_counter(value, metric),
            Value::Gauge(value) => metric.encode_gauge(value),
            Value::Histogram(value) => write_histogram(value, metric),
        }
    }

    fn write_counter<T>(&self, value: &T, metric: &mut MetricEncoder<'_>) -> fmt::Result
    where
        T: EncodeCounterValue + EncodeGaugeValue,
    {
        match self.format {
            // The library writes OpenMetrics, where a counter's name and its sample's differ. In the
            // older format they are the same, as a gauge's are.
            Format::Text => metric.encode_gauge(value),
            Format::OpenMetrics | Format::Protobuf => {
                metric.encode_counter::<NoLabelSet, T, u64>(value, None)
            }
        }
    }
}

fn write_histogram(value: &Distribution, metric: &mut MetricEncoder<'_>) -> fmt::Result {
    let bounds = value.bounds.iter().copied().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(value.counts.iter().copied()).collect();
    metric.encode_histogram::<NoLabelSet>(value.sum, value.count, &buckets, None)
}

/// Returns a name without what the encoder adds.
fn bare(name: &'static str, kind: Kind, unit: Option<Unit>) -> (&'static str, Option<ClientUnit>) {
    let name = match kind {
        Kind::Counter => name.strip_suffix("_total").unwrap_or(name),
        Kind::Gauge | Kind::Histogram => name,
    };
    let without = unit.and_then(|unit| {
        let name = name.strip_suffix(unit.word())?.strip_suffix('_')?;
        Some((name, client_unit(unit)))
    });
    without.map_or((name, None), |(name, unit)| (name, Some(unit)))
}

const fn client_unit(unit: Unit) -> ClientUnit {
    match unit {
        Unit::Bytes => ClientUnit::Bytes,
        Unit::Seconds => ClientUnit::Seconds,
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.iter().try_for_each(|label| label.encode(encoder.encode_label()))
    }
}

#[cfg(test)]
mod tests;
