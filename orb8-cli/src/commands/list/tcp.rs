//! `orb8 tcp top`.

use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::tcp::TOP;
use orb8_proto::v1::{
    Lost, LostSource, QueryTcpRequest, QueryTcpResponse, TcpConnection, TcpTotals,
};
use tonic::{Response, Status};

use super::{List, counts};
use crate::args::{ListArgs, TcpTopArgs};
use crate::commands::{TCP_LOST_IN_RING, counted};
use crate::connection::Connection;
use crate::output::Machine;
use crate::output::tcp::{ConnectionObject, TotalsObject};

impl List for TcpTopArgs {
    const SIGNAL: Option<&'static str> = Some("tcp");
    const LOST_IN_RING: &'static str = TCP_LOST_IN_RING;
    const VIEW: &'static View<TcpConnection> = &TOP;
    const NOUN: [&'static str; 2] = ["connection", "connections"];
    type Subject = TcpConnection;
    type Answer = QueryTcpResponse;

    fn args(&self) -> &ListArgs {
        &self.list
    }

    fn is_numeric(&self) -> bool {
        self.numeric
    }

    fn order(&self) -> &str {
        &self.sort
    }

    async fn query(
        &self,
        connection: &mut Connection,
        _: Option<u64>,
    ) -> Result<Response<QueryTcpResponse>, Status> {
        let request = connection.request(QueryTcpRequest {
            include: self.filters.include.clone(),
            exclude: self.filters.exclude.clone(),
            sort_by: self.sort_by().into(),
            ascending: self.ascending,
            limit: self.list.limit,
            include_self_traffic: self.include_self,
        });
        connection.client.query_tcp(request).await
    }

    fn rows(answer: &QueryTcpResponse) -> Vec<&TcpConnection> {
        answer.connections.iter().collect()
    }

    fn total_matched(answer: &QueryTcpResponse) -> u64 {
        answer.total_matched
    }

    fn lost(answer: &QueryTcpResponse) -> Option<Lost> {
        let totals = answer.totals.as_ref().filter(|totals| totals.lost_events > 0)?;
        let source = LostSource::Ring.into();
        Some(Lost { source, events: totals.lost_events, ..Lost::default() })
    }

    fn gist(answer: &QueryTcpResponse) -> String {
        let totals = answer.totals.as_ref();
        let segments = totals.map_or(0, |totals| totals.retransmitted_segments);
        counted(segments, "segment sent again", "segments sent again")
    }

    fn totals(answer: &QueryTcpResponse) -> Option<String> {
        let totals = answer.totals.as_ref()?;
        counts(&[
            (totals.connects, "connect", "connects"),
            (totals.accepts, "accept", "accepts"),
            (totals.failures, "failure", "failures"),
            (totals.closes, "close", "closes"),
            (totals.retransmitted_segments, "segment sent again", "segments sent again"),
            (totals.resets_sent, "reset sent", "resets sent"),
            (totals.resets_received, "reset received", "resets received"),
            (totals.overflows, "connection refused in a queue", "connections refused in queues"),
            (dropped(totals), "packet dropped", "packets dropped"),
            (totals.untracked, "connection not tracked", "connections not tracked"),
        ])
    }

    fn write(
        machine: Machine,
        out: &mut dyn io::Write,
        answer: &QueryTcpResponse,
    ) -> io::Result<()> {
        for connection in &answer.connections {
            machine.write(out, &ConnectionObject::new(connection))?;
        }
        match &answer.totals {
            Some(totals) => machine.write(out, &TotalsObject::new(totals)),
            None => Ok(()),
        }
    }
}

fn dropped(totals: &TcpTotals) -> u64 {
    totals.drops.iter().map(|drop| drop.packets).sum()
}
