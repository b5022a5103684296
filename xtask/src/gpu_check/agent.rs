//! An agent that observes accelerators alone, and its answers.

use std::{
    fs,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use orb8_proto::v1::{
    GpuActivity, GpuDevice, GpuProcess, GpuWatching, QueryGpuRequest, QueryGpuResponse,
    orbit_agent_service_client::OrbitAgentServiceClient,
};
use tempfile::TempDir;
use tonic::transport::Endpoint;

use crate::bench::agent;

/// How long starting, attaching and stopping may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long its own cost is measured.
const WATCHED: Duration = Duration::from_secs(10);

/// A running agent. Dropping it ends it.
pub(super) struct Agent {
    child: Child,
    directory: TempDir,
    runtime: tokio::runtime::Runtime,
}

/// What it costs by itself.
pub(super) struct Cost {
    /// Of a core.
    pub(super) cpu: f64,
    /// MiB.
    pub(super) resident: f64,
    pub(super) watching: GpuWatching,
}

impl Agent {
    /// Starts it with its defaults, and waits until it has read the devices.
    pub(super) fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let child = Command::new(agent::binary()?)
            .args(["--signals", "gpu", "--listen", "off", "--admin-listen", "off"])
            .args(["--kubernetes", "off", "--log", "warn"])
            .arg("--socket")
            .arg(directory.path().join("agent.sock"))
            .spawn()
            .context("starting the agent")?;
        let mut agent = Self { child, directory, runtime };
        let start = Instant::now();
        while agent.ask().map_or(0, |answer| answer.devices.len()) == 0 {
            if let Some(status) = agent.child.try_wait()? {
                bail!("the agent ended: {status}");
            }
            ensure!(start.elapsed() < PATIENCE, "the agent knows no device within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(agent)
    }

    pub(super) fn devices(&self) -> Result<Vec<GpuDevice>> {
        // A second reading has what is found by difference.
        thread::sleep(Duration::from_secs(3));
        Ok(self.ask()?.devices)
    }

    pub(super) fn processes(&self) -> Result<Vec<GpuProcess>> {
        Ok(self.ask()?.processes)
    }

    /// What a process did; nothing before its first call that was seen.
    pub(super) fn activity(&self, pid: u32) -> Result<GpuActivity> {
        let activity = self.ask()?.activity;
        Ok(activity.into_iter().find(|of| of.pid == pid).unwrap_or_default())
    }

    /// Waits until processes' calls are seen, or the agent says why they are not.
    pub(super) fn wait_for_probes(&self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let watching = self.ask()?.watching.unwrap_or_default();
            if watching.probes > 0 && watching.processes > 0 {
                return Ok(());
            }
            ensure!(
                start.elapsed() < patience,
                "no probe is attached within {patience:?}: {}",
                watching.problems.join("; ")
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Measures it for some seconds.
    pub(super) fn cost(&self) -> Result<Cost> {
        let before = self.cpu()?;
        thread::sleep(WATCHED);
        let cpu = (self.cpu()? - before).as_secs_f64() / WATCHED.as_secs_f64();
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|kib| kib.trim().strip_suffix("kB")?.trim().parse().ok());
        let resident: f64 = resident.context("the agent's memory is not in its status")?;
        let watching = self.ask()?.watching.unwrap_or_default();
        Ok(Cost { cpu, resident: resident / 1024.0, watching })
    }

    fn cpu(&self) -> Result<Duration> {
        Ok(clock_gettime(clock_getcpuclockid(self.pid())?)?.into())
    }

    fn ask(&self) -> Result<QueryGpuResponse> {
        let uri = format!("unix://{}", self.directory.path().join("agent.sock").display());
        self.runtime.block_on(async {
            let channel = Endpoint::from_shared(uri)?.connect().await?;
            let mut client = OrbitAgentServiceClient::new(channel);
            Ok(client.query_gpu(QueryGpuRequest::default()).await?.into_inner())
        })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        agent::end(&mut self.child);
    }
}
