//! A batch of any signal.

use std::sync::Arc;

use crate::event::{Signal, UnixNanos};
use crate::pipeline::{Batch, DnsEvent, FlowEvent, Happened, Lost, TcpEvent};

/// See the [module](self). Cloning shares it.
#[derive(Clone, Debug)]
pub(in crate::hubble) enum Held {
    Flow(Arc<Batch<FlowEvent>>),
    Dns(Arc<Batch<DnsEvent>>),
    Tcp(Arc<Batch<TcpEvent>>),
}

/// Does the same with the batch of whichever signal.
macro_rules! with_batch {
    ($held:expr, $batch:ident => $then:expr) => {
        match $held {
            Held::Flow($batch) => $then,
            Held::Dns($batch) => $then,
            Held::Tcp($batch) => $then,
        }
    };
}

impl Held {
    pub(super) fn len(&self) -> usize {
        with_batch!(self, batch => batch.items.len())
    }

    /// Returns how many flows an event may be told in.
    pub(super) const fn parts(&self) -> u8 {
        match self {
            Self::Dns(_) => 2,
            Self::Flow(_) | Self::Tcp(_) => 1,
        }
    }

    pub(super) const fn signal(&self) -> Signal {
        match self {
            Self::Flow(_) => Signal::Flow,
            Self::Dns(_) => Signal::Dns,
            Self::Tcp(_) => Signal::Tcp,
        }
    }

    /// Returns the sequence number of an event.
    pub(super) fn sequence(&self, at: usize) -> u64 {
        with_batch!(self, batch => batch.first + at as u64)
    }

    pub(super) fn time(&self, at: usize) -> Option<UnixNanos> {
        with_batch!(self, batch => batch.items.get(at).map(|item| item.time))
    }

    /// Returns what was lost, where that is what the event tells.
    pub(super) fn lost(&self, at: usize) -> Option<(UnixNanos, Lost)> {
        with_batch!(self, batch => {
            let item = batch.items.get(at)?;
            match item.happened {
                Happened::Lost(lost) => Some((item.time, lost)),
                Happened::Event(_) => None,
            }
        })
    }

    /// Visits the namespaces at the ends of its events.
    pub(in crate::hubble) fn namespaces(&self, visit: &mut impl FnMut(&str)) {
        let mut of = |ends: &crate::identity::Ends| {
            [&ends.source, &ends.destination]
                .iter()
                .filter_map(|end| end.namespace())
                .for_each(&mut *visit);
        };
        match self {
            Self::Flow(batch) => events(batch).for_each(|event| of(&event.row.flow.ends)),
            Self::Dns(batch) => events(batch).for_each(|event| of(&event.ends)),
            Self::Tcp(batch) => events(batch).for_each(|event| of(&event.ends)),
        }
    }
}

fn events<T>(batch: &Batch<T>) -> impl Iterator<Item = &T> {
    batch.items.iter().filter_map(|item| match &item.happened {
        Happened::Event(event) => Some(event),
        Happened::Lost(_) => None,
    })
}
