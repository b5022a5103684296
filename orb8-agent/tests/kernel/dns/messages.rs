//! Messages of every size and none: what cannot be read is told as that, and what follows is read.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use orb8_proto::v1::{DnsExchange, DnsOutcome, DnsSide, Protocol};

use super::config;
use crate::kernel::support::{
    Lab,
    agent::{Agent, in_runtime},
    dns::{A, ask, client, end, is_client, query, read_message, receive, write_message},
    name_server::NameServer,
    netns::{CLIENT4, CLIENT6, SERVER4, SERVER6, VERSIONS},
    skip,
};

#[test]
fn bytes_that_are_no_message() {
    let lab = Lab::new();
    for (from, server) in VERSIONS {
        let server = NameServer::start(&lab.pair.server, (server, 53).into());
        in_runtime(&lab.pair.client, async || {
            let mut agent = Agent::start(config(&lab.cgroup)).await;
            let mut watch = agent.watch_dns().await;
            let socket = client(&lab.pair.client, from, server.address);
            // Down to nothing at all.
            for size in [0, 1, 2, 11] {
                socket.send(&vec![0; size]).expect("sending");
            }
            ask(&socket, &query(3, "garbage.test", A));
            (0..2).for_each(|_| drop(receive(&socket)));
            let is_answer = |told: &DnsExchange| told.outcome() == DnsOutcome::Answered;
            let answered = watch.several(2, "the true answers", is_answer).await;
            assert!(answered.iter().all(|told| told.name == "garbage.test"), "{answered:#?}");
            let malformed = watch.seen.iter().filter(|told| told.side() == DnsSide::Client);
            let malformed = malformed.filter(|told| told.outcome() == DnsOutcome::Malformed);
            assert_eq!(malformed.count(), 3 + 2, "{:#?}", watch.seen);
            let totals = agent.dns().await.totals.expect("totals");
            assert_eq!((totals.malformed, totals.lost_messages), (10, 0), "{totals:?}");
            agent.stop().await;
        });
    }
}

/// Who sends them is told by the ports, whatever they say of themselves.
#[test]
fn bytes_that_are_no_message_to_a_server() {
    let lab = Lab::new();
    let server = SocketAddr::new(SERVER4, 53);
    let _silent = lab.pair.server.run(|| UdpSocket::bind(server)).expect("the server's socket");
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        let socket = client(&lab.pair.client, CLIENT4, server);
        let mut response = query(2, "never.test", A);
        response[2] |= 0x80;
        for bytes in [vec![0xff; 600], response] {
            socket.send(&bytes).expect("sending");
            for side in [DnsSide::Client, DnsSide::Server] {
                let is = |told: &DnsExchange| told.side() == side;
                let told = watch.one("the message", is).await;
                assert_eq!(told.outcome(), DnsOutcome::Malformed, "{told:#?}");
                assert_eq!(end(told.client.as_ref()), socket.local_addr().expect("an address"));
                assert_eq!(end(told.server.as_ref()), server);
            }
            watch.seen.clear();
        }
        agent.stop().await;
    });
}

/// Datagrams that leave as one: the first is told with its own length.
#[test]
fn datagrams_that_the_kernel_splits() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        let socket = client(&lab.pair.client, CLIENT4, server.address);
        let [first, second] = [1, 2].map(|id| query(id, "a.test", A));
        let size = i32::try_from(first.len()).expect("a length");
        if let Err(error) = setsockopt(&socket, sockopt::UdpGsoSegment, &size) {
            return skip("segmentation of UDP", &error.to_string());
        }
        ask(&socket, &[&first[..], &second].concat());
        let is = |told: &DnsExchange| told.id == 1 && told.side() == DnsSide::Client;
        let told = watch.one("the first", is).await;
        assert_eq!((told.outcome(), told.query_bytes), (DnsOutcome::Answered, size as u32));
        agent.stop().await;
    });
}

