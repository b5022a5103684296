//! Where every packet went that the kernel handed to the hooks.

use super::PipelineTotals;
use crate::status::KernelCounters;
use crate::store::Totals;

/// `counted + lost` is what the kernel handed to the hooks; the other parts are parts of `counted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Everything that was counted: in flows, as duplicates, as other and as malformed.
    pub counted: Count,
    /// Neither the flow table nor the ring had room.
    pub lost: Count,
    /// Not IP.
    pub other: Count,
    /// IP with a header that does not parse.
    pub malformed: Count,
    /// Counted at another hook or interface already.
    pub duplicate: Count,
    /// Of flows that the store had no room to keep.
    pub evicted: Totals,
    /// Moments that the ring had no room for; their packets are counted.
    pub lost_moments: u64,
}

/// Packets with their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Wire packets.
    pub packets: u64,
    /// IP bytes.
    pub bytes: u64,
}

impl Count {
    pub(super) fn add(&mut self, packets: u64, bytes: u64) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

impl Accounting {
    /// Adds up what the kernel and the pipeline counted.
    #[must_use]
    pub fn new(kernel: &KernelCounters, totals: &PipelineTotals) -> Self {
        // Exhaustive: a counter of the kernel's that is left out here would be lost silently.
        let KernelCounters {
            lost_packets,
            lost_bytes,
            lost_moments,
            other_packets,
            other_bytes,
            malformed_packets,
            malformed_bytes,
            owned_packets,
            owned_bytes,
        } = *kernel;
        let mut duplicate = totals.duplicate;
        duplicate.add(owned_packets, owned_bytes);
        let other = Count { packets: other_packets, bytes: other_bytes };
        let malformed = Count { packets: malformed_packets, bytes: malformed_bytes };
        let mut counted = totals.in_flows;
        for Count { packets, bytes } in [totals.waiting, duplicate, other, malformed] {
            counted.add(packets, bytes);
        }
        Self {
            counted,
            lost: Count { packets: lost_packets, bytes: lost_bytes },
            other,
            malformed,
            duplicate,
            evicted: totals.evicted,
            lost_moments,
        }
    }
}
