//! Finding someone who answers: the agent that is named, one of this machine, or the engine here.

use std::time::Duration;

use orb8_proto::v1::orbit_agent_service_client::OrbitAgentServiceClient;
use orb8_proto::v1::{GetStatusRequest, GetStatusResponse};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::args::GlobalArgs;
use crate::cause::Cause;
use crate::console::Console;
use crate::error::{CliError, innermost};
use crate::standalone::{Engine, EngineArgs};

mod target;

pub(crate) use target::Target;

/// How long an agent of this machine may take to say that it is one.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How often an idle connection is checked, so that a node that died is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Answers with thousands of flows exceed tonic's default of 4 MiB.
const MAX_ANSWER: usize = 256 << 20;

/// What a command does where no agent answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback<'a> {
    /// It runs the engine.
    Engine(&'a EngineArgs),
    /// It cannot do without.
    None,
}

/// Someone who answers.
pub(crate) struct Connection {
    pub(crate) client: OrbitAgentServiceClient<Channel>,
    /// Who it is, for messages.
    pub(crate) name: String,
    timeout: Duration,
    /// Whether it speaks TLS.
    tls: bool,
    /// Whether it has answered anything: who hangs up before may not be an agent at all.
    heard: bool,
    engine: Option<Engine>,
}

impl Connection {
    /// Finds someone who answers.
    pub(crate) async fn open(
        global: &GlobalArgs,
        fallback: Fallback<'_>,
        console: &mut Console,
    ) -> Result<Self, CliError> {
        if let Fallback::Engine(args) = fallback
            && global.standalone
        {
            return Self::embed(args, global).await;
        }
        if let Some(target) = &global.agent {
            return Self::named(target, global, fallback).await;
        }
        let mut tried = Vec::new();
        for address in &console.local_agents {
            let target = Target::parse(address).map_err(CliError::Usage)?;
            match Self::local(&target, global).await {
                Ok(connection) => return Ok(connection),
                Err(problem) => tried.push(problem),
            }
        }
        match fallback {
            Fallback::None => Err(no_agent(&tried)),
            Fallback::Engine(args) => {
                Self::embed(args, global).await.map_err(|error| with_refusals(error, &tried))
            }
        }
    }

    /// Whether the engine runs in this process.
    pub(crate) const fn is_standalone(&self) -> bool {
        self.engine.is_some()
    }

    /// Makes a request that gives up after `--timeout`.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    pub(crate) async fn status(&mut self) -> Result<GetStatusResponse, CliError> {
        let request = self.request(GetStatusRequest {});
        let answer = self.client.get_status(request).await;
        self.heard(answer)
    }

    /// Takes an answer apart.
    pub(crate) fn heard<T>(&mut self, answer: Result<Response<T>, Status>) -> Result<T, CliError> {
        let answer = answer.map(Response::into_inner).map_err(|status| self.error(&status))?;
        self.heard = true;
        Ok(answer)
    }

    /// Wraps what was answered instead of what was asked for.
    pub(crate) fn error(&self, status: &Status) -> CliError {
        CliError::answered(&self.name, self.tls, self.heard, status)
    }

    /// A stream that should have gone on.
    pub(crate) fn ended(&self) -> CliError {
        CliError::ended(&self.name)
    }

    /// Has the engine take in what was counted until now, where it runs here.
    pub(crate) async fn drain(&self) {
        if let Some(engine) = &self.engine {
            engine.drain().await;
        }
    }

    /// Ends the connection, and the engine where it runs here.
    pub(crate) async fn close(self) {
        drop(self.client);
        if let Some(engine) = self.engine {
            engine.shutdown().await;
        }
    }

    async fn embed(args: &EngineArgs, global: &GlobalArgs) -> Result<Self, CliError> {
        let engine = Engine::start(args).await?;
        Ok(Self {
            client: client(engine.channel()),
            name: "the engine in this process".to_owned(),
            timeout: global.timeout,
            tls: false,
            heard: true,
            engine: Some(engine),
        })
    }

    async fn named(
        target: &Target,
        global: &GlobalArgs,
        fallback: Fallback<'_>,
    ) -> Result<Self, CliError> {
        let endpoint = target.endpoint(global)?.http2_keep_alive_interval(KEEP_ALIVE);
        let name = format!("the agent at {target}");
        // Not the endpoint's own timeout, which ends where TLS begins.
        let channel = tokio::time::timeout(global.timeout, endpoint.connect())
            .await
            .map_err(|_| CliError::silent(&name))?
            .map_err(|error| unreachable_agent(target, global, fallback, &error))?;
        Ok(Self {
            client: client(channel),
            name,
            timeout: global.timeout,
            tls: target.speaks_tls(global),
            heard: false,
            engine: None,
        })
    }

    /// Connects and makes sure that it is an agent: others listen on 9090 too.
    async fn local(target: &Target, global: &GlobalArgs) -> Result<Self, Tried> {
        let failed =
            |reason: String, refused: bool| Tried { target: target.clone(), reason, refused };
        let connect = async {
            let mut connection =
                Self::named(target, global, Fallback::None).await.map_err(|error| {
                    let refused = matches!(error, CliError::NoPermission { .. });
                    failed(error.to_string(), refused)
                })?;
            let status = connection.client.get_status(GetStatusRequest {}).await;
            status.map_err(|_| failed("what answers is no orb8 agent".to_owned(), false))?;
            Ok(connection)
        };
        match tokio::time::timeout(LOCAL_TIMEOUT.min(global.timeout), connect).await {
            Ok(result) => result,
            Err(_) => Err(failed("what listens does not answer".to_owned(), false)),
        }
    }
}

