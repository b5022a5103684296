//! Other processes: this binary runs again, in a namespace and a cgroup of its own, and plays a role.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    str::FromStr,
    sync::atomic::AtomicBool,
};

use orb8_agent::ebpf::{LinkKind, PacketObject};

use super::{
    cgroup::{self, Cgroup},
    container, dns,
    engine::{DEFAULTS, Engine, without_tcx},
    name_server,
    netns::{CLIENT4, CLIENT6, Netns},
    traffic::{self, tcp_request},
};

/// What a player is to do; the rest of the line is its parameters.
const ROLE: &str = "ORB8_TEST_ROLE";
/// The cgroup that a player joins first.
const CGROUP: &str = "ORB8_TEST_CGROUP";
/// In front of what a player tells the test, among what the test harness prints.
const TELL: &str = "player:";

/// Bytes that the TCP server answers with.
pub(crate) const ANSWER: usize = 20_000;

/// A process that plays a role. It is killed when it is dropped.
pub(crate) struct Player {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Player {
    pub(crate) fn start(namespace: &Netns, cgroup: Option<&Cgroup>, role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["kernel::support::roles::role", "--exact", "--nocapture"]).env(ROLE, role);
        if let Some(cgroup) = cgroup {
            command.env(CGROUP, cgroup.path());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = namespace.run(|| command.spawn()).expect("this binary runs again");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    /// Tells the player something.
    pub(crate) fn say(&mut self, what: &str) {
        let mut input = self.child.stdin.as_ref().expect("its input");
        writeln!(input, "{what}").expect("a player that listens");
    }

    /// Waits for what the player tells next.
    pub(crate) fn hear<T: FromStr>(&mut self) -> T {
        let told = self.lines.by_ref().find_map(|line| {
            let line = line.expect("the player's output");
            line.split_once(TELL).map(|(_, told)| told.trim().to_owned())
        });
        let told = told.expect("the player tells something");
        told.parse().unwrap_or_else(|_| panic!("{told:?} is not what was to be told"))
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) {
        // Its output has to go somewhere until then.
        self.lines.by_ref().for_each(drop);
        assert!(self.wait().success(), "the player failed");
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killing the player");
        self.wait();
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the player's end")
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Fails when it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn tell(what: impl std::fmt::Display) {
    println!("{TELL} {what}");
}

/// Not a test: what [`Player`] runs.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    if let Some(path) = std::env::var_os(CGROUP) {
        cgroup::enter(Path::new(&path));
    }
    let (role, parameter) = role.split_once(' ').expect("a role and its parameter");
    match role {
        "tcp-server" => tcp_server(parameter.parse().expect("an address")),
        "tcp-client" => tcp_client(parameter.parse().expect("an address and a port")),
        "name-server" => name_server(parameter.parse().expect("an address")),
        "dns-client" => dns_client(parameter.parse().expect("an address and a port")),
        "attacher" => attacher(parameter),
        "container" => container::run(),
        _ => panic!("no role {role:?}"),
    }
}

/// Serves one connection.
fn tcp_server(address: IpAddr) {
    let listener = TcpListener::bind((address, 0)).expect("a listener");
    tell(listener.local_addr().expect("its address").port());
    traffic::serve(&listener, ANSWER);
}

/// Makes one connection.
fn tcp_client(server: SocketAddr) {
    tell(tcp_request(server, 30_000).port());
}

/// Answers until it is killed.
fn name_server(address: IpAddr) {
    let (datagrams, _listener) = name_server::bind((address, dns::PORT).into());
    tell(dns::PORT);
    name_server::serve_datagrams(&datagrams, &AtomicBool::new(false));
}

/// Asks once.
fn dns_client(server: SocketAddr) {
    let from = if server.is_ipv4() { CLIENT4 } else { CLIENT6 };
    let socket = UdpSocket::bind((from, 0)).expect("a client socket");
    socket.connect(server).expect("connecting");
    dns::ask(&socket, &dns::query(1, "web.test", dns::A));
}

/// Attaches to an interface by clsact and waits to be killed.
fn attacher(interface: &str) {
    let mut engine = Engine::load_as(&DEFAULTS, &without_tcx());
    let index = nix::net::if_::if_nametoindex(interface).expect("the interface");
    let attached = engine.object.attach_interface(index, interface, LinkKind::Ethernet);
    attached.expect("the interface hook attaches");
    tell("attached");
    loop {
        std::thread::park();
    }
}
