//! Cgroups as they come and go. No signal of its own: it tells whose the signals' events are.
//!
//! ```text
//! ring ──▶ CgroupChanges ──▶ Resolver, in the pipeline
//!             ├── this source: when the ring has something
//!             └── the resolver: before it looks for an id that it does not know
//! ```
//! So an event finds its cgroup whichever ring was read first, and even when the cgroup is gone by then.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use orb8_common::cgroup::{CgroupChange, MADE};
use tokio::{io::unix::AsyncFd, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::readable;
use crate::{
    ebpf::{CGROUP_RING, CgroupObject, EbpfError, RingReader},
    error::{AgentError, chain},
    identity::{Change, Changes},
    pipeline::{self, SharedPipeline},
    status::{RingStatus, StatusBoard},
};

/// The ring's name in status and metrics.
const PROBE: &str = "cgroup";

/// Time between two reads of the ring, so that a burst of cgroups does not wake the reader for each.
const REST: Duration = Duration::from_millis(4);

/// See the [module](self).
pub struct CgroupSource {
    object: CgroupObject,
    ring: AsyncFd<OwnedFd>,
    tally: Arc<Tally>,
    interval: Duration,
    pipeline: SharedPipeline,
    board: StatusBoard,
    /// Changes that nobody took in, as far as they are known.
    missed: u64,
}

impl CgroupSource {
    /// Takes the ring of a started object, and gives the pipeline its reader. Call it within a runtime.
    ///
    /// # Errors
    /// [`AgentError`] when the ring was taken before, or cannot be waited on.
    pub fn build(
        mut object: CgroupObject,
        interval: Duration,
        pipeline: SharedPipeline,
        board: StatusBoard,
    ) -> Result<Self, AgentError> {
        let changes = CgroupChanges::of(&mut object)?;
        let ring = changes.ring.waiter().map_err(AgentError::io("wait for the ring"))?;
        let tally = Arc::clone(&changes.tally);
        pipeline::lock(&pipeline).identity().follow(Box::new(changes));
        Ok(Self { object, ring, tally, interval, pipeline, board, missed: 0 })
    }

    /// Delivers until it is cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut timer = tokio::time::interval(self.interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rest = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = timer.tick() => self.end_cycle(),
                readable = readable(&self.ring, rest.as_mut()) => {
                    if let Err(error) = readable {
                        tracing::error!(%error, "the ring cannot be waited on");
                        tokio::time::sleep(self.interval).await;
                    }
                    self.read();
                    rest.as_mut().reset(tokio::time::Instant::now() + REST);
                }
            }
        }
    }

    fn read(&self) {
        pipeline::lock(&self.pipeline).identity().catch_up(Instant::now());
    }

    fn end_cycle(&mut self) {
        self.read();
        if let Err(error) = self.read_counters() {
            tracing::error!(error = chain(&error), "the counters cannot be read");
        }
    }

    fn read_counters(&mut self) -> Result<(), EbpfError> {
        let lost = self.object.lost()?;
        let missed = lost + self.tally.undecodable.load(Relaxed);
        if missed > self.missed {
            tracing::debug!(missed = missed - self.missed, "changes of cgroups were lost");
            pipeline::lock(&self.pipeline).identity().distrust();
        }
        self.missed = missed;
        let fullest = self.tally.fullest.swap(0, Relaxed);
        let ring = RingStatus {
            probe: PROBE,
            size_bytes: u64::from(CGROUP_RING),
            events: self.tally.records.load(Relaxed),
            drops: lost,
            utilization: (fullest as f64 / f64::from(CGROUP_RING)).min(1.0),
        };
        let programs = self.object.run_times();
        self.board.update(|status| {
            status.set_ring(ring);
            status.set_programs(programs);
        });
        Ok(())
    }
}

/// The ring's records as changes.
pub struct CgroupChanges {
    ring: RingReader,
    tally: Arc<Tally>,
}

/// What was read of the ring.
#[derive(Debug, Default)]
struct Tally {
    records: AtomicU64,
    undecodable: AtomicU64,
    fullest: AtomicUsize,
}

impl CgroupChanges {
    /// Takes the ring of a started object.
    ///
    /// # Errors
    /// [`AgentError`] when it was taken before.
    pub fn of(object: &mut CgroupObject) -> Result<Self, AgentError> {
        let ring = object.take_ring().map_err(AgentError::ebpf("read the ring"))?;
        Ok(Self { ring, tally: Arc::default() })
    }
}

impl Changes for CgroupChanges {
    fn read(&mut self, visit: &mut dyn FnMut(Change<'_>)) {
        let tally = &self.tally;
        let bytes = self.ring.read(|record| match change(record) {
            Some(change) => {
                tally.records.fetch_add(1, Relaxed);
                visit(change);
            }
            None => {
                tally.undecodable.fetch_add(1, Relaxed);
            }
        });
        tally.fullest.fetch_max(bytes, Relaxed);
    }
}

impl std::fmt::Debug for CgroupChanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CgroupChanges").field("tally", &self.tally).finish_non_exhaustive()
    }
}

/// Decodes a record of the ring; `None` where it is none.
#[must_use]
pub fn change(record: &[u8]) -> Option<Change<'_>> {
    let (CgroupChange { id, kind, path_length: _ }, path) = CgroupChange::read(record)?;
    if kind != MADE {
        return Some(Change::Removed { id });
    }
    // A name that is no text is shown by whoever finds it, by its handle.
    let path = std::str::from_utf8(path).ok().filter(|path| !path.is_empty());
    Some(Change::Made { id, path })
}

#[cfg(test)]
mod tests {
    use orb8_common::cgroup::REMOVED;
    use zerocopy::IntoBytes;

    use super::*;

    fn record(kind: u32, path: &[u8]) -> Vec<u8> {
        let change = CgroupChange { id: 7, kind, path_length: path.len() as u32 };
        [change.as_bytes(), path, b"what the ring held before"].concat()
    }

    #[test]
    fn records_become_changes() {
        let made = |path| Some(Change::Made { id: 7, path });
        assert_eq!(change(&record(MADE, b"/jobs/1")), made(Some("/jobs/1")));
        assert_eq!(change(&record(MADE, b"")), made(None), "a path that is too long");
        assert_eq!(change(&record(MADE, b"/jobs/\xff")), made(None));
        assert_eq!(change(&record(REMOVED, b"")), Some(Change::Removed { id: 7 }));
        assert_eq!(change(&record(9, b"/jobs/1")), None);
        assert_eq!(change(&record(MADE, b"/jobs/1")[..20]), None);
        assert_eq!(change(&[]), None);
    }
}
