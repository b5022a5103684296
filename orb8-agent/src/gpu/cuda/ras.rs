//! NCCL's own account of its communicators (RAS), asked for where it answers.
//!
//! ```text
//! processes with communicators ──(one of each network, each 10 s)──▶ task ──▶ accounts
//!                     communicators ◀──(by hash, else by process and rank)──────┘
//! ```
//! Any process of a job answers for all of it, so one of each network is asked and not each rank. The
//! asking is done in a task of its own: an answer takes seconds where a rank hangs, which is when it
//! matters.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::nccl::{Identity, is_collective};
use super::process::Watched;
use crate::gpu::activity::CollectiveKind;
use crate::gpu::netns;
use crate::gpu::ras::{self, RasStatus};

/// Between two questions to a job: RAS asks all its ranks for each.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// For how long an answer is waited for.
const WITHIN: Duration = Duration::from_secs(5);
/// Networks that are asked in one round.
const MAX_ASKED: usize = 64;
/// Ranks of this node that are kept of one account, in all its communicators.
const MAX_KEPT: usize = 1024;
/// Ranks of one communicator that do not answer, and are told.
const MAX_MISSING: usize = 64;
/// For how long an account is believed: a job whose processes do not answer any more may hang, and what
/// they said last is then what counts.
const BELIEVED: Duration = Duration::from_mins(1);

/// What NCCL says of one communicator, to one of its processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// What NCCL itself knows it by.
    pub hash: u64,
    pub rank: u32,
    pub ranks: u32,
    pub counts: Vec<(CollectiveKind, u64)>,
    /// Ranks that do not answer; bounded.
    pub missing: Vec<u32>,
}

impl Answered {
    /// Calls of one kind; `None` of a kind that NCCL does not tell.
    pub(super) fn count(&self, kind: CollectiveKind) -> Option<u64> {
        self.counts.iter().find(|(told, _)| *told == kind).map(|(_, count)| *count)
    }

    /// Calls that all ranks make alike.
    pub(super) fn calls(&self) -> u64 {
        let alike = self.counts.iter().filter(|(kind, _)| is_collective(*kind));
        alike.map(|(_, count)| count).sum()
    }
}

/// Who asks, and what it was told.
#[derive(Debug)]
pub(super) struct Asker {
    proc: PathBuf,
    accounts: Accounts,
    /// `None` without a runtime to ask in.
    questions: Option<mpsc::Sender<Vec<Question>>>,
    asked: Option<Instant>,
}

/// A process to ask, and what its network is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    network: u64,
    pid: u32,
    /// Processes of this node that are in the network, as they know themselves.
    own: Vec<u32>,
}

type Accounts = Arc<Mutex<HashMap<u64, Account>>>;

/// What was told in one network.
#[derive(Clone, Debug)]
struct Account {
    time: Instant,
    status: Arc<RasStatus>,
}

impl Asker {
    /// Starts the task, on the runtime that this is called in.
    pub(super) fn start(proc: PathBuf, port: u16) -> Self {
        let accounts = Accounts::default();
        let questions = Handle::try_current().ok().map(|runtime| {
            let (questions, asked) = mpsc::channel(1);
            runtime.spawn(answer(proc.clone(), port, asked, Arc::clone(&accounts)));
            questions
        });
        Self { proc, accounts, questions, asked: None }
    }

    /// Asks where it is time to, and tells the processes what is known.
    pub(super) fn step<'a>(
        &mut self,
        now: Instant,
        processes: impl Iterator<Item = &'a mut Watched>,
    ) {
        let accounts = self.read(now);
        let mut questions = Vec::new();
        let is_time = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= EVERY);
        for process in processes.filter(|process| process.communicators.is_used()) {
            let pid = process.key.pid;
            let Some(network) = netns::network_of(&self.proc, pid) else { continue };
            let own = own_pid(&self.proc, pid);
            if is_time {
                ask_too(&mut questions, network, pid, own);
            }
            let communicators = Vec::from_iter(process.communicators.identities());
            let mut told = match accounts.get(&network) {
                Some(account) => matched(&account.status, own, &communicators),
                None => HashMap::new(),
            };
            for (communicator, _) in communicators {
                process.communicators.answer(communicator, told.remove(&communicator), now);
            }
        }
        if is_time && !questions.is_empty() {
            self.asked = Some(now);
            // The last round is not over: this one is left out.
            let _ = self.questions.as_ref().map(|sender| sender.try_send(questions));
        }
    }

    /// The accounts that are believed.
    fn read(&self, now: Instant) -> HashMap<u64, Account> {
        let mut accounts = lock(&self.accounts);
        accounts.retain(|_, account| now.saturating_duration_since(account.time) < BELIEVED);
        accounts.clone()
    }
}

