//! Answers that are no success.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use kube::core::{Status, response::StatusDetails};

use super::{Failure, Verb, brief};

/// What a server, or a proxy before it, said instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::watch) struct Refusal {
    /// HTTP status.
    pub(in crate::watch) code: u16,
    /// What it said.
    pub(super) message: String,
    /// How long it wants to be left alone.
    pub(in crate::watch) retry_after: Option<Duration>,
}

impl Failure {
    /// What an answer says that is no success. Only an API server's own is sure to be a status, and
    /// its code is that of the answer.
    pub(in crate::watch) fn answer(
        code: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        verb: Verb,
    ) -> Self {
        let mut status = serde_json::from_slice::<Status>(body).unwrap_or_default();
        status.code = code.as_u16();
        if status.message.is_empty() {
            let text = String::from_utf8_lossy(body);
            let name = code.canonical_reason().unwrap_or_default();
            status.message = if text.trim().is_empty() { name.into() } else { text.into() };
        }
        // The other form is a date, which would ask for clocks that agree.
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Self::told(&status, verb, seconds.map(Duration::from_secs))
    }

    /// What a status says that a watch ends with.
    pub(in crate::watch) fn status(status: &Status) -> Self {
        Self::told(status, Verb::Watch { streaming: false }, None)
    }

    fn told(status: &Status, verb: Verb, retry_after: Option<Duration>) -> Self {
        let details = status.details.as_ref();
        let seconds = details.map_or(0, |details| details.retry_after_seconds);
        let in_body = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        let refusal = Refusal {
            code: status.code,
            message: brief(&status.message),
            retry_after: retry_after.max(in_body),
        };
        match (status.code, verb) {
            (401, _) => Self::Unauthorized,
            (403, _) => Self::Forbidden(verb),
            // A proxy has pages of its own for what it cannot find.
            (404, _) if status.reason == "NotFound" => Self::Missing(refusal),
            (410, _) => Self::Expired,
            _ if details.is_some_and(is_ahead) => Self::Ahead,
            // Before 1.27 the parameters are invalid, and without the feature forbidden: 422. What
            // else a proxy makes of them, a list without them may pass.
            (400..=499, Verb::Watch { streaming: true }) if !refusal.is_passing() => {
                Self::NoStreaming
            }
            _ => Self::Refused(refusal),
        }
    }
}

impl Refusal {
    /// Whether the server means the moment rather than the request.
    fn is_passing(&self) -> bool {
        matches!(self.code, 404 | 408 | 429)
    }

    /// Whether the version that was asked for may be to blame.
    pub(in crate::watch) fn is_about_version(&self) -> bool {
        matches!(self.code, 400 | 422)
    }
}

fn is_ahead(details: &StatusDetails) -> bool {
    details.causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
}
