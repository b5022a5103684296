//! Connections to what listens on `localhost` of a workload's network.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use tokio::sync::{Semaphore, oneshot};

/// Threads that are in other networks at one time. Connecting on loopback takes microseconds.
const MOST: usize = 8;

/// What entering another network takes.
const MISSING: &str = "the agent may not enter the pod's network; give it SYS_ADMIN";

static PLACES: Semaphore = Semaphore::const_new(MOST);

/// Connects to a port of `localhost` in the network that a process has.
///
/// A thread enters the network, connects and ends: the namespace is a thread's own, and no thread of
/// the runtime may ever be in another one.
///
/// # Errors
///
/// `NotFound` where the process is gone, `PermissionDenied` where its network may not be entered,
/// `TimedOut`, or what connecting said.
pub(super) async fn connect(
    proc: &Path,
    pid: u32,
    port: u16,
    within: Duration,
) -> io::Result<tokio::net::TcpStream> {
    let connecting = async {
        let _place = PLACES.acquire().await.map_err(io::Error::other)?;
        let namespace = namespace_of(proc, pid);
        let own = proc.join("self/ns/net");
        let (sender, receiver) = oneshot::channel();
        thread::Builder::new().name("orb8-gpu-net".into()).spawn(move || {
            let _ = sender.send(connect_in(&namespace, &own, port, within));
        })?;
        receiver.await.map_err(io::Error::other)?
    };
    let stream = tokio::time::timeout(within, connecting).await.map_err(timed_out)??;
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)
}

/// Returns which network a process has: the same number, the same network.
pub(super) fn network_of(proc: &Path, pid: u32) -> Option<u64> {
    Some(namespace_of(proc, pid).metadata().ok()?.ino())
}

fn namespace_of(proc: &Path, pid: u32) -> PathBuf {
    proc.join(format!("{pid}/ns/net"))
}

fn connect_in(namespace: &Path, own: &Path, port: u16, within: Duration) -> io::Result<TcpStream> {
    let file = File::open(namespace)?;
    // Entering the network that one is in needs privileges too.
    let is_own = own.metadata().is_ok_and(|own| {
        file.metadata().is_ok_and(|other| (own.dev(), own.ino()) == (other.dev(), other.ino()))
    });
    if !is_own {
        setns(&file, CloneFlags::CLONE_NEWNET).map_err(|error| match error {
            Errno::EPERM => io::Error::new(io::ErrorKind::PermissionDenied, MISSING),
            error => error.into(),
        })?;
    }
    let connect = |address: SocketAddr| TcpStream::connect_timeout(&address, within);
    let v4 = connect((Ipv4Addr::LOCALHOST, port).into());
    // What listens on `localhost` may have taken either.
    v4.or_else(|error| connect((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error))
}

fn timed_out(_: tokio::time::error::Elapsed) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no connection in time")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process;
    use std::sync::mpsc;

    use caps::{CapSet, Capability};
    use nix::sched::unshare;
    use tokio::io::AsyncReadExt;

    use super::*;

    const PROC: &str = "/proc";
    const WITHIN: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn the_own_network_needs_no_privileges() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        connect(PROC.as_ref(), process::id(), port, WITHIN).await.unwrap();
        drop(listener);
        let refused = connect(PROC.as_ref(), process::id(), port, WITHIN).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_process_that_is_gone_is_not_found() {
        let error = connect(PROC.as_ref(), u32::MAX, 1, WITHIN).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(network_of(PROC.as_ref(), u32::MAX), None);
    }

    /// A thread in a network of its own, which serves one connection.
    struct Other {
        thread: u32,
        port: u16,
        end: mpsc::SyncSender<()>,
        server: thread::JoinHandle<()>,
    }

    /// `None` where no network can be made: root in a container with few capabilities, say.
    async fn other_network(test: &str) -> Option<Other> {
        let (told, tell) = oneshot::channel();
        let (end, ended) = mpsc::sync_channel::<()>(1);
        let server = thread::spawn(move || {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                let _ = told.send(Err(error));
                return;
            }
            raise_loopback();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let _ = told.send(Ok((nix::unistd::gettid(), port)));
            thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                io::Write::write_all(&mut stream, b"inside").unwrap();
            });
            let _ = ended.recv();
        });
        match tell.await.unwrap() {
            // Each thread has a directory of its own in /proc, though it is not listed.
            Ok((thread, port)) => {
                Some(Other { thread: thread.as_raw().unsigned_abs(), port, end, server })
            }
            Err(error) => {
                println!("SKIPPED {test}: {error}");
                None
            }
        }
    }

    #[tokio::test]
    async fn another_network_is_entered_by_no_thread_of_ours() {
        let name = "another_network_is_entered_by_no_thread_of_ours";
        let Some(other) = other_network(name).await else { return };
        let before = network_of(PROC.as_ref(), process::id());
        assert_ne!(network_of(PROC.as_ref(), other.thread), before);
        let mut stream = connect(PROC.as_ref(), other.thread, other.port, WITHIN).await.unwrap();
        let mut bytes = [0; 6];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"inside");
        assert_eq!(network_of(PROC.as_ref(), process::id()), before);
        other.end.send(()).unwrap();
        other.server.join().unwrap();
    }

    #[tokio::test]
    async fn without_the_privilege_it_is_told() {
        let Some(other) = other_network("without_the_privilege_it_is_told").await else { return };
        // Of this thread, and of those that it starts.
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap();
        let error = connect(PROC.as_ref(), other.thread, other.port, WITHIN).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("give it SYS_ADMIN"), "{error}");
        other.end.send(()).unwrap();
        other.server.join().unwrap();
    }

    /// A new network's loopback is down, and nothing reaches it.
    fn raise_loopback() {
        let status = process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(status.expect("`ip` of iproute2").success());
    }
}
