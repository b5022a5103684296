//! The agent's own program, started on the lab's node, and what it says of itself.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use orb8_agent::event::Signal as Observed;
use tempfile::TempDir;

use super::{
    lab::{INTERFACES, Lab, Netns},
    programs::{Hook, Statistics, field},
    reference::Count,
    workload,
};

/// Its metrics, in the node's namespace.
const ADMIN: &str = "127.0.0.1:9091";

/// How long starting and stopping may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The signals that every machine has.
const NETWORK: [Observed; 3] = [Observed::Flow, Observed::Dns, Observed::Tcp];

/// What an agent observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signals {
    /// One signal, and nothing of the others.
    Only(Observed),
    /// All that every machine has, which is what an agent observes by itself where there is no GPU.
    All,
}

impl Signals {
    /// Flows alone.
    pub(crate) const FLOW: Self = Self::Only(Observed::Flow);

    const fn count(self) -> usize {
        match self {
            Self::Only(_) => 1,
            Self::All => NETWORK.len(),
        }
    }

    /// In words.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Only(signal) => signal.name(),
            Self::All => "all",
        }
    }

    /// Each by its name, so that one that does not run ends the agent.
    fn setting(self) -> String {
        match self {
            Self::Only(signal) => signal.name().to_owned(),
            Self::All => NETWORK.map(Observed::name).join(","),
        }
    }
}

/// A running agent. Dropping it ends it.
pub(crate) struct Agent {
    child: Child,
    node: Netns,
    directory: TempDir,
}

impl Agent {
    /// Starts it with its defaults, but for what it observes and where, and waits until it is ready.
    pub(crate) fn start(lab: &Lab, hook: Hook, signals: Signals, more: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = workload::worker(&lab.node, None, None);
        command.args(["exec", "--"]).arg(binary()?);
        for (variable, _) in std::env::vars_os() {
            // The machine's own settings are not what is measured.
            if variable.to_string_lossy().starts_with("ORB8_") {
                command.env_remove(variable);
            }
        }
        command.args(["--listen", "off", "--admin-listen", ADMIN]);
        // Nor is a cluster that the machine has access to.
        for (flag, value) in [("--log", "warn"), ("--kubernetes", "off")] {
            if !more.contains(&flag) {
                command.args([flag, value]);
            }
        }
        command.arg("--socket").arg(socket_in(directory.path()));
        command.arg("--cgroup-root").arg(lab.pods.path());
        command.args(["--signals", &signals.setting()]);
        match hook {
            Hook::Socket => command.args(["--attach", "cgroup"]),
            Hook::Interface => {
                command.args(["--attach", "tc", "--interfaces", &INTERFACES.join(",")])
            }
        };
        let child = command.args(more).spawn().context("starting the agent")?;
        let mut agent = Self { child, node: lab.node.clone()?, directory };
        agent.wait_for(signals)?;
        Ok(agent)
    }

    /// Waits until every signal is observed; the agent is ready with the first.
    fn wait_for(&mut self, signals: Signals) -> Result<()> {
        let start = Instant::now();
        let running = |agent: &Self| agent.metrics()?.get("orb8_agent_source_up");
        while running(self).map_or(0, |up| up as usize) < signals.count() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended: {status}");
            }
            ensure!(start.elapsed() < PATIENCE, "the agent is not ready within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The path of its API's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(self.directory.path())
    }

