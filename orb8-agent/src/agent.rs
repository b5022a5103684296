//! The wiring diagram: nothing else knows everyone.
//!
//! ```text
//! preflight ─▶ attach (plan) ─▶ FlowObject ─▶ Attacher ─▶ cgroup, interfaces
//!                                  └─▶ FlowSource ─▶ Pipeline ─▶ api
//!                                          └─▶ StatusBoard ─▶ api
//! ```
//! In time: look at the machine ([`Prepared`]), bind and answer ([`Api`]), attach ([`Agent`]).

use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Api, Tasks},
    attach::{self, Attacher, Plan},
    config::{AttachStrategy, Config},
    ebpf::{FlowObject, FlowOptions},
    error::{AgentError, chain},
    pipeline::{self, LocalAddresses, Pipeline, SharedPipeline},
    preflight::Preflight,
    sources::flow::{self, DrainRequests, FlowSource, SharedObject},
    status::{SourceState, SourceStatus, StatusBoard},
};

/// Runs a daemon until `shutdown` is cancelled or a listener fails.
///
/// # Errors
/// What [`Prepared::new`], [`Api::build`] and [`Prepared::start`] say, and what ends a listener.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), AgentError> {
    let prepared = Prepared::new(&config)?;
    // First, so that a port in use fails before anything is attached, and `/readyz` answers while
    // programs load.
    let api = Api::build(&config, prepared.pipeline(), prepared.board()).await?;
    let tasks = api.run(&shutdown);
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
        let (cancel, tasks) = (CancellationToken::new(), JoinSet::new());
        let mut agent = Agent { pipeline, board, cancel, tasks, flows: None };
        let started = agent.start_flows(config, &preflight, addresses).await;
        // Reading the kernel's types takes megabytes that are not needed again.
        drop(preflight);
        crate::ebpf::release_free_memory();
        if let Err(error) = started {
            let reason = chain(&error);
            let state = SourceState::Skipped { reason: reason.clone() };
            let skipped = SourceStatus { name: flow::NAME, state };
            agent.board.update(|status| status.sources = vec![skipped]);
            agent.stop().await;
            return Err(match error {
                AgentError::NothingToRun { .. } => error,
                _ => AgentError::NothingToRun { reasons: vec![format!("flow: {reason}")] },
            });
        }
        Ok(agent)
    }
}

/// A running engine: programs attached, records drained, flows held.
pub struct Agent {
    pipeline: SharedPipeline,
    board: StatusBoard,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
    flows: Option<DrainRequests>,
}

impl Agent {
    /// Takes in what was counted until now, without waiting for the next drain.
    pub async fn drain(&self) {
        if let Some(flows) = &self.flows {
            flows.drain().await;
        }
    }

    /// Waits until a task ends that should not.
    async fn failure(&mut self) -> AgentError {
        let reason = match self.tasks.join_next().await {
            Some(Err(error)) => format!("flow: {error}"),
            Some(Ok(())) => "flow: a task ended".to_owned(),
            None => return std::future::pending().await,
        };
        let state = SourceState::Skipped { reason: reason.clone() };
        self.board.update(|status| status.sources = vec![SourceStatus { name: flow::NAME, state }]);
        AgentError::NothingToRun { reasons: vec![reason] }
    }

    /// Detaches, takes in what was counted until then, and ends the tasks.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task failed");
            }
        }
    }

    async fn start_flows(
        &mut self,
        config: &Config,
        preflight: &Preflight,
        addresses: LocalAddresses,
    ) -> Result<(), AgentError> {
        preflight.memory(config.flow_table_size)?;
        let plan = attach::decide(config, &preflight.features)?;
        let (object, attacher) = match self.attach(config, preflight, plan, &addresses).await {
            // A container that may not attach to the root cgroup can still see interfaces.
            Err(error) if config.attach == AttachStrategy::Auto => {
                let reason = format!("the socket hook failed: {}", chain(&error));
                tracing::warn!(reason, "falling back to the interface hook");
                let plan = Plan { sockets: false, interfaces: true, reason };
                self.attach(config, preflight, plan, &addresses).await?
            }
            attached => attached?,
        };
        let source = FlowSource::build(
            object,
            config.ring_buffer_size,
            config.drain_interval,
            Arc::clone(&self.pipeline),
            self.board.clone(),
        )?;
        self.flows = Some(source.drain_requests());
        self.tasks.spawn(source.run(self.cancel.child_token()));
        self.tasks.spawn(attacher.run(self.cancel.child_token()));
        let running = SourceStatus { name: flow::NAME, state: SourceState::Running };
        self.board.update(|status| status.sources = vec![running]);
        Ok(())
    }

    async fn attach(
        &self,
        config: &Config,
        preflight: &Preflight,
        plan: Plan,
        addresses: &LocalAddresses,
    ) -> Result<(SharedObject, Attacher), AgentError> {
        let both = plan.sockets && plan.interfaces;
        let options = FlowOptions {
            table_size: config.flow_table_size,
            ring_size: config.ring_buffer_size,
            socket_storage: plan.sockets,
            leave_to: config.cgroup_root.as_deref().filter(|_| both).and_then(attach::hook_cgroup),
        };
        let object = FlowObject::load(&options, &preflight.features, preflight.btf.as_ref())
            .map_err(AgentError::ebpf("load the flow programs"))?;
        let object = Arc::new(Mutex::new(object));
        pipeline::lock(&self.pipeline).set_both_hooks(both);
        let (addresses, board) = (addresses.clone(), self.board.clone());
        let attacher = Attacher::start(Arc::clone(&object), plan, config, addresses, board).await?;
        Ok((object, attacher))
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
        config.attach = AttachStrategy::Cgroup;
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
