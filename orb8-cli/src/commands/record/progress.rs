//! What a recorder says of itself.

use std::time::{Duration, Instant};

use orb8_proto::units;

use super::destination::Destination;
use crate::commands::counted;
use crate::console::Console;
use crate::error::CliError;

/// Counts what is recorded, and tells it in one line.
pub(super) struct Progress {
    began: Instant,
    events: u64,
    snapshots: u64,
    /// Whether a person looks at the line as it changes.
    is_seen: bool,
}

impl Progress {
    /// How often the line changes.
    pub(super) const PERIOD: Duration = Duration::from_secs(1);

    pub(super) fn new(console: &Console) -> Self {
        let is_seen = console.terminal.is_some() && !console.quiet;
        Self { began: Instant::now(), events: 0, snapshots: 0, is_seen }
    }

    pub(super) const fn add_event(&mut self) {
        self.events += 1;
    }

    pub(super) const fn add_snapshot(&mut self) {
        self.snapshots += 1;
    }

    /// Returns how many events and snapshots there are.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.events, self.snapshots)
    }

    /// Tells it in place.
    pub(super) fn report(&self, to: &Destination, console: &mut Console) -> Result<(), CliError> {
        if self.is_seen {
            write!(console.out, "\r{}; Ctrl-C ends\x1b[K", self.text(to, "recording"))?;
            console.out.flush()?;
        }
        Ok(())
    }

    /// Tells it for good: where standard output is the recording, beside it.
    pub(super) fn end(&self, to: &Destination, console: &mut Console) -> Result<(), CliError> {
        let text = self.text(to, "recorded");
        if to.path().is_none() {
            console.note(&text);
        } else if !console.quiet {
            let clear = if self.is_seen { "\r\x1b[K" } else { "" };
            writeln!(console.out, "{clear}{text}")?;
            console.out.flush()?;
        }
        Ok(())
    }

    fn text(&self, to: &Destination, verb: &str) -> String {
        let where_to = to.path().map(|path| format!(" to {}", path.display())).unwrap_or_default();
        format!(
            "{verb} {} and {} in {}{where_to}, {}",
            counted(self.events, "event", "events"),
            counted(self.snapshots, "snapshot", "snapshots"),
            units::duration(self.began.elapsed()),
            units::bytes(to.bytes()),
        )
    }
}
