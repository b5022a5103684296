//! One request over HTTP.

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use prost::Message;
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::codegen::Service;

use super::transport::Transport;
use super::{Export, brief};
use crate::otlp::retry::Failure;

/// OTLP's content type of protobuf.
const PROTOBUF: &str = "application/x-protobuf";

/// Answers are a few words.
const LONGEST_ANSWER: usize = 1 << 20;

/// Sends a request, and returns the answer.
pub(super) async fn export<T: Export>(
    transport: &Transport,
    endpoint: &Uri,
    request: &T,
) -> Result<T::Answer, Failure> {
    let body = Full::new(Bytes::from(request.encode_to_vec()));
    let request = Request::post(below(endpoint, T::PATH))
        .header(CONTENT_TYPE, PROTOBUF)
        .body(Body::new(body))
        .map_err(|error| Failure::refused(error.to_string()))?;
    let response = transport.clone().call(request).await;
    let (head, body) = response.map_err(|error| Failure::retry(error.to_string()))?.into_parts();
    let body = Limited::new(body, LONGEST_ANSWER).collect().await;
    let body = body.map_err(|error| Failure::retry(format!("the answer broke off: {error}")))?;
    let body = body.to_bytes();
    if !head.status.is_success() {
        return Err(failure(head.status, &head.headers, &body));
    }
    T::Answer::decode(body.clone()).map_err(|_| {
        let answer = brief(&String::from_utf8_lossy(&body));
        Failure::refused(format!("no collector answered, but somebody who says: {answer}"))
    })
}

/// Returns the endpoint with a path below its own.
fn below(endpoint: &Uri, path: &str) -> String {
    let endpoint = endpoint.to_string();
    format!("{}/{path}", endpoint.trim_end_matches('/'))
}

/// Tells by OTLP's table whether it may succeed later.
fn failure(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Failure {
    let said = said(headers, body);
    let separator = if said.is_empty() { "" } else { ": " };
    let reason = format!("HTTP {status}{separator}{said}");
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let after = after.and_then(|value| wait(value, SystemTime::now()));
            Failure::Retry { reason, after }
        }
        StatusCode::NOT_FOUND => Failure::refused(format!(
            "{reason}: it takes nothing there; paths such as /v1/logs are added to --otlp-endpoint"
        )),
        _ => Failure::refused(reason),
    }
}

/// Returns what the answer says of the error.
fn said(headers: &HeaderMap, body: &Bytes) -> String {
    if let Some(location) = headers.get(LOCATION) {
        let location = brief(&String::from_utf8_lossy(location.as_bytes()));
        return format!("it is elsewhere, at {location}");
    }
    let is_protobuf = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == PROTOBUF);
    let status = is_protobuf.then(|| tonic_types::Status::decode(body.clone()).ok()).flatten();
    match status {
        Some(status) => brief(&status.message),
        None => brief(&String::from_utf8_lossy(body)),
    }
}

/// Reads `Retry-After`: seconds, or a date.
fn wait(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    Some(SystemTime::from(date.timestamp()).duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_added_to_the_endpoint() {
        let path = |endpoint: &str| below(&endpoint.parse().unwrap(), "v1/logs");
        assert_eq!(path("http://c:4318"), "http://c:4318/v1/logs");
        assert_eq!(path("http://c:4318/"), "http://c:4318/v1/logs");
        assert_eq!(path("https://c/api/otlp/"), "https://c/api/otlp/v1/logs");
    }

    #[test]
    fn only_what_the_specification_lists_is_tried_again() {
        let is_retried = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            matches!(
                failure(status, &HeaderMap::new(), &Bytes::new()),
                Failure::Retry { after: None, .. }
            )
        };
        let retried: Vec<u16> = (300..600).filter(|status| is_retried(*status)).collect();
        assert_eq!(retried, [429, 502, 503, 504]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480);
        assert_eq!(wait("120", now), Some(Duration::from_secs(120)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:27:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(wait("soon", now), None);
        assert_eq!(wait("-1", now), None);
    }

    #[test]
    fn an_error_is_told_in_its_own_words() {
        let status =
            tonic_types::Status { message: "no tenant\nat all".into(), ..Default::default() };
        let mut headers = HeaderMap::new();
        let text = |headers: &HeaderMap, body: Vec<u8>| {
            failure(StatusCode::BAD_REQUEST, headers, &body.into()).reason().to_owned()
        };
        assert_eq!(text(&headers, b"<p>\tno\n".to_vec()), "HTTP 400 Bad Request: <p>no");
        assert_eq!(text(&headers, Vec::new()), "HTTP 400 Bad Request");
        headers.insert(CONTENT_TYPE, PROTOBUF.parse().unwrap());
        assert_eq!(text(&headers, status.encode_to_vec()), "HTTP 400 Bad Request: no tenant");
    }
}
