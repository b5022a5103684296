//! What ends a command, and the exit status that says so.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use tonic::{Code, Status, TimeoutExpired};

use crate::cause::Cause;
use crate::connection::Topic;

/// Exit status; the numbers are those of `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success = 0,
    /// Something else went wrong.
    Failure = 1,
    /// `EX_USAGE`: a flag or setting is wrong.
    Usage = 64,
    /// `EX_UNAVAILABLE`: no agent answers.
    Unavailable = 69,
    /// `EX_NOPERM`: privileges are missing.
    NoPermission = 77,
}

impl Exit {
    /// Every status with what it means, for docs.
    #[cfg(test)]
    pub(crate) const TABLE: [(Self, &'static str); 5] = [
        (Self::Success, "done; interrupted or out of readers counts as done"),
        (Self::Failure, "failed; a failed check of `diagnose` or of `gpu health --check`"),
        (Self::Usage, "a flag or setting is wrong"),
        (Self::Unavailable, "no agent answers"),
        (Self::NoPermission, "privileges are missing"),
    ];
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A combination of flags that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No agent answers, or it went away.
    #[error("{problem}\n  {remedy}")]
    Unavailable {
        /// Who does not answer, and why.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// Privileges are missing.
    #[error("{problem}\n  {remedy}")]
    NoPermission {
        /// Which.
        problem: String,
        /// How to get them.
        remedy: String,
    },
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// Standard output does not take any more.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// What to do about an agent that was there.
const BACK: &str = "see its log, and `orb8 status` once it is back";

impl CliError {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unavailable { .. } => Exit::Unavailable,
            Self::NoPermission { .. } => Exit::NoPermission,
            Self::Failed(_) | Self::Output(_) => Exit::Failure,
        }
    }

    pub(crate) fn silent(who: &str) -> Self {
        Self::Unavailable {
            problem: format!("{who} did not answer in time"),
            remedy:
                "give it longer with --timeout; if something else listens there, correct --agent"
                    .to_owned(),
        }
    }

    /// A stream that should have gone on.
    pub(crate) fn ended(who: &str) -> Self {
        Self::Unavailable { problem: format!("{who} ended the stream"), remedy: BACK.to_owned() }
    }

    /// An agent that answers, but not about this.
    pub(crate) fn not_running(topic: Topic, who: &str, reason: &str) -> Self {
        let Topic { command, signal } = topic;
        Self::Unavailable {
            problem: format!("{command}: {who} does not run the {signal} signal: {reason}"),
            remedy: "`orb8 diagnose` shows what it found".to_owned(),
        }
    }

    /// An agent that has never heard of the signal.
    pub(crate) fn unknown_signal(topic: Topic, who: &str, version: &str) -> Self {
        let Topic { command, signal } = topic;
        Self::Unavailable {
            problem: format!(
                "{command}: {who} does not know the {signal} signal: it is version {version}, \
                 older than this orb8"
            ),
            remedy: "update it, or do without: sudo orb8 … --standalone".to_owned(),
        }
    }

    /// Wraps what someone (`the agent at …`) answered instead of what was asked for.
    pub(crate) fn answered(who: &str, tls: bool, heard: bool, status: &Status) -> Self {
        let message = status.message();
        // A status with a source was made here: the connection failed, nobody answered.
        if let Some(source) = status.source() {
            if innermost(source).is::<TimeoutExpired>() {
                return Self::silent(who);
            }
            let cause = match Cause::of(source) {
                // Many hang up at what they do not understand.
                Cause::Other if !heard => Cause::NoHttp2,
                cause => cause,
            };
            let (problem, remedy) = match cause.remedy(tls) {
                Some(remedy) => (format!("{who} cannot be asked"), remedy),
                None => (format!("{who} went away"), BACK),
            };
            return Self::Unavailable {
                problem: format!("{problem}: {}", innermost(source)),
                remedy: remedy.to_owned(),
            };
        }
        match status.code() {
            Code::InvalidArgument => Self::Usage(message.to_owned()),
            Code::Unavailable | Code::Cancelled => Self::Unavailable {
                problem: format!("{who} went away: {message}"),
                remedy: BACK.to_owned(),
            },
            Code::DeadlineExceeded => Self::silent(who),
            Code::PermissionDenied | Code::Unauthenticated => Self::NoPermission {
                problem: format!("{who} refuses: {message}"),
                remedy: "give a client certificate that it accepts: --tls-cert and --tls-key"
                    .to_owned(),
            },
            Code::Unimplemented => Self::Unavailable {
                problem: format!("{who} is no orb8 agent, or an older one"),
                remedy: "point at the agent with --agent HOST:PORT or --agent unix:/PATH"
                    .to_owned(),
            },
            code => Self::Failed(format!("{who} failed: {message} ({code:?})")),
        }
    }
}

/// Returns the error at the end of the chain, which says what happened.
pub(crate) fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}
