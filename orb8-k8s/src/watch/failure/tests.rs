use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};

use http::{HeaderMap, HeaderValue, StatusCode};

use super::*;
use crate::resources::RESOURCES;

const WATCH: Verb = Verb::Watch { streaming: false };
const STREAM: Verb = Verb::Watch { streaming: true };

fn answer(code: u16, body: &str, verb: Verb) -> Failure {
    let code = StatusCode::from_u16(code).unwrap();
    Failure::answer(code, &HeaderMap::new(), body.as_bytes(), verb)
}

fn described(failure: &Failure) -> String {
    failure.describe(&RESOURCES[0])
}

fn status(code: u16, reason: &str) -> String {
    format!(r#"{{"kind":"Status","message":"because","reason":"{reason}","code":{code}}}"#)
}

#[test]
fn a_refusal_names_the_verb_the_resource_and_where_the_rules_are() {
    let refused = answer(403, &status(403, "Forbidden"), WATCH).describe(&RESOURCES[3]);
    assert_eq!(
        refused,
        "the API server refuses `watch` on `endpointslices` (discovery.k8s.io): grant it, \
         see deploy/base/rbac.yaml; what is behind Services that lead to no pod, such as \
         the API server's own cannot be told without"
    );
    let refused = described(&answer(403, "", Verb::List));
    assert!(refused.contains("`list` on `pods`: grant"), "{refused}");
}

#[test]
fn only_a_refused_stream_is_for_want_of_streaming() {
    for code in [400, 405, 422] {
        assert!(matches!(answer(code, "", STREAM), Failure::NoStreaming));
        assert!(matches!(answer(code, "", WATCH), Failure::Refused(_)));
    }
    assert!(matches!(answer(401, "", STREAM), Failure::Unauthorized));
    assert!(matches!(answer(403, "", STREAM), Failure::Forbidden(STREAM)));
    assert!(matches!(answer(410, "", STREAM), Failure::Expired));
    for code in [302, 404, 408, 429, 500, 503] {
        let failure = answer(code, "", STREAM);
        assert!(matches!(failure, Failure::Refused(_)), "{failure:?}");
    }
}

#[test]
fn a_resource_is_missing_where_an_api_server_says_so() {
    assert!(matches!(answer(404, &status(404, "NotFound"), STREAM), Failure::Missing(_)));
    for page in ["404 page not found", "<html>", "{}", r#"{"message":"no route"}"#] {
        assert!(matches!(answer(404, page, STREAM), Failure::Refused(_)), "{page}");
    }
    let hint = described(&answer(404, "404 page not found", STREAM));
    assert!(hint.ends_with("404 page not found; check that this is a Kubernetes API server"));
}

#[test]
fn the_code_is_that_of_the_answer_whatever_its_body_says() {
    let session = answer(401, r#"{"message":"no such session"}"#, WATCH);
    assert!(matches!(session, Failure::Unauthorized), "{session:?}");
    let other = described(&answer(502, r#"{"code":200,"message":"odd"}"#, WATCH));
    assert!(other.contains("answers 502 for `pods`: odd"), "{other}");
    let empty = described(&answer(503, "", WATCH));
    assert!(empty.contains("answers 503 for `pods`: Service Unavailable"), "{empty}");
}

#[test]
fn the_server_says_how_long_it_wants_to_be_left_alone() {
    let retry_after = |header: Option<&'static str>, body: &str| {
        let headers =
            header.map(|value| (http::header::RETRY_AFTER, HeaderValue::from_static(value)));
        let headers = HeaderMap::from_iter(headers);
        let failure =
            Failure::answer(StatusCode::TOO_MANY_REQUESTS, &headers, body.as_bytes(), WATCH);
        let Failure::Refused(refusal) = failure else { panic!("{failure:?}") };
        refusal.retry_after.map(|wanted| wanted.as_secs())
    };
    let body = r#"{"reason":"TooManyRequests","details":{"retryAfterSeconds":7}}"#;
    assert_eq!(retry_after(Some("20"), "Too many requests"), Some(20));
    assert_eq!(retry_after(None, body), Some(7));
    assert_eq!(retry_after(Some("20"), body), Some(20));
    assert_eq!(retry_after(Some("Wed, 21 Oct 2026 07:28:00 GMT"), ""), None);
    assert_eq!(retry_after(None, ""), None);
}

#[test]
fn a_version_that_the_server_has_not_reached_is_known_by_its_cause() {
    let body = r#"{"message":"Timeout: Too large resource version: 9, current: 1","reason":"Timeout",
        "details":{"causes":[{"reason":"ResourceVersionTooLarge","message":"Too large resource version"}],
        "retryAfterSeconds":1},"code":504}"#;
    for verb in [Verb::List, WATCH, STREAM] {
        assert!(matches!(answer(504, body, verb), Failure::Ahead));
    }
    assert!(matches!(answer(504, &status(504, "Timeout"), WATCH), Failure::Refused(_)));
}

#[test]
fn a_long_answer_is_cut_short() {
    let text = described(&answer(502, &"ä".repeat(5000), Verb::List));
    assert!(text.contains("502") && text.chars().count() < 400);
}

#[test]
fn causes_are_told_once_with_advice() {
    let told =
        |error: io::Error| described(&Failure::unanswered(kube::Error::Service(error.into())));
    assert_eq!(
        told(io::ErrorKind::ConnectionRefused.into()),
        "the API server cannot be reached: connection refused; check that it runs, and its \
         address and port"
    );
    let tls = io::Error::new(io::ErrorKind::InvalidData, "invalid peer certificate: Expired");
    assert_eq!(
        told(io::Error::other(tls)),
        "the API server cannot be reached: invalid peer certificate: Expired; check the \
         certificate authority, and the server's name and clock"
    );
}

#[test]
fn a_plugin_that_fails_is_no_server_that_cannot_be_reached() {
    let out = Output {
        status: ExitStatus::from_raw(1 << 8),
        stdout: b"a-secret".to_vec(),
        stderr: b"log in first\n".to_vec(),
    };
    let failed = AuthError::AuthExecRun { cmd: "aws".to_owned(), out: Box::new(out) };
    let failure = Failure::unanswered(kube::Error::Service(failed.into()));
    assert!(matches!(failure, Failure::Credentials(_)), "{failure:?}");
    assert_eq!(
        described(&failure),
        "there are no credentials: `aws` failed (exit status: 1): log in first; see the \
         kubeconfig's user"
    );
}
