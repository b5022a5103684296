//! `orb8 record`: everything that an agent tells, into a file.
//!
//! ```text
//! streams of signals ──▶ events ──────────┐
//! queries, every 10 s ──▶ snapshots ──────┴▶ Writer ──▶ file
//! ```

use std::future::Future;
use std::time::Duration;

use orb8_proto::v1::{RecordingEnd, RecordingHeader};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tonic::Status;

use crate::args::{GlobalArgs, RecordArgs, RecordSignal};
use crate::connection::{Connection, Fallback, Topic};
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::recording::Kind;
use crate::time::now_ns;
use destination::Destination;
use progress::Progress;
use selection::Selection;
use snapshot::Snapshot;
use streams::{Item, Streams};

mod destination;
mod progress;
mod selection;
mod snapshot;
mod streams;

/// What is lost at most when this process is killed.
const FLUSH: Duration = Duration::from_secs(2);

/// The streams have told everything when they pause for this long after the last snapshot.
const QUIET: Duration = Duration::from_millis(100);

/// On a busy machine they never pause. Nobody waits longer than this for the prompt.
const REST: Duration = Duration::from_secs(1);

pub(super) async fn run(
    global: &GlobalArgs,
    args: RecordArgs,
    console: &mut Console,
) -> Result<Exit, CliError> {
    if global.replay.is_some() {
        return Err(CliError::Usage(
            "record needs an agent or an engine: a recording is a file already, copy it".to_owned(),
        ));
    }
    // Before anything is started that would be for nothing.
    Destination::check(&args, console)?;
    let interrupt = console.interrupt.clone();
    let opened = tokio::select! {
        biased;
        () = interrupt.cancelled() => None,
        opened = Connection::open(global, Fallback::Engine(&args.engine), console) => Some(opened?),
    };
    let Some(mut connection) = opened else {
        console.note("interrupted before anyone answered: nothing was recorded");
        return Ok(Exit::Success);
    };
    let result = record(&mut connection, &args, console).await;
    connection.close().await;
    result.map(|()| Exit::Success)
}

async fn record(
    connection: &mut Connection,
    args: &RecordArgs,
    console: &mut Console,
) -> Result<(), CliError> {
    let status = connection.status().await?;
    let signals = choose(connection, args, &status, console)?;
    let selection = Selection::new(&args.filters, &signals);
    let streams = Streams::subscribe(connection, &selection).await?;
    let header = RecordingHeader {
        node_name: status.node_name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        agent_version: status.version,
        started_ns: now_ns(),
        signals: signals.iter().map(|signal| signal.name().to_owned()).collect(),
        snapshot_interval_ns: nanos(args.snapshot_interval),
        filtered: selection.is_filtered(),
    };
    let destination = Destination::open(args, &header, console)?;
    let mut recorder = Recorder {
        streams,
        selection,
        destination,
        progress: Progress::new(console),
        taking: None,
        failed: None,
    };
    let why = recorder.run(connection, args, console).await;
    recorder.finish(connection, why, console).await
}

/// Returns the signals that are recorded: those that were named, or those that run.
fn choose(
    connection: &Connection,
    args: &RecordArgs,
    status: &orb8_proto::v1::GetStatusResponse,
    console: &mut Console,
) -> Result<Vec<RecordSignal>, CliError> {
    let named = &args.signals.named;
    let mut chosen = Vec::new();
    for signal in RecordSignal::ALL {
        let is_named = named.contains(&signal);
        if !named.is_empty() && !is_named {
            continue;
        }
        match connection.absence(signal.name(), status) {
            None => chosen.push(signal),
            Some(reason) if is_named => {
                let topic = Topic { command: "record", signal: signal.name() };
                return Err(CliError::not_running(topic, &connection.name, &reason));
            }
            Some(reason) => {
                console.note(&format!("{} is not recorded: {reason}", signal.name()));
            }
        }
    }
    if chosen.is_empty() {
        let topic = Topic { command: "record", signal: "flow, dns, tcp or gpu" };
        return Err(CliError::not_running(topic, &connection.name, "nothing runs"));
    }
    Ok(chosen)
}

/// What is being recorded, and where to.
struct Recorder {
    streams: Streams,
    selection: Selection,
    destination: Destination,
    progress: Progress,
    /// The snapshot that is on its way.
    taking: Option<JoinHandle<Snapshot>>,
    /// Queries whose failure was told.
    failed: Option<String>,
}

