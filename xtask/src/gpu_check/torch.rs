//! A PyTorch program that does what it is asked, and knows how often it called what.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use orb8_proto::v1::{GpuActivity, GpuCopyKind};
use serde_json::Value;

use super::agent::Agent;
use crate::workspace::Unavailable;

const SCRIPT: &str = include_str!("workload.py");

/// Calls of each kind: enough to tell one in a thousand that is missed.
const LAUNCHES: u64 = 20_000;
const ALLOCATIONS: u64 = 500;
const COPIES: u64 = 500;
/// Bytes of an allocation and of a copy.
const SIZE: u64 = 4 << 20;

/// How long the agent's counts may be behind.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long they mostly are: what was called before is counted then.
const SETTLED: Duration = Duration::from_secs(2);

/// The running program. Dropping it ends it.
pub(super) struct Workload {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    hello: Value,
}

/// What it did, and what the agent says it did.
pub(super) struct Count {
    pub(super) what: &'static str,
    pub(super) known: u64,
    pub(super) told: u64,
    /// Whether the agent said that it looked in a part of the time only.
    pub(super) sampled: bool,
}

impl Workload {
    pub(super) fn start(python: &Path) -> Result<Self> {
        let mut child = Command::new(python)
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| {
                Unavailable(format!("{} does not start: {error}", python.display()))
            })?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let mut workload = Self { child, input, output, hello: Value::Null };
        workload.hello = workload.read().map_err(|_| {
            Unavailable(format!("{} has no PyTorch that reaches a GPU", python.display()))
        })?;
        Ok(workload)
    }

    /// Versions of PyTorch and of the CUDA that it was built for.
    pub(super) fn versions(&self) -> String {
        let text = |name: &str| self.hello[name].as_str().unwrap_or("?").to_owned();
        format!("PyTorch {}, CUDA {}", text("torch"), text("cuda"))
    }

    pub(super) fn pid(&self) -> u32 {
        self.hello["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
    }

    /// The processes that must be seen on the device.
    pub(super) fn processes(&self) -> Result<Vec<u32>> {
        ensure!(self.pid() > 0, "the workload did not tell its process");
        Ok(vec![self.pid()])
    }

    pub(super) fn ask(&mut self, line: &str) -> Result<Value> {
        writeln!(self.input, "{line}")?;
        self.read()
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the workload ended: {:?}", self.child.try_wait()?);
        serde_json::from_str(&line).with_context(|| format!("the workload said {line:?}"))
    }

    pub(super) fn end(mut self) -> Result<()> {
        writeln!(self.input, "end")?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the workload failed: {status}");
        Ok(())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets it call what is known how often, and asks the agent.
pub(super) fn compare(workload: &mut Workload, agent: &Agent) -> Result<Vec<Count>> {
    let pid = workload.pid();
    agent.wait_for_probes(PATIENCE)?;
    let mut counts = Vec::new();

    let before = allocated(&calm(agent, pid)?);
    workload.ask(&format!("allocate {ALLOCATIONS} {SIZE}"))?;
    let after = settled(agent, pid, |now| allocated(now).0 >= before.0 + ALLOCATIONS)?;
    let now = allocated(&after);
    counts.push(Count::exact("allocations", ALLOCATIONS, now.0.saturating_sub(before.0)));
    counts.push(Count::exact(
        "allocated bytes",
        ALLOCATIONS * SIZE,
        now.1.saturating_sub(before.1),
    ));
    workload.ask("free")?;
    let outstanding = |now: &GpuActivity| now.memory.as_ref().map_or(0, |it| it.outstanding_bytes);
    let freed = settled(agent, pid, |now| {
        outstanding(&after).saturating_sub(outstanding(now)) >= ALLOCATIONS * SIZE
    })?;
    let given_back = outstanding(&after).saturating_sub(outstanding(&freed));
    counts.push(Count::exact("bytes given back", ALLOCATIONS * SIZE, given_back));

    workload.ask(&format!("launches {LAUNCHES}"))?;
    let before = launches(&calm(agent, pid)?).0;
    workload.ask("go")?;
    let now = settled(agent, pid, |now| launches(now).0 >= before + LAUNCHES)?;
    let (told, sampled) = launches(&now);
    let told = told.saturating_sub(before);
    counts.push(Count { what: "launches", known: LAUNCHES, told, sampled });

    workload.ask(&format!("copies {COPIES} {SIZE}"))?;
    let start = calm(agent, pid)?;
    workload.ask("go")?;
    let all = |now: &GpuActivity, kind| copied(now, kind).0 >= copied(&start, kind).0 + COPIES;
    let kinds = [
        ("copies to the device", "bytes to the device", GpuCopyKind::HostToDevice),
        ("copies from the device", "bytes from the device", GpuCopyKind::DeviceToHost),
    ];
    let now = settled(agent, pid, |now| kinds.iter().all(|(.., kind)| all(now, *kind)))?;
    for (count, bytes, kind) in kinds {
        let (was, is) = (copied(&start, kind), copied(&now, kind));
        counts.push(Count::exact(count, COPIES, is.0.saturating_sub(was.0)));
        counts.push(Count::exact(bytes, COPIES * SIZE, is.1.saturating_sub(was.1)));
    }
    Ok(counts)
}

impl Count {
    const fn exact(what: &'static str, known: u64, told: u64) -> Self {
        Self { what, known, told, sampled: false }
    }
}

/// What the agent has counted, once what was called before is among it.
fn calm(agent: &Agent, pid: u32) -> Result<GpuActivity> {
    thread::sleep(SETTLED);
    agent.activity(pid)
}

/// Waits until the agent has counted it, or does not count more.
fn settled(agent: &Agent, pid: u32, is_all: impl Fn(&GpuActivity) -> bool) -> Result<GpuActivity> {
    let start = Instant::now();
    loop {
        let now = agent.activity(pid)?;
        if is_all(&now) {
            // What is too much would come as late.
            return calm(agent, pid);
        }
        if start.elapsed() > PATIENCE {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Allocations of device memory, and their bytes.
fn allocated(of: &GpuActivity) -> (u64, u64) {
    use orb8_proto::v1::GpuAllocationKind::Pinned;
    let rows = of.memory.iter().flat_map(|memory| &memory.allocated);
    let rows = rows.filter(|row| row.kind() != Pinned);
    rows.fold((0, 0), |sum, row| (sum.0 + row.count, sum.1 + row.bytes))
}

fn launches(of: &GpuActivity) -> (u64, bool) {
    of.launches.as_ref().map_or((0, false), |launches| (launches.count, launches.sampled))
}

fn copied(of: &GpuActivity, kind: GpuCopyKind) -> (u64, u64) {
    // PyTorch copies by the call that does not say the direction, too.
    let is_one = |of: GpuCopyKind| of == kind;
    let rows = of.copies.iter().filter(|row| is_one(row.kind()));
    rows.fold((0, 0), |sum, row| (sum.0 + row.count, sum.1 + row.bytes))
}

/// The rate of a loop, iterations a second.
pub(super) fn rate(workload: &mut Workload, kind: &str, seconds: u32) -> Result<f64> {
    let answer = workload.ask(&format!("loop {kind} {seconds}"))?;
    match answer["rate"].as_f64() {
        Some(rate) if rate > 0.0 => Ok(rate),
        _ => bail!("the workload said {answer}"),
    }
}

#[cfg(test)]
mod tests {
    use orb8_proto::v1::{
        GpuAllocated, GpuAllocationKind, GpuCopies, GpuLaunches, GpuMemoryActivity,
    };

    use super::*;

    #[test]
    fn what_is_compared_is_what_the_program_does() {
        let row = |kind: GpuAllocationKind, count, bytes| GpuAllocated {
            kind: kind.into(),
            count,
            bytes,
            ..GpuAllocated::default()
        };
        let copies = |kind: GpuCopyKind, count| GpuCopies {
            kind: kind.into(),
            count,
            bytes: count * 10,
            ..GpuCopies::default()
        };
        let activity = GpuActivity {
            memory: Some(GpuMemoryActivity {
                allocated: vec![
                    row(GpuAllocationKind::Device, 3, 300),
                    row(GpuAllocationKind::Pinned, 9, 900),
                ],
                ..GpuMemoryActivity::default()
            }),
            copies: vec![
                copies(GpuCopyKind::HostToDevice, 5),
                copies(GpuCopyKind::DeviceToHost, 7),
            ],
            launches: Some(GpuLaunches { count: 11, sampled: true, ..GpuLaunches::default() }),
            ..GpuActivity::default()
        };
        assert_eq!(allocated(&activity), (3, 300), "pinned memory is the machine's");
        assert_eq!(copied(&activity, GpuCopyKind::DeviceToHost), (7, 70));
        assert_eq!(launches(&activity), (11, true));
        assert_eq!(launches(&GpuActivity::default()), (0, false));
    }

    #[test]
    fn a_python_without_pytorch_is_told_as_unavailable() {
        let error = Workload::start(Path::new("/bin/true")).err().expect("no PyTorch");
        assert!(error.is::<Unavailable>(), "{error:#}");
    }
}
