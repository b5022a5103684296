//! Debian packages, by `dpkg-deb`.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::contents::{CONFIG, PACKAGES, Package, Release, files};
use crate::workspace::{Unavailable, root, run};

/// Scripts of the package with the unit.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Writes a package each, and returns their paths.
///
/// # Errors
///
/// When `dpkg-deb` is missing or fails, or a file cannot be written.
pub(super) fn make(release: &Release, out: &Path) -> Result<Vec<PathBuf>> {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        return Err(Unavailable("dpkg-deb is not installed (package `dpkg`)".into()).into());
    }
    PACKAGES.iter().map(|package| make_one(release, package, out)).collect()
}

fn make_one(release: &Release, package: &Package, out: &Path) -> Result<PathBuf> {
    let tree = tempfile::tempdir()?;
    let tree = tree.path();
    lay_out_documents(package, tree)?;
    release.lay_out(package, tree)?;
    let zsh = tree.join("usr/share/zsh/site-functions");
    if zsh.exists() {
        // Where Debian's zsh looks for what packages bring.
        fs::rename(zsh, tree.join("usr/share/zsh/vendor-completions"))?;
    }
    let control = tree.join("DEBIAN");
    fs::create_dir(&control)?;
    fs::set_permissions(&control, fs::Permissions::from_mode(0o755))?;
    fs::write(control.join("control"), control_of(release, package, tree)?)?;
    if tree.join(CONFIG).exists() {
        fs::write(control.join("conffiles"), format!("/{CONFIG}\n"))?;
    }
    if package.is_service {
        for script in SCRIPTS {
            let to = control.join(script);
            fs::copy(root().join("packaging/debian").join(script), &to)
                .with_context(|| format!("copying {script}"))?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        }
    }
    let architecture = release.cpu.debian();
    let path = out.join(format!("{}_{}_{architecture}.deb", package.name, release.version));
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build", "-Zxz"])
        .args([tree, &path])
        .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
        .stdout(std::process::Stdio::null()))?;
    Ok(path)
}

/// What Debian's policy asks of every package.
fn lay_out_documents(package: &Package, tree: &Path) -> Result<()> {
    let folder = tree.join("usr/share/doc").join(package.name);
    fs::create_dir_all(&folder)?;
    let copyright = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
                     Upstream-Name: orb8\n\
                     Source: https://github.com/Ignoramuss/orb8\n\n\
                     Files: *\n\
                     Copyright: orb8 maintainers\n\
                     License: Apache-2.0\n\
                     \x20On Debian systems, the license is in /usr/share/common-licenses/Apache-2.0.\n";
    fs::write(folder.join("copyright"), copyright)?;
    let changelog = folder.join("changelog");
    fs::copy(root().join("CHANGELOG.md"), &changelog).context("copying CHANGELOG.md")?;
    run(Command::new("gzip").args(["--best", "--no-name"]).arg(&changelog))
}

fn control_of(release: &Release, package: &Package, tree: &Path) -> Result<String> {
    let (major, minor) = release.glibc;
    let mut size = 0;
    for file in files(tree)? {
        // In KiB, as Debian counts.
        size += fs::metadata(tree.join(file))?.len().div_ceil(1024);
    }
    let helpers = if package.is_service { ", init-system-helpers (>= 1.54)" } else { "" };
    let mut text = String::new();
    writeln!(text, "Package: {}", package.name)?;
    writeln!(text, "Version: {}", release.version)?;
    writeln!(text, "Architecture: {}", release.cpu.debian())?;
    writeln!(text, "Maintainer: orb8 maintainers <orb8@users.noreply.github.com>")?;
    writeln!(text, "Installed-Size: {size}")?;
    writeln!(text, "Depends: libc6 (>= {major}.{minor}), libgcc-s1{helpers}")?;
    if package.is_service {
        writeln!(text, "Recommends: orb8 (= {})", release.version)?;
    }
    writeln!(text, "Section: net")?;
    writeln!(text, "Priority: optional")?;
    writeln!(text, "Homepage: https://github.com/Ignoramuss/orb8")?;
    writeln!(text, "Description: {}", package.summary)?;
    for line in wrap(package.description, 76) {
        writeln!(text, " {line}")?;
    }
    Ok(text)
}

/// Breaks text into lines of at most `width` characters.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
