//! A list that is printed again and again.

use std::fmt::Write as _;

use tokio::time::{Instant, sleep_until};

use super::{List, lines, query, title};
use crate::args::GlobalArgs;
use crate::commands::Shape;
use crate::connection::Connection;
use crate::console::Console;
use crate::error::CliError;

/// Prints again and again: in place on a terminal, else one after the other.
pub(super) async fn run<L: List>(
    connection: &mut Connection,
    global: &GlobalArgs,
    list: &L,
    console: &mut Console,
) -> Result<(), CliError> {
    let interrupt = console.interrupt.clone();
    let args = list.args();
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
        let printed = match query(connection, list, list.since(connection)).await {
            Ok(answer) => frame(&answer, list, shape, in_place, console),
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

fn frame<L: List>(
    answer: &L::Answer,
    list: &L,
    shape: Shape,
    in_place: bool,
    console: &mut Console,
) -> Result<(), CliError> {
    match shape {
        Shape::Machine(machine) => L::write(machine, &mut console.out, answer)?,
        Shape::Human { wide } if !in_place => {
            let text = lines(answer, list, wide, None, console);
            writeln!(console.out, "{text}")?;
        }
        Shape::Human { wide } => {
            console.measure();
            // The last line stays empty, so that nothing scrolls.
            let rows =
                console.terminal.map(|terminal| usize::from(terminal.height).saturating_sub(1));
            let title = title(answer, list, console);
            let text = lines(answer, list, wide, rows.map(|rows| rows.saturating_sub(1)), console);
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

/// Waits for the time, forever where there is none.
async fn reached(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
