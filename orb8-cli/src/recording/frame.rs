//! Frames: messages with their kind and time, one after the other.

use super::{Kind, MAX_MESSAGE};

/// Bytes of a frame's header: kind, reserved, length, time.
pub(super) const HEADER: usize = 16;

/// A message of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is; `None` for a kind of a newer version.
    pub kind: Option<Kind>,
    /// When it was recorded, Unix time in nanoseconds.
    pub time_ns: u64,
    /// The message, encoded.
    pub message: &'a [u8],
}

impl Frame<'_> {
    /// Adds a frame to others.
    pub(super) fn write(kind: Kind, time_ns: u64, message: &[u8], to: &mut Vec<u8>) {
        to.extend((kind as u16).to_le_bytes());
        to.extend([0; 2]);
        // Messages are bounded.
        to.extend((message.len() as u32).to_le_bytes());
        to.extend(time_ns.to_le_bytes());
        to.extend(message);
    }
}

/// The frames of a block. It ends early where one is not whole.
#[derive(Clone, Debug)]
pub struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    /// Reads the frames of a block that was decompressed.
    #[must_use]
    pub const fn new(block: &'a [u8]) -> Self {
        Self(block)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let (header, rest) = self.0.split_first_chunk::<HEADER>()?;
        let [k0, k1, _, _, l0, l1, l2, l3, time @ ..] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_MESSAGE || length > rest.len() {
            self.0 = &[];
            return None;
        }
        let (message, rest) = rest.split_at(length);
        self.0 = rest;
        let kind = Kind::of(u16::from_le_bytes([k0, k1]));
        Some(Frame { kind, time_ns: u64::from_le_bytes(time), message })
    }
}
