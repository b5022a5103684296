//! A process of a pod that does everything that there is a metric for, over and over.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::kernel::support::{
    PATIENCE, cgroup, dns,
    netns::Netns,
    tcp::{Filter, begin_to_connect, filter, reset_at_end},
};

/// What the process does.
const ROLE: &str = "ORB8_TEST_ROLE";
/// The cgroup that it joins first.
const CGROUP: &str = "ORB8_TEST_CGROUP";

/// Where the server answers, and where it has a listener that accepts nobody.
pub(super) const SERVER_PORT: u16 = 5432;
const CLOGGED_PORT: u16 = 7000;
/// Where nobody listens.
const CLOSED_PORT: u16 = 7001;
/// Where the kernel drops what comes, whatever the moment: a socket's filter lets nothing through.
const DEAF_PORT: u16 = 7002;

/// Datagrams and connections come in rounds.
const ROUND: Duration = Duration::from_millis(50);
/// How often what goes wrong does.
const TROUBLE: Duration = Duration::from_secs(1);
/// Times that connections are kept which nobody takes: a SYN is sent again after a second and some
/// milliseconds, which must not depend on when a round ends.
const KEPT: usize = 3;

/// A running process. It is killed when it is dropped.
pub(super) struct Worker {
    child: Child,
    input: ChildStdin,
}

impl Worker {
    /// Does all that clients do.
    pub(super) fn client(namespace: &Netns, cgroup: &Path, server: &str, names: &str) -> Self {
        Self::start(namespace, cgroup, &format!("client {server} {names}"))
    }

    /// Holds a listener that accepts nobody, and one that hears nothing.
    pub(super) fn clogged(namespace: &Netns, cgroup: &Path, at: &str) -> Self {
        Self::start(namespace, cgroup, &format!("clogged {at}"))
    }

    fn start(namespace: &Netns, cgroup: &Path, role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["prometheus::traffic::role", "--exact", "--nocapture"]);
        command.env(ROLE, role).env(CGROUP, cgroup);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = namespace.run(|| command.spawn()).expect("this binary runs again");
        let input = child.stdin.take().expect("its input");
        let mut worker = Self { child, input };
        worker.hear("ready");
        worker
    }

    /// Ends it in order: nothing is on its way any more.
    pub(super) fn stop(mut self) {
        writeln!(self.input, "stop").expect("a worker that listens");
        let status = self.child.wait().expect("the worker's end");
        assert!(status.success(), "the worker failed: {status}");
    }

    fn hear(&mut self, word: &str) {
        let output = self.child.stdout.as_mut().expect("its output");
        let found =
            BufReader::new(output).lines().any(|line| line.is_ok_and(|line| line.contains(word)));
        assert!(found, "the worker does not start");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails when it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cgroup of a container below another one.
pub(super) fn find_cgroup(below: &Path, container: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir(below).ok()?.flatten().map(|entry| entry.path());
    folders.filter(|path| path.is_dir()).find_map(|path| {
        let name = path.file_name()?.to_str()?;
        if name.contains(container) { Some(path) } else { find_cgroup(&path, container) }
    })
}

/// Not a test: what [`Worker`] runs.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = std::env::var_os(CGROUP).expect("a cgroup");
    cgroup::enter(Path::new(&path));
    let words: Vec<&str> = role.split(' ').collect();
    let ip = |word: &str| word.parse::<IpAddr>().expect("an address");
    match *words {
        ["client", server, names] => client(ip(server), ip(names)),
        ["clogged", at] => {
            let own = Netns::own();
            let bound = own.run(|| TcpListener::bind((ip(at), CLOGGED_PORT)).expect("a listener"));
            let _listener = shorten(bound);
            let deaf = own.run(|| TcpListener::bind((ip(at), DEAF_PORT)).expect("a listener"));
            filter(&deaf, Filter::Nothing);
            println!("ready");
            wait_for_stop();
        }
        _ => panic!("no role {role:?}"),
    }
}

/// Room for one connection more than none.
fn shorten(listener: TcpListener) -> TcpListener {
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).expect("a backlog"))
        .expect("a shorter queue");
    listener
}

fn wait_for_stop() {
    // Its end stops as well.
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn client(server: IpAddr, names: IpAddr) {
    static STOP: AtomicBool = AtomicBool::new(false);
    println!("ready");
    std::thread::spawn(|| {
        wait_for_stop();
        STOP.store(true, Relaxed);
    });
    let (datagrams, resolver) = (connected(server, SERVER_PORT), connected(names, dns::PORT));
    let mut kept: VecDeque<Vec<OwnedFd>> = VecDeque::new();
    let (mut id, mut last) = (0_u16, Instant::now());
    while !STOP.load(Relaxed) {
        exchange(&datagrams);
        converse(server);
        refused(server);
        for name in ["web.test", "rcode-2.test", "rcode-3.test"] {
            id = id.wrapping_add(1);
            dns::ask(&resolver, &dns::query(id, name, dns::A));
        }
        if last.elapsed() > TROUBLE {
            last = Instant::now();
            id = id.wrapping_add(1);
            trouble(server, &resolver, id, &mut kept);
        }
        std::thread::sleep(ROUND);
    }
}

fn connected(to: IpAddr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a client socket");
    socket.connect((to, port)).expect("connecting");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

fn exchange(socket: &UdpSocket) {
    for _ in 0..5 {
        socket.send(&[0x5a; 300]).expect("sending");
        socket.recv(&mut [0; 300]).expect("an answer");
    }
}

/// A connection that carries something both ways, and ends in order.
fn converse(server: IpAddr) {
    let mut stream = TcpStream::connect((server, SERVER_PORT)).expect("connecting");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(&[0x5a; 3000]).expect("sending");
    stream.read_exact(&mut [0; 3000]).expect("an answer");
}

fn refused(server: IpAddr) {
    let refused = TcpStream::connect((server, CLOSED_PORT));
    assert!(refused.is_err(), "nobody listens there");
}

/// A query without an answer, asked twice; a connection that is broken off; and more connections than
/// a listener takes, which are given up when their SYNs were sent again.
fn trouble(server: IpAddr, resolver: &UdpSocket, id: u16, kept: &mut VecDeque<Vec<OwnedFd>>) {
    let query = dns::query(id, "never.test", dns::A);
    for _ in 0..2 {
        resolver.send(&query).expect("asking");
    }
    let stream = TcpStream::connect((server, SERVER_PORT)).expect("connecting");
    reset_at_end(&stream);
    drop(stream);
    let begin = |port| begin_to_connect(&Netns::own(), SocketAddr::new(server, port));
    kept.push_back([CLOGGED_PORT; 8].into_iter().chain([DEAF_PORT]).map(begin).collect());
    if kept.len() > KEPT {
        kept.pop_front();
    }
}
