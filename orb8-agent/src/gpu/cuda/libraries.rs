//! CUDA's and NCCL's libraries, as processes map them.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};

/// Bytes of a process's table of mappings: PyTorch's has one.
const MAX_MAPS: u64 = 32 << 20;
/// Libraries of one process.
const MAX_PER_PROCESS: usize = 16;

/// Which library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// `libcuda`: the driver's.
    Driver,
    /// `libcudart`: the runtime, which calls the driver's.
    Runtime,
    /// `libnccl`.
    Nccl,
}

/// A library in one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub kind: Kind,
    /// Device and inode as the kernel prints them: the same file has the same in one process.
    pub inode: (String, u64),
    /// Its path in the process's root.
    pub path: PathBuf,
    /// The mapping's place, as `/proc/PID/map_files` names it.
    range: String,
    is_deleted: bool,
}

impl Kind {
    /// Tells a library by its file's name: `libcuda.so.1`, `libnccl.so.2.29.7`, or with a hash as wheels
    /// have it, `libcudart-d0da41ae.so.11.0`.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (stem, _) = name.split_once(".so")?;
        let (stem, hash) = stem.rsplit_once('-').unwrap_or((stem, ""));
        if !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match stem {
            "libcuda" => Some(Self::Driver),
            "libcudart" => Some(Self::Runtime),
            "libnccl" => Some(Self::Nccl),
            _ => None,
        }
    }
}

/// Reads which libraries a process maps. One that is gone maps none.
pub(super) fn of_process(proc: &Path, pid: u32) -> io::Result<Vec<Mapped>> {
    let maps = match File::open(proc.join(pid.to_string()).join("maps")) {
        Ok(maps) => maps,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found: Vec<Mapped> = Vec::new();
    let mut lines = BufReader::new(maps.take(MAX_MAPS));
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if is_gone(&error) => break,
            Err(error) => return Err(error),
        }
        if let Some(mapped) = mapped(&line)
            && found.iter().all(|other| other.inode != mapped.inode)
            && found.len() < MAX_PER_PROCESS
        {
            found.push(mapped);
        }
    }
    Ok(found)
}

/// Reads one line: `7f00-7f10 r-xp 00001000 103:02 4711   /usr/lib/libcuda.so.1 (deleted)`.
fn mapped(line: &[u8]) -> Option<Mapped> {
    const DELETED: &[u8] = b" (deleted)";
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let path = &line[line.iter().position(|byte| *byte == b'/')?..];
    let (path, is_deleted) = match path.strip_suffix(DELETED) {
        Some(path) => (path, true),
        None => (path, false),
    };
    let path = Path::new(OsStr::from_bytes(path));
    let kind = Kind::of(path.file_name()?.to_str()?)?;
    let mut fields = str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (range, flags) = (fields.next()?, fields.next()?);
    let (device, inode) = (fields.nth(1)?, fields.next()?);
    // What is mapped as data only is not run here.
    flags.contains('x').then(|| {
        let inode = (device.to_owned(), inode.parse().ok()?);
        Some(Mapped { kind, inode, path: path.to_owned(), range: range.to_owned(), is_deleted })
    })?
}

/// Opens a library that a process maps: the file itself where the kernel hands it out, else what has its
/// path in the process's root.
pub(super) fn open(proc: &Path, pid: u32, mapped: &Mapped) -> io::Result<File> {
    let process = proc.join(pid.to_string());
    let itself = process.join("map_files").join(&mapped.range);
    let refused = match OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC).open(itself) {
        Ok(file) => return regular(file),
        Err(error) => error,
    };
    if mapped.is_deleted {
        return Err(refused);
    }
    // As the process sees it: no link leads out of its root.
    let root = File::open(process.join("root"))?;
    let path = mapped.path.strip_prefix("/").unwrap_or(&mapped.path);
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    regular(File::from(openat2(root.as_fd(), path, how)?))
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Whether two are the same file to the kernel's probes, so that one of them is probed.
///
/// Containers of one image have mounts of their own (overlayfs) with the same file below: its number is
/// told, and its times and size are the file's own. A copy in a layer of its own has another change time.
pub(super) fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (first, second) = (one.metadata()?, other.metadata()?);
    if (first.dev(), first.ino()) == (second.dev(), second.ino()) {
        return Ok(true);
    }
    let facts = |file: &Metadata| {
        let changed = (file.ctime(), file.ctime_nsec());
        (file.ino(), file.size(), (file.mtime(), file.mtime_nsec()), changed)
    };
    Ok(is_on_overlay(one)? && is_on_overlay(other)? && facts(&first) == facts(&second))
}

fn is_on_overlay(file: &File) -> io::Result<bool> {
    Ok(fstatfs(file)?.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
}

/// The process ended, before its files were opened or while they were read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

#[cfg(test)]
mod tests;
