//! `orb8 trace network`: flows as they begin, move and end.

use std::time::Duration;

use orb8_proto::v1::{EventKind, StreamEventsRequest, StreamEventsResponse};
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};

use self::printer::Printer;
use self::summary::Summary;
use super::Shape;
use crate::args::{GlobalArgs, TraceArgs};
use crate::connection::{Connection, Fallback};
use crate::console::Console;
use crate::error::{CliError, Exit};

mod printer;
mod summary;

/// The stream has told everything when it pauses for this long after the engine's last drain.
const QUIET: Duration = Duration::from_millis(100);

/// On a busy machine it never pauses. Nobody waits longer than this for the prompt.
const REST: Duration = Duration::from_secs(1);

type Events = Streaming<StreamEventsResponse>;

pub(super) async fn run(
    global: &GlobalArgs,
    args: &TraceArgs,
    console: &mut Console,
) -> Result<Exit, CliError> {
    let interrupt = console.interrupt.clone();
    let answered = tokio::select! {
        biased;
        () = interrupt.cancelled() => None,
        () = too_late(global, args) => return Err(nobody_in_time()),
        answered = begin(global, args, console) => Some(answered?),
    };
    let Some((mut connection, events)) = answered else {
        console.note("interrupted before anyone answered");
        return Ok(Exit::Success);
    };
    let result = follow(&mut connection, events, global, args, console).await;
    connection.close().await;
    let (summary, end) = result?;
    console.out.flush()?;
    console.note(&summary.text());
    end.map(|()| Exit::Success)
}

/// Finds someone who answers, and waits for the answer.
async fn begin(
    global: &GlobalArgs,
    args: &TraceArgs,
    console: &mut Console,
) -> Result<(Connection, Events), CliError> {
    let mut connection = Connection::open(global, Fallback::Engine(&args.engine), console).await?;
    let events = match request(&connection, args, console) {
        Ok(request) => subscribe(&mut connection, request, global.timeout).await,
        Err(error) => Err(error),
    };
    match events {
        Ok(events) => Ok((connection, events)),
        Err(error) => {
            connection.close().await;
            Err(error)
        }
    }
}

/// The request itself has no timeout: it lasts as long as the stream.
async fn subscribe(
    connection: &mut Connection,
    request: StreamEventsRequest,
    patience: Duration,
) -> Result<Events, CliError> {
    let answer = timeout(patience, connection.client.stream_events(request)).await;
    match answer {
        Ok(answer) => connection.heard(answer),
        Err(_) => Err(CliError::silent(&connection.name)),
    }
}

/// Prints until something ends it, and returns what went by and whether that end was wanted.
async fn follow(
    connection: &mut Connection,
    events: Events,
    global: &GlobalArgs,
    args: &TraceArgs,
    console: &mut Console,
) -> Result<(Summary, Result<(), CliError>), CliError> {
    if connection.is_standalone() {
        console.note("tracing in this process; Ctrl-C ends it");
    }
    let interrupt = console.interrupt.clone();
    let mut trace = Trace {
        events,
        left: args.limit.unwrap_or(u64::MAX),
        printer: Printer::new(Shape::of(global.output), args, console),
        summary: Summary::new(args.is_past()),
        console,
    };
    let end = tokio::select! {
        biased;
        () = interrupt.cancelled() => End::Wanted,
        () = elapsed(args.duration) => End::Wanted,
        end = trace.print_all() => end?,
    };
    let end = match end {
        End::Wanted => {
            if connection.is_standalone() {
                trace.print_rest(connection).await?;
            }
            Ok(())
        }
        End::Stream if args.is_past() => Ok(()),
        End::Stream => Err(connection.ended()),
        End::Failed(status) => Err(connection.error(&status)),
    };
    Ok((trace.summary, end))
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
        no_follow: args.is_past(),
        since_time_ns: args.since.map(|since| since.unix_ns()),
    })
}

/// A stream that is being printed.
struct Trace<'a> {
    events: Events,
    /// Rows that may still be printed.
    left: u64,
    printer: Printer,
    summary: Summary,
    console: &'a mut Console,
}

/// What ended a stream.
enum End {
    /// Who reads it: a flag or a signal.
    Wanted,
    /// Who sends it.
    Stream,
    /// The connection, or what went wrong at the other end.
    Failed(Status),
}

impl Trace<'_> {
    /// Prints until the stream or the limit ends it. Output is flushed when no event waits, so a
    /// burst costs few writes and a quiet stream is seen at once.
    async fn print_all(&mut self) -> Result<End, CliError> {
        while self.left > 0 {
            // A stream that never pauses must not outlive Ctrl-C and --duration.
            tokio::task::consume_budget().await;
            let ready = tokio::select! {
                biased;
                event = self.events.message() => Some(event),
                () = std::future::ready(()) => None,
            };
            let event = match ready {
                Some(event) => event,
                None => {
                    self.console.out.flush()?;
                    self.events.message().await
                }
            };
            match event {
                Ok(Some(event)) => self.take(&event)?,
                Ok(None) => return Ok(End::Stream),
                Err(status) => return Ok(End::Failed(status)),
            }
        }
        Ok(End::Wanted)
    }

    /// Takes what the engine has counted since its last interval, which would end with it.
    async fn print_rest(&mut self, connection: &Connection) -> Result<(), CliError> {
        let drain = connection.drain();
        tokio::pin!(drain);
        loop {
            // Read while it drains: what a subscriber does not read in time is lost.
            tokio::select! {
                () = &mut drain => break,
                event = self.events.message() => match event {
                    Ok(Some(event)) => self.take(&event)?,
                    Ok(None) | Err(_) => return Ok(()),
                },
            }
        }
        let rest = sleep(REST);
        tokio::pin!(rest);
        loop {
            let event = tokio::select! {
                () = &mut rest => return Ok(()),
                event = timeout(QUIET, self.events.message()) => event,
            };
            let Ok(Ok(Some(event))) = event else {
                return Ok(());
            };
            self.take(&event)?;
        }
    }

    /// Counts an event, and prints it unless the limit is reached.
    fn take(&mut self, event: &StreamEventsResponse) -> Result<(), CliError> {
        self.summary.add(event);
        if self.left > 0 {
            self.printer.print(event, self.console)?;
            self.left -= u64::from(event.kind() != EventKind::Lost);
        }
        Ok(())
    }
}

/// Waits until --duration is over before anyone answered. An engine in this process may take its
/// time to start: there, the clock starts with the stream.
async fn too_late(global: &GlobalArgs, args: &TraceArgs) {
    let asks = global.agent.is_some() && !global.standalone;
    elapsed(args.duration.filter(|_| asks)).await;
}

fn nobody_in_time() -> CliError {
    CliError::Unavailable {
        problem: "nobody answered within --duration".to_owned(),
        remedy: "give it longer; if something else listens there, correct --agent".to_owned(),
    }
}

async fn elapsed(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}