/// Why a recording ends.
enum Why {
    /// Ctrl-C, --duration.
    Wanted,
    /// --max-size.
    Full,
    /// The agent ended a stream, or went away.
    Stream(&'static str, Option<Status>),
    /// What was recorded cannot be written.
    Write(CliError),
}

impl Recorder {
    /// Records until something ends it.
    async fn run(
        &mut self,
        connection: &Connection,
        args: &RecordArgs,
        console: &mut Console,
    ) -> Why {
        let interrupt = console.interrupt.clone();
        let mut snapshots = interval_at(Instant::now(), args.snapshot_interval);
        snapshots.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flushes = interval_at(Instant::now() + FLUSH, FLUSH);
        let mut reports = interval_at(Instant::now() + Progress::PERIOD, Progress::PERIOD);
        let end = elapsed(args.duration);
        tokio::pin!(end);
        loop {
            // A stream that never pauses must not outlive Ctrl-C and --duration.
            tokio::task::consume_budget().await;
            let done = tokio::select! {
                biased;
                () = interrupt.cancelled() => return Why::Wanted,
                () = &mut end => return Why::Wanted,
                snapshot = taken(&mut self.taking) => self.write_snapshot(snapshot, console),
                _ = snapshots.tick(), if self.taking.is_none() => {
                    self.take_snapshot(connection);
                    Ok(())
                }
                _ = flushes.tick() => self.destination.flush(),
                _ = reports.tick() => self.progress.report(&self.destination, console),
                item = self.streams.next() => match item {
                    Item::Event(kind, event) => self.write_event(kind, &event),
                    Item::End(signal, status) => return Why::Stream(signal, status),
                },
            };
            if let Err(error) = done {
                return Why::Write(error);
            }
            if args.max_size.is_some_and(|most| self.destination.is_near(most)) {
                return Why::Full;
            }
        }
    }

    /// Takes the last snapshot and what happened until then, and says how it went.
    async fn finish(
        mut self,
        connection: &mut Connection,
        why: Why,
        console: &mut Console,
    ) -> Result<(), CliError> {
        let mut reason = String::new();
        let mut result = Ok(());
        match why {
            Why::Wanted => {
                if let Err(error) = self.record_rest(connection, console).await {
                    return Err(self.destination.give_up(error));
                }
            }
            Why::Full => {
                "--max-size was reached".clone_into(&mut reason);
                console.note("--max-size is reached");
            }
            Why::Stream(signal, status) => {
                reason = format!("the stream of {signal} ended");
                result = Err(match &status {
                    Some(status) => connection.error(status),
                    None => connection.ended(),
                });
            }
            Why::Write(error) => return Err(self.destination.give_up(error)),
        }
        if let Some(taking) = &self.taking {
            taking.abort();
        }
        let (events, snapshots) = self.progress.counts();
        let end = RecordingEnd { events, snapshots, reason };
        let ended = self.destination.end(now_ns(), &end);
        self.progress.end(&self.destination, console)?;
        match ended {
            Ok(()) => result,
            Err(error) => Err(self.destination.give_up(error)),
        }
    }

    /// Takes what the engine has counted since its last interval, the last snapshot, and the events
    /// until then.
    async fn record_rest(
        &mut self,
        connection: &Connection,
        console: &mut Console,
    ) -> Result<(), CliError> {
        let drain = connection.drain();
        let drained = self.read_until(drain).await?;
        if let Some(pending) = self.taking.take() {
            pending.abort();
        }
        if !drained {
            return Ok(());
        }
        let last = snapshot::take(connection, &self.selection);
        let mut snapshot = None;
        self.read_until(async { snapshot = Some(last.await) }).await?;
        if let Some(snapshot) = snapshot {
            self.write_snapshot(snapshot, console)?;
        }
        let rest = sleep(REST);
        tokio::pin!(rest);
        loop {
            let item = tokio::select! {
                () = &mut rest => return Ok(()),
                item = timeout(QUIET, self.streams.next()) => item,
            };
            let Ok(Item::Event(kind, event)) = item else { return Ok(()) };
            self.write_event(kind, &event)?;
        }
    }

    /// Records events until something is done: what a subscriber does not read in time is lost. Returns
    /// whether the streams go on.
    async fn read_until(&mut self, done: impl Future<Output = ()>) -> Result<bool, CliError> {
        tokio::pin!(done);
        loop {
            tokio::select! {
                () = &mut done => return Ok(true),
                item = self.streams.next() => match item {
                    Item::Event(kind, event) => self.write_event(kind, &event)?,
                    Item::End(..) => {
                        done.await;
                        return Ok(false);
                    }
                },
            }
        }
    }

    fn take_snapshot(&mut self, connection: &Connection) {
        self.taking = Some(tokio::spawn(snapshot::take(connection, &self.selection)));
    }

    fn write_event(&mut self, kind: Kind, event: &[u8]) -> Result<(), CliError> {
        self.progress.add_event();
        self.destination.add(kind, now_ns(), event)
    }

    fn write_snapshot(
        &mut self,
        snapshot: Snapshot,
        console: &mut Console,
    ) -> Result<(), CliError> {
        if let Some(problem) = snapshot.problem().filter(|_| self.failed.is_none()) {
            console.note(&format!("a snapshot is incomplete: {problem}"));
            self.failed = Some(problem);
        }
        self.progress.add_snapshot();
        snapshot.write(&mut self.destination)
    }
}

/// Waits for a snapshot, forever where none is on its way.
async fn taken(taking: &mut Option<JoinHandle<Snapshot>>) -> Snapshot {
    let Some(handle) = taking else { return std::future::pending().await };
    let snapshot = handle.await;
    *taking = None;
    snapshot.unwrap_or_else(|error| Snapshot::failed(&error.to_string()))
}

async fn elapsed(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
