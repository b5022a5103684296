//! Runs the fuzz targets for a bounded time, on stable Rust. `fuzz/src/lib.rs` says what they are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::workspace::{self, root};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds in all, shared by the targets
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Repeat a run [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Run one target on the input of this file only
    #[arg(long, value_name = "FILE", requires = "targets")]
    input: Option<PathBuf>,
    /// Targets [default: all]
    targets: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut fuzz = Command::new("cargo");
    fuzz.args(["run", "--quiet", "--no-default-features", "--bin", "bounded"])
        // Most of what it needs is there already.
        .arg("--target-dir")
        .arg(root().join("target"))
        .args(["--", "--seconds", &args.seconds.to_string()])
        .current_dir(root().join("fuzz"));
    if let Some(input) = &args.input {
        fuzz.arg("--input").arg(std::path::absolute(input)?);
    }
    if let Some(seed) = args.seed {
        fuzz.args(["--seed", &seed.to_string()]);
    }
    workspace::run(fuzz.args(&args.targets))
}
