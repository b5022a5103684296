//! How long and how often everything is measured, on which machine, and in what order.

use std::{fs, os::fd::OwnedFd, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use aya::sys::{Stats, enable_stats};
use nix::{sys::utsname::uname, unistd::Uid};

use super::{
    Args, Part, cost, footprint, identity, interrupt,
    lab::Lab,
    latency, metrics, rate,
    report::{self, Table},
    signals, standins,
};
use crate::workspace;

/// Times and counts.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// The same for the signals, where most variants are agents, which take their time to start.
    pub(crate) signal_rounds: u32,
    /// From attaching to measuring.
    pub(crate) settling: Duration,
    /// One measurement of a rate or of run time.
    pub(crate) window: Duration,
    /// The agent at rest, and under each load.
    pub(crate) idle: Duration,
    pub(crate) loaded: Duration,
    /// With many flows held.
    pub(crate) held: Duration,
    /// Connections whose moments are timed, and how many a second.
    pub(crate) connections: u64,
    pub(crate) connection_rate: u64,
    /// Machine, date and manner, for the notes.
    pub(crate) machine: String,
}

impl Plan {
    fn new(args: &Args) -> Result<Self> {
        let ms = Duration::from_millis;
        let plan = if args.quick {
            Self {
                rounds: 3,
                signal_rounds: 1,
                settling: ms(150),
                window: ms(250),
                idle: ms(4_000),
                loaded: ms(3_000),
                held: ms(8_000),
                connections: 500,
                connection_rate: 200,
                machine: String::new(),
            }
        } else {
            Self {
                rounds: 7,
                signal_rounds: 7,
                settling: ms(400),
                window: ms(1_000),
                idle: ms(30_000),
                loaded: ms(15_000),
                held: ms(25_000),
                connections: 2_000,
                connection_rate: 100,
                machine: String::new(),
            }
        };
        let rounds = args.rounds.unwrap_or(plan.rounds);
        let signal_rounds = args.rounds.unwrap_or(plan.signal_rounds);
        let machine = machine(args, rounds)?;
        Ok(Self { rounds, signal_rounds, machine, ..plan })
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(
        Uid::effective().is_root(),
        "programs are loaded and namespaces made: run it as root, `sudo -E env PATH=$PATH cargo \
         xtask bench`"
    );
    interrupt::watch()?;
    let plan = Plan::new(args)?;
    let lab = Lab::new()?;
    let wanted = |part| args.only.is_none_or(|only| only == part);
    if wanted(Part::Cost) {
        let _statistics = statistics()?;
        publish(args, Part::Cost, &[cost::measure(&lab, &plan)?])?;
    }
    // They cost every run of a program its time.
    let _quiet = StatisticsOff::new()?;
    if wanted(Part::Rate) {
        publish(args, Part::Rate, &[rate::measure(&lab, &plan)?])?;
    }
    if wanted(Part::Footprint) {
        publish(args, Part::Footprint, &[footprint::measure(&lab, &plan)?])?;
    }
    if wanted(Part::Latency) {
        publish(args, Part::Latency, &[latency::measure(&lab, &plan)?])?;
    }
    if wanted(Part::Signals) {
        publish(args, Part::Signals, &signals::measure(&lab, &plan)?)?;
    }
    if wanted(Part::Identity) {
        publish(args, Part::Identity, &identity::measure(&lab, &plan)?)?;
    }
    if wanted(Part::Metrics) {
        publish(args, Part::Metrics, &metrics::measure(&plan)?)?;
    }
    if wanted(Part::Standins) {
        publish(args, Part::Standins, &standins::measure(&lab, &plan)?)?;
    }
    Ok(())
}

/// Turns the kernel's run statistics on until it is dropped.
pub(super) fn statistics() -> Result<OwnedFd> {
    enable_stats(Stats::RunTime).context("the kernel keeps no statistics")
}

fn publish(args: &Args, part: Part, tables: &[Table]) -> Result<()> {
    let rendered = report::render(tables);
    println!("{rendered}");
    if args.print {
        return Ok(());
    }
    let path = page();
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    fs::write(&path, report::put_into(&text, part, &rendered)?)?;
    Ok(())
}

fn page() -> PathBuf {
    workspace::root().join("docs/benchmarks.md")
}

/// Keeps `kernel.bpf_stats_enabled` off, and puts it back when dropped.
struct StatisticsOff {
    before: String,
}

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl StatisticsOff {
    fn new() -> Result<Self> {
        let before = fs::read_to_string(STATISTICS)?;
        fs::write(STATISTICS, "0")?;
        Ok(Self { before })
    }
}

impl Drop for StatisticsOff {
    fn drop(&mut self) {
        if let Err(error) = fs::write(STATISTICS, &self.before) {
            eprintln!("warning: {STATISTICS} stays 0: {error}");
        }
    }
}

fn machine(args: &Args, rounds: u32) -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        ["model name", "Model", "CPU part"].contains(&name.trim()).then(|| value.trim())
    });
    let cores = std::thread::available_parallelism()?;
    let kernel = uname()?;
    let date = match &args.date {
        Some(date) => date.clone(),
        None => jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
    };
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or("?");
    let quick = if args.quick { " **Quick run: not for quoting.**" } else { "" };
    Ok(format!(
        "{}, {cores} cores, kernel {}, {date}; {rounds} rounds, load average before: {load}.{quick}",
        model.unwrap_or("unknown processor"),
        version(&kernel.release().to_string_lossy()),
    ))
}

/// The numbers of a kernel's release: what follows is its builder's own.
fn version(release: &str) -> &str {
    release.split('-').next().unwrap_or(release)
}
