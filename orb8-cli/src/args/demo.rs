//! What demonstrations take.

use clap::{Args, Subcommand};

/// What the node has.
#[derive(Debug, Subcommand)]
pub(crate) enum DemoCommand {
    /// Eight GPUs, with pods on them: the agent, its probes and commands are real, all else is not
    Gpu(DemoGpuArgs),
}

/// `orb8 demo gpu`.
#[derive(Debug, Args)]
pub(crate) struct DemoGpuArgs {
    /// What the GPUs do: demo, h100x8, mig, time-sliced, dies, …, or a file
    #[arg(long, value_name = "NAME")]
    pub(crate) scenario: Option<String>,

    /// The command to show, without `orb8` [default: gpu --watch]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}
