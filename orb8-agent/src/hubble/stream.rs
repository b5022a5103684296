//! One client's flows: those of the past that it asked for, then what follows.
//!
//! ```text
//! kept batches ──▶ past: what is wanted, by time ─┐
//!                                                 ├─▶ spots ──one at a time──▶ GetFlowsResponse
//! readers of three hubs ──batch by batch──────────┘
//! ```
//! A spot is a place in a batch that is shared with every subscriber. Only what the client takes is
//! converted, and nothing is taken from a hub before it took what there was: one that reads too slowly
//! loses events there, and is told how many.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orb8_proto::hubble::observer::GetFlowsResponse;
use orb8_proto::hubble::observer::get_flows_response::ResponseTypes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::convert;
use super::request::{Past, Span, Wanted};
use crate::event::UnixNanos;
use crate::pipeline::{
    DnsEvent, FlowEvent, Lost, Pipeline, Reader, Received, Subscription, TcpEvent,
};
pub(super) use held::Held;

mod held;
mod teller;

pub(super) use teller::{Teller, Telling};

/// Batches without anything that is wanted before others get a turn.
const PATIENCE: usize = 16;

/// Subscriptions to every hub.
pub(super) struct Subscriptions {
    flow: Subscription<FlowEvent>,
    dns: Subscription<DnsEvent>,
    tcp: Subscription<TcpEvent>,
}

impl Subscriptions {
    pub(super) fn new(pipeline: &mut Pipeline) -> Self {
        Self {
            flow: pipeline.subscribe(),
            dns: pipeline.subscribe_dns(),
            tcp: pipeline.subscribe_tcp(),
        }
    }

    /// Divides them into what was kept and what follows.
    pub(super) fn split(self) -> (Vec<Held>, Readers) {
        let Self { flow, dns, tcp } = self;
        let flows = flow.recent.into_iter().map(Held::Flow);
        let dns_exchanges = dns.recent.into_iter().map(Held::Dns);
        let tcp_events = tcp.recent.into_iter().map(Held::Tcp);
        let readers = Readers {
            flow: Lane::new(flow.reader),
            dns: Lane::new(dns.reader),
            tcp: Lane::new(tcp.reader),
            turn: 0,
        };
        (flows.chain(dns_exchanges).chain(tcp_events).collect(), readers)
    }
}

/// What follows, of every signal.
pub(super) struct Readers {
    flow: Lane<FlowEvent>,
    dns: Lane<DnsEvent>,
    tcp: Lane<TcpEvent>,
    /// Whose turn is next: a busy signal must not keep the others away.
    turn: usize,
}

struct Lane<T> {
    reader: Reader<T>,
    /// When the last event happened that was read.
    last: Option<UnixNanos>,
}

/// A batch, and what is missing before it.
struct Next {
    missing: u64,
    /// When the last event before that happened.
    since: Option<UnixNanos>,
    held: Held,
}

impl<T> Lane<T> {
    const fn new(reader: Reader<T>) -> Self {
        Self { reader, last: None }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        hold: impl FnOnce(Received<T>) -> Held,
    ) -> Poll<Option<Next>> {
        let received = ready!(self.reader.poll_next(context));
        Poll::Ready(received.map(|received| {
            let missing = received.missing;
            let last = received.batch.items.last().map(|item| item.time);
            let since = std::mem::replace(&mut self.last, last);
            Next { missing, since, held: hold(received) }
        }))
    }
}

