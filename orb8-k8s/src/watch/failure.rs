//! What ends a watch other than the server's own timeout, and what to say about it.

use std::error::Error;
use std::io;
use std::time::Duration;

use kube::client::AuthError;
use tower::BoxError;

use crate::resources::Resource;

mod refusal;

pub(super) use refusal::Refusal;

/// Where the rules are that the agent's ServiceAccount needs.
const RULES: &str = "deploy/base/rbac.yaml";

/// Why a list or a watch ended.
#[derive(Debug)]
pub(super) enum Failure {
    /// 401.
    Unauthorized,
    /// The plugin or the file that makes credentials fails; nothing was sent.
    Credentials(kube::Error),
    /// 403 on a verb.
    Forbidden(Verb),
    /// 404 by an API server: it does not know the resource.
    Missing(Refusal),
    /// 410: the version to go on from is too old.
    Expired,
    /// The server has nothing as new as the version yet, or no longer.
    Ahead,
    /// The server does not stream lists.
    NoStreaming,
    /// Another status.
    Refused(Refusal),
    /// The server cannot be reached.
    Unreachable(kube::Error),
    /// The connection ended within a list or a watch.
    Cut(io::Error),
    /// The server ended a watch, as it may, but at once.
    Hasty,
    /// Silence for so long.
    Stalled(Duration),
    /// What came is not what the API sends.
    Malformed(BoxError),
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    List,
    /// Whether it was to begin with a list.
    Watch {
        streaming: bool,
    },
}

impl Failure {
    /// A request had no answer.
    pub(super) fn unanswered(error: kube::Error) -> Self {
        if auth_error(&error).is_some() {
            Self::Credentials(error)
        } else {
            Self::Unreachable(error)
        }
    }

    /// What came is not what the API sends.
    pub(super) fn malformed(problem: impl Into<BoxError>) -> Self {
        Self::Malformed(problem.into())
    }

    /// The connection ended where more had to come.
    pub(super) fn cut_within(what: &'static str) -> Self {
        Self::Cut(io::Error::new(io::ErrorKind::UnexpectedEof, what))
    }

    /// What happened, and what to do about it.
    pub(super) fn describe(&self, resource: &Resource) -> String {
        let plural = resource.plural;
        let group = match resource.group {
            "" => String::new(),
            group => format!(" ({group})"),
        };
        match self {
            Self::Unauthorized => "the API server does not accept the credentials: the token has \
                                   expired or is wrong; a pod's is read again each minute, a \
                                   kubeconfig's needs a new login"
                .to_owned(),
            Self::Credentials(error) => {
                format!("there are no credentials: {}; see the kubeconfig's user", why_none(error))
            }
            Self::Forbidden(verb) => format!(
                "the API server refuses `{}` on `{plural}`{group}: grant it, see {RULES}; {} \
                 cannot be told without",
                verb.name(),
                resource.why
            ),
            Self::Missing(_) => format!(
                "the API server has no `{plural}`{group} in version {}, newer ones do; {} cannot \
                 be told without",
                resource.version, resource.why
            ),
            Self::Expired => format!("the version of `{plural}` is too old; listing again"),
            Self::Ahead => {
                format!("the API server knows of nothing as new in `{plural}`; listing again")
            }
            Self::NoStreaming => format!("the API server does not stream lists of `{plural}`"),
            Self::Refused(Refusal { code, message, .. }) => {
                let hint = match code {
                    404 if !resource.may_lack() => "; check that this is a Kubernetes API server",
                    _ => "",
                };
                format!("the API server answers {code} for `{plural}`{group}: {message}{hint}")
            }
            Self::Unreachable(error) => {
                format!("the API server cannot be reached: {}{}", chain(error), advice(error))
            }
            Self::Cut(error) => format!("the watch of `{plural}` was cut: {}", chain(error)),
            Self::Hasty => format!(
                "the API server ends watches of `{plural}` at once; check proxies between, and \
                 their timeouts"
            ),
            Self::Stalled(silence) => {
                format!("the API server was silent about `{plural}` for {} s", silence.as_secs())
            }
            Self::Malformed(error) => {
                let problem = chain(&**error);
                format!("the API server's answer for `{plural}` is not valid: {problem}")
            }
        }
    }
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch { .. } => "watch",
        }
    }
}

/// An error and what is behind it. An I/O error that wraps another does not tell of it as a source.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|wrapped| wrapped as _).or_else(|| error.source())
    })
}

/// An error and its causes, each said once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let more = brief(&cause.to_string());
        if text.is_empty() {
            text = more;
        } else if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
    }
    text.trim_start_matches("ServiceError: ")
        .trim_start_matches("client error (Connect): ")
        .to_owned()
}

fn auth_error(error: &kube::Error) -> Option<&AuthError> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Why there are no credentials. What a plugin wrote to its output may be some.
fn why_none(error: &kube::Error) -> String {
    match auth_error(error) {
        Some(AuthError::AuthExecRun { cmd, out }) => {
            let said = String::from_utf8_lossy(&out.stderr);
            format!("`{cmd}` failed ({}): {}", out.status, brief(&said))
        }
        Some(error) => chain(error),
        None => chain(error),
    }
}

fn advice(error: &kube::Error) -> &'static str {
    let kinds = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    for kind in kinds.map(io::Error::kind) {
        match kind {
            io::ErrorKind::ConnectionRefused => {
                return "; check that it runs, and its address and port";
            }
            // So is each failure of TLS told.
            io::ErrorKind::InvalidData => {
                return "; check the certificate authority, and the server's name and clock";
            }
            _ => {}
        }
    }
    // A name without an address has no kind of its own.
    if causes(error).any(|cause| cause.to_string().starts_with("dns error")) {
        return "; check the server's name and this node's DNS";
    }
    ""
}

/// A proxy may answer with a whole page.
fn brief(message: &str) -> String {
    const MOST: usize = 300;
    let message = message.trim();
    match message.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
