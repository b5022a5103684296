//! Events of a recording, as a subscriber gets them.

use std::collections::VecDeque;
use std::sync::Arc;

use orb8_proto::v1::{
    StreamDnsResponse, StreamEventsResponse, StreamGpuResponse, StreamTcpResponse,
};
use orb8_proto::v1::{stream_dns_response, stream_tcp_response};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::archive::{Archive, decode};
use super::clock::Clock;
use crate::recording::{Frames, Kind};

/// Events that wait for the one who reads.
const WAITING: usize = 256;

/// An event of a stream.
pub(super) trait Event: Message + Default + Send + 'static {
    const KIND: Kind;

    /// Returns when it happened; `None` where it does not say.
    fn time_ns(&self) -> Option<u64>;
}

impl Event for StreamEventsResponse {
    const KIND: Kind = Kind::FlowEvent;

    fn time_ns(&self) -> Option<u64> {
        Some(self.time_ns)
    }
}

impl Event for StreamDnsResponse {
    const KIND: Kind = Kind::DnsEvent;

    fn time_ns(&self) -> Option<u64> {
        match self.event.as_ref()? {
            stream_dns_response::Event::Exchange(exchange) => Some(exchange.time_ns),
            stream_dns_response::Event::Lost(_) => None,
        }
    }
}

impl Event for StreamTcpResponse {
    const KIND: Kind = Kind::TcpEvent;

    fn time_ns(&self) -> Option<u64> {
        match self.event.as_ref()? {
            stream_tcp_response::Event::Tcp(event) => Some(event.time_ns),
            stream_tcp_response::Event::Lost(_) => None,
        }
    }
}

impl Event for StreamGpuResponse {
    const KIND: Kind = Kind::GpuEvent;

    fn time_ns(&self) -> Option<u64> {
        Some(self.time_ns)
    }
}

/// Which part of the recording a subscriber wants. As with an agent, `last` counts before `since` does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    last: Option<usize>,
    since_ns: u64,
    is_past: bool,
    no_follow: bool,
}

impl Span {
    pub(super) fn new(last: u32, since_ns: Option<u64>, no_follow: bool) -> Self {
        Self {
            last: (last > 0).then_some(last as usize),
            since_ns: since_ns.unwrap_or(0),
            is_past: last > 0 || since_ns.is_some(),
            no_follow,
        }
    }
}

/// Sends the events that are wanted: of a part of the past, or all of them as time goes by.
pub(super) fn stream<E: Event>(
    archive: Arc<Archive>,
    clock: Clock,
    span: Span,
    wanted: impl Fn(&E) -> bool + Send + 'static,
) -> ReceiverStream<Result<E, Status>> {
    let (to, from) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let sender = Sender { archive, clock, span, to, kept: VecDeque::new() };
        sender.run(wanted).await;
    });
    ReceiverStream::new(from)
}

struct Sender<E> {
    archive: Arc<Archive>,
    clock: Clock,
    span: Span,
    to: mpsc::Sender<Result<E, Status>>,
    /// The last events, where so many of them are wanted.
    kept: VecDeque<(u64, E)>,
}

impl<E: Event> Sender<E> {
    /// Ends early where nobody reads any more.
    async fn run(mut self, wanted: impl Fn(&E) -> bool) {
        if self.span.no_follow && !self.span.is_past {
            return;
        }
        for block in self.archive.blocks_with(E::KIND) {
            let events = match self.events(block).await {
                Ok(events) => events,
                Err(status) => {
                    // Nobody is there to tell if this fails.
                    let _ = self.to.send(Err(status)).await;
                    return;
                }
            };
            for (recorded_ns, event) in events {
                if wanted(&event) && !self.take(recorded_ns, event).await {
                    return;
                }
            }
        }
        for (time_ns, event) in std::mem::take(&mut self.kept) {
            if time_ns >= self.span.since_ns && self.to.send(Ok(event)).await.is_err() {
                return;
            }
        }
    }

    async fn events(&self, block: usize) -> Result<Vec<(u64, E)>, Status> {
        let archive = Arc::clone(&self.archive);
        let read = move || -> std::io::Result<Vec<(u64, E)>> {
            let raw = archive.block(block)?;
            let frames = Frames::new(&raw).filter(|frame| frame.kind == Some(E::KIND));
            frames.map(|frame| Ok((frame.time_ns, decode(&frame)?))).collect()
        };
        let read = tokio::task::spawn_blocking(read).await;
        let read = read.map_err(|error| Status::internal(error.to_string()))?;
        read.map_err(|error| Status::data_loss(error.to_string()))
    }

    /// Sends an event when it is due, or keeps it; returns whether to go on.
    async fn take(&mut self, recorded_ns: u64, event: E) -> bool {
        let time_ns = event.time_ns().unwrap_or(recorded_ns);
        if let Some(last) = self.span.last {
            if self.kept.len() == last {
                self.kept.pop_front();
            }
            self.kept.push_back((time_ns, event));
            return !self.to.is_closed();
        }
        if time_ns < self.span.since_ns {
            return !self.to.is_closed();
        }
        if !self.span.is_past {
            let due = self.clock.until(recorded_ns);
            tokio::select! {
                () = tokio::time::sleep(due), if !due.is_zero() => {}
                () = self.to.closed() => return false,
                () = std::future::ready(()), if due.is_zero() => {}
            }
        }
        self.to.send(Ok(event)).await.is_ok()
    }
}
