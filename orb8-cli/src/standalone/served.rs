//! A whole agent in this process, whom others can ask at a socket.

use std::path::{Path, PathBuf};

use orb8_agent::agent;
use orb8_agent::config::settings::SETTINGS;
use orb8_agent::config::{Environment, RawConfig};
use orb8_proto::v1::orbit_agent_service_client::OrbitAgentServiceClient;
use orb8_proto::v1::{QueryGpuRequest, QueryGpuResponse};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::error::CliError;

/// A running agent.
pub(crate) struct Served {
    /// Absent once it was seen to have ended.
    task: Option<JoinHandle<Result<(), orb8_agent::AgentError>>>,
    shutdown: CancellationToken,
}

impl Served {
    /// Starts one with settings by their names, whatever the environment and the agent's file say.
    pub(crate) async fn start(settings: &[(&'static str, String)]) -> Result<Self, CliError> {
        let set = |raw: RawConfig, (name, value): &(&str, String)| match SETTINGS
            .iter()
            .find(|setting| setting.name == *name)
        {
            Some(setting) => raw.with(*setting, value),
            None => raw,
        };
        let raw = settings.iter().fold(RawConfig::default(), set);
        let config = raw
            .load(&Environment::of_machine())
            .map_err(|errors| CliError::Usage(errors.to_string()))?;
        let shutdown = CancellationToken::new();
        let socket = config.api.socket.clone();
        let mut task = tokio::spawn(agent::run(config, shutdown.clone()));
        // It listens before it starts anything.
        while !socket.as_deref().is_some_and(Path::exists) {
            tokio::select! {
                ended = &mut task => return Err(end_of(ended)),
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
            }
        }
        Ok(Self { task: Some(task), shutdown })
    }

    /// Ends it, and detaches.
    pub(crate) async fn shutdown(self) {
        self.shutdown.cancel();
        // Why it ended is told where it is asked, and it is asked no more.
        if let Some(task) = self.task {
            let _ = task.await;
        }
    }

    /// Returns why it ended, if it did.
    pub(crate) async fn failure(&mut self) -> Option<CliError> {
        let task = self.task.take_if(|task| task.is_finished())?;
        Some(end_of(task.await))
    }
}

fn end_of(ended: Result<Result<(), orb8_agent::AgentError>, tokio::task::JoinError>) -> CliError {
    match ended {
        Ok(Ok(())) => CliError::Failed("the agent ended".to_owned()),
        Ok(Err(error)) => error.into(),
        Err(error) => CliError::Failed(format!("the agent failed: {error}")),
    }
}

/// Asks an agent at a socket for its accelerators.
pub(crate) async fn gpu(socket: &Path) -> Result<QueryGpuResponse, CliError> {
    let ask = async {
        let channel =
            Endpoint::from_shared(format!("unix://{}", socket.display()))?.connect().await?;
        let mut client = OrbitAgentServiceClient::new(channel);
        let answer = client.query_gpu(QueryGpuRequest::default()).await?;
        Ok::<_, Box<dyn std::error::Error>>(answer.into_inner())
    };
    ask.await.map_err(|error| CliError::Failed(format!("the agent does not answer: {error}")))
}

/// Returns where the cgroup v2 hierarchy is.
pub(crate) fn cgroup_mount() -> Option<PathBuf> {
    Environment::of_machine().cgroup_mount
}
