//! Blocks: compressed frames behind a header with checksums.

use super::MAX_MESSAGE;
use super::frame;

/// What every block begins with.
const MAGIC: [u8; 4] = [0xb1, b'L', b'K', b'\n'];

/// Bytes of a block's header.
pub(super) const HEADER: usize = 48;

/// Bytes of the header that its own checksum is over.
const CHECKED: usize = 44;

/// Bytes of frames that are compressed together, unless one message is larger.
pub(super) const TARGET: usize = 256 << 10;

/// Bytes of frames in a block, at most.
pub(super) const MAX_RAW: usize = MAX_MESSAGE + frame::HEADER + TARGET;

/// Bytes of a compressed block, at most: what does not compress grows by a little.
const MAX_STORED: usize = MAX_RAW + MAX_RAW / 128 + 1024;

/// A block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    /// Bytes behind the header.
    pub(super) stored: u32,
    /// Bytes of them without compression.
    pub(super) raw: u32,
    pub(super) frames: u32,
    /// Unix time in nanoseconds of the first and the last frame.
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    /// A bit for each kind of message in it.
    pub(super) kinds: u64,
    /// CRC-32 of what is behind the header.
    pub(super) checksum: u32,
}

impl BlockHeader {
    pub(super) fn write(&self) -> [u8; HEADER] {
        let Self { stored, raw, frames, first_ns, last_ns, kinds, checksum } = self;
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend(MAGIC);
        for number in [stored, raw, frames] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [first_ns, last_ns, kinds] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(checksum.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        let mut header = [0; HEADER];
        header.copy_from_slice(&bytes);
        header
    }

    /// Reads a header; `None` where it is damaged, or none at all.
    pub(super) fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if bytes[..4] != MAGIC || crc32fast::hash(&bytes[..CHECKED]) != word(CHECKED) {
            return None;
        }
        let header = Self {
            stored: word(4),
            raw: word(8),
            frames: word(12),
            first_ns: long(16),
            last_ns: long(24),
            kinds: long(32),
            checksum: word(40),
        };
        // Whoever wrote it: nobody's memory is for the asking. Millions of empty messages compress to
        // nothing.
        let is_small = header.raw as usize <= TARGET || header.frames == 1;
        let is_sane = header.stored as usize <= MAX_STORED && header.raw as usize <= MAX_RAW;
        (is_small && is_sane).then_some(header)
    }

    /// Returns the next place in some bytes where a header may begin.
    pub(super) fn find(bytes: &[u8]) -> Option<usize> {
        bytes.windows(MAGIC.len()).position(|window| window == MAGIC)
    }

    /// Whether the bytes behind the header are those that were written.
    pub(super) fn checks(&self, stored: &[u8]) -> bool {
        stored.len() == self.stored as usize && crc32fast::hash(stored) == self.checksum
    }
}
