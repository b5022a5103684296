//! One subscriber's events: the last ones, then what follows.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use orb8_proto::filter::Matcher;
use orb8_proto::v1::{EventKind, StreamEventsResponse};
use tokio_stream::Stream;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::convert::{self, Converter};
use crate::event::UnixNanos;
use crate::pipeline::{Batch, Gaps, Happened, Lost, StreamItem, Subscription};
use crate::status::StatusBoard;
use crate::store::FlowView;

/// Interfaces come and go, and their names with them.
const RENAME: Duration = Duration::from_secs(1);

/// Which events a subscriber wants.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) matcher: Matcher,
    pub(super) include_self_traffic: bool,
    /// All but closings, when empty.
    pub(super) kinds: Vec<EventKind>,
    pub(super) past: Past,
    pub(super) follow: bool,
}

/// Which of the events that the agent still holds a subscriber gets first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Past {
    /// How many of the most recent ones; `None` for all.
    pub(super) last: Option<usize>,
    /// Of those, the ones of this time and later.
    pub(super) since: UnixNanos,
}

impl Past {
    /// Reads a request: without `last`, a time asks for all events from then on, and nothing asks for
    /// none.
    pub(super) fn new(last: u32, since: Option<u64>) -> Self {
        Self {
            last: match (last, since) {
                (0, Some(_)) => None,
                (last, _) => Some(last as usize),
            },
            since: UnixNanos(since.unwrap_or(0)),
        }
    }
}

impl Selection {
    fn wants(&self, item: &StreamItem, converter: &Converter) -> bool {
        let kind = convert::kind(item);
        let is_wanted = if self.kinds.is_empty() {
            kind != EventKind::FlowClosing
        } else {
            self.kinds.contains(&kind)
        };
        if !is_wanted {
            return false;
        }
        let Happened::Flow { row, .. } = &item.happened else {
            return true;
        };
        let view = FlowView { flow: &row.flow, interfaces: &converter.interfaces };
        (self.include_self_traffic || !row.flow.self_traffic)
            && (self.matcher.is_empty() || self.matcher.matches(&view))
    }
}

/// See the [module](self). It takes nothing from the hub before its client has room: one that
/// reads too slowly loses events there, and is told how many.
pub(super) struct EventStream {
    selection: Selection,
    converter: Converter,
    board: StatusBoard,
    named: Instant,
    ready: VecDeque<StreamEventsResponse>,
    following: Option<BroadcastStream<Arc<Batch>>>,
    gaps: Gaps,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl EventStream {
    pub(super) fn new(
        selection: Selection,
        subscription: Subscription,
        converter: Converter,
        board: StatusBoard,
        shutdown: CancellationToken,
    ) -> Self {
        let Subscription { recent, receiver, gaps } = subscription;
        let Past { last, since } = selection.past;
        let past = recent
            .iter()
            .rev()
            .flat_map(|batch| batch.items.iter().rev())
            .filter(|item| selection.wants(item, &converter))
            .take(last.unwrap_or(usize::MAX))
            .filter(|item| item.time >= since)
            .map(|item| converter.event(item));
        let mut ready: VecDeque<_> = past.collect();
        ready.make_contiguous().reverse();
        Self {
            following: selection.follow.then(|| BroadcastStream::new(receiver)),
            selection,
            converter,
            board,
            named: Instant::now(),
            ready,
            gaps,
            shutdown: Box::pin(shutdown.cancelled_owned()),
        }
    }

    fn take(&mut self, batch: &Batch) {
        let missing = self.gaps.before(batch);
        if let Some(next) = batch.items.first().filter(|_| missing > 0) {
            let happened = Happened::Lost(Lost::Subscriber { events: missing });
            // Whatever kinds are wanted: that some are missing is never left out.
            self.ready.push_back(self.converter.event(&StreamItem { time: next.time, happened }));
        }
        if self.named.elapsed() >= RENAME {
            self.named = Instant::now();
            self.converter.interfaces = self.board.interfaces();
        }
        let Self { selection, converter, ready, .. } = self;
        let wanted = batch.items.iter().filter(|item| selection.wants(item, converter));
        ready.extend(wanted.map(|item| converter.event(item)));
    }
}

impl Stream for EventStream {
    type Item = Result<StreamEventsResponse, Status>;

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
            match ready!(Pin::new(following).poll_next(context)) {
                Some(Ok(batch)) => self.take(&batch),
                // The next batch's number tells how much that was.
                Some(Err(_lagged)) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}
