//! Why a connection failed, as far as a remedy depends on it.

use std::error::Error;
use std::io;

/// What lies at the bottom of a failed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nobody listens there.
    Refused,
    /// The socket is not for this user.
    Denied,
    /// The agent's certificate does not verify.
    Certificate,
    /// The agent did not take this client in the handshake.
    Alert,
    /// TLS was spoken to someone who does not.
    NoTls,
    /// What came is no HTTP/2: TLS, or another protocol.
    NoHttp2,
    /// Anything else.
    Other,
}

/// The layers below tonic are no dependencies of this crate: what they say must do, and
/// `tests/causes.rs` notices when they say it differently.
const TEXTS: &[(&str, Cause)] = &[
    ("invalid peer certificate", Cause::Certificate),
    ("received fatal alert", Cause::Alert),
    ("received corrupt message", Cause::NoTls),
    ("frame with invalid size", Cause::NoHttp2),
    ("unspecific protocol error", Cause::NoHttp2),
    ("invalid HTTP version", Cause::NoHttp2),
];

impl Cause {
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source())
            .find_map(|error| {
                let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
                match kind {
                    Some(io::ErrorKind::ConnectionRefused) => return Some(Self::Refused),
                    Some(io::ErrorKind::PermissionDenied) => return Some(Self::Denied),
                    _ => {}
                }
                let text = error.to_string();
                TEXTS.iter().find(|(part, _)| text.contains(part)).map(|(_, cause)| *cause)
            })
            .unwrap_or(Self::Other)
    }

    /// Says what to do, where the cause alone tells. `tls` is whether TLS was spoken.
    pub(crate) const fn remedy(self, tls: bool) -> Option<&'static str> {
        match self {
            Self::Certificate => Some(
                "give the authority of its certificate with --tls-ca, and the name in it with \
                 --tls-server-name where that is not the host's",
            ),
            Self::Alert => Some("it wants to know its clients: give --tls-cert and --tls-key"),
            Self::NoTls => Some(
                "it does not speak TLS: leave https:// and --tls-ca out; if that does not help, \
                 it is no orb8 agent: correct --agent",
            ),
            Self::NoHttp2 if tls => Some("what listens there is no orb8 agent: correct --agent"),
            Self::NoHttp2 => Some(
                "if it speaks TLS, use https:// and --tls-ca; else it is no orb8 agent: correct \
                 --agent",
            ),
            Self::Refused | Self::Denied | Self::Other => None,
        }
    }
}
