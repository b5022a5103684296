//! One subscriber's events: the last ones, then what follows.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::convert::Converter;
use crate::event::UnixNanos;
use crate::pipeline::{Happened, Lost, Reader, Received, StreamItem, Subscription};
use crate::status::StatusBoard;

mod dns;
mod flow;
mod gpu;
mod tcp;

pub(super) use dns::DnsSelection;
pub(super) use flow::FlowSelection;
pub(super) use gpu::GpuSelection;
pub(super) use tcp::TcpSelection;

/// Interfaces come and go, and their names with them.
const RENAME: Duration = Duration::from_secs(1);

/// Which of a signal's events a subscriber wants, and how they are told.
pub(super) trait Selection: Unpin {
    /// What the signal's hub carries.
    type Event;
    /// What the stream carries.
    type Response: Unpin;

    /// Whether the event is wanted. That something was lost may be a kind of event itself.
    fn wants(&self, item: &StreamItem<Self::Event>, converter: &Converter) -> bool;

    /// Converts an event.
    fn tell(&self, item: &StreamItem<Self::Event>, converter: &Converter) -> Self::Response;
}

/// Which part of time a subscriber wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// How many of the most recent events come first; `None` for all that the agent still holds.
    pub(super) last: Option<usize>,
    /// Of those, the ones of this time and later.
    pub(super) since: UnixNanos,
    /// Whether what happens from now on is wanted too.
    pub(super) follow: bool,
}

impl Span {
    /// Reads a request: without `last`, a time asks for all events from then on, and nothing asks for
    /// none.
    pub(super) fn new(last: u32, since: Option<u64>, no_follow: bool) -> Self {
        Self {
            last: match (last, since) {
                (0, Some(_)) => None,
                (last, _) => Some(last as usize),
            },
            since: UnixNanos(since.unwrap_or(0)),
            follow: !no_follow,
        }
    }
}

/// See the [module](self). It takes nothing from the hub before its client has room: one that
/// reads too slowly loses events there, and is told how many.
pub(super) struct EventStream<S: Selection> {
    selection: S,
    converter: Converter,
    board: StatusBoard,
    named: Instant,
    ready: VecDeque<S::Response>,
    following: Option<Reader<S::Event>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S: Selection> EventStream<S> {
    pub(super) fn new(
        selection: S,
        span: Span,
        subscription: Subscription<S::Event>,
        converter: Converter,
        board: StatusBoard,
        shutdown: CancellationToken,
    ) -> Self {
        let Subscription { recent, reader } = subscription;
        let past = recent
            .iter()
            .rev()
            .flat_map(|batch| batch.items.iter().rev())
            .filter(|item| selection.wants(item, &converter))
            .take(span.last.unwrap_or(usize::MAX))
            .filter(|item| item.time >= span.since)
            .map(|item| selection.tell(item, &converter));
        let mut ready: VecDeque<_> = past.collect();
        ready.make_contiguous().reverse();
        Self {
            following: span.follow.then_some(reader),
            selection,
            converter,
            board,
            named: Instant::now(),
            ready,
            shutdown: Box::pin(shutdown.cancelled_owned()),
        }
    }

    fn take(&mut self, received: &Received<S::Event>) {
        if self.named.elapsed() >= RENAME {
            self.named = Instant::now();
            self.converter.interfaces = self.board.interfaces();
        }
        let Self { selection, converter, ready, .. } = self;
        let Received { missing, batch } = received;
        if let Some(next) = batch.items.first().filter(|_| *missing > 0) {
            let happened = Happened::Lost(Lost::Subscriber { events: *missing });
            // Whatever is wanted: that some are missing is never left out.
            ready.push_back(selection.tell(&StreamItem { time: next.time, happened }, converter));
        }
        let wanted = batch.items.iter().filter(|item| selection.wants(item, converter));
        ready.extend(wanted.map(|item| selection.tell(item, converter)));
    }
}

impl<S: Selection> Stream for EventStream<S> {
    type Item = Result<S::Response, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.shutdown.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            let Some(following) = &mut self.following else {
                return Poll::Ready(None);
            };
            match ready!(following.poll_next(context)) {
                Some(received) => self.take(&received),
                None => return Poll::Ready(None),
            }
        }
    }
}
