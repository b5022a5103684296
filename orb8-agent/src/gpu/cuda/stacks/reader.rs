//! Reads programs' files for the names of functions.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use object::Endianness;
use object::elf::{self, FileHeader64, ProgramHeader64, Sym64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::read::{ReadCache, SectionIndex, StringTable};

use super::super::process::{ProcessKey, start_time};
use super::demangle::demangle;
use super::maps::Mapping;

/// Names that are kept, of all files: a place in a library has the same one in all processes.
const MAX_KEPT: usize = 16_384;
/// Bytes of a file's tables of symbols: four million of them, where the largest libraries have one or two.
const MAX_TABLES: u64 = 96 << 20;
/// Bytes after a symbol without a size that are still its own: such ones are small, written by hand.
const UNSIZED: u64 = 4_096;

/// See the [module](self).
pub(super) struct Reader {
    proc: PathBuf,
    kept: HashMap<Place, Arc<str>>,
}

/// A place in a file: its device and inode, and the offset.
type Place = (Box<str>, u64, u64);

impl Reader {
    pub(super) fn new(proc: PathBuf) -> Self {
        Self { proc, kept: HashMap::new() }
    }

    /// Names addresses of a process, all of them: what has no name is an offset, and of a process that
    /// is gone the address.
    pub(super) fn names(
        &mut self,
        process: ProcessKey,
        addresses: Vec<u64>,
    ) -> Vec<(u64, Arc<str>)> {
        let home = self.proc.join(process.pid.to_string());
        let is_it = start_time(&home) == Some(process.start);
        let mappings = if is_it { Mapping::read(&home).unwrap_or_default() } else { Vec::new() };
        let comm = fs::read_to_string(home.join("comm")).unwrap_or_default();
        let mut names = Vec::with_capacity(addresses.len());
        let mut in_files: HashMap<u64, (&Mapping, Vec<u64>)> = HashMap::new();
        for address in addresses {
            // A call's return address may be the next function's.
            let Some(mapping) = Mapping::find(&mappings, address.wrapping_sub(1)) else {
                names.push((address, format!("{address:#x}").into()));
                continue;
            };
            if mapping.file.is_none() {
                let label = mapping.label(comm.trim_end());
                names.push((address, format!("{address:#x} ({label})").into()));
                continue;
            }
            match self.kept.get(&place(mapping, address)) {
                Some(name) => names.push((address, Arc::clone(name))),
                None => {
                    let wanted = in_files.entry(mapping.start).or_insert((mapping, Vec::new()));
                    wanted.1.push(address);
                }
            }
        }
        for (mapping, addresses) in in_files.into_values() {
            names.extend(self.names_in_file(&home, mapping, &addresses));
        }
        names
    }

    fn names_in_file(
        &mut self,
        home: &Path,
        mapping: &Mapping,
        addresses: &[u64],
    ) -> Vec<(u64, Arc<str>)> {
        let offsets = Vec::from_iter(addresses.iter().map(|address| offset(mapping, *address)));
        let found = open(home, mapping).ok().and_then(|file| functions(file, &offsets));
        let label = mapping.label("");
        if self.kept.len() + addresses.len() > MAX_KEPT {
            self.kept.clear();
        }
        let mut names = Vec::with_capacity(addresses.len());
        for (i, address) in addresses.iter().enumerate() {
            let function = found.as_ref().and_then(|found| found[i].as_deref());
            let text = match function {
                Some(function) => format!("{function} ({label})"),
                None => format!("{:#x} ({label})", offsets[i]),
            };
            let text: Arc<str> = text.into();
            self.kept.insert(place(mapping, *address), Arc::clone(&text));
            names.push((*address, text));
        }
        names
    }
}

fn offset(mapping: &Mapping, address: u64) -> u64 {
    address.wrapping_sub(mapping.start).wrapping_add(mapping.offset)
}

fn place(mapping: &Mapping, address: u64) -> Place {
    let (device, inode) = mapping.file.clone().unwrap_or_default();
    (device, inode, offset(mapping, address))
}

/// Opens a mapping's file: by the mapping itself, which is right for deleted files too, else by its
/// path as the process sees it.
fn open(home: &Path, mapping: &Mapping) -> io::Result<File> {
    let Mapping { start, end, path, .. } = mapping;
    let by_mapping = home.join("map_files").join(format!("{start:x}-{end:x}"));
    // What a container put there may be a pipe, whose opening would wait for a writer.
    let open = |path: &Path| {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let is_file = file.metadata()?.is_file();
        is_file.then_some(file).ok_or_else(|| io::Error::other("not a regular file"))
    };
    open(&by_mapping).or_else(|_| open(&home.join("root").join(path.trim_start_matches('/'))))
}

/// Finds the functions at offsets of a file, as `name+0x1f`; `None` where it is not an ELF file that
/// can be read. Nothing is believed of it: who wrote it may want the agent to run out of memory.
fn functions(file: File, offsets: &[u64]) -> Option<Vec<Option<String>>> {
    let file = ReadCache::new(file);
    let header = FileHeader64::<Endianness>::parse(&file).ok()?;
    let endian = header.endian().ok()?;
    // Numbers that do not fit here are elsewhere, without a bound.
    if header.e_shnum(endian) == 0 || header.e_phnum(endian) == elf::PN_XNUM {
        return None;
    }
    let segments = header.program_headers(endian, &file).ok()?;
    let sections = header.sections(endian, &file).ok()?;
    let address = |offset| address_of(endian, segments, offset).unwrap_or(u64::MAX);
    let addresses = Vec::from_iter(offsets.iter().map(|offset| address(*offset)));
    let mut search = Search::new(addresses);
    // Of all of them together: a file may say that it has thousands.
    let mut room = MAX_TABLES;
    for section in sections.iter() {
        let is_table = matches!(section.sh_type(endian), elf::SHT_SYMTAB | elf::SHT_DYNSYM);
        let Some(left) = room.checked_sub(section.sh_size(endian)).filter(|_| is_table) else {
            continue;
        };
        room = left;
        let link = SectionIndex(section.sh_link(endian) as usize);
        let symbols = section.data_as_array::<Sym64<Endianness>, _>(endian, &file);
        if let (Ok(symbols), Ok(names)) = (symbols, sections.strings(endian, &file, link)) {
            search.look_through(endian, symbols, names);
        }
    }
    Some(search.finish())
}

/// Where the file wants the byte at an offset to be.
fn address_of(
    endian: Endianness,
    segments: &[ProgramHeader64<Endianness>],
    offset: u64,
) -> Option<u64> {
    segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD).find_map(|segment| {
        let into = offset.checked_sub(segment.p_offset(endian))?;
        let is_in = into < segment.p_filesz(endian);
        is_in.then_some(segment.p_vaddr(endian).checked_add(into)?)
    })
}

