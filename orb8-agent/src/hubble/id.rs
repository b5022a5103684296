//! Ids of flows: the same for everyone who asks, and no two alike on any node.

use std::fmt::Write;

use crate::event::{Signal, UnixNanos};

/// Bits of a sequence number; more events than an agent ever sends.
const SEQUENCE_BITS: u32 = 44;

/// Which event of an agent's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventId {
    pub(super) signal: Signal,
    /// In the signal's hub.
    pub(super) sequence: u64,
    /// A DNS exchange is told in two: 0 is the query, 1 the response.
    pub(super) part: u8,
}

/// What makes one agent's ids different from another's, and from those that it had before a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    started: u64,
    node: u64,
}

impl Instance {
    pub(super) fn new(node: &str, started: UnixNanos) -> Self {
        // Microseconds in 48 bits: unique for nine years.
        let started = (started.0 / 1_000) & 0xffff_ffff_ffff;
        let node = node.bytes().fold(0u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(5)
        });
        Self { started, node }
    }

    /// Returns an id in the form of a version 8 UUID (RFC 9562), which leaves its bits to who makes it.
    pub(super) fn uuid(&self, id: EventId) -> String {
        let EventId { signal, sequence, part } = id;
        let sequence = sequence & ((1 << SEQUENCE_BITS) - 1);
        let low = sequence << 4 | (signal as u64) << 2 | u64::from(part & 3);
        let (high, mid) = (self.node >> 14 & 0xfff, self.node & 0x3fff);
        let mut uuid = String::with_capacity(36);
        // Writing to a String cannot fail.
        let _ = write!(
            uuid,
            "{:08x}-{:04x}-8{high:03x}-{:04x}-{low:012x}",
            self.started >> 16,
            self.started & 0xffff,
            0x8000 | mid,
        );
        uuid
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_are_alike() {
        let mut seen = HashSet::new();
        for (node, started) in [("a", 1_000), ("b", 1_000), ("a", 2_000)] {
            let instance = Instance::new(node, UnixNanos(started));
            for signal in Signal::ALL {
                for sequence in [0, 1, 1 << 43] {
                    for part in [0, 1] {
                        let uuid = instance.uuid(EventId { signal, sequence, part });
                        assert_eq!(uuid.len(), 36, "{uuid}");
                        assert_eq!((&uuid[14..15], &uuid[8..9]), ("8", "-"), "{uuid}");
                        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
                        assert!(seen.insert(uuid.clone()), "{uuid} is there twice");
                        let again = instance.uuid(EventId { signal, sequence, part });
                        assert_eq!(again, uuid);
                    }
                }
            }
        }
    }
}
