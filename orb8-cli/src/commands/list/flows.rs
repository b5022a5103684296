//! `orb8 flows`.

use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::flow::{Flows, LIST, Row};
use orb8_proto::units;
use orb8_proto::v1::{Lost, LostSource, QueryFlowsRequest, QueryFlowsResponse};
use tonic::{Response, Status};

use super::List;
use crate::args::{FlowsArgs, ListArgs};
use crate::commands::FLOWS_LOST_IN_RING;
use crate::connection::Connection;
use crate::output::Machine;
use crate::output::flow::FlowObject;
use crate::output::lost::LostObject;
use crate::time::Since;

impl List for FlowsArgs {
    const SIGNAL: Option<&'static str> = Some("flow");
    const LOST_IN_RING: &'static str = FLOWS_LOST_IN_RING;
    const VIEW: &'static View<Flows> = &LIST;
    const NOUN: [&'static str; 2] = ["flow", "flows"];
    type Subject = Flows;
    type Answer = QueryFlowsResponse;

    fn args(&self) -> &ListArgs {
        &self.list
    }

    fn is_numeric(&self) -> bool {
        self.numeric
    }

    fn order(&self) -> &str {
        self.sort_by().word().unwrap_or_default()
    }

    /// --last is a limit itself, and excludes --limit.
    fn is_limited(&self) -> bool {
        self.last.is_none()
    }

    async fn query(
        &self,
        connection: &mut Connection,
        since: Option<u64>,
    ) -> Result<Response<QueryFlowsResponse>, Status> {
        let request = connection.request(QueryFlowsRequest {
            include: self.filters.include.clone(),
            exclude: self.filters.exclude.clone(),
            sort_by: self.sort_by().into(),
            ascending: self.ascending,
            limit: self.limit(),
            start_time_ns: since,
            end_time_ns: None,
            include_self_traffic: self.include_self,
        });
        connection.client.query_flows(request).await
    }

    fn since(&self) -> Option<u64> {
        self.since.map(Since::unix_ns)
    }

    fn rows(answer: &QueryFlowsResponse) -> Vec<Row<'_>> {
        answer.flows.iter().map(|flow| Row { flow, event: None }).collect()
    }

    fn total_matched(answer: &QueryFlowsResponse) -> u64 {
        answer.total_matched
    }

    fn lost(answer: &QueryFlowsResponse) -> Option<Lost> {
        let accounting = answer.accounting.filter(|accounting| accounting.lost_packets > 0)?;
        Some(Lost {
            source: LostSource::Kernel.into(),
            events: 0,
            packets: accounting.lost_packets,
            bytes: accounting.lost_bytes,
        })
    }

    fn gist(answer: &QueryFlowsResponse) -> String {
        let rates = answer.flows.iter().map(|flow| flow.bytes_per_second);
        units::byte_rate(rates.fold(0, u64::saturating_add))
    }

    fn write(
        machine: Machine,
        out: &mut dyn io::Write,
        answer: &QueryFlowsResponse,
    ) -> io::Result<()> {
        for flow in &answer.flows {
            machine.write(out, &FlowObject::new(flow))?;
        }
        match Self::lost(answer) {
            Some(lost) => machine.write(out, &LostObject::new(&lost)),
            None => Ok(()),
        }
    }
}
