//! What all connections add up to.

use std::sync::Arc;

use super::connection::RttAdded;
use crate::event::{ResetBy, TcpKind, TcpSample};
use crate::store::Histogram;

/// Reasons that are told apart: the kernel has about a hundred.
const MAX_REASONS: usize = 512;

/// Everything since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpTotals {
    /// Local `connect(2)`s that succeeded.
    pub connects: u64,
    /// Connections that local listeners got.
    pub accepts: u64,
    /// Local `connect(2)`s that failed.
    pub failures: u64,
    /// Connections that ended.
    pub closes: u64,
    /// Segments sent again.
    pub resent: u64,
    /// RSTs that this node sent.
    pub resets_sent: u64,
    /// RSTs that it got.
    pub resets_received: u64,
    /// Connections that listeners dropped.
    pub overflows: u64,
    /// Packets dropped, by reason, in the order of their first sight.
    pub drops: Vec<DropCount>,
    /// Connections for which the table had no room.
    pub untracked: u64,
    /// How long handshakes took.
    pub handshake: Histogram,
    /// Samples of the round-trip time.
    pub rtt: Histogram,
}

/// Packets dropped for a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropCount {
    /// The kernel's name for it.
    pub reason: Arc<str>,
    /// Packets.
    pub packets: u64,
}

/// What a sample adds that only its connection tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    /// Segments sent again.
    pub(super) resent: u64,
    /// Samples of the round-trip time.
    pub(super) rtt: Option<RttAdded>,
}

impl Added {
    /// Segments that were sent again and that no connection of the table will tell of.
    pub(super) fn resent_by(sample: &TcpSample) -> Self {
        let resent = match sample.kind {
            TcpKind::Retransmit { segments, .. } => segments.into(),
            _ => 0,
        };
        Self { resent, rtt: None }
    }
}

impl TcpTotals {
    /// Counts what a sample tells by itself.
    pub(super) fn count(&mut self, sample: &TcpSample) {
        match &sample.kind {
            TcpKind::Connect { handshake_ns } => {
                self.connects += 1;
                self.count_handshake(*handshake_ns);
            }
            TcpKind::Accept { handshake_ns } => {
                self.accepts += 1;
                self.count_handshake(*handshake_ns);
            }
            TcpKind::Fail { .. } => self.failures += 1,
            TcpKind::Close { .. } => self.closes += 1,
            TcpKind::Reset { by: ResetBy::Local, .. } => self.resets_sent += 1,
            TcpKind::Reset { by: ResetBy::Remote, .. } => self.resets_received += 1,
            TcpKind::Drop { reason, weight, .. } => self.count_drop(&reason.name, *weight),
            TcpKind::Overflow { overflows, .. } => self.overflows += u64::from(*overflows),
            // By its connection: `segments` of a lost event would be missing.
            TcpKind::Retransmit { .. } | TcpKind::Progress | TcpKind::State => {}
        }
    }

    pub(super) fn add(&mut self, added: &Added) {
        self.resent += added.resent;
        if let Some(RttAdded { counts, sum_us, min_us, max_us }) = &added.rtt {
            self.rtt.add_micros(counts, *sum_us, *min_us, *max_us);
        }
    }

    fn count_handshake(&mut self, handshake_ns: Option<u64>) {
        if let Some(handshake) = handshake_ns {
            self.handshake.record(handshake);
        }
    }

    fn count_drop(&mut self, reason: &Arc<str>, weight: u32) {
        let packets = u64::from(weight);
        match self.drops.iter().position(|drops| drops.reason == *reason) {
            Some(at) => self.drops[at].packets += packets,
            None if self.drops.len() < MAX_REASONS => {
                self.drops.push(DropCount { reason: Arc::clone(reason), packets });
            }
            None => {}
        }
    }
}
