//! User stacks, and the names of their frames.
//!
//! ```text
//! addresses ──(cache)──▶ text
//!     └──▶ thread: /proc/PID/maps ─▶ file ─▶ .symtab, .dynsym ─▶ demangled ──▶ cache
//! ```
//! Programs' files are large, and reading one can hang: a thread of its own does it, one process at a
//! time. Until it answers, a frame is its address.

mod demangle;
mod maps;
mod reader;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;

use hashbrown::{HashMap, HashSet};

use super::process::ProcessKey;
use reader::Reader;

/// Return addresses, innermost first.
pub(super) type Stack = Arc<[u64]>;

/// Addresses of one process whose names are kept: sites have few, and shared callers.
const MAX_NAMES: usize = 4_096;
/// Questions that may wait for the thread: one for each process of a busy node.
const QUESTIONS: usize = 64;
/// Addresses in one question.
const MAX_ASKED: usize = 512;

/// Names that are known, and who finds others.
#[derive(Debug)]
pub(super) struct Names {
    processes: HashMap<ProcessKey, Known>,
    questions: SyncSender<Question>,
    answers: Receiver<Answer>,
    waiting: usize,
    /// Why no names are found any more.
    problem: Option<String>,
}

/// Names of one process's frames.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    known: &'a mut Known,
}

#[derive(Debug, Default)]
struct Known {
    names: HashMap<u64, Arc<str>>,
    wanted: HashSet<u64>,
    /// Whether the thread was asked, and has not answered.
    is_asked: bool,
}

/// Addresses of a process.
struct Question {
    process: ProcessKey,
    addresses: Vec<u64>,
}

/// Their names, all of them.
struct Answer {
    process: ProcessKey,
    names: Vec<(u64, Arc<str>)>,
}

impl Names {
    /// Starts the thread. `proc` is where the kernel's file system of processes is.
    pub(super) fn start(proc: PathBuf) -> Self {
        let (questions, asked) = sync_channel::<Question>(QUESTIONS);
        let (tell, answers) = sync_channel(QUESTIONS);
        let mut reader = Reader::new(proc);
        let thread = thread::Builder::new().name("gpu-frames".into()).spawn(move || {
            for Question { process, addresses } in asked {
                let names = reader.names(process, addresses);
                if tell.send(Answer { process, names }).is_err() {
                    return;
                }
            }
        });
        let problem = thread.err().map(|error| {
            format!(
                "frames of call sites have no names: no thread for them could be started ({error})"
            )
        });
        Self { processes: HashMap::new(), questions, answers, waiting: 0, problem }
    }

    /// Takes in what was found since the last time.
    pub(super) fn take_in(&mut self) {
        loop {
            match self.answers.try_recv() {
                Ok(Answer { process, names }) => {
                    self.waiting = self.waiting.saturating_sub(1);
                    // It may be gone meanwhile.
                    if let Some(known) = self.processes.get_mut(&process) {
                        known.take_in(names);
                    }
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.problem.get_or_insert_with(|| {
                        "frames of call sites have no names any more: the thread that reads \
                         programs' files ended; restart the agent"
                            .into()
                    });
                    return;
                }
            }
        }
    }

    /// Returns what knows a process's frames.
    pub(super) fn frames(&mut self, process: ProcessKey) -> Frames<'_> {
        Frames { known: self.processes.entry(process).or_default() }
    }

    /// Asks for the names that were looked for and are not known.
    pub(super) fn ask(&mut self) {
        for (process, known) in &mut self.processes {
            if known.is_asked || known.wanted.is_empty() {
                continue;
            }
            let addresses = known.wanted.iter().copied().take(MAX_ASKED).collect();
            match self.questions.try_send(Question { process: *process, addresses }) {
                Ok(()) => {
                    known.is_asked = true;
                    self.waiting += 1;
                }
                // Asked again the next time.
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return,
            }
        }
    }

    /// Forgets all processes but these.
    pub(super) fn retain(&mut self, is_known: impl Fn(ProcessKey) -> bool) {
        self.processes.retain(|process, _| is_known(*process));
    }

    /// Processes that are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.processes.len()
    }

    /// Why frames have no names.
    pub(super) fn problem(&self) -> Option<String> {
        let is_full = self.waiting >= QUESTIONS;
        self.problem.clone().or_else(|| {
            is_full.then(|| {
                "frames of call sites wait for their names: a program's file is not answering (a \
                 network file system that hangs?)"
                    .into()
            })
        })
    }
}

impl Known {
    fn take_in(&mut self, names: Vec<(u64, Arc<str>)>) {
        self.is_asked = false;
        if self.names.len() + names.len() > MAX_NAMES {
            self.names.clear();
        }
        for (address, name) in names {
            self.wanted.remove(&address);
            self.names.insert(address, name);
        }
    }
}

impl Frames<'_> {
    /// Returns the text of each frame, and remembers whose is not known.
    pub(super) fn of(&mut self, stack: &Stack) -> Vec<Arc<str>> {
        stack.iter().map(|address| self.frame(*address)).collect()
    }

    fn frame(&mut self, address: u64) -> Arc<str> {
        if let Some(name) = self.known.names.get(&address) {
            return Arc::clone(name);
        }
        if self.known.wanted.len() < MAX_NAMES {
            self.known.wanted.insert(address);
        }
        format!("{address:#x}").into()
    }
}

#[cfg(test)]
mod tests;
