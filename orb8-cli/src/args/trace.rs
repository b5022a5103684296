//! What streams take.

use std::time::Duration;

use clap::Args;
use orb8_proto::v1::EventKind;

use super::{OUTPUT, choices, find};
use crate::filters::{DnsExchanges, FilterArgs, Flows, TcpEvents};
use crate::standalone::EngineArgs;
use crate::time::{Since, parse_duration};

/// What every stream takes.
#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    /// End after this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,

    /// End after N events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,

    /// Begin with the last N events, and end there unless --follow is given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) last: Option<u32>,

    /// Begin with the events since: 5m ago, 12:00, 2026-01-31T12:00:00Z or Unix time; end there unless
    /// --follow
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,

    /// Go on after --last or --since
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Print ports as numbers and addresses as they are, without names
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) numeric: bool,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `orb8 trace network`.
#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs<Flows>,

    /// Only these events; all but `closing` by default, which tells of a FIN or RST at once, before
    /// the `end` with the last counts
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    #[arg(value_parser = choices(EventKind::WORDS))]
    pub(crate) event: Vec<String>,

    #[command(flatten)]
    pub(crate) stream: StreamArgs,

    /// Show the agent's own API traffic too
    #[arg(long)]
    pub(crate) include_self: bool,
}

/// `orb8 trace dns`.
#[derive(Debug, Args)]
pub(crate) struct DnsArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs<DnsExchanges>,

    #[command(flatten)]
    pub(crate) stream: StreamArgs,
}

/// `orb8 trace tcp`.
#[derive(Debug, Args)]
pub(crate) struct TcpArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs<TcpEvents>,

    #[command(flatten)]
    pub(crate) stream: StreamArgs,

    /// Show the agent's own API traffic too
    #[arg(long)]
    pub(crate) include_self: bool,
}

impl StreamArgs {
    /// Whether the stream begins in the past.
    pub(crate) const fn has_past(&self) -> bool {
        self.last.is_some() || self.since.is_some()
    }

    /// Whether the stream ends where the past does.
    pub(crate) const fn is_past(&self) -> bool {
        self.has_past() && !self.follow
    }
}

impl NetworkArgs {
    pub(crate) fn kinds(&self) -> Vec<i32> {
        self.event.iter().map(|word| find(EventKind::WORDS, word).into()).collect()
    }
}
