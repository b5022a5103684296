//! What accelerators cost: an agent that reads eight of them, and a program whose calls are watched. Both
//! with stand-ins, since few machines have GPUs; `cargo xtask gpu-check` is for those.

use std::{
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use orb8_agent::event::Signal;
use orb8_standins::Paths;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    agent::{Agent, Signals},
    interrupt::pause,
    lab::Lab,
    plan::Plan,
    programs::Hook,
    report::Table,
    stats::{median, ratios_to_neighbours},
    targets::{GPU_POLLING, GPU_WATCHED},
};

/// Eight H100s in training, which is what the target is for.
const SCENARIO: &str = "h100x8";

/// Until readings, probes and the governor are what they stay.
const SETTLING: Duration = Duration::from_secs(8);
/// Until the probes are gone.
const LEAVING: Duration = Duration::from_secs(2);
/// For how long a rate is measured.
const MEASURED: Duration = Duration::from_secs(4);
/// Seconds between two times that a loop says how far it is.
const PROGRESS: &str = "0.25";

/// A loop that does nothing but one kind of call.
const LOOPS: [(&str, &[&str]); 3] = [
    ("1,000 launches and a wait", &["launches", "--launches", "1000"]),
    ("a copy of each kind", &["copies", "--copy", "4096"]),
    ("memory of each kind taken and given back", &["churn"]),
];

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Table>> {
    let folder = TempDir::new()?;
    let paths = orb8_standins::install(folder.path())?;
    let scenario = orb8_standins::scenario(SCENARIO).context("the scenario")?;
    paths.play(scenario.text)?;
    Ok(vec![polling(lab, plan, &paths)?, watching(lab, plan, &paths)?])
}

fn start(lab: &Lab, paths: &Paths, trace: bool) -> Result<Agent> {
    let library = text(&paths.nvml)?;
    let flags = [
        "--gpu-sources",
        "nvml",
        "--gpu-nvml-library",
        &library,
        "--gpu-pod-resources",
        "off",
        if trace { "--gpu-trace=true" } else { "--gpu-trace=false" },
    ];
    Agent::start(lab, Hook::Socket, Signals::Only(Signal::Gpu), &flags)
}

fn polling(lab: &Lab, plan: &Plan, paths: &Paths) -> Result<Table> {
    let note = format!(
        "{} **Reading eight H100s** (stand-ins) once a second, by an agent with `--signals gpu`: \
         processor time of its process in per cent of a core, and memory.",
        plan.machine
    );
    let mut table = Table::new(note, &["calls to CUDA", "CPU", "RSS"]);
    for (what, trace) in [("not watched", false), ("watched, nobody calls", true)] {
        eprintln!("stand-ins: eight devices, calls {what}");
        let agent = start(lab, paths, trace)?;
        pause(SETTLING)?;
        let before = agent.cpu()?;
        pause(plan.idle)?;
        let cpu = (agent.cpu()? - before).as_secs_f64() / plan.idle.as_secs_f64() * 100.0;
        let (resident, _) = agent.resident_mib()?;
        let cells = vec![what.to_owned(), format!("{cpu:.2} %"), format!("{resident:.1} MiB")];
        table.row(cells, &[("CPU", cpu, GPU_POLLING)]);
    }
    Ok(table)
}

fn watching(lab: &Lab, plan: &Plan, paths: &Paths) -> Result<Table> {
    let note = format!(
        "{} **Being watched**: a loop of one thread that does nothing else than such calls to the stand-in \
         of libcuda, which returns at once (a real launch takes ten times as long). Its rate with the \
         agent, over the mean of those of the same process right before and after without; the median of \
         pairs. The budget is 1 % of a thread.",
        plan.machine
    );
    let header = &["a step", "steps a second, without", "with the agent", "lowest pair"];
    let mut table = Table::new(note, header);
    for (what, arguments) in LOOPS {
        eprintln!("stand-ins: {what}");
        let mut workload = Workload::start(paths, arguments)?;
        workload.rate(LEAVING)?;
        let (mut with, mut without) = (Vec::new(), vec![workload.rate(MEASURED)?]);
        for _ in 0..plan.rounds {
            let agent = start(lab, paths, true)?;
            workload.rate(SETTLING)?;
            with.push(workload.rate(MEASURED)?);
            drop(agent);
            workload.rate(LEAVING)?;
            without.push(workload.rate(MEASURED)?);
        }
        let ratios = ratios_to_neighbours(&with, &without);
        let ratio = median(&ratios).context("no pair")?;
        let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let rate = median(&without).context("no loop")?;
        let cells = vec![
            what.to_owned(),
            format!("{rate:.0}"),
            format!("{ratio:.4}"),
            format!("{lowest:.4}"),
        ];
        table.row(cells, &[("overhead", (1.0 - ratio) * 100.0, GPU_WATCHED)]);
    }
    Ok(table)
}

/// A running loop; it ends when it is dropped.
struct Workload {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Workload {
    fn start(paths: &Paths, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(&paths.workload);
        command.args(arguments).args(["--seconds", "86400", "--progress", PROGRESS]);
        command.arg("--pid-file").arg(&paths.processes).args(["--pid-line", "sm=50"]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("its output")?;
        Ok(Self { child, lines: BufReader::new(output).lines() })
    }

    /// Returns its steps a second from now on. One process is compared with itself: where its memory
    /// lies changes what it takes by a fifth.
    fn rate(&mut self, time: Duration) -> Result<f64> {
        let (since, before) = self.progress()?;
        loop {
            let (now, steps) = self.progress()?;
            if now - since >= time.as_secs_f64() {
                ensure!(steps > before, "the workload did nothing for {time:?}");
                return Ok((steps - before) / (now - since));
            }
        }
    }

    /// Returns for how long it has run, seconds, and how many steps it has done.
    fn progress(&mut self) -> Result<(f64, f64)> {
        loop {
            let line = self.lines.next().context("the workload ended")??;
            let told: Value = serde_json::from_str(&line)?;
            if let Some(told) = told["seconds"].as_f64().zip(told["steps"].as_f64()) {
                return Ok(told);
            }
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(path: &Path) -> Result<String> {
    PathBuf::from(path).into_os_string().into_string().ok().context("a path that is no text")
}
