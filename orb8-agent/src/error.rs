//! What stops an agent from starting or running.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::ConfigErrors;

/// `EX_USAGE` of `sysexits.h`: the configuration is wrong.
pub const EXIT_USAGE: u8 = 64;
/// `EX_NOPERM` of `sysexits.h`: privileges are missing.
pub const EXIT_NO_PERMISSION: u8 = 77;
/// Anything else.
pub const EXIT_FAILURE: u8 = 1;

/// Why the agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Settings that are not valid: all of them.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The process may not load programs.
    #[error("missing privileges: {}; {remedy}", missing.join(", "))]
    MissingPrivileges {
        /// Capabilities that are not in the effective set.
        missing: Vec<String>,
        /// What to do.
        remedy: String,
    },
    /// What was asked for cannot be had here.
    #[error("{reason}")]
    Unavailable {
        /// Why, and what to do.
        reason: String,
    },
    /// Every source is skipped, or one that was asked for by name.
    #[error("nothing to run: {}", reasons.join("; "))]
    NothingToRun {
        /// Why, one per source.
        reasons: Vec<String>,
    },
    /// Another process listens on the address.
    #[error(
        "address {address} is in use; set --{setting} to a free one or to `off`, \
         or stop the process that holds it (`ss -ltnp 'sport = :{}'` names it)",
        address.port()
    )]
    AddressInUse {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
    },
    /// The address cannot be bound for another reason.
    #[error(
        "cannot listen on {address}; set --{setting} to an address of this machine or to `off`"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A live agent answers on the socket.
    #[error(
        "socket {} is in use by a running agent; stop it, or set --socket to another path or to `off`",
        path.display()
    )]
    SocketInUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// Certificates or keys that cannot be used.
    #[error("cannot use {} for TLS: {problem}; see --tls-cert, --tls-key and --tls-client-ca", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The collector's authorities cannot be used.
    #[error("cannot use TLS with the collector: {problem}; see --otlp-ca")]
    OtlpTls {
        /// What is wrong.
        problem: String,
    },
    /// A file or socket operation.
    #[error("{action}")]
    Io {
        /// What was attempted, and on what.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// The Kubernetes API was asked for and there is no access to it.
    #[error("the Kubernetes API is not accessible; set --kubernetes to `off` to do without")]
    Kubernetes(#[source] orb8_k8s::client::ConnectError),
    /// The API server stopped.
    #[error("the API server failed")]
    Serve(#[source] tonic::transport::Error),
    /// An eBPF program could not be loaded or attached.
    #[error("{action}")]
    Ebpf {
        /// What was attempted, and on what.
        action: String,
        /// What the kernel or the loader said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl AgentError {
    /// Wraps an I/O error with what was attempted: `io("read /etc/orb8/agent.toml")`.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action: format!("cannot {}", action.into()), source }
    }

    /// Wraps a loader or kernel error with what was attempted.
    pub fn ebpf<E>(action: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Ebpf {
            action: format!("cannot {}", action.into()),
            source: source.into(),
        }
    }

    /// Returns the process's exit status for this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Tls { .. } | Self::OtlpTls { .. } => EXIT_USAGE,
            Self::MissingPrivileges { .. } => EXIT_NO_PERMISSION,
            _ => EXIT_FAILURE,
        }
    }
}

/// Renders an error with its sources on one line: `a: b: c`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        // Some errors already print their source.
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_sysexits() {
        let privileges = AgentError::MissingPrivileges {
            missing: vec!["CAP_BPF".into(), "CAP_NET_ADMIN".into()],
            remedy: "run it as root".into(),
        };
        assert_eq!(privileges.exit_code(), 77);
        assert_eq!(
            privileges.to_string(),
            "missing privileges: CAP_BPF, CAP_NET_ADMIN; run it as root"
        );
        assert_eq!(AgentError::Config(ConfigErrors::default()).exit_code(), 64);
        let nothing = AgentError::NothingToRun { reasons: vec!["flow: no BPF".into()] };
        assert_eq!(nothing.exit_code(), 1);
    }

    #[test]
    fn a_chain_names_the_cause_once() {
        let error = AgentError::io("read /a")(io::Error::other("no such device"));
        assert_eq!(chain(&error), "cannot read /a: no such device");
        let address = "127.0.0.1:9090".parse().unwrap();
        let in_use = AgentError::AddressInUse { address, setting: "listen" };
        let text = chain(&in_use);
        assert!(text.contains("127.0.0.1:9090") && text.contains("--listen"), "{text}");
    }
}
