//! The reading end of a ring.
//!
//! ```text
//! | consumer's place | producer's place | data | the same data again |    kernel/bpf/ringbuf.c
//!    read, written      read ─────────────────────────▶ as far as a record reaches
//! ```
//! The kernel lays the data twice in a row, so that a record that wraps is in one piece. All that is
//! mapped counts as the agent's memory, so the second time is mapped only as far as records reach.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use aya::maps::MapData;
use orb8_common::dns::{CAPTURE_SIZES, DnsPacket};
use tokio::io::{Interest, unix::AsyncFd};

use super::mapping::{Access, Mapping};
use crate::cost::page_size;

/// What the kernel puts in front of each record: its length with two flags, and what is its own.
const HEADER: usize = 8;
/// `BPF_RINGBUF_BUSY_BIT`: reserved, and not submitted yet.
const BUSY: u32 = 1 << 31;
/// `BPF_RINGBUF_DISCARD_BIT`.
const DISCARDED: u32 = 1 << 30;

/// Bytes of the longest record that can be read. A longer one is handed out as empty.
const LONGEST: usize = 4096 - HEADER;
// DNS has the longest ones.
const _: () = assert!(size_of::<DnsPacket>() + CAPTURE_SIZES[CAPTURE_SIZES.len() - 1] <= LONGEST);

/// See the [module](self).
pub struct RingReader {
    /// Programs that are loaded later still name the ring by this descriptor.
    map: MapData,
    consumer: Mapping,
    producer: Mapping,
    /// Bytes before the data.
    page: usize,
    /// Bytes of data, a power of two.
    size: usize,
    /// How far it was read.
    read: usize,
    /// How far it was written when that was last asked for.
    written: usize,
    /// Whether something was freed since a writer was last asked for: it may have found the reader
    /// behind, and not have woken it.
    has_freed: bool,
}

/// Where a record is in the data.
struct Record {
    start: usize,
    len: usize,
    is_discarded: bool,
}

impl RingReader {
    /// Maps a ring.
    pub(super) fn new(map: MapData) -> io::Result<Self> {
        let size = map.info().map_err(io::Error::other)?.max_entries() as usize;
        let page = usize::try_from(page_size()).map_err(io::Error::other)?;
        let again = (LONGEST + HEADER).next_multiple_of(page).min(size);
        let consumer = Mapping::new(map.fd().as_fd(), 0, page, Access::Write)?;
        let producer = Mapping::new(map.fd().as_fd(), page, page + size + again, Access::Read)?;
        let mut reader =
            Self { map, consumer, producer, page, size, read: 0, written: 0, has_freed: false };
        reader.read = reader.consumer_place().load(Ordering::Acquire);
        reader.written = reader.read;
        Ok(reader)
    }

    /// Returns the bytes of data that it has room for.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Makes it something that a runtime waits on. Call it within one.
    ///
    /// # Errors
    /// What the system said.
    pub fn wait_on(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the reader owns its descriptor, which neither changes nor closes before it.
        Ok(unsafe { AsyncFd::register(self)? })
    }

    /// Returns what a runtime waits on for records, apart from the reader. Call it within one.
    ///
    /// # Errors
    /// What the system said.
    pub fn waiter(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let ring = self.map.fd().as_fd().try_clone_to_owned()?;
        // SAFETY: an owned descriptor neither changes nor closes before its owner is dropped.
        Ok(unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE)? })
    }

    /// Hands each record's bytes to `visit`, and frees it. Returns their sum, headers included:
    /// how full the ring was.
    pub fn read(&mut self, mut visit: impl FnMut(&[u8])) -> usize {
        let mut bytes = 0;
        while let Some(record) = self.next() {
            let Record { start, len, is_discarded } = record;
            if !is_discarded {
                visit(self.data(start, len));
            }
            let taken = (HEADER + len).next_multiple_of(HEADER);
            bytes += taken;
            self.free(taken);
        }
        bytes
    }

    /// Finds the next record that is whole.
    fn next(&mut self) -> Option<Record> {
        loop {
            if self.read == self.written {
                self.catch_up();
                self.written = self.producer_place().load(Ordering::Acquire);
            }
            // Places only grow, and may begin again at 0: more is told by another place alone.
            if self.read == self.written {
                return None;
            }
            let at = self.read & (self.size - 1);
            // The kernel submits a record by an exchange of its header, in full order.
            let header = self.header(at).load(Ordering::Acquire);
            if header & BUSY == 0 {
                let len = (header & !(BUSY | DISCARDED)) as usize;
                let is_discarded = header & DISCARDED != 0;
                return Some(Record { start: at + HEADER, len, is_discarded });
            }
            // Submitted while it was looked at, perhaps, by a writer that thought the reader behind.
            if !self.catch_up() {
                return None;
            }
        }
    }

    /// Makes sure that a writer either sees what was freed, and wakes the reader, or is seen by what
    /// the reader looks at next. Returns whether that was in doubt.
    fn catch_up(&mut self) -> bool {
        let was_in_doubt = std::mem::take(&mut self.has_freed);
        if was_in_doubt {
            fence(Ordering::SeqCst);
        }
        was_in_doubt
    }

    fn free(&mut self, bytes: usize) {
        self.read = self.read.wrapping_add(bytes);
        // After the record was read: the kernel uses its place again.
        self.consumer_place().store(self.read, Ordering::Release);
        self.has_freed = true;
    }

    fn consumer_place(&self) -> &AtomicUsize {
        // SAFETY: in the mapping, at the beginning of a page; shared with the kernel as an atomic.
        unsafe { self.consumer.start().cast().as_ref() }
    }

    fn producer_place(&self) -> &AtomicUsize {
        // SAFETY: as above; it is only loaded.
        unsafe { self.producer.start().cast().as_ref() }
    }

    /// The first half of a record's header.
    fn header(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at < self.size && at.is_multiple_of(HEADER));
        // SAFETY: in the mapping, since `at` is below the data's size and both are multiples of 8; it
        // is only loaded.
        unsafe { self.producer.start().add(self.page + at).cast().as_ref() }
    }

    /// A record's bytes; none of one that is not mapped whole.
    fn data(&self, start: usize, len: usize) -> &[u8] {
        if self.page + start + len > self.producer.len() {
            return &[];
        }
        // SAFETY: in the mapping; the kernel does not touch a submitted record until it is freed, for
        // which `self` has to be borrowed mutably.
        unsafe { slice::from_raw_parts(self.producer.start().add(self.page + start).as_ptr(), len) }
    }
}

impl AsRawFd for RingReader {
    fn as_raw_fd(&self) -> RawFd {
        self.map.fd().as_fd().as_raw_fd()
    }
}
