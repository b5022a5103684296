//! What each package holds: one table.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::pages;
use super::program::{Cpu, Program};
use crate::workspace::{output, root, run};

/// A package.
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    files: &'static [File],
    /// Whether it has a unit that is started and stopped with it.
    pub(super) is_service: bool,
}

/// One file, or all of a folder.
struct File {
    from: Source,
    to: &'static str,
    mode: u32,
}

enum Source {
    /// A program that was built.
    Program(&'static str),
    /// Of the checkout.
    Checkout(&'static str),
    /// The pages whose names begin so, compressed.
    Man(&'static str),
    Completions,
}

pub(super) const CONFIG: &str = "etc/orb8/agent.toml";
pub(super) const UNIT: &str = "usr/lib/systemd/system/orb8-agent.service";

pub(super) const PACKAGES: [Package; 2] = [
    Package {
        name: "orb8",
        summary: "eBPF network observability: the command line",
        description: "orb8 shows what happens on the network of a machine or a Kubernetes node, and \
                      whose traffic it is: flows, DNS and TCP health, by container, unit and process. \
                      It asks an agent, or runs the engine by itself.",
        files: &[
            File { from: Source::Program("orb8"), to: "usr/bin/orb8", mode: 0o755 },
            File { from: Source::Man("orb8"), to: "usr/share/man/man1", mode: 0o644 },
            File { from: Source::Completions, to: "usr/share", mode: 0o644 },
            File {
                from: Source::Checkout("README.md"),
                to: "usr/share/doc/orb8/README.md",
                mode: 0o644,
            },
        ],
        is_service: false,
    },
    Package {
        name: "orb8-agent",
        summary: "eBPF network observability: the agent of a machine",
        description: "The agent counts the network traffic of the machine's workloads in the kernel, and \
                      tells it over gRPC, to Prometheus and by OTLP. The unit starts it with the three \
                      capabilities that it needs; nothing listens but on loopback until told otherwise.",
        files: &[
            File { from: Source::Program("orb8-agent"), to: "usr/bin/orb8-agent", mode: 0o755 },
            File { from: Source::Man("orb8-agent"), to: "usr/share/man/man8", mode: 0o644 },
            File { from: Source::Checkout("packaging/agent.toml"), to: CONFIG, mode: 0o644 },
            File { from: Source::Checkout("packaging/orb8-agent.service"), to: UNIT, mode: 0o644 },
            File {
                from: Source::Checkout("docs/configuration.md"),
                to: "usr/share/doc/orb8-agent/configuration.md",
                mode: 0o644,
            },
        ],
        is_service: true,
    },
];

/// What all packages of a release share.
pub(super) struct Release {
    pub(super) version: &'static str,
    pub(super) cpu: Cpu,
    /// The newest version of glibc that a program asks for.
    pub(super) glibc: (u32, u32),
    /// When the sources last changed, seconds since 1970.
    pub(super) epoch: u64,
    programs: [Program; 2],
}

impl Release {
    /// Reads the programs of a folder.
    ///
    /// # Errors
    ///
    /// When one is missing, or they are of two architectures.
    pub(super) fn of(binaries: &Path) -> Result<Self> {
        let binaries = root().join(binaries);
        let read = |name| Program::read(&binaries.join(name));
        let programs = [read("orb8")?, read("orb8-agent")?];
        let [orb8, agent] = &programs;
        ensure!(orb8.cpu == agent.cpu, "{} has programs of two architectures", binaries.display());
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            cpu: orb8.cpu,
            glibc: orb8.glibc.max(agent.glibc),
            epoch: epoch()?,
            programs,
        })
    }

    /// Writes a package's files below a folder that stands for `/`.
    ///
    /// # Errors
    ///
    /// When one cannot be read or written.
    pub(super) fn lay_out(&self, package: &Package, below: &Path) -> Result<()> {
        for File { from, to, mode } in package.files {
            let to = below.join(to);
            match from {
                Source::Program(name) => copy(&self.program(name)?.path, &to, *mode)?,
                Source::Checkout(path) => copy(&root().join(path), &to, *mode)?,
                Source::Man(name) => lay_out_pages(name, &to)?,
                Source::Completions => pages::write_completions(&to)?,
            }
        }
        set_modes(below)
    }

    fn program(&self, name: &str) -> Result<&Program> {
        let mut programs = self.programs.iter();
        let program = programs.find(|program| program.path.ends_with(name));
        program.with_context(|| format!("no program {name}"))
    }
}

/// The pages of a program: `orb8.1` and `orb8-flows.1`, or `orb8-agent.8` alone.
fn lay_out_pages(name: &str, to: &Path) -> Result<()> {
    let all = tempfile::tempdir()?;
    pages::write_man_pages(all.path())?;
    let section = section_of(to)?;
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in fs::read_dir(all.path())? {
        let path = entry?.path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if file.starts_with(name) && file.ends_with(&section) {
            let copy = to.join(file);
            fs::copy(&path, &copy).with_context(|| format!("writing {}", copy.display()))?;
            run(Command::new("gzip").args(["--best", "--no-name"]).arg(&copy))?;
        }
    }
    Ok(())
}

/// `.1` of `man1`.
fn section_of(folder: &Path) -> Result<String> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = name.strip_prefix("man").context("a folder of man pages")?;
    Ok(format!(".{number}"))
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let folder = to.parent().context("a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Whatever this process's umask: programs stay what they are, and the rest can be read by everyone.
fn set_modes(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            set_modes(&path)?;
        } else {
            let is_program = fs::metadata(&path)?.permissions().mode() & 0o100 != 0;
            let mode = if is_program { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// When the sources last changed, as reproducible builds have it.
fn epoch() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let mut git = Command::new("git");
            git.args(["log", "-1", "--format=%ct"]).current_dir(root());
            output(&mut git).context("set SOURCE_DATE_EPOCH where there is no git")?
        }
    };
    text.parse().with_context(|| format!("`{text}` is no number of seconds"))
}

/// Lists the files below a folder, from it, in order.
///
/// # Errors
///
/// When it cannot be read.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(&inner)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}
