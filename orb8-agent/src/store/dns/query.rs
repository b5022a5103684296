//! Asking for DNS summaries.

use std::net::IpAddr;

use orb8_proto::filter::{DnsFields, DnsMatcher, End, FlowFields};
use orb8_proto::v1;

use super::{DnsStore, DnsSummary, DnsTotals};
use crate::event::DnsSide;
use crate::identity::Party;
use crate::store::fields::owner_fields;

/// What summaries are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsSort {
    /// Queries.
    #[default]
    Queries,
    /// Responses that told of an error.
    Errors,
    /// Timeouts.
    Timeouts,
    /// The 99th percentile.
    Latency,
    /// Last exchange.
    LastSeen,
}

/// Which summaries, and in what order.
#[derive(Clone, Debug, Default)]
pub struct DnsQuery {
    /// Which.
    pub matcher: DnsMatcher,
    /// Order.
    pub sort: DnsSort,
    /// Smallest first.
    pub ascending: bool,
    /// How many.
    pub limit: usize,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsPage {
    /// As many as asked for.
    pub rows: Vec<DnsSummary>,
    /// Summaries that matched.
    pub total: u64,
    /// Everything since start, whatever was asked for.
    pub totals: DnsTotals,
}

impl DnsStore {
    /// Returns the summaries that a query asks for.
    #[must_use]
    pub fn query(&self, query: &DnsQuery) -> DnsPage {
        let wanted = |row: &DnsSummary| query.matcher.matches(&SummaryView::of(row));
        let mut found: Vec<_> = self.rows.iter().filter(|(_, row)| wanted(row)).collect();
        let total = found.len() as u64;
        // The key breaks ties, so that the same question gets the same answer.
        found.sort_by_cached_key(|(key, row)| {
            let value = value(row, query.sort);
            let by_value = if query.ascending { value } else { u64::MAX - value };
            (by_value, key.name.clone(), key.owner.clone(), key.side as u8)
        });
        found.truncate(query.limit);
        let rows = found.into_iter().map(|(_, row)| row.clone()).collect();
        DnsPage { rows, total, totals: self.totals }
    }
}

fn value(row: &DnsSummary, sort: DnsSort) -> u64 {
    match sort {
        DnsSort::Queries => row.counts.queries,
        DnsSort::Errors => row.counts.errors(),
        DnsSort::Timeouts => row.counts.timeouts,
        DnsSort::Latency => row.counts.latency.quantile(0.99).unwrap_or(0),
        DnsSort::LastSeen => row.last.0,
    }
}

/// A summary as filters see it: it has owners, and what any of its exchanges had.
#[derive(Clone, Debug)]
pub struct SummaryView<'a> {
    row: &'a DnsSummary,
    owner: Party,
}

impl<'a> SummaryView<'a> {
    /// Looks at a summary.
    #[must_use]
    pub fn of(row: &'a DnsSummary) -> Self {
        Self { row, owner: row.workload.clone().into() }
    }

    fn party(&self, end: End) -> Option<&Party> {
        let local = match self.row.side {
            DnsSide::Client | DnsSide::Transit => End::Source,
            DnsSide::Server => End::Destination,
        };
        Some(&self.owner).filter(|_| end == local)
    }
}

impl FlowFields for SummaryView<'_> {
    fn ip(&self, _end: End) -> Option<IpAddr> {
        None
    }

    fn port(&self, _end: End) -> Option<u16> {
        None
    }

    owner_fields! {}

    fn protocol(&self) -> v1::Protocol {
        v1::Protocol::Unspecified
    }

    fn direction(&self) -> v1::Direction {
        v1::Direction::Unspecified
    }

    fn interface(&self) -> Option<&str> {
        None
    }
}

impl DnsFields for SummaryView<'_> {
    fn name(&self) -> Option<&str> {
        self.row.name.as_deref()
    }

    fn has_rcode(&self, rcode: u16) -> bool {
        self.row.counts.rcodes.iter().any(|(of, _)| *of == rcode)
    }

    fn has_type(&self, query_type: u16) -> bool {
        self.row.counts.types.iter().any(|(of, _)| *of == query_type)
    }

    fn has_outcome(&self, outcome: v1::DnsOutcome) -> bool {
        let counts = &self.row.counts;
        match outcome {
            v1::DnsOutcome::Answered => counts.responses > 0,
            v1::DnsOutcome::Timeout => counts.timeouts > 0,
            v1::DnsOutcome::Unasked | v1::DnsOutcome::Malformed | v1::DnsOutcome::Unspecified => {
                false
            }
        }
    }

    fn side(&self) -> v1::DnsSide {
        self.row.side.into()
    }

    fn latency_ns(&self) -> Option<u64> {
        let latency = &self.row.counts.latency;
        (latency.count() > 0).then(|| latency.max())
    }
}
