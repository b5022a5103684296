//! The connection to the API server: in-cluster, by kubeconfig, or none.
//!
//! It is made without proxies: a kubeconfig that names one is refused, and the variables
//! `HTTPS_PROXY` and `NO_PROXY` are not used.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use kube::{
    Api, Client, Config,
    api::ListParams,
    client::{Body, ConfigExt},
};
use tokio::{runtime::Handle, sync::oneshot};
use tower::{Layer, ServiceExt};

use crate::wire::NodeObject;

mod kubeconfig;

/// The token that a pod's ServiceAccount gets; kube reads it again each minute.
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// What [`Found::source`] says of a pod's ServiceAccount.
const IN_CLUSTER: &str = "in-cluster";
/// A server that takes longer to accept is down, or its address is wrong.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// With as many probes as follow, finds peers that went without a word within two minutes; watches
/// notice silence as well.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The system's own nine would take five minutes.
const KEEPALIVE_PROBES: u32 = 3;

/// How the API server is to be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// In-cluster where a ServiceAccount is mounted, else a kubeconfig where there is one.
    #[default]
    Auto,
    /// By the environment of a pod.
    InCluster,
    /// By a file.
    Kubeconfig {
        /// The file; `None`: those of `$KUBECONFIG`, else `~/.kube/config`.
        path: Option<PathBuf>,
        /// A context of it; `None`: the current one.
        context: Option<String>,
    },
    /// Not at all.
    Off,
}

/// What [`connect`] came to.
#[derive(Debug)]
pub enum Connection {
    /// There is a server to ask; whether it answers is seen later.
    Found(Found),
    /// There is none.
    None {
        /// Why, for status.
        reason: String,
    },
}

/// An API server, and how it was found.
pub struct Found {
    /// Its client. Requests have no timeout and are not retried: watches do both.
    pub client: Client,
    /// `in-cluster`, or `kubeconfig PATH (CONTEXT)`.
    pub source: String,
    /// Its URL.
    pub server: String,
}

