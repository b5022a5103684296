//! What a change must pass: one table of steps, in the order in which they run.

mod readme;
#[cfg(test)]
mod workflows;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::{Unavailable, root};

/// One command. The same command by hand does the same.
struct Step {
    name: &'static str,
    command: &'static [&'static str],
    /// Folder, from the root.
    within: &'static str,
    /// What it means when the command says that a tool cannot be had.
    unavailable: Unavailability,
}

/// When a tool that cannot be had fails the run, and does not only skip its step.
enum Unavailability {
    Fails,
    /// Unless this variable is 0.
    FailsUnless(&'static str),
    /// Where rustup can add `rust-src`, or where this variable is 1. Not where it is 0.
    FailsWithRustSrc(&'static str),
    /// Runs only where cargo has this subcommand.
    SkipsWithout(&'static str),
}

use Unavailability::{Fails, FailsUnless, FailsWithRustSrc, SkipsWithout};

/// What the README tells people to run is checked against this table.
const STEPS: [Step; 13] = [
    step("fmt", &["cargo", "fmt", "--all", "--check"], "", Fails),
    step("readme", &["cargo", "xtask", "ci", "--readme"], "", Fails),
    step(
        "clippy",
        &[
            "cargo",
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
        "",
        Fails,
    ),
    step("codegen", &["cargo", "xtask", "codegen", "--check"], "", Fails),
    step("dashboards", &["cargo", "xtask", "dashboards", "--check"], "", Fails),
    step("probes-lint", &["cargo", "xtask", "probes", "--lint"], "", REQUIRE_BPF),
    step("probes", &["cargo", "xtask", "probes", "--check"], "", REQUIRE_BPF),
    step("fuzz-fmt", &["cargo", "fmt", "--check"], "fuzz", Fails),
    step(
        "fuzz-clippy",
        &[
            "cargo",
            "clippy",
            "--no-default-features",
            "--locked",
            "--target-dir",
            "../target",
            "--",
            "-D",
            "warnings",
        ],
        "fuzz",
        Fails,
    ),
    step("fuzz", &["cargo", "xtask", "fuzz", "--seconds", "20"], "", Fails),
    step(
        "deny",
        &["cargo", "deny", "--all-features", "check", "bans", "licenses", "sources"],
        "",
        SkipsWithout("deny"),
    ),
    step("vm-test", &["cargo", "xtask", "vm-test", "--quick"], "", REQUIRE_VM),
    // Last, so that its summaries close the log.
    step("test", TEST, "", Fails),
];

/// As in the README.
const TEST: &[&str] = &["cargo", "test", "--workspace", "--locked"];
const REQUIRE_VARIABLES: [&str; 2] = ["ORB8_CI_REQUIRE_BPF", "ORB8_CI_REQUIRE_VM"];
const REQUIRE_BPF: Unavailability = FailsWithRustSrc(REQUIRE_VARIABLES[0]);
const REQUIRE_VM: Unavailability = FailsUnless(REQUIRE_VARIABLES[1]);

const fn step(
    name: &'static str,
    command: &'static [&'static str],
    within: &'static str,
    unavailable: Unavailability,
) -> Step {
    Step { name, command, within, unavailable }
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the steps and their commands, and run nothing
    #[arg(long)]
    list: bool,
    /// Only compare the README's test command with the step `test`
    #[arg(long, conflicts_with = "list")]
    readme: bool,
    /// Steps to run [default: all]
    steps: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.readme {
        return readme::check(&TEST.join(" "));
    }
    let steps = choose(&args.steps)?;
    if args.list {
        for step in steps {
            println!("{:12} {}", step.name, step.shown());
        }
        return Ok(());
    }
    let mut passed = Vec::new();
    for step in steps {
        let started = Instant::now();
        println!("==> {}: {}", step.name, step.shown());
        let outcome = step.run();
        let took = started.elapsed();
        match outcome {
            Ok(outcome) => passed.push((step.name, outcome, took)),
            Err(error) => {
                recap(&passed);
                println!("==> {} FAILED in {:.1} s", step.name, took.as_secs_f64());
                return Err(error);
            }
        }
    }
    recap(&passed);
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<&'static Step>> {
    static TABLE: [Step; STEPS.len()] = STEPS;
    if names.is_empty() {
        return Ok(TABLE.iter().collect());
    }
    let find = |name: &String| TABLE.iter().find(|step| step.name == name);
    names.iter().map(|name| find(name).with_context(|| format!("no step `{name}`"))).collect()
}

enum Outcome {
    Passed,
    Skipped,
}

impl Step {
    fn shown(&self) -> String {
        let command = self.command.join(" ");
        if self.within.is_empty() { command } else { format!("cd {} && {command}", self.within) }
    }

    fn run(&self) -> Result<Outcome> {
        if let SkipsWithout(subcommand) = self.unavailable
            && !cargo_has(subcommand)
        {
            println!("SKIPPED {}: cargo-{subcommand} is not installed", self.name);
            return Ok(Outcome::Skipped);
        }
        let (program, args) = self.command.split_first().expect("a program");
        let mut command = Command::new(program);
        command.args(args).current_dir(root().join(self.within));
        // Meant for this process only: the agent refuses `ORB8_` variables that it does not know.
        for name in REQUIRE_VARIABLES {
            command.env_remove(name);
        }
        let status = command.status().with_context(|| format!("running {}", self.shown()))?;
        match status.code() {
            Some(0) => Ok(Outcome::Passed),
            Some(code)
                if code == i32::from(Unavailable::EXIT_CODE) && !self.unavailable.fails() =>
            {
                println!("SKIPPED {}: the lines above say what cannot be had", self.name);
                Ok(Outcome::Skipped)
            }
            _ => bail!("step `{}` failed ({status}): {}", self.name, self.shown()),
        }
    }
}

impl Unavailability {
    fn fails(&self) -> bool {
        let set = |name| std::env::var(name).ok();
        match self {
            Fails => true,
            FailsUnless(name) => set(name).as_deref() != Some("0"),
            FailsWithRustSrc(name) => match set(name).as_deref() {
                Some("0") => false,
                Some("1") => true,
                _ => rustup_has_rust_src(),
            },
            SkipsWithout(_) => true,
        }
    }
}

fn rustup_has_rust_src() -> bool {
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", "rust-src"]).current_dir(root());
    rustup.output().is_ok_and(|output| output.status.success())
}

fn cargo_has(subcommand: &str) -> bool {
    let mut cargo = Command::new("cargo");
    cargo.args([subcommand, "--version"]);
    cargo.output().is_ok_and(|output| output.status.success())
}

fn recap(passed: &[(&str, Outcome, Duration)]) {
    println!("==> steps");
    for (name, outcome, took) in passed {
        let outcome = match outcome {
            Outcome::Passed => "passed",
            Outcome::Skipped => "SKIPPED",
        };
        println!("    {name:12} {outcome:8} {:7.1} s", took.as_secs_f64());
    }
    let total: Duration = passed.iter().map(|(_, _, took)| *took).sum();
    println!("    {:12} {:8} {:7.1} s", "total", "", total.as_secs_f64());
}
