//! `orb8 workloads`.

use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::workload::LIST;
use orb8_proto::units;
use orb8_proto::v1::{Lost, QueryWorkloadsRequest, QueryWorkloadsResponse, WorkloadSummary};
use tonic::{Response, Status};

use super::List;
use crate::args::{ListArgs, WorkloadsArgs};
use crate::connection::Connection;
use crate::output::Machine;
use crate::output::workload::SummaryObject;

impl List for WorkloadsArgs {
    /// Any signal has something to tell of workloads.
    const SIGNAL: Option<&'static str> = None;
    const LOST_IN_RING: &'static str = "";
    const VIEW: &'static View<WorkloadSummary> = &LIST;
    const NOUN: [&'static str; 2] = ["workload", "workloads"];
    type Subject = WorkloadSummary;
    type Answer = QueryWorkloadsResponse;

    fn args(&self) -> &ListArgs {
        &self.list
    }

    fn order(&self) -> &str {
        &self.sort
    }

    async fn query(
        &self,
        connection: &mut Connection,
        _: Option<u64>,
    ) -> Result<Response<QueryWorkloadsResponse>, Status> {
        let request = connection.request(QueryWorkloadsRequest {
            include: self.filters.include.clone(),
            exclude: self.filters.exclude.clone(),
            group_by: self.group_by().into(),
            sort_by: self.sort_by().into(),
            ascending: self.ascending,
            limit: self.list.limit,
            peers: self.peers,
            include_self_traffic: self.include_self,
            keys: Vec::new(),
        });
        connection.client.query_workloads(request).await
    }

    fn rows(answer: &QueryWorkloadsResponse) -> Vec<&WorkloadSummary> {
        answer.workloads.iter().collect()
    }

    fn total_matched(answer: &QueryWorkloadsResponse) -> u64 {
        answer.total_matched
    }

    /// What is lost is nobody's: `flows` and `status` tell it.
    fn lost(_: &QueryWorkloadsResponse) -> Option<Lost> {
        None
    }

    fn gist(answer: &QueryWorkloadsResponse) -> String {
        let rate = |way: fn(&WorkloadSummary) -> Option<orb8_proto::v1::Traffic>| {
            let traffic = answer.totals.as_ref().and_then(way).unwrap_or_default();
            units::byte_rate(traffic.bytes_per_second)
        };
        format!("{} sent, {} received", rate(|totals| totals.sent), rate(|totals| totals.received))
    }

    fn write(
        machine: Machine,
        out: &mut dyn io::Write,
        answer: &QueryWorkloadsResponse,
    ) -> io::Result<()> {
        for summary in &answer.workloads {
            machine.write(out, &SummaryObject::new(summary))?;
        }
        match &answer.totals {
            Some(totals) => machine.write(out, &SummaryObject::totals(totals)),
            None => Ok(()),
        }
    }
}
