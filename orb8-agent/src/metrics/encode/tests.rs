use std::process::{Command, Stdio};
use std::sync::Arc;
use std::{io::Write as _, str};

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as model;
use prost::Message as _;

use super::*;
use crate::event::UnixNanos;
use crate::metrics::distribution::LATENCY_BOUNDS;
use crate::metrics::family::{Exponential, Label, Text};

fn sample(labels: &[(&'static str, &'static str)], value: Value) -> Sample {
    let labels: Vec<Label> = labels.iter().map(|(name, value)| (*name, (*value).into())).collect();
    let owner = (!labels.is_empty()).then(|| labels.into());
    Sample { labels: Labels { owner, own: [None, None] }, value, since: UnixNanos(5_000_000_000) }
}

fn family(name: &'static str, kind: Kind, samples: Vec<Sample>) -> Family {
    Family { name, help: "What it is.", kind, unit: Unit::of(name), samples }
}

fn families() -> Vec<Family> {
    let mut times = Distribution::new(LATENCY_BOUNDS);
    for nanos in [0, 90_000, 3_000_000, 3_000_000, 20_000_000_000] {
        times.record_nanos(nanos);
    }
    let odd = sample(&[("namespace", "a\"b\\c\nd")], Value::Count(7));
    let mut last = sample(&[("pod", "web-1")], Value::Histogram(Arc::new(times)));
    last.labels.own[0] = Some(("side", Text::from("client")));
    vec![
        family("orb8_flow_bytes_total", Kind::Counter, vec![odd]),
        family("orb8_agent_cpu_seconds_total", Kind::Counter, vec![sample(&[], Value::Sum(1.5))]),
        family("orb8_agent_flows", Kind::Gauge, vec![sample(&[], Value::Gauge(3.0))]),
        family("orb8_dns_latency_seconds", Kind::Histogram, vec![last]),
    ]
}

fn text(format: Format) -> String {
    String::from_utf8(format.encode(families())).unwrap()
}

#[test]
fn text_is_prometheus_own() {
    let text = text(Format::Text);
    let head = "# HELP orb8_flow_bytes_total What it is.\n\
                # TYPE orb8_flow_bytes_total counter\n\
                orb8_flow_bytes_total{namespace=\"a\\\"b\\\\c\\nd\"} 7\n\
                # HELP orb8_agent_cpu_seconds_total What it is.\n\
                # TYPE orb8_agent_cpu_seconds_total counter\n\
                orb8_agent_cpu_seconds_total 1.5\n\
                # HELP orb8_agent_flows What it is.\n\
                # TYPE orb8_agent_flows gauge\n\
                orb8_agent_flows 3.0\n\
                # HELP orb8_dns_latency_seconds What it is.\n\
                # TYPE orb8_dns_latency_seconds histogram\n";
    assert!(text.starts_with(head), "{text}");
    for line in [
        "orb8_dns_latency_seconds_count{pod=\"web-1\",side=\"client\"} 5",
        "orb8_dns_latency_seconds_bucket{le=\"0.0001\",pod=\"web-1\",side=\"client\"} 2",
        "orb8_dns_latency_seconds_bucket{le=\"0.005\",pod=\"web-1\",side=\"client\"} 4",
        "orb8_dns_latency_seconds_bucket{le=\"10.0\",pod=\"web-1\",side=\"client\"} 4",
        "orb8_dns_latency_seconds_bucket{le=\"+Inf\",pod=\"web-1\",side=\"client\"} 5",
    ] {
        assert!(text.lines().any(|is| is == line), "no line {line:?} in:\n{text}");
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
}

#[test]
fn openmetrics_has_units_and_an_end() {
    let text = text(Format::OpenMetrics);
    let head = "# HELP orb8_flow_bytes What it is.\n\
                # TYPE orb8_flow_bytes counter\n\
                # UNIT orb8_flow_bytes bytes\n\
                orb8_flow_bytes_total{namespace=\"a\\\"b\\\\c\\nd\"} 7\n\
                # HELP orb8_agent_cpu_seconds What it is.\n\
                # TYPE orb8_agent_cpu_seconds counter\n\
                # UNIT orb8_agent_cpu_seconds seconds\n\
                orb8_agent_cpu_seconds_total 1.5\n";
    assert!(text.starts_with(head), "{text}");
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    // Every sample is of the family above it.
    let mut of = "";
    for line in text.lines().filter(|line| *line != "# EOF") {
        match line.strip_prefix("# TYPE ") {
            Some(declared) => of = declared.split(' ').next().unwrap(),
            None if line.starts_with('#') => {}
            None => assert!(line.starts_with(of), "{line} below {of}"),
        }
    }
}

#[test]
fn messages_are_read_back_with_both_kinds_of_buckets() {
    let page = Format::Protobuf.encode(families());
    let mut bytes = page.as_slice();
    let mut read = Vec::new();
    while !bytes.is_empty() {
        read.push(model::MetricFamily::decode_length_delimited(&mut bytes).unwrap());
    }
    let names: Vec<&str> = read.iter().map(|family| family.name.as_str()).collect();
    let expected: Vec<&str> = families().iter().map(|family| family.name).collect();
    assert_eq!(names, expected);
    assert_eq!(read[0].r#type(), model::MetricType::Counter);
    assert_eq!(read[0].metric[0].label[0].value, "a\"b\\c\nd");
    assert_eq!(read[0].metric[0].counter.as_ref().unwrap().value, 7.0);
    assert_eq!(read[2].metric[0].gauge.unwrap().value, 3.0);

    let metric = &read[3].metric[0];
    let labels: Vec<_> =
        metric.label.iter().map(|label| (label.name.as_str(), label.value.as_str())).collect();
    assert_eq!(labels, [("pod", "web-1"), ("side", "client")]);
    let histogram = metric.histogram.as_ref().unwrap();
    assert_eq!((histogram.sample_count, histogram.schema, histogram.zero_count), (5, 3, 1));
    assert!((histogram.sample_sum - 20.006_09).abs() < 1e-9);
    let last = histogram.bucket.last().unwrap();
    assert_eq!((last.upper_bound, last.cumulative_count), (f64::INFINITY, 5));
    assert_eq!(native(histogram), counted());
    assert_eq!(histogram.start_timestamp.unwrap().seconds, 5);
}

/// Counts by index, as Prometheus reads a histogram.
fn native(histogram: &model::Histogram) -> Vec<(i32, i64)> {
    let (mut at, mut count, mut deltas) = (0, 0, histogram.positive_delta.iter());
    let mut read = Vec::new();
    for model::BucketSpan { offset, length } in &histogram.positive_span {
        at += offset;
        for _ in 0..*length {
            count += deltas.next().unwrap();
            read.push((at, count));
            at += 1;
        }
    }
    read.retain(|(_, count)| *count > 0);
    read
}

fn counted() -> Vec<(i32, i64)> {
    let Value::Histogram(times) = &families()[3].samples[0].value else { panic!() };
    let Exponential { first, counts, .. } = &times.exponential;
    let counts = counts.iter().map(|count| count.cast_signed());
    (*first..).zip(counts).filter(|(_, count)| *count > 0).collect()
}

#[test]
fn promtool_has_nothing_to_say() {
    let mut checked = match Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(checked) => checked,
        Err(error) => {
            println!("SKIPPED promtool_has_nothing_to_say: no promtool: {error}");
            return;
        }
    };
    let page = crate::metrics::tests::everything();
    checked.stdin.take().unwrap().write_all(&page).unwrap();
    let output = checked.wait_with_output().unwrap();
    let said = str::from_utf8(&output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
