//! Network namespaces without a name: they go with the last thread and descriptor.

use std::{
    fs::File,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
    process::{Command, Stdio},
    thread::JoinHandle,
};

use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns, unshare},
};

/// A network namespace.
pub(crate) struct Netns(File);

impl Netns {
    /// Makes one whose loopback device is up.
    pub(crate) fn new() -> Self {
        let namespace = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace: run as root");
                Self(File::open("/proc/thread-self/ns/net").expect("its file"))
            });
            made.join().expect("the thread that makes the namespace")
        });
        namespace.ip("link set lo up");
        namespace
    }

    /// The one that this process is in.
    pub(crate) fn own() -> Self {
        Self(File::open("/proc/self/ns/net").expect("its file"))
    }

    /// Runs `work` in the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let name = std::thread::current().name().unwrap_or("test").to_owned();
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(name).spawn_scoped(scope, || {
                self.enter();
                work()
            });
            match thread.expect("a thread").join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts `work` in the namespace.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = Self(self.0.try_clone().expect("another descriptor"));
        std::thread::spawn(move || {
            namespace.enter();
            work()
        })
    }

    fn enter(&self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
    }

    /// Runs `ip` in the namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        if let Err(error) = self.try_ip(arguments) {
            panic!("ip {arguments}: {error}");
        }
    }

    /// Runs `ip` in the namespace; what it says when it fails.
    pub(crate) fn try_ip(&self, arguments: &str) -> Result<(), String> {
        self.command("ip", arguments).map(drop)
    }

    /// Runs a program in the namespace and returns what it prints.
    pub(crate) fn command(&self, program: &str, arguments: &str) -> Result<String, String> {
        // A child starts in its parent thread's namespaces.
        self.run(|| {
            let output = Command::new(program)
                .args(arguments.split_whitespace())
                .output()
                .map_err(|error| format!("{program} does not run: {error}"))?;
            if output.status.success() {
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into_owned())
            }
        })
    }

    /// Joins it to another one by a veth pair: interfaces and their link addresses.
    pub(crate) fn link(&self, [name, address]: [&str; 2], other: &Self, peer: [&str; 2]) {
        let [peer_name, peer_address] = peer;
        let other = other.path();
        self.ip(&format!(
            "link add {name} address {address} type veth peer name {peer_name} \
             address {peer_address} netns {other}"
        ));
    }

    /// Runs a program in the namespace that reads its input; what it says when it fails.
    pub(crate) fn feed(&self, program: &str, arguments: &str, input: &str) -> Result<(), String> {
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace()).stdin(Stdio::piped()).stderr(Stdio::piped());
        let child = self.run(|| command.spawn());
        let mut child = child.map_err(|error| format!("{program} does not run: {error}"))?;
        // One that ended already says why.
        let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Where other processes find the namespace while this process has it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    pub(crate) fn index(&self, interface: &str) -> u32 {
        self.run(|| if_nametoindex(interface).expect("an interface of the namespace"))
    }

    /// What the kernel counted on an interface.
    pub(crate) fn interface_counters(&self, interface: &str) -> InterfaceCounters {
        let table = self.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
        let table = table.expect("the interface counters");
        let line =
            table.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
        let line = line.expect("the interface's line");
        let fields: Vec<u64> =
            line.split_whitespace().map(|field| field.parse().expect("a number")).collect();
        InterfaceCounters {
            received: Counted { packets: fields[1], bytes: fields[0] },
            sent: Counted { packets: fields[9], bytes: fields[8] },
            dropped_when_sending: fields[11],
        }
    }
}

/// An interface's own counters: packets are socket buffers, bytes include link headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceCounters {
    pub(crate) received: Counted,
    pub(crate) sent: Counted,
    pub(crate) dropped_when_sending: u64,
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Counted {
    pub(crate) const fn new(packets: u64, bytes: u64) -> Self {
        Self { packets, bytes }
    }
}

impl std::ops::AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

impl std::ops::Add for Counted {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl std::ops::Sub for Counted {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { packets: self.packets - other.packets, bytes: self.bytes - other.bytes }
    }
}

/// Bytes of a link header without tags.
pub(crate) const ETHERNET: u64 = 14;

impl Counted {
    /// Without the link headers of that many frames.
    pub(crate) const fn without_ethernet(self) -> Self {
        Self { packets: self.packets, bytes: self.bytes - ETHERNET * self.packets }
    }
}

/// Two namespaces joined by a veth pair, quiet until something sends.
pub(crate) struct Pair {
    pub(crate) client: Netns,
    pub(crate) server: Netns,
}

/// The veth's name at both ends.
pub(crate) const VETH: &str = "veth0";

pub(crate) const CLIENT4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 1));
pub(crate) const SERVER4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 2));
pub(crate) const CLIENT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 1));
pub(crate) const SERVER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 2));

/// Another address of the server.
pub(crate) const SERVER4_OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 3));

/// Addresses by IP version: the client's, the server's.
pub(crate) const VERSIONS: [(IpAddr, IpAddr); 2] = [(CLIENT4, SERVER4), (CLIENT6, SERVER6)];

impl Pair {
    pub(crate) fn new() -> Self {
        let pair = Self { client: Netns::new(), server: Netns::new() };
        let [near, far] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
        pair.client.link([VETH, near], &pair.server, [VETH, far]);
        for (namespace, v4, v6, neighbours, address) in [
            (&pair.client, CLIENT4, CLIENT6, &[SERVER4, SERVER4_OTHER, SERVER6][..], far),
            (&pair.server, SERVER4, SERVER6, &[CLIENT4, CLIENT6][..], near),
        ] {
            // No link-local address, so no router solicitations nor duplicate address detection.
            namespace.ip(&format!("link set {VETH} addrgenmode none"));
            namespace.ip(&format!("link set {VETH} up"));
            namespace.ip(&format!("addr add {v4}/24 dev {VETH}"));
            namespace.ip(&format!("addr add {v6}/64 dev {VETH} nodad"));
            // Known from the start: packets that wait for an answer may be dropped.
            for neighbour in neighbours {
                namespace.ip(&format!("neigh add {neighbour} lladdr {address} dev {VETH}"));
            }
        }
        pair.server.ip(&format!("addr add {SERVER4_OTHER}/24 dev {VETH}"));
        pair
    }
}
