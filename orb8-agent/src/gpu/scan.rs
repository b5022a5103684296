//! Which processes have a device's file open.
//!
//! Looking at every open file of every process costs a system call each, and a node has a hundred
//! thousand. So a bounded number is looked at in each step; processes that were not there in the round
//! before come first; and those that are known to have one are asked again for themselves.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Open files that are looked at in one step: about 3 ms.
const FILES_PER_STEP: usize = 2048;

/// Between the beginnings of two rounds.
const ROUND_EVERY: Duration = Duration::from_secs(10);

/// Files of one process that are remembered. Programs have a few, one for each thread at most.
const MOST_FILES: usize = 256;

/// Processes that are remembered.
const MOST_PROCESSES: usize = 4096;

/// A search that goes on from step to step.
#[derive(Debug)]
pub(super) struct Scan {
    proc: PathBuf,
    is_wanted: fn(&[u8]) -> bool,
    found: BTreeMap<u32, Vec<Open>>,
    /// Still to be looked at in this round, the last first.
    queue: VecDeque<u32>,
    /// All that there were when it began.
    before: HashSet<u32>,
    began: Option<Instant>,
    rounds: u64,
}

/// An open file of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// Its number in the process.
    pub(super) number: u32,
    /// Its path, as the process has it.
    pub(super) path: PathBuf,
}

impl Scan {
    /// Looks for files by their path.
    pub(super) fn new(proc: &Path, is_wanted: fn(&[u8]) -> bool) -> Self {
        Self {
            proc: proc.to_owned(),
            is_wanted,
            found: BTreeMap::new(),
            queue: VecDeque::new(),
            before: HashSet::new(),
            began: None,
            rounds: 0,
        }
    }

    /// Goes on, and returns what each process that is known has open.
    pub(super) fn step(&mut self, now: Instant) -> &BTreeMap<u32, Vec<Open>> {
        let mut budget = FILES_PER_STEP;
        self.check_known(&mut budget);
        if self.queue.is_empty()
            && self.began.is_none_or(|began| now.saturating_duration_since(began) >= ROUND_EVERY)
        {
            self.begin_round(now);
        }
        while budget > 0
            && let Some(pid) = self.queue.pop_back()
        {
            let (open, cost) = self.files_of(pid);
            budget = budget.saturating_sub(cost);
            if !open.is_empty() && self.found.len() < MOST_PROCESSES {
                self.found.insert(pid, open);
            }
            self.rounds += u64::from(self.queue.is_empty());
        }
        &self.found
    }

    /// Whether every process was looked at once.
    pub(super) fn has_seen_all(&self) -> bool {
        self.rounds > 0
    }

    /// Looks at the remembered files of known processes; where one is another's now, at all of them.
    fn check_known(&mut self, budget: &mut usize) {
        let known = std::mem::take(&mut self.found);
        for (pid, open) in known {
            *budget = budget.saturating_sub(open.len());
            let is_same = |file: &Open| {
                let link = self.proc.join(format!("{pid}/fd/{}", file.number));
                fs::read_link(link).is_ok_and(|path| path == file.path)
            };
            // What was opened since is found in the next round.
            let open = if open.iter().all(is_same) { open } else { self.files_of(pid).0 };
            if !open.is_empty() {
                self.found.insert(pid, open);
            }
        }
    }

    fn begin_round(&mut self, now: Instant) {
        self.began = Some(now);
        let Ok(entries) = fs::read_dir(&self.proc) else { return };
        let pids: Vec<u32> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        let (old, new): (Vec<u32>, Vec<u32>) =
            pids.iter().partition(|pid| self.before.contains(*pid));
        self.queue = old.into_iter().chain(new).collect();
        self.before = pids.into_iter().collect();
    }

    /// Returns the wanted files that a process has open, and how many were looked at. A process that
    /// is gone has none.
    fn files_of(&self, pid: u32) -> (Vec<Open>, usize) {
        let mut cost = 1;
        let Ok(files) = fs::read_dir(self.proc.join(format!("{pid}/fd"))) else {
            return (Vec::new(), cost);
        };
        let mut open = Vec::new();
        for file in files.flatten() {
            cost += 1;
            let number = file.file_name().to_str().and_then(|number| number.parse().ok());
            let (Some(number), Ok(path)) = (number, fs::read_link(file.path())) else { continue };
            if (self.is_wanted)(path.as_os_str().as_bytes()) && open.len() < MOST_FILES {
                open.push(Open { number, path });
            }
        }
        open.sort_by_key(|file| file.number);
        (open, cost)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Processes(tempfile::TempDir);

    impl Processes {
        fn open(&self, pid: u32, number: u32, path: &str) {
            let folder = self.0.path().join(format!("{pid}/fd"));
            fs::create_dir_all(&folder).unwrap();
            symlink(path, folder.join(number.to_string())).unwrap();
        }

        fn scan(&self) -> Scan {
            Scan::new(self.0.path(), |path| path.starts_with(b"/dev/dri/"))
        }
    }

    fn pids(scan: &mut Scan, now: Instant) -> Vec<u32> {
        scan.step(now).keys().copied().collect()
    }

    #[test]
    fn files_are_found_and_forgotten() {
        let processes = Processes(tempfile::tempdir().unwrap());
        processes.open(10, 0, "/dev/null");
        processes.open(11, 3, "/dev/dri/renderD128");
        processes.open(11, 4, "/dev/dri/card0");
        fs::create_dir_all(processes.0.path().join("sys/fd")).unwrap();
        let (mut scan, now) = (processes.scan(), Instant::now());
        assert!(!scan.has_seen_all());
        let numbers: Vec<_> = scan.step(now)[&11].iter().map(|open| open.number).collect();
        assert_eq!(numbers, [3, 4]);
        assert!(scan.has_seen_all());
        processes.open(12, 9, "/dev/dri/renderD129");
        assert_eq!(pids(&mut scan, now), [11], "the next round has not come");
        assert_eq!(pids(&mut scan, now + ROUND_EVERY), [11, 12]);
        fs::remove_dir_all(processes.0.path().join("11")).unwrap();
        assert_eq!(pids(&mut scan, now + ROUND_EVERY), [12]);
    }

    #[test]
    fn a_number_that_is_another_file_now_is_noticed_at_once() {
        let processes = Processes(tempfile::tempdir().unwrap());
        processes.open(11, 3, "/dev/dri/renderD128");
        let (mut scan, now) = (processes.scan(), Instant::now());
        assert_eq!(pids(&mut scan, now), [11]);
        fs::remove_file(processes.0.path().join("11/fd/3")).unwrap();
        processes.open(11, 3, "/tmp/x");
        assert!(pids(&mut scan, now).is_empty());
    }

    #[test]
    fn a_step_is_bounded_and_new_processes_come_first() {
        let processes = Processes(tempfile::tempdir().unwrap());
        for pid in 1..=3 {
            for number in 0..1500 {
                processes.open(pid, number, "/dev/null");
            }
        }
        let (mut scan, now) = (processes.scan(), Instant::now());
        assert!(pids(&mut scan, now).is_empty());
        assert!(!scan.has_seen_all());
        assert!(pids(&mut scan, now).is_empty());
        assert!(scan.has_seen_all());
        processes.open(99, 1, "/dev/dri/card0");
        assert_eq!(pids(&mut scan, now + ROUND_EVERY), [99], "before all that were there");
    }
}
