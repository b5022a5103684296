//! What a program's file tells: its architecture, and the C library that it needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use object::read::elf::{ElfFile64, FileHeader};
use object::{Architecture, Endianness, Object};

use crate::workspace::Unavailable;

/// One that Linux can run.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) cpu: Cpu,
    /// The newest version of glibc that a symbol asks for.
    pub(super) glibc: (u32, u32),
}

/// An architecture that orb8 is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cpu {
    X86_64,
    Aarch64,
}

impl Cpu {
    /// As RPM and the kernel call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As Debian and container images call it.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }
}

impl Program {
    /// Reads a program's file.
    ///
    /// # Errors
    ///
    /// When it is not there, no ELF file, or of another architecture or C library.
    pub(super) fn read(path: &Path) -> Result<Self> {
        if !path.is_file() {
            let folder = path.parent().unwrap_or(path).display();
            return Err(Unavailable(format!(
                "{} is not there; build it (`make build`), or name the folder that has it: \
                 --binaries {folder}",
                path.display()
            ))
            .into());
        }
        let data = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let of = || format!("reading {}", path.display());
        let elf = ElfFile64::<Endianness>::parse(&*data).with_context(of)?;
        let cpu = match elf.architecture() {
            Architecture::X86_64 => Cpu::X86_64,
            Architecture::Aarch64 => Cpu::Aarch64,
            other => bail!("{} is for {other:?}, which orb8 is not built for", path.display()),
        };
        let glibc = newest_glibc(&elf).with_context(of)?;
        Ok(Self { path: path.to_owned(), cpu, glibc })
    }
}

fn newest_glibc(elf: &ElfFile64<'_, Endianness>) -> Result<(u32, u32)> {
    let (endian, data) = (elf.endian(), elf.data());
    let sections = elf.elf_header().sections(endian, data)?;
    let needs = sections.gnu_verneed(endian, data)?;
    let (mut needs, link) = needs.context("it needs no version of glibc: is it static?")?;
    let strings = sections.strings(endian, data, link)?;
    let mut newest = None;
    while let Some((_, mut versions)) = needs.next()? {
        while let Some(version) = versions.next()? {
            let name = String::from_utf8_lossy(version.name(endian, strings)?);
            newest = newest.max(name.strip_prefix("GLIBC_").and_then(parse_version));
        }
    }
    let newest = newest.context("it needs no version of glibc")?;
    ensure!(newest >= (2, 17), "glibc {}.{} is older than any Rust supports", newest.0, newest.1);
    Ok(newest)
}

/// `2.34`, or `2.2.5`, whose patch level tells nothing here.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(parse_version("2.34"), Some((2, 34)));
        assert_eq!(parse_version("2.2.5"), Some((2, 2)));
        assert!(parse_version("2.34") > parse_version("2.4"));
        assert_eq!(parse_version("PRIVATE"), None);
    }

    #[test]
    fn this_program_is_for_this_machine() {
        let program = Program::read(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(program.cpu.name(), std::env::consts::ARCH);
        assert!(((2, 17)..(3, 0)).contains(&program.glibc), "{:?}", program.glibc);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Program::read(&folder.path().join("orb8")).unwrap_err();
        assert!(missing.is::<Unavailable>() && missing.to_string().contains("make build"));
        fs::write(folder.path().join("orb8"), "#!/bin/sh\n").unwrap();
        assert!(Program::read(&folder.path().join("orb8")).is_err());
    }
}
