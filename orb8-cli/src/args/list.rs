//! What lists take.

use std::time::Duration;

use clap::Args;
use orb8_proto::v1::{DnsSortBy, SortBy, TcpSortBy, WorkloadGroup, WorkloadSortBy};

use super::{OUTPUT, choices, find};
use crate::filters::{Connections, DnsSummaries, FilterArgs, Flows, Pods, Workloads};
use crate::standalone::EngineArgs;
use crate::time::{Since, parse_duration};

/// What every list takes.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// How many rows to print at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,

    /// How long to count before printing; with --watch, when to end [default without an agent: 3s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,

    /// Refresh in place
    #[arg(short, long, visible_short_alias = 'f', visible_alias = "follow")]
    pub(crate) watch: bool,

    /// How often to refresh
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    #[arg(requires = "watch")]
    pub(crate) interval: Duration,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `orb8 flows`.
#[derive(Debug, Args)]
pub(crate) struct FlowsArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs<Flows>,

    /// What comes first
    #[arg(long, value_name = "BY", default_value = "bytes", value_parser = choices(SortBy::WORDS))]
    pub(crate) sort: String,

    /// The smallest first
    #[arg(long)]
    pub(crate) ascending: bool,

    /// Print the N flows that moved last, as --sort last-seen --limit N
    #[arg(long, value_name = "N", conflicts_with_all = ["limit", "sort"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) last: Option<u32>,

    /// What flows moved since then, ended ones too: 5m ago, 12:00, 2026-01-31T12:00:00Z or Unix time
    #[arg(long, visible_alias = "from", value_name = "WHEN", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,

    /// What flows moved until then, with --from or as far back as the agent's history reaches
    #[arg(long, value_name = "WHEN", value_parser = Since::parse, conflicts_with = "duration")]
    pub(crate) to: Option<Since>,

    /// Print ports as numbers and addresses as they are, without names
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) numeric: bool,

    #[command(flatten)]
    pub(crate) list: ListArgs,

    /// Show the agent's own API traffic too
    #[arg(long)]
    pub(crate) include_self: bool,
}

/// `orb8 dns top`.
#[derive(Debug, Args)]
pub(crate) struct DnsTopArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs<DnsSummaries>,

    /// What comes first; latency is the 99th percentile
    #[arg(long, value_name = "BY", default_value = "queries", value_parser = choices(DnsSortBy::WORDS))]
    pub(crate) sort: String,

    /// The smallest first
    #[arg(long)]
    pub(crate) ascending: bool,

    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `orb8 tcp top`.
#[derive(Debug, Args)]
pub(crate) struct TcpTopArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs<Connections>,

    /// What comes first
    #[arg(long, value_name = "BY", default_value = "retransmits")]
    #[arg(value_parser = choices(TcpSortBy::WORDS))]
    pub(crate) sort: String,

    /// The smallest first
    #[arg(long)]
    pub(crate) ascending: bool,

    /// Print ports as numbers and addresses as they are, without names
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) numeric: bool,

    #[command(flatten)]
    pub(crate) list: ListArgs,

    /// Show the agent's own API traffic too
    #[arg(long)]
    pub(crate) include_self: bool,
}

/// `orb8 pods`.
#[derive(Debug, Args)]
pub(crate) struct PodsArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs<Pods>,

    /// Only those of the agent's node
    #[arg(long)]
    pub(crate) local: bool,

    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `orb8 workloads`.
#[derive(Debug, Args)]
pub(crate) struct WorkloadsArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs<Workloads>,

    /// What makes a row; what no controller made is a pod, and what is in none a container or unit
    #[arg(long, value_name = "WHAT", default_value = "workload")]
    #[arg(value_parser = choices(WorkloadGroup::WORDS))]
    pub(crate) by: String,

    /// What comes first; rtt and latency are the 99th percentile
    #[arg(long, value_name = "BY", default_value = "rate")]
    #[arg(value_parser = choices(WorkloadSortBy::WORDS))]
    pub(crate) sort: String,

    /// The smallest first
    #[arg(long)]
    pub(crate) ascending: bool,

    /// How many peers of each to tell: in TOP PEERS of -o wide, and in the objects
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) peers: u32,

    #[command(flatten)]
    pub(crate) list: ListArgs,

    /// Count the agent's own API traffic too
    #[arg(long)]
    pub(crate) include_self: bool,
}

impl WorkloadsArgs {
    pub(crate) fn sort_by(&self) -> WorkloadSortBy {
        find(WorkloadSortBy::WORDS, &self.sort)
    }

    pub(crate) fn group_by(&self) -> WorkloadGroup {
        find(WorkloadGroup::WORDS, &self.by)
    }
}

impl FlowsArgs {
    pub(crate) fn sort_by(&self) -> SortBy {
        if self.last.is_some() { SortBy::LastSeen } else { find(SortBy::WORDS, &self.sort) }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.last.unwrap_or(self.list.limit)
    }
}

impl DnsTopArgs {
    pub(crate) fn sort_by(&self) -> DnsSortBy {
        find(DnsSortBy::WORDS, &self.sort)
    }
}

impl TcpTopArgs {
    pub(crate) fn sort_by(&self) -> TcpSortBy {
        find(TcpSortBy::WORDS, &self.sort)
    }
}
