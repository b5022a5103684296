//! From families to requests, each below what receivers take.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
};
use prost::Message;

use super::Histograms;
use super::attributes::Attributes;
use super::names;
use super::queue::BATCH_BYTES;
use super::resource::{Resource, schema_url, scope};
use crate::event::UnixNanos;
use crate::metrics::family::{
    Distribution, Exponential, Family, Kind, Labels, SCALE, Sample, Unit, Value, ZERO_THRESHOLD,
};

/// Totals since each series began.
const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// What a data point takes besides its own bytes.
const POINT_OVERHEAD: usize = 8;

/// Makes requests, one after another, so that only one is in memory.
pub(super) struct Requests<'a> {
    resource: &'a Resource,
    histograms: Histograms,
    now: UnixNanos,
    families: std::slice::Iter<'a, Family>,
    /// What is left of a family.
    rest: Option<(&'a Family, std::slice::Iter<'a, Sample>)>,
    limit: usize,
}

/// A request with the number of its data points.
pub(super) type Request = (ExportMetricsServiceRequest, u64);

impl<'a> Requests<'a> {
    /// Tells all families as they are now.
    pub(super) fn new(
        resource: &'a Resource,
        histograms: Histograms,
        now: UnixNanos,
        families: &'a [Family],
    ) -> Self {
        let families = families.iter();
        Self { resource, histograms, now, families, rest: None, limit: BATCH_BYTES }
    }

    /// Takes the next samples of one family, as many as there is room for.
    fn metric(&mut self, bytes: &mut usize) -> Option<(Metric, u64)> {
        let (family, mut samples) = match self.rest.take() {
            Some(rest) => rest,
            None => self.families.next().map(|family| (family, family.samples.iter()))?,
        };
        let mut points = Points::new(family.kind, self.histograms);
        *bytes += family.name.len() + family.help.len();
        while let Some(sample) = samples.as_slice().first() {
            if *bytes >= self.limit {
                self.rest = Some((family, samples));
                break;
            }
            *bytes += points.add(sample, self.now) + POINT_OVERHEAD;
            samples.next();
        }
        let (data, count) = points.finish();
        let metric = Metric {
            name: family.name.to_owned(),
            description: family.help.to_owned(),
            // Of what has no unit of its own, "1" would make ratios of counts.
            unit: family.unit.map_or("", unit).to_owned(),
            data: Some(data),
            ..Metric::default()
        };
        Some((metric, count))
    }
}

impl Iterator for Requests<'_> {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        let (mut metrics, mut bytes, mut points) = (Vec::new(), 0, 0);
        while bytes < self.limit {
            let Some((metric, count)) = self.metric(&mut bytes) else { break };
            if count > 0 {
                points += count;
                metrics.push(metric);
            }
        }
        if metrics.is_empty() {
            return None;
        }
        let schema_url = schema_url();
        let scope_metrics =
            vec![ScopeMetrics { scope: Some(scope()), metrics, schema_url: schema_url.clone() }];
        let resource = Some(self.resource.message());
        let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, schema_url }];
        Some((ExportMetricsServiceRequest { resource_metrics }, points))
    }
}

/// Data points of one family.
enum Points {
    Sum(Vec<NumberDataPoint>),
    Gauge(Vec<NumberDataPoint>),
    Explicit(Vec<HistogramDataPoint>),
    Exponential(Vec<ExponentialHistogramDataPoint>),
}

impl Points {
    const fn new(kind: Kind, histograms: Histograms) -> Self {
        match (kind, histograms) {
            (Kind::Counter, _) => Self::Sum(Vec::new()),
            (Kind::Gauge, _) => Self::Gauge(Vec::new()),
            (Kind::Histogram, Histograms::Explicit) => Self::Explicit(Vec::new()),
            (Kind::Histogram, Histograms::Exponential) => Self::Exponential(Vec::new()),
        }
    }

