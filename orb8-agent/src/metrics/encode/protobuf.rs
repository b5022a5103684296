//! Prometheus's messages, with the library's types. One sample is in them at a time and its memory is
//! the next one's: a page has 100,000 samples, each with a dozen strings.

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as model;
use prost::Message;

use super::native::Sparse;
use crate::event::UnixNanos;
use crate::metrics::family::{
    Distribution, Family, Kind, Labels, SCALE, Unit, Value, ZERO_THRESHOLD,
};

/// What begins each of a family's metrics: field 4, a message.
const METRIC: u8 = 4 << 3 | 2;

const NANOS: u64 = 1_000_000_000;

/// Writes a family behind its length.
pub(super) fn write(family: &Family, into: &mut Vec<u8>) -> Result<(), prost::EncodeError> {
    let (mut metrics, mut metric) = (Vec::new(), model::Metric::default());
    for sample in &family.samples {
        put_labels(&sample.labels, &mut metric.label);
        match (&sample.value, family.kind) {
            (Value::Histogram(times), _) => {
                let histogram = metric.histogram.get_or_insert_default();
                put_histogram(times, sample.since, histogram);
            }
            (Value::Count(count), Kind::Counter) => put_counter(*count as f64, &mut metric),
            (Value::Sum(value), Kind::Counter) => put_counter(*value, &mut metric),
            (Value::Count(count), _) => metric.gauge = Some(model::Gauge { value: *count as f64 }),
            (Value::Sum(value) | Value::Gauge(value), _) => {
                metric.gauge = Some(model::Gauge { value: *value });
            }
        }
        metrics.push(METRIC);
        metric.encode_length_delimited(&mut metrics)?;
    }
    let kind = match family.kind {
        Kind::Counter => model::MetricType::Counter,
        Kind::Gauge => model::MetricType::Gauge,
        Kind::Histogram => model::MetricType::Histogram,
    };
    let head = model::MetricFamily {
        name: family.name.to_owned(),
        help: family.help.to_owned(),
        r#type: kind as i32,
        unit: family.unit.map_or("", Unit::word).to_owned(),
        ..Default::default()
    };
    prost::encode_length_delimiter(head.encoded_len() + metrics.len(), into)?;
    head.encode(into)?;
    into.append(&mut metrics);
    Ok(())
}

fn put_labels(labels: &Labels, into: &mut Vec<model::LabelPair>) {
    into.resize_with(labels.iter().count(), Default::default);
    for ((name, value), label) in labels.iter().zip(into) {
        put_text(name, &mut label.name);
        put_text(value, &mut label.value);
    }
}

fn put_text(text: &str, into: &mut String) {
    into.clear();
    into.push_str(text);
}

fn put_counter(value: f64, into: &mut model::Metric) {
    into.counter = Some(model::Counter { value, ..Default::default() });
}

fn put_histogram(times: &Distribution, since: UnixNanos, into: &mut model::Histogram) {
    into.sample_count = times.count;
    into.sample_sum = times.sum;
    into.bucket.clear();
    let mut cumulative_count = 0;
    let bounds = times.bounds.iter().copied().chain([f64::INFINITY]);
    for (upper_bound, count) in bounds.zip(&times.counts) {
        cumulative_count += count;
        into.bucket.push(model::Bucket { cumulative_count, upper_bound, ..Default::default() });
    }
    into.start_timestamp = Some(prost_types::Timestamp {
        seconds: (since.0 / NANOS).cast_signed(),
        nanos: (since.0 % NANOS) as i32,
    });
    (into.schema, into.zero_threshold) = (SCALE, ZERO_THRESHOLD);
    into.zero_count = times.exponential.zero;
    let Sparse { spans, deltas } = Sparse::new(&times.exponential);
    into.positive_span.clear();
    let spans = spans.into_iter().map(|(offset, length)| model::BucketSpan { offset, length });
    into.positive_span.extend(spans);
    into.positive_delta = deltas;
}
