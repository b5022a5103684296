//! `orb8 flows`.

use std::io;

use jiff::Timestamp;
use orb8_proto::columns::View;
use orb8_proto::columns::flow::{Flows, LIST, Row};
use orb8_proto::units;
use orb8_proto::v1::{Lost, LostSource, QueryFlowsRequest, QueryFlowsResponse};
use tonic::{Response, Status};

use super::List;
use crate::args::{FlowsArgs, ListArgs};
use crate::commands::FLOWS_LOST_IN_RING;
use crate::connection::Connection;
use crate::console::Console;
use crate::output::Machine;
use crate::output::flow::{FlowObject, WindowObject};
use crate::output::lost::LostObject;

/// What a question takes on its way: no reason to tell that a moment is missing.
const SLACK_NS: u64 = 1_000_000_000;

impl FlowsArgs {
    /// Whether a part of time is asked for.
    const fn is_window(&self) -> bool {
        self.since.is_some() || self.to.is_some()
    }

    /// Returns the end of what is asked for, Unix time in nanoseconds.
    fn until(&self, since: Option<u64>, connection: &Connection) -> Option<u64> {
        self.to.map(|to| connection.moment_after(to, since.unwrap_or(0)))
    }

    fn request(&self, since: Option<u64>, connection: &Connection) -> QueryFlowsRequest {
        QueryFlowsRequest {
            include: self.filters.include.clone(),
            exclude: self.filters.exclude.clone(),
            sort_by: self.sort_by().into(),
            ascending: self.ascending,
            limit: self.limit(),
            start_time_ns: since,
            end_time_ns: self.until(since, connection),
            include_self_traffic: self.include_self,
        }
    }
}

/// A time as the clock shows it, with the date where that is another day's.
fn clock(nanos: u64, console: &Console) -> String {
    let zoned = |nanos: u64| {
        let time = Timestamp::from_nanosecond(nanos.into()).unwrap_or_default();
        time.to_zoned(console.time_zone.clone())
    };
    let (at, now) = (zoned(nanos), zoned((console.now_ns)()));
    let format = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(format).to_string()
}

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
        let request = self.request(since, connection);
        if request.end_time_ns.is_some_and(|end| since.is_some_and(|start| end < start)) {
            return Err(Status::invalid_argument("--to is before --from"));
        }
        let request = connection.request(request);
        let mut answer = connection.client.query_flows(request).await?;
        if !self.is_window() {
            // The seconds that were just waited for go without saying.
            let answer = answer.get_mut();
            (answer.window_start_ns, answer.window_end_ns) = (None, None);
        }
        Ok(answer)
    }

    fn since(&self, connection: &Connection) -> Option<u64> {
        self.since.map(|since| connection.moment(since))
    }

    /// A question divides the agent's history: what moved before is not counted.
    async fn begin(&self, connection: &mut Connection, since: u64) {
        let request = QueryFlowsRequest { limit: 1, ..self.request(Some(since), connection) };
        let request = connection.request(request);
        // The answer tells nothing, and where there is none, the next one says why.
        let _ = connection.client.query_flows(request).await;
    }

    fn notes(
        &self,
        answer: &QueryFlowsResponse,
        connection: &Connection,
        console: &Console,
    ) -> Vec<String> {
        let (Some(start), Some(end)) = (answer.window_start_ns, answer.window_end_ns) else {
            let none = "no history: these are the flows that are held now and moved then, with all that \
                        they ever moved";
            let note = || format!("{} keeps {none}", connection.name);
            return self.is_window().then(note).into_iter().collect();
        };
        let time = |nanos| clock(nanos, console);
        let mut notes = vec![format!("counts are of {} to {}", time(start), time(end))];
        let asked = self.since(connection).unwrap_or(0);
        let known = answer.history_start_ns.filter(|known| *known > asked.saturating_add(SLACK_NS));
        if let Some(known) = known {
            let remedy = match connection.is_replay() {
                true => "the recording begins there",
                false => "the agent's --history and --history-size say how far back it is kept",
            };
            notes.push(format!("nothing is known of before {}: {remedy}", time(known)));
        }
        notes
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
        if let Some(window) = WindowObject::new(answer) {
            machine.write(out, &window)?;
        }
        match Self::lost(answer) {
            Some(lost) => machine.write(out, &LostObject::new(&lost)),
            None => Ok(()),
        }
    }
}
