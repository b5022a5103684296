//! DNS messages, and the programs that people ask with.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use orb8_proto::v1::{DnsExchange, DnsSide, Endpoint};

use super::{
    cgroup::Cgroup,
    eventually,
    netns::{Netns, SERVER4, SERVER6},
    program::Program,
};

pub(crate) const A: u16 = 1;
pub(crate) const PORT: u16 = 53;

/// A query as clients send it.
pub(crate) fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(id.to_be_bytes());
    // Recursion desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(u8::try_from(label.len()).expect("a label"));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(1_u16.to_be_bytes());
    message
}

/// The answer to a query: that many A records of 192.0.2.1, 192.0.2.2, …
pub(crate) fn answer(query: &[u8], rcode: u8, records: u16) -> Vec<u8> {
    // Without what EDNS put behind the question.
    let name = query[12..].iter().position(|byte| *byte == 0).expect("the end of the name");
    let mut message = query[..12 + name + 5].to_vec();
    message[2] |= 0x80;
    message[3] = 0x80 | rcode;
    message[6..8].copy_from_slice(&records.to_be_bytes());
    message[8..12].fill(0);
    for record in 1..=records {
        // The name is the question's; class IN, five minutes.
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0]);
        message.extend((0x0200 | record & 0xff).to_be_bytes());
    }
    message
}

/// Sends a query by UDP and waits for one datagram.
pub(crate) fn ask(socket: &UdpSocket, query: &[u8]) -> Vec<u8> {
    socket.send(query).expect("asking");
    receive(socket)
}

pub(crate) fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut answer = vec![0; 65536];
    let size = socket.recv(&mut answer).expect("an answer");
    answer.truncate(size);
    answer
}

/// A client's socket in a namespace.
pub(crate) fn client(namespace: &Netns, from: IpAddr, server: SocketAddr) -> UdpSocket {
    namespace.run(|| {
        let socket = UdpSocket::bind((from, 0)).expect("a client socket");
        socket.set_read_timeout(Some(super::PATIENCE)).expect("a timeout");
        socket.connect(server).expect("connecting");
        socket
    })
}

/// Writes a message with its length before it.
pub(crate) fn write_message(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).expect("a length");
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed).expect("sending");
}

/// Reads a message; `None` at the end of the stream.
pub(crate) fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// Names that `dnsmasq` knows here.
pub(crate) const WEB: &str = "web.orb8.test";
pub(crate) const WEB4: IpAddr = SERVER4;
pub(crate) const WEB6: IpAddr = SERVER6;

/// Runs `dnsmasq` on the server's addresses.
pub(crate) fn resolver(namespace: &Netns, cgroup: Option<&Cgroup>) -> Program {
    let mut arguments: Vec<String> = [
        "--no-daemon --conf-file=/dev/null --no-resolv --no-hosts --no-poll --user= --group=",
        "--pid-file= --bind-interfaces --local=/orb8.test/ --cache-size=0",
        "--cname=alias.orb8.test,middle.orb8.test --cname=middle.orb8.test,web.orb8.test",
        "--host-record=xn--bcher-kva.orb8.test,192.0.2.20 --log-facility=/dev/null",
    ]
    .iter()
    .flat_map(|part| part.split(' '))
    .map(str::to_owned)
    .collect();
    arguments.push(format!("--host-record={WEB},{WEB4},{WEB6},120"));
    arguments.extend([SERVER4, SERVER6].map(|address| format!("--listen-address={address}")));
    let long = "a".repeat(250);
    arguments.extend((0..8).map(|i| format!("--txt-record=big.orb8.test,{i}{long}")));
    // It has nobody to ask, and says so to nobody.
    let mut program = Program::start(namespace, cgroup, "dnsmasq", &arguments);
    eventually("a resolver that answers", || {
        program.expect_running();
        let server = format!("@{SERVER4}");
        namespace.command("dig", &format!("-r {server} +tries=1 +timeout=1 {WEB}")).ok()
    });
    program
}

/// What `dig` says.
#[derive(Debug)]
pub(crate) struct Dug {
    pub(crate) status: String,
    /// Its own figure, to the microsecond.
    pub(crate) time: Duration,
    pub(crate) text: String,
}

/// Runs `dig` until its first answer.
pub(crate) fn dig(namespace: &Netns, server: IpAddr, arguments: &str) -> Dug {
    // `-u` for microseconds: milliseconds come from the coarse clock and may be off by a tick of it.
    let all = format!("-r -u @{server} +tries=1 +timeout=5 {arguments}");
    let text = namespace.command("dig", &all).unwrap_or_else(|error| panic!("dig {all}: {error}"));
    let find = |before: &str, after: &str| {
        let (_, rest) = text.split_once(before)?;
        Some(rest.split_once(after)?.0.to_owned())
    };
    let status = find("status: ", ",").unwrap_or_else(|| panic!("dig {all}: {text}"));
    let time = find("Query time: ", " usec").expect("a time").parse().expect("a number");
    Dug { status, time: Duration::from_micros(time), text }
}

pub(crate) fn is_client(exchange: &DnsExchange) -> bool {
    exchange.side() == DnsSide::Client
}

/// Address and port of an end.
pub(crate) fn end(endpoint: Option<&Endpoint>) -> SocketAddr {
    let endpoint = endpoint.expect("an end");
    let ip = match <[u8; 4]>::try_from(endpoint.ip.as_slice()) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(endpoint.ip.as_slice()).expect("an address")),
    };
    SocketAddr::new(ip, u16::try_from(endpoint.port).expect("a port"))
}

/// The addresses among an exchange's answers.
pub(crate) fn addresses(exchange: &DnsExchange) -> Vec<IpAddr> {
    use orb8_proto::v1::dns_answer::Data;
    let address = |data: &Data| match data {
        Data::Ip(ip) => Some(end(Some(&Endpoint { ip: ip.clone(), ..Endpoint::default() })).ip()),
        Data::Target(_) => None,
    };
    exchange.answers.iter().filter_map(|answer| address(answer.data.as_ref()?)).collect()
}

/// The names that an exchange's answers point to.
pub(crate) fn targets(exchange: &DnsExchange) -> Vec<String> {
    use orb8_proto::v1::dns_answer::Data;
    let target = |data: &Data| match data {
        Data::Target(name) => Some(name.clone()),
        Data::Ip(_) => None,
    };
    exchange.answers.iter().filter_map(|answer| target(answer.data.as_ref()?)).collect()
}
