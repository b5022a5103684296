//! The stand-in for the engine where it is not built in.

use std::convert::Infallible;

use tonic::transport::Channel;

use crate::error::CliError;

/// No flags.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct EngineArgs {}

/// Never there.
pub(crate) struct Engine(Infallible);

impl Engine {
    pub(crate) async fn start(_: &EngineArgs) -> Result<Self, CliError> {
        Err(CliError::Unavailable {
            problem: "no agent answers, and this orb8 was built without an engine".to_owned(),
            remedy: "name an agent with --agent HOST:PORT, or use a build for Linux with the \
                     `standalone` feature"
                .to_owned(),
        })
    }

    pub(crate) fn channel(&self) -> Channel {
        match self.0 {}
    }

    pub(crate) async fn drain(&self) {
        match self.0 {}
    }

    pub(crate) async fn shutdown(self) {
        match self.0 {}
    }
}

/// Looks at what the engine would need.
pub(crate) fn checks() -> Result<Vec<orb8_proto::v1::Check>, CliError> {
    Err(CliError::Unavailable {
        problem: "no agent answers, and this orb8 was built without an engine to check for"
            .to_owned(),
        remedy: "name an agent with --agent HOST:PORT".to_owned(),
    })
}