/// Larger than what is copied, larger than a frame, and as large as TCP's length allows.
#[test]
fn large_messages() {
    let lab = Lab::new();
    for (from, server) in [(CLIENT4, SERVER4), (CLIENT6, SERVER6)] {
        let server = NameServer::start(&lab.pair.server, (server, 53).into());
        in_runtime(&lab.pair.client, async || {
            let mut agent = Agent::start(config(&lab.cgroup)).await;
            let mut watch = agent.watch_dns().await;
            let socket = client(&lab.pair.client, from, server.address);
            let mut stream =
                lab.pair.client.run(|| TcpStream::connect(server.address)).expect("connecting");
            for (id, records) in [(1, 20), (2, 30), (3, 80), (4, 250)] {
                let question = query(id, &format!("large-{records}.test"), A);
                let size = ask(&socket, &question).len() as u32;
                let told = watch.one("the answer", |told| told.id == u32::from(id)).await;
                assert_eq!(told.outcome(), DnsOutcome::Answered, "{told:#?}");
                assert_eq!((told.answer_count, told.response_bytes), (records, size));
                assert_eq!(told.answers.len(), 16, "{told:#?}");
            }
            for (id, records) in [(11, 20), (12, 250), (13, 4000), (14, 1)] {
                let question = query(id, &format!("large-{records}.test"), A);
                write_message(&mut stream, &question);
                let size = read_message(&mut stream).expect("an answer").len() as u32;
                let told = watch.one("the answer", |told| told.id == u32::from(id)).await;
                assert_eq!(told.outcome(), DnsOutcome::Answered, "{told:#?}");
                assert_eq!((told.answer_count, told.response_bytes), (records, size));
            }
            agent.stop().await;
        });
    }
}

/// Messages do not begin and end where segments do.
#[test]
fn messages_in_segments() {
    let lab = Lab::new();
    for (_, server) in VERSIONS {
        let server = NameServer::start(&lab.pair.server, (server, 53).into());
        in_runtime(&lab.pair.client, async || {
            let mut agent = Agent::start(config(&lab.cgroup)).await;
            let mut watch = agent.watch_dns().await;
            lab.pair.client.run(|| converse(server.address));
            for id in 1..=6 {
                for side in [DnsSide::Client, DnsSide::Server] {
                    let is = |told: &DnsExchange| told.id == id && told.side() == side;
                    let told = watch.one("an answer", is).await;
                    assert_eq!(told.outcome(), DnsOutcome::Answered, "{told:#?}");
                    assert_eq!(told.protocol(), Protocol::Tcp);
                }
            }
            agent.stop().await;
        });
    }
}

fn converse(server: SocketAddr) {
    let mut stream = TcpStream::connect(server).expect("connecting");
    stream.set_nodelay(true).expect("segments as they are written");
    // Three in one segment.
    let mut together = Vec::new();
    for (id, name) in [(1, "one.test"), (2, "rcode-3.test"), (3, "after-20.test")] {
        let message = query(id, name, A);
        together.extend((message.len() as u16).to_be_bytes());
        together.extend(message);
    }
    stream.write_all(&together).expect("asking");
    (0..3).for_each(|_| drop(read_message(&mut stream).expect("an answer")));
    // One in many, even its length.
    let message = query(4, "split.test", A);
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend(message);
    for byte in framed {
        stream.write_all(&[byte]).expect("asking");
        std::thread::sleep(Duration::from_millis(1));
    }
    read_message(&mut stream).expect("an answer");
    // One and a half, then the rest.
    let [mut first, second] = [(5, "five.test"), (6, "six.test")].map(|(id, name)| {
        let message = query(id, name, A);
        let mut framed = (message.len() as u16).to_be_bytes().to_vec();
        framed.extend(message);
        framed
    });
    first.extend(&second[..9]);
    stream.write_all(&first).expect("asking");
    read_message(&mut stream).expect("an answer");
    stream.write_all(&second[9..]).expect("asking");
    read_message(&mut stream).expect("an answer");
}

/// A client that hears TC asks again over TCP, from the same or another port.
#[test]
fn an_answer_that_does_not_fit() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        let question = query(9, "short.test", A);
        ask(&client(&lab.pair.client, CLIENT4, server.address), &question);
        lab.pair.client.run(|| {
            let mut stream = TcpStream::connect(server.address).expect("connecting");
            write_message(&mut stream, &question);
            read_message(&mut stream).expect("an answer");
        });
        let told = watch.several(2, "two answers", is_client).await;
        let told: Vec<_> = told.iter().map(|told| (told.protocol(), told.truncated)).collect();
        assert_eq!(told, [(Protocol::Udp, true), (Protocol::Tcp, false)]);
        let summaries = agent.dns().await.summaries;
        let ours = summaries.iter().find(|row| row.side() == DnsSide::Client).expect("a row");
        assert_eq!((ours.queries, ours.truncated), (2, 1), "{ours:?}");
        agent.stop().await;
    });
}
