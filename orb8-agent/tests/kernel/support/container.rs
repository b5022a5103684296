//! Processes that do as they are told, line by line: what runs in the containers of a [`Node`](super::node).
//!
//! | line | does | tells |
//! |---|---|---|
//! | `serve <at>` | answers TCP connections and UDP datagrams there | `ready` |
//! | `names <at>` | is a name server there | `ready` |
//! | `call <from> <to>` | makes a TCP connection that carries something, and ends it | `done` |
//! | `open <from> <to>` | makes one and keeps it | `done` |
//! | `talk <from>` | has that one carry something | `done` |
//! | `fail <from> <to>` | tries to make one where nobody answers | `done` |
//! | `send <from> <to>` | sends two datagrams and waits for what comes back | `done` |
//! | `ask <from> <server> <name>` | asks a name server | `done` |
//!
//! `from` is a port of the client's, or an address with one: tests tell connections by it. The process
//! ends when nobody talks to it any more.

use std::{
    collections::HashMap,
    fmt::Display,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    str::FromStr,
    sync::{Arc, atomic::AtomicBool},
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use super::{
    PATIENCE, dns, name_server,
    netns::Netns,
    roles::{Player, tell},
};
use crate::kernel::support::cgroup::Cgroup;

/// Bytes that a connection carries each way.
const LOAD: usize = 3_000;

/// A container's process.
pub(crate) struct Container(Player);

impl Container {
    pub(crate) fn start(namespace: &Netns, cgroup: &Cgroup) -> Self {
        Self(Player::start(namespace, Some(cgroup), "container -"))
    }

    pub(crate) fn serve(&mut self, at: &str) {
        self.tell(&format!("serve {at}"), "ready");
    }

    pub(crate) fn names(&mut self, at: &str) {
        self.tell(&format!("names {at}"), "ready");
    }

    pub(crate) fn call(&mut self, from: impl Display, to: &str) {
        self.tell(&format!("call {from} {to}"), "done");
    }

    pub(crate) fn open(&mut self, from: impl Display, to: &str) {
        self.tell(&format!("open {from} {to}"), "done");
    }

    pub(crate) fn talk(&mut self, from: impl Display) {
        self.tell(&format!("talk {from}"), "done");
    }

    pub(crate) fn fail(&mut self, from: impl Display, to: &str) {
        self.tell(&format!("fail {from} {to}"), "done");
    }

    pub(crate) fn send(&mut self, from: impl Display, to: &str) {
        self.tell(&format!("send {from} {to}"), "done");
    }

    pub(crate) fn ask(&mut self, from: impl Display, server: &str, name: &str) {
        self.tell(&format!("ask {from} {server} {name}"), "done");
    }

    fn tell(&mut self, what: &str, answer: &str) {
        self.0.say(what);
        assert_eq!(self.0.hear::<String>(), answer, "after `{what}`");
    }
}

/// Does what it reads.
pub(super) fn run() {
    let mut open = HashMap::new();
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words {
            ["serve", at] => serve(read(at)),
            ["names", at] => names(read(at)),
            ["call", from, to] => call(from, read(to)),
            ["open", from, to] => {
                let mut stream = dial(from, read(to));
                carry(&mut stream);
                open.insert(from.to_owned(), stream);
            }
            ["talk", from] => carry(open.get_mut(from).expect("an open connection")),
            ["fail", from, to] => fail(from, read(to)),
            ["send", from, to] => send(from, read(to)),
            ["ask", from, server, name] => ask(from, read(server), name),
            _ => panic!("no command {line:?}"),
        }
        tell(if matches!(words[0], "serve" | "names") { "ready" } else { "done" });
    }
}

fn read<T: FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is not what belongs there"))
}

fn serve(at: SocketAddr) {
    let listener = TcpListener::bind(at).expect("a listener");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || echo(&mut stream));
        }
    });
    let datagrams = UdpSocket::bind(at).expect("a socket");
    std::thread::spawn(move || {
        let mut payload = vec![0; 65536];
        loop {
            match datagrams.recv_from(&mut payload) {
                // A client may be gone.
                Ok((size, from)) => drop(datagrams.send_to(&payload[..size], from)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}"),
            }
        }
    });
}

/// Sends back what comes, until the end.
fn echo(stream: &mut TcpStream) {
    let mut block = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut block) {
        if stream.write_all(&block[..read]).is_err() {
            return;
        }
    }
}

fn names(at: SocketAddr) {
    let (datagrams, _listener) = name_server::bind(at);
    let never = Arc::new(AtomicBool::new(false));
    std::thread::spawn(move || name_server::serve_datagrams(&datagrams, &never));
}

fn dial(from: &str, to: SocketAddr) -> TcpStream {
    let stream = TcpStream::from(client(SockType::Stream, from, to));
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("segments as they are written");
    stream
}

fn fail(from: &str, to: SocketAddr) {
    let socket = bound(SockType::Stream, from, to);
    let refused = connect(socket.as_raw_fd(), &SockaddrStorage::from(to));
    assert_eq!(refused, Err(nix::errno::Errno::ECONNREFUSED), "{from} to {to}");
}

/// One that is closed by both ends: the other's FIN finds a socket, which one that is waiting out its time
/// is not to programs.
fn call(from: &str, to: SocketAddr) {
    let mut stream = dial(from, to);
    carry(&mut stream);
    stream.shutdown(Shutdown::Write).expect("an end");
    assert_eq!(stream.read(&mut [0]).expect("the other end"), 0);
}

fn carry(stream: &mut TcpStream) {
    stream.write_all(&[0x5a; LOAD]).expect("sending");
    stream.read_exact(&mut [0; LOAD]).expect("an answer");
}

fn send(from: &str, to: SocketAddr) {
    let socket = UdpSocket::from(client(SockType::Datagram, from, to));
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for _ in 0..2 {
        socket.send(&[0x5a; 100]).expect("sending");
        socket.recv(&mut [0; 200]).expect("an answer");
    }
}

fn ask(from: &str, server: SocketAddr, name: &str) {
    let socket = UdpSocket::from(client(SockType::Datagram, from, server));
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    dns::ask(&socket, &dns::query(socket.local_addr().expect("its address").port(), name, dns::A));
}

/// A socket at a port of its own that is connected.
fn client(kind: SockType, from: &str, to: SocketAddr) -> OwnedFd {
    let socket = bound(kind, from, to);
    let connected = connect(socket.as_raw_fd(), &SockaddrStorage::from(to));
    connected.unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
    socket
}

/// A socket at a port of its own, from which one can connect.
fn bound(kind: SockType, from: &str, to: SocketAddr) -> OwnedFd {
    let (family, any): (_, IpAddr) = match to {
        SocketAddr::V4(_) => (AddressFamily::Inet, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (AddressFamily::Inet6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&socket, sockopt::ReuseAddr, &true).expect("an option");
    let own = from.parse().unwrap_or_else(|_| SocketAddr::new(any, read(from)));
    bind(socket.as_raw_fd(), &SockaddrStorage::from(own)).expect("the client's port");
    // Of connecting as well.
    let patience = nix::sys::time::TimeVal::new(PATIENCE.as_secs() as i64, 0);
    setsockopt(&socket, sockopt::SendTimeout, &patience).expect("a timeout");
    socket
}
