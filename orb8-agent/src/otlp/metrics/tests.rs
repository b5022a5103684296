use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value;

use super::*;
use crate::metrics::family::{Label, Text};
use crate::otlp::tests::samples::at;

fn labels(namespace: &str) -> Labels {
    let owner: Arc<[Label]> =
        [("namespace", Text::from(Arc::<str>::from(namespace))), ("workload", Text::from("web"))]
            .into();
    Labels {
        owner: Some(owner),
        own: [Some(("direction", "egress".into())), Some(("protocol", "TCP".into()))],
    }
}

fn family(name: &'static str, kind: Kind, values: impl IntoIterator<Item = Value>) -> Family {
    let sample = |(at_second, value): (usize, Value)| Sample {
        labels: labels(&format!("ns-{at_second}")),
        value,
        since: at(at_second as u64),
    };
    Family {
        name,
        help: "What it is.",
        kind,
        unit: Unit::of(name),
        samples: values.into_iter().enumerate().map(sample).collect(),
    }
}

/// Families that need several requests.
pub(in crate::otlp) fn large_families() -> Vec<Family> {
    let many = |count| (0..count).map(Value::Count);
    vec![
        family("orb8_flow_bytes_total", Kind::Counter, many(40_000)),
        family("orb8_flow_packets_total", Kind::Counter, many(1)),
        family("orb8_none_total", Kind::Counter, many(0)),
    ]
}

fn distribution() -> Value {
    Value::Histogram(Arc::new(Distribution {
        bounds: &[0.001, 0.01],
        counts: vec![1, 2, 1],
        exponential: Exponential { zero: 1, first: -53, counts: vec![2, 0, 1] },
        sum: 0.5,
        count: 4,
    }))
}

fn only(family: &Family, histograms: Histograms) -> Metric {
    let resource = Resource::new("node-1", false, &[]);
    let families = std::slice::from_ref(family);
    let requests: Vec<_> = Requests::new(&resource, histograms, at(99), families).collect();
    let [(request, _)] = &requests[..] else { panic!("{} requests", requests.len()) };
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    assert_eq!(metrics.len(), 1);
    metrics[0].clone()
}

#[test]
fn counters_are_cumulative_sums_with_their_own_beginnings() {
    let family = family("orb8_flow_bytes_total", Kind::Counter, [Value::Count(7), Value::Sum(0.5)]);
    let metric = only(&family, Histograms::Explicit);
    // As Prometheus has it, so that the same queries find it behind either way.
    assert_eq!((&*metric.name, &*metric.unit), ("orb8_flow_bytes_total", "By"));
    let Some(Data::Sum(sum)) = metric.data else { panic!() };
    assert!(sum.is_monotonic && sum.aggregation_temporality == CUMULATIVE);
    let [first, second] = &sum.data_points[..] else { panic!() };
    assert_eq!(first.value, Some(number_data_point::Value::AsInt(7)));
    assert_eq!(second.value, Some(number_data_point::Value::AsDouble(0.5)));
    assert_eq!((first.start_time_unix_nano, first.time_unix_nano), (at(0).0, at(99).0));
    assert_eq!(second.start_time_unix_nano, at(1).0);
}

#[test]
fn labels_have_the_conventions_names() {
    let family = family("orb8_flow_packets_total", Kind::Counter, [Value::Count(7)]);
    let metric = only(&family, Histograms::Explicit);
    assert_eq!(metric.unit, "", "packets have no unit that would not change the name");
    let Some(Data::Sum(sum)) = metric.data else { panic!() };
    let value = |key: &str| {
        let pair = sum.data_points[0].attributes.iter().find(|pair| pair.key == key);
        match pair?.value.as_ref()?.value.as_ref()? {
            any_value::Value::StringValue(text) => Some(text.clone()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(value("k8s.namespace.name").as_deref(), Some("ns-0"));
    assert_eq!(value("workload").as_deref(), Some("web"));
    assert_eq!(value("network.io.direction").as_deref(), Some("transmit"));
    assert_eq!(value("network.transport").as_deref(), Some("tcp"));
    assert_eq!(sum.data_points[0].attributes.len(), 4);
}

#[test]
fn gauges_have_no_beginning() {
    let family = family("orb8_agent_flows", Kind::Gauge, [Value::Gauge(1.5)]);
    let Some(Data::Gauge(gauge)) = only(&family, Histograms::Explicit).data else { panic!() };
    assert_eq!(gauge.data_points[0].start_time_unix_nano, 0);
    assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(1.5)));
}

#[test]
fn histograms_are_told_as_it_is_wanted() {
    let family = family("orb8_dns_latency_seconds", Kind::Histogram, [distribution()]);
    let metric = only(&family, Histograms::Explicit);
    assert_eq!(metric.unit, "s");
    let Some(Data::Histogram(explicit)) = metric.data else { panic!() };
    let point = &explicit.data_points[0];
    assert_eq!((point.count, point.sum), (4, Some(0.5)));
    assert_eq!(
        (&point.bucket_counts[..], &point.explicit_bounds[..]),
        (&[1, 2, 1][..], &[0.001, 0.01][..])
    );
    assert_eq!(explicit.aggregation_temporality, CUMULATIVE);

    let Some(Data::ExponentialHistogram(exponential)) = only(&family, Histograms::Exponential).data
    else {
        panic!()
    };
    let point = &exponential.data_points[0];
    assert_eq!((point.count, point.sum, point.zero_count), (4, Some(0.5), 1));
    let buckets = point.positive.as_ref().unwrap();
    assert_eq!(buckets.bucket_counts, [2, 0, 1]);
    // The first bucket ends at factor^-53, which is where OpenTelemetry's bucket -54 ends.
    assert_eq!((point.scale, buckets.offset), (SCALE, -54));
    let total = point.zero_count + buckets.bucket_counts.iter().sum::<u64>();
    assert_eq!(total, point.count, "every value is in a bucket");
}

#[test]
fn a_family_that_is_too_large_goes_in_several_requests() {
    let (families, resource) = (large_families(), Resource::new("node-1", false, &[]));
    let requests = Requests::new(&resource, Histograms::Explicit, at(99), &families);
    let mut values = Vec::new();
    let mut count = 0;
    for (request, points) in requests {
        count += 1;
        let size = request.encoded_len();
        assert!(size < BATCH_BYTES + 64 * 1024, "{size}");
        let before = values.len();
        for metric in &request.resource_metrics[0].scope_metrics[0].metrics {
            let Some(Data::Sum(sum)) = &metric.data else { panic!() };
            assert!(!sum.data_points.is_empty(), "{}", metric.name);
            values.extend(sum.data_points.iter().filter_map(|point| point.value));
        }
        assert_eq!((values.len() - before) as u64, points);
    }
    assert!(count > 2, "{count}");
    let expected = (0..40_000).chain([0]).map(number_data_point::Value::AsInt);
    assert!(values.into_iter().eq(expected), "each point once, in order");
}
