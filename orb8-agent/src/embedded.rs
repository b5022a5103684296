//! The engine inside another process: what the daemon serves, without a listener.

use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    agent::Agent,
    api::{self, Tasks},
    config::Config,
    error::AgentError,
};

/// A running engine that only this process can ask.
pub struct Embedded {
    agent: Agent,
    channel: Channel,
    shutdown: CancellationToken,
    tasks: Tasks,
}

impl Embedded {
    /// Starts the engine. Its listeners, if the configuration has any, stay closed.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub async fn start(config: Config) -> Result<Self, AgentError> {
        let agent = Agent::start(&config).await?;
        let (shutdown, mut tasks) = (CancellationToken::new(), Tasks::new());
        let channel = api::connect_in_process(
            &config.node_name,
            agent.pipeline(),
            agent.board(),
            &shutdown,
            &mut tasks,
        );
        Ok(Self { agent, channel, shutdown, tasks })
    }

    /// Answers as the daemon does.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Detaches, and ends every stream.
    pub async fn shutdown(self) {
        let Self { agent, channel, shutdown, mut tasks } = self;
        drop(channel);
        agent.stop().await;
        shutdown.cancel();
        tasks.shutdown().await;
    }
}
