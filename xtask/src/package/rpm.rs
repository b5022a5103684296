//! RPM packages, by `rpmbuild`: it finds out by itself which libraries the programs need.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::contents::{CONFIG, PACKAGES, Package, Release, files};
use super::deb::wrap;
use crate::workspace::{Unavailable, root, run};

/// Writes a package each, and returns their paths.
///
/// # Errors
///
/// When `rpmbuild` is missing or fails, or a file cannot be written.
pub(super) fn make(release: &Release, out: &Path) -> Result<Vec<PathBuf>> {
    if Command::new("rpmbuild").arg("--version").output().is_err() {
        let packages = "package `rpm` of Debian, `rpm-build` elsewhere";
        return Err(Unavailable(format!("rpmbuild is not installed ({packages})")).into());
    }
    PACKAGES.iter().map(|package| make_one(release, package, out)).collect()
}

fn make_one(release: &Release, package: &Package, out: &Path) -> Result<PathBuf> {
    let work = tempfile::tempdir()?;
    let tree = work.path().join("tree");
    fs::create_dir(&tree)?;
    let licenses = tree.join("usr/share/licenses").join(package.name);
    fs::create_dir_all(&licenses)?;
    fs::copy(root().join("LICENSE"), licenses.join("LICENSE")).context("copying LICENSE")?;
    release.lay_out(package, &tree)?;
    let spec = work.path().join("orb8.spec");
    fs::write(&spec, spec_of(release, package, &tree)?)?;
    let define = |name: &str, value: &Path| format!("{name} {}", value.display());
    run(Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--target", release.cpu.name()])
        .args(["--define", &define("_topdir", &work.path().join("top"))])
        .args(["--define", &define("_rpmdir", &work.path().join("rpms"))])
        .args(["--define", &define("tree", &tree)])
        .arg(&spec)
        .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
        .stdout(Stdio::null()))?;
    let cpu = release.cpu.name();
    let name = format!("{}-{}-1.{cpu}.rpm", package.name, release.version);
    let made = work.path().join("rpms").join(cpu).join(&name);
    let path = out.join(&name);
    fs::copy(&made, &path).with_context(|| format!("copying {}", made.display()))?;
    Ok(path)
}

/// Nothing of it depends on the machine, and the programs are packed as they are.
const MACROS: &str = "\
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
%global _buildhost localhost
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
%global _binary_payload w6.gzdio
";

fn spec_of(release: &Release, package: &Package, tree: &Path) -> Result<String> {
    let mut text = MACROS.to_owned();
    writeln!(text, "Name: {}", package.name)?;
    writeln!(text, "Version: {}", release.version)?;
    writeln!(text, "Release: 1")?;
    writeln!(text, "Summary: {}", package.summary)?;
    writeln!(text, "License: Apache-2.0")?;
    writeln!(text, "URL: https://github.com/Ignoramuss/orb8")?;
    if package.is_service {
        writeln!(text, "Recommends: orb8 = {}", release.version)?;
    }
    writeln!(text, "\n%description\n{}", wrap(package.description, 76).join("\n"))?;
    writeln!(text, "\n%install\ncp -a %{{tree}}/. %{{buildroot}}/")?;
    if package.is_service {
        let scriptlets = root().join("packaging/rpm/scriptlets");
        let scriptlets = fs::read_to_string(&scriptlets)
            .with_context(|| format!("reading {}", scriptlets.display()))?;
        writeln!(text, "\n{scriptlets}")?;
    }
    writeln!(text, "\n%files\n%defattr(-,root,root,-)")?;
    for file in files(tree)? {
        let kind = match file.to_str().unwrap_or_default() {
            // A file that was changed stays, and the new one lies beside it.
            CONFIG => "%config(noreplace) ",
            path if path.starts_with("usr/share/licenses/") => "%license ",
            path if path.starts_with("usr/share/doc/") => "%doc ",
            _ => "",
        };
        writeln!(text, "{kind}\"/{}\"", file.display())?;
    }
    if package.is_service {
        writeln!(text, "%dir \"/etc/orb8\"")?;
    }
    Ok(text)
}
