//! `cargo xtask package`: Debian and RPM packages and a tarball, of programs that are built already.
//!
//! ```text
//! programs (ELF) ─▶ program ─┐
//! command lines ──▶ pages ───┼─▶ contents ─▶ deb (dpkg-deb) │ rpm (rpmbuild) │ tar
//! packaging/ ────────────────┘
//! ```
//!
//! The formats' own tools write them. The same programs give the same bytes: what a file is called, and
//! the time of the last commit (or `SOURCE_DATE_EPOCH`), decide about the rest. Man pages and
//! completions come from the command lines themselves, for which this command builds itself again with
//! the feature `package`.

#[cfg(any(feature = "package", test))]
mod contents;
#[cfg(any(feature = "package", test))]
mod deb;
#[cfg(any(feature = "package", test))]
mod pages;
#[cfg(any(feature = "package", test))]
mod program;
#[cfg(any(feature = "package", test))]
mod rpm;
#[cfg(any(feature = "package", test))]
mod tar;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Result;

/// What `package` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is made [default: all three]
    #[arg(long, value_enum, value_name = "NAME")]
    format: Vec<Format>,
    /// Folder with the programs `orb8` and `orb8-agent`, of one architecture
    #[arg(long, value_name = "PATH", default_value = "target/release")]
    binaries: PathBuf,
    /// Where packages go
    #[arg(long, value_name = "PATH", default_value = "target/package")]
    out: PathBuf,
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For Debian, Ubuntu and their relatives
    Deb,
    /// For Fedora, RHEL, SUSE and their relatives
    Rpm,
    /// For everything else: unpack it into /usr/local
    Tar,
}

/// Makes what is asked for, with this command built again where it lacks the command lines.
///
/// # Errors
///
/// When cargo fails, or the command that it built does not start.
#[cfg(not(any(feature = "package", test)))]
pub(crate) fn run(_: &Args) -> Result<()> {
    use std::os::unix::process::CommandExt;
    use std::{env, process::Command};

    let mut again = Command::new("cargo");
    again.args(["run", "--quiet", "--locked", "--package", "xtask", "--features", "package", "--"]);
    let error = again.args(env::args_os().skip(1)).exec();
    anyhow::bail!("cargo does not start: {error}")
}

#[cfg(any(feature = "package", test))]
pub(crate) fn run(args: &Args) -> Result<()> {
    let all = [Format::Deb, Format::Rpm, Format::Tar];
    let formats = if args.format.is_empty() { &all } else { args.format.as_slice() };
    for path in make(&args.binaries, &args.out, formats)? {
        println!("{}", path.display());
    }
    Ok(())
}

/// Writes the packages and returns their paths.
#[cfg(any(feature = "package", test))]
fn make(
    binaries: &std::path::Path,
    out: &std::path::Path,
    formats: &[Format],
) -> Result<Vec<PathBuf>> {
    use anyhow::Context;

    let release = contents::Release::of(binaries)?;
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let mut made = Vec::new();
    for format in formats {
        match format {
            Format::Deb => made.extend(deb::make(&release, out)?),
            Format::Rpm => made.extend(rpm::make(&release, out)?),
            Format::Tar => made.push(tar::make(&release, out)?),
        }
    }
    Ok(made)
}
