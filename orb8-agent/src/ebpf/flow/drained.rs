//! What a drain of the `flow` object found.

use orb8_common::flow::{FlowKey, FlowStats, SocketBody};

/// What one drain found, in buffers that are used again.
#[derive(Debug, Default)]
pub struct Drained {
    /// What was added to flows since the last drain.
    pub flows: Vec<(FlowKey, FlowStats)>,
    /// Totals of connected sockets that moved.
    pub sockets: Vec<SocketBody>,
    /// Final totals of sockets that closed.
    pub closed: Vec<SocketBody>,
    /// Records whose bytes did not decode.
    pub undecodable: u64,
}

impl Drained {
    /// Cuts it into parts of at most `size` records of each kind.
    pub fn parts(&self, size: usize) -> impl Iterator<Item = DrainedPart<'_>> {
        let Self { flows, sockets, closed, undecodable } = self;
        let longest = flows.len().max(sockets.len()).max(closed.len());
        (0..longest.max(1)).step_by(size).map(move |start| DrainedPart {
            flows: part(flows, start, size),
            sockets: part(sockets, start, size),
            closed: part(closed, start, size),
            undecodable: if start == 0 { *undecodable } else { 0 },
        })
    }

    /// Empties the buffers, and gives memory back that a burst needed.
    pub fn clear(&mut self) {
        const KEEP: usize = 8192;
        let Self { flows, sockets, closed, undecodable } = self;
        flows.clear();
        flows.shrink_to(KEEP);
        sockets.clear();
        sockets.shrink_to(KEEP);
        closed.clear();
        closed.shrink_to(KEEP);
        *undecodable = 0;
    }
}

/// A part of a [`Drained`].
#[derive(Clone, Copy, Debug)]
pub struct DrainedPart<'a> {
    /// See [`Drained::flows`].
    pub flows: &'a [(FlowKey, FlowStats)],
    /// See [`Drained::sockets`].
    pub sockets: &'a [SocketBody],
    /// See [`Drained::closed`].
    pub closed: &'a [SocketBody],
    /// See [`Drained::undecodable`].
    pub undecodable: u64,
}

fn part<T>(records: &[T], start: usize, size: usize) -> &[T] {
    let end = records.len().min(start + size);
    records.get(start..end).unwrap_or_default()
}
