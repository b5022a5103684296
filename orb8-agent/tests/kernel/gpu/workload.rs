//! The program that calls.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use orb8_standins::Paths;
use serde_json::Value;
use tempfile::TempDir;

use crate::kernel::support::standins;

/// The libraries and the program, in a folder of the test's own.
pub(super) struct Node {
    pub(super) paths: Paths,
    _folder: TempDir,
}

/// The running program. It waits before it calls anything, and after it said what it did.
pub(super) struct Workload {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    pub(super) pid: u32,
}

impl Node {
    pub(super) fn new() -> Self {
        let (folder, paths) = standins::install();
        Self { paths, _folder: folder }
    }

    /// Starts the program with these options, up to where it has opened its libraries.
    pub(super) fn start(&self, options: &str) -> Workload {
        self.start_with(&self.paths.directory, options)
    }

    /// The same with the libraries of another folder.
    pub(super) fn start_with(&self, libraries: &Path, options: &str) -> Workload {
        Workload::start(&mut self.command(libraries, options))
    }

    /// The same with one more library, from its beginning on.
    pub(super) fn start_preloaded(&self, library: &Path, options: &str) -> Workload {
        let mut command = self.command(&self.paths.directory, options);
        Workload::start(command.env("LD_PRELOAD", library))
    }

    fn command(&self, libraries: &Path, options: &str) -> Command {
        let mut command = Command::new(&self.paths.workload);
        command.args(options.split_ascii_whitespace()).args(["--wait", "--hold", "--libraries"]);
        command.arg(libraries);
        command
    }
}

impl Workload {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = standins::spawn(command);
        let input = child.stdin.take().expect("its input");
        let output = child.stdout.take().expect("its output");
        let mut lines = BufReader::new(output).lines();
        let first = lines.next().expect("its number").expect("text");
        let first: Value = serde_json::from_str(&first).expect("an object");
        let pid = first["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a number");
        Self { child, input, lines, pid }
    }

    /// Lets it call, and returns what it did.
    pub(super) fn run(&mut self) -> Value {
        self.go_on();
        let report = self.lines.next().expect("a report").expect("text");
        serde_json::from_str(&report).expect("an object")
    }

    /// Lets it call, and does not wait for what it did.
    pub(super) fn begin(&mut self) {
        self.go_on();
    }

    /// Ends it, after its report.
    pub(super) fn end(mut self) {
        self.go_on();
        self.child.wait().expect("its end");
    }

    fn go_on(&mut self) {
        self.input.write_all(b"\n").expect("it waits");
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Of a test that failed; one that ended is not there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
