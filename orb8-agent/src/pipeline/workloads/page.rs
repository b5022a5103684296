//! From what was added up to an answer.

use std::cmp::Reverse;
use std::time::Duration;

use super::survey::{Pair, Row};
use super::{
    DnsSums, PeerRow, Traffic, WorkloadCounts, WorkloadPage, WorkloadQuery, WorkloadRow,
    WorkloadSort, WorkloadSurvey,
};
use crate::store::per_second;

impl WorkloadSurvey {
    /// Returns the workloads that were asked for.
    #[must_use]
    pub fn page(self) -> WorkloadPage {
        let Self { query, mut rows, peers, mut pairs, interval, .. } = self;
        let mut totals = WorkloadRow::default();
        for row in &mut rows {
            row.counts.finish(interval);
            totals.counts.add(&row.counts);
        }
        let total = rows.len() as u64;
        let order = order(&rows, &query);
        pairs.sort_unstable_by_key(|pair| (pair.row, Reverse(pair.bytes()), pair.peer));
        let peers_of = |row: u32| {
            let from = pairs.partition_point(|pair| pair.row < row);
            let of_row = pairs[from..].iter().take_while(move |pair| pair.row == row);
            let peer = |pair: &Pair| PeerRow {
                peer: peers[pair.peer as usize].clone(),
                sent: pair.sent.finished(interval),
                received: pair.received.finished(interval),
                active_flows: pair.active_flows,
            };
            of_row.take(query.peers).map(peer).collect()
        };
        let row = |at: u32| {
            let Row { who, counts } = std::mem::take(&mut rows[at as usize]);
            WorkloadRow { who, counts, peers: peers_of(at) }
        };
        WorkloadPage { rows: order.into_iter().map(row).collect(), total, totals }
    }
}

/// Returns the numbers of the rows that are wanted, in order. The key breaks ties, so that the same
/// question gets the same answer.
fn order(rows: &[Row], query: &WorkloadQuery) -> Vec<u32> {
    let mut order: Vec<(u64, u32)> = (0..)
        .zip(rows)
        .map(|(at, row)| {
            let value = row.counts.value(query.sort);
            (if query.ascending { value } else { u64::MAX - value }, at)
        })
        .collect();
    let key = |(value, at): &(u64, u32)| (*value, rows[*at as usize].who.key.as_str());
    order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    order.truncate(query.limit);
    order.into_iter().map(|(_, at)| at).collect()
}

impl Pair {
    fn bytes(&self) -> u64 {
        self.sent.bytes + self.received.bytes
    }
}

impl Traffic {
    /// Makes rates of what was moved in the last interval.
    fn finished(self, interval: Duration) -> Self {
        Self {
            bytes_per_second: per_second(self.bytes_per_second, interval),
            packets_per_second: per_second(self.packets_per_second, interval),
            ..self
        }
    }

    fn merge(&mut self, other: Self) {
        let Self { bytes, packets, bytes_per_second, packets_per_second } = other;
        self.bytes += bytes;
        self.packets += packets;
        self.bytes_per_second += bytes_per_second;
        self.packets_per_second += packets_per_second;
    }
}

impl DnsSums {
    fn merge(&mut self, other: &Self) {
        let Self { queries, responses, errors, timeouts, latency } = other;
        self.queries += queries;
        self.responses += responses;
        self.errors += errors;
        self.timeouts += timeouts;
        self.latency.merge(latency);
    }
}

impl WorkloadCounts {
    fn finish(&mut self, interval: Duration) {
        self.sent = self.sent.finished(interval);
        self.received = self.received.finished(interval);
    }

    fn add(&mut self, other: &Self) {
        // Exhaustive: what rows have, totals have.
        let Self {
            pods,
            sent,
            received,
            active_flows,
            peers,
            open,
            connections,
            retransmits,
            rtt,
            dns,
            dns_served,
            last,
        } = other;
        self.pods += pods;
        self.sent.merge(*sent);
        self.received.merge(*received);
        self.active_flows += active_flows;
        self.peers += peers;
        self.open += open;
        self.connections += connections;
        self.retransmits += retransmits;
        self.rtt.merge(rtt);
        self.dns.merge(dns);
        self.dns_served.merge(dns_served);
        self.last = self.last.max(*last);
    }

    fn value(&self, sort: WorkloadSort) -> u64 {
        let both = |of: fn(&Traffic) -> u64| of(&self.sent).saturating_add(of(&self.received));
        match sort {
            WorkloadSort::Bytes => both(|way| way.bytes),
            WorkloadSort::Rate => both(|way| way.bytes_per_second),
            WorkloadSort::Packets => both(|way| way.packets),
            WorkloadSort::Flows => self.active_flows,
            WorkloadSort::Peers => self.peers,
            WorkloadSort::Connections => self.open,
            WorkloadSort::Retransmits => self.retransmits,
            WorkloadSort::Rtt => self.rtt.quantile(0.99).unwrap_or(0),
            WorkloadSort::Queries => self.dns.queries,
            WorkloadSort::Errors => self.dns.errors,
            WorkloadSort::Timeouts => self.dns.timeouts,
            WorkloadSort::Latency => self.dns.latency.quantile(0.99).unwrap_or(0),
        }
    }
}
