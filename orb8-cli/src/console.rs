//! Standard output and error, and what is known of who reads them.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use anstyle::Style;
use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::{ColorChoice, GlobalArgs};
use crate::error::Exit;
use crate::output::style;
use crate::time::now_ns;

/// Where a command reads its surroundings and writes its results. Tests make their own.
pub(crate) struct Console {
    /// Results, and nothing else.
    pub(crate) out: Box<dyn Write + Send>,
    /// What a person should know besides.
    pub(crate) err: Box<dyn Write + Send>,
    /// Whether a person looks at the results as they come.
    pub(crate) terminal: Option<Terminal>,
    /// Colours on standard output.
    pub(crate) colors: bool,
    /// Colours on standard error.
    pub(crate) err_colors: bool,
    /// Whether notes and summaries are left out.
    pub(crate) quiet: bool,
    /// Where the clock hangs.
    pub(crate) time_zone: TimeZone,
    /// What it shows: Unix time in nanoseconds.
    pub(crate) now_ns: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Cancelled by Ctrl-C and SIGTERM.
    pub(crate) interrupt: CancellationToken,
    /// Agents that are looked for where none is named.
    pub(crate) local_agents: Vec<String>,
}

/// A terminal's size, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Columns.
    pub(crate) width: u16,
    /// Rows.
    pub(crate) height: u16,
}

impl Terminal {
    fn detect() -> Self {
        let (width, height) = terminal_size::terminal_size_of(io::stdout())
            .map_or((80, 24), |(width, height)| (width.0, height.0));
        Self { width, height }
    }
}

/// The agent's defaults: its socket, then its port.
const LOCAL_AGENTS: [&str; 2] = ["unix:/run/orb8/agent.sock", "127.0.0.1:9090"];

impl Console {
    pub(crate) fn of_process() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            out: Box::new(io::BufWriter::new(io::stdout())),
            err: Box::new(io::stderr()),
            terminal: io::stdout().is_terminal().then(Terminal::detect),
            colors: wanted && io::stdout().is_terminal(),
            err_colors: wanted && io::stderr().is_terminal(),
            quiet: false,
            time_zone: TimeZone::system(),
            now_ns: Arc::new(now_ns),
            interrupt: CancellationToken::new(),
            local_agents: LOCAL_AGENTS.map(str::to_owned).to_vec(),
        }
    }

    /// Takes over what the command line says about output.
    pub(crate) fn apply(&mut self, global: &GlobalArgs) {
        self.quiet |= global.quiet;
        match global.color {
            ColorChoice::Auto => {}
            ColorChoice::Always => (self.colors, self.err_colors) = (true, true),
            ColorChoice::Never => (self.colors, self.err_colors) = (false, false),
        }
    }

    /// Makes Ctrl-C, SIGTERM and a terminal that goes away end the command where it likes to be ended.
    /// Needs a runtime.
    pub(crate) fn interrupt_on_signals(&self) {
        // Under `nohup`, the command is to outlive its terminal.
        let hangup = (!is_ignored(SignalKind::hangup())).then(SignalKind::hangup);
        for kind in [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hangup) {
            // Without a handler the signal does what it does by default: end the process.
            let Ok(mut received) = signal(kind) else {
                continue;
            };
            let interrupt = self.interrupt.clone();
            tokio::spawn(async move {
                while received.recv().await.is_some() {
                    if interrupt.is_cancelled() {
                        // Asked twice: whatever holds the command up is not worth waiting for.
                        std::process::exit(130);
                    }
                    interrupt.cancel();
                }
            });
        }
    }

    /// Asks the terminal for its size again.
    pub(crate) fn measure(&mut self) {
        if let Some(terminal) = &mut self.terminal
            && let Some((width, height)) = terminal_size::terminal_size_of(io::stdout())
        {
            *terminal = Terminal { width: width.0, height: height.0 };
        }
    }

    /// Tells something by the way, unless asked to be quiet.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.err_line(style::QUIET, "", text);
        }
    }

    /// Tells that what is printed is not all there is, even to those who want quiet.
    pub(crate) fn warn(&mut self, text: &str) {
        self.err_line(style::BAD, "warning: ", text);
    }

    /// Says why a command ends.
    pub(crate) fn error(&mut self, text: &str) {
        self.err_line(style::BAD, "error: ", text);
    }

    /// Prints what the parser of the command line has to say, be it help or a mistake.
    pub(crate) fn usage(&mut self, error: &clap::Error) -> Exit {
        let text = error.render();
        // Nothing is left to do if this cannot be written.
        if error.use_stderr() {
            let _ = write_rendered(&mut self.err, &text, self.err_colors);
            Exit::Usage
        } else {
            let _ = write_rendered(&mut self.out, &text, self.colors);
            Exit::Success
        }
    }

    fn err_line(&mut self, style: Style, label: &str, text: &str) {
        let painted = match (label, self.err_colors) {
            ("", true) => format!("{style}{text}{style:#}"),
            (label, true) => format!("{style}{label}{style:#}{text}"),
            (label, false) => format!("{label}{text}"),
        };
        // Where standard error is gone, there is nobody to tell.
        let _ = writeln!(self.err, "{painted}");
    }
}

fn write_rendered(
    to: &mut dyn Write,
    text: &clap::builder::StyledStr,
    colors: bool,
) -> io::Result<()> {
    if colors {
        write!(to, "{}", text.ansi())?;
    } else {
        write!(to, "{text}")?;
    }
    to.flush()
}

/// Whether who started this process wants it to ignore a signal.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}
