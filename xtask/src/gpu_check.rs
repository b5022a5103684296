//! `cargo xtask gpu-check`: orb8 on a machine with an NVIDIA GPU, against what others say.
//!
//! ```text
//! nvidia-smi ────────────────────────┐
//! PyTorch, calls that it counts ─────┼─▶ compare with orb8-agent ─▶ report ─▶ docs/benchmarks.md
//! PyTorch, a loop with and without ──┘
//! ```
//! Where there is no GPU, or no PyTorch, it says so and ends with status 3. It needs the agent's own
//! crates, and builds itself as the benchmark does.

#[cfg(feature = "bench")]
mod agent;
#[cfg(feature = "bench")]
mod overhead;
#[cfg(feature = "bench")]
mod report;
#[cfg(feature = "bench")]
mod smi;
#[cfg(feature = "bench")]
mod torch;

use std::path::PathBuf;

use anyhow::Result;

/// What `gpu-check` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The Python that has PyTorch
    #[arg(long, default_value = "python3", value_name = "PROGRAM")]
    python: PathBuf,
    /// Pairs of loops with and without the agent
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    pairs: u32,
    /// Seconds of each loop
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Prints this date instead of today's
    #[arg(long)]
    date: Option<String>,
    /// Prints the report and leaves docs/benchmarks.md alone
    #[arg(long)]
    print: bool,
}

#[cfg(not(feature = "bench"))]
pub(crate) fn run(_: &Args) -> Result<()> {
    crate::bench::run_optimised()
}

#[cfg(feature = "bench")]
pub(crate) fn run(args: &Args) -> Result<()> {
    use anyhow::ensure;
    use nix::unistd::Uid;

    ensure!(Uid::effective().is_root(), "must run as root: it attaches probes");
    let before = smi::read()?;
    let mut workload = torch::Workload::start(&args.python)?;
    let mut report = report::Report::new(&before, workload.versions(), args.date.as_deref())?;
    {
        let agent = agent::Agent::start()?;
        report.figures(&agent.devices()?, &smi::read()?);
        report.processes(&agent.processes()?, &workload.processes()?);
        report.counts(&torch::compare(&mut workload, &agent)?);
        report.cost(&agent.cost()?);
    }
    report.overhead(&overhead::measure(&mut workload, args.pairs, args.seconds)?);
    workload.end()?;
    report.write(args.print)
}
