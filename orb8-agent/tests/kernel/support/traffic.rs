//! Traffic whose every packet is known.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto,
    setsockopt, socket, sockopt,
};

use super::{
    PATIENCE,
    netns::{Netns, Pair},
};

/// Both ends of what was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// IP and UDP (or ICMP echo) headers of a packet between these addresses, bytes.
pub(crate) const fn headers(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(_) => 20 + 8,
        IpAddr::V6(_) => 40 + 8,
    }
}

/// How a UDP client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Udp {
    /// `connect` and `send`.
    Connected,
    /// `sendto`.
    Unconnected,
}

/// Sends `count` datagrams of `size` payload bytes to an echo server, one after another.
pub(crate) fn udp_echo(
    pair: &Pair,
    (client, server): (IpAddr, IpAddr),
    how: Udp,
    count: u64,
    size: usize,
) -> Ends {
    let (port, echo) = udp_echo_server(&pair.server, server, count);
    let server = SocketAddr::new(server, port);
    let client = pair.client.run(|| {
        let socket = UdpSocket::bind((client, 0)).expect("a client socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        if how == Udp::Connected {
            socket.connect(server).expect("connecting");
        }
        let payload = vec![0x5a; size];
        let mut answer = vec![0; size + 1];
        for _ in 0..count {
            let sent = match how {
                Udp::Connected => socket.send(&payload),
                Udp::Unconnected => socket.send_to(&payload, server),
            };
            assert_eq!(sent.expect("sending"), size);
            assert_eq!(socket.recv(&mut answer).expect("an answer"), size);
        }
        socket.local_addr().expect("the client's address")
    });
    echo.join().expect("the echo server");
    Ends { client, server }
}

