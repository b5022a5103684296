//! The kernel's run statistics of programs that a process holds.

use std::{collections::HashSet, fs, path::PathBuf};

use anyhow::{Context, Result};
use aya::programs::loaded_programs;

/// What the kernel counts for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunTime {
    pub(crate) ns: u64,
    pub(crate) runs: u64,
}

impl RunTime {
    /// Nanoseconds per run; `None` without a run.
    pub(crate) fn per_run(self) -> Option<f64> {
        (self.runs > 0).then(|| self.ns as f64 / self.runs as f64)
    }
}

impl std::ops::Sub for RunTime {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { ns: self.ns - other.ns, runs: self.runs - other.runs }
    }
}

/// The programs of one process whose names begin alike.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    /// Their descriptors' fdinfo files.
    files: Vec<PathBuf>,
}

impl Statistics {
    /// Finds a process's programs by the beginnings of their names, of which the kernel keeps 15 bytes.
    pub(crate) fn of(process: u32, beginnings: &[&str]) -> Result<Self> {
        let mut ids: HashSet<u64> = loaded_programs()
            .filter_map(Result::ok)
            .filter(|program| {
                let name = program.name_as_str().unwrap_or_default();
                beginnings.iter().any(|beginning| name.starts_with(beginning))
            })
            .map(|program| program.id().into())
            .collect();
        let mut files = Vec::new();
        for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
            let path = entry?.path();
            // A descriptor may be closed meanwhile; links have a program's id, but no runs. A program
            // may have several.
            let text = fs::read_to_string(&path).unwrap_or_default();
            let id = field(&text, "run_cnt").and_then(|_| field(&text, "prog_id"));
            if id.is_some_and(|id| ids.remove(&id)) {
                files.push(path);
            }
        }
        Ok(Self { files })
    }

    /// Run time and runs of all of them so far.
    pub(crate) fn read(&self) -> Result<RunTime> {
        let mut sum = RunTime::default();
        for path in &self.files {
            let text = fs::read_to_string(path)?;
            sum.ns += field(&text, "run_time_ns").context("the kernel has no run statistics")?;
            sum.runs += field(&text, "run_cnt").context("the kernel has no run statistics")?;
        }
        Ok(sum)
    }
}

/// A number of an fdinfo file.
pub(crate) fn field(fdinfo: &str, name: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_numbers_of_fdinfo() {
        let text = "pos:\t0\nprog_type:\t8\nprog_id:\t70\nrun_time_ns:\t123456\nrun_cnt:\t42\n";
        assert_eq!(field(text, "prog_id"), Some(70));
        assert_eq!(field(text, "run_time_ns"), Some(123_456));
        assert_eq!(field(text, "run_cnt"), Some(42));
        assert_eq!(field(text, "run"), None);
        assert_eq!(field("", "run_cnt"), None);
    }

    #[test]
    fn time_per_run_needs_a_run() {
        let (before, after) = (RunTime { ns: 100, runs: 2 }, RunTime { ns: 400, runs: 5 });
        assert_eq!((after - before).per_run(), Some(100.0));
        assert_eq!((after - after).per_run(), None);
    }
}
