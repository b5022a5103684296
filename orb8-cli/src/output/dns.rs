//! DNS exchanges, summaries and totals as objects. The schema is documented one level up.

use std::io::{self, Write};
use std::net::IpAddr;

use orb8_proto::v1::stream_dns_response::Event;
use orb8_proto::v1::{
    DnsAnswer, DnsExchange, DnsOutcome, DnsRcodeCount, DnsSummary, DnsTotals, DnsTypeCount,
    StreamDnsResponse,
};
use serde::Serialize;

use super::Machine;
use super::end::{EndObject, InterfaceObject, WorkloadObject};
use super::histogram::HistogramObject;
use super::lost::LostObject;
use super::value::{Word, is_zero, timestamp};

/// Writes one message of a stream; nothing for what this build does not know.
pub(crate) fn write_message(
    machine: Machine,
    out: &mut dyn Write,
    message: &StreamDnsResponse,
) -> io::Result<()> {
    match &message.event {
        Some(Event::Exchange(exchange)) => machine.write(out, &ExchangeObject::new(exchange)),
        Some(Event::Lost(lost)) => machine.write(out, &LostObject::new(lost)),
        None => Ok(()),
    }
}

/// What became of one query.
#[derive(Debug, Serialize)]
struct ExchangeObject<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_time: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
    client: EndObject<'a>,
    server: EndObject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_type: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    query_type_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_class: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rcode: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    rcode_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ns: Option<u64>,
    retries: u32,
    late: bool,
    truncated: bool,
    authoritative: bool,
    recursion_available: bool,
    authentic_data: bool,
    answers: Vec<AnswerObject<'a>>,
    answer_count: u32,
    query_bytes: u32,
    response_bytes: u32,
    #[serde(skip_serializing_if = "is_zero")]
    cgroup_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    socket_cookie: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<InterfaceObject<'a>>,
}

#[derive(Debug, Serialize)]
struct AnswerObject<'a> {
    name: &'a str,
    r#type: u32,
    type_name: &'a str,
    ttl_seconds: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
}

/// What one owner asked for one name.
#[derive(Debug, Serialize)]
pub(crate) struct SummaryObject<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<WorkloadObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Word,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    other: bool,
    queries: u64,
    responses: u64,
    timeouts: u64,
    retries: u64,
    truncated: u64,
    rcodes: Vec<RcodeObject<'a>>,
    query_types: Vec<TypeObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<HistogramObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
}

#[derive(Debug, Serialize)]
struct RcodeObject<'a> {
    rcode: u32,
    rcode_name: &'a str,
    count: u64,
}

#[derive(Debug, Serialize)]
struct TypeObject<'a> {
    query_type: u32,
    query_type_name: &'a str,
    count: u64,
}

/// Everything since the agent started.
#[derive(Debug, Serialize)]
pub(crate) struct TotalsObject {
    r#type: &'static str,
    queries: u64,
    responses: u64,
    timeouts: u64,
    unasked: u64,
    malformed: u64,
    lost_messages: u64,
    evicted: u64,
}

impl<'a> ExchangeObject<'a> {
    fn new(exchange: &'a DnsExchange) -> Self {
        let outcome = exchange.outcome();
        let is_parsed = outcome != DnsOutcome::Malformed;
        let is_waited_for = is_parsed && outcome != DnsOutcome::Unasked;
        Self {
            r#type: "dns",
            time: timestamp(exchange.time_ns),
            query_time: timestamp(exchange.query_time_ns),
            node_name: &exchange.node_name,
            client: EndObject::with_port(exchange.client.as_ref()),
            server: EndObject::with_port(exchange.server.as_ref()),
            protocol: exchange.protocol().word(),
            side: exchange.side().word(),
            hook: exchange.hook().word(),
            outcome: outcome.word(),
            id: is_parsed.then_some(exchange.id),
            name: &exchange.name,
            query_type: is_parsed.then_some(exchange.query_type),
            query_type_name: &exchange.query_type_name,
            query_class: is_parsed.then_some(exchange.query_class),
            rcode: exchange.rcode,
            rcode_name: &exchange.rcode_name,
            latency_ns: is_waited_for.then_some(exchange.latency_ns),
            retries: exchange.retries,
            late: exchange.late,
            truncated: exchange.truncated,
            authoritative: exchange.authoritative,
            recursion_available: exchange.recursion_available,
            authentic_data: exchange.authentic_data,
            answers: exchange.answers.iter().map(AnswerObject::new).collect(),
            answer_count: exchange.answer_count,
            query_bytes: exchange.query_bytes,
            response_bytes: exchange.response_bytes,
            cgroup_id: exchange.cgroup_id,
            socket_cookie: exchange.socket_cookie,
            interface: exchange.interface.as_ref().map(InterfaceObject::new),
        }
    }
}

impl<'a> AnswerObject<'a> {
    fn new(answer: &'a DnsAnswer) -> Self {
        Self {
            name: &answer.name,
            r#type: answer.r#type,
            type_name: &answer.type_name,
            ttl_seconds: answer.ttl_seconds,
            ip: answer.addr(),
            target: answer.target(),
        }
    }
}

impl<'a> SummaryObject<'a> {
    pub(crate) fn new(summary: &'a DnsSummary) -> Self {
        let rcode = |count: &'a DnsRcodeCount| {
            let DnsRcodeCount { rcode, name, count } = count;
            RcodeObject { rcode: *rcode, rcode_name: name, count: *count }
        };
        let query_type = |count: &'a DnsTypeCount| {
            let DnsTypeCount { query_type, name, count } = count;
            TypeObject { query_type: *query_type, query_type_name: name, count: *count }
        };
        Self {
            r#type: "dns_summary",
            workload: summary.workload.as_ref().map(WorkloadObject::new),
            side: summary.side().word(),
            name: &summary.name,
            other: summary.other,
            queries: summary.queries,
            responses: summary.responses,
            timeouts: summary.timeouts,
            retries: summary.retries,
            truncated: summary.truncated,
            rcodes: summary.rcodes.iter().map(rcode).collect(),
            query_types: summary.types.iter().map(query_type).collect(),
            latency: HistogramObject::new(summary.latency.as_ref()),
            first_seen: timestamp(summary.first_seen_ns),
            last_seen: timestamp(summary.last_seen_ns),
        }
    }
}

impl TotalsObject {
    pub(crate) const fn new(totals: &DnsTotals) -> Self {
        // Exhaustive, so that a new count is printed.
        let DnsTotals { queries, responses, timeouts, unasked, malformed, lost_messages, evicted } =
            *totals;
        let r#type = "dns_totals";
        Self { r#type, queries, responses, timeouts, unasked, malformed, lost_messages, evicted }
    }
}
