//! `orb8 trace tcp`: what happens to connections.

use std::collections::BTreeMap;
use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::tcp::EVENTS;
use orb8_proto::units;
use orb8_proto::v1::stream_tcp_response::Event;
use orb8_proto::v1::{StreamTcpRequest, StreamTcpResponse, TcpEvent, TcpEventKind};
use tonic::{Response, Status, Streaming};

use super::summary::Tally;
use super::{Stream, Told};
use crate::args::{StreamArgs, TcpArgs};
use crate::commands::{TCP_LOST_IN_RING, counted};
use crate::connection::Connection;
use crate::output::{Machine, tcp};

impl Stream for TcpArgs {
    const SIGNAL: &'static str = "tcp";
    const LOST_IN_RING: &'static str = TCP_LOST_IN_RING;
    const VIEW: &'static View<TcpEvent> = &EVENTS;
    type Subject = TcpEvent;
    type Message = StreamTcpResponse;
    type Tally = TcpTally;

    fn args(&self) -> &StreamArgs {
        &self.stream
    }

    async fn subscribe(
        &self,
        connection: &mut Connection,
    ) -> Result<Response<Streaming<StreamTcpResponse>>, Status> {
        let request = StreamTcpRequest {
            include: self.filters.include.clone(),
            exclude: self.filters.exclude.clone(),
            include_self_traffic: self.include_self,
            last: self.stream.last.unwrap_or(0),
            no_follow: self.stream.is_past(),
            since_time_ns: self.stream.since.map(|since| connection.moment(since)),
        };
        connection.client.stream_tcp(request).await
    }

    fn told(message: &StreamTcpResponse) -> Told<'_, TcpEvent> {
        match &message.event {
            Some(Event::Tcp(event)) => Told::Row(event),
            Some(Event::Lost(lost)) => Told::Lost(lost),
            None => Told::Nothing,
        }
    }

    fn write(
        machine: Machine,
        out: &mut dyn io::Write,
        message: &StreamTcpResponse,
    ) -> io::Result<()> {
        tcp::write_message(machine, out, message)
    }
}

/// How many events of each kind went by.
#[derive(Default)]
pub(crate) struct TcpTally {
    events: u64,
    /// By the kind's number, so that a summary has them in a connection's order.
    kinds: BTreeMap<i32, u64>,
}

impl Tally<StreamTcpResponse> for TcpTally {
    fn add(&mut self, message: &StreamTcpResponse) {
        if let Some(Event::Tcp(event)) = &message.event {
            self.events += 1;
            *self.kinds.entry(event.kind).or_default() += 1;
        }
    }

    fn text(&self) -> String {
        let kind = |(kind, count): (&i32, &u64)| {
            let word = TcpEventKind::try_from(*kind).ok()?.word()?;
            Some(format!("{} {word}", units::count(*count)))
        };
        let kinds: Vec<String> = self.kinds.iter().filter_map(kind).collect();
        let events = counted(self.events, "event", "events");
        if kinds.is_empty() { events } else { format!("{events} ({})", kinds.join(", ")) }
    }
}
