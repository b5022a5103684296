//! `orb8 flows`: the flows that an agent holds, or those of the next seconds where there is none.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use orb8_proto::columns::{Row, View};
use orb8_proto::units;
use orb8_proto::v1::{Flow, Lost, LostSource, QueryFlowsRequest, QueryFlowsResponse};
use tokio::time::{Instant, sleep, sleep_until};

use super::Shape;
use crate::args::{FlowsArgs, GlobalArgs};
use crate::connection::{Connection, Fallback};
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::output::flow::{FlowObject, LostObject};
use crate::output::{Machine, report, style};
use crate::time::now_ns;

/// How long the engine counts where it has just been started.
const STANDALONE_DURATION: Duration = Duration::from_secs(3);

pub(super) async fn run(
    global: &GlobalArgs,
    args: &FlowsArgs,
    console: &mut Console,
) -> Result<Exit, CliError> {
    let mut connection = Connection::open(global, Fallback::Engine(&args.engine), console).await?;
    let result = if args.watch {
        watch(&mut connection, global, args, console).await
    } else {
        once(&mut connection, global, args, console).await
    };
    connection.close().await;
    result.map(|()| Exit::Success)
}

async fn once(
    connection: &mut Connection,
    global: &GlobalArgs,
    args: &FlowsArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let standalone = connection.is_standalone();
    let duration = args.duration.or_else(|| standalone.then_some(STANDALONE_DURATION));
    let mut since = args.since.map(|since| since.unix_ns());
    if let Some(duration) = duration {
        if standalone {
            let duration = units::duration(duration);
            console.note(&format!("counting in this process for {duration}"));
        }
        since = since.or_else(|| Some(now_ns()));
        let interrupt = console.interrupt.clone();
        tokio::select! {
            () = sleep(duration) => {}
            () = interrupt.cancelled() => {}
        }
    }
    // What was counted since the last interval belongs to the answer.
    connection.drain().await;
    let answer = query(connection, args, since).await?;
    match Shape::of(global.output) {
        Shape::Machine(machine) => print_objects(machine, &answer, console)?,
        Shape::Human { wide } => {
            let text = lines(&answer, args, wide, None, console);
            console.out.write_all(text.as_bytes())?;
            note_rest(&answer, args, console);
        }
    }
    Ok(())
}

