//! Sending: again while that may help, and no longer.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::client::{Client, Partial};
use super::health::{Cause, Health, Kind};
use super::logs::{self, LogsRequest};
use super::metrics::Requests;
use super::queue::{Batch, Queue};
use super::resource::Resource;
use super::retry::{Backoff, Failure};
use super::{FLUSH, Histograms};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::pipeline::Lost;

/// A batch that a collector puts off for so long is let go: it may be what the collector cannot take.
pub(super) const GIVE_UP: Duration = Duration::from_secs(300);

/// Sends what waits in a queue.
#[derive(Debug)]
pub(super) struct LogSender {
    pub(super) client: Client,
    pub(super) queue: Queue,
    pub(super) resource: Resource,
    pub(super) health: Health,
    /// A batch that is put off for so long is let go.
    pub(super) give_up: Duration,
}

impl LogSender {
    /// Sends until `stop` is cancelled, and then for seconds what is left.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut in_flight = 0;
        let is_done = within_flush(&stop, self.work(&stop, &mut in_flight)).await.is_some();
        let (waiting, _) = self.queue.len();
        let left = waiting as u64 + if is_done { 0 } else { in_flight };
        self.health.dropped(Kind::Logs, Cause::Shutdown, left);
        self.health.queued(0, 0);
    }

    async fn work(&self, stop: &CancellationToken, in_flight: &mut u64) {
        while let Some(batch) = self.queue.next(stop).await {
            *in_flight = batch.records.len() as u64;
            let delivered = self.deliver(&batch, stop).await;
            let count = std::mem::take(in_flight);
            let Err(cause) = delivered else { continue };
            self.health.dropped(Kind::Logs, cause, count);
            if cause == Cause::Shutdown {
                return;
            }
        }
    }

    /// Sends a batch. What says why it was not taken has no count yet.
    async fn deliver(&self, batch: &Batch, stop: &CancellationToken) -> Result<(), Cause> {
        let (started, mut backoff) = (Instant::now(), Backoff::new());
        let request = self.request(batch);
        loop {
            // What is told last to a collector that was away is how it is when that ends.
            let (records, bytes) = self.queue.len();
            self.health.queued(records, bytes);
            let was_stopping = stop.is_cancelled();
            let failure = match self.client.export(request.clone()).await {
                Ok(partial) => {
                    took(&self.health, Kind::Logs, batch.records.len() as u64, partial);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            self.health.failed(Kind::Logs, failure.reason());
            let Failure::Retry { after, .. } = failure else { return Err(Cause::Refused) };
            if was_stopping {
                return Err(Cause::Shutdown);
            }
            if started.elapsed() >= self.give_up {
                return Err(Cause::Retries);
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait(after)) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn request(&self, batch: &Batch) -> LogsRequest {
        let mut records = batch.records.clone();
        if batch.dropped > 0 {
            let (now, lost) = (Clock::system().now(), Lost::Subscriber { events: batch.dropped });
            records.insert(0, logs::lost(now, None, lost).encode(now));
        }
        LogsRequest::new(&self.resource, records)
    }
}

/// Sends metrics as they are.
#[derive(Debug)]
pub(super) struct MetricSender {
    pub(super) client: Client,
    pub(super) metrics: Metrics,
    pub(super) resource: Resource,
    pub(super) interval: Duration,
    pub(super) histograms: Histograms,
    pub(super) health: Health,
}

impl MetricSender {
    /// Sends now and then until `stop` is cancelled, and a last time then.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(self.interval);
        // After an outage there is nothing to make up for.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut backoff = Backoff::new();
        let mut pause = None;
        while !stop.is_cancelled() {
            tokio::select! {
                _ = interval.tick(), if pause.is_none() => {}
                () = async { tokio::time::sleep(pause.unwrap_or_default()).await }, if pause.is_some() => {}
                () = stop.cancelled() => break,
            }
            let sent = tokio::select! {
                sent = self.send() => sent,
                // The last one tells more.
                () = stop.cancelled() => break,
            };
            // What is tried again is what is true then.
            pause = match sent {
                Err(Failure::Retry { after, .. }) => Some(backoff.wait(after)),
                Ok(()) | Err(Failure::Refused { .. }) => {
                    backoff = Backoff::new();
                    interval.reset();
                    None
                }
            };
        }
        within_flush(&stop, async {
            // Told by `send`.
            let _ = self.send().await;
        })
        .await;
    }

    async fn send(&self) -> Result<(), Failure> {
        let (now, metrics) = (Clock::system().now(), self.metrics.clone());
        // It may take as long as a scrape, which is too long for those who share this thread.
        let gathered = tokio::task::spawn_blocking(move || metrics.gather()).await;
        let families = gathered.map_err(|error| {
            self.health.failed(Kind::Metrics, &error.to_string());
            Failure::refused(error.to_string())
        })?;
        let requests = Requests::new(&self.resource, self.histograms, now, &families);
        for (request, points) in requests {
            match self.client.export(request).await {
                Ok(partial) => took(&self.health, Kind::Metrics, points, partial),
                Err(failure) => {
                    self.health.failed(Kind::Metrics, failure.reason());
                    if let Failure::Refused { .. } = failure {
                        self.health.dropped(Kind::Metrics, Cause::Refused, points);
                    }
                    return Err(failure);
                }
            }
        }
        Ok(())
    }
}

/// Counts what a collector took.
fn took(health: &Health, kind: Kind, sent: u64, partial: Option<Partial>) {
    let Partial { rejected, message } = partial.unwrap_or_default();
    let rejected = rejected.min(sent);
    health.exported(kind, sent - rejected);
    health.dropped(kind, Cause::Rejected, rejected);
    if !message.is_empty() {
        health.remarked(kind, rejected, &message);
    }
}

/// Runs to its end, which is cut short some seconds after `stop` is cancelled.
async fn within_flush<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(FLUSH).await;
    };
    tokio::select! {
        done = work => Some(done),
        () = overdue => None,
    }
}
