//! The streams of all signals as one.

use std::pin::Pin;

use orb8_proto::v1::{StreamDnsRequest, StreamEventsRequest, StreamGpuRequest, StreamTcpRequest};
use prost::Message;
use tokio_stream::{Stream, StreamExt, StreamMap};
use tonic::{Response, Status, Streaming};

use super::selection::Selection;
use crate::args::RecordSignal;
use crate::connection::Connection;
use crate::error::CliError;
use crate::recording::Kind;

/// What comes next.
pub(super) enum Item {
    /// An event, encoded.
    Event(Kind, Vec<u8>),
    /// A stream ended, with why where that is known.
    End(&'static str, Option<Status>),
}

type Events = Pin<Box<dyn Stream<Item = Item> + Send>>;

/// See the [module](self).
pub(super) struct Streams(StreamMap<&'static str, Events>);

impl Streams {
    /// Subscribes to the chosen signals.
    pub(super) async fn subscribe(
        connection: &mut Connection,
        selection: &Selection,
    ) -> Result<Self, CliError> {
        let mut streams = StreamMap::new();
        for signal in &selection.signals {
            let opened =
                tokio::time::timeout(connection.timeout(), open(*signal, connection, selection));
            let opened = opened.await.map_err(|_| CliError::silent(&connection.name))?;
            let events = opened.map_err(|status| connection.error(&status))?;
            streams.insert(signal.name(), events);
        }
        Ok(Self(streams))
    }

    /// Returns the next event, or that there will be none.
    pub(super) async fn next(&mut self) -> Item {
        match self.0.next().await {
            Some((_, item)) => item,
            None => std::future::pending().await,
        }
    }
}

async fn open(
    signal: RecordSignal,
    connection: &mut Connection,
    selection: &Selection,
) -> Result<Events, Status> {
    let client = &mut connection.client;
    match signal {
        RecordSignal::Flow => {
            let (include, exclude) = selection.flows();
            let request = StreamEventsRequest {
                include,
                exclude,
                include_self_traffic: true,
                kinds: Selection::kinds(),
                ..StreamEventsRequest::default()
            };
            client.stream_events(request).await.map(|it| events(it, signal, Kind::FlowEvent))
        }
        RecordSignal::Dns => {
            let (include, exclude) = selection.exchanges();
            let request = StreamDnsRequest { include, exclude, ..StreamDnsRequest::default() };
            client.stream_dns(request).await.map(|it| events(it, signal, Kind::DnsEvent))
        }
        RecordSignal::Tcp => {
            let (include, exclude) = selection.tcp_events();
            let request = StreamTcpRequest {
                include,
                exclude,
                include_self_traffic: true,
                ..StreamTcpRequest::default()
            };
            client.stream_tcp(request).await.map(|it| events(it, signal, Kind::TcpEvent))
        }
        RecordSignal::Gpu => {
            let (include, exclude) = selection.workloads();
            let request = StreamGpuRequest { include, exclude, ..StreamGpuRequest::default() };
            client.stream_gpu(request).await.map(|it| events(it, signal, Kind::GpuEvent))
        }
    }
}

/// What ends a stream is its last item.
fn events<M: Message + 'static>(
    stream: Response<Streaming<M>>,
    signal: RecordSignal,
    kind: Kind,
) -> Events {
    let name = signal.name();
    let items = stream.into_inner().map(move |event| match event {
        Ok(event) => Item::Event(kind, event.encode_to_vec()),
        Err(status) => Item::End(name, Some(status)),
    });
    Box::pin(items.chain(tokio_stream::once(Item::End(name, None))))
}
