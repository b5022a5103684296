//! Man pages and completions, from the command lines themselves.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;
use orb8_agent::config::RawConfig;

/// Where shells look for completions, below `/usr/share`, and what the file is called there.
pub(super) const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/orb8"),
    (Shell::Fish, "fish/vendor_completions.d/orb8.fish"),
    (Shell::Zsh, "zsh/site-functions/_orb8"),
];

fn agent() -> Command {
    let command = Command::new("orb8-agent")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Counts the network traffic of this node's workloads, and serves it over gRPC");
    RawConfig::augment_args(command)
}

/// Writes `orb8.1`, a page for each of its commands, and `orb8-agent.8` into a folder.
///
/// # Errors
///
/// When a file cannot be written.
pub(super) fn write_man_pages(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let cli = orb8_cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(cli, folder).context("writing the pages of orb8")?;
    let mut page = Vec::new();
    clap_mangen::Man::new(agent()).section("8").render(&mut page)?;
    fs::write(folder.join("orb8-agent.8"), page).context("writing orb8-agent.8")
}

/// Writes the completions of `orb8` below a folder, which stands for `/usr/share`.
///
/// # Errors
///
/// When a file cannot be written.
pub(super) fn write_completions(folder: &Path) -> Result<()> {
    for (shell, name) in COMPLETIONS {
        let path = folder.join(name);
        let parent = path.parent().context("a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut orb8_cli::command(), "orb8", &mut text);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
