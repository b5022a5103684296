//! Places of our own: two pods on a node's bridge, and a cgroup for each.
//!
//! ```text
//! client (eth0) ── o8c ─┐ node ┌─ o8s ── (eth0) server
//!                       └ br0 ─┘
//! ```

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::{fd::AsRawFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};

use crate::workspace;

/// The node's ends of the pods' interfaces: where the interface hook is attached.
pub(crate) const INTERFACES: [&str; 2] = ["o8c", "o8s"];

/// Every address of this range is the server's; each is a flow of its own.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);

/// Every address of this range is loopback's.
pub(crate) const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);

/// Everything that a run makes. Dropping it removes it.
///
/// Fields are dropped in order: cgroups below go before the one above.
pub(crate) struct Lab {
    pub(crate) node: Netns,
    pub(crate) client: Netns,
    pub(crate) server: Netns,
    /// The cgroup of what sends, and that of what receives.
    pub(crate) senders: Cgroup,
    pub(crate) receivers: Cgroup,
    /// The cgroup of both.
    pub(crate) pods: Cgroup,
}

impl Lab {
    pub(crate) fn new() -> Result<Self> {
        let pods = Cgroup::new(&mount()?.join(format!("orb8-bench-{}", std::process::id())))?;
        let lab = Self {
            node: Netns::new()?,
            client: Netns::new()?,
            server: Netns::new()?,
            senders: Cgroup::new(&pods.path().join("senders"))?,
            receivers: Cgroup::new(&pods.path().join("receivers"))?,
            pods,
        };
        lab.connect()?;
        Ok(lab)
    }

    fn connect(&self) -> Result<()> {
        self.node.ip("link add br0 type bridge mcast_snooping 0 forward_delay 0")?;
        self.node.ip("link set br0 addrgenmode none up")?;
        let pods = [(&self.client, &self.server), (&self.server, &self.client)];
        for (i, (pod, _)) in pods.into_iter().enumerate() {
            let (name, peer) = (INTERFACES[i], pod.path());
            let (number, mac) = (i + 1, mac(i));
            let add =
                format!("link add {name} type veth peer name eth0 address {mac} netns {peer}");
            self.node.ip(&add)?;
            self.node.ip(&format!("link set {name} addrgenmode none master br0 up"))?;
            pod.ip("link set eth0 addrgenmode none up")?;
            pod.ip(&format!("addr add 10.88.0.{number}/24 dev eth0"))?;
            // Connections end by the thousand; what waits after them would be all that is measured.
            pod.set("net/ipv4/tcp_max_tw_buckets", "4096")?;
            pod.set("net/ipv4/ip_local_port_range", "1024 65535")?;
        }
        for (i, (pod, _)) in pods.into_iter().enumerate() {
            // The other's address is known, so nothing asks for it.
            let (other, mac) = (2 - i, mac(1 - i));
            pod.ip(&format!("neigh add 10.88.0.{other} lladdr {mac} dev eth0 nud permanent"))?;
        }
        self.server.ip(&format!("route add local {SERVER}/12 dev lo"))?;
        self.client.ip(&format!("route add {SERVER}/12 via 10.88.0.2"))
    }
}

fn mac(pod: usize) -> String {
    format!("02:00:00:00:88:0{}", pod + 1)
}

/// A network namespace without a name: it goes with the last process and descriptor.
pub(crate) struct Netns(File);

impl Netns {
    fn new() -> Result<Self> {
        let made = thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        });
        let namespace = Self(made.join().expect("making a namespace does not panic")?);
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Moves the calling thread there, for good.
    pub(crate) fn enter(&self) -> Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).context("entering a network namespace")
    }

    /// Runs `work` on a thread that is there.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread.join().expect("work in a namespace does not panic")
        })
    }

    /// Another handle.
    pub(crate) fn clone(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Where other processes find it while this one holds it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    fn ip(&self, arguments: &str) -> Result<()> {
        // A child starts in its parent thread's namespaces.
        self.run(|| workspace::output(Command::new("ip").args(arguments.split(' '))).map(drop))
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        let file = Path::new("/proc/sys").join(name);
        // The file belongs to the namespace of who opens it.
        self.run(|| fs::write(&file, value).with_context(|| format!("setting {name}")))
    }
}

/// A cgroup that is removed when it is dropped.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    pub(super) fn new(path: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .mode(0o755)
            .create(path)
            .with_context(|| format!("making the cgroup {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that just ended may still count as a member.
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        eprintln!("warning: the cgroup {} stays: something is in it", self.0.display());
    }
}

/// Where the cgroup v2 hierarchy is mounted.
fn mount() -> Result<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mounted = table.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        file_system.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4))?
    });
    match mounted {
        Some(path) => Ok(path.into()),
        None => bail!("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup"),
    }
}
