//! A call that makes a communicator.

use super::row::Identity;
use crate::event::UnixNanos;
use crate::gpu::activity::{Communicator, CommunicatorState};

/// A call that has not returned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining {
    pub(super) tid: u32,
    pub(super) identity: Identity,
    /// Of what it is split off, before it was.
    pub(super) splits: u32,
    pub(super) began: UnixNanos,
}

impl Joining {
    pub(super) fn activity(&self) -> Communicator {
        Communicator {
            hash: self.identity.hash,
            rank: self.identity.rank,
            ranks: self.identity.ranks,
            collectives: Vec::new(),
            last: self.began,
            behind: None,
            slowest_rank: None,
            missing_ranks: Vec::new(),
            is_from_ras: false,
            state: CommunicatorState::Initializing,
        }
    }
}
