//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use orb8_proto::v1::{EventKind, SortBy};

use crate::connection::Target;
use crate::filters::FilterArgs;
use crate::standalone::EngineArgs;
use crate::time::{Since, parse_duration};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "orb8",
    version,
    about = "Shows what happens on the network, and whose traffic it is",
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sudo orb8 trace network                        every flow of this machine, no agent needed
  orb8 flows --sort rate --watch                 who moves most, refreshed in place
  orb8 trace network -n ml --not --port dns      a namespace, without its DNS
  orb8 --agent node-1:9090 status                another machine's agent

Without --agent, orb8 asks the agent at /run/orb8/agent.sock, else at 127.0.0.1:9090; where neither
answers, `trace` and `flows` run the engine themselves, which needs root or capabilities.";

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct GlobalArgs {
    /// The agent: HOST:PORT, http(s)://HOST:PORT or unix:/PATH
    #[arg(long, global = true, env = "ORB8_AGENT", value_name = "ADDRESS", hide_env_values = true)]
    #[arg(value_parser = Target::parse, help_heading = CONNECTION)]
    pub(crate) agent: Option<Target>,

    /// Run the engine in this process, even where an agent is
    #[arg(long, global = true, help_heading = CONNECTION)]
    pub(crate) standalone: bool,

    /// PEM file with the authority of the agent's certificate; turns TLS on
    #[arg(long, global = true, value_name = "PATH", help_heading = CONNECTION, hide_short_help = true)]
    pub(crate) tls_ca: Option<PathBuf>,

    /// PEM file with this client's certificate
    #[arg(long, global = true, value_name = "PATH", requires = "tls_key")]
    #[arg(help_heading = CONNECTION, hide_short_help = true)]
    pub(crate) tls_cert: Option<PathBuf>,

    /// PEM file with the key of --tls-cert
    #[arg(long, global = true, value_name = "PATH", requires = "tls_cert")]
    #[arg(help_heading = CONNECTION, hide_short_help = true)]
    pub(crate) tls_key: Option<PathBuf>,

    /// Name that the agent's certificate has, where it is not the host's
    #[arg(long, global = true, value_name = "NAME", requires = "tls_ca")]
    #[arg(help_heading = CONNECTION, hide_short_help = true)]
    pub(crate) tls_server_name: Option<String>,

    /// How long to wait for an answer
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = parse_duration, help_heading = CONNECTION)]
    pub(crate) timeout: Duration,

    /// How results are printed; json has one object per line, yaml one document per object
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    #[arg(value_enum, hide_possible_values = false, help_heading = OUTPUT)]
    pub(crate) output: OutputFormat,

    /// When to use colours; NO_COLOR turns them off too
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    #[arg(value_enum, help_heading = OUTPUT)]
    pub(crate) color: ColorChoice,

    /// Leave notes and summaries on standard error out
    #[arg(short, long, global = true, help_heading = OUTPUT)]
    pub(crate) quiet: bool,
}

const CONNECTION: &str = "Connection";
const OUTPUT: &str = "Output";

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns that fit the terminal.
    #[default]
    Table,
    /// All columns.
    Wide,
    /// One JSON object per line.
    Json,
    /// One YAML document per object.
    Yaml,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show how the agent is
    Status,
    /// List the flows that the agent holds
    Flows(FlowsArgs),
    /// Follow events as they happen
    Trace {
        /// What to follow.
        #[command(subcommand)]
        signal: Signal,
    },
    /// Show what works on this machine, what does not, and what to do
    Diagnose,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

/// What to follow.
#[derive(Debug, Subcommand)]
pub(crate) enum Signal {
    /// Follow flows: new, moving, ended
    Network(TraceArgs),
}

/// `orb8 flows`.
#[derive(Debug, Args)]
pub(crate) struct FlowsArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs,

    /// How many flows to print at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,

    /// Print the N flows that moved last, as --sort last-seen --limit N
    #[arg(long, value_name = "N", conflicts_with_all = ["limit", "sort"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) last: Option<u32>,

    /// What comes first
    #[arg(long, value_name = "BY", default_value = "bytes", value_parser = sort_words())]
    pub(crate) sort: String,

    /// The smallest first
    #[arg(long)]
    pub(crate) ascending: bool,

    /// Only flows that moved since: 5m ago, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,

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
    pub(crate) show: ShowArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `orb8 trace network`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs,

    /// Only these events; all but `closing` by default, which tells of a FIN or RST at once, before
    /// the `end` with the last counts
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = event_words())]
    pub(crate) event: Vec<String>,

    /// End after this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,

    /// End after N events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,

    /// Begin with the last N events, and end there unless --follow is given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) last: Option<u32>,

    /// Begin with the events since: 5m ago, or 2026-01-31T12:00:00Z; end there unless --follow
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,

    /// Go on after --last or --since
    #[arg(short, long)]
    pub(crate) follow: bool,

    #[command(flatten)]
    pub(crate) show: ShowArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// What both lists and streams of flows take.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Show the agent's own API traffic too
    #[arg(long)]
    pub(crate) include_self: bool,

    /// Print ports as numbers, not names
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) numeric: bool,
}

impl FlowsArgs {
    pub(crate) fn sort_by(&self) -> SortBy {
        if self.last.is_some() { SortBy::LastSeen } else { find(SortBy::WORDS, &self.sort) }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.last.unwrap_or(self.limit)
    }
}

impl TraceArgs {
    /// Whether the stream ends where the past does.
    pub(crate) const fn is_past(&self) -> bool {
        (self.last.is_some() || self.since.is_some()) && !self.follow
    }

    pub(crate) fn kinds(&self) -> Vec<i32> {
        self.event.iter().map(|word| find(EventKind::WORDS, word).into()).collect()
    }
}

fn sort_words() -> clap::builder::PossibleValuesParser {
    SortBy::WORDS.iter().map(|(_, word)| *word).collect::<Vec<_>>().into()
}

fn event_words() -> clap::builder::PossibleValuesParser {
    EventKind::WORDS.iter().map(|(_, word)| *word).collect::<Vec<_>>().into()
}

/// The words come from the same table that the parser accepts; the default is "unspecified".
fn find<E: Copy + Default>(words: &[(E, &str)], word: &str) -> E {
    words
        .iter()
        .find(|(_, candidate)| *candidate == word)
        .map_or_else(E::default, |(value, _)| *value)
}
