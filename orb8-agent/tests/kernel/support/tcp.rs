//! TCP connections whose every byte is known, ways to break them, and the kernel's own figures.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use orb8_proto::v1::{TcpConnection, TcpEvent, TcpEventKind, TcpHealth, TcpRole};

use super::{
    PATIENCE,
    agent::Agent,
    dns::end,
    netns::{Netns, Pair},
};

/// An open connection between the namespaces.
pub(crate) struct Connection {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
    /// Still there, so that the port stays taken.
    pub(crate) listener: TcpListener,
}

impl Connection {
    pub(crate) fn open(pair: &Pair, server: IpAddr) -> Self {
        let listener = listener(&pair.server, server, 16);
        let address = listener.local_addr().expect("its address");
        let client = pair.client.run(|| TcpStream::connect(address)).expect("connecting");
        let (server, _) = listener.accept().expect("a connection");
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("segments as they are written");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        }
        Self { client, server, listener }
    }

    pub(crate) fn client_port(&self) -> u16 {
        self.client.local_addr().expect("its address").port()
    }

    /// Carries so many bytes to the server, then so many back, and waits until they are there.
    pub(crate) fn carry(&mut self, up: usize, down: usize) {
        carry(&mut self.client, &mut self.server, up);
        carry(&mut self.server, &mut self.client, down);
    }
}

pub(crate) fn carry(from: &mut TcpStream, to: &mut TcpStream, size: usize) {
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(&vec![0x5a; size]).expect("sending"));
        to.read_exact(&mut vec![0; size]).expect("receiving");
    });
}

/// A listener with room for that many connections.
pub(crate) fn listener(namespace: &Netns, address: IpAddr, backlog: i32) -> TcpListener {
    namespace.run(|| {
        let listener = TcpListener::bind((address, 0)).expect("a listener");
        // SAFETY: the descriptor is a socket that outlives the call.
        let status = unsafe { libc::listen(listener.as_raw_fd(), backlog) };
        assert_eq!(status, 0, "listen: {}", std::io::Error::last_os_error());
        listener
    })
}

/// A socket that begins to connect and does not wait. `None` where it failed at once.
pub(crate) fn begin_to_connect(namespace: &Netns, server: SocketAddr) -> OwnedFd {
    namespace.run(|| {
        use nix::sys::socket::{
            AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket,
        };
        let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Stream, flags, None).expect("a socket");
        let begun = connect(socket.as_raw_fd(), &SockaddrStorage::from(server));
        assert!(matches!(begun, Ok(()) | Err(nix::Error::EINPROGRESS)), "{begun:?}");
        // SAFETY: a descriptor of our own, which nobody else closes.
        unsafe { OwnedFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(socket)) }
    })
}

/// Makes the socket's end a reset.
pub(crate) fn reset_at_end(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger)
        .expect("SO_LINGER");
}

/// Which segments a socket's filter lets through.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter {
    Nothing,
    /// All but one of so many, by chance.
    AllButOneOf(u32),
}

/// Makes the kernel drop what arrives for a socket. Sockets of a listener's connections inherit it.
pub(crate) fn filter(socket: &impl AsRawFd, filter: Filter) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let give = |size| step(libc::BPF_RET | libc::BPF_K, 0, 0, size);
    let mut program = match filter {
        Filter::Nothing => vec![give(0)],
        Filter::AllButOneOf(count) => vec![
            // A random number: SKF_AD_OFF + SKF_AD_RANDOM.
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, (-0x1000_i32 + 56) as u32),
            step(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, count),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 0),
            give(0),
            give(u32::MAX),
        ],
    };
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set_filter(socket, libc::SO_ATTACH_FILTER, &program);
}

/// Lets everything through again.
pub(crate) fn remove_filter(socket: &impl AsRawFd) {
    set_filter(socket, libc::SO_DETACH_FILTER, &0_i32);
}

fn set_filter<T>(socket: &impl AsRawFd, option: i32, value: &T) {
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is what the option takes, and what it points to outlives the call.
    let status = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, size)
    };
    assert_eq!(status, 0, "a filter: {}", std::io::Error::last_os_error());
}

/// What `ss -i` says of the socket with that local port: `name:value` words, and bare ones.
pub(crate) fn socket_figures(namespace: &Netns, port: u16) -> HashMap<String, String> {
    let arguments = format!("-tinaHO sport = :{port}");
    let text = namespace.command("ss", &arguments).expect("ss");
    let line = text.lines().find(|line| !line.starts_with("LISTEN")).unwrap_or_else(|| {
        panic!("no socket at port {port}: {text}");
    });
    line.split_whitespace()
        .filter_map(|word| word.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// One of the namespace's counters, as `nstat` names it: `TcpRetransSegs`, `TcpExtListenDrops`.
pub(crate) fn counter(namespace: &Netns, name: &str) -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).expect("the counters");
    let text = namespace
        .run(|| read("/proc/thread-self/net/snmp") + &read("/proc/thread-self/net/netstat"));
    let lines: Vec<&str> = text.lines().collect();
    let value = lines.chunks_exact(2).find_map(|pair| {
        let (group, names) = pair[0].split_once(": ")?;
        let (_, values) = pair[1].split_once(": ")?;
        let at = names.split(' ').position(|known| name == format!("{group}{known}"))?;
        values.split(' ').nth(at)?.parse().ok()
    });
    value.unwrap_or_else(|| panic!("no counter {name}"))
}

/// How the kernel describes one of its tracepoints; nothing where tracefs is not mounted.
pub(crate) fn tracepoint_format(group: &str, name: &str) -> String {
    let roots = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    let read = |root| std::fs::read_to_string(format!("{root}/events/{group}/{name}/format")).ok();
    roots.iter().find_map(read).unwrap_or_default()
}

/// Sets one of the namespace's settings.
pub(crate) fn set(namespace: &Netns, setting: &str, value: &str) {
    let path = format!("/proc/sys/net/{setting}");
    namespace
        .run(|| std::fs::write(&path, value))
        .unwrap_or_else(|error| panic!("{path}: {error}"));
}

pub(crate) fn has_port(event: &TcpEvent, port: u16) -> bool {
    let ends = [&event.source, &event.destination];
    ends.into_iter().flatten().any(|end| end.port == u32::from(port))
}

/// Picks what happened to one end of the connection with that client port.
pub(crate) fn is(port: u16, kind: TcpEventKind, role: TcpRole) -> impl Fn(&TcpEvent) -> bool {
    move |event| event.kind() == kind && event.role() == role && has_port(event, port)
}

pub(crate) fn health(event: &TcpEvent) -> &TcpHealth {
    event.health.as_ref().unwrap_or_else(|| panic!("no figures: {event:#?}"))
}

/// Asks until the connection's figures at one end are as `wanted` has them.
pub(crate) async fn figures(
    agent: &mut Agent,
    client_port: u16,
    role: TcpRole,
    wanted: impl Fn(&TcpHealth) -> bool,
) -> TcpHealth {
    let start = std::time::Instant::now();
    loop {
        agent.drain().await;
        let connections = agent.connections().await.connections;
        let is_ours = |known: &&TcpConnection| {
            let ends = [&known.source, &known.destination];
            let health = known.health.as_ref();
            ends.into_iter().any(|this| end(this.as_ref()).port() == client_port)
                && health.is_some_and(|health| health.role() == role)
        };
        let found = connections.iter().find(is_ours).and_then(|found| found.health);
        if let Some(found) = found.filter(|health| wanted(health)) {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{found:#?} of {connections:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