fn lock(accounts: &Accounts) -> MutexGuard<'_, HashMap<u64, Account>> {
    accounts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks one after the other, until nobody asks any more.
async fn answer(
    proc: PathBuf,
    port: u16,
    mut asked: mpsc::Receiver<Vec<Question>>,
    accounts: Accounts,
) {
    while let Some(questions) = asked.recv().await {
        for Question { network, pid, own } in questions {
            match ras::status_below(&proc, pid, port, WITHIN).await {
                Ok(status) => {
                    let status = Arc::new(of_this_node(status, &own));
                    let account = Account { time: Instant::now(), status };
                    lock(&accounts).insert(network, account);
                }
                // As usual: older versions have none, and it can be turned off. Calls tell as well.
                Err(error) => tracing::debug!(pid, %error, "no account of NCCL's own"),
            }
        }
    }
}

/// Has one process of each network asked, for all of them.
fn ask_too(questions: &mut Vec<Question>, network: u64, pid: u32, own: u32) {
    if let Some(question) = questions.iter_mut().find(|question| question.network == network) {
        question.own.push(own);
    } else if questions.len() < MAX_ASKED {
        questions.push(Question { network, pid, own: vec![own] });
    }
}

/// Leaves out the ranks of other nodes: a large job has ten thousand, in each of its communicators.
fn of_this_node(status: RasStatus, own: &[u32]) -> RasStatus {
    let RasStatus { mut communicators, .. } = status;
    let mut room = MAX_KEPT;
    for row in &mut communicators {
        row.size = Some(size_of(row));
        row.ranks.retain(|rank| rank.pid.is_none_or(|pid| own.contains(&pid)));
        row.ranks.truncate(room);
        row.ranks.shrink_to_fit();
        room -= row.ranks.len();
        row.ranks.iter_mut().for_each(|rank| rank.host = String::new());
        row.missing.truncate(MAX_MISSING);
        row.missing.shrink_to_fit();
    }
    communicators.retain(|row| !row.ranks.is_empty());
    communicators.shrink_to_fit();
    RasStatus { version: None, communicators }
}

/// How many ranks a communicator is of.
fn size_of(row: &ras::Communicator) -> u32 {
    let known = row.ranks.len() + row.missing.len();
    row.size.unwrap_or_else(|| u32::try_from(known).unwrap_or(u32::MAX))
}

/// A process's number in the innermost PID namespace, which is the one that it knows itself by.
fn own_pid(proc: &Path, pid: u32) -> u32 {
    let status = fs::read_to_string(proc.join(format!("{pid}/status"))).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.and_then(|pids| pids.split_ascii_whitespace().last()?.parse().ok()).unwrap_or(pid)
}

/// Finds a process's communicators in an account: by the hash, and where the beginning was not seen by
/// the process and its rank. What fits more than one is left out.
fn matched(
    status: &RasStatus,
    pid: u32,
    communicators: &[(u64, Identity)],
) -> HashMap<u64, Answered> {
    let mut found = HashMap::new();
    let mut left = Vec::from_iter(0..status.communicators.len());
    for is_by_hash in [true, false] {
        for (communicator, identity) in communicators {
            if found.contains_key(communicator) {
                continue;
            }
            let fits = |at: &usize| !is_by_hash || status.communicators[*at].hash == identity.hash;
            let answered =
                |at: &usize| Some((*at, answered(&status.communicators[*at], pid, identity)?));
            let mut fitting = left.iter().filter(|at| fits(at)).filter_map(answered);
            let (Some((at, answered)), None) = (fitting.next(), fitting.next()) else { continue };
            found.insert(*communicator, answered);
            left.retain(|other| *other != at);
        }
    }
    found
}

/// What an account says of one communicator to a process that is known to be this rank of it, or to be
/// in it.
fn answered(row: &ras::Communicator, pid: u32, identity: &Identity) -> Option<Answered> {
    let ranks = size_of(row);
    if identity.ranks.is_some_and(|known| known != ranks) {
        return None;
    }
    let is_it = |rank: &&ras::Rank| {
        rank.pid.is_none_or(|told| told == pid)
            && identity.rank.is_none_or(|known| known == rank.rank)
    };
    // On other nodes, others may have the same number.
    let mut own = row.ranks.iter().filter(is_it);
    let (own, None) = (own.next()?, own.next()) else { return None };
    Some(Answered {
        hash: row.hash,
        rank: own.rank,
        ranks,
        counts: own.counts.clone(),
        missing: row.missing.clone(),
    })
}

#[cfg(test)]
mod tests;
