//! DNS exchanges and summaries.

use std::cmp::Reverse;

use orb8_proto::dns::{rcode_name, type_name};
use orb8_proto::filter::{End, FlowFields};
use orb8_proto::v1;

use super::tcp::histogram;
use super::{Converter, endpoint, interface, ip, lost, workload};
use crate::event::{DnsAnswer, DnsData, DnsExchange, DnsSide, UnixNanos};
use crate::pipeline::{DnsEvent, DnsView, Happened, StreamItem};
use crate::status::DnsCounters;
use crate::store::dns::{DnsCounts, DnsSummary, DnsTotals};

impl Converter {
    pub(in crate::api) fn dns_event(&self, item: &StreamItem<DnsEvent>) -> v1::StreamDnsResponse {
        let event = match &item.happened {
            Happened::Event(event) => {
                v1::stream_dns_response::Event::Exchange(self.exchange(item.time, event))
            }
            Happened::Lost(what) => v1::stream_dns_response::Event::Lost(lost(*what)),
        };
        v1::StreamDnsResponse { event: Some(event) }
    }

    fn exchange(&self, time: UnixNanos, event: &DnsEvent) -> v1::DnsExchange {
        let view = DnsView { event, interfaces: &self.interfaces };
        let end = |end: End| Some(endpoint(view.end(end), view.party(end), None));
        // Exhaustive: what is known of an exchange is told.
        let DnsExchange {
            client: _,
            server: _,
            transport: _,
            side,
            cgroup_id,
            cookie,
            ifindex,
            id,
            question,
            outcome,
            response,
            asked,
            latency_ns,
            retries,
            told_retries: _,
            query_bytes,
        } = &*event.exchange;
        let question = question.as_ref();
        let query_type = question.map(|question| question.kind);
        let rcode = response.as_ref().map(|response| response.rcode);
        let exchange = v1::DnsExchange {
            time_ns: time.0,
            client: end(End::Source),
            server: end(End::Destination),
            protocol: view.protocol().into(),
            side: v1::DnsSide::from(*side).into(),
            hook: match side {
                DnsSide::Client | DnsSide::Server => v1::Hook::Socket,
                DnsSide::Transit => v1::Hook::Interface,
            }
            .into(),
            interface: interface(*ifindex, view.interface()),
            id: (*id).into(),
            name: question.map(|question| question.name.to_string()).unwrap_or_default(),
            query_type: query_type.unwrap_or_default().into(),
            query_type_name: query_type.map(|of| type_name(of).into_owned()).unwrap_or_default(),
            query_class: question.map(|question| question.class).unwrap_or_default().into(),
            outcome: v1::DnsOutcome::from(*outcome).into(),
            rcode: rcode.map(u32::from),
            rcode_name: rcode.map(|of| rcode_name(of).into_owned()).unwrap_or_default(),
            latency_ns: *latency_ns,
            retries: *retries,
            query_time_ns: asked.unwrap_or_default().0,
            query_bytes: *query_bytes,
            cgroup_id: *cgroup_id,
            socket_cookie: *cookie,
            node_name: self.node_name.to_string(),
            ..v1::DnsExchange::default()
        };
        match response {
            Some(response) => v1::DnsExchange {
                answers: response.answers.iter().map(answer).collect(),
                answer_count: response.answer_count.into(),
                truncated: response.truncated,
                authoritative: response.authoritative,
                recursion_available: response.recursion_available,
                authentic_data: response.authentic_data,
                late: response.late,
                response_bytes: response.bytes,
                ..exchange
            },
            None => exchange,
        }
    }
}

fn answer(answer: &DnsAnswer) -> v1::DnsAnswer {
    let DnsAnswer { name, kind, ttl, data } = answer;
    v1::DnsAnswer {
        name: name.to_string(),
        r#type: (*kind).into(),
        type_name: type_name(*kind).into_owned(),
        ttl_seconds: *ttl,
        data: match data {
            DnsData::Address(addr) => Some(v1::dns_answer::Data::Ip(match addr.to_canonical() {
                std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
                std::net::IpAddr::V6(v6) => ip(v6.octets()),
            })),
            DnsData::Name(name) => Some(v1::dns_answer::Data::Target(name.to_string())),
            DnsData::Other => None,
        },
    }
}

pub(in crate::api) fn dns_summary(summary: &DnsSummary) -> v1::DnsSummary {
    let DnsSummary { workload: owner, side, name, counts, first, last, .. } = summary;
    // Exhaustive: what is counted is told.
    let DnsCounts { queries, responses, timeouts, retries, truncated, rcodes, types, latency } =
        counts;
    let rcode = |(rcode, count): (u16, u64)| v1::DnsRcodeCount {
        rcode: rcode.into(),
        name: rcode_name(rcode).into_owned(),
        count,
    };
    let query_type = |(query_type, count): (u16, u64)| v1::DnsTypeCount {
        query_type: query_type.into(),
        name: type_name(query_type).into_owned(),
        count,
    };
    v1::DnsSummary {
        workload: owner.as_deref().map(workload),
        side: v1::DnsSide::from(*side).into(),
        name: name.as_deref().unwrap_or_default().to_owned(),
        other: name.is_none(),
        queries: *queries,
        responses: *responses,
        timeouts: *timeouts,
        retries: *retries,
        truncated: *truncated,
        rcodes: most_first(rcodes).into_iter().map(rcode).collect(),
        latency: Some(histogram(latency)),
        first_seen_ns: first.0,
        last_seen_ns: last.0,
        types: most_first(types).into_iter().map(query_type).collect(),
    }
}

fn most_first(counts: &[(u16, u64)]) -> Vec<(u16, u64)> {
    let mut counts = counts.to_vec();
    counts.sort_unstable_by_key(|(number, count)| (Reverse(*count), *number));
    counts
}

pub(in crate::api) fn dns_totals(totals: &DnsTotals, counters: &DnsCounters) -> v1::DnsTotals {
    let DnsTotals { queries, responses, timeouts, unasked, malformed } = *totals;
    let DnsCounters { packets: _, lost, evicted, unread: _, malformed: _ } = *counters;
    v1::DnsTotals { queries, responses, timeouts, unasked, malformed, lost_messages: lost, evicted }
}