/// Functions for addresses.
struct Search<'data> {
    /// Address, and the start and name of the function that it is in.
    wanted: Vec<(u64, Option<(u64, Name<'data>)>)>,
    /// Their indices by address.
    order: Vec<usize>,
}

/// A name that is read once it is known to be wanted.
#[derive(Clone, Copy)]
struct Name<'data> {
    table: StringTable<'data, &'data ReadCache<File>>,
    offset: u32,
}

impl<'data> Search<'data> {
    fn new(addresses: Vec<u64>) -> Self {
        let mut order = Vec::from_iter(0..addresses.len());
        order.sort_by_key(|i| addresses[*i]);
        Self { wanted: addresses.into_iter().map(|address| (address, None)).collect(), order }
    }

    /// Looks through a table once for all that is wanted.
    fn look_through(
        &mut self,
        endian: Endianness,
        symbols: &[Sym64<Endianness>],
        table: StringTable<'data, &'data ReadCache<File>>,
    ) {
        let Self { wanted, order } = self;
        for symbol in symbols {
            let is_function = matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC);
            if !is_function || symbol.st_shndx(endian) == elf::SHN_UNDEF {
                continue;
            }
            let (start, size) = (symbol.st_value(endian), symbol.st_size(endian));
            let end = start.saturating_add(if size == 0 { UNSIZED } else { size });
            // Of return addresses: the last byte of the call is what lies in the function.
            let from = order.partition_point(|i| wanted[*i].0 <= start);
            for i in &order[from..] {
                let (address, found) = &mut wanted[*i];
                if *address > end {
                    break;
                }
                if found.is_none_or(|(nearest, _)| nearest < start) {
                    *found = Some((start, Name { table, offset: symbol.st_name(endian) }));
                }
            }
        }
    }

    fn finish(self) -> Vec<Option<String>> {
        let text = |(address, found): (u64, Option<(u64, Name<'_>)>)| {
            let (start, name) = found?;
            let name = name.table.get(name.offset).ok().filter(|name| !name.is_empty())?;
            Some(format!("{}+{:#x}", demangle(name), address - start))
        };
        self.wanted.into_iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests;
