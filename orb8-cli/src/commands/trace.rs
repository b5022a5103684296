//! `orb8 trace network`: flows as they begin, move and end.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::{Duration, Instant};

use orb8_proto::columns::{Row, View};
use orb8_proto::filter::End;
use orb8_proto::units;
use orb8_proto::v1::{EventKind, Flow, Hook, StreamEventsRequest, StreamEventsResponse};
use tokio::time::sleep;
use tonic::Streaming;

use super::Shape;
use crate::args::{GlobalArgs, TraceArgs};
use crate::connection::{Connection, Fallback};
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::output::flow::write_event;
use crate::output::report;
use crate::output::table::{Change, Table};

pub(super) async fn run(
    global: &GlobalArgs,
    args: &TraceArgs,
    console: &mut Console,
) -> Result<Exit, CliError> {
    let mut connection = Connection::open(global, Fallback::Engine(&args.engine), console).await?;
    let result = follow(&mut connection, global, args, console).await;
    connection.close().await;
    let summary = result?;
    console.out.flush()?;
    console.note(&summary.text());
    Ok(Exit::Success)
}

async fn follow(
    connection: &mut Connection,
    global: &GlobalArgs,
    args: &TraceArgs,
    console: &mut Console,
) -> Result<Summary, CliError> {
    let request = request(connection, args, console)?;
    let is_past = request.no_follow;
    let answer = connection.client.stream_events(request).await;
    let events = answer.map_err(|status| connection.error(&status))?.into_inner();
    if connection.is_standalone() {
        console.note("tracing in this process; Ctrl-C ends it");
    }
    let mut printer = Printer::new(Shape::of(global.output), args, console);
    let mut summary = Summary::new(is_past);
    let interrupt = console.interrupt.clone();
    let end = async {
        tokio::select! {
            () = interrupt.cancelled() => {}
            () = elapsed(args.duration) => {}
        }
    };
    let print = print_all(events, args.limit, &mut printer, &mut summary, console);
    tokio::select! {
        biased;
        () = end => {}
        result = print => result?.map_err(|status| connection.error(&status))?,
    }
    Ok(summary)
}

fn request(
    connection: &Connection,
    args: &TraceArgs,
    console: &mut Console,
) -> Result<StreamEventsRequest, CliError> {
    let past = args.last.is_some() || args.since.is_some();
    if past && connection.is_standalone() {
        return Err(CliError::Usage(
            "--last and --since need an agent: an engine that starts now has no past".to_owned(),
        ));
    }
    if args.follow && !past {
        console.note("--follow is the default without --last and --since");
    }
    Ok(StreamEventsRequest {
        include: args.filters.include.clone(),
        exclude: args.filters.exclude.clone(),
        include_self_traffic: args.show.include_self,
        kinds: args.kinds(),
        last: args.last.unwrap_or(0),
        no_follow: past && !args.follow,
        since_time_ns: args.since.map(|since| since.unix_ns()),
    })
}

/// Prints until the stream or the limit ends it. Output is flushed when no event waits, so a burst
/// costs few writes and a quiet stream is seen at once.
async fn print_all(
    mut events: Streaming<StreamEventsResponse>,
    limit: Option<u64>,
    printer: &mut Printer,
    summary: &mut Summary,
    console: &mut Console,
) -> Result<Result<(), tonic::Status>, CliError> {
    let mut left = limit.unwrap_or(u64::MAX);
    while left > 0 {
        // A stream that never pauses must not outlive Ctrl-C and --duration.
        tokio::task::consume_budget().await;
        let ready = tokio::select! {
            biased;
            event = events.message() => Some(event),
            () = std::future::ready(()) => None,
        };
        let event = match ready {
            Some(event) => event,
            None => {
                console.out.flush()?;
                events.message().await
            }
        };
        let event = match event {
            Ok(Some(event)) => event,
            Ok(None) => break,
            Err(status) => return Ok(Err(status)),
        };
        summary.add(&event);
        printer.print(&event, console)?;
        if event.kind() != EventKind::Lost {
            left -= 1;
        }
    }
    Ok(Ok(()))
}

/// Prints events one by one.
enum Printer {
    Human(Box<HumanPrinter>),
    Machine(crate::output::Machine),
}

struct HumanPrinter {
    table: Table,
    /// Rows since the header, `None` before the first one.
    since_header: Option<u16>,
}

impl Printer {
    fn new(shape: Shape, args: &TraceArgs, console: &Console) -> Self {
        match shape {
            Shape::Machine(machine) => Self::Machine(machine),
            Shape::Human { wide } => {
                let view = if wide { View::EventsWide } else { View::Events };
                let table = super::table(view, &args.show, console);
                Self::Human(Box::new(HumanPrinter { table, since_header: None }))
            }
        }
    }

    fn print(
        &mut self,
        event: &StreamEventsResponse,
        console: &mut Console,
    ) -> Result<(), CliError> {
        match self {
            Self::Machine(machine) => {
                write_event(*machine, &mut console.out, event)?;
            }
            Self::Human(printer) => printer.print(event, console)?,
        }
        Ok(())
    }
}

impl HumanPrinter {
    fn print(
        &mut self,
        event: &StreamEventsResponse,
        console: &mut Console,
    ) -> Result<(), CliError> {
        if let Some(lost) = &event.lost {
            writeln!(console.out, "{}", report::lost(lost, console.colors))?;
        }
        let Some(flow) = &event.flow else {
            return Ok(());
        };
        let cells = self.table.cells(&Row { flow, event: Some(event) });
        let change = self.table.admit(&cells);
        if self.wants_header(change, console) {
            writeln!(console.out, "{}", self.table.header())?;
            self.since_header = Some(0);
        }
        writeln!(console.out, "{}", self.table.line(&cells))?;
        self.since_header = self.since_header.map(|rows| rows.saturating_add(1));
        Ok(())
    }

