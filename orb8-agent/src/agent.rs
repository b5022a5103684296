//! The wiring diagram: nothing else knows everyone.
//!
//! ```text
//! preflight ─▶ attach (plan) ─▶ FlowObject ─▶ Attacher ─▶ cgroup, interfaces
//!                                  └─▶ FlowSource ─▶ Pipeline ─▶ api
//!                                          └─▶ StatusBoard ─▶ api
//! ```

use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    api::Api,
    attach::{self, Attacher, Plan},
    config::{AttachStrategy, Config},
    ebpf::{FlowObject, FlowOptions},
    error::{AgentError, chain},
    pipeline::{self, LocalAddresses, Pipeline, SharedPipeline},
    preflight::Preflight,
    sources::flow::{self, FlowSource, SharedObject},
    status::{SourceState, SourceStatus, StatusBoard},
};

/// Runs a daemon until `shutdown` is cancelled or a listener fails.
///
/// # Errors
/// What [`Agent::start`] and [`Api::build`] say, and what ends a listener.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), AgentError> {
    let agent = Agent::start(&config).await?;
    let served = serve(&config, &agent, &shutdown).await;
    agent.stop().await;
    served
}

async fn serve(
    config: &Config,
    agent: &Agent,
    shutdown: &CancellationToken,
) -> Result<(), AgentError> {
    let api = Api::build(config, Arc::clone(&agent.pipeline), agent.board.clone()).await?;
    let mut tasks = api.run(shutdown);
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

/// A running engine: programs attached, records drained, flows held. Nothing listens yet.
pub struct Agent {
    pipeline: SharedPipeline,
    board: StatusBoard,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Agent {
    /// Starts everything but the listeners. Call it within a runtime.
    ///
    /// # Errors
    /// [`AgentError::MissingPrivileges`], or [`AgentError::NothingToRun`] when no source runs.
    pub async fn start(config: &Config) -> Result<Self, AgentError> {
        let preflight = Preflight::run();
        preflight.privileges()?;
        let board = StatusBoard::default();
        board.update(|status| {
            status.kernel.clone_from(&preflight.kernel);
            status.checks = preflight.checks(config.cgroup_root.as_deref());
        });
        let addresses = LocalAddresses::default();
        let pipeline = Pipeline::new(config, addresses.clone()).shared();
        let mut agent =
            Self { pipeline, board, cancel: CancellationToken::new(), tasks: JoinSet::new() };
        let started = agent.start_flows(config, &preflight, addresses).await;
        // Reading the kernel's types takes megabytes that are not needed again.
        drop(preflight);
        crate::ebpf::release_free_memory();
        if let Err(error) = started {
            let reason = chain(&error);
            tracing::error!(source = flow::NAME, reason, "skipped");
            agent.stop().await;
            return Err(match error {
                AgentError::NothingToRun { .. } => error,
                _ => AgentError::NothingToRun { reasons: vec![format!("flow: {reason}")] },
            });
        }
        Ok(agent)
    }

    /// What the API reads.
    #[must_use]
    pub const fn pipeline(&self) -> &SharedPipeline {
        &self.pipeline
    }

    /// What the engine says of itself.
    #[must_use]
    pub const fn board(&self) -> &StatusBoard {
        &self.board
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
            leave_owned: both,
        };
        let object = FlowObject::load(&options, &preflight.features, preflight.btf.as_ref())
            .map_err(AgentError::ebpf("load the flow programs"))?;
        let object = Arc::new(Mutex::new(object));
        pipeline::lock(&self.pipeline).set_both_hooks(both);
        let (addresses, board) = (addresses.clone(), self.board.clone());
        let attacher =
            Attacher::start(Arc::clone(&object), plan, config, addresses, board).await?;
        Ok((object, attacher))
    }
}
