//! What this repository does to itself: `cargo xtask <command>`.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a tool that the command needs cannot be had.

mod bench;
mod ci;
mod codegen;
mod dashboards;
mod fuzz;
mod gpu_check;
mod package;
mod probes;
mod vm_test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Unavailable;

#[derive(Parser)]
#[command(name = "cargo xtask", about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures what orb8 costs and loses, and writes the tables of docs/benchmarks.md
    Bench(bench::Args),
    /// Sends or receives for `bench`
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchWorker(bench::worker::Args),
    /// Runs what a change must pass: formatting, lints, tests, reproducible objects, kernels
    Ci(ci::Args),
    /// Regenerates the gRPC code from the .proto files
    Codegen {
        /// Only compare with what is checked in
        #[arg(long)]
        check: bool,
    },
    /// Regenerates the Grafana dashboards, and the rules for Prometheus's operator
    Dashboards(dashboards::Args),
    /// Runs the fuzz targets for a bounded time
    Fuzz(fuzz::Args),
    /// Compares orb8 with nvidia-smi and PyTorch on a machine with a GPU
    GpuCheck(gpu_check::Args),
    /// Makes Debian and RPM packages and a tarball of programs that are built
    Package(package::Args),
    /// Rebuilds the eBPF objects that the agent embeds
    Probes(probes::Args),
    /// Runs the agent for minutes, while pods come and go: it must not grow
    Soak(bench::soak::Args),
    /// Runs the kernel tests on stock kernels in VMs
    VmTest(vm_test::Args),
}

fn main() -> ExitCode {
    if let Some(code) = probes::rustc_wrapper() {
        return code;
    }
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Unavailable>() { Unavailable::EXIT_CODE } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Bench(args) => bench::run(&args),
        #[cfg(feature = "bench")]
        Command::BenchWorker(args) => bench::worker::run(args),
        Command::Ci(args) => ci::run(&args),
        Command::Codegen { check } => codegen::run(check),
        Command::Dashboards(args) => dashboards::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::GpuCheck(args) => gpu_check::run(&args),
        Command::Package(args) => package::run(&args),
        Command::Probes(args) => probes::run(args),
        Command::Soak(args) => bench::soak::run(&args),
        Command::VmTest(args) => vm_test::run(&args),
    }
}
