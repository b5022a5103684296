//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use crate::connection::Target;
use crate::replay::parse_speed;
use crate::time::parse_duration;
use clap::{Args, Parser, Subcommand, ValueEnum};

#[cfg(all(feature = "demo", target_os = "linux"))]
mod demo;
mod gpu;
mod list;
pub(crate) mod order;
mod record;
mod top;
mod trace;

#[cfg(all(feature = "demo", target_os = "linux"))]
pub(crate) use demo::{DemoCommand, DemoGpuArgs};
pub(crate) use gpu::{
    DevicesArgs, GpuArgs, GpuCommand, GpuEventsArgs, HealthArgs, IdleArgs, LeaksArgs, ProcessSort,
    ProcessesArgs, ShareSort, SharesArgs, WhichArgs,
};
pub(crate) use list::{DnsTopArgs, FlowsArgs, ListArgs, PodsArgs, TcpTopArgs, WorkloadsArgs};
pub(crate) use record::{RecordArgs, Signal as RecordSignal};
pub(crate) use top::TopArgs;
pub(crate) use trace::{DnsArgs, NetworkArgs, StreamArgs, TcpArgs};

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
  sudo orb8 top                                  what happens on this machine, live
  sudo orb8 trace network                        every flow of this machine, no agent needed
  orb8 flows --sort rate --watch                 who moves most, refreshed in place
  orb8 trace network -n ml --not --port dns      a namespace, without its DNS
  orb8 trace dns --name '*.svc' --slow 50ms      who waits for the cluster's DNS, and how long
  orb8 trace tcp --events fail,retransmit,reset  what goes wrong with connections, and why
  orb8 flows -l app=web --to-service shop/db     what pods with a label send to a Service
  orb8 gpu --watch                               accelerators with the pods on them
  orb8 --agent node-1:9090 status                another machine's agent

Without --agent, orb8 asks the agent at /run/orb8/agent.sock, else at 127.0.0.1:9090; where neither
answers, `trace`, `top`, `flows`, `workloads`, `gpu` and `pods` run the engine themselves, which needs root or capabilities.";

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

    /// Answer from a recording of `orb8 record` instead of an agent
    #[arg(long, global = true, value_name = "FILE", help_heading = CONNECTION)]
    pub(crate) replay: Option<PathBuf>,

    /// Play the recording N times as fast as it was made: `trace`, which is played at once by default,
    /// `top` and --watch
    #[arg(long, global = true, value_name = "N", value_parser = parse_speed)]
    #[arg(help_heading = CONNECTION, hide_short_help = true)]
    pub(crate) replay_speed: Option<f64>,

    /// Whether the command goes on as time does.
    #[arg(skip)]
    pub(crate) is_live: bool,

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
    /// Show what happens, live: rates, flows, workloads, DNS, TCP, GPUs, the agent
    #[command(visible_alias = "dashboard")]
    Top(TopArgs),
    /// Show how the agent is
    Status,
    /// List the flows that the agent holds
    Flows(FlowsArgs),
    /// Show who asks for which names, and what comes of it
    Dns {
        /// How to show it.
        #[command(subcommand)]
        command: DnsCommand,
    },
    /// Show how TCP connections are
    Tcp {
        /// How to show it.
        #[command(subcommand)]
        command: TcpCommand,
    },
    /// List what each workload does on the network: rates, peers, TCP and DNS health
    Workloads(WorkloadsArgs),
    /// List the pods that the agent knows, and how it knows them
    Pods(PodsArgs),
    /// Show accelerators: how busy and how well they are, who holds and who uses them
    Gpu(Box<GpuArgs>),
    /// Follow events as they happen
    Trace {
        /// What to follow.
        #[command(subcommand)]
        signal: Signal,
    },
    /// Record everything that an agent tells, for --replay
    Record(RecordArgs),
    /// Show orb8 on a node that is none, with stand-ins for what is missing here
    #[cfg(all(feature = "demo", target_os = "linux"))]
    Demo {
        /// What the node has.
        #[command(subcommand)]
        command: DemoCommand,
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

impl Command {
    /// Whether it goes on as time does: of a recording, such a command sees what was seen then.
    pub(crate) fn is_live(&self) -> bool {
        match self {
            Self::Flows(args) => args.list.watch,
            Self::Dns { command: DnsCommand::Top(args) } => args.list.watch,
            Self::Tcp { command: TcpCommand::Top(args) } => args.list.watch,
            Self::Workloads(args) => args.list.watch,
            Self::Pods(args) => args.list.watch,
            Self::Gpu(args) => args.list().watch,
            Self::Top(_) => true,
            Self::Status
            | Self::Trace { .. }
            | Self::Record(_)
            | Self::Diagnose
            | Self::Completions { .. }
            | Self::Version => false,
            #[cfg(all(feature = "demo", target_os = "linux"))]
            Self::Demo { .. } => false,
        }
    }

    /// Whether it follows events.
    pub(crate) const fn is_trace(&self) -> bool {
        matches!(self, Self::Trace { .. })
    }
}

/// What to follow.
#[derive(Debug, Subcommand)]
pub(crate) enum Signal {
    /// Follow flows: new, moving, ended
    Network(NetworkArgs),
    /// Follow DNS: queries with their answers, latencies and failures
    Dns(DnsArgs),
    /// Follow TCP: connections, retransmits, resets, drops
    Tcp(TcpArgs),
    /// Follow accelerators: XIDs, throttling, idle holders, allocations, launches, collectives
    Gpu(GpuEventsArgs),
}

/// How to show DNS.
#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// List what is asked for, by owner and name
    Top(DnsTopArgs),
}

/// How to show TCP.
#[derive(Debug, Subcommand)]
pub(crate) enum TcpCommand {
    /// List connections, those that need a look first
    Top(TcpTopArgs),
}

/// Words of an enum, for the parser.
fn choices<E>(words: &[(E, &'static str)]) -> clap::builder::PossibleValuesParser {
    words.iter().map(|(_, word)| *word).collect::<Vec<_>>().into()
}

/// The words come from the same table that the parser accepts; the default is "unspecified".
fn find<E: Copy + Default>(words: &[(E, &str)], word: &str) -> E {
    words
        .iter()
        .find(|(_, candidate)| *candidate == word)
        .map_or_else(E::default, |(value, _)| *value)
}
