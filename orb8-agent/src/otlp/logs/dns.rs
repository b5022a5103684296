//! DNS exchanges.

use orb8_proto::dns::{rcode_name, type_name};
use orb8_proto::filter::End;
use orb8_proto::v1;

use super::ends::{self, Between, Line};
use super::{Record, Severity};
use crate::event::{DnsAnswer, DnsData, DnsExchange, DnsOutcome, DnsSide, UnixNanos};
use crate::otlp::attributes::Attributes;
use crate::otlp::names;
use crate::pipeline::{DnsEvent, DnsView};
use crate::store::InterfaceNames;

/// Response codes that are answers: there is such a name, and there is none.
const NOERROR: u16 = 0;
const NXDOMAIN: u16 = 3;

/// Returns the record of an exchange.
pub(in crate::otlp) fn exchange(
    time: UnixNanos,
    event: &DnsEvent,
    interfaces: &InterfaceNames,
) -> Record {
    let view = DnsView { event, interfaces };
    let between = Between {
        local: Some(event.local()),
        parties: End::BOTH.map(|end| view.party(end)),
        domains: [None; 2],
    };
    let mut attributes = Attributes::default();
    ends::tell(&view, &between, &mut attributes);
    let DnsExchange { side, question, outcome, response, latency_ns, retries, .. } =
        &*event.exchange;
    attributes.text(names::NETWORK_PROTOCOL_NAME, "dns");
    attributes.text(names::DNS_SIDE, v1::DnsSide::from(*side).word());
    let hook = if *side == DnsSide::Transit { v1::Hook::Interface } else { v1::Hook::Socket };
    attributes.text(names::HOOK, hook.word());
    let asked = question.as_ref().map(|question| (&*question.name, type_name(question.kind)));
    if let Some((name, kind)) = &asked {
        attributes.text(names::DNS_QUESTION_NAME, *name);
        attributes.text(names::DNS_TYPE, &**kind);
    }
    if event.exchange.asked.is_some() {
        attributes.seconds(names::DNS_DURATION, Some(*latency_ns));
        attributes.number(names::DNS_RETRIES, *retries);
    }
    let rcode = response.as_ref().map(|response| rcode_name(response.rcode));
    attributes.text(names::DNS_RCODE, rcode.as_deref());
    if let Some(response) = response {
        attributes.list(names::DNS_ANSWERS, response.answers.iter().filter_map(address));
        attributes.flag(names::DNS_LATE, response.late);
        attributes.flag(names::DNS_TRUNCATED, response.truncated);
    }
    let (severity, error) = judge(&event.exchange, rcode.as_deref());
    attributes.text(names::ERROR_TYPE, error);

    let (name, kind) = asked.unwrap_or_default();
    let became = error.or(rcode.as_deref()).unwrap_or_default();
    let took = std::time::Duration::from_nanos(*latency_ns);
    Record {
        time,
        name: match outcome {
            DnsOutcome::Answered => "orb8.dns.answered",
            DnsOutcome::Timeout => "orb8.dns.timeout",
            DnsOutcome::Unasked => "orb8.dns.unasked",
            DnsOutcome::Malformed => "orb8.dns.malformed",
        },
        severity,
        body: format!("{} {kind} {name} {became} {took:.1?}", Line(&view, &between)),
        attributes,
    }
}

/// Returns how much it matters, and what went wrong. That a name does not exist is an answer, and what
/// search domains get all day.
fn judge<'a>(exchange: &DnsExchange, rcode: Option<&'a str>) -> (Severity, Option<&'a str>) {
    match (exchange.outcome, &exchange.response) {
        (DnsOutcome::Timeout, _) => (Severity::Error, Some("timeout")),
        (DnsOutcome::Malformed, _) => (Severity::Warn, Some("malformed")),
        (_, Some(response)) if !matches!(response.rcode, NOERROR | NXDOMAIN) => {
            (Severity::Error, rcode)
        }
        (DnsOutcome::Unasked, _) => (Severity::Warn, Some("unasked")),
        (DnsOutcome::Answered, Some(response)) if response.late => (Severity::Warn, Some("late")),
        (DnsOutcome::Answered, Some(response)) if response.rcode == NXDOMAIN => {
            (Severity::Info, rcode)
        }
        (DnsOutcome::Answered, _) => (Severity::Info, None),
    }
}

fn address(answer: &DnsAnswer) -> Option<String> {
    match &answer.data {
        DnsData::Address(address) => Some(address.to_canonical().to_string()),
        DnsData::Name(_) | DnsData::Other => None,
    }
}
