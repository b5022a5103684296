//! Log records that wait to be sent: bounded by their number and their bytes.
//!
//! Each is encoded already, so its bytes are exactly what it holds, and a request is made of them
//! without encoding them again. When there are too many the oldest make room: after ten minutes
//! without a collector, what happened last tells more than what happened first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Records in a request.
pub(super) const BATCH: usize = 1_024;

/// Bytes in a request. Receivers take 4 MiB over gRPC unless they are told otherwise.
pub(super) const BATCH_BYTES: usize = 2 << 20;

/// How long a record waits for others to go with it.
const AGE: Duration = Duration::from_secs(1);

/// Bytes that a record may have on average; most have a little more than half of it.
const RECORD_BYTES: usize = 2_048;

/// What a record takes besides its bytes: the handle to it, and what the allocator adds.
const RECORD_OVERHEAD: usize = size_of::<Bytes>() + 48;

/// See the [module](self). Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is a first record, or a whole batch.
    filled: Notify,
    limit: usize,
    limit_bytes: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Bytes>,
    bytes: usize,
    /// Records that made room since the last batch was taken.
    dropped: u64,
}

/// Records that go together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// Encoded, oldest first.
    pub(super) records: Vec<Bytes>,
    /// How many made room before them since the last batch.
    pub(super) dropped: u64,
}

impl Queue {
    /// Makes an empty queue for that many records.
    pub(super) fn new(limit: u32) -> Self {
        let limit = limit as usize;
        Self(Arc::new(Shared {
            waiting: Mutex::default(),
            filled: Notify::new(),
            limit,
            limit_bytes: limit * RECORD_BYTES,
        }))
    }

    /// Adds records, and returns how many had to make room.
    pub(super) fn push(&self, records: impl IntoIterator<Item = Bytes>) -> u64 {
        let mut waiting = self.lock();
        let (had, before) = (waiting.records.len(), waiting.dropped);
        for record in records {
            if weight(&record) > self.0.limit_bytes {
                waiting.dropped += 1;
                continue;
            }
            waiting.bytes += weight(&record);
            waiting.records.push_back(record);
            while waiting.records.len() > self.0.limit || waiting.bytes > self.0.limit_bytes {
                waiting.remove();
                waiting.dropped += 1;
            }
        }
        let has = waiting.records.len();
        // Whoever waits for a whole batch sleeps until there is one.
        if (had == 0 && has > 0) || has >= BATCH || waiting.bytes >= BATCH_BYTES {
            self.0.filled.notify_one();
        }
        waiting.dropped - before
    }

    /// Returns records and bytes that wait.
    pub(super) fn len(&self) -> (usize, usize) {
        let waiting = self.lock();
        (waiting.records.len(), waiting.bytes)
    }

    /// Waits until a batch is full or its first record has waited long enough; `None` when `stop` is
    /// cancelled and nothing is left.
    pub(super) async fn next(&self, stop: &CancellationToken) -> Option<Batch> {
        while self.len().0 == 0 && !stop.is_cancelled() {
            tokio::select! {
                () = self.0.filled.notified() => {}
                () = stop.cancelled() => {}
            }
        }
        let aged = tokio::time::sleep(AGE);
        tokio::pin!(aged);
        while !self.is_batch() {
            tokio::select! {
                () = self.0.filled.notified() => {}
                () = &mut aged => break,
                () = stop.cancelled() => break,
            }
        }
        let batch = self.lock().take();
        (!batch.records.is_empty()).then_some(batch)
    }

    fn is_batch(&self) -> bool {
        let (records, bytes) = self.len();
        records >= BATCH || bytes >= BATCH_BYTES
    }

    /// A panic elsewhere leaves the queue usable: every step keeps it whole.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn remove(&mut self) -> Option<Bytes> {
        let record = self.records.pop_front()?;
        self.bytes -= weight(&record);
        Some(record)
    }

    fn take(&mut self) -> Batch {
        let mut batch = Batch { dropped: std::mem::take(&mut self.dropped), ..Batch::default() };
        let mut bytes = 0;
        while batch.records.len() < BATCH {
            bytes += self.records.front().map_or(0, Bytes::len);
            // One that is larger than a request goes alone.
            if bytes > BATCH_BYTES && !batch.records.is_empty() {
                break;
            }
            let Some(record) = self.remove() else { break };
            batch.records.push(record);
        }
        if self.records.is_empty() {
            // What an outage made of it.
            self.records = VecDeque::new();
        }
        batch
    }
}

fn weight(record: &Bytes) -> usize {
    record.len() + RECORD_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(size: usize) -> Bytes {
        vec![0; size].into()
    }

    fn take(queue: &Queue) -> Batch {
        queue.lock().take()
    }

    #[test]
    fn the_oldest_make_room_and_are_counted() {
        let queue = Queue::new(1_024);
        let numbered = (0..2_000_u32).map(|number| Bytes::from(number.to_be_bytes().to_vec()));
        assert_eq!(queue.push(numbered), 976);
        let batch = take(&queue);
        assert_eq!((batch.records.len(), batch.dropped), (1_024, 976));
        assert_eq!(*batch.records[0], 976_u32.to_be_bytes());
        assert_eq!(queue.push([record(1)]), 0);
        assert_eq!(take(&queue).dropped, 0, "told once");
        assert_eq!(queue.len(), (0, 0));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let queue = Queue::new(1_024);
        let limit = 1_024 * RECORD_BYTES;
        for _ in 0..100 {
            queue.push([record(100_000)]);
            assert!(queue.len().1 <= limit, "{:?}", queue.len());
        }
        assert_eq!(queue.len().0, limit / (100_000 + RECORD_OVERHEAD));
        let waiting = queue.len();
        assert_eq!(queue.push([record(limit)]), 1, "one that never fits");
        assert_eq!(queue.len(), waiting, "makes nobody go");
    }

    #[test]
    fn a_request_stays_below_what_receivers_take() {
        let queue = Queue::new(8_192);
        queue.push((0..100).map(|_| record(100_000)));
        let mut sizes = Vec::new();
        while queue.len().0 > 0 {
            sizes.push(take(&queue).records.iter().map(Bytes::len).sum::<usize>());
        }
        assert_eq!(sizes.iter().sum::<usize>(), 100 * 100_000);
        assert!(sizes.iter().all(|size| *size <= BATCH_BYTES), "{sizes:?}");
        queue.push([record(BATCH_BYTES + 1), record(1)]);
        assert_eq!((take(&queue).records.len(), take(&queue).records.len()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_goes_at_once_and_a_part_of_one_after_a_second() {
        let (queue, stop) = (Queue::new(8_192), CancellationToken::new());
        let start = tokio::time::Instant::now();
        queue.push((0..BATCH + 1).map(|_| record(1)));
        assert_eq!(queue.next(&stop).await.unwrap().records.len(), BATCH);
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(queue.next(&stop).await.unwrap().records.len(), 1);
        assert_eq!(start.elapsed(), AGE);

        let (filling, full) = (queue.clone(), BATCH / 2);
        let fill = tokio::spawn(async move {
            for _ in 0..2 {
                tokio::time::sleep(AGE / 4).await;
                filling.push((0..full).map(|_| record(1)));
            }
        });
        assert_eq!(queue.next(&stop).await.unwrap().records.len(), BATCH);
        assert_eq!(start.elapsed(), AGE + AGE / 2);
        fill.await.unwrap();
        queue.push([record(1)]);
        stop.cancel();
        assert_eq!(queue.next(&stop).await.unwrap().records.len(), 1, "what is left");
        assert_eq!(queue.next(&stop).await, None);
    }
}
