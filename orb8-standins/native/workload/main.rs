//! A program that uses a GPU as training jobs, inference and broken programs do, and says exactly what
//! it did: `gpu-workload train --steps 100 --launches 20 --copy 1048576`. The README of
//! `orb8-standins` tells all about it.

#[cfg(test)]
use crate::shared;
#[cfg(not(test))]
#[path = "../shared/lib.rs"]
mod shared;

mod cuda;
mod cudart;
mod gpu;
mod layer;
mod nccl;
mod options;
mod pace;
mod pids;
mod program;
mod report;
mod sites;
mod work;

use std::io::Write;
use std::process::ExitCode;

use options::{Command, Options};
use program::Program;

/// As other tools: the command line is wrong.
const USAGE: u8 = 64;

pub(crate) fn main() -> ExitCode {
    match options::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => say(options::HELP),
        Ok(Command::Id) => say(&nccl::new_id()),
        Ok(Command::Run(options)) => return run(&options),
        Err(error) => {
            eprintln!("gpu-workload: {error}; try --help");
            return ExitCode::from(USAGE);
        }
    }
    ExitCode::SUCCESS
}

/// Loads the libraries, waits if it should, works, and reports.
fn run(options: &Options) -> ExitCode {
    let program = &match Program::load(options) {
        Ok(program) => program,
        Err(error) => {
            eprintln!("gpu-workload: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _listed = pids::list(options);
    say(&format!("{{\"pid\":{}}}", std::process::id()));
    if options.wait {
        pace::wait_for_line();
    }
    if options.is_attached {
        std::thread::spawn(|| {
            pace::wait_for_end();
            std::process::exit(0);
        });
    }
    let outcome = std::thread::scope(|scope| {
        let tell = |each| scope.spawn(move || program.progress.tell(each, say));
        let teller = options.progress.map(tell);
        let outcome = work::run(program, options);
        program.progress.end();
        teller.inspect(|teller| teller.thread().unpark());
        outcome
    });
    say(&report::report(program, options, &outcome));
    if options.hold {
        pace::wait_for_line();
    }
    if outcome.failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Writes a line that is read at once; nobody who reads is no reason to stop.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", line.trim_end());
    let _ = out.flush();
}

#[cfg(test)]
const _: fn() -> ExitCode = main;
