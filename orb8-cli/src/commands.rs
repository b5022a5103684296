//! One file per command.

use clap::CommandFactory;
use orb8_proto::columns::{Format, Subject, View};
use orb8_proto::units;
use orb8_proto::v1::GetStatusResponse;
use serde::Serialize;

use crate::args::{Cli, Command, DnsCommand, OutputFormat, Signal, TcpCommand};
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::output::Machine;
use crate::output::table::Table;

mod diagnose;
pub(crate) mod list;
mod record;
mod status;
mod trace;

/// What a loss in a signal's ring means, for lists and streams.
const FLOWS_LOST_IN_RING: &str = "their packets are counted";
const DNS_LOST_IN_RING: &str = "messages that are in no exchange";
const GPU_LOST_IN_RING: &str = "calls to CUDA and NCCL that are in no sum";
const TCP_LOST_IN_RING: &str = "connections keep their figures";

/// Does what was asked.
pub(crate) async fn run(cli: Cli, console: &mut Console) -> Result<Exit, CliError> {
    let Cli { mut global, command } = cli;
    global.is_live = command.is_live() || (command.is_trace() && global.replay_speed.is_some());
    let exit = match command {
        Command::Top(args) => crate::top::run(&global, &args, console).await,
        Command::Status => status::run(&global, console).await,
        Command::Flows(args) => list::run(&global, &args, console).await,
        Command::Dns { command: DnsCommand::Top(args) } => list::run(&global, &args, console).await,
        Command::Tcp { command: TcpCommand::Top(args) } => list::run(&global, &args, console).await,
        Command::Workloads(args) => list::run(&global, &args, console).await,
        Command::Pods(args) => list::run(&global, &args, console).await,
        Command::Gpu(args) => list::gpu::run(&global, &args, console).await,
        Command::Trace { signal } => match signal {
            Signal::Network(args) => trace::run(&global, &args, console).await,
            Signal::Dns(args) => trace::run(&global, &args, console).await,
            Signal::Tcp(args) => trace::run(&global, &args, console).await,
            Signal::Gpu(args) => trace::run(&global, &args, console).await,
        },
        Command::Record(args) => record::run(&global, args, console).await,
        #[cfg(all(feature = "demo", target_os = "linux"))]
        Command::Demo { command: crate::args::DemoCommand::Gpu(args) } => {
            crate::demo::run(&global, &args, console).await
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

/// Begins a table. A wide one does not care for the terminal's width, and has names in a column of
/// their own.
fn table<S: Subject>(
    view: &'static View<S>,
    wide: bool,
    numeric: bool,
    console: &Console,
) -> Table<S> {
    let format = Format {
        numeric,
        names: !wide && !numeric,
        time_zone: console.time_zone.clone(),
        now_ns: (console.now_ns)(),
    };
    let room = console.terminal.filter(|_| !wide).map(|terminal| terminal.width);
    Table::new(view, wide, format, room, console.colors)
}

/// `1 flow`, `1,234 flows`.
fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{} {}", units::count(count), if count == 1 { one } else { more })
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
