//! Speaks OTLP with one collector, over gRPC or HTTP: one request at a time, and why it failed.
//!
//! Both go over the same connections, so TLS, headers and timeouts are the same for both.

use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Uri};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;

use super::logs::LogsRequest;
use super::retry::Failure;
use super::{OtlpConfig, Protocol};
use crate::error::AgentError;
use transport::Transport;

mod grpc;
mod http_post;
mod tls;
mod transport;

/// A request that takes longer has failed: OpenTelemetry's own default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How the agent calls itself.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("orb8-agent/", env!("CARGO_PKG_VERSION")));

/// Something that a collector takes.
pub(super) trait Export: Message + Clone + Default + 'static {
    /// What it answers.
    type Answer: Message + Default + 'static;
    /// Where it takes it over gRPC.
    const METHOD: &str;
    /// Where it takes it over HTTP, below the endpoint.
    const PATH: &str;

    /// Returns what it did not take of a request, and what it has to say.
    fn partial(answer: Self::Answer) -> Option<Partial>;
}

/// What a collector did not take of a request that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Partial {
    /// Records or data points.
    pub(super) rejected: u64,
    /// Why; of none rejected, a warning.
    pub(super) message: String,
}

impl Partial {
    fn new(rejected: i64, message: String) -> Option<Self> {
        let rejected = u64::try_from(rejected).unwrap_or(0);
        (rejected > 0 || !message.is_empty()).then_some(Self { rejected, message })
    }
}

impl Export for LogsRequest {
    type Answer = ExportLogsServiceResponse;
    const METHOD: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    const PATH: &str = "v1/logs";

    fn partial(answer: Self::Answer) -> Option<Partial> {
        let partial = answer.partial_success?;
        Partial::new(partial.rejected_log_records, partial.error_message)
    }
}

impl Export for ExportMetricsServiceRequest {
    type Answer = ExportMetricsServiceResponse;
    const METHOD: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    const PATH: &str = "v1/metrics";

    fn partial(answer: Self::Answer) -> Option<Partial> {
        let partial = answer.partial_success?;
        Partial::new(partial.rejected_data_points, partial.error_message)
    }
}

/// Speaks with one collector. Cloning shares its connections.
#[derive(Clone, Debug)]
pub(super) struct Client {
    protocol: Protocol,
    endpoint: Uri,
    transport: Transport,
    timeout: Duration,
}

impl Client {
    /// Prepares to connect, which the first request does.
    ///
    /// # Errors
    /// [`AgentError::OtlpTls`] for authorities that cannot be used.
    pub(super) fn build(endpoint: &Uri, config: &OtlpConfig) -> Result<Self, AgentError> {
        let mut headers: HeaderMap = config.headers.clone();
        headers.entry(USER_AGENT).or_insert(AGENT);
        let tls = tls::config(endpoint, config.ca.as_deref())?;
        let transport = Transport::new(tls, config.protocol, headers);
        Ok(Self {
            protocol: config.protocol,
            endpoint: endpoint.clone(),
            transport,
            timeout: TIMEOUT,
        })
    }

    /// Returns the collector's port.
    pub(super) fn port(&self) -> u16 {
        let usual = if self.endpoint.scheme_str() == Some("https") { 443 } else { 80 };
        self.endpoint.port_u16().unwrap_or(usual)
    }

    /// Gives up sooner.
    #[cfg(test)]
    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sends one request, and returns what of it was not taken.
    pub(super) async fn export<T: Export>(&self, request: T) -> Result<Option<Partial>, Failure> {
        let Self { protocol, endpoint, transport, timeout } = self;
        let answer = async {
            match protocol {
                Protocol::Grpc => grpc::export(transport, endpoint, request, *timeout).await,
                Protocol::Http => http_post::export(transport, endpoint, &request).await,
            }
        };
        let answered = tokio::time::timeout(*timeout, answer).await;
        let late = |_| Failure::retry(format!("no answer within {timeout:?}"));
        answered.map_err(late)?.map(T::partial)
    }
}

/// Returns what is worth telling of a text that somebody else wrote: a line of it.
fn brief(text: &str) -> String {
    const LENGTH: usize = 200;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(LENGTH).collect()
}
