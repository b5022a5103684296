//! The engine inside another process: what the daemon serves, without a listener.

use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    agent::{Agent, Prepared},
    api::{Api, Tasks},
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
    /// As [`Prepared::new`] and [`Prepared::start`].
    pub async fn start(config: Config) -> Result<Self, AgentError> {
        let prepared = Prepared::new(&config)?;
        let mut api = Api::without_listeners(&config, prepared.pipeline(), prepared.board());
        let channel = api.connect();
        let agent = prepared.start(&config).await?;
        let shutdown = CancellationToken::new();
        let tasks = api.run(&shutdown);
        Ok(Self { agent, channel, shutdown, tasks })
    }

    /// Answers as the daemon does.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Takes in what was counted until now: it is in answers, and on every stream, when this returns.
    pub async fn drain(&self) {
        self.agent.drain().await;
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
