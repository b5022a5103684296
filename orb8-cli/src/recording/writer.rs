//! Writing a recording.

use std::io::{self, Write};

use orb8_proto::v1::RecordingHeader;
use prost::Message;
use zstd::bulk::Compressor;

use super::block::{BlockHeader, TARGET};
use super::frame::{self, Frame};
use super::{Kind, MAGIC, MAX_MESSAGE, RecordingError, VERSION};

/// zstd's own default: more takes longer than it saves here.
const LEVEL: i32 = 3;

/// Writes a recording, block by block.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    compressor: Compress,
    block: Block,
    /// Bytes of whole blocks.
    written: u64,
    /// No time goes back.
    latest_ns: u64,
    /// Of the last message of a whole block.
    flushed_ns: u64,
}

/// The block that is being filled.
#[derive(Debug, Default)]
struct Block {
    raw: Vec<u8>,
    frames: u32,
    first_ns: u64,
    kinds: u64,
}

struct Compress(Compressor<'static>);

impl std::fmt::Debug for Compress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compress").finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    ///
    /// What `to` says.
    pub fn new(mut to: W, header: &RecordingHeader) -> Result<Self, RecordingError> {
        let message = header.encode_to_vec();
        let mut checked = Vec::with_capacity(8 + message.len());
        checked.extend(VERSION.major.to_le_bytes());
        checked.extend(VERSION.minor.to_le_bytes());
        // A header is a few names.
        checked.extend((message.len() as u32).to_le_bytes());
        checked.extend(&message);
        let checksum = crc32fast::hash(&checked).to_le_bytes();
        let (before, after) = checked.split_at(8);
        let bytes = [&MAGIC[..], before, &checksum, after].concat();
        to.write_all(&bytes)?;
        to.flush()?;
        Ok(Self {
            to,
            compressor: Compress(Compressor::new(LEVEL)?),
            block: Block::default(),
            written: bytes.len() as u64,
            latest_ns: header.started_ns,
            flushed_ns: header.started_ns,
        })
    }

    /// Adds an encoded message. A time before the last one's counts as that.
    ///
    /// # Errors
    ///
    /// What the file says when a block is full, or that the message is too large.
    pub fn add(&mut self, kind: Kind, time_ns: u64, message: &[u8]) -> Result<(), RecordingError> {
        if message.len() > MAX_MESSAGE {
            return Err(RecordingError::TooLarge(message.len()));
        }
        let room = TARGET.saturating_sub(self.block.raw.len());
        if message.len() + frame::HEADER > room {
            self.flush()?;
        }
        self.latest_ns = self.latest_ns.max(time_ns);
        let block = &mut self.block;
        if block.frames == 0 {
            block.first_ns = self.latest_ns;
        }
        Frame::write(kind, self.latest_ns, message, &mut block.raw);
        block.frames += 1;
        block.kinds |= kind.bit();
        Ok(())
    }

    /// Writes what was added as a block.
    ///
    /// # Errors
    ///
    /// What the file says. What was written before stays readable.
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        if self.block.frames == 0 {
            return Ok(());
        }
        let Block { raw, frames, first_ns, kinds } = std::mem::take(&mut self.block);
        let stored = self.compressor.0.compress(&raw)?;
        // Both are bounded by a message's size.
        let header = BlockHeader {
            stored: stored.len() as u32,
            raw: raw.len() as u32,
            frames,
            first_ns,
            last_ns: self.latest_ns,
            kinds,
            checksum: crc32fast::hash(&stored),
        };
        self.to.write_all(&header.write())?;
        self.to.write_all(&stored)?;
        self.to.flush()?;
        self.written += (super::block::HEADER + stored.len()) as u64;
        self.flushed_ns = self.latest_ns;
        self.block.raw = raw;
        self.block.raw.clear();
        Ok(())
    }

    /// Returns the bytes of all whole blocks, which is where a cut leaves a readable file.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Returns the time of the last message that is written, Unix time in nanoseconds.
    #[must_use]
    pub const fn flushed_ns(&self) -> u64 {
        self.flushed_ns
    }

    /// Returns where it goes to.
    #[must_use]
    pub const fn get_ref(&self) -> &W {
        &self.to
    }

    /// Gives up what is not written, and returns where it was to go.
    pub fn into_inner(self) -> W {
        self.to
    }
}

impl From<RecordingError> for io::Error {
    fn from(error: RecordingError) -> Self {
        match error {
            RecordingError::Io(error) => error,
            error => Self::other(error),
        }
    }
}
