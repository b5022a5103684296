//! What happens, to everyone who listens; and the last of it, to those who come later.
//!
//! ```text
//! push ──▶ pending ──publish──▶ log: batches, oldest first ◀──next── readers, each at its place
//! ```
//! Events go out in batches that every subscriber shares. The log keeps what was asked to be kept,
//! and beyond that what somebody has not read yet, up to a bound that counts events, and their bytes
//! where events are large. A subscriber that falls behind further loses the oldest batches, and the
//! sequence numbers of the next one tell it exactly how many events those were.

use std::collections::VecDeque;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::event::UnixNanos;

/// Events per batch at most: a batch is what is lost at once.
const BATCH: usize = 128;

/// Bytes that an event has for bounds. Most have fewer; what many answers or long names make larger
/// counts as so many events.
const EVENT_BYTES: usize = 512;

/// Bytes per batch, but for its last event.
const BATCH_BYTES: usize = BATCH * EVENT_BYTES;

/// What has a size in memory.
pub trait Weight {
    /// Returns the bytes that it has on the heap and shares with nobody for long.
    fn heap_bytes(&self) -> usize;
}

/// Bounds of a [`Hub`], in events of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubConfig {
    /// Recent events kept.
    pub recent: u32,
    /// Events that a subscriber may fall behind.
    pub backlog: u32,
}

/// One event for subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamItem<T> {
    /// When it happened.
    pub time: UnixNanos,
    /// What happened.
    pub happened: Happened<T>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened<T> {
    /// Something that the signal is about.
    Event(T),
    /// Something was not counted or not delivered.
    Lost(Lost),
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
    /// Records that the ring had no room for.
    Ring {
        /// Records.
        events: u64,
    },
    /// Events that this subscriber read too slowly.
    Subscriber {
        /// Events.
        events: u64,
    },
}

/// How many events there are for those who come later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Those that are kept.
    pub events: u64,
    /// How many are kept at most; a last batch may exceed it.
    pub capacity: u64,
    /// Those that were sent since start.
    pub sent: u64,
}

impl Add for Kept {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            capacity: self.capacity + other.capacity,
            sent: self.sent + other.sent,
        }
    }
}

/// Consecutive events.
#[derive(Debug)]
pub struct Batch<T> {
    /// Sequence number of the first one.
    pub first: u64,
    /// The events.
    pub items: Vec<StreamItem<T>>,
    /// What they occupy.
    bytes: usize,
}

/// Sends one signal's events to subscribers, and keeps the last ones.
#[derive(Debug)]
pub struct Hub<T> {
    /// Not yet published.
    pending: Vec<StreamItem<T>>,
    pending_bytes: usize,
    /// Recent events kept.
    keep: usize,
    shared: Arc<Shared<T>>,
}

/// A subscriber's end of the hub.
#[derive(Debug)]
pub struct Subscription<T> {
    /// What was kept of the past, oldest first.
    pub recent: Vec<Arc<Batch<T>>>,
    /// What follows.
    pub reader: Reader<T>,
}

/// Reads what follows, from its own place.
#[derive(Debug)]
pub struct Reader<T> {
    id: u64,
    shared: Arc<Shared<T>>,
}

/// What a reader gets.
#[derive(Debug)]
pub struct Received<T> {
    /// Events that it did not get before these.
    pub missing: u64,
    /// The events.
    pub batch: Arc<Batch<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    log: Mutex<Log<T>>,
    /// Its readers, for those who need no more than their number.
    readers: AtomicUsize,
    /// Events that readers did not get.
    lost: AtomicU64,
}

#[derive(Debug)]
struct Log<T> {
    batches: VecDeque<Arc<Batch<T>>>,
    /// Events in the batches.
    items: usize,
    /// Bytes in the batches.
    bytes: usize,
    /// Sequence number of the next event.
    next: u64,
    readers: Vec<Place>,
    next_id: u64,
    backlog: usize,
    is_closed: bool,
}

/// How far a reader has come.
#[derive(Debug)]
struct Place {
    id: u64,
    /// Sequence number of the next event that it should get.
    next: u64,
    /// It waits for more.
    waker: Option<Waker>,
}

impl<T> Subscription<T> {
    /// Returns the sequence number of the first event that was kept, or else that follows.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.recent.first().map_or(u64::MAX, |batch| batch.first)
    }

    /// Puts older events before those that were kept.
    pub fn precede(&mut self, items: Vec<StreamItem<T>>) {
        if !items.is_empty() {
            self.recent.insert(0, Arc::new(Batch { first: 0, items, bytes: 0 }));
        }
    }
}

impl<T: Weight> Hub<T> {
    /// Makes a hub without subscribers.
    #[must_use]
    pub fn new(config: HubConfig) -> Self {
        let HubConfig { recent, backlog } = config;
        let log = Log {
            batches: VecDeque::new(),
            items: 0,
            bytes: 0,
            next: 0,
            readers: Vec::new(),
            next_id: 0,
            backlog: backlog as usize,
            is_closed: false,
        };
        let shared =
            Shared { log: Mutex::new(log), readers: AtomicUsize::new(0), lost: AtomicU64::new(0) };
        let keep = recent as usize;
        Self { pending: Vec::new(), pending_bytes: 0, keep, shared: Arc::new(shared) }
    }

