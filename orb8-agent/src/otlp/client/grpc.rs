//! One request over gRPC.

use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use super::transport::{Transport, Unreachable};
use super::{Export, brief};
use crate::otlp::retry::Failure;

/// Sends a request, and returns the answer.
pub(super) async fn export<T: Export>(
    transport: &Transport,
    endpoint: &Uri,
    request: T,
    timeout: Duration,
) -> Result<T::Answer, Failure> {
    let mut client = Grpc::with_origin(transport.clone(), endpoint.clone());
    client.ready().await.map_err(|error| Failure::retry(error.to_string()))?;
    let mut request = Request::new(request);
    // The collector need not go on when nobody waits any more.
    request.set_timeout(timeout);
    let method = PathAndQuery::from_static(T::METHOD);
    let answered = client.unary(request, method, ProstCodec::default()).await;
    answered.map(tonic::Response::into_inner).map_err(|status| failure(&status))
}

/// Tells by OTLP's table whether it may succeed later.
fn failure(status: &Status) -> Failure {
    let code = status.code();
    if let Some(unreachable) = unreachable(status) {
        return Failure::retry(unreachable.to_string());
    }
    let message = brief(status.message());
    let reason = format!("{code:?}: {message}");
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Failure::Retry { reason, after },
        // Without a time to come back it has no room for this request at all.
        Code::ResourceExhausted if after.is_some() => Failure::Retry { reason, after },
        // The connection broke, which is nobody's verdict.
        _ if std::error::Error::source(status).is_some() => Failure::Retry { reason, after },
        Code::Unimplemented => Failure::refused(format!(
            "{reason}: it has no such service there; does its pipeline have an otlp receiver?"
        )),
        _ => Failure::refused(reason),
    }
}

fn unreachable(status: &Status) -> Option<&Unreachable> {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(unreachable) = error.downcast_ref() {
            return Some(unreachable);
        }
        source = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn is_retried(status: &Status) -> bool {
        matches!(failure(status), Failure::Retry { .. })
    }

    #[test]
    fn only_what_the_specification_lists_is_tried_again() {
        let retried: Vec<i32> =
            (0..=16).filter(|code| is_retried(&Status::new(Code::from(*code), "no"))).collect();
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS.
        assert_eq!(retried, [1, 4, 10, 11, 14, 15]);
    }

    #[test]
    fn a_full_collector_says_when_to_return() {
        let delay = Duration::from_millis(1_500);
        let details = ErrorDetails::with_retry_info(Some(delay));
        let full = Status::with_error_details(Code::ResourceExhausted, "full", details);
        let expected =
            Failure::Retry { reason: "ResourceExhausted: full".into(), after: Some(delay) };
        assert_eq!(failure(&full), expected);
        assert!(!is_retried(&Status::new(Code::ResourceExhausted, "message too large")));
    }
}