/// An agent of this machine that does not answer.
#[derive(Debug)]
struct Tried {
    target: Target,
    reason: String,
    /// It may be there, but not for this user.
    refused: bool,
}

fn client(channel: Channel) -> OrbitAgentServiceClient<Channel> {
    OrbitAgentServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

fn unreachable_agent(
    target: &Target,
    global: &GlobalArgs,
    fallback: Fallback<'_>,
    error: &tonic::transport::Error,
) -> CliError {
    let reason = innermost(error);
    let cause = Cause::of(error);
    if cause == Cause::Denied {
        return CliError::NoPermission {
            problem: format!("the agent at {target} is not for this user: {reason}"),
            remedy: "run the command as the agent's user: sudo orb8 …".to_owned(),
        };
    }
    if let Some(remedy) = cause.remedy(target.speaks_tls(global)) {
        return CliError::Unavailable {
            problem: format!("the agent at {target} cannot be asked: {reason}"),
            remedy: remedy.to_owned(),
        };
    }
    let remedy = match (cause, fallback) {
        (Cause::Refused, _) if target.is_elsewhere() => {
            "an agent listens on loopback by default: start it with --listen ADDRESS:PORT and TLS, \
             or --insecure-listen; or correct --agent"
        }
        (_, Fallback::Engine(_)) => {
            "start one there (sudo orb8-agent), correct --agent, or do without: \
             sudo orb8 … --standalone"
        }
        (_, Fallback::None) => "start one there (sudo orb8-agent), or correct --agent",
    };
    CliError::Unavailable {
        problem: format!("no agent answers at {target}: {reason}"),
        remedy: remedy.to_owned(),
    }
}

fn no_agent(tried: &[Tried]) -> CliError {
    if let Some(refusal) = tried.iter().find(|tried| tried.refused) {
        return CliError::NoPermission {
            problem: format!("an agent may be at {}, but not for this user", refusal.target),
            remedy: "run the command as the agent's user: sudo orb8 …".to_owned(),
        };
    }
    let places: Vec<String> = tried.iter().map(|tried| tried.target.to_string()).collect();
    CliError::Unavailable {
        problem: format!("no agent answers at {}", places.join(" or ")),
        remedy: "start one (sudo orb8-agent) or name one (--agent HOST:PORT); `orb8 diagnose` \
                 shows what it would find here"
            .to_owned(),
    }
}

/// Who lacks the privileges for the engine may only lack those for the agent's socket.
fn with_refusals(error: CliError, tried: &[Tried]) -> CliError {
    let refusal = tried.iter().find(|tried| tried.refused);
    match (error, refusal) {
        (CliError::NoPermission { problem, remedy }, Some(refusal)) => CliError::NoPermission {
            problem: format!(
                "{}; here: {problem}",
                refusal.reason.lines().next().unwrap_or_default()
            ),
            remedy,
        },
        (error, _) => error,
    }
}
