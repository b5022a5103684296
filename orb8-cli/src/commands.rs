//! One file per command.

use clap::CommandFactory;
use orb8_proto::columns::{Format, View};
use orb8_proto::v1::GetStatusResponse;
use serde::Serialize;

use crate::args::{Cli, Command, OutputFormat, ShowArgs, Signal};
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::output::Machine;
use crate::output::table::Table;

mod diagnose;
mod flows;
mod status;
mod trace;

/// Does what was asked.
pub(crate) async fn run(cli: Cli, console: &mut Console) -> Result<Exit, CliError> {
    let Cli { global, command } = cli;
    let exit = match command {
        Command::Status => status::run(&global, console).await,
        Command::Flows(args) => flows::run(&global, &args, console).await,
        Command::Trace { signal: Signal::Network(args) } => {
            trace::run(&global, &args, console).await
        }
        Command::Diagnose => diagnose::run(&global, console).await,
        Command::Completions { shell } => completions(shell, console),
        Command::Version => version(Shape::of(global.output), console),
    };
    console.out.flush()?;
    exit
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// For people, perhaps with all columns.
    Human { wide: bool },
    /// For programs.
    Machine(Machine),
}

impl Shape {
    const fn of(format: OutputFormat) -> Self {
        match format {
            OutputFormat::Table => Self::Human { wide: false },
            OutputFormat::Wide => Self::Human { wide: true },
            OutputFormat::Json => Self::Machine(Machine::Json),
            OutputFormat::Yaml => Self::Machine(Machine::Yaml),
        }
    }
}

/// Begins a table of flows. A wide one does not care for the terminal's width.
fn table(view: View, show: &ShowArgs, console: &Console) -> Table {
    let format = Format { numeric: show.numeric, time_zone: console.time_zone.clone() };
    let wide = matches!(view, View::FlowsWide | View::EventsWide);
    let room = console.terminal.filter(|_| !wide).map(|terminal| terminal.width);
    Table::new(view, format, room, console.colors)
}

#[derive(Debug, Serialize)]
struct VersionObject {
    r#type: &'static str,
    version: &'static str,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn version(shape: Shape, console: &mut Console) -> Result<Exit, CliError> {
    match shape {
        Shape::Human { .. } => writeln!(console.out, "orb8 {VERSION}")?,
        Shape::Machine(machine) => {
            machine
                .write(&mut console.out, &VersionObject { r#type: "version", version: VERSION })?;
        }
    }
    Ok(Exit::Success)
}

fn completions(shell: clap_complete::Shell, console: &mut Console) -> Result<Exit, CliError> {
    // The generator panics where it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "orb8", &mut script);
    console.out.write_all(&script)?;
    Ok(Exit::Success)
}

/// An agent's answer where there is no agent: what this machine tells.
fn of_this_machine(checks: Vec<orb8_proto::v1::Check>) -> GetStatusResponse {
    let read = |path| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    GetStatusResponse {
        node_name: read("/proc/sys/kernel/hostname").unwrap_or_default(),
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        checks,
        ..GetStatusResponse::default()
    }
}
