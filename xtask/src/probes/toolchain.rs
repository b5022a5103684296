//! Finds or installs what building for BPF needs: `rust-src`, and bpf-linker on rustc's own LLVM.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Unavailable, root};

/// Any other version may lay out the same program differently.
const BPF_LINKER: &str = "0.13.0";
/// bpf-linker's feature for the LLVM of the pinned rustc.
const LLVM_FEATURE: &str = "llvm-22";

pub(crate) struct Toolchain {
    sysroot: PathBuf,
    /// Holds `bin/bpf-linker`, and `llvm/lib`: links to the LLVM that rustc ships.
    dir: PathBuf,
}

impl Toolchain {
    /// Makes the toolchain ready, installing what is missing.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where something cannot be installed here, naming it.
    pub(crate) fn prepare(dir: Option<PathBuf>) -> Result<Self> {
        let sysroot = workspace::output(rustc().args(["--print", "sysroot"]))?;
        let sysroot = PathBuf::from(sysroot);
        let dir = dir.map_or_else(default_dir, Ok)?;
        let toolchain = Self { sysroot, dir };
        toolchain.rust_src()?;
        toolchain.bpf_linker()?;
        Ok(toolchain)
    }

    fn rust_src(&self) -> Result<()> {
        let sources = self.sysroot.join("lib/rustlib/src/rust/library/Cargo.lock");
        if sources.exists() {
            return Ok(());
        }
        let mut add = Command::new("rustup");
        add.args(["component", "add", "rust-src"]);
        let added = workspace::run(add.current_dir(root()));
        if let Err(error) = added.and_then(|()| Ok(fs::metadata(&sources).map(drop)?)) {
            let name = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "the toolchain".into());
            bail!(Unavailable(format!(
                "the standard library's sources are missing ({error:#}): \
                 run `rustup component add rust-src` for {name}"
            )));
        }
        Ok(())
    }

    fn bpf_linker(&self) -> Result<()> {
        let linker = self.dir.join("bin/bpf-linker");
        let version = || workspace::output(Command::new(&linker).arg("--version"));
        let wanted = format!("bpf-linker {BPF_LINKER}");
        if version().is_ok_and(|version| version == wanted) {
            return Ok(());
        }
        eprintln!("installing bpf-linker {BPF_LINKER} into {} (a minute)", self.dir.display());
        let installed = self.link_llvm().and_then(|()| self.install_linker());
        installed.and_then(|()| version().map(drop)).map_err(|error| {
            Unavailable(format!(
                "bpf-linker {BPF_LINKER} cannot be built here ({error:#}): it needs a C compiler, \
                 the crate registry and a rustup toolchain (rustc with its own libLLVM); \
                 or point ORB8_BPF_TOOLCHAIN to a folder that has bin/bpf-linker"
            ))
            .into()
        })
    }

    /// Gives bpf-linker's build an `llvm/lib` with the one library it needs, under the name that
    /// `-lLLVM` looks for and under the one that the result's RUNPATH does.
    fn link_llvm(&self) -> Result<()> {
        let lib = self.sysroot.join("lib");
        let so = fs::read_dir(&lib)?
            .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
            .find(|name| name.to_string_lossy().starts_with("libLLVM.so."))
            .with_context(|| format!("no libLLVM.so.* in {}", lib.display()))?;
        let dest = self.dir.join("llvm/lib");
        fs::create_dir_all(&dest)?;
        for name in ["libLLVM.so".as_ref(), so.as_os_str()] {
            let link = dest.join(name);
            if link.symlink_metadata().is_ok() {
                fs::remove_file(&link)?;
            }
            symlink(lib.join(&so), &link)?;
        }
        Ok(())
    }

    fn install_linker(&self) -> Result<()> {
        let mut install = Command::new("cargo");
        install
            .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force"])
            .args(["--no-default-features", "--features", LLVM_FEATURE, "--root"])
            .arg(&self.dir)
            // Here the pinned toolchain is in force.
            .current_dir(root())
            .env("LLVM_PREFIX", self.dir.join("llvm"))
            .env_remove("CARGO_TARGET_DIR");
        workspace::run(&mut install)
    }

    /// `PATH` with bpf-linker first.
    pub(crate) fn path_with_linker(&self) -> Result<OsString> {
        let path = env::var_os("PATH").unwrap_or_default();
        let dirs = [self.dir.join("bin")].into_iter().chain(env::split_paths(&path));
        Ok(env::join_paths(dirs)?)
    }

    /// The paths that must not show in an object, each with what replaces it.
    pub(crate) fn remapped(&self, source: &Path) -> Result<Vec<(PathBuf, &'static str)>> {
        let std = self.sysroot.join("lib/rustlib/src/rust");
        let registry = cargo_home()?.join("registry/src");
        let mut paths = Vec::new();
        for (path, to) in [(source, "/src"), (&registry, "/cargo"), (&std, "/rust")] {
            paths.push((path.to_owned(), to));
            // A toolchain's folder may be a link to another's.
            if let Ok(real) = path.canonicalize()
                && real != path
            {
                paths.push((real, to));
            }
        }
        Ok(paths)
    }
}

fn rustc() -> Command {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(root());
    rustc
}

fn default_dir() -> Result<PathBuf> {
    let version = workspace::output(rustc().arg("--version"))?;
    let version = version.split(' ').nth(1).context("rustc --version has no version")?;
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.map_or_else(|| home().map(|home| home.join(".cache")), Ok)?;
    Ok(cache.join(format!("orb8/bpf-{version}")))
}

fn cargo_home() -> Result<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(dir) => Ok(dir.into()),
        None => Ok(home()?.join(".cargo")),
    }
}

fn home() -> Result<PathBuf> {
    match env::home_dir() {
        Some(dir) => Ok(dir),
        None => bail!("HOME is not set"),
    }
}
