//! A tarball of everything, to unpack where there is no package manager: `tar -C /usr/local -xf …`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::contents::{CONFIG, PACKAGES, Release, UNIT};
use crate::workspace::{root, run};

/// Writes the tarball and returns its path.
///
/// # Errors
///
/// When `tar` fails, or a file cannot be written.
pub(super) fn make(release: &Release, out: &Path) -> Result<PathBuf> {
    let work = tempfile::tempdir()?;
    let (cpu, version) = (release.cpu.name(), release.version);
    let tree = work.path().join("tree");
    for package in &PACKAGES {
        release.lay_out(package, &tree)?;
    }
    // Below /usr/local there are bin, lib and share; settings and units are the administrator's to place.
    let top = tree.join("usr");
    let share = top.join("share/orb8");
    fs::create_dir_all(&share)?;
    for (from, name) in [(tree.join(CONFIG), "agent.toml"), (tree.join(UNIT), "orb8-agent.service")]
    {
        let to = share.join(name);
        fs::rename(&from, &to).with_context(|| format!("moving {}", from.display()))?;
    }
    fs::remove_dir_all(top.join("lib"))?;
    fs::copy(root().join("LICENSE"), share.join("LICENSE")).context("copying LICENSE")?;
    let path = out.join(format!("orb8-{version}-{cpu}-linux.tar.gz"));
    let uncompressed = work.path().join("orb8.tar");
    run(Command::new("tar")
        .args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--format=gnu", "--mode=go-w"])
        .arg(format!("--mtime=@{}", release.epoch))
        .arg("--file")
        .arg(&uncompressed)
        .arg("--directory")
        .arg(&top)
        .args(["bin", "share"]))?;
    run(Command::new("gzip").args(["--best", "--no-name"]).arg(&uncompressed))?;
    fs::copy(work.path().join("orb8.tar.gz"), &path)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
