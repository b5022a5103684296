//! The kernel's connection tracking: which end stands behind an address that is translated on this
//! node, as a Service's is.
//!
//! ```text
//! pipeline ─▶ Translations ──(not known, and it is time to ask)──▶ Conntrack ─▶ netlink
//!             bounded, asks again                                  message
//! ```
//! One connection is asked for at a time. The kernel answers within the system call that asks, so
//! that nothing waits.

use std::io;
use std::path::Path;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use orb8_common::packet::protocol;

use crate::event::SocketEnd;
use message::{Answer, Question};

mod message;
mod translations;

pub use translations::{Tracking, Translations, Wanted};

/// There where this network namespace's connections are tracked. Asking without would load the
/// kernel's module, and from then on every packet would pay for it.
const TRACKED: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// Bytes of the longest answer: an entry with all that an entry may have takes less than 1 KiB.
const LONGEST_ANSWER: usize = 4096;

/// One direction of a connection: what its packets say on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Who sends.
    pub source: SocketEnd,
    /// To where.
    pub destination: SocketEnd,
    /// IP protocol number.
    pub protocol: u8,
}

impl Tuple {
    /// Returns what comes back where nothing is translated.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self { source: self.destination, destination: self.source, protocol: self.protocol }
    }

    /// Whether connection tracking knows such connections by their ports.
    const fn is_tracked(&self) -> bool {
        matches!(self.protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
    }
}

/// Why connection tracking cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// Nothing is tracked, so nothing is translated.
    #[error("nothing is translated here: connection tracking (nf_conntrack) is not loaded")]
    Absent,
    /// The capability is missing.
    #[error("connection tracking does not answer; grant CAP_NET_ADMIN")]
    NotPermitted(#[source] io::Error),
    /// Anything else.
    #[error("connection tracking does not answer")]
    Io(#[source] io::Error),
}

/// A connection to the tracking of one network namespace.
pub struct Conntrack {
    socket: Socket,
    sequence: u32,
    answer: Box<[u8; LONGEST_ANSWER]>,
}

impl Conntrack {
    /// Opens a connection in the calling thread's network namespace, and asks once, to know that
    /// there will be answers.
    ///
    /// # Errors
    /// [`ConntrackError`].
    pub fn open() -> Result<Self, ConntrackError> {
        if !Path::new(TRACKED).exists() {
            return Err(ConntrackError::Absent);
        }
        let socket = connect().map_err(ConntrackError::Io)?;
        let mut opened = Self { socket, sequence: 0, answer: Box::new([0; LONGEST_ANSWER]) };
        let nobody = Tuple { protocol: protocol::UDP, ..Tuple::default() };
        match opened.opposite_of(&nobody) {
            Ok(_) => Ok(opened),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ConntrackError::NotPermitted(error))
            }
            Err(error) => Err(ConntrackError::Io(error)),
        }
    }

    /// Returns what the packets that come back say when they arrive here: where nothing is
    /// translated, the same with its ends exchanged. `None` where no such connection is tracked.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn opposite_of(&mut self, tuple: &Tuple) -> io::Result<Option<Tuple>> {
        if !tuple.is_tracked() {
            return Ok(None);
        }
        self.sequence = self.sequence.wrapping_add(1);
        let Some(question) = Question::new(tuple, self.sequence) else { return Ok(None) };
        self.socket.send(question.bytes(), 0)?;
        loop {
            let read = match self.socket.recv(&mut &mut self.answer[..], 0) {
                Ok(read) => read.min(LONGEST_ANSWER),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match Answer::read(&self.answer[..read], self.sequence) {
                Some(Answer::Tracked { original, reply }) if original == *tuple => {
                    return Ok(Some(reply));
                }
                Some(Answer::Tracked { original, reply }) if reply == *tuple => {
                    return Ok(Some(original));
                }
                Some(Answer::Tracked { .. } | Answer::Untracked) => return Ok(None),
                Some(Answer::Refused(error)) => return Err(error),
                // Of a question before, which got no answer in time.
                None => {}
            }
        }
    }
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // The answer is there when the question was sent, or never will be.
    socket.set_non_blocking(true)?;
    Ok(socket)
}

impl std::fmt::Debug for Conntrack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conntrack").field("asked", &self.sequence).finish_non_exhaustive()
    }
}

impl Tracking for Conntrack {
    fn opposite_of(&mut self, tuple: &Tuple) -> io::Result<Option<Tuple>> {
        Self::opposite_of(self, tuple)
    }
}