/// Prints again and again: in place on a terminal, else one after the other.
async fn watch(
    connection: &mut Connection,
    global: &GlobalArgs,
    args: &FlowsArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let interrupt = console.interrupt.clone();
    let end = args.duration.map(|duration| Instant::now() + duration);
    let shape = Shape::of(global.output);
    let in_place = console.terminal.is_some() && matches!(shape, Shape::Human { .. });
    if in_place {
        console.out.write_all(HIDE_CURSOR_AND_CLEAR.as_bytes())?;
    }
    let mut ticks = tokio::time::interval(args.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let result = loop {
        tokio::select! {
            biased;
            () = interrupt.cancelled() => break Ok(()),
            () = reached(end) => break Ok(()),
            _ = ticks.tick() => {}
        }
        let since = args.since.map(|since| since.unix_ns());
        let printed = match query(connection, args, since).await {
            Ok(answer) => frame(&answer, args, shape, in_place, console),
            Err(error) => Err(error),
        };
        if printed.is_err() {
            break printed;
        }
    };
    if in_place {
        console.out.write_all(SHOW_CURSOR.as_bytes())?;
        console.out.flush()?;
    }
    result
}

const HIDE_CURSOR_AND_CLEAR: &str = "\x1b[?25l\x1b[2J";
const SHOW_CURSOR: &str = "\x1b[?25h";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

fn frame(
    answer: &QueryFlowsResponse,
    args: &FlowsArgs,
    shape: Shape,
    in_place: bool,
    console: &mut Console,
) -> Result<(), CliError> {
    match shape {
        Shape::Machine(machine) => print_objects(machine, answer, console)?,
        Shape::Human { wide } if !in_place => {
            let text = lines(answer, args, wide, None, console);
            writeln!(console.out, "{text}")?;
        }
        Shape::Human { wide } => {
            console.measure();
            // The last line stays empty, so that nothing scrolls.
            let rows =
                console.terminal.map(|terminal| usize::from(terminal.height).saturating_sub(1));
            let title = title(answer, args, console);
            let text = lines(answer, args, wide, rows.map(|rows| rows.saturating_sub(1)), console);
            let mut screen = String::from(HOME);
            for line in std::iter::once(title.as_str()).chain(text.lines()) {
                // Writing to a String cannot fail.
                let _ = write!(screen, "{line}{CLEAR_LINE}\r\n");
            }
            screen.push_str(CLEAR_BELOW);
            console.out.write_all(screen.as_bytes())?;
        }
    }
    console.out.flush()?;
    Ok(())
}

async fn query(
    connection: &mut Connection,
    args: &FlowsArgs,
    since: Option<u64>,
) -> Result<QueryFlowsResponse, CliError> {
    let request = connection.request(QueryFlowsRequest {
        include: args.filters.include.clone(),
        exclude: args.filters.exclude.clone(),
        sort_by: args.sort_by().into(),
        ascending: args.ascending,
        limit: args.limit(),
        start_time_ns: since,
        end_time_ns: None,
        include_self_traffic: args.show.include_self,
    });
    let answer = connection.client.query_flows(request).await;
    connection.heard(answer)
}

fn print_objects(
    machine: Machine,
    answer: &QueryFlowsResponse,
    console: &mut Console,
) -> Result<(), CliError> {
    for flow in &answer.flows {
        machine.write(&mut console.out, &FlowObject::new(flow))?;
    }
    let accounting = answer.accounting.unwrap_or_default();
    if let Some(lost) = LostObject::of_accounting(&accounting) {
        machine.write(&mut console.out, &lost)?;
    }
    Ok(())
}

/// Renders the table, and the loss where there is any, in at most so many lines.
fn lines(
    answer: &QueryFlowsResponse,
    args: &FlowsArgs,
    wide: bool,
    rows: Option<usize>,
    console: &Console,
) -> String {
    let view = if wide { View::FlowsWide } else { View::Flows };
    let mut table = super::table(view, &args.show, console);
    let lost = lost_line(answer, console.colors);
    let around = 1 + usize::from(lost.is_some());
    let shown = rows.map_or(usize::MAX, |rows| rows.saturating_sub(around));
    let flows: &[Flow] = &answer.flows[..answer.flows.len().min(shown)];
    let cells: Vec<_> = flows.iter().map(|flow| table.cells(&Row { flow, event: None })).collect();
    for row in &cells {
        table.admit(row);
    }
    let mut text = table.header();
    text.push('\n');
    for row in &cells {
        text.push_str(&table.line(row));
        text.push('\n');
    }
    if let Some(lost) = lost {
        text.push_str(&lost);
        text.push('\n');
    }
    text
}

/// Says what is seen: when, how much of it, and in which order.
fn title(answer: &QueryFlowsResponse, args: &FlowsArgs, console: &Console) -> String {
    let now = Timestamp::now().to_zoned(console.time_zone.clone());
    let sum = |of: fn(&Flow) -> u64| answer.flows.iter().map(of).fold(0, u64::saturating_add);
    let order = args.sort_by().word().unwrap_or_default();
    let (got, all) = (answer.flows.len() as u64, answer.total_matched);
    let flows = match (got, all) {
        (_, 1) => "1 flow".to_owned(),
        (got, all) if got < all => format!("{} of {} flows", units::count(got), units::count(all)),
        (_, all) => format!("{} flows", units::count(all)),
    };
    let rate = units::byte_rate(sum(|flow| flow.bytes_per_second));
    let text = format!("{}  {flows} by {order}, {rate}; Ctrl-C ends", now.strftime("%H:%M:%S"));
    let width = console.terminal.map_or(usize::MAX, |terminal| terminal.width.into());
    let text: String = text.chars().take(width).collect();
    style::paint(&text, style::QUIET, console.colors)
}

fn lost_line(answer: &QueryFlowsResponse, colors: bool) -> Option<String> {
    let accounting = answer.accounting.filter(|accounting| accounting.lost_packets > 0)?;
    let lost = Lost {
        source: LostSource::Kernel.into(),
        events: 0,
        packets: accounting.lost_packets,
        bytes: accounting.lost_bytes,
    };
    Some(report::lost(&lost, colors))
}

fn note_rest(answer: &QueryFlowsResponse, args: &FlowsArgs, console: &mut Console) {
    let shown = u64::try_from(answer.flows.len()).unwrap_or(u64::MAX);
    if shown == 0 {
        console.note("no flows match");
    } else if answer.total_matched > shown {
        let (shown, all) = (units::count(shown), units::count(answer.total_matched));
        // --last is a limit itself, and excludes --limit.
        let more = if args.last.is_some() { "" } else { "; --limit shows more" };
        console.note(&format!("{shown} of {all} flows{more}"));
    }
}

/// Waits for the time, forever where there is none.
async fn reached(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
