//! What every answer of this node needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orb8_proto::hubble::flow::Flow;

use super::held::Held;
use crate::hubble::convert;
use crate::hubble::id::{EventId, Instance};
use crate::hubble::observed::Observed;
use crate::pipeline::Happened;
use crate::status::StatusBoard;
use crate::store::InterfaceNames;

/// Interfaces come and go, and their names with them.
const RENAME: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Clone, Debug)]
pub(in crate::hubble) struct Teller {
    node: Arc<str>,
    instance: Instance,
    interfaces: Arc<InterfaceNames>,
}

impl Teller {
    pub(in crate::hubble) fn new(node: Arc<str>, instance: Instance, board: &StatusBoard) -> Self {
        Self { node, instance, interfaces: board.interfaces() }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) const fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Reads a part of an event; `None` where that is no flow.
    pub(super) fn observe<'a>(
        &'a self,
        held: &'a Held,
        at: usize,
        part: u8,
    ) -> Option<Observed<'a>> {
        let id = EventId { signal: held.signal(), sequence: held.sequence(at), part };
        let Self { node, interfaces, .. } = self;
        match held {
            Held::Flow(batch) => {
                let item = batch.items.get(at)?;
                let Happened::Event(event) = &item.happened else { return None };
                Observed::of_flow(id, item.time, event, interfaces, node)
            }
            Held::Dns(batch) => {
                let item = batch.items.get(at)?;
                let Happened::Event(event) = &item.happened else { return None };
                Observed::of_dns(id, item.time, event, interfaces, node)
            }
            Held::Tcp(batch) => {
                let item = batch.items.get(at)?;
                let Happened::Event(event) = &item.happened else { return None };
                Observed::of_tcp(id, item.time, event, interfaces, node)
            }
        }
    }

    pub(super) fn tell(&self, held: &Held, at: usize, part: u8) -> Option<Flow> {
        let observed = self.observe(held, at, part)?;
        Some(convert::flow(&observed, &self.node, &self.instance))
    }
}

/// The same for as long as a client follows.
pub(in crate::hubble) struct Telling {
    teller: Teller,
    board: StatusBoard,
    named: Instant,
}

impl Telling {
    pub(in crate::hubble) fn new(teller: Teller, board: StatusBoard) -> Self {
        Self { teller, board, named: Instant::now() }
    }

    pub(super) const fn teller(&self) -> &Teller {
        &self.teller
    }

    /// Reads the interfaces' names again, now and then.
    pub(super) fn renew(&mut self) {
        if self.named.elapsed() >= RENAME {
            self.named = Instant::now();
            self.teller.interfaces = self.board.interfaces();
        }
    }
}
