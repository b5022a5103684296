//! Rebuilds the eBPF objects, byte for byte the same wherever it runs.
//!
//! The objects are checked in, so that building orb8 needs stable Rust only. Building *them* needs
//! bpf-linker and the `bpfel-unknown-none` target ([`toolchain`] sees to both). Paths are remapped,
//! crate hashes are fixed ([`rustc_wrapper`]) and DWARF is stripped ([`strip`]): what is left
//! depends on the sources and on the pinned compiler only.

#[path = "../../orb8-agent/tests/objects_fresh/sources.rs"]
mod sources;
mod strip;
mod toolchain;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::workspace::{self, root};
use toolchain::Toolchain;

/// The probes' workspace, from the root.
const PROBES: &str = "orb8-probes";
const TARGET: &str = "bpfel-unknown-none";
/// Set for rustc's sake only: tells this binary that cargo calls it as `RUSTC_WRAPPER`.
const WRAPPER: &str = "ORB8_XTASK_RUSTC_WRAPPER";

/// One binary of the probes' workspace, and where its object is checked in.
struct Object {
    bin: &'static str,
    path: &'static str,
}

const OBJECTS: [Object; 6] = [
    Object { bin: "flow", path: "orb8-agent/src/ebpf/objects/flow.bpf.o" },
    Object { bin: "dns", path: "orb8-agent/src/ebpf/objects/dns.bpf.o" },
    Object { bin: "tcp", path: "orb8-agent/src/ebpf/objects/tcp.bpf.o" },
    Object { bin: "gpu", path: "orb8-agent/src/ebpf/objects/gpu.bpf.o" },
    // No signal of its own: tells of cgroups that come and go.
    Object { bin: "cgroup", path: "orb8-agent/src/ebpf/objects/cgroup.bpf.o" },
    // For kernel tests and `cargo xtask bench`; the agent itself does not embed it.
    Object { bin: "bench", path: "orb8-agent/tests/objects/bench.bpf.o" },
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build elsewhere and compare with what is checked in
    #[arg(long, conflicts_with = "lint")]
    check: bool,
    /// Run rustfmt's check and clippy over the probes instead of building them
    #[arg(long)]
    lint: bool,
    /// Where bpf-linker is kept [default: ~/.cache/orb8/bpf-<rustc version>]
    #[arg(long, value_name = "DIR", env = "ORB8_BPF_TOOLCHAIN")]
    toolchain_dir: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args { check, lint, toolchain_dir } = args;
    let toolchain = Toolchain::prepare(toolchain_dir)?;
    if lint {
        return self::lint(&toolchain);
    }
    let target = target_dir(check)?;
    let built = build(&toolchain, target.path(), check)?;
    if check { compare(&built) } else { install(&built) }
}

/// What belongs at one checked-in path.
struct Artifact {
    path: &'static str,
    content: Vec<u8>,
}

