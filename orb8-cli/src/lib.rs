//! orb8's command line: `top`, `workloads`, `status`, `flows`, `dns top`, `tcp top`, `pods`, `gpu`,
//! `trace network|dns|tcp|gpu`, `record`, `diagnose`, `completions`, `version`.
//!
//! ```text
//! args ──▶ commands ──▶ connection ──▶ an agent (--agent, the local socket, the local port)
//!             │              ├───────▶ standalone: the engine in this process
//!             │              └───────▶ replay: a recording
//!             └──▶ output ──▶ console (stdout, stderr)
//! ```
//!
//! All commands speak the gRPC API, whoever serves it, so what they print does not depend on where
//! the engine runs. Start with [`main`]; `commands` has one file per kind of command,
//! and below it one per signal; [`output`] has the
//! schema of the machine-readable formats.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};

mod args;
mod cause;
mod commands;
mod connection;
mod console;
#[cfg(all(feature = "demo", target_os = "linux"))]
mod demo;
mod error;
mod filters;
pub mod output;
pub mod recording;
mod replay;
#[cfg(all(feature = "standalone", target_os = "linux"))]
mod standalone;
#[cfg(not(all(feature = "standalone", target_os = "linux")))]
#[path = "standalone/without.rs"]
mod standalone;
#[cfg(test)]
mod tests;
mod time;
mod top;

use args::{Cli, order};
use console::Console;
use error::{CliError, Exit};

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let mut console = Console::of_process();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            console.error(&format!("cannot start: {error}"));
            return Exit::Failure.into();
        }
    };
    let exit = runtime.block_on(async {
        console.interrupt_on_signals();
        run(std::env::args_os(), &mut console).await
    });
    // A reader of stdin or a resolver must not keep the process.
    runtime.shutdown_background();
    exit.into()
}

/// One to read, one for the engine where it runs here.
const WORKERS: usize = 2;

/// Returns the whole command line, for help pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

async fn run(args: impl IntoIterator<Item = OsString>, console: &mut Console) -> Exit {
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => return console.usage(&error),
    };
    console.apply(&cli.global);
    match commands::run(cli, console).await {
        Ok(exit) => exit,
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            // Whoever reads has seen enough, as `head` does.
            Exit::Success
        }
        Err(error) => {
            console.error(&error.to_string());
            error.exit()
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let args: Vec<OsString> = args.into_iter().collect();
    let matches = command
        .try_get_matches_from_mut(&args)
        .map_err(|error| order::explain(error, &command, &args))?;
    if let Some(message) = order::misplaced(&command, &matches) {
        return Err(command.error(ErrorKind::ArgumentConflict, message));
    }
    // Not the `_mut` way, which takes matches apart while `--not` needs their order.
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    // A flag wins over the environment, so only two flags can contradict each other.
    if cli.global.standalone && matches.value_source("agent") == Some(ValueSource::CommandLine) {
        let message = "--standalone asks no agent: it cannot be used with --agent";
        return Err(command.error(ErrorKind::ArgumentConflict, message));
    }
    let replays = cli.global.replay.is_some();
    // Not for the parser to say: one may be before the command and the other behind it.
    if !replays && cli.global.replay_speed.is_some() {
        let message = "--replay-speed plays a recording: it needs --replay FILE";
        return Err(command.error(ErrorKind::MissingRequiredArgument, message));
    }
    if replays
        && (cli.global.standalone
            || matches.value_source("agent") == Some(ValueSource::CommandLine))
    {
        let message =
            "--replay answers from a file: it cannot be used with --agent or --standalone";
        return Err(command.error(ErrorKind::ArgumentConflict, message));
    }
    Ok(cli)
}
