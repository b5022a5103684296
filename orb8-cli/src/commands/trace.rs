//! `orb8 trace`: what happens, as it happens. One file per signal has what sets it apart.

use std::io;
use std::time::Duration;

use orb8_proto::columns::{Subject, View};
use orb8_proto::v1::Lost;
use tokio::time::{sleep, timeout};
use tonic::{Response, Status, Streaming};

use self::printer::Printer;
use self::summary::{Summary, Tally};
use super::Shape;
use crate::args::{GlobalArgs, StreamArgs};
use crate::connection::{Connection, Fallback, Topic};
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::output::Machine;

mod dns;
mod gpu;
mod network;
mod printer;
mod summary;
mod tcp;

/// The stream has told everything when it pauses for this long after the engine's last drain.
const QUIET: Duration = Duration::from_millis(100);

/// On a busy machine it never pauses. Nobody waits longer than this for the prompt.
const REST: Duration = Duration::from_secs(1);

/// One signal's stream, as its flags want it.
pub(super) trait Stream {
    /// The signal's name among the agent's sources.
    const SIGNAL: &'static str;
    /// What a loss in the ring means here.
    const LOST_IN_RING: &'static str;
    const VIEW: &'static View<Self::Subject>;
    type Subject: Subject;
    type Message: 'static;
    type Tally: Tally<Self::Message>;

    fn args(&self) -> &StreamArgs;

    async fn subscribe(
        &self,
        connection: &mut Connection,
    ) -> Result<Response<Streaming<Self::Message>>, Status>;

    /// Says what a message tells.
    fn told(message: &Self::Message) -> Told<'_, Self::Subject>;

    /// Writes a message as an object; nothing for a kind that this build does not know.
    fn write(machine: Machine, out: &mut dyn io::Write, message: &Self::Message) -> io::Result<()>;
}

/// What a message tells.
pub(super) enum Told<'a, S: Subject> {
    Row(S::Row<'a>),
    Lost(&'a Lost),
    /// What this build does not know.
    Nothing,
}

pub(super) async fn run<S: Stream>(
    global: &GlobalArgs,
    args: &S,
    console: &mut Console,
) -> Result<Exit, CliError> {
    let interrupt = console.interrupt.clone();
    let answered = tokio::select! {
        biased;
        () = interrupt.cancelled() => None,
        () = too_late(global, args.args()) => return Err(nobody_in_time()),
        answered = begin(global, args, console) => Some(answered?),
    };
    let Some((mut connection, messages)) = answered else {
        console.note("interrupted before anyone answered");
        return Ok(Exit::Success);
    };
    let result = follow(&mut connection, messages, global, args, console).await;
    connection.close().await;
    let (summary, end) = result?;
    console.out.flush()?;
    console.note(&summary.text());
    end.map(|()| Exit::Success)
}

/// Finds someone who answers, and waits for the answer.
async fn begin<S: Stream>(
    global: &GlobalArgs,
    args: &S,
    console: &mut Console,
) -> Result<(Connection, Streaming<S::Message>), CliError> {
    let fallback = Fallback::Engine(&args.args().engine);
    let mut connection = Connection::open(global, fallback, console).await?;
    let messages = match check_past(&connection, args.args(), console) {
        Ok(()) => subscribe(&mut connection, args, global.timeout, console).await,
        Err(error) => Err(error),
    };
    match messages {
        Ok(messages) => Ok((connection, messages)),
        Err(error) => {
            connection.close().await;
            Err(error)
        }
    }
}

/// The request itself has no timeout: it lasts as long as the stream.
async fn subscribe<S: Stream>(
    connection: &mut Connection,
    args: &S,
    patience: Duration,
    console: &mut Console,
) -> Result<Streaming<S::Message>, CliError> {
    let answer = timeout(patience, args.subscribe(connection)).await;
    match answer {
        Ok(answer) => {
            let topic = Topic { command: S::VIEW.command, signal: S::SIGNAL };
            let (messages, missing) = connection.heard_of(topic, answer).await?;
            if let Some(missing) = missing {
                let (who, signal) = (&connection.name, S::SIGNAL);
                console.note(&format!("{who} runs not all of the {signal} signal: {missing}"));
            }
            Ok(messages)
        }
        Err(_) => Err(CliError::silent(&connection.name)),
    }
}

/// Prints until something ends it, and returns what went by and whether that end was wanted.
async fn follow<S: Stream>(
    connection: &mut Connection,
    messages: Streaming<S::Message>,
    global: &GlobalArgs,
    args: &S,
    console: &mut Console,
) -> Result<(Summary<S>, Result<(), CliError>), CliError> {
    if connection.is_standalone() {
        console.note("tracing in this process; Ctrl-C ends it");
    }
    let interrupt = console.interrupt.clone();
    let args = args.args();
    let mut trace = Trace {
        messages,
        left: args.limit.unwrap_or(u64::MAX),
        printer: Printer::<S>::new(Shape::of(global.output), args, console),
        summary: Summary::new(args.is_past() || connection.is_replay()),
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
        End::Stream if args.is_past() || connection.is_replay() => Ok(()),
        End::Stream => Err(connection.ended()),
        End::Failed(status) => Err(connection.error(&status)),
    };
    Ok((trace.summary, end))
}

fn check_past(
    connection: &Connection,
    args: &StreamArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    if args.has_past() && connection.is_standalone() {
        return Err(CliError::Usage(
            "--last and --since need an agent: an engine that starts now has no past".to_owned(),
        ));
    }
    if args.follow && !args.has_past() {
        console.note("--follow is the default without --last and --since");
    }
    Ok(())
}

/// A stream that is being printed.
struct Trace<'a, S: Stream> {
    messages: Streaming<S::Message>,
    /// Rows that may still be printed.
    left: u64,
    printer: Printer<S>,
    summary: Summary<S>,
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

impl<S: Stream> Trace<'_, S> {
    /// Prints until the stream or the limit ends it. Output is flushed when no event waits, so a
    /// burst costs few writes and a quiet stream is seen at once.
    async fn print_all(&mut self) -> Result<End, CliError> {
        while self.left > 0 {
            // A stream that never pauses must not outlive Ctrl-C and --duration.
            tokio::task::consume_budget().await;
            let ready = tokio::select! {
                biased;
                event = self.messages.message() => Some(event),
                () = std::future::ready(()) => None,
            };
            let event = match ready {
                Some(event) => event,
                None => {
                    self.console.out.flush()?;
                    self.messages.message().await
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
                event = self.messages.message() => match event {
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
                event = timeout(QUIET, self.messages.message()) => event,
            };
            let Ok(Ok(Some(event))) = event else {
                return Ok(());
            };
            self.take(&event)?;
        }
    }

    /// Counts what a message tells, and prints it unless the limit is reached.
    fn take(&mut self, message: &S::Message) -> Result<(), CliError> {
        self.summary.add(message);
        if self.left > 0 {
            self.printer.print(message, self.console)?;
            self.left -= u64::from(!matches!(S::told(message), Told::Lost(_)));
        }
        Ok(())
    }
}

/// Waits until --duration is over before anyone answered. An engine in this process may take its
/// time to start: there, the clock starts with the stream.
async fn too_late(global: &GlobalArgs, args: &StreamArgs) {
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
