//! `orb8 flows`, `orb8 workloads`, `orb8 dns top`, `orb8 tcp top`, `orb8 pods`, `orb8 gpu`: what an agent holds, or what there is after the next
//! seconds where there is no agent. One file per list has what sets it apart.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use orb8_proto::columns::{Subject, View};
use orb8_proto::units;
use orb8_proto::v1::Lost;
use tokio::time::sleep;
use tonic::{Response, Status};

use super::{Shape, counted};
use crate::args::{GlobalArgs, ListArgs};
use crate::connection::{Connection, Fallback, Topic};
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::output::{Machine, report, style};
use crate::time::now_ns;

mod dns;
mod flows;
pub(crate) mod gpu;
mod pods;
mod tcp;
mod watch;
mod workloads;

/// How long the engine counts where it has just been started.
const STANDALONE_DURATION: Duration = Duration::from_secs(3);

/// One list, as its flags want it.
pub(crate) trait List {
    /// The signal's name among the agent's sources; `None` where it is of no signal.
    const SIGNAL: Option<&'static str>;
    /// What an engine does meanwhile that has just been started.
    const MEANWHILE: &'static str = "counting";
    /// What a loss in the ring means here, where one can be missing in a count.
    const LOST_IN_RING: &'static str = "";
    const VIEW: &'static View<Self::Subject>;
    /// What a row is, and what several are.
    const NOUN: [&'static str; 2];
    type Subject: Subject;
    type Answer;

    fn args(&self) -> &ListArgs;

    /// Returns what comes first, as it is typed.
    fn order(&self) -> &str;

    /// Whether ports and addresses are printed without names.
    fn is_numeric(&self) -> bool {
        true
    }

    /// Whether --limit shows more.
    fn is_limited(&self) -> bool {
        true
    }

    /// Asks for the rows; where `since` is given, and the rows have a time, for those after it.
    async fn query(
        &self,
        connection: &mut Connection,
        since: Option<u64>,
    ) -> Result<Response<Self::Answer>, Status>;

    /// Returns the beginning of what is asked for, Unix time in nanoseconds.
    fn since(&self, _: &Connection) -> Option<u64> {
        None
    }

    /// Begins to count for --duration.
    async fn begin(&self, _: &mut Connection, _since: u64) {}

    /// Says what the counts are of, where that is not everything.
    fn notes(&self, _: &Self::Answer, _: &Connection, _: &Console) -> Vec<String> {
        Vec::new()
    }

    fn rows(answer: &Self::Answer) -> Vec<<Self::Subject as Subject>::Row<'_>>;

    fn total_matched(answer: &Self::Answer) -> u64;

    /// Returns what is missing in the answer, if anything. Where rows are not counted, nothing can be.
    fn lost(_: &Self::Answer) -> Option<Lost> {
        None
    }

    /// Says how much all of it is, in a few words.
    fn gist(answer: &Self::Answer) -> String;

    /// Says what the rows do not: everything since the agent started.
    fn totals(_: &Self::Answer) -> Option<String> {
        None
    }

    /// Renders what stands below the table.
    fn below(&self, _: &Self::Answer, _wide: bool, _: &Console) -> Vec<String> {
        Vec::new()
    }

    /// Says how the command ends.
    fn exit(&self, _: &Self::Answer) -> Exit {
        Exit::Success
    }

    /// Says what else the reader of so many rows has to know.
    async fn caveat(_: &mut Connection, _shown: u64) -> Option<String> {
        None
    }

    /// Writes rows and what belongs to them as objects.
    fn write(machine: Machine, out: &mut dyn io::Write, answer: &Self::Answer) -> io::Result<()>;
}

pub(super) async fn run<L: List>(
    global: &GlobalArgs,
    list: &L,
    console: &mut Console,
) -> Result<Exit, CliError> {
    let fallback = Fallback::Engine(&list.args().engine);
    let mut connection = Connection::open(global, fallback, console).await?;
    let result = if list.args().watch {
        watch::run(&mut connection, global, list, console).await.map(|()| Exit::Success)
    } else {
        once(&mut connection, global, list, console).await
    };
    connection.close().await;
    result
}

async fn once<L: List>(
    connection: &mut Connection,
    global: &GlobalArgs,
    list: &L,
    console: &mut Console,
) -> Result<Exit, CliError> {
    let standalone = connection.is_standalone();
    let duration = list.args().duration.or_else(|| standalone.then_some(STANDALONE_DURATION));
    let mut since = list.since(connection);
    // Of a recording, time has passed already.
    if let Some(duration) = duration.filter(|_| !connection.is_replay()) {
        if standalone {
            let duration = units::duration(duration);
            console.note(&format!("{} in this process for {duration}", L::MEANWHILE));
        }
        let now = now_ns();
        list.begin(connection, now).await;
        since = since.or(Some(now));
        let interrupt = console.interrupt.clone();
        tokio::select! {
            () = sleep(duration) => {}
            () = interrupt.cancelled() => {}
        }
    }
    // What was counted since the last interval belongs to the answer.
    connection.drain().await;
    let answer = query(connection, list, since).await?;
    match Shape::of(global.output) {
        Shape::Machine(machine) => L::write(machine, &mut console.out, &answer)?,
        Shape::Human { wide } => {
            let text = lines(&answer, list, wide, None, console);
            console.out.write_all(text.as_bytes())?;
            // Notes come after what they are about, where both go to a terminal.
            console.out.flush()?;
            note_rest(&answer, list, console);
            for note in list.notes(&answer, connection, console) {
                console.note(&note);
            }
            if let Some(caveat) = L::caveat(connection, shown::<L>(&answer)).await {
                console.note(&caveat);
            }
        }
    }
    Ok(list.exit(&answer))
}

async fn query<L: List>(
    connection: &mut Connection,
    list: &L,
    since: Option<u64>,
) -> Result<L::Answer, CliError> {
    let answer = list.query(connection, since).await;
    let has_rows = answer.as_ref().is_ok_and(|answer| L::total_matched(answer.get_ref()) > 0);
    match L::SIGNAL {
        // Nothing may mean that nobody looks.
        Some(signal) if !has_rows => {
            let topic = Topic { command: L::VIEW.command, signal };
            connection.heard_of(topic, answer).await.map(|(answer, _)| answer)
        }
        Some(_) | None => connection.heard(answer),
    }
}

/// Renders the table, and the loss where there is any, in at most so many lines.
fn lines<L: List>(
    answer: &L::Answer,
    list: &L,
    wide: bool,
    rows: Option<usize>,
    console: &Console,
) -> String {
    let mut table = super::table(L::VIEW, wide, list.is_numeric(), console);
    let lost = L::lost(answer).map(|lost| report::lost(&lost, L::LOST_IN_RING, console.colors));
    let around = 1 + usize::from(lost.is_some());
    let below = list.below(answer, wide, console);
    let (shown, below) = divided(L::rows(answer).len(), L::NOUN, around, below, rows);
    let cells: Vec<_> =
        L::rows(answer).into_iter().take(shown).map(|row| table.cells(row)).collect();
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
    for line in below {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Divides the room between a table and what stands below it: half for each where both want more. What
/// has no room is said in the last line.
fn divided(
    rows: usize,
    noun: [&str; 2],
    around: usize,
    mut below: Vec<String>,
    room: Option<usize>,
) -> (usize, Vec<String>) {
    let Some(room) = room else { return (usize::MAX, below) };
    let room = room.saturating_sub(around);
    let least = (room / 2).max(room.saturating_sub(below.len()));
    let shown = rows.min(least);
    let left = room - shown;
    let hidden = rows - shown;
    if below.len() > left || (hidden > 0 && !below.is_empty()) {
        let kept = left.saturating_sub(1).min(below.len());
        let lines = counted((below.len() - kept) as u64, "more line", "more lines");
        below.truncate(kept);
        if left > 0 {
            let [one, more] = noun.map(|noun| format!("more {noun}"));
            let rows = (hidden > 0).then(|| counted(hidden as u64, &one, &more) + ", ");
            below.push(format!("… {}{lines}", rows.unwrap_or_default()));
        }
    }
    (shown, below)
}

/// Says what is seen: when, how much of it, and in which order.
fn title<L: List>(answer: &L::Answer, list: &L, console: &Console) -> String {
    let now = Timestamp::from_nanosecond((console.now_ns)().into()).unwrap_or_default();
    let now = now.to_zoned(console.time_zone.clone());
    let [one, more] = L::NOUN;
    let (got, all) = (shown::<L>(answer), L::total_matched(answer));
    let rows = match (got, all) {
        (got, all) if got < all => format!("{} of {} {more}", units::count(got), units::count(all)),
        (_, all) => counted(all, one, more),
    };
    let (order, gist) = (list.order(), L::gist(answer));
    let text = format!("{}  {rows} by {order}, {gist}; Ctrl-C ends", now.strftime("%H:%M:%S"));
    let width = console.terminal.map_or(usize::MAX, |terminal| terminal.width.into());
    let text: String = text.chars().take(width).collect();
    style::paint(&text, style::QUIET, console.colors)
}

fn note_rest<L: List>(answer: &L::Answer, list: &L, console: &mut Console) {
    let [_, rows] = L::NOUN;
    let (shown, all) = (shown::<L>(answer), L::total_matched(answer));
    if shown == 0 {
        console.note(&format!("no {rows} match"));
    } else if all > shown {
        let (shown, all) = (units::count(shown), units::count(all));
        let more = if list.is_limited() { "; --limit shows more" } else { "" };
        console.note(&format!("{shown} of {all} {rows}{more}"));
    }
    if let Some(totals) = L::totals(answer) {
        console.note(&format!("since the start: {totals}"));
    }
}

fn shown<L: List>(answer: &L::Answer) -> u64 {
    u64::try_from(L::rows(answer).len()).unwrap_or(u64::MAX)
}

/// Joins the counts that are not zero: `3 timeouts, 1 malformed`.
fn counts(counts: &[(u64, &str, &str)]) -> Option<String> {
    let some = counts.iter().filter(|(count, ..)| *count > 0);
    let texts: Vec<String> = some.map(|(count, one, more)| counted(*count, one, more)).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}
