//! `orb8 trace dns`: queries and what became of them.

use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::dns::EXCHANGES;
use orb8_proto::v1::stream_dns_response::Event;
use orb8_proto::v1::{DnsExchange, DnsOutcome, StreamDnsRequest, StreamDnsResponse};
use tonic::{Response, Status, Streaming};

use super::summary::Tally;
use super::{Stream, Told};
use crate::args::{DnsArgs, StreamArgs};
use crate::commands::{DNS_LOST_IN_RING, counted};
use crate::connection::Connection;
use crate::output::{Machine, dns};

impl Stream for DnsArgs {
    const SIGNAL: &'static str = "dns";
    const LOST_IN_RING: &'static str = DNS_LOST_IN_RING;
    const VIEW: &'static View<DnsExchange> = &EXCHANGES;
    type Subject = DnsExchange;
    type Message = StreamDnsResponse;
    type Tally = DnsTally;

    fn args(&self) -> &StreamArgs {
        &self.stream
    }

    async fn subscribe(
        &self,
        connection: &mut Connection,
    ) -> Result<Response<Streaming<StreamDnsResponse>>, Status> {
        let request = StreamDnsRequest {
            include: self.filters.include.clone(),
            exclude: self.filters.exclude.clone(),
            last: self.stream.last.unwrap_or(0),
            no_follow: self.stream.is_past(),
            since_time_ns: self.stream.since.map(|since| connection.moment(since)),
        };
        connection.client.stream_dns(request).await
    }

    fn told(message: &StreamDnsResponse) -> Told<'_, DnsExchange> {
        match &message.event {
            Some(Event::Exchange(exchange)) => Told::Row(exchange),
            Some(Event::Lost(lost)) => Told::Lost(lost),
            None => Told::Nothing,
        }
    }

    fn write(
        machine: Machine,
        out: &mut dyn io::Write,
        message: &StreamDnsResponse,
    ) -> io::Result<()> {
        dns::write_message(machine, out, message)
    }
}

/// How many exchanges went by, and how many of them failed.
#[derive(Default)]
pub(crate) struct DnsTally {
    exchanges: u64,
    errors: u64,
    timeouts: u64,
}

impl Tally<StreamDnsResponse> for DnsTally {
    fn add(&mut self, message: &StreamDnsResponse) {
        if let Some(Event::Exchange(exchange)) = &message.event {
            let is_error = exchange.rcode.is_some_and(|rcode| rcode > 0);
            self.exchanges += 1;
            self.errors += u64::from(is_error);
            self.timeouts += u64::from(exchange.outcome() == DnsOutcome::Timeout);
        }
    }

    fn text(&self) -> String {
        format!(
            "{}, {}, {}",
            counted(self.exchanges, "exchange", "exchanges"),
            counted(self.errors, "error", "errors"),
            counted(self.timeouts, "timeout", "timeouts"),
        )
    }
}