/// Why there is no client though one was asked for, or though there are settings for one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A pod's environment is not complete.
    #[error(
        "cannot use the pod's ServiceAccount: {problem}; run in a pod with \
         `automountServiceAccountToken: true`, or name a kubeconfig"
    )]
    InCluster {
        /// What is missing.
        problem: String,
    },
    /// No file to read.
    #[error("no kubeconfig: neither $KUBECONFIG nor ~/.kube/config names a file; name one")]
    NoKubeconfig,
    /// The file cannot be read.
    #[error("cannot read the kubeconfig {}; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be understood.
    #[error("the kubeconfig {path} cannot be used: {problem}; `kubectl config view` shows it")]
    Invalid {
        /// The file, or several.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The context is not in the file.
    #[error("the kubeconfig {path} has no context `{context}`; it has: {}", list(known))]
    UnknownContext {
        /// The file, or several.
        path: String,
        /// What was asked for.
        context: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No context was asked for and none is current.
    #[error("the kubeconfig {path} has no current context; name one of: {}", list(known))]
    NoContext {
        /// The file, or several.
        path: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The cluster is behind a proxy.
    #[error(
        "the kubeconfig {path} asks for the proxy {proxy} (`proxy-url`), which is not supported; \
         name a context whose server is reached directly"
    )]
    Proxy {
        /// The file, or several.
        path: String,
        /// Its URL.
        proxy: String,
    },
    /// Certificates, keys, tokens or the plugin that makes them.
    #[error("the credentials of {origin} cannot be used: {problem}")]
    Credentials {
        /// As in [`Found::source`].
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// The server does not tell of a node.
    #[error("the API server does not tell of the node `{name}`")]
    Node {
        /// Which.
        name: String,
        /// What it said.
        source: Box<kube::Error>,
    },
}

/// What [`locate`] came to.
#[derive(Debug)]
pub enum Located {
    /// There are settings for a server.
    At(Target),
    /// There is none.
    Nowhere {
        /// Why, for status.
        reason: String,
    },
}

/// Settings for an API server: nothing was run or sent yet.
pub struct Target {
    config: Box<Config>,
    /// As in [`Found::source`].
    pub source: String,
    /// Its URL.
    pub server: String,
}

/// Finds the API server and makes a client for it; nothing is sent yet.
///
/// # Errors
/// [`ConnectError`] when the way asked for cannot be taken, or the one found is broken.
pub async fn connect(access: &Access) -> Result<Connection, ConnectError> {
    match locate(access).await? {
        Located::At(target) => target.connect().await.map(Connection::Found),
        Located::Nowhere { reason } => Ok(Connection::None { reason }),
    }
}

/// Reads the settings for the API server, from files and the environment alone.
///
/// # Errors
/// [`ConnectError`] when the way asked for cannot be taken, or the one found is broken.
pub async fn locate(access: &Access) -> Result<Located, ConnectError> {
    let access = match access {
        Access::Auto => match Surroundings::read().choose() {
            Ok(access) => access,
            Err(reason) => return Ok(Located::Nowhere { reason }),
        },
        access => access.clone(),
    };
    let (config, source) = match access {
        Access::Off => {
            return Ok(Located::Nowhere { reason: "turned off by the configuration".to_owned() });
        }
        Access::Kubeconfig { path, context } => kubeconfig::load(path, context).await?,
        Access::InCluster | Access::Auto => (in_cluster()?, IN_CLUSTER.to_owned()),
    };
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    Ok(Located::At(Target { config: Box::new(config), source, server }))
}

impl Target {
    /// Whether credentials come from a program that the kubeconfig names, which may ask somebody or
    /// take any time.
    #[must_use]
    pub const fn runs_plugin(&self) -> bool {
        let auth = &self.config.auth_info;
        auth.exec.is_some() || auth.auth_provider.is_some()
    }

    /// Whether it is the cluster that this process is a pod of.
    #[must_use]
    pub fn is_in_cluster(&self) -> bool {
        self.source == IN_CLUSTER
    }

    /// Makes a client, for which credentials are read, and waits for the plugin that makes them.
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConnectError::Credentials`].
    pub async fn connect(self) -> Result<Found, ConnectError> {
        let Self { config, source, server } = self;
        let unusable = |problem| ConnectError::Credentials { origin: source.clone(), problem };
        let (made, client_made) = oneshot::channel();
        // Not one of the runtime's threads: it waits for its own when it ends, and a plugin may hang.
        std::thread::Builder::new()
            .name("k8s-credentials".to_owned())
            .spawn({
                let runtime = Handle::current();
                move || {
                    let _context = runtime.enter();
                    // Whoever waits may have given up.
                    drop(made.send(client(&config).map_err(|error| error.to_string())));
                }
            })
            .map_err(|error| unusable(error.to_string()))?;
        let client = client_made.await.unwrap_or_else(|error| Err(error.to_string()));
        let client = client.map_err(unusable)?;
        Ok(Found { client, source, server })
    }
}

impl Found {
    /// Asks for one node's addresses; `None` where the cluster has no node of that name.
    ///
    /// A list of one takes no other permission than the watches do.
    ///
    /// # Errors
    /// [`ConnectError::Node`].
    pub async fn node_addresses(&self, name: &str) -> Result<Option<Vec<IpAddr>>, ConnectError> {
        let nodes: Api<NodeObject> = Api::all(self.client.clone());
        let one = ListParams::default().fields(&format!("metadata.name={name}"));
        let listed = nodes.list(&one).await.map_err(|source| ConnectError::Node {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        Ok(listed.items.first().map(|node| node.addresses().ips))
    }
}

/// What decides for [`Access::Auto`].
#[derive(Debug, Default)]
struct Surroundings {
    /// `KUBERNETES_SERVICE_HOST` is set.
    in_pod: bool,
    /// A ServiceAccount's token is mounted.
    has_token: bool,
    /// A kubeconfig is named or there is the usual one.
    has_kubeconfig: bool,
}

impl Surroundings {
    fn read() -> Self {
        Self {
            in_pod: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            has_token: std::fs::exists(TOKEN_FILE).unwrap_or(false),
            has_kubeconfig: kubeconfig::is_there(),
        }
    }

    /// What to do, or why nothing can be done.
    fn choose(&self) -> Result<Access, String> {
        match *self {
            Self { in_pod: true, has_token: true, .. } => Ok(Access::InCluster),
            Self { has_kubeconfig: true, .. } => {
                Ok(Access::Kubeconfig { path: None, context: None })
            }
            Self { in_pod: true, .. } => {
                Err(format!("in a pod without a ServiceAccount token ({TOKEN_FILE})"))
            }
            Self { .. } => Err("not in a pod, and there is no kubeconfig \
                                ($KUBECONFIG, ~/.kube/config)"
                .to_owned()),
        }
    }
}

fn in_cluster() -> Result<Config, ConnectError> {
    let incomplete = |problem| ConnectError::InCluster { problem };
    let config = Config::incluster_env().map_err(|error| incomplete(error.to_string()))?;
    match std::fs::metadata(TOKEN_FILE) {
        Ok(_) => Ok(config),
        Err(error) => Err(incomplete(format!("{TOKEN_FILE}: {error}"))),
    }
}

/// kube's own stack would log each failed request as an error and retry by itself; failures are
/// told once here, and the watches wait as long as is good for the server.
///
/// TLS takes rustls' default provider, which is the only one compiled in, or the installed one.
pub(crate) fn client(config: &Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    let mut tls = config.clone();
    if config.cluster_url.scheme() == Some(&http::uri::Scheme::HTTP) {
        // Nobody to trust: an image without the system's certificates will do.
        tls.root_cert.get_or_insert_default();
    }
    let https = tls.rustls_https_connector_with_connector(tcp)?;
    let connector = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .build::<_, Body>(https)
        .map_err(tower::BoxError::from);
    let headers = config.extra_headers_layer()?.layer(connector);
    let base = config.base_uri_layer();
    let namespace = config.default_namespace.clone();
    Ok(match config.auth_layer()? {
        Some(auth) => Client::new(base.layer(auth.layer(headers)), namespace),
        None => Client::new(base.layer(headers), namespace),
    })
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { config: _, source, server } = self;
        formatter
            .debug_struct("Target")
            .field("source", source)
            .field("server", server)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Found {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { client: _, source, server } = self;
        formatter
            .debug_struct("Found")
            .field("source", source)
            .field("server", server)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