    /// Adds a sample, and returns its bytes. One of another kind than its family adds nothing.
    fn add(&mut self, sample: &Sample, now: UnixNanos) -> usize {
        match (self, &sample.value) {
            (Self::Sum(points), Value::Count(_) | Value::Sum(_)) => {
                push(points, number(sample, Some(sample.since), now))
            }
            (Self::Gauge(points), Value::Gauge(_)) => push(points, number(sample, None, now)),
            (Self::Explicit(points), Value::Histogram(value)) => {
                push(points, explicit(sample, value, now))
            }
            (Self::Exponential(points), Value::Histogram(value)) => {
                push(points, exponential(sample, value, now))
            }
            _ => 0,
        }
    }

    fn finish(self) -> (Data, u64) {
        let aggregation_temporality = CUMULATIVE;
        match self {
            Self::Sum(data_points) => {
                let count = data_points.len() as u64;
                (Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true }), count)
            }
            Self::Gauge(data_points) => {
                let count = data_points.len() as u64;
                (Data::Gauge(Gauge { data_points }), count)
            }
            Self::Explicit(data_points) => {
                let count = data_points.len() as u64;
                (Data::Histogram(Histogram { data_points, aggregation_temporality }), count)
            }
            Self::Exponential(data_points) => {
                let count = data_points.len() as u64;
                let histogram = ExponentialHistogram { data_points, aggregation_temporality };
                (Data::ExponentialHistogram(histogram), count)
            }
        }
    }
}

fn push<T: Message>(points: &mut Vec<T>, point: T) -> usize {
    let bytes = point.encoded_len();
    points.push(point);
    bytes
}

fn number(sample: &Sample, since: Option<UnixNanos>, now: UnixNanos) -> NumberDataPoint {
    let value = match &sample.value {
        // The protocol has no unsigned numbers; 2^63 packets take longer than the agent will live.
        Value::Count(count) => {
            number_data_point::Value::AsInt(i64::try_from(*count).unwrap_or(i64::MAX))
        }
        Value::Sum(value) | Value::Gauge(value) => number_data_point::Value::AsDouble(*value),
        Value::Histogram(of) => number_data_point::Value::AsDouble(of.sum),
    };
    NumberDataPoint {
        attributes: attributes(&sample.labels).into_messages(),
        start_time_unix_nano: since.unwrap_or_default().0,
        time_unix_nano: now.0,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn explicit(sample: &Sample, value: &Distribution, now: UnixNanos) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes(&sample.labels).into_messages(),
        start_time_unix_nano: sample.since.0,
        time_unix_nano: now.0,
        count: value.count,
        sum: Some(value.sum),
        bucket_counts: value.counts.clone(),
        explicit_bounds: value.bounds.to_vec(),
        ..HistogramDataPoint::default()
    }
}

fn exponential(
    sample: &Sample,
    value: &Distribution,
    now: UnixNanos,
) -> ExponentialHistogramDataPoint {
    let Exponential { zero, first, counts } = &value.exponential;
    // Ours are numbered by their upper bound, as Prometheus does.
    let buckets = Buckets { offset: first - 1, bucket_counts: counts.clone() };
    ExponentialHistogramDataPoint {
        attributes: attributes(&sample.labels).into_messages(),
        start_time_unix_nano: sample.since.0,
        time_unix_nano: now.0,
        count: value.count,
        sum: Some(value.sum),
        scale: SCALE,
        zero_count: *zero,
        zero_threshold: ZERO_THRESHOLD,
        positive: Some(buckets),
        ..ExponentialHistogramDataPoint::default()
    }
}

fn attributes(labels: &Labels) -> Attributes {
    let mut attributes = Attributes::default();
    for (name, value) in labels.iter() {
        let named = names::LABELS.iter().find(|(label, _)| *label == name);
        let key = named.map_or(name, |(_, attribute)| *attribute);
        match (key, value) {
            (names::NETWORK_IO_DIRECTION, "egress") => attributes.text(key, names::direction(true)),
            (names::NETWORK_IO_DIRECTION, "ingress") => {
                attributes.text(key, names::direction(false));
            }
            (names::NETWORK_TRANSPORT, _) => {
                attributes.text(key, value.to_ascii_lowercase().as_str());
            }
            _ => attributes.text(key, value),
        }
    }
    attributes
}

/// UCUM's word for a unit.
const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "By",
        Unit::Seconds => "s",
    }
}

#[cfg(test)]
pub(super) mod tests;
