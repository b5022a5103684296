//! A real kube-apiserver with its etcd, behind a proxy.
//!
//! The agent's part of a scenario has a user of its own, with the rights that follow from the table
//! of resources; the scenario acts as an administrator, past the proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kube::{Client, Config, config::Kubeconfig};
use orb8_k8s::client::{Access, Connection, connect};
use orb8_k8s::resources::RESOURCES;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::proxy::Proxy;
use crate::script::Scenario;

#[path = "real_objects.rs"]
mod real_objects;

type Outcome = Result<(), Box<dyn Error>>;

const ADMIN: &str = "admin-token";
const AGENT: &str = "agent-token";
/// Of both processes together, on a slow machine.
const START: Duration = Duration::from_secs(90);

/// Where the binaries are.
pub(crate) struct Binaries {
    etcd: PathBuf,
    api_server: PathBuf,
}

/// A control plane of its own.
pub(crate) struct Cluster {
    address: SocketAddr,
    folder: TempDir,
    _etcd: Process,
    api_server: Process,
}

/// One scenario's use of it.
pub(crate) struct Tenant {
    proxy: Proxy,
    admin: Client,
    agent: Kubeconfig,
    /// Uids that the scenario gave, and those that the server gave instead.
    uids: BTreeMap<String, String>,
    /// Namespaces that are there.
    namespaces: BTreeSet<String>,
    /// Verbs and resources that the agent may not use.
    forbidden: BTreeSet<(String, String)>,
}

/// A process that is killed with it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Binaries {
    pub(crate) fn find() -> Result<Self, String> {
        const HOW: &str = "set it to a folder with `kube-apiserver` and `etcd`, as \
                           `setup-envtest use -p path` prints";
        let folder = std::env::var_os("KUBEBUILDER_ASSETS")
            .ok_or_else(|| format!("KUBEBUILDER_ASSETS is not set; {HOW}"))?;
        let folder = Path::new(&folder);
        let (etcd, api_server) = (folder.join("etcd"), folder.join("kube-apiserver"));
        let missing = [&etcd, &api_server].into_iter().find(|binary| !binary.is_file());
        match missing.cloned() {
            Some(missing) => Err(format!("KUBEBUILDER_ASSETS: no {}; {HOW}", missing.display())),
            None => Ok(Self { etcd, api_server }),
        }
    }
}

impl Cluster {
    pub(crate) async fn start(binaries: &Binaries) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        credentials(path)?;
        let etcd_url = format!("http://127.0.0.1:{}", free_port()?);
        let etcd = start_etcd(&binaries.etcd, path, &etcd_url)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let api_server = start_api_server(&binaries.api_server, path, &etcd_url, address)?;
        let (etcd, api_server) = (Process(etcd), Process(api_server));
        let mut cluster = Self { address, folder, _etcd: etcd, api_server };
        cluster.ready().await?;
        Ok(cluster)
    }

    pub(crate) async fn tenant(&self) -> Result<Tenant, Box<dyn Error>> {
        let proxy = Proxy::start(self.address).await?;
        let agent = self.kubeconfig(proxy.address(), AGENT)?;
        let admin = client(self.kubeconfig(self.address, ADMIN)?).await?;
        let tenant = Tenant {
            proxy,
            admin,
            agent,
            uids: BTreeMap::new(),
            namespaces: BTreeSet::new(),
            forbidden: BTreeSet::new(),
        };
        tenant.grant().await?;
        Ok(tenant)
    }

    /// Why a scenario is not for this server.
    pub(crate) async fn cannot_run(&self, scenario: &Scenario) -> Option<String> {
        let path = scenario.needs.as_ref();
        match (&scenario.only_in_process, path) {
            (Some(reason), _) => Some(reason.clone()),
            (None, Some(path)) => {
                let admin = client(self.kubeconfig(self.address, ADMIN).ok()?).await.ok()?;
                let request = http::Request::get(path).body(Vec::new()).ok()?;
                admin.request_text(request).await.err()?;
                Some(format!("it has no {path}, which a newer one has"))
            }
            (None, None) => None,
        }
    }

    /// Waits until the server is ready, and the objects that it makes by itself are there.
    async fn ready(&mut self) -> Outcome {
        let admin = client(self.kubeconfig(self.address, ADMIN)?).await?;
        let begun = Instant::now();
        loop {
            let mut missing = None;
            for path in [
                "/readyz",
                "/api/v1/namespaces/default",
                "/api/v1/namespaces/default/services/kubernetes",
            ] {
                let request = http::Request::get(path).body(Vec::new())?;
                missing = missing.or(admin.request_text(request).await.err());
            }
            match missing {
                None => return Ok(()),
                Some(error) if begun.elapsed() > START || self.has_ended() => {
                    let log = fs::read_to_string(self.folder.path().join("kube-apiserver.log"));
                    let log = log.unwrap_or_default();
                    let tail: Vec<_> = log.lines().rev().take(20).collect();
                    return Err(format!("kube-apiserver: {error}\n{}", tail.join("\n")).into());
                }
                Some(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.api_server.0.try_wait(), Ok(None))
    }

    fn kubeconfig(&self, address: SocketAddr, token: &str) -> Result<Kubeconfig, Box<dyn Error>> {
        let authority = self.folder.path().join("ca.crt");
        Ok(serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{address}"), "certificate-authority": authority,
            }}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": {"token": token}}],
        }))?)
    }
}

