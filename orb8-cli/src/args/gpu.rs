//! What lists and streams of accelerators take.

use clap::{Args, Subcommand};
use orb8_proto::filter::GpuQuery;
use orb8_proto::v1::{GpuEventKind, GpuXidAction, QueryGpuRequest};

use super::{ListArgs, StreamArgs, choices, find};
use crate::filters::{FilterArgs, Workloads};
use crate::time::Since;

/// `orb8 gpu`, which is a list itself.
#[derive(Debug, Args)]
pub(crate) struct GpuArgs {
    /// What of them to show.
    #[command(subcommand)]
    pub(crate) command: Option<Box<GpuCommand>>,

    #[command(flatten)]
    pub(crate) devices: DevicesArgs,
}

/// What of accelerators to show.
#[derive(Debug, Subcommand)]
pub(crate) enum GpuCommand {
    /// List who holds and uses each device, and how much of it
    Pods(SharesArgs),
    /// List the processes on devices, and what they do with CUDA and NCCL
    Processes(ProcessesArgs),
    /// List who holds a device and does not use it, and who uses one without holding it
    Idle(IdleArgs),
    /// Say whether devices are well: XIDs, memory errors, throttling, links; and what to do
    Health(HealthArgs),
    /// List processes that seem to lose device memory, and where they ask for it
    Leaks(LeaksArgs),
}

/// Which devices, and whose part in them.
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs<Workloads>,

    /// A device by number (0), a part by both (0:1), PCI address or id, with a * at its end a beginning
    #[arg(long, value_name = "DEVICE", value_delimiter = ',', value_parser = device)]
    pub(crate) device: Vec<String>,
}

/// `orb8 gpu` without more.
#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,

    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `orb8 gpu pods`.
#[derive(Debug, Args)]
pub(crate) struct SharesArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,

    /// What comes first
    #[arg(long, value_name = "BY", default_value = "device", value_parser = choices(ShareSort::WORDS))]
    pub(crate) sort: String,

    /// The smallest first
    #[arg(long)]
    pub(crate) ascending: bool,

    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `orb8 gpu processes`.
#[derive(Debug, Args)]
pub(crate) struct ProcessesArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,

    /// What comes first
    #[arg(long, value_name = "BY", default_value = "memory")]
    #[arg(value_parser = choices(ProcessSort::WORDS))]
    pub(crate) sort: String,

    /// The smallest first
    #[arg(long)]
    pub(crate) ascending: bool,

    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `orb8 gpu idle`.
#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,

    /// Those too that are idle for less than the agent's --gpu-idle-after
    #[arg(long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `orb8 gpu health`.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,

    /// Fail where a device is bad, where there is none, and where a driver cannot be read
    #[arg(long, conflicts_with = "watch")]
    pub(crate) check: bool,

    /// Leave out XIDs that have not happened since: 1h ago, 12:00, 2026-01-31T12:00:00Z or Unix time
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,

    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `orb8 gpu leaks`.
#[derive(Debug, Args)]
pub(crate) struct LeaksArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,

    /// Every process that has device memory, and every place where it asked for it
    #[arg(long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `orb8 trace gpu`.
#[derive(Debug, Args)]
pub(crate) struct GpuEventsArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,

    /// Only these events; all by default
    #[arg(long, visible_alias = "events", value_name = "KIND", value_delimiter = ',')]
    #[arg(value_parser = choices(GpuEventKind::WORDS))]
    pub(crate) kinds: Vec<String>,

    /// Of XIDs, those that ask for this at least; `none` for all
    #[arg(long, value_name = "ACTION", value_parser = choices(GpuXidAction::WORDS))]
    pub(crate) at_least: Option<String>,

    #[command(flatten)]
    pub(crate) stream: StreamArgs,
}

/// Orders of owners' parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ShareSort {
    /// As devices are listed.
    #[default]
    Device,
    Memory,
    Utilization,
    /// Those that are idle, the longest first.
    Idle,
    Owner,
}

impl ShareSort {
    pub(crate) const WORDS: &[(Self, &'static str)] = &[
        (Self::Device, "device"),
        (Self::Memory, "memory"),
        (Self::Utilization, "utilization"),
        (Self::Idle, "idle"),
        (Self::Owner, "owner"),
    ];

    /// Whether it is an order of figures.
    pub(crate) const fn has_smallest(self) -> bool {
        !matches!(self, Self::Device | Self::Owner)
    }
}

/// Orders of processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ProcessSort {
    #[default]
    Memory,
    Utilization,
    Launches,
    /// What it asked for and did not give back.
    Outstanding,
    /// For how long it waited for a device.
    Waited,
    Pid,
}

impl ProcessSort {
    pub(crate) const WORDS: &[(Self, &'static str)] = &[
        (Self::Memory, "memory"),
        (Self::Utilization, "utilization"),
        (Self::Launches, "launches"),
        (Self::Outstanding, "outstanding"),
        (Self::Waited, "waited"),
        (Self::Pid, "pid"),
    ];
}

impl GpuArgs {
    /// Returns what every list of accelerators has.
    pub(crate) fn list(&self) -> &ListArgs {
        match self.command.as_deref() {
            None => &self.devices.list,
            Some(GpuCommand::Pods(args)) => &args.list,
            Some(GpuCommand::Processes(args)) => &args.list,
            Some(GpuCommand::Idle(args)) => &args.list,
            Some(GpuCommand::Health(args)) => &args.list,
            Some(GpuCommand::Leaks(args)) => &args.list,
        }
    }
}

impl WhichArgs {
    /// Whether nobody is left out.
    pub(crate) const fn is_everyone(&self) -> bool {
        self.filters.include.is_empty() && self.filters.exclude.is_empty()
    }

    /// Asks for them, with or without what processes do.
    pub(crate) fn request(&self, without_activity: bool) -> QueryGpuRequest {
        QueryGpuRequest {
            include: self.filters.include.clone(),
            exclude: self.filters.exclude.clone(),
            devices: self.device.clone(),
            without_activity,
        }
    }
}

impl SharesArgs {
    pub(crate) fn sort_by(&self) -> ShareSort {
        find(ShareSort::WORDS, &self.sort)
    }
}

impl ProcessesArgs {
    pub(crate) fn sort_by(&self) -> ProcessSort {
        find(ProcessSort::WORDS, &self.sort)
    }
}

impl GpuEventsArgs {
    pub(crate) fn kinds(&self) -> Vec<i32> {
        self.kinds.iter().map(|word| find(GpuEventKind::WORDS, word).into()).collect()
    }

    pub(crate) fn at_least(&self) -> GpuXidAction {
        let word = self.at_least.as_deref();
        word.map(|word| find(GpuXidAction::WORDS, word)).unwrap_or_default()
    }
}

/// Judges a device by the rules that the agent applies.
fn device(text: &str) -> Result<String, String> {
    let request = QueryGpuRequest { devices: vec![text.to_owned()], ..QueryGpuRequest::default() };
    GpuQuery::new(&request).map_err(|error| error.problem.to_string())?;
    Ok(text.to_owned())
}
