//! What happens, to everyone who listens; and the last of it, to those who come later.
//!
//! Events go out in batches that every subscriber shares. A subscriber that falls behind loses whole
//! batches, and the sequence numbers of the next one tell it exactly how many events those were.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast;

use crate::event::UnixNanos;
use crate::store::{EndReason, FlowRow};

/// Events per batch at most: a batch is what is lost at once, and about 25 KiB.
const BATCH: usize = 128;

/// Bounds of a [`Hub`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubConfig {
    /// Recent events kept.
    pub recent: u32,
    /// Events that a subscriber may fall behind, in full batches.
    pub backlog: u32,
}

/// One event for subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamItem {
    /// When it happened.
    pub time: UnixNanos,
    /// What happened.
    pub happened: Happened,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Something with a flow.
    Flow {
        /// What.
        step: FlowStep,
        /// The flow, with its totals.
        row: FlowRow,
        /// Wire packets that were added since the flow's last event.
        packets: u64,
        /// IP bytes that were added since the flow's last event.
        bytes: u64,
    },
    /// Something was not counted or not delivered.
    Lost(Lost),
}

/// What happened with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowStep {
    /// It was seen for the first time.
    New,
    /// Counts were added.
    Update,
    /// A FIN or RST was seen. What the kernel counted until then is not in the totals yet.
    Closing(EndReason),
    /// It ended. The totals are final, but for stragglers.
    End(EndReason),
}

/// What was lost, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Packets that are in no flow.
    Kernel {
        /// Wire packets.
        packets: u64,
        /// IP bytes.
        bytes: u64,
    },
    /// Moments that the ring had no room for.
    Ring {
        /// Moments.
        events: u64,
    },
    /// Events that this subscriber read too slowly.
    Subscriber {
        /// Events.
        events: u64,
    },
}

/// Consecutive events.
#[derive(Debug)]
pub struct Batch {
    /// Sequence number of the first one.
    pub first: u64,
    /// The events.
    pub items: Vec<StreamItem>,
}

/// Sends events to subscribers, and keeps the last ones.
#[derive(Debug)]
pub struct Hub {
    sender: broadcast::Sender<Arc<Batch>>,
    /// Not yet published.
    pending: Vec<StreamItem>,
    /// Sequence number of the next event.
    next: u64,
    recent: VecDeque<Arc<Batch>>,
    recent_items: usize,
    keep: usize,
    lost: Arc<AtomicU64>,
}

/// A subscriber's end of the hub.
#[derive(Debug)]
pub struct Subscription {
    /// What was kept of the past, oldest first.
    pub recent: Vec<Arc<Batch>>,
    /// What follows.
    pub receiver: broadcast::Receiver<Arc<Batch>>,
    /// Tells what was lost in between.
    pub gaps: Gaps,
}

/// Finds what a subscriber did not get.
#[derive(Debug)]
pub struct Gaps {
    /// Sequence number of the next event that the subscriber should get.
    next: u64,
    /// Of all subscribers.
    lost: Arc<AtomicU64>,
}

impl Hub {
    /// Makes a hub without subscribers.
    #[must_use]
    pub fn new(config: HubConfig) -> Self {
        let HubConfig { recent, backlog } = config;
        let batches = (backlog as usize).div_ceil(BATCH).max(1);
        Self {
            sender: broadcast::Sender::new(batches),
            pending: Vec::new(),
            next: 0,
            recent: VecDeque::new(),
            recent_items: 0,
            keep: recent as usize,
            lost: Arc::default(),
        }
    }

    /// Whether anybody wants events: without subscribers and recent events, making them is a waste.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.keep > 0 || self.sender.receiver_count() > 0
    }

    /// Adds an event. [`Hub::publish`] sends it.
    pub fn push(&mut self, item: StreamItem) {
        self.pending.push(item);
        if self.pending.len() >= BATCH {
            self.publish();
        }
    }

    /// Sends what was added.
    pub fn publish(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let items = std::mem::take(&mut self.pending);
        let batch = Arc::new(Batch { first: self.next, items });
        self.next += batch.items.len() as u64;
        if self.sender.receiver_count() > 0 {
            // The only error is that the last subscriber left just now.
            let _ = self.sender.send(Arc::clone(&batch));
        }
        self.keep(batch);
    }

    /// Returns what was kept and what follows, without a gap between them.
    pub fn subscribe(&mut self) -> Subscription {
        self.publish();
        Subscription {
            recent: self.recent.iter().cloned().collect(),
            receiver: self.sender.subscribe(),
            gaps: Gaps { next: self.next, lost: Arc::clone(&self.lost) },
        }
    }

    /// Returns how many subscribers there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Returns how many events subscribers did not get since start, over all of them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn keep(&mut self, batch: Arc<Batch>) {
        if self.keep == 0 {
            return;
        }
        self.recent_items += batch.items.len();
        self.recent.push_back(batch);
        while let Some(oldest) = self.recent.front() {
            let without = self.recent_items - oldest.items.len();
            if without < self.keep {
                break;
            }
            self.recent_items = without;
            self.recent.pop_front();
        }
    }
}

impl Gaps {
    /// Returns how many events are missing before this batch.
    pub fn before(&mut self, batch: &Batch) -> u64 {
        let missing = batch.first.saturating_sub(self.next);
        self.next = batch.first + batch.items.len() as u64;
        self.lost.fetch_add(missing, Ordering::Relaxed);
        missing
    }
}
