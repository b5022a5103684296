//! How the export fares: on the status board, in the checks of `orb8 status`, and as metrics.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;

use super::Protocol;
use crate::status::{Check, CheckState, StatusBoard};

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Log records.
    Logs,
    /// Data points of metrics.
    Metrics,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Logs, Self::Metrics];

    /// Returns the word for it in labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// Why something was not exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The queue was full.
    Queue,
    /// The export fell behind the events.
    Behind,
    /// The collector took the rest of the request and refused this.
    Rejected,
    /// The collector refused the request for good.
    Refused,
    /// The collector was to be asked again for too long.
    Retries,
    /// The agent stopped.
    Shutdown,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 6] =
        [Self::Queue, Self::Behind, Self::Rejected, Self::Refused, Self::Retries, Self::Shutdown];

    /// Returns the word for it in labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Behind => "behind",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::Retries => "retries",
            Self::Shutdown => "shutdown",
        }
    }
}

/// How the export fares. Totals since start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpStatus {
    /// Protocol and URL.
    pub target: String,
    /// Log records.
    pub logs: KindStatus,
    /// Data points.
    pub metrics: KindStatus,
    /// Log records that wait.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
}

/// How one kind fares. Totals since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindStatus {
    /// What the collector took.
    pub exported: u64,
    /// What it did not get, in the order of [`Cause::ALL`].
    pub dropped: [u64; Cause::ALL.len()],
    /// Requests that failed.
    pub failures: u64,
    /// The error, while the last request failed.
    pub error: Option<String>,
}

impl OtlpStatus {
    /// Nothing was sent yet.
    #[must_use]
    pub fn new(protocol: Protocol, endpoint: &Uri) -> Self {
        Self {
            target: format!("{protocol} to {endpoint}"),
            logs: KindStatus::default(),
            metrics: KindStatus::default(),
            queued: 0,
            queued_bytes: 0,
        }
    }

    /// Returns how one kind fares.
    #[must_use]
    pub const fn of(&self, kind: Kind) -> &KindStatus {
        match kind {
            Kind::Logs => &self.logs,
            Kind::Metrics => &self.metrics,
        }
    }

    const fn of_mut(&mut self, kind: Kind) -> &mut KindStatus {
        match kind {
            Kind::Logs => &mut self.logs,
            Kind::Metrics => &mut self.metrics,
        }
    }

    /// Returns it as a row of checks.
    #[must_use]
    pub fn check(&self) -> Check {
        let Self { target, logs, metrics, queued, queued_bytes: _ } = self;
        let told = |what: &str, kind: &KindStatus| {
            let KindStatus { exported, dropped, failures: _, error } = kind;
            let dropped = match dropped.iter().sum::<u64>() {
                0 => String::new(),
                dropped => format!(", {dropped} dropped"),
            };
            let error = error.as_ref().map(|error| format!(", {error}")).unwrap_or_default();
            format!("{exported} {what} sent{dropped}{error}")
        };
        let is_failing = Kind::ALL.iter().any(|kind| self.of(*kind).error.is_some());
        let waiting = if *queued > 0 { format!(", {queued} wait") } else { String::new() };
        Check {
            name: "OTLP export",
            state: if is_failing { CheckState::Failed } else { CheckState::Ok },
            detail: format!(
                "{target}: {}; {}{waiting}",
                told("data points", metrics),
                told("log records", logs),
            ),
            remedy: is_failing.then(|| {
                "see that the collector runs and is reached, and that --otlp-endpoint and \
                 --otlp-protocol are what it listens for (port 4317 is usually grpc, 4318 \
                 http/protobuf)"
                    .to_owned()
            }),
        }
    }
}

/// A collector may remark on every request; once in this time is enough to be seen.
const REMARK: Duration = Duration::from_secs(60);

/// Writes how the export fares. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Health {
    board: StatusBoard,
    remarked: Arc<Mutex<Option<Instant>>>,
}

impl Health {
    pub(super) fn new(board: StatusBoard) -> Self {
        Self { board, remarked: Arc::default() }
    }

    /// Counts what the collector took, and notes that it is there.
    pub(super) fn exported(&self, kind: Kind, count: u64) {
        let was_failing = self.update(|status| {
            let kind = status.of_mut(kind);
            kind.exported += count;
            kind.error.take().is_some()
        });
        if was_failing == Some(true) {
            tracing::info!(kind = kind.word(), "the collector takes what is sent again");
        }
    }

    /// Counts what it does not get.
    pub(super) fn dropped(&self, kind: Kind, cause: Cause, count: u64) {
        if count > 0 {
            self.update(|status| status.of_mut(kind).dropped[cause as usize] += count);
        }
    }

    /// Counts a request that failed. Only the first of several is logged.
    pub(super) fn failed(&self, kind: Kind, error: &str) {
        let was_failing = self.update(|status| {
            let kind = status.of_mut(kind);
            kind.failures += 1;
            kind.error.replace(error.to_owned()).is_some()
        });
        if was_failing == Some(false) {
            tracing::warn!(kind = kind.word(), error, "the collector does not take what is sent");
        }
    }

    /// Logs what the collector has to say of a request that it took.
    pub(super) fn remarked(&self, kind: Kind, rejected: u64, remark: &str) {
        let now = Instant::now();
        let mut last = self.remarked.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| now.saturating_duration_since(last) >= REMARK) {
            *last = Some(now);
            tracing::warn!(kind = kind.word(), rejected, remark, "the collector has a remark");
        }
    }

    /// Notes what waits.
    pub(super) fn queued(&self, records: usize, bytes: usize) {
        self.update(|status| {
            (status.queued, status.queued_bytes) = (records as u64, bytes as u64);
        });
    }

    /// Notes that the export itself ended.
    pub(super) fn broken(&self, error: &impl Display) {
        for kind in Kind::ALL {
            self.update(|status| {
                status.of_mut(kind).error = Some(format!("the export ended: {error}"));
            });
        }
    }

    fn update<T>(&self, change: impl FnOnce(&mut OtlpStatus) -> T) -> Option<T> {
        let mut result = None;
        self.board.update(|status| result = status.otlp.as_mut().map(change));
        result
    }
}
