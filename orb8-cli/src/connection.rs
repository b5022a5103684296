//! Finding someone who answers: the agent that is named, one of this machine, or the engine here.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use orb8_proto::v1::orbit_agent_service_client::OrbitAgentServiceClient;
use orb8_proto::v1::{GetStatusRequest, GetStatusResponse, SourceState};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::args::GlobalArgs;
use crate::cause::Cause;
use crate::console::Console;
use crate::error::{CliError, innermost};
use crate::replay::{Pace, Replay};
use crate::standalone::{Engine, EngineArgs};
use crate::time::{Since, now_ns};

mod target;

pub(crate) use target::Target;

/// How long an agent of this machine may take to say that it is one.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How often an idle connection is checked, so that a node that died is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A question to a recording may be about all of it.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(3600);

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

/// What a connection is asked through.
pub(crate) type Client = OrbitAgentServiceClient<Channel>;

/// What is asked about, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topic {
    /// The command, without the program's name.
    pub(crate) command: &'static str,
    /// The signal's name among the agent's sources.
    pub(crate) signal: &'static str,
}

/// Someone who answers.
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// Who it is, for messages.
    pub(crate) name: String,
    timeout: Duration,
    /// Whether it speaks TLS.
    tls: bool,
    /// Whether it has answered anything: who hangs up before may not be an agent at all.
    heard: bool,
    engine: Option<Engine>,
    replay: Option<Replay>,
    /// What time it is there, Unix time in nanoseconds, and where its clock hangs.
    now_ns: Arc<dyn Fn() -> u64 + Send + Sync>,
    time_zone: TimeZone,
}

impl Connection {
    /// Finds someone who answers.
    pub(crate) async fn open(
        global: &GlobalArgs,
        fallback: Fallback<'_>,
        console: &mut Console,
    ) -> Result<Self, CliError> {
        let mut connection = Self::find(global, fallback, console).await?;
        connection.now_ns = Arc::clone(&console.now_ns);
        connection.time_zone = console.time_zone.clone();
        Ok(connection)
    }

    async fn find(
        global: &GlobalArgs,
        fallback: Fallback<'_>,
        console: &mut Console,
    ) -> Result<Self, CliError> {
        if let Some(path) = &global.replay {
            return Self::replay(path, global, console).await;
        }
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

    /// Whether a recording answers.
    pub(crate) const fn is_replay(&self) -> bool {
        self.replay.is_some()
    }

    /// Returns a moment as Unix time in nanoseconds: of a recording, as seen from its own time.
    pub(crate) fn moment(&self, since: Since) -> u64 {
        since.unix_ns((self.now_ns)(), &self.time_zone)
    }

    /// Returns the end of what began at a time: a time of day that the clock has not shown yet may be
    /// one of the same day.
    pub(crate) fn moment_after(&self, moment: Since, begin: u64) -> u64 {
        moment.unix_ns_after(begin, (self.now_ns)(), &self.time_zone)
    }

    /// Returns how long an answer may take.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Says why a signal does not run, by what the agent says of itself.
    pub(crate) fn absence(&self, signal: &str, status: &GetStatusResponse) -> Option<String> {
        absence(signal, status)
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

    /// Takes an answer about a signal apart, with what of the signal does not run. An agent that does
    /// not run any of it has nothing to tell, and its status says why.
    pub(crate) async fn heard_of<T>(
        &mut self,
        topic: Topic,
        answer: Result<Response<T>, Status>,
    ) -> Result<(T, Option<String>), CliError> {
        // Where the connection failed, nobody is there to say why.
        let refusal =
            answer.as_ref().err().map(|status| (status.code(), status.source().is_some()));
        let answer = self.heard(answer);
        if let Some((Code::InvalidArgument | Code::DeadlineExceeded, _) | (_, true)) = refusal {
            return answer.map(|answer| (answer, None));
        }
        let Ok(status) = self.status().await else {
            return answer.map(|answer| (answer, None));
        };
        let is_unknown = refusal.is_some_and(|(code, _)| code == Code::Unimplemented);
        match Presence::of(topic.signal, &status) {
            Presence::Absent(_) if is_unknown => {
                Err(CliError::unknown_signal(topic, &self.name, &status.version))
            }
            Presence::Absent(reason) => Err(CliError::not_running(topic, &self.name, &reason)),
            Presence::Running(missing) => answer.map(|answer| (answer, missing)),
        }
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

    async fn replay(
        path: &Path,
        global: &GlobalArgs,
        console: &mut Console,
    ) -> Result<Self, CliError> {
        let pace = match (global.is_live, global.replay_speed) {
            (true, speed) => Pace::Times(speed.unwrap_or(1.0)),
            (false, _) => Pace::Over,
        };
        let replay = Replay::open(path, pace).await?;
        if let Some(warning) = &replay.warning {
            console.warn(warning);
        }
        let clock = replay.clock.clone();
        console.now_ns = Arc::new(move || clock.now());
        let name = format!("the recording {}", path.display());
        let connection = Self::new(replay.channel.clone(), name, global);
        Ok(Self { timeout: REPLAY_TIMEOUT, heard: true, replay: Some(replay), ..connection })
    }

    fn new(channel: Channel, name: String, global: &GlobalArgs) -> Self {
        Self {
            client: client(channel),
            name,
            timeout: global.timeout,
            tls: false,
            heard: false,
            engine: None,
            replay: None,
            now_ns: Arc::new(now_ns),
            time_zone: TimeZone::UTC,
        }
    }

    async fn embed(args: &EngineArgs, global: &GlobalArgs) -> Result<Self, CliError> {
        let engine = Engine::start(args).await?;
        let name = "the engine in this process".to_owned();
        let channel = engine.channel();
        Ok(Self { heard: true, engine: Some(engine), ..Self::new(channel, name, global) })
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
        Ok(Self { tls: target.speaks_tls(global), ..Self::new(channel, name, global) })
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

/// Says why an agent does not run a signal, by what it says of itself.
pub(crate) fn absence(signal: &str, status: &GetStatusResponse) -> Option<String> {
    match Presence::of(signal, status) {
        Presence::Absent(reason) => Some(reason),
        Presence::Running(_) => None,
    }
}

/// Whether an agent runs a signal, by what it says of itself.
enum Presence {
    /// It does, perhaps but for something.
    Running(Option<String>),
    /// It does not, and this is why.
    Absent(String),
}

impl Presence {
    fn of(signal: &str, status: &GetStatusResponse) -> Self {
        let sources = &status.sources;
        match sources.iter().find(|source| source.name == signal) {
            Some(source)
                if matches!(source.state(), SourceState::Skipped | SourceState::Absent) =>
            {
                Self::Absent(source.reason.clone())
            }
            Some(source) => Self::Running(Some(source.reason.clone()).filter(|it| !it.is_empty())),
            None if sources.is_empty() => Self::Running(None),
            None => {
                let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
                Self::Absent(format!("it runs {} only; --signals chooses", names.join(" and ")))
            }
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

fn client(channel: Channel) -> Client {
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
