//! `cargo xtask bench`: what orb8 costs, how much it loses and how late it is, beside nothing at
//! all, an empty program and one ring event per packet.
//!
//! ```text
//! Plan ─▶ Lab (namespaces, cgroups) ─▶ cost │ rate │ footprint │ latency │ signals │ identity │ metrics │
//!                                                        standins ─▶ report
//!                                        programs, agent ◀─▶ workload (worker processes)
//! ```
//!
//! The measuring itself needs the agent's own crates and lies behind the feature `bench`; without
//! it this command builds itself again, optimised, and goes on there.

#[cfg(feature = "bench")]
pub(crate) mod agent;
#[cfg(feature = "bench")]
mod cost;
#[cfg(feature = "bench")]
mod footprint;
#[cfg(feature = "bench")]
mod identity;
#[cfg(feature = "bench")]
mod interrupt;
#[cfg(feature = "bench")]
mod lab;
#[cfg(feature = "bench")]
mod latency;
#[cfg(feature = "bench")]
mod metrics;
#[cfg(feature = "bench")]
mod plan;
#[cfg(feature = "bench")]
mod programs;
#[cfg(feature = "bench")]
mod rate;
#[cfg(feature = "bench")]
mod reference;
#[cfg(feature = "bench")]
pub(crate) mod report;
#[cfg(feature = "bench")]
mod signals;
pub(crate) mod soak;
#[cfg(feature = "bench")]
mod standins;
#[cfg(feature = "bench")]
pub(crate) mod stats;
#[cfg(feature = "bench")]
pub(crate) mod targets;
#[cfg(feature = "bench")]
pub(crate) mod worker;
#[cfg(feature = "bench")]
mod workload;

use anyhow::Result;

/// What `bench` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds, each of which measures every variant once [default: 7, quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Short times and few rounds: shows that everything works, gives no figures to quote
    #[arg(long)]
    quick: bool,
    /// Measures only this part, and leaves the others' tables as they are
    #[arg(long, value_enum, value_name = "NAME")]
    only: Option<Part>,
    /// Prints this date instead of today's
    #[arg(long)]
    date: Option<String>,
    /// Prints the tables and leaves docs/benchmarks.md alone
    #[arg(long)]
    print: bool,
}

/// A part of the benchmark, with tables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Nanoseconds per run of a program
    Cost,
    /// Traffic with and without the agent
    Rate,
    /// The agent's processor time, memory and losses
    Footprint,
    /// Time from a new flow to a subscriber
    Latency,
    /// What DNS and TCP health add
    Signals,
    /// What it costs to know who is at the ends
    Identity,
    /// What a scrape costs with many pods
    Metrics,
    /// What reading and watching GPUs costs, with stand-ins
    Standins,
}

#[cfg(not(feature = "bench"))]
pub(crate) fn run(_: &Args) -> Result<()> {
    run_optimised()
}

/// Builds this program again, with the agent's crates, and goes on there.
#[cfg(not(feature = "bench"))]
pub(crate) fn run_optimised() -> Result<()> {
    use std::{env, os::unix::process::CommandExt, process::Command};

    use crate::workspace;

    workspace::run(
        Command::new("cargo")
            .current_dir(workspace::root())
            .args(["build", "--release", "--package", "xtask", "--package", "orb8-agent"])
            .args(["--features", "xtask/bench"]),
    )?;
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let built = workspace::root().join(target).join("release/xtask");
    let error = Command::new(&built).args(env::args_os().skip(1)).exec();
    anyhow::bail!("{} does not start: {error}", built.display())
}

#[cfg(feature = "bench")]
pub(crate) fn run(args: &Args) -> Result<()> {
    plan::run(args)
}
