//! What lies where in a process's memory: `/proc/PID/maps`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::demangle::short;

/// Bytes that are read of one process's list: some 100,000 lines.
const LONGEST: u64 = 8 << 20;

/// A piece of memory that may be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub start: u64,
    pub end: u64,
    /// Where it begins in its file.
    pub offset: u64,
    /// The file's device as the kernel prints it, and its inode; `None` without a file.
    pub file: Option<(Box<str>, u64)>,
    /// The file's path as the process has it.
    pub path: Box<str>,
}

impl Mapping {
    /// Reads those of a process, in their order.
    pub(super) fn read(process: &Path) -> io::Result<Vec<Self>> {
        let file = File::open(process.join("maps"))?.take(LONGEST);
        let lines = BufReader::new(file).split(b'\n');
        Ok(lines
            .map_while(Result::ok)
            .filter_map(|line| Self::parse(&String::from_utf8_lossy(&line)))
            .collect())
    }

    /// Reads `7f0a-7f0b r-xp 00001000 08:01 1234   /usr/lib/x.so`; `None` for what is not executed.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let is_executable = fields.next()?.as_bytes().get(2) == Some(&b'x');
        let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
        let device = fields.next()?;
        let inode: u64 = fields.next()?.parse().ok()?;
        let path = fields.next().unwrap_or("").trim_start();
        is_executable.then_some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            offset,
            file: (inode != 0).then(|| (device.into(), inode)),
            path: path.into(),
        })
    }

    /// Finds the one that an address lies in.
    pub(super) fn find(mappings: &[Self], address: u64) -> Option<&Self> {
        let at = mappings.partition_point(|mapping| mapping.end <= address);
        mappings.get(at).filter(|mapping| mapping.start <= address)
    }

    /// The last part of its path; `[process]` where it is nobody's: code that was made at run time.
    pub(super) fn label(&self, process: &str) -> Arc<str> {
        let path = self.path.strip_suffix(" (deleted)").unwrap_or(&self.path);
        let name = path.rsplit('/').next().unwrap_or(path);
        if name.is_empty() { short(format_args!("[{process}]")) } else { short(name) }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = "7f0a00001000-7f0a00003000 r-xp 00001000 08:01 1234                       /usr/lib/a b.so (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.start, mapping.end), (0x7f0a_0000_1000, 0x7f0a_0000_3000));
        assert_eq!((mapping.offset, mapping.file.clone()), (0x1000, Some(("08:01".into(), 1234))));
        assert_eq!(&*mapping.label("python3"), "a b.so");
        let anonymous = Mapping::parse("7f0a-7f0b rwxp 00000000 00:00 0 ").unwrap();
        assert_eq!((anonymous.file.clone(), &*anonymous.label("python3")), (None, "[python3]"));
        let vdso = Mapping::parse("7f0a-7f0b r-xp 00000000 00:00 0 [vdso]").unwrap();
        assert_eq!(&*vdso.label("x"), "[vdso]");
        assert_eq!(Mapping::parse("7f0a-7f0b rw-p 00000000 00:00 0"), None);
        assert_eq!(Mapping::parse("what"), None);
        assert_eq!(Mapping::parse(""), None);
    }

    #[test]
    fn an_address_is_found_where_it_lies() {
        let line = |start: u64, end: u64| {
            Mapping::parse(&format!("{start:x}-{end:x} r-xp 00000000 00:00 0")).unwrap()
        };
        let mappings = [line(10, 20), line(20, 30), line(40, 50)];
        let start = |address| Mapping::find(&mappings, address).map(|mapping| mapping.start);
        assert_eq!(
            [start(9), start(10), start(19), start(20)],
            [None, Some(10), Some(10), Some(20)]
        );
        assert_eq!([start(30), start(49), start(50)], [None, Some(40), None]);
    }

    #[test]
    fn this_process_has_code() {
        let mappings = Mapping::read(Path::new("/proc/self")).unwrap();
        let here = this_process_has_code as fn() as usize as u64;
        assert!(Mapping::find(&mappings, here).is_some_and(|mapping| mapping.file.is_some()));
    }
}