impl Readers {
    /// Returns the next batch of any signal; `None` when there will never be one.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Next>> {
        let mut ended = 0;
        for _ in 0..3 {
            let turn = self.turn;
            self.turn = (turn + 1) % 3;
            let next = match turn {
                0 => self.flow.poll(context, |received| Held::Flow(received.batch)),
                1 => self.dns.poll(context, |received| Held::Dns(received.batch)),
                _ => self.tcp.poll(context, |received| Held::Tcp(received.batch)),
            };
            match next {
                Poll::Ready(Some(next)) => return Poll::Ready(Some(next)),
                Poll::Ready(None) => ended += 1,
                Poll::Pending => {}
            }
        }
        if ended == 3 { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// Something to tell, and when it happened.
#[derive(Debug)]
pub(super) struct Spot {
    time: UnixNanos,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Place in a batch, and part of what is there.
    Flow(Held, usize, u8),
    Lost(Lost, Option<UnixNanos>),
}

impl Spot {
    const fn is_flow(&self) -> bool {
        matches!(self.what, What::Flow(..))
    }
}

/// Finds what is wanted of the past, oldest first. It looks at everything that is kept.
pub(super) fn past(kept: &[Held], wanted: &Wanted, teller: &Teller) -> VecDeque<Spot> {
    let Span { past, .. } = wanted.span;
    if past == Past::Last(0) {
        return VecDeque::new();
    }
    let mut spots = VecDeque::new();
    for held in kept {
        spots_of(held, wanted, teller, &mut spots);
    }
    spots.make_contiguous().sort_by_key(|spot| spot.time);
    let flows = spots.iter().filter(|spot| spot.is_flow()).count();
    let at_most = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    match past {
        Past::All => {}
        Past::First(number) => {
            let end = nth_flow(&spots, at_most(number));
            spots.truncate(end);
        }
        Past::Last(number) => {
            let start = nth_flow(&spots, flows.saturating_sub(at_most(number)));
            drop(spots.drain(..start));
        }
    }
    spots
}

/// Returns the place behind so many flows; what was lost is not counted.
fn nth_flow(spots: &VecDeque<Spot>, number: usize) -> usize {
    let mut flows = 0;
    let is_beyond = |spot: &Spot| {
        flows += usize::from(spot.is_flow());
        flows > number
    };
    spots.iter().position(is_beyond).unwrap_or(spots.len())
}

fn spots_of(held: &Held, wanted: &Wanted, teller: &Teller, spots: &mut VecDeque<Spot>) {
    let Span { since, until, .. } = wanted.span;
    for at in 0..held.len() {
        if let Some((time, lost)) = held.lost(at) {
            if time >= since && time <= until {
                spots.push_back(Spot { time, what: What::Lost(lost, None) });
            }
            continue;
        }
        for part in 0..held.parts() {
            let Some(observed) = teller.observe(held, at, part) else { continue };
            let time = observed.time;
            if time >= since && time <= until && wanted.filters.want(&observed, teller.instance()) {
                spots.push_back(Spot { time, what: What::Flow(held.clone(), at, part) });
            }
        }
    }
}

/// See the [module](self).
pub(super) struct FlowStream {
    teller: Telling,
    wanted: Wanted,
    ready: VecDeque<Spot>,
    following: Option<Readers>,
    /// When nothing more is wanted.
    end: Option<Pin<Box<Sleep>>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Its place among the streams that there may be.
    _permit: OwnedSemaphorePermit,
}

impl FlowStream {
    pub(super) fn new(
        teller: Telling,
        wanted: Wanted,
        past: VecDeque<Spot>,
        readers: Readers,
        shutdown: CancellationToken,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let Span { follow, until, .. } = wanted.span;
        Self {
            teller,
            wanted,
            ready: past,
            following: follow.then_some(readers),
            end: (follow && until.0 < u64::MAX).then(|| Box::pin(sleep_until(until))),
            shutdown: Box::pin(shutdown.cancelled_owned()),
            _permit: permit,
        }
    }

    fn take(&mut self, next: &Next) {
        let Next { missing, since, held } = next;
        self.teller.renew();
        if let Some(time) = held.time(0).filter(|_| *missing > 0) {
            let lost = Lost::Subscriber { events: *missing };
            self.ready.push_back(Spot { time, what: What::Lost(lost, *since) });
        }
        spots_of(held, &self.wanted, self.teller.teller(), &mut self.ready);
    }

    fn tell(&self, spot: &Spot) -> Option<GetFlowsResponse> {
        let teller = self.teller.teller();
        let response = match &spot.what {
            What::Lost(lost, since) => {
                ResponseTypes::LostEvents(convert::lost(*lost, *since, spot.time))
            }
            What::Flow(held, at, part) => {
                let mut flow = teller.tell(held, *at, *part)?;
                if let Some(mask) = &self.wanted.mask {
                    mask.apply(&mut flow);
                }
                ResponseTypes::Flow(flow)
            }
        };
        Some(GetFlowsResponse {
            node_name: teller.node().to_owned(),
            time: Some(convert::timestamp(spot.time)),
            response_types: Some(response),
        })
    }
}

/// Sleeps until a time of the clock on the wall.
fn sleep_until(time: UnixNanos) -> Sleep {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    tokio::time::sleep(Duration::from_nanos(time.0).saturating_sub(now))
}

impl Stream for FlowStream {
    type Item = Result<GetFlowsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        for _ in 0..PATIENCE {
            while let Some(spot) = self.ready.pop_front() {
                if let Some(response) = self.tell(&spot) {
                    return Poll::Ready(Some(Ok(response)));
                }
            }
            if self.shutdown.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            let is_over = |end: &mut Pin<Box<Sleep>>| end.as_mut().poll(context).is_ready();
            if self.end.as_mut().is_some_and(is_over) {
                return Poll::Ready(None);
            }
            let Some(following) = &mut self.following else {
                return Poll::Ready(None);
            };
            match ready!(following.poll(context)) {
                Some(next) => self.take(&next),
                None => return Poll::Ready(None),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