enum TargetDir {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl TargetDir {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

/// A check starts from nothing, so that no earlier build can answer for it.
fn target_dir(check: bool) -> Result<TargetDir> {
    Ok(if check {
        TargetDir::Temporary(tempfile::tempdir()?)
    } else {
        TargetDir::Kept(root().join(PROBES).join("target"))
    })
}

fn build(toolchain: &Toolchain, target: &Path, locked: bool) -> Result<Vec<Artifact>> {
    let mut cargo = cargo(toolchain, "build")?;
    if locked {
        cargo.arg("--locked");
    }
    workspace::run(cargo.args(["--bins", "--target-dir"]).arg(target))?;
    let release = target.join(TARGET).join("release");
    let mut artifacts = Vec::new();
    for Object { bin, path } in OBJECTS {
        let linked = release.join(bin);
        let linked = fs::read(&linked).with_context(|| format!("reading {}", linked.display()))?;
        let content = strip::strip_dwarf(&linked).with_context(|| format!("stripping {bin}"))?;
        artifacts.push(Artifact { path, content });
    }
    let digest = sources::digest(root())?;
    artifacts.push(Artifact { path: sources::RECORD, content: format!("{digest}\n").into() });
    Ok(artifacts)
}

fn install(artifacts: &[Artifact]) -> Result<()> {
    for Artifact { path, content } in artifacts {
        let file = root().join(path);
        fs::create_dir_all(file.parent().expect("a file in a folder"))?;
        fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
        println!("wrote {path} ({} bytes)", content.len());
    }
    Ok(())
}

fn compare(artifacts: &[Artifact]) -> Result<()> {
    let mut stale = Vec::new();
    for Artifact { path, content } in artifacts {
        match fs::read(root().join(path)) {
            Ok(found) if found == *content => println!("same: {path}"),
            Ok(found) => {
                let at = found.iter().zip(content).take_while(|(a, b)| a == b).count();
                let (was, is) = (found.len(), content.len());
                stale.push(format!("{path}: differs at byte {at} ({was} bytes, built {is})"));
            }
            Err(error) => stale.push(format!("{path}: {error}")),
        }
    }
    if !stale.is_empty() {
        bail!("stale, run `cargo xtask probes`:\n  {}", stale.join("\n  "));
    }
    Ok(())
}

fn lint(toolchain: &Toolchain) -> Result<()> {
    let mut fmt = Command::new("cargo");
    workspace::run(fmt.args(["fmt", "--check"]).current_dir(root().join(PROBES)))?;
    let mut clippy = cargo(toolchain, "clippy")?;
    workspace::run(clippy.args(["--locked", "--bins", "--", "-D", "warnings"]))
}

/// `cargo <subcommand>` in the probes' workspace, set up so that the result is reproducible.
fn cargo(toolchain: &Toolchain, subcommand: &str) -> Result<Command> {
    let mut command = Command::new("cargo");
    command
        .current_dir(root().join(PROBES))
        .args([subcommand, "--release", "-Z", "build-std=core", "--target", TARGET])
        // The pinned compiler is a stable one; `build-std` and `asm_experimental_arch` are not.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", toolchain.path_with_linker()?)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain)?)
        .env("RUSTC_WRAPPER", std::env::current_exe()?)
        .env(WRAPPER, "1");
    // A caller's settings for the host would change the objects.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let foreign = name.starts_with("CARGO_PROFILE_") || name.starts_with("CARGO_BUILD_TARGET");
        if foreign || ["CARGO_TARGET_DIR", "RUSTC_WORKSPACE_WRAPPER"].contains(&name.as_str()) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

fn rustflags(toolchain: &Toolchain) -> Result<OsString> {
    let mut flags: Vec<OsString> = vec![
        // Only chooses aya's layout of `pt_regs`, which no program here uses (`gpu` has its own):
        // fixed, so that every host builds the same objects.
        r#"--cfg=bpf_target_arch="x86_64""#.into(),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
    ];
    for (from, to) in toolchain.remapped(root())? {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push(format!("={to}"));
        flags.push(flag);
    }
    Ok(flags.join("\x1f".as_ref()))
}

/// Acts as rustc where cargo calls this binary as its wrapper; `None` otherwise.
///
/// Cargo derives `-C metadata` from the absolute paths of crates outside the built workspace
/// (orb8-common, core), and rustc puts its hash into symbol names and into the order of functions.
/// For the BPF target, a crate's name and version take its place.
pub(crate) fn rustc_wrapper() -> Option<ExitCode> {
    std::env::var_os(WRAPPER)?;
    let mut args = std::env::args_os().skip(1);
    let rustc = args.next()?;
    let mut args: Vec<OsString> = args.collect();
    if args.iter().any(|arg| arg == TARGET) {
        let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
        let name = args.iter().skip_while(|arg| *arg != "--crate-name").nth(1).cloned();
        let name = name.unwrap_or_default().to_string_lossy().into_owned();
        for arg in &mut args {
            if arg.to_string_lossy().starts_with("metadata=") {
                *arg = format!("metadata={name}-{version}").into();
            }
        }
    }
    let status = Command::new(rustc).args(args).env_remove(WRAPPER).status();
    Some(match status.map(|status| status.code()) {
        Ok(Some(0)) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: running rustc: {error}");
            ExitCode::FAILURE
        }
    })
}
