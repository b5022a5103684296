//! Finding someone who answers: the agent that is named, one of this machine, or the engine here.

use std::io;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use orb8_proto::v1::orbit_agent_service_client::OrbitAgentServiceClient;
use orb8_proto::v1::{GetStatusRequest, GetStatusResponse};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};
use tonic::{Request, Status};

use crate::args::GlobalArgs;
use crate::console::Console;
use crate::error::{CliError, innermost};
use crate::standalone::{Engine, EngineArgs};

/// The agent's port where none is given.
const DEFAULT_PORT: u16 = 9090;

/// How long an agent of this machine may take to say that it is one.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How often an idle connection is checked, so that a node that died is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Answers with thousands of flows exceed tonic's default of 4 MiB.
const MAX_ANSWER: usize = 256 << 20;

/// Where an agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `host:port`, `http://…` or `https://…`; `tls` is `None` where the flags decide.
    Tcp { authority: String, tls: Option<bool> },
    /// A socket of this machine.
    Unix(PathBuf),
}

impl Target {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "give HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:/PATH".to_owned();
        let unix = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
        if let Some(path) = unix.or_else(|| text.starts_with('/').then_some(text)) {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(false), rest),
            Some(("https", rest)) => (Some(true), rest),
            Some(_) => return Err(wrong()),
            None => (None, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let rest = match rest.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => rest.to_owned(),
        };
        let uri = format!("http://{rest}/").parse::<Uri>().map_err(|_| wrong())?;
        let colon = rest.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let bad_port = colon && uri.port_u16().is_none();
        if uri.path() != "/" || uri.host().is_none_or(str::is_empty) || bad_port {
            return Err(wrong());
        }
        let authority = match uri.port_u16() {
            Some(_) => rest,
            None => format!("{rest}:{DEFAULT_PORT}"),
        };
        Ok(Self::Tcp { authority, tls })
    }

    fn endpoint(&self, global: &GlobalArgs) -> Result<Endpoint, CliError> {
        let wants_tls = global.tls_ca.is_some() || global.tls_cert.is_some();
        let wrong = |error: tonic::transport::Error| CliError::Usage(format!("{self}: {error}"));
        match self {
            Self::Unix(path) => {
                Endpoint::from_shared(format!("unix://{}", path.display())).map_err(wrong)
            }
            Self::Tcp { tls: Some(false), .. } if wants_tls => Err(CliError::Usage(
                "--tls-ca and --tls-cert need an https:// agent, this one is http://".to_owned(),
            )),
            Self::Tcp { authority, tls } => {
                let tls = tls.unwrap_or(wants_tls);
                let scheme = if tls { "https" } else { "http" };
                let endpoint =
                    Endpoint::from_shared(format!("{scheme}://{authority}")).map_err(wrong)?;
                if tls {
                    endpoint.tls_config(tls_config(global)?).map_err(wrong)
                } else {
                    Ok(endpoint)
                }
            }
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { authority, tls: None } => f.write_str(authority),
            Self::Tcp { authority, tls: Some(false) } => write!(f, "http://{authority}"),
            Self::Tcp { authority, tls: Some(true) } => write!(f, "https://{authority}"),
        }
    }
}

fn tls_config(global: &GlobalArgs) -> Result<ClientTlsConfig, CliError> {
    let read = |path: &PathBuf| {
        std::fs::read(path)
            .map_err(|error| CliError::Usage(format!("cannot read {}: {error}", path.display())))
    };
    let Some(authority) = &global.tls_ca else {
        return Err(CliError::Usage(
            "a TLS agent needs --tls-ca, the authority of its certificate".to_owned(),
        ));
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(authority)?));
    if let (Some(certificate), Some(key)) = (&global.tls_cert, &global.tls_key) {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    if let Some(name) = &global.tls_server_name {
        tls = tls.domain_name(name);
    }
    Ok(tls)
}