    /// Processor time of all its threads, those that ended included.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let time = clock_gettime(clock_getcpuclockid(self.pid())?)?;
        Ok(time.into())
    }

    /// Resident memory now and at most since [`Self::forget_peak`], MiB.
    pub(crate) fn resident_mib(&self) -> Result<(f64, f64)> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let mib = |name| kib(&text, name).map(|kib| kib / 1024.0);
        let (now, peak) = (mib("VmRSS:"), mib("VmHWM:"));
        now.zip(peak).context("the agent's memory is not in its status")
    }

    /// Starts the peak anew.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        const PEAK: &str = "5";
        Ok(fs::write(format!("/proc/{}/clear_refs", self.pid()), PEAK)?)
    }

    /// Descriptors that it has open.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// Reads its metrics.
    pub(crate) fn metrics(&self) -> Result<Metrics> {
        self.get("/metrics").map(Metrics)
    }

    /// Memory that the kernel says its maps take, bytes. Records of sockets lie with the sockets, and
    /// are left out.
    pub(crate) fn map_bytes(&self) -> Result<u64> {
        let mut maps = HashMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", self.pid()))? {
            // A descriptor may be closed meanwhile. A map may have several.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            maps.extend(map(&text));
        }
        Ok(maps.values().sum())
    }

    /// The run statistics of its programs whose names begin so.
    pub(crate) fn statistics(&self, beginnings: &[&str]) -> Result<Statistics> {
        Statistics::of(self.child.id(), beginnings)
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut answer = String::new();
        self.node.run(|| {
            let mut stream = TcpStream::connect(ADMIN)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
            stream.read_to_string(&mut answer)?;
            Ok(())
        })?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {}", head.lines().next().unwrap_or(""));
        Ok(body.to_owned())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends an agent, in order first: where filters have no link, it removes them.
pub(crate) fn end(agent: &mut Child) {
    let _ = kill(Pid::from_raw(agent.id().cast_signed()), Signal::SIGTERM);
    let start = Instant::now();
    while matches!(agent.try_wait(), Ok(None)) {
        if start.elapsed() > PATIENCE {
            eprintln!("warning: the agent does not end");
            let _ = agent.kill();
            let _ = agent.wait();
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn socket_in(directory: &Path) -> PathBuf {
    directory.join("agent.sock")
}

/// The agent that was built beside this program.
pub(crate) fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let binary = own.with_file_name("orb8-agent");
    ensure!(
        binary.exists(),
        "{} is missing: cargo build --release -p orb8-agent",
        binary.display()
    );
    Ok(binary)
}

/// A map's id and memory.
fn map(fdinfo: &str) -> Option<(u64, u64)> {
    let id = field(fdinfo, "map_id")?;
    Some((id, field(fdinfo, "memlock")?))
}

fn kib(status: &str, name: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

/// One scrape, as text.
pub(crate) struct Metrics(String);

impl From<&str> for Metrics {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Metrics {
    /// Every series, its name with its labels, and its value.
    pub(crate) fn series(&self) -> impl Iterator<Item = (&str, f64)> {
        let samples = self.0.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series, value.parse().ok()?))
        })
    }

    /// The value of a metric, or the sum over its labels.
    pub(crate) fn get(&self, name: &str) -> Result<f64> {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labels) => labels.rsplit_once("} ")?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.parse::<f64>().ok()
        });
        values.reduce(|sum, value| sum + value).with_context(|| format!("no metric {name}"))
    }

    /// The value of a metric with this label alone.
    pub(crate) fn get_labelled(&self, name: &str, label: &str, value: &str) -> Option<f64> {
        let series = format!("{name}{{{label}=\"{value}\"}} ");
        self.0.lines().find_map(|line| line.strip_prefix(series.as_str())?.parse().ok())
    }

    /// What it counted, and what it lost.
    pub(crate) fn accounting(&self) -> Result<(Count, Count)> {
        let count = |of: &str| -> Result<Count> {
            let part = |unit| self.get(&format!("orb8_agent_{of}_{unit}_total"));
            Ok(Count { packets: part("packets")? as u64, bytes: part("bytes")? as u64 })
        };
        Ok((count("counted")?, count("lost")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_metrics_with_and_without_labels() {
        let metrics = Metrics(
            "# TYPE a_total counter\na_total 3\na_total_b 4\nc{x=\"1\"} 0.5\nc{x=\"2 3\"} 1.5\n# EOF\n"
                .to_owned(),
        );
        assert_eq!(metrics.get("a_total").ok(), Some(3.0));
        assert_eq!(metrics.get("c").ok(), Some(2.0));
        assert_eq!(metrics.get_labelled("c", "x", "2 3"), Some(1.5));
        assert_eq!(metrics.get_labelled("c", "x", "2"), None);
        assert!(metrics.get("a").is_err());
    }

    #[test]
    fn maps_are_told_from_programs() {
        let (ring, program) = ("map_type:\t27\nmemlock:\t4096\nmap_id:\t9\n", "memlock:\t4096\n");
        assert_eq!(map(ring), Some((9, 4096)));
        assert_eq!(map(program), None);
    }

    #[test]
    fn reads_memory_from_the_status_file() {
        let status = "Name:\torb8-agent\nVmHWM:\t   23552 kB\nVmRSS:\t   20480 kB\n";
        assert_eq!(kib(status, "VmRSS:"), Some(20_480.0));
        assert_eq!(kib(status, "VmSwap:"), None);
    }
}
