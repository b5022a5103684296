//! A name server that does what the first label of a name says: what no real one can be made to do.
//!
//! | label | answer |
//! |---|---|
//! | `after-<ms>` | after so long |
//! | `never` | none |
//! | `rcode-<n>` | that response code, no record |
//! | `forged` | one with another id and one to another question, then the true one |
//! | `garbage` | bytes that are no message, then the true one |
//! | `large-<n>` | so many records |
//! | `short` | over UDP none but TC |
//! | `split` | over TCP byte by byte |
//! | any other | one record |

use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{
    dns::{answer, query, read_message},
    netns::Netns,
};

/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// A running server. It ends when it is dropped.
pub(crate) struct NameServer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    pub(crate) address: SocketAddr,
}

impl NameServer {
    pub(crate) fn start(namespace: &Netns, address: SocketAddr) -> Self {
        let (datagrams, listener) = namespace.run(|| bind(address));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = vec![
            std::thread::spawn({
                let stop = Arc::clone(&stop);
                move || serve_datagrams(&datagrams, &stop)
            }),
            std::thread::spawn({
                let stop = Arc::clone(&stop);
                move || serve_streams(&listener, &stop)
            }),
        ];
        Self { stop, threads, address }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // A test that fails already has something to say.
            let _ = thread.join();
        }
    }
}

/// The sockets of a server at an address.
pub(crate) fn bind(address: SocketAddr) -> (UdpSocket, TcpListener) {
    let datagrams = UdpSocket::bind(address).expect("the server's socket");
    datagrams.set_read_timeout(Some(LOOK)).expect("a timeout");
    let listener = TcpListener::bind(address).expect("the server's listener");
    listener.set_nonblocking(true).expect("a listener that does not block");
    (datagrams, listener)
}

pub(crate) fn serve_datagrams(socket: &UdpSocket, stop: &AtomicBool) {
    let mut message = vec![0; 65536];
    while !stop.load(Relaxed) {
        match socket.recv_from(&mut message) {
            Ok((size, client)) => {
                for answer in answers(&message[..size], true) {
                    // A client may be gone.
                    let _ = socket.send_to(&answer, client);
                }
            }
            // Out of time, or told that a client was gone.
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::ConnectionRefused
                ),
                "{error}"
            ),
        }
    }
}

fn serve_streams(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => serve_stream(stream),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn serve_stream(mut stream: TcpStream) {
    stream.set_nonblocking(false).expect("a stream that blocks");
    stream.set_nodelay(true).expect("segments as they are written");
    stream.set_read_timeout(Some(super::PATIENCE)).expect("a timeout");
    while let Some(query) = read_message(&mut stream) {
        for answer in answers(&query, false) {
            let mut framed = u16::try_from(answer.len()).expect("a length").to_be_bytes().to_vec();
            framed.extend(answer);
            let part = if label(&query) == "split" { 1 } else { framed.len() };
            for bytes in framed.chunks(part) {
                if stream.write_all(bytes).is_err() {
                    return;
                }
            }
        }
    }
}

/// The first label of the question.
fn label(query: &[u8]) -> String {
    let length = query.get(12).copied().map_or(0, usize::from);
    let label = query.get(13..13 + length).unwrap_or_default();
    String::from_utf8_lossy(label).to_lowercase()
}

fn answers(message: &[u8], is_datagram: bool) -> Vec<Vec<u8>> {
    // Too short for a question.
    if message.len() < 17 {
        return Vec::new();
    }
    let label = label(message);
    let (word, value) = label.split_once('-').unwrap_or((&label, "0"));
    let value: u16 = value.parse().unwrap_or(0);
    match word {
        "after" => {
            std::thread::sleep(Duration::from_millis(value.into()));
            vec![answer(message, 0, 1)]
        }
        "never" => Vec::new(),
        "rcode" => vec![answer(message, value as u8, 0)],
        "forged" => {
            let id = u16::from_be_bytes([message[0], message[1]]);
            let mut other_id = answer(message, 0, 2);
            other_id[..2].copy_from_slice(&(id ^ 0x5555).to_be_bytes());
            let other_question = answer(&query(id, "elsewhere.test", 1), 0, 2);
            vec![other_id, other_question, answer(message, 0, 1)]
        }
        "garbage" => vec![vec![0xff; 5], vec![0xff; 100], answer(message, 0, 1)],
        "large" => vec![answer(message, 0, value)],
        "short" if is_datagram => {
            let mut cut = answer(message, 0, 0);
            cut[2] |= 2;
            vec![cut]
        }
        _ => vec![answer(message, 0, 1)],
    }
}
