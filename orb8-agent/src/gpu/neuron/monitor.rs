//! neuron-monitor as a child: started, read, started again.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::report::Report;

/// A report of 64 cores and 16 processes is 200 KiB.
const LONGEST_LINE: u64 = 4 << 20;

/// Between a child's end and the next one.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Only what is read, each second.
const SETTINGS: &str = r#"{"period":"1s","neuron_runtimes":[{"tag_filter":".*","metrics":[{"type":"neuroncore_counters"},{"type":"memory_used"}]}],"system_metrics":[{"type":"neuron_hw_counters"}]}"#;

/// A child and the thread that reads it. Both end with this; who kills the agent ends the child when
/// it writes the next time.
#[derive(Debug)]
pub(super) struct Monitor(Arc<Shared>);

/// What the child told last.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) report: Option<Arc<Report>>,
    /// When that was, or when the child was started.
    pub(super) when: Instant,
    /// Why the last child ended.
    pub(super) problem: Option<String>,
    /// Lines since the last look that were no report.
    pub(super) malformed: u64,
}

#[derive(Debug)]
struct Shared {
    program: PathBuf,
    /// Its settings: a file without a name, which goes with the agent.
    settings: File,
    inside: Mutex<Inside>,
    ended: Condvar,
}

#[derive(Debug)]
struct Inside {
    state: State,
    child: Option<Child>,
    is_over: bool,
}

impl Monitor {
    /// Starts the thread that starts the child.
    ///
    /// # Errors
    ///
    /// There is no thread or no memory for the settings.
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        let mut settings = File::from(memfd_create("orb8-neuron-monitor", MFdFlags::MFD_CLOEXEC)?);
        settings.write_all(SETTINGS.as_bytes())?;
        let state = State { report: None, when: Instant::now(), problem: None, malformed: 0 };
        let inside = Mutex::new(Inside { state, child: None, is_over: false });
        let program = program.to_owned();
        let shared = Arc::new(Shared { program, settings, inside, ended: Condvar::new() });
        thread::Builder::new().name("orb8-neuron".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        })?;
        Ok(Self(shared))
    }

    /// Returns the program that is run.
    pub(super) fn program(&self) -> &Path {
        &self.0.program
    }

    /// Returns what was told last; lines that were no report are counted once.
    pub(super) fn state(&self) -> State {
        let mut inside = self.0.lock();
        let state = inside.state.clone();
        inside.state.malformed = 0;
        state
    }

    /// Ends a child that says nothing, so that another is started.
    pub(super) fn restart(&self) {
        self.0.lock().child.iter().for_each(kill);
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.restart();
        self.0.ended.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut pause = PAUSES.0;
        loop {
            let has_told = match self.spawn() {
                Ok(Some(output)) => self.listen(output),
                Ok(None) => return,
                Err(error) => {
                    self.lock().state.problem = Some(format!("it cannot be started: {error}"));
                    false
                }
            };
            self.bury();
            pause = if has_told { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
            let inside = self.lock();
            let is_on = |inside: &mut Inside| !inside.is_over;
            let waited = self.ended.wait_timeout_while(inside, pause, is_on);
            if waited.unwrap_or_else(PoisonError::into_inner).0.is_over {
                return;
            }
        }
    }

    /// Starts a child, unless this is over, and returns its output.
    fn spawn(&self) -> io::Result<Option<ChildStdout>> {
        let mut inside = self.lock();
        if inside.is_over {
            return Ok(None);
        }
        let settings = format!("/proc/{}/fd/{}", process::id(), self.settings.as_raw_fd());
        let mut child = Command::new(&self.program)
            .args(["-c", &settings])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let output = child.stdout.take();
        inside.child = Some(child);
        inside.state.when = Instant::now();
        Ok(output)
    }

    /// Reads lines until there are no more, and returns whether any was a report.
    fn listen(&self, output: ChildStdout) -> bool {
        let mut output = BufReader::new(output);
        let mut has_told = false;
        let mut line = Vec::new();
        loop {
            line.clear();
            match output.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return has_told,
                Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 == LONGEST_LINE => {
                    // Whoever prints that is no monitor.
                    self.lock().state.malformed += 1;
                    return has_told;
                }
                Ok(_) => has_told |= self.take(&line),
            }
        }
    }

    fn take(&self, line: &[u8]) -> bool {
        if line.trim_ascii().is_empty() {
            return false;
        }
        let report = serde_json::from_slice::<Report>(line);
        let state = &mut self.lock().state;
        match report {
            Ok(report) => {
                state.report = Some(Arc::new(report));
                state.when = Instant::now();
                state.problem = None;
                true
            }
            Err(_) => {
                state.malformed += 1;
                false
            }
        }
    }

    /// Takes the child that ended, or ends it, and keeps why.
    fn bury(&self) {
        let Some(mut child) = self.lock().child.take() else { return };
        kill(&child);
        let status = child.wait();
        let mut inside = self.lock();
        inside.state.report = None;
        inside.state.problem = Some(match status {
            Ok(status) => format!("it ended ({status}) and is started again"),
            Err(error) => format!("it ended ({error}) and is started again"),
        });
    }
}

/// Ends a child that was not waited for yet, and what it started: it has a group of its own.
fn kill(child: &Child) {
    let group = Pid::from_raw(child.id().cast_signed());
    // One that ended already needs no end.
    let _ = killpg(group, Signal::SIGKILL);
}