    /// A person sees it at the top, whenever columns move, and before it scrolls away; a file has it
    /// once.
    fn wants_header(&self, change: Change, console: &Console) -> bool {
        match (self.since_header, console.terminal) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(rows), Some(terminal)) => {
                change == Change::Layout || rows >= terminal.height.saturating_sub(2).max(10)
            }
        }
    }
}

/// What went by.
struct Summary {
    /// `None` where nothing was waited for: the past is read in no time.
    began: Option<Instant>,
    hasher: RandomState,
    flows: HashSet<u64>,
    bytes: u64,
    lost_events: u64,
    lost_packets: u64,
}

/// Flows that the summary tells apart; 16 MiB when full.
const MAX_FLOWS: usize = 1 << 20;

impl Summary {
    fn new(is_past: bool) -> Self {
        Self {
            began: (!is_past).then(Instant::now),
            hasher: RandomState::new(),
            flows: HashSet::new(),
            bytes: 0,
            lost_events: 0,
            lost_packets: 0,
        }
    }

    fn add(&mut self, event: &StreamEventsResponse) {
        self.bytes = self.bytes.saturating_add(event.delta_bytes);
        if let Some(lost) = &event.lost {
            self.lost_events = self.lost_events.saturating_add(lost.events);
            self.lost_packets = self.lost_packets.saturating_add(lost.packets);
        }
        if let Some(flow) = &event.flow
            && self.flows.len() < MAX_FLOWS
        {
            self.flows.insert(self.hasher.hash_one(identity(flow)));
        }
    }

    fn text(&self) -> String {
        let more = if self.flows.len() == MAX_FLOWS { "+" } else { "" };
        let flows = u64::try_from(self.flows.len()).unwrap_or(u64::MAX);
        let lost = match (self.lost_events, self.lost_packets) {
            (0, 0) => "nothing lost".to_owned(),
            (events, 0) => format!("{} events lost", units::count(events)),
            (0, packets) => format!("{} packets lost", units::count(packets)),
            (events, packets) => {
                format!(
                    "{} events and {} packets lost",
                    units::count(events),
                    units::count(packets)
                )
            }
        };
        let took = self.began.map(|began| format!(" in {}", units::duration(began.elapsed())));
        format!(
            "{}{more} {}, {}, {lost}{}",
            units::count(flows),
            if flows == 1 { "flow" } else { "flows" },
            units::bytes(self.bytes),
            took.unwrap_or_default()
        )
    }
}

/// Returns what makes a flow the same flow in another event: what the agent tells flows apart by.
fn identity(flow: &Flow) -> impl Hash {
    let end = |end| flow.endpoint(end).map(|end| (end.ip.as_slice(), end.port));
    let icmp = flow.icmp.map(|icmp| (icmp.r#type, icmp.code));
    let interface = flow.interface.as_ref().map_or(0, |interface| interface.index);
    // A socket's packets may change their interface, an interface's their owner.
    let place = match flow.hook() {
        Hook::Interface => (u64::from(interface), flow.vlan, flow.inner_vlan),
        Hook::Socket | Hook::Unspecified => (flow.cgroup_id, None, None),
    };
    (
        (flow.node_name.as_str(), flow.hook, place),
        End::BOTH.map(end),
        (flow.ip_protocol, icmp, flow.fragment),
        flow.direction,
    )
}

async fn elapsed(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use orb8_proto::v1::{Endpoint, IcmpType, Interface};

    use super::*;

    fn flow() -> Flow {
        let end = |last: u8| Endpoint { ip: vec![10, 0, 0, last], ..Endpoint::default() };
        Flow {
            source: Some(end(1)),
            destination: Some(end(2)),
            ip_protocol: 1,
            icmp: Some(IcmpType { r#type: 8, code: 0 }),
            hook: Hook::Socket.into(),
            cgroup_id: 5,
            interface: Some(Interface { index: 2, name: String::new() }),
            ..Flow::default()
        }
    }

    fn count(flows: &[Flow]) -> usize {
        let mut summary = Summary::new(false);
        for flow in flows {
            summary.add(&StreamEventsResponse {
                flow: Some(flow.clone()),
                ..StreamEventsResponse::default()
            });
        }
        summary.flows.len()
    }

    #[test]
    fn the_summary_tells_flows_apart_as_the_agent_does() {
        let icmp = |r#type, code| Flow { icmp: Some(IcmpType { r#type, code }), ..flow() };
        assert_eq!(count(&[flow(), icmp(0, 0), icmp(8, 1), icmp(8, 0)]), 3);
        let more = Flow { bytes: 7, ..flow() };
        let fragment = Flow { fragment: true, ..flow() };
        let elsewhere = Flow { node_name: "b".into(), ..flow() };
        assert_eq!(count(&[flow(), more, fragment, elsewhere]), 3);
        let moved = |hook: Hook, index, cgroup_id| Flow {
            hook: hook.into(),
            interface: Some(Interface { index, name: String::new() }),
            cgroup_id,
            ..flow()
        };
        assert_eq!(count(&[moved(Hook::Socket, 2, 5), moved(Hook::Socket, 3, 5)]), 1);
        assert_eq!(count(&[moved(Hook::Socket, 2, 5), moved(Hook::Socket, 2, 6)]), 2);
        assert_eq!(count(&[moved(Hook::Interface, 2, 0), moved(Hook::Interface, 2, 5)]), 1);
        assert_eq!(count(&[moved(Hook::Interface, 2, 0), moved(Hook::Interface, 3, 0)]), 2);
    }
}
