//! Distributions of times as objects.

use orb8_proto::v1::Histogram;
use serde::Serialize;

/// A distribution in powers of two.
#[derive(Debug, Serialize)]
pub(super) struct HistogramObject<'a> {
    count: u64,
    sum_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_ns: Option<u64>,
    min_ns: u64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    max_ns: u64,
    /// As in [`Histogram`], like `shift`.
    counts: &'a [u64],
    shift: u32,
}

impl<'a> HistogramObject<'a> {
    /// Makes the object of a distribution that has values.
    pub(super) fn new(histogram: Option<&'a Histogram>) -> Option<Self> {
        let histogram = histogram.filter(|histogram| histogram.count() > 0)?;
        let Histogram { counts, shift, sum, min, max, p50, p90, p99 } = histogram;
        Some(Self {
            count: histogram.count(),
            sum_ns: *sum,
            mean_ns: histogram.mean(),
            min_ns: *min,
            p50_ns: *p50,
            p90_ns: *p90,
            p99_ns: *p99,
            max_ns: *max,
            counts,
            shift: *shift,
        })
    }
}
