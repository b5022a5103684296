//! One watch: lists, follows, and begins again, for ever.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    failure::{Failure, Refusal},
    health::{Health, WatchHealth, WatchState},
    timing::{Timing, random},
};
use crate::{
    index::{IndexWriter, Source},
    resources::Resource,
};

mod intake;
mod requests;
mod state;

use state::State;

/// One watch, with all that it needs.
pub(super) struct Feed {
    pub(super) client: Client,
    pub(super) source: Source,
    pub(super) resource: &'static Resource,
    pub(super) selector: Option<String>,
    pub(super) timing: Timing,
    pub(super) writer: Arc<Mutex<IndexWriter>>,
    pub(super) health: Health,
    /// Of this watch, in the health.
    pub(super) at: usize,
}

impl Feed {
    /// Runs until it is cancelled.
    pub(super) async fn run(self, cancel: CancellationToken) {
        cancel.run_until_cancelled(self.follow()).await;
    }

    async fn follow(self) {
        let mut state = State::new(&self.timing);
        loop {
            (state.following, state.heard) = (None, false);
            let ended = self.converse(&mut state).await;
            let lasted = state.following.is_some_and(|at| at.elapsed() >= self.timing.lasting);
            if lasted {
                state.stood();
            }
            match ended {
                Ok(()) if lasted => {}
                // A server that ends watches at once is not to be hurried; what happens meanwhile
                // is missed as with any other failure.
                Ok(()) => sleep(self.failed(&Failure::Hasty, &mut state)).await,
                Err(Failure::NoStreaming) => {
                    debug!("no streamed lists; listing");
                    state.streaming = false;
                }
                // A server that had it has it still; a proxy cannot find the server, or it starts.
                Err(Failure::Missing(refusal)) if !self.may_skip() => {
                    sleep(self.failed(&Failure::Refused(refusal), &mut state)).await;
                }
                Err(failure) => sleep(self.failed(&failure, &mut state)).await,
            }
        }
    }

    /// Lists if needed, and watches until the server ends it.
    async fn converse(&self, state: &mut State) -> Result<(), Failure> {
        let stream = !state.listed && state.streaming;
        if !state.listed && !stream {
            let (version, objects) = self.list(state).await?;
            state.version = Some(version);
            self.complete(state, objects);
        }
        let lines = self.open(state, stream).await?;
        self.opened(state, stream);
        let ended = self.read(lines, state, stream).await;
        if !state.listed {
            state.lost_a_stream();
        }
        ended
    }

    /// A list begins.
    fn begin(&self) {
        debug!("listing");
        self.lock().begin(self.source);
        self.update(|health| health.lists += 1);
    }

    /// A list is complete.
    fn complete(&self, state: &mut State, objects: u64) {
        self.lock().finish(self.source);
        state.complete();
        self.update(|health| {
            health.synced = true;
            health.objects = objects;
            health.heard();
        });
        self.current(state);
    }

    /// The watch is open.
    fn opened(&self, state: &mut State, stream: bool) {
        state.following = (!stream).then(Instant::now);
        let again = std::mem::take(&mut state.failed);
        let failure = self.update(|health| {
            health.state = WatchState::Connected;
            health.reconnections += u64::from(again && health.synced);
            health.error.take()
        });
        if failure.is_some() {
            info!("watching again");
        }
    }

    /// Nothing that happened before now is still to come.
    fn current(&self, state: &mut State) {
        if std::mem::take(&mut state.behind) {
            self.lock().current(self.source);
        }
    }

    /// Notes a failure, says it if it is news, and tells how long to wait.
    fn failed(&self, failure: &Failure, state: &mut State) -> Duration {
        let wait = state.learn(failure);
        state.failed = true;
        if !std::mem::replace(&mut state.behind, true) {
            self.lock().interrupted(self.source);
        }
        // That is how watches go on after a while without a connection.
        let routine = matches!(failure, Failure::Expired) && std::mem::take(&mut state.has_stood);
        self.say(failure, routine);
        match failure {
            Failure::Missing(_) => self.timing.skipped,
            Failure::Refused(Refusal { retry_after: Some(wanted), .. }) => {
                wait.max(self.timing.left_alone(*wanted, random()))
            }
            _ => wait,
        }
    }

    /// Whether the server may be too old to have the resource.
    fn may_skip(&self) -> bool {
        self.resource.may_lack() && !self.update(|health| health.synced)
    }

    fn say(&self, failure: &Failure, routine: bool) {
        let error = failure.describe(self.resource);
        let news = self.update(|health| {
            health.state = match failure {
                Failure::Missing(_) => WatchState::Skipped,
                _ => WatchState::Disconnected,
            };
            health.stalls += u64::from(matches!(failure, Failure::Stalled(_)));
            !routine && health.error.replace(error.clone()).is_none_or(|before| before != error)
        });
        if news {
            warn!(error, "watch failed");
        } else {
            debug!(error, "watch failed");
        }
    }

    fn update<T>(&self, change: impl FnOnce(&mut WatchHealth) -> T) -> T {
        self.health.update(self.at, change)
    }

    fn lock(&self) -> MutexGuard<'_, IndexWriter> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