fn udp_echo_server(
    namespace: &Netns,
    address: IpAddr,
    count: u64,
) -> (u16, std::thread::JoinHandle<()>) {
    let (port, bound) = mpsc::sync_channel(1);
    let thread = namespace.spawn(move || {
        let socket = UdpSocket::bind((address, 0)).expect("a server socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        port.send(socket.local_addr().expect("its address").port()).expect("a waiting test");
        let mut payload = vec![0; 65536];
        for _ in 0..count {
            let (size, from) = socket.recv_from(&mut payload).expect("a datagram");
            socket.send_to(&payload[..size], from).expect("answering");
        }
    });
    (bound.recv().expect("the server's port"), thread)
}

/// Listens, and serves that many connections one after another: reads to the end, then writes
/// `answer` bytes and closes.
pub(crate) fn tcp_server(
    namespace: &Netns,
    address: IpAddr,
    connections: u64,
    answer: usize,
) -> (u16, std::thread::JoinHandle<u64>) {
    let (port, bound) = mpsc::sync_channel(1);
    let thread = namespace.spawn(move || {
        let listener = TcpListener::bind((address, 0)).expect("a listener");
        port.send(listener.local_addr().expect("its address").port()).expect("a waiting test");
        (0..connections).map(|_| serve(&listener, answer)).sum()
    });
    (bound.recv().expect("the server's port"), thread)
}

pub(crate) fn serve(listener: &TcpListener, answer: usize) -> u64 {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let read = read_all(&mut stream).expect("reading");
    write_all(&mut stream, answer as u64).expect("answering");
    read
}

/// Connects, writes `size` bytes, reads the answer and closes. Returns the client's address.
pub(crate) fn tcp_request(server: SocketAddr, size: u64) -> SocketAddr {
    let mut stream = TcpStream::connect(server).expect("connecting");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write_all(&mut stream, size).expect("sending");
    stream.shutdown(Shutdown::Write).expect("ending the request");
    read_all(&mut stream).expect("reading the answer");
    stream.local_addr().expect("the client's address")
}

/// One connection that carries `up` bytes to the server, and then `down` back.
pub(crate) fn tcp_transfer(
    pair: &Pair,
    (_, server): (IpAddr, IpAddr),
    up: u64,
    down: usize,
) -> Ends {
    let (port, thread) = tcp_server(&pair.server, server, 1, down);
    let server = SocketAddr::new(server, port);
    let client = pair.client.run(|| tcp_request(server, up));
    assert_eq!(thread.join().expect("the server"), up, "bytes that arrived");
    Ends { client, server }
}

pub(crate) fn write_all(stream: &mut impl Write, mut size: u64) -> io::Result<()> {
    let block = vec![0x5a; 65536];
    while size > 0 {
        let part = block.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        stream.write_all(&block[..part])?;
        size -= part as u64;
    }
    Ok(())
}

pub(crate) fn read_all(stream: &mut impl Read) -> io::Result<u64> {
    let mut block = vec![0; 65536];
    let mut total = 0;
    loop {
        match stream.read(&mut block) {
            Ok(0) => return Ok(total),
            Ok(read) => total += read as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Types of an ICMP echo request and reply.
pub(crate) const fn echo_types(address: IpAddr) -> (u8, u8) {
    match address {
        IpAddr::V4(_) => (8, 0),
        IpAddr::V6(_) => (128, 129),
    }
}

/// Sends `count` echo requests of `size` data bytes through a raw socket, and waits for each reply.
pub(crate) fn ping(pair: &Pair, (_, server): (IpAddr, IpAddr), count: u16, size: usize) {
    pair.client.run(|| {
        let socket = icmp_socket(server);
        for sequence in 0..count {
            let request = echo_request(server, sequence, size);
            send_to(&socket, &request, server);
            wait_for_reply(&socket, server, sequence);
        }
    });
}

fn icmp_socket(server: IpAddr) -> OwnedFd {
    let (family, protocol) = match server {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol);
    let socket = socket.expect("a raw socket: run as root");
    let timeout = nix::sys::time::TimeVal::new(PATIENCE.as_secs() as i64, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &timeout).expect("a timeout");
    socket
}

fn send_to(socket: &OwnedFd, packet: &[u8], server: IpAddr) {
    let address = SockaddrStorage::from(SocketAddr::new(server, 0));
    sendto(socket.as_raw_fd(), packet, &address, MsgFlags::empty()).expect("sending");
}

fn echo_request(server: IpAddr, sequence: u16, size: usize) -> Vec<u8> {
    let mut request = vec![echo_types(server).0, 0, 0, 0, 0x0b, 0x08];
    request.extend(sequence.to_be_bytes());
    request.resize(8 + size, 0x5a);
    if server.is_ipv4() {
        // ICMPv6's is the kernel's affair.
        let checksum = super::frames::checksum(&request);
        request[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    request
}

fn wait_for_reply(socket: &OwnedFd, server: IpAddr, sequence: u16) {
    let mut packet = [0; 2048];
    loop {
        let read = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()).expect("a reply");
        // Raw IPv4 sockets receive the IP header too.
        let header = if server.is_ipv4() { 20 } else { 0 };
        let Some(message) = packet[..read].get(header..) else { continue };
        if message[0] == echo_types(server).1 && message[6..8] == sequence.to_be_bytes() {
            return;
        }
    }
}

/// As many datagrams as go out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flood {
    pub(crate) client: IpAddr,
    pub(crate) server: IpAddr,
    /// Flows: destination ports of one socket, or connected sockets.
    pub(crate) flows: u16,
    pub(crate) connected: bool,
    /// Payload, bytes.
    pub(crate) size: usize,
}

/// Sends for that long, to each flow in turn. Returns how many datagrams the kernel took.
pub(crate) fn flood(flood: Flood, time: Duration) -> u64 {
    let Flood { client, server, flows, connected, size } = flood;
    let bind = || UdpSocket::bind((client, 0)).expect("a client socket");
    let sockets: Vec<UdpSocket> = (0..if connected { flows } else { 1 }).map(|_| bind()).collect();
    if connected {
        for socket in &sockets {
            socket.connect((server, 9)).expect("connecting");
        }
    }
    let payload = vec![0x5a; size];
    let end = Instant::now() + time;
    let mut sent = 0;
    while Instant::now() < end {
        for flow in 0..flows {
            let result = if connected {
                sockets[usize::from(flow)].send(&payload)
            } else {
                sockets[0].send_to(&payload, (server, 10_000 + flow))
            };
            // Refused where nobody listens, or no room.
            sent += u64::from(result.is_ok());
        }
    }
    sent
}
