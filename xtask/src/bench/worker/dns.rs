//! A DNS server that knows every name, and its client.

use std::{
    io::{self, Read, Write},
    net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    sync::atomic::Ordering::Relaxed,
    thread,
    time::Duration,
};

use super::{Pace, SENT, spawn, udp};

/// What `dns-ask` takes.
#[derive(clap::Args)]
pub(crate) struct Ask {
    to: SocketAddrV4,
    /// Over one connection, one query at a time; else by datagrams, several at a time
    #[arg(long)]
    tcp: bool,
    /// Queries a second; 0 for as many as it can
    #[arg(long)]
    rate: u64,
}

/// Bytes of a query, without the length that TCP puts in front.
const QUERY: usize = 64;
/// Bytes of an answer: the question, and two addresses.
const ANSWER: usize = QUERY + 2 * RECORD;
/// Bytes of an IPv6 address's record whose name is a pointer.
const RECORD: usize = 28;

/// Datagrams that wait for their answers.
const WINDOW: u64 = 16;
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(200);

/// Names that are asked for, in turn: a node's working set.
const NAMES: u16 = 256;
const SERVICE: &[u8] = b"service-";
const DIGITS: usize = 12;
const DOMAIN: &[u8] = b"\x07default\x03svc\x07cluster\x05local\0";

const HEADER: usize = 12;
const TYPE_AAAA: u8 = 28;
const CLASS_IN: u8 = 1;

/// The query of this number.
fn query(number: u16) -> [u8; QUERY] {
    let [high, low] = number.to_be_bytes();
    let mut query = [0; QUERY];
    // An identifier; recursion is desired; one question.
    query[..HEADER].copy_from_slice(&[high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let label = SERVICE.len() + DIGITS;
    let name = format!("{:0width$}", number % NAMES, width = DIGITS);
    let mut rest = &mut query[HEADER..];
    for part in [&[label as u8], SERVICE, name.as_bytes(), DOMAIN, &[0, TYPE_AAAA, 0, CLASS_IN]] {
        let (start, end) = rest.split_at_mut(part.len());
        start.copy_from_slice(part);
        rest = end;
    }
    query
}

/// What the name's addresses are.
fn answer_to(query: &[u8; QUERY]) -> [u8; ANSWER] {
    /// A pointer to the question's name, type, class, a TTL of 30 seconds, an address of 16 bytes,
    /// and how it begins: 2001:db8::/32 is for documentation.
    const START: [u8; 16] =
        [0xc0, HEADER as u8, 0, TYPE_AAAA, 0, CLASS_IN, 0, 0, 0, 30, 0, 16, 0x20, 0x01, 0x0d, 0xb8];
    let mut answer = [0; ANSWER];
    answer[..QUERY].copy_from_slice(query);
    // It is a response, and recursion is available; two records.
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[7] = 2;
    // The name's last digits tell its addresses from others'.
    let digits = HEADER + 1 + SERVICE.len() + 4..HEADER + 1 + SERVICE.len() + DIGITS;
    for (number, record) in answer[QUERY..].chunks_exact_mut(RECORD).enumerate() {
        record[..START.len()].copy_from_slice(&START);
        record[START.len()] = number as u8;
        record[RECORD - 8..].copy_from_slice(&query[digits.clone()]);
    }
    answer
}

pub(super) fn answer(address: SocketAddrV4) -> io::Result<()> {
    let (socket, listener) = (UdpSocket::bind(address)?, TcpListener::bind(address)?);
    spawn(move || {
        let mut query = [0; QUERY];
        while let Ok((_, client)) = socket.recv_from(&mut query) {
            // A client that is gone waits for nothing.
            let _ = socket.send_to(&answer_to(&query), client);
        }
    });
    spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            spawn_once(stream);
        }
    });
    Ok(())
}

/// Each connection has a thread: one that stays does not keep others out.
fn spawn_once(mut stream: TcpStream) {
    thread::spawn(move || -> io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let mut message = [0; 2 + QUERY];
            stream.read_exact(&mut message)?;
            let [_, _, query @ ..] = message;
            stream.write_all(&framed::<ANSWER, { 2 + ANSWER }>(&answer_to(&query)))?;
        }
    });
}

/// A message with its length in front.
fn framed<const N: usize, const FRAMED: usize>(message: &[u8; N]) -> [u8; FRAMED] {
    let mut framed = [0; FRAMED];
    framed[..2].copy_from_slice(&(N as u16).to_be_bytes());
    framed[2..].copy_from_slice(message);
    framed
}

pub(super) fn ask(ask: &Ask) -> io::Result<()> {
    let Ask { to, tcp, rate } = *ask;
    let mut next = 0_u16;
    let mut next_query = move || {
        next = next.wrapping_add(1);
        query(next)
    };
    if tcp {
        let mut stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        again_and_again(rate, 1, move |_| {
            let question = framed::<QUERY, { 2 + QUERY }>(&next_query());
            let asked = stream.write_all(&question);
            asked.and_then(|()| stream.read_exact(&mut [0; 2 + ANSWER])).map(|()| 1)
        });
    } else {
        let socket = udp::connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        again_and_again(rate, WINDOW, move |count| {
            let asked = (0..count).filter(|_| socket.send(&next_query()).is_ok()).count();
            let came = |_: &usize| socket.recv(&mut [0; ANSWER]).is_ok();
            Ok((0..asked).take_while(came).count() as u64)
        });
    }
    Ok(())
}

/// Asks at a rate, at most `window` at a time; `ask` returns how many were answered.
fn again_and_again(
    rate: u64,
    window: u64,
    mut ask: impl FnMut(u64) -> io::Result<u64> + Send + 'static,
) {
    let mut pace = Pace::new(rate);
    spawn(move || {
        loop {
            let mut due = pace.due();
            while due > 0 {
                let count = due.min(window);
                match ask(count) {
                    Ok(answered) => drop(SENT.fetch_add(answered, Relaxed)),
                    // The connection is gone for good.
                    Err(_) => return,
                }
                due -= count;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_question_of_its_own() {
        let query = query(0x0305);
        assert_eq!(query[..2], [3, 5]);
        assert_eq!(&query[HEADER..HEADER + 21], b"\x14service-000000000005");
        assert!(query.ends_with(b"\x05local\0\0\x1c\0\x01"), "{query:?}");
    }

    #[test]
    fn an_answer_has_two_addresses_of_the_name() {
        let query = query(7);
        let answer = answer_to(&query);
        assert_eq!(answer[..8], [0, 7, 0x81, 0x80, 0, 1, 0, 2]);
        assert_eq!(answer[HEADER..QUERY], query[HEADER..]);
        let [first, second] = [QUERY, QUERY + RECORD].map(|at| &answer[at + 12..at + RECORD]);
        assert_eq!(&first[..5], [0x20, 0x01, 0x0d, 0xb8, 0]);
        assert!(first.ends_with(b"00000007"), "{first:?}");
        assert_ne!(first, second);
    }

    #[test]
    fn messages_over_tcp_have_their_length_in_front() {
        let framed: [u8; 2 + QUERY] = framed(&query(1));
        assert_eq!(framed[..2], [0, 64]);
    }
}