impl Tenant {
    /// The agent's client, by its kubeconfig and through the proxy.
    pub(crate) async fn client(&self) -> Result<Client, Box<dyn Error>> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), serde_json::to_vec(&self.agent)?)?;
        let access = Access::Kubeconfig { path: Some(file.path().to_owned()), context: None };
        match connect(&access).await? {
            Connection::Found(found) => Ok(found.client),
            Connection::None { reason } => Err(reason.into()),
        }
    }

    pub(crate) async fn act(&mut self, what: &str) -> Outcome {
        match what {
            "cut" => self.proxy.cut(),
            "close" => self.proxy.close(),
            "open" => self.proxy.open().await?,
            "freeze" => self.proxy.freeze(true),
            "thaw" => self.proxy.freeze(false),
            "permit" => {
                self.forbidden.clear();
                self.grant().await?;
            }
            other => return Err(format!("a real server cannot {other}").into()),
        }
        Ok(())
    }

    pub(crate) fn slow_down(&self, per_piece: Duration) {
        self.proxy.slow_down(per_piece);
    }

    /// Takes a right from the agent, and ends what it does with it.
    pub(crate) async fn forbid(&mut self, verb: &str, resource: &str) -> Outcome {
        self.forbidden.insert((verb.to_owned(), resource.to_owned()));
        self.grant().await?;
        self.proxy.cut();
        Ok(())
    }

    /// Gives the agent what the table says, less what is forbidden.
    async fn grant(&self) -> Outcome {
        let rules: Vec<Value> = RESOURCES
            .iter()
            .map(|row| {
                let forbidden =
                    |verb: &str| self.forbidden.contains(&(verb.to_owned(), row.plural.to_owned()));
                let verbs: Vec<_> = row.verbs.iter().filter(|verb| !forbidden(verb)).collect();
                json!({"apiGroups": [row.group], "resources": [row.plural], "verbs": verbs})
            })
            .filter(|rule| rule["verbs"].as_array().is_some_and(|verbs| !verbs.is_empty()))
            .collect();
        let api = "rbac.authorization.k8s.io/v1";
        let role = json!({"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": "agent"},
            "rules": rules});
        let binding = json!({"apiVersion": api, "kind": "ClusterRoleBinding",
            "metadata": {"name": "agent"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "agent"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "agent"}]});
        let base = format!("/apis/{api}");
        real_objects::put(&self.admin, &format!("{base}/clusterroles"), &role).await?;
        real_objects::put(&self.admin, &format!("{base}/clusterrolebindings"), &binding).await?;
        // The authorizer learns of it by a watch of its own.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }
}

async fn client(kubeconfig: Kubeconfig) -> Result<Client, Box<dyn Error>> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Writes a certificate authority, the server's certificate, a key for tokens, and the users.
fn credentials(folder: &Path) -> Outcome {
    let key = rcgen::KeyPair::generate()?;
    let mut authority = rcgen::CertificateParams::new(Vec::new())?;
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&key)?;
    let issuer = rcgen::Issuer::new(authority, key);
    let server_key = rcgen::KeyPair::generate()?;
    let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
    let server = rcgen::CertificateParams::new(names)?.signed_by(&server_key, &issuer)?;
    let tokens = rcgen::KeyPair::generate()?;
    let users = format!("{ADMIN},admin,admin,system:masters\n{AGENT},agent,agent\n");
    let files = [
        ("ca.crt", authority_certificate.pem()),
        ("server.crt", server.pem()),
        ("server.key", server_key.serialize_pem()),
        ("tokens.key", tokens.serialize_pem()),
        ("tokens.pub", tokens.public_key_pem()),
        ("users.csv", users),
    ];
    for (name, text) in files {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

fn start_etcd(binary: &Path, folder: &Path, url: &str) -> Result<Child, Box<dyn Error>> {
    let peers = format!("http://127.0.0.1:{}", free_port()?);
    let mut command = Command::new(binary);
    command
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--name=default", &format!("--initial-cluster=default={peers}")])
        .args([format!("--listen-client-urls={url}"), format!("--advertise-client-urls={url}")])
        .args([
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
        ]);
    start(command, &folder.join("etcd.log"))
}

/// With what servers since 1.20 need and current ones still take.
fn start_api_server(
    binary: &Path,
    folder: &Path,
    etcd: &str,
    address: SocketAddr,
) -> Result<Child, Box<dyn Error>> {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new(binary);
    command.args([
        format!("--etcd-servers={etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", address.port()),
        format!("--cert-dir={}", file("certificates")),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--token-auth-file={}", file("users.csv")),
        "--authorization-mode=RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("tokens.pub")),
        format!("--service-account-signing-key-file={}", file("tokens.key")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--allow-privileged=true".to_owned(),
        // Pods need no ServiceAccounts here, for which there is no controller.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ]);
    start(command, &folder.join("kube-apiserver.log"))
}

fn start(mut command: Command, log: &Path) -> Result<Child, Box<dyn Error>> {
    let log = fs::File::create(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?)
}

/// Another process could take it before it is used; none of those here do.
fn free_port() -> Result<u16, Box<dyn Error>> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
