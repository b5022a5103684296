//! Whole commands against an agent that says what it is told to.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use clap::CommandFactory;
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use crate::args::Cli;
use crate::console::{Console, Terminal};
use crate::error::Exit;

pub(crate) mod agent;
#[cfg(all(feature = "standalone", target_os = "linux"))]
mod book;
mod causes;
mod commands;
mod gpus;
mod help;
mod kubernetes;
mod readme;
#[cfg(all(feature = "standalone", target_os = "linux"))]
mod real;
mod recordings;
pub(crate) mod samples;
mod signals;
mod tls;
mod traces;
mod workloads;

/// Output that a test can read.
#[derive(Clone, Debug, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a command did.
#[derive(Debug)]
struct Outcome {
    exit: Exit,
    out: String,
    err: String,
}

/// A command's surroundings.
#[derive(Clone, Debug)]
struct Surroundings {
    width: Option<u16>,
    colors: bool,
    interrupt: CancellationToken,
    local_agents: Vec<String>,
}

impl Surroundings {
    fn piped() -> Self {
        Self {
            width: None,
            colors: false,
            interrupt: CancellationToken::new(),
            local_agents: Vec::new(),
        }
    }

    fn terminal(width: u16) -> Self {
        Self { width: Some(width), ..Self::piped() }
    }

    fn with_local(self, socket: &Path) -> Self {
        Self { local_agents: vec![format!("unix:{}", socket.display())], ..self }
    }

    async fn run(self, line: &str) -> Outcome {
        let (out, err) = (Sink::default(), Sink::default());
        let exit = self.run_to(line, Box::new(out.clone()), err.clone()).await;
        Outcome { exit, out: out.text(), err: err.text() }
    }

    async fn run_to(self, line: &str, out: Box<dyn Write + Send>, err: Sink) -> Exit {
        let mut console = self.console(out, err);
        let args = std::iter::once("orb8").chain(line.split_whitespace()).map(Into::into);
        crate::run(args, &mut console).await
    }

    fn console(self, out: Box<dyn Write + Send>, err: Sink) -> Console {
        Console {
            out,
            err: Box::new(err),
            terminal: self.width.map(|width| Terminal { width, height: 24 }),
            colors: self.colors,
            err_colors: self.colors,
            quiet: false,
            time_zone: TimeZone::UTC,
            now_ns: Arc::new(|| samples::NOON),
            interrupt: self.interrupt,
            local_agents: self.local_agents,
        }
    }
}

/// A console that nobody reads.
pub(crate) fn console() -> Console {
    Surroundings::piped().console(Box::new(io::sink()), Sink::default())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}
