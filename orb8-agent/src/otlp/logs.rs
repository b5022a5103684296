//! Log records: one for each event, in the conventions' words.

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1 as proto;
use prost::Message;
use prost::bytes::Bytes;

use super::attributes::{Attributes, text};
use super::names;
use super::resource::{Resource, schema_url, scope};
use crate::event::{Signal, UnixNanos};
use crate::pipeline::Lost;

mod dns;
mod ends;
mod flow;
mod gpu;
mod tcp;

pub(super) use dns::exchange;
pub(super) use flow::flow;
pub(super) use gpu::accelerator;
pub(super) use tcp::event;

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// When it happened.
    pub(super) time: UnixNanos,
    /// What kind of event it is.
    pub(super) name: &'static str,
    /// How much it matters.
    pub(super) severity: Severity,
    /// A line for people.
    pub(super) body: String,
    /// Everything that is known of it.
    pub(super) attributes: Attributes,
}

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// It is as it should be.
    Info,
    /// It cost somebody time, or may.
    Warn,
    /// Somebody did not get what they asked for.
    Error,
}

impl Severity {
    const fn number(self) -> SeverityNumber {
        match self {
            Self::Info => SeverityNumber::Info,
            Self::Warn => SeverityNumber::Warn,
            Self::Error => SeverityNumber::Error,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

impl Record {
    /// Whether somebody should know of it.
    pub(super) fn is_alert(&self) -> bool {
        self.severity > Severity::Info
    }

    /// Returns it as a message has it.
    pub(super) fn message(self, observed: UnixNanos) -> LogRecord {
        let Self { time, name, severity, body, attributes } = self;
        LogRecord {
            time_unix_nano: time.0,
            observed_time_unix_nano: observed.0,
            severity_number: severity.number().into(),
            severity_text: severity.word().to_owned(),
            body: Some(text(body)),
            attributes: attributes.into_messages(),
            event_name: name.to_owned(),
            ..LogRecord::default()
        }
    }

    /// Encodes it.
    pub(super) fn encode(self, observed: UnixNanos) -> Bytes {
        self.message(observed).encode_to_vec().into()
    }
}

/// Returns that something was lost. `signal` is `None` where nobody knows whose it was.
pub(super) fn lost(time: UnixNanos, signal: Option<Signal>, lost: Lost) -> Record {
    let mut attributes = Attributes::default();
    attributes.text(names::SIGNAL, signal.map(Signal::name));
    let (at, body) = match lost {
        Lost::Kernel { packets, bytes } => {
            attributes.number(names::LOST_PACKETS, packets);
            attributes.number(names::LOST_BYTES, bytes);
            ("kernel", format!("{packets} packets ({bytes} bytes) are in no flow"))
        }
        Lost::Ring { events } => {
            attributes.number(names::LOST_EVENTS, events);
            ("ring", format!("the kernel's ring had no room for {events} events"))
        }
        Lost::Subscriber { events } => {
            attributes.number(names::LOST_EVENTS, events);
            match signal {
                Some(_) => ("behind", format!("the export fell behind by {events} events")),
                None => ("queue", format!("{events} records made room while none could be sent")),
            }
        }
    };
    attributes.text(names::LOST_AT, at);
    Record { time, name: "orb8.lost", severity: Severity::Warn, body, attributes }
}

/// A request whose records are encoded already. On the wire, bytes and a message are the same.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LogsRequest {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<proto::Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    log_records: Vec<Bytes>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

impl LogsRequest {
    /// Makes a request of encoded records.
    pub(super) fn new(resource: &Resource, log_records: Vec<Bytes>) -> Self {
        let (scope, schema_url) = (Some(scope()), schema_url());
        let scope_logs = vec![ScopeLogs { scope, log_records, schema_url: schema_url.clone() }];
        let resource = Some(resource.message());
        Self { resource_logs: vec![ResourceLogs { resource, scope_logs, schema_url }] }
    }
}
