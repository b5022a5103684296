//! What the live screen takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{OUTPUT, choices, find};
use crate::filters::{FilterArgs, Workloads};
use crate::standalone::EngineArgs;
use crate::time::parse_duration;
use crate::top::Tab;

/// What an agent is asked at most: it sums up all its flows for each answer.
const SHORTEST: Duration = Duration::from_millis(100);

/// `orb8 top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    // What every tab begins with; `/` changes it.
    #[command(flatten)]
    pub(crate) filters: FilterArgs<Workloads>,

    /// The tab to begin with
    #[arg(long, value_name = "TAB", default_value = "overview", value_parser = choices(Tab::WORDS))]
    pub(crate) tab: String,

    /// How often to ask the agent, 100ms at least
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    pub(crate) interval: Duration,

    /// Let clicks choose tabs and rows, and the wheel scroll; the key `m` does too
    #[arg(long)]
    pub(crate) mouse: bool,

    /// Folder for what the key `e` exports
    #[arg(long, value_name = "FOLDER", default_value = ".", help_heading = OUTPUT)]
    pub(crate) export_to: PathBuf,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// Show the agent's own API traffic too
    #[arg(long)]
    pub(crate) include_self: bool,
}

impl TopArgs {
    pub(crate) fn tab(&self) -> Tab {
        find(Tab::WORDS, &self.tab)
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < SHORTEST {
        return Err("an interval must be 100ms at least".to_owned());
    }
    Ok(interval)
}