/// What a command does where no agent answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback<'a> {
    /// It runs the engine.
    Engine(&'a EngineArgs),
    /// It cannot do without; `--standalone` still runs the engine.
    None(&'a EngineArgs),
}

/// Someone who answers.
pub(crate) struct Connection {
    pub(crate) client: OrbitAgentServiceClient<Channel>,
    /// Who it is, for messages.
    pub(crate) name: String,
    timeout: Duration,
    engine: Option<Engine>,
}

impl Connection {
    /// Finds someone who answers.
    pub(crate) async fn open(
        global: &GlobalArgs,
        fallback: Fallback<'_>,
        console: &mut Console,
    ) -> Result<Self, CliError> {
        let (Fallback::Engine(args) | Fallback::None(args)) = fallback;
        if global.standalone {
            return Self::embed(args, global).await;
        }
        if let Some(target) = &global.agent {
            return Self::named(target, global).await;
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
            Fallback::None(_) => Err(no_agent(&tried)),
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
        answer.map(tonic::Response::into_inner).map_err(|status| self.error(&status))
    }

    /// Wraps what was answered instead of what was asked for.
    pub(crate) fn error(&self, status: &Status) -> CliError {
        CliError::answered(&self.name, status)
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
            engine: Some(engine),
        })
    }

    async fn named(target: &Target, global: &GlobalArgs) -> Result<Self, CliError> {
        let endpoint = target.endpoint(global)?;
        let channel = endpoint
            .connect_timeout(global.timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .connect()
            .await
            .map_err(|error| unreachable_agent(target, &error))?;
        Ok(Self {
            client: client(channel),
            name: format!("the agent at {target}"),
            timeout: global.timeout,
            engine: None,
        })
    }

    /// Connects and makes sure that it is an agent: others listen on 9090 too.
    async fn local(target: &Target, global: &GlobalArgs) -> Result<Self, Tried> {
        let failed =
            |reason: String, refused: bool| Tried { target: target.clone(), reason, refused };
        let connect = async {
            let mut connection = Self::named(target, global).await.map_err(|error| {
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

fn unreachable_agent(target: &Target, error: &tonic::transport::Error) -> CliError {
    let reason = innermost(error);
    let kind = reason.downcast_ref::<io::Error>().map(io::Error::kind);
    if kind == Some(io::ErrorKind::PermissionDenied) {
        return CliError::NoPermission {
            problem: format!("the agent at {target} is not for this user: {reason}"),
            remedy: "run the command as the agent's user: sudo orb8 …".to_owned(),
        };
    }
    CliError::Unavailable {
        problem: format!("no agent answers at {target}: {reason}"),
        remedy: "start one there (sudo orb8-agent), correct --agent, or do without: \
                 sudo orb8 trace network --standalone"
            .to_owned(),
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
        remedy:
            "start one (sudo orb8-agent), name one (--agent HOST:PORT), or run the engine here \
                 (sudo orb8 … --standalone)"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_several_forms() {
        let tcp = |authority: &str, tls| Target::Tcp { authority: authority.to_owned(), tls };
        for (text, expected) in [
            ("node-1:9090", tcp("node-1:9090", None)),
            ("node-1", tcp("node-1:9090", None)),
            ("10.0.0.1:19090", tcp("10.0.0.1:19090", None)),
            ("[::1]:9090", tcp("[::1]:9090", None)),
            ("::1", tcp("[::1]:9090", None)),
            ("http://node-1:9090/", tcp("node-1:9090", Some(false))),
            ("https://node-1:9090", tcp("node-1:9090", Some(true))),
            ("unix:/run/a.sock", Target::Unix("/run/a.sock".into())),
            ("unix:///run/a.sock", Target::Unix("/run/a.sock".into())),
            ("/run/a.sock", Target::Unix("/run/a.sock".into())),
        ] {
            assert_eq!(Target::parse(text), Ok(expected), "{text}");
        }
        for text in
            ["", "ftp://a", "unix:a.sock", "http://", "a b", "node-1:", "node-1/path", "a:b"]
        {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
