//! Which processes have a device's file open.
//!
//! Looking at every open file of every process costs a system call each, and a node has a hundred
//! thousand. So a bounded number is looked at in each step; processes that were not there in the round
//! before come first; and those that are known to have one are asked again for themselves. What is
//! beyond the bounds is counted.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::source::Unread;

/// Between the beginnings of two rounds.
const ROUND_EVERY: Duration = Duration::from_secs(10);

/// What there is room and time for.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Open files that are looked at in one step.
    per_step: usize,
    /// Files of one process that are remembered.
    of_process: usize,
    /// Files of all processes that are remembered.
    of_all: usize,
}

/// A step takes about 3 ms. Programs have a few files of devices, one for each thread at most.
const LIMITS: Limits = Limits { per_step: 2048, of_process: 256, of_all: 8192 };

/// A search that goes on from step to step.
#[derive(Debug)]
pub(super) struct Scan {
    proc: PathBuf,
    is_wanted: fn(&[u8]) -> bool,
    limits: Limits,
    found: BTreeMap<u32, Vec<Open>>,
    /// Files of all that were found.
    files: usize,
    /// Files that there was no room for, each time that they were looked at.
    left_out: u64,
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
            limits: LIMITS,
            found: BTreeMap::new(),
            files: 0,
            left_out: 0,
            queue: VecDeque::new(),
            before: HashSet::new(),
            began: None,
            rounds: 0,
        }
    }

    /// Goes on, and returns what each process that is known has open.
    pub(super) fn step(&mut self, now: Instant) -> &BTreeMap<u32, Vec<Open>> {
        let spent = self.check_known();
        // However many files are known, others are looked for.
        let per_step = self.limits.per_step;
        let mut budget = per_step.saturating_sub(spent).max(per_step / 4);
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
            self.remember(pid, open);
            self.rounds += u64::from(self.queue.is_empty());
        }
        &self.found
    }

    /// Whether every process was looked at once.
    pub(super) fn has_seen_all(&self) -> bool {
        self.rounds > 0
    }

    /// Returns what there was no room for since start.
    pub(super) fn unread(&self) -> Unread {
        let Limits { of_process, of_all, .. } = self.limits;
        Unread::beyond(self.left_out, || {
            format!(
                "open files of devices are more than the {of_process} of a process or the {of_all} of \
                 all that are looked at: not everything of every process is told"
            )
        })
    }

    /// Looks at the remembered files of known processes; where one is another's now, at all of them.
    /// Returns how many were looked at.
    fn check_known(&mut self) -> usize {
        self.files = 0;
        let mut spent = 0;
        for (pid, open) in std::mem::take(&mut self.found) {
            spent += open.len();
            let is_same = |file: &Open| {
                let link = self.proc.join(format!("{pid}/fd/{}", file.number));
                fs::read_link(link).is_ok_and(|path| path == file.path)
            };
            // What was opened since is found in the next round.
            let open = if open.iter().all(is_same) {
                open
            } else {
                let (open, cost) = self.files_of(pid);
                spent += cost;
                open
            };
            self.remember(pid, open);
        }
        spent
    }

    fn remember(&mut self, pid: u32, open: Vec<Open>) {
        let known = self.found.remove(&pid).map_or(0, |known| known.len());
        self.files -= known;
        if self.files + open.len() > self.limits.of_all {
            self.left_out += open.len() as u64;
        } else if !open.is_empty() {
            self.files += open.len();
            self.found.insert(pid, open);
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
    fn files_of(&mut self, pid: u32) -> (Vec<Open>, usize) {
        let mut cost = 1;
        let Ok(files) = fs::read_dir(self.proc.join(format!("{pid}/fd"))) else {
            return (Vec::new(), cost);
        };
        let mut open = Vec::new();
        for file in files.flatten() {
            cost += 1;
            let number = file.file_name().to_str().and_then(|number| number.parse().ok());
            let (Some(number), Ok(path)) = (number, fs::read_link(file.path())) else { continue };
            if !(self.is_wanted)(path.as_os_str().as_bytes()) {
                continue;
            }
            if open.len() < self.limits.of_process {
                open.push(Open { number, path });
            } else {
                self.left_out += 1;
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
            for number in 0..15 {
                processes.open(pid, number, "/dev/null");
            }
        }
        let (mut scan, now) = (processes.scan(), Instant::now());
        // Two processes' are more than that, and one's are not.
        scan.limits.per_step = 20;
        assert!(pids(&mut scan, now).is_empty());
        assert!(!scan.has_seen_all());
        assert!(pids(&mut scan, now).is_empty());
        assert!(scan.has_seen_all());
        processes.open(99, 1, "/dev/dri/card0");
        assert_eq!(pids(&mut scan, now + ROUND_EVERY), [99], "before all that were there");
    }

    #[test]
    fn many_known_files_do_not_keep_new_ones_from_being_found() {
        let processes = Processes(tempfile::tempdir().unwrap());
        (0..30).for_each(|number| processes.open(11, number, "/dev/dri/renderD128"));
        let (mut scan, now) = (processes.scan(), Instant::now());
        scan.limits.per_step = 20;
        assert_eq!(pids(&mut scan, now), [11]);
        processes.open(12, 3, "/dev/dri/renderD128");
        assert_eq!(pids(&mut scan, now + ROUND_EVERY), [11, 12]);
        assert_eq!(scan.unread(), Unread::default());
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let processes = Processes(tempfile::tempdir().unwrap());
        for pid in 11..=13 {
            (0..5).for_each(|number| processes.open(pid, number, "/dev/dri/renderD128"));
        }
        let (mut scan, now) = (processes.scan(), Instant::now());
        scan.limits = Limits { of_process: 4, of_all: 9, ..LIMITS };
        let found = scan.step(now);
        assert_eq!(found.values().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
        let Unread { count, last } = scan.unread();
        assert_eq!(count, 3 + 4, "one of each, and the third's");
        assert!(last.is_some_and(|last| last.contains("the 4 of a process or the 9 of all")));
        assert_eq!(scan.step(now).len(), 2, "what is known stays");
        assert_eq!(scan.unread().count, count, "and is not counted again");
    }
}
