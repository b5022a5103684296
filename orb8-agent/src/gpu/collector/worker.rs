//! One source in a task of its own: it is asked, and waited for no longer than there is time.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::core::{Answer, Outcome};
use crate::gpu::device::SourceKind;
use crate::gpu::source::{Source, SourceError, Unread};

/// A source that is not there may be installed, or its driver loaded.
const ABSENT_INTERVAL: Duration = Duration::from_secs(30);

/// Processes of which a source should know.
pub(super) type Pids = Arc<[u32]>;

/// The collector's end.
#[derive(Debug)]
pub(super) struct Worker {
    kind: SourceKind,
    requests: mpsc::Sender<Pids>,
    answers: mpsc::Receiver<Answer>,
    /// When it was asked, while it has not answered.
    asked: Option<Instant>,
    /// Whether that took too long already: nobody waits for it again.
    is_late: bool,
    /// When it is asked again.
    due: Option<Instant>,
}

impl Worker {
    /// Makes both ends. The second one is to be run in a task.
    pub(super) fn new<S: Source>(
        source: S,
        follow: fn(&mut S, &[u32]),
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (requests, asked) = mpsc::channel(1);
        let (sender, answers) = mpsc::channel(1);
        let kind = source.kind();
        let worker = Self { kind, requests, answers, asked: None, is_late: false, due: None };
        (worker, work(source, follow, asked, sender))
    }

    /// Returns when it is to be asked, where that is not at each reading.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether an answer is to come.
    pub(super) const fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Asks it, where it is due and has answered.
    pub(super) fn ask(&mut self, pids: &Pids, now: Instant) {
        let is_due = self.due.is_none_or(|due| now >= due);
        if is_due && self.asked.is_none() {
            self.asked = Some(now);
            // One that ended says so when it is waited for.
            let _ = self.requests.try_send(Arc::clone(pids));
        }
    }

    /// Waits for its answer. One that is late is taken when it comes, and holds nobody up again.
    pub(super) async fn answer(&mut self, until: tokio::time::Instant) -> Answer {
        let until = if self.is_late { tokio::time::Instant::now() } else { until };
        let answered = tokio::time::timeout_at(until, self.answers.recv()).await;
        let now = Instant::now();
        let waited =
            self.asked.map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked));
        let failed = |outcome| Answer {
            kind: self.kind,
            outcome,
            took: waited,
            invalid: 0,
            unread: Unread::default(),
        };
        let answer = match answered {
            Ok(Some(answer)) => answer,
            Ok(None) => failed(Outcome::Failed(
                "reading it stopped by an error of orb8's own, see its log; restart the agent"
                    .into(),
            )),
            Err(_) => {
                self.is_late = true;
                return failed(Outcome::Late(waited));
            }
        };
        (self.asked, self.is_late) = (None, false);
        self.due = match answer.outcome {
            Outcome::Absent(_) => Some(now + ABSENT_INTERVAL),
            _ => None,
        };
        answer
    }
}

async fn work<S: Source>(
    mut source: S,
    follow: fn(&mut S, &[u32]),
    mut requests: mpsc::Receiver<Pids>,
    answers: mpsc::Sender<Answer>,
) {
    while let Some(pids) = requests.recv().await {
        let began = Instant::now();
        follow(&mut source, &pids);
        let outcome = match source.read().await {
            Ok(reading) => Outcome::Read(reading),
            Err(SourceError::Absent(reason)) => Outcome::Absent(reason),
            Err(SourceError::Failed(reason)) => Outcome::Failed(reason),
        };
        let took = began.elapsed();
        let (invalid, unread) = (source.invalid(), source.unread());
        let answer = Answer { kind: source.kind(), outcome, took, invalid, unread };
        if answers.send(answer).await.is_err() {
            return;
        }
    }
}
