//! The wiring diagram: nothing else knows everyone.
//!
//! ```text
//! preflight ─▶ start ─▶ FlowObject ─▶ FlowSource ─┐
//!                │      DnsObject ──▶ DnsSource ──┼─▶ Pipeline ─▶ api, otlp
//!                │      TcpObject ──▶ TcpSource ──┤      ▲
//!                │      Collector ──▶ GpuSource ──┘      │
//!                ├────▶ Attacher ─▶ cgroup, interfaces   │   StatusBoard ─▶ api
//!                └────▶ Kubernetes ─▶ watches ─▶ Index ──┘
//! ```
//! In time: look at the machine ([`Prepared`]), bind and answer ([`Api`]), attach ([`Agent`]).

mod kubernetes;
mod start;

use std::{collections::HashMap, sync::Arc};

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Api, Tasks},
    config::Config,
    error::AgentError,
    event::Signal,
    hubble::Hubble,
    otlp::{Export, Otlp},
    pipeline::{LocalAddresses, Pipeline, SharedPipeline},
    preflight::Preflight,
    sources::DrainRequests,
    status::{SourceStatus, StatusBoard},
};
use start::Start;

/// Runs a daemon until `shutdown` is cancelled or a listener fails.
///
/// # Errors
/// What [`Prepared::new`], [`Api::build`] and [`Prepared::start`] say, and what ends a listener.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), AgentError> {
    let prepared = Prepared::new(&config)?;
    // First, so that a port in use fails before anything is attached, and `/readyz` answers while
    // programs load.
    let api = Api::build(&config, prepared.pipeline(), prepared.board()).await?;
    let hubble = Hubble::build(&config, prepared.pipeline(), prepared.board()).await?;
    let mut tasks = api.run(&shutdown);
    if let Some(hubble) = hubble {
        hubble.run(&shutdown, &mut tasks);
    }
    match prepared.start(&config).await {
        Ok(mut agent) => {
            let served = tokio::select! {
                served = end_of(tasks, &shutdown) => served,
                // An agent that answers and counts nothing would go unnoticed.
                failed = agent.failure() => Err(failed),
            };
            shutdown.cancel();
            agent.stop().await;
            served
        }
        Err(error) => {
            shutdown.cancel();
            end_of(tasks, &shutdown).await.and(Err(error))
        }
    }
}

async fn end_of(mut tasks: Tasks, shutdown: &CancellationToken) -> Result<(), AgentError> {
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.unwrap_or_else(|error| {
            Err(AgentError::io("serve the API")(std::io::Error::other(error)))
        });
        // One listener that fails takes the others along: half an agent would go unnoticed.
        shutdown.cancel();
        result = result.and(ended);
    }
    result
}

/// An engine that has looked at its machine and attached nothing. The API can be built on it.
pub struct Prepared {
    preflight: Preflight,
    pipeline: SharedPipeline,
    board: StatusBoard,
    addresses: LocalAddresses,
}

impl Prepared {
    /// Looks at the machine.
    ///
    /// # Errors
    /// [`AgentError::MissingPrivileges`].
    pub fn new(config: &Config) -> Result<Self, AgentError> {
        crate::ebpf::return_large_buffers();
        let preflight = Preflight::run();
        preflight.privileges()?;
        let board = StatusBoard::default();
        board.update(|status| {
            status.kernel.clone_from(&preflight.kernel);
            status.checks = preflight.checks(config.cgroup_root.as_deref());
        });
        let addresses = LocalAddresses::default();
        let pipeline = Pipeline::new(config, addresses.clone()).shared();
        Ok(Self { preflight, pipeline, board, addresses })
    }

    /// What the API reads.
    #[must_use]
    pub fn pipeline(&self) -> SharedPipeline {
        Arc::clone(&self.pipeline)
    }

    /// What the engine says of itself.
    #[must_use]
    pub fn board(&self) -> StatusBoard {
        self.board.clone()
    }

    /// Loads, attaches, and starts to deliver. Call it within a runtime.
    ///
    /// # Errors
    /// [`AgentError::NothingToRun`] when no source runs.
    pub async fn start(self, config: &Config) -> Result<Agent, AgentError> {
        let Self { preflight, pipeline, board, addresses } = self;
        let export = Otlp::build(config, Arc::clone(&pipeline), board.clone())?;
        let mut start = Start::new(config, preflight, pipeline, board, addresses);
        let started = start.all().await;
        // Reading the kernel's types takes megabytes that are not needed again.
        let mut agent = start.finish();
        agent.export = export.filter(|_| started.is_ok()).map(Otlp::start);
        crate::ebpf::release_free_memory();
        match started {
            Ok(()) => Ok(agent),
            Err(error) => {
                agent.stop().await;
                Err(error)
            }
        }
    }
}

/// A running engine: programs attached, records drained, flows held.
pub struct Agent {
    board: StatusBoard,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
    /// Which signal a task serves; one that serves all of them is not here.
    names: HashMap<Id, Signal>,
    drains: Vec<DrainRequests>,
    export: Option<Export>,
}

impl Agent {
    /// Takes in what was counted until now, without waiting for the next drain.
    pub async fn drain(&self) {
        for source in &self.drains {
            source.drain().await;
        }
    }

    /// Waits until no source is left, or what serves all of them ends.
    async fn failure(&mut self) -> AgentError {
        loop {
            let ended = self.tasks.join_next_with_id().await;
            let (id, reason) = match ended {
                Some(Ok((id, ()))) => (id, "its task ended".to_owned()),
                Some(Err(error)) => (error.id(), error.to_string()),
                None => return std::future::pending().await,
            };
            let Some(signal) = self.names.remove(&id) else {
                return AgentError::NothingToRun { reasons: vec![reason] };
            };
            tracing::error!(signal = signal.name(), reason, "a source ended");
            let skipped = SourceStatus::skipped(signal, reason);
            self.board.update(|status| status.set_source(skipped));
            let status = self.board.read();
            if !status.is_ready() {
                return AgentError::NothingToRun { reasons: status.not_ready() };
            }
        }
    }

    /// Detaches, takes in what was counted until then, and ends the tasks.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task failed");
            }
        }
        // Last, so that what was counted until then goes out too.
        if let Some(export) = self.export {
            export.stop().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_fails_before_anything_is_attached() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::in_process().unwrap();
        config.api.listen = Some(taken.local_addr().unwrap());
        // Attaching would fail too, and differently.
        config.attach = crate::config::AttachStrategy::Cgroup;
        config.cgroup_root = Some("/nonexistent".into());
        match run(config, CancellationToken::new()).await.unwrap_err() {
            AgentError::AddressInUse { .. } => {}
            AgentError::MissingPrivileges { missing, .. } => {
                println!("SKIPPED: missing {}", missing.join(", "));
            }
            error => panic!("{error:?}"),
        }
    }
}
