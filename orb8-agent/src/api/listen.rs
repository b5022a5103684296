//! Listening sockets.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tonic::transport::Server;
use tracing::warn;

use super::{ApiConfig, TlsFiles, tls};
use crate::error::AgentError;

/// Everyone may look the socket's directory up; connecting is the socket's own permission.
const DIRECTORY_MODE: u32 = 0o755;
/// Only the agent's user may connect.
const SOCKET_MODE: u32 = 0o600;
/// Nobody else may reach the socket before it has its permissions.
const PRIVATE_MODE: u32 = 0o700;

/// Where an API listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Address of the gRPC API, with the port that the system chose for port 0.
    pub listen: Option<SocketAddr>,
    /// Address of the admin pages, likewise.
    pub admin: Option<SocketAddr>,
    /// Path of the unix socket.
    pub socket: Option<PathBuf>,
}

/// What an API listens on; nothing by default.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    pub(super) grpc: Option<(Server, TcpListener)>,
    pub(super) admin: Option<TcpListener>,
    pub(super) socket: Option<UnixSocket>,
    pub(super) bound: Bound,
}

impl Listeners {
    /// Binds all or none.
    pub(super) async fn bind(config: &ApiConfig) -> Result<Self, AgentError> {
        // Hubble's clients have a server of their own.
        let ApiConfig { listen, hubble: _, admin, socket, tls, dcgm_names: _ } = config;
        let mut listeners = Self::default();
        if let Some(address) = listen {
            let (server, listener) = grpc(*address, "listen", tls.as_ref()).await?;
            listeners.bound.listen = local_address(&listener)?;
            listeners.grpc = Some((server, listener));
        }
        if let Some(address) = admin {
            let listener = tcp(*address, "admin-listen").await?;
            listeners.bound.admin = local_address(&listener)?;
            listeners.admin = Some(listener);
        }
        if let Some(path) = socket {
            listeners.socket = Some(unix(path).await?);
            listeners.bound.socket = Some(path.clone());
        }
        Ok(listeners)
    }
}

/// Listens for gRPC, by TLS where there are files for it. `setting` is what an error tells to change.
pub(crate) async fn grpc(
    address: SocketAddr,
    setting: &'static str,
    tls: Option<&TlsFiles>,
) -> Result<(Server, TcpListener), AgentError> {
    let server = tls.map_or_else(|| Ok(Server::builder()), tls::server)?;
    Ok((server, tcp(address, setting).await?))
}

pub(crate) fn local_address(listener: &TcpListener) -> Result<Option<SocketAddr>, AgentError> {
    listener.local_addr().map(Some).map_err(AgentError::io("ask for the address listened on"))
}

/// Listens on a TCP address. `setting` is what the error tells to change.
async fn tcp(address: SocketAddr, setting: &'static str) -> Result<TcpListener, AgentError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => AgentError::AddressInUse { address, setting },
        _ => AgentError::Listen { address, setting, source },
    })
}

/// A unix socket and its file, which goes with it.
#[derive(Debug)]
pub(super) struct UnixSocket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
}

/// A socket's file. Dropping it removes the file, unless another agent's is in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            warn!(%error, path = %self.path.display(), "cannot remove the socket's file");
        }
    }
}

/// Listens on a unix socket that only this user can connect to. The file that a dead agent left
/// is replaced.
async fn unix(path: &Path) -> Result<UnixSocket, AgentError> {
    let describe = |action: &str| AgentError::io(format!("{action} socket {}", path.display()));
    refuse_if_taken(path).await?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    create_directory(directory).map_err(describe("create the directory of"))?;
    // A socket is open to others between bind and chmod, so it is made where they cannot reach it.
    let private = directory.join(format!(".orb8-{}", std::process::id()));
    fs::DirBuilder::new()
        .mode(PRIVATE_MODE)
        .recursive(true)
        .create(&private)
        .map_err(describe("create a directory for"))?;
    let bound = bind_in(&private, path);
    let removed = fs::remove_dir_all(&private);
    let socket = bound.map_err(describe("listen on"))?;
    removed.map_err(describe("remove the directory used for"))?;
    Ok(socket)
}

fn bind_in(private: &Path, path: &Path) -> io::Result<UnixSocket> {
    let made = private.join("s");
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, Permissions::from_mode(SOCKET_MODE))?;
    let inode = fs::symlink_metadata(&made)?.ino();
    fs::rename(&made, path)?;
    Ok(UnixSocket { listener, file: SocketFile { path: path.to_owned(), inode } })
}

/// Fails where somebody answers at the path, or where it is something else than a socket.
async fn refuse_if_taken(path: &Path) -> Result<(), AgentError> {
    let examine = || AgentError::io(format!("examine socket {}", path.display()));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(examine()(error)),
        Ok(file) if !file.file_type().is_socket() => {
            let problem = "it is there and no socket; remove it, or set --socket to another path";
            return Err(examine()(io::Error::new(ErrorKind::AlreadyExists, problem)));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Whoever is too busy to answer is alive.
        Ok(_) | Err(_) => Err(AgentError::SocketInUse { path: path.to_owned() }),
    }
}

fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    // Whatever the umask was.
    fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))
}
