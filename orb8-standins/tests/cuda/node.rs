//! Where the libraries are, and the workload as a process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use orb8_standins::Paths;
use serde_json::Value;
use tempfile::TempDir;

/// Returns the installed files, the same for all tests.
pub(crate) fn paths() -> &'static Paths {
    static PATHS: OnceLock<(TempDir, Paths)> = OnceLock::new();
    let (_, paths) = PATHS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let paths = orb8_standins::install(folder.path()).unwrap();
        (folder, paths)
    });
    paths
}

/// Runs the workload to its end and returns its report.
pub(crate) fn report(line: &str) -> Value {
    Workload::start(line).report()
}

/// The workload while it runs; it ends with this.
pub(crate) struct Workload {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Workload {
    /// Starts it and waits for its first line, which says its pid.
    pub(crate) fn start(line: &str) -> Self {
        let mut child = Command::new(&paths().workload)
            .args(line.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut workload = Self { child, input, output };
        assert_eq!(workload.line()["pid"], workload.pid(), "{line}");
        workload
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Lets it go on from where it waits.
    pub(crate) fn go_on(&mut self) {
        writeln!(self.input.as_ref().unwrap()).unwrap();
    }

    /// Reads its report; it may still hold on after it.
    pub(crate) fn report(&mut self) -> Value {
        self.line()
    }

    /// Waits until it ends and says whether it was content.
    pub(crate) fn ends_well(mut self) -> bool {
        drop(self.input.take());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a file's bytes.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
