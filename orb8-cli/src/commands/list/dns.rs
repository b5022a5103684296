//! `orb8 dns top`.

use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::dns::TOP;
use orb8_proto::v1::{DnsSummary, Lost, LostSource, QueryDnsRequest, QueryDnsResponse};
use tonic::{Response, Status};

use super::{List, counts};
use crate::args::{DnsTopArgs, ListArgs};
use crate::commands::DNS_LOST_IN_RING;
use crate::connection::Connection;
use crate::output::Machine;
use crate::output::dns::{SummaryObject, TotalsObject};

impl List for DnsTopArgs {
    const SIGNAL: Option<&'static str> = Some("dns");
    const LOST_IN_RING: &'static str = DNS_LOST_IN_RING;
    const VIEW: &'static View<DnsSummary> = &TOP;
    const NOUN: [&'static str; 2] = ["name", "names"];
    type Subject = DnsSummary;
    type Answer = QueryDnsResponse;

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
    ) -> Result<Response<QueryDnsResponse>, Status> {
        let request = connection.request(QueryDnsRequest {
            include: self.filters.include.clone(),
            exclude: self.filters.exclude.clone(),
            sort_by: self.sort_by().into(),
            ascending: self.ascending,
            limit: self.list.limit,
        });
        connection.client.query_dns(request).await
    }

    fn rows(answer: &QueryDnsResponse) -> Vec<&DnsSummary> {
        answer.summaries.iter().collect()
    }

    fn total_matched(answer: &QueryDnsResponse) -> u64 {
        answer.total_matched
    }

    fn lost(answer: &QueryDnsResponse) -> Option<Lost> {
        let totals = answer.totals.filter(|totals| totals.lost_messages > 0)?;
        let source = LostSource::Ring.into();
        Some(Lost { source, events: totals.lost_messages, ..Lost::default() })
    }

    fn gist(answer: &QueryDnsResponse) -> String {
        let totals = answer.totals.unwrap_or_default();
        counts(&[(totals.queries, "query", "queries"), (totals.timeouts, "timeout", "timeouts")])
            .unwrap_or_else(|| "no queries".to_owned())
    }

    fn totals(answer: &QueryDnsResponse) -> Option<String> {
        let totals = answer.totals?;
        counts(&[
            (totals.queries, "query", "queries"),
            (totals.responses, "response", "responses"),
            (totals.timeouts, "timeout", "timeouts"),
            (totals.unasked, "unasked response", "unasked responses"),
            (totals.malformed, "malformed message", "malformed messages"),
            (totals.evicted, "query not waited for", "queries not waited for"),
        ])
    }

    fn write(
        machine: Machine,
        out: &mut dyn io::Write,
        answer: &QueryDnsResponse,
    ) -> io::Result<()> {
        for summary in &answer.summaries {
            machine.write(out, &SummaryObject::new(summary))?;
        }
        machine.write(out, &TotalsObject::new(&answer.totals.unwrap_or_default()))
    }
}