    /// Whether anybody wants events: without subscribers and recent events, making them is a waste.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.keep > 0 || self.subscribers() > 0
    }

    /// Adds an event. [`Hub::publish`] sends it.
    pub fn push(&mut self, time: UnixNanos, event: T) {
        self.add(StreamItem { time, happened: Happened::Event(event) });
    }

    /// Returns the sequence number that the next event gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.shared.log().next + self.pending.len() as u64
    }

    /// Adds that something was lost.
    pub fn push_lost(&mut self, time: UnixNanos, lost: Lost) {
        self.add(StreamItem { time, happened: Happened::Lost(lost) });
    }

    /// Sends what was added.
    pub fn publish(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let items = std::mem::take(&mut self.pending);
        let bytes = std::mem::take(&mut self.pending_bytes);
        self.shared.log().append(items, bytes, self.keep);
    }

    /// Returns what was kept and what follows, without a gap between them.
    pub fn subscribe(&mut self) -> Subscription<T> {
        self.publish();
        let mut log = self.shared.log();
        let id = log.next_id;
        log.next_id += 1;
        let next = log.next;
        log.readers.push(Place { id, next, waker: None });
        self.shared.readers.store(log.readers.len(), Ordering::Relaxed);
        Subscription {
            recent: log.kept(self.keep).cloned().collect(),
            reader: Reader { id, shared: Arc::clone(&self.shared) },
        }
    }

    /// Returns how many events it keeps and has sent.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let log = self.shared.log();
        let events = log.kept(self.keep).map(|batch| batch.items.len() as u64).sum();
        Kept { events, capacity: self.keep as u64, sent: log.next }
    }

    /// Returns how many subscribers there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.shared.readers.load(Ordering::Relaxed)
    }

    /// Returns how many events subscribers did not get since start, over all of them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    fn add(&mut self, item: StreamItem<T>) {
        let heap = match &item.happened {
            Happened::Event(event) => event.heap_bytes(),
            Happened::Lost(_) => 0,
        };
        self.pending_bytes += size_of::<StreamItem<T>>() + heap;
        self.pending.push(item);
        if self.pending.len() >= BATCH || self.pending_bytes >= BATCH_BYTES {
            self.publish();
        }
    }
}

impl<T> Drop for Hub<T> {
    fn drop(&mut self) {
        let mut log = self.shared.log();
        log.is_closed = true;
        log.wake();
    }
}

impl<T> Shared<T> {
    /// A panic elsewhere leaves the log usable: every step keeps it whole.
    fn log(&self) -> MutexGuard<'_, Log<T>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Log<T> {
    fn append(&mut self, items: Vec<StreamItem<T>>, bytes: usize, keep: usize) {
        let first = self.next;
        self.next += items.len() as u64;
        self.items += items.len();
        self.bytes += bytes;
        self.batches.push_back(Arc::new(Batch { first, items, bytes }));
        self.trim(keep);
        self.wake();
    }

    /// Lets go what nobody needs, and what is beyond the bounds. Bytes spare the last batch, or one
    /// large event would be lost to everybody.
    fn trim(&mut self, keep: usize) {
        let slowest = self.readers.iter().map(|reader| reader.next).min().unwrap_or(self.next);
        while let Some(oldest) = self.batches.front() {
            let without = self.items - oldest.items.len();
            let is_read = oldest.end() <= slowest;
            let bytes = if self.batches.len() > 1 { self.bytes } else { 0 };
            let is_recent = without < keep && bytes <= keep * EVENT_BYTES;
            let is_owed =
                !is_read && self.items <= self.backlog && bytes <= self.backlog * EVENT_BYTES;
            if is_recent || is_owed {
                break;
            }
            self.items = without;
            self.bytes -= oldest.bytes;
            self.batches.pop_front();
        }
    }

    /// The last batches that together have as many events as are kept.
    fn kept(&self, keep: usize) -> impl Iterator<Item = &Arc<Batch<T>>> {
        let from = self.next.saturating_sub(keep as u64);
        self.batches.iter().filter(move |batch| batch.end() > from)
    }

    /// Returns the first batch that the reader has not got.
    fn read(&mut self, id: u64) -> Option<Received<T>> {
        let place = self.readers.iter_mut().find(|place| place.id == id)?;
        // Batches are in order, and a place is always between two of them.
        let at = self.batches.partition_point(|batch| batch.first < place.next);
        let batch = Arc::clone(self.batches.get(at)?);
        let missing = batch.first.saturating_sub(place.next);
        place.next = batch.end();
        Some(Received { missing, batch })
    }

    fn wake(&mut self) {
        self.readers.iter_mut().filter_map(|place| place.waker.take()).for_each(Waker::wake);
    }
}

impl<T> Batch<T> {
    /// The sequence number behind the last event.
    fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }
}

impl<T> Reader<T> {
    /// Returns the next events, or has the task woken when there are some; `None` when there will
    /// never be any.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Received<T>>> {
        let mut log = self.shared.log();
        if let Some(received) = log.read(self.id) {
            self.shared.lost.fetch_add(received.missing, Ordering::Relaxed);
            return Poll::Ready(Some(received));
        }
        if log.is_closed {
            return Poll::Ready(None);
        }
        if let Some(place) = log.readers.iter_mut().find(|place| place.id == self.id) {
            place.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let mut log = self.shared.log();
        log.readers.retain(|place| place.id != self.id);
        self.shared.readers.store(log.readers.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
