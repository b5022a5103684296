//! What a subscriber is sent.

use std::{fmt::Debug, time::Duration};

use orb8_proto::v1::{
    DnsExchange, EventKind, Lost, StreamDnsResponse, StreamEventsResponse, StreamTcpResponse,
    TcpEvent, stream_dns_response, stream_tcp_response,
};
use tokio::time::Instant;
use tonic::Streaming;

use super::PATIENCE;

/// A stream's message: an event, or what was lost.
pub(crate) trait Told {
    type Event: Debug;

    fn event(self) -> Result<Self::Event, Lost>;
}

impl Told for StreamDnsResponse {
    type Event = DnsExchange;

    fn event(self) -> Result<DnsExchange, Lost> {
        match self.event.expect("a message says something") {
            stream_dns_response::Event::Exchange(exchange) => Ok(exchange),
            stream_dns_response::Event::Lost(lost) => Err(lost),
        }
    }
}

impl Told for StreamTcpResponse {
    type Event = TcpEvent;

    fn event(self) -> Result<TcpEvent, Lost> {
        match self.event.expect("a message says something") {
            stream_tcp_response::Event::Tcp(event) => Ok(event),
            stream_tcp_response::Event::Lost(lost) => Err(lost),
        }
    }
}

impl Told for StreamEventsResponse {
    type Event = Self;

    fn event(self) -> Result<Self, Lost> {
        match self.kind() {
            EventKind::Lost => Err(self.lost.unwrap_or_default()),
            _ => Ok(self),
        }
    }
}

/// A subscriber that keeps everything.
pub(crate) struct Watch<R: Told> {
    stream: Streaming<R>,
    pub(crate) seen: Vec<R::Event>,
    pub(crate) lost: Vec<Lost>,
}

impl<R: Told> Watch<R> {
    pub(crate) const fn new(stream: Streaming<R>) -> Self {
        Self { stream, seen: Vec::new(), lost: Vec::new() }
    }

    /// Waits until `check` finds what it looks for in all that came.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        check: impl Fn(&[R::Event]) -> Option<T>,
    ) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = check(&self.seen) {
                return found;
            }
            let came = self.take(end).await;
            assert!(came, "not within {PATIENCE:?}: {what}; {:#?}", self.seen);
        }
    }

    /// Waits for so many events that `wanted` picks, and returns those that came.
    pub(crate) async fn several(
        &mut self,
        count: usize,
        what: &str,
        wanted: impl Fn(&R::Event) -> bool,
    ) -> Vec<R::Event>
    where
        R::Event: Clone,
    {
        let found = |seen: &[R::Event]| {
            let found: Vec<_> = seen.iter().filter(|event| wanted(event)).cloned().collect();
            (found.len() >= count).then_some(found)
        };
        self.until(what, found).await
    }

    /// Waits for an event that `wanted` picks.
    pub(crate) async fn one(&mut self, what: &str, wanted: impl Fn(&R::Event) -> bool) -> R::Event
    where
        R::Event: Clone,
    {
        self.several(1, what, wanted).await.swap_remove(0)
    }

    /// Takes what comes for that long.
    pub(crate) async fn rest(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while self.take(end).await {}
    }

    /// Takes one message; `false` when none came in time.
    async fn take(&mut self, end: Instant) -> bool {
        let Ok(message) = tokio::time::timeout_at(end, self.stream.message()).await else {
            return false;
        };
        match message.expect("a message").expect("the stream goes on").event() {
            Ok(event) => self.seen.push(event),
            Err(lost) => self.lost.push(lost),
        }
        true
    }
}
