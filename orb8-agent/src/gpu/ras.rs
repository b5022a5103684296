//! NCCL's own account of a job: RAS, which each process with NCCL 2.24 or later serves on `localhost`
//! of its pod.
//!
//! ```text
//! CLIENT PROTOCOL 2 ─▶  SERVER PROTOCOL 2
//! TIMEOUT 2         ─▶  OK
//! SET FORMAT json   ─▶  OK                     (an error before NCCL could do that)
//! VERBOSE STATUS    ─▶  the report, to the end
//! ```
//! One process answers for the whole job, since they all talk to each other. So one of a job is asked,
//! and not each.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::activity::CollectiveKind;
use super::netns;

mod report;

/// Which of NCCL's protocols is spoken. Servers of other versions answer all the same.
const PROTOCOL: u32 = 2;

/// A report of 10,000 ranks is 5 MiB.
const LARGEST: u64 = 32 << 20;

/// Answers to commands are a few words.
const LONGEST_ANSWER: u64 = 1024;

/// What NCCL says of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RasStatus {
    /// Its version.
    pub version: Option<String>,
    /// All communicators of the job.
    pub communicators: Vec<Communicator>,
}

/// One communicator, by NCCL's own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Communicator {
    /// A hash of its unique id.
    pub hash: u64,
    /// Ranks that it is of.
    pub size: Option<u32>,
    /// Those that answered.
    pub ranks: Vec<Rank>,
    /// Those that did not.
    pub missing: Vec<u32>,
}

/// One process's part in a communicator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rank {
    /// Its number.
    pub rank: u32,
    /// Where it runs: a name or an address.
    pub host: String,
    /// The process, as its own namespace counts.
    pub pid: Option<u32>,
    /// Collectives that it began, by kind.
    pub counts: Vec<(CollectiveKind, u64)>,
    /// `ncclResult_t` of its initialisation, 0 once it is done, 7 while it goes on.
    pub init_state: i64,
    /// `ncclResult_t` of what failed since.
    pub async_error: i64,
    /// Whether it is being ended.
    pub is_finalized: bool,
    /// Whether it was given up.
    pub is_aborted: bool,
}

/// Why there is no account.
#[derive(Debug, thiserror::Error)]
pub enum RasError {
    /// Nobody serves it there.
    #[error(
        "no NCCL RAS on port {port} of process {pid}'s network: {source}; it needs NCCL 2.24 or later and NCCL_RAS_ENABLE unset or 1, and set NCCL_RAS_ADDR back to port {port}"
    )]
    Unreachable {
        /// The process.
        pid: u32,
        /// The port.
        port: u16,
        /// What connecting said.
        source: io::Error,
    },
    /// Its network may not be entered.
    #[error("NCCL RAS of process {pid} cannot be asked: {source}")]
    Forbidden {
        /// The process.
        pid: u32,
        /// What is missing.
        source: io::Error,
    },
    /// The connection broke.
    #[error("NCCL RAS broke off: {0}")]
    Broken(#[from] io::Error),
    /// It takes longer than it may.
    #[error(
        "NCCL RAS has not answered in time; some rank may hang: ask it by hand with `ncclras -v`"
    )]
    Late,
    /// It tells as text alone.
    #[error(
        "this NCCL's RAS does not tell as JSON ({0}); use a newer NCCL, or ask it by hand with `ncclras -v`"
    )]
    Unsupported(String),
    /// It says what nobody expects.
    #[error("what answers is not NCCL's RAS: {0}")]
    Foreign(String),
    /// The report is too long.
    #[error("NCCL's report is longer than {} MiB", LARGEST >> 20)]
    TooLong,
}

/// Asks a process for the state of its whole job, for no longer than a time.
///
/// # Errors
///
/// [`RasError`] with what to do.
pub async fn status(pid: u32, port: u16, timeout: Duration) -> Result<RasStatus, RasError> {
    status_below(Path::new("/proc"), pid, port, timeout).await
}

/// Does the same with another `/proc`.
///
/// # Errors
///
/// [`RasError`] with what to do.
pub async fn status_below(
    proc: &Path,
    pid: u32,
    port: u16,
    timeout: Duration,
) -> Result<RasStatus, RasError> {
    let deadline = Instant::now() + timeout;
    let stream = netns::connect(proc, pid, port, timeout).await;
    let stream = stream.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => RasError::Forbidden { pid, source },
        io::ErrorKind::TimedOut => RasError::Late,
        _ => RasError::Unreachable { pid, port, source },
    })?;
    let asking = converse(stream, timeout);
    timeout_at(deadline, asking).await.map_err(|_| RasError::Late)?
}

async fn converse(stream: TcpStream, timeout: Duration) -> Result<RasStatus, RasError> {
    let mut stream = BufReader::new(stream);
    let hello = command(&mut stream, &format!("CLIENT PROTOCOL {PROTOCOL}")).await?;
    if !starts_with(&hello, "SERVER PROTOCOL ") {
        return Err(RasError::Foreign(hello));
    }
    // It answers before we give up, with the ranks that it has; 0 would be for ever.
    let seconds = timeout.as_secs().saturating_sub(1).max(1);
    let answer = command(&mut stream, &format!("TIMEOUT {seconds}")).await?;
    if !answer.eq_ignore_ascii_case("OK") {
        return Err(RasError::Foreign(answer));
    }
    let answer = command(&mut stream, "SET FORMAT json").await?;
    if !answer.eq_ignore_ascii_case("OK") {
        return Err(RasError::Unsupported(answer));
    }
    stream.write_all(b"VERBOSE STATUS\n").await?;
    let mut text = Vec::new();
    stream.take(LARGEST + 1).read_to_end(&mut text).await?;
    if text.len() as u64 > LARGEST {
        return Err(RasError::TooLong);
    }
    report::parse(&text).map_err(|error| {
        if text.trim_ascii().starts_with(b"{") {
            RasError::Foreign(format!("its report is no JSON: {error}"))
        } else {
            RasError::Unsupported(brief(&text))
        }
    })
}

/// Sends a line, and returns the one that answers.
async fn command(stream: &mut BufReader<TcpStream>, line: &str) -> Result<String, RasError> {
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_until(b'\n', &mut answer).await?;
    if answer.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(brief(&answer))
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Returns the first line, without what a terminal would act upon.
fn brief(text: &[u8]) -> String {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(200)]);
    line.chars().filter(|letter| !letter.is_control()).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests;
