//! Where a library's functions are in its file.
//!
//! The libraries come without a symbol table but for the one that the dynamic linker needs. What
//! `cuGetProcAddress` hands out are the same places, so probes there see its callers too. Files come
//! from containers: all that is read of one is bounded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use object::elf::{
    EM_AARCH64, EM_X86_64, PF_X, PT_LOAD, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB_SHNDX, STT_FUNC,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::read::{ReadCache, SectionIndex};

use super::functions::{Function, function_of, functions};
use super::libraries::Kind;
use super::prologue::{self, Machine, Prologue, Step};

type Elf = object::elf::FileHeader64<object::Endianness>;

/// Sections of a file: the libraries have some thirty.
const MAX_SECTIONS: usize = 4096;
/// Segments of a file: the libraries have some ten.
const MAX_SEGMENTS: usize = 256;
/// Bytes of a table of symbols, or of their names: NCCL's, the largest, has 100 KiB.
const MAX_TABLE: u64 = 4 << 20;
/// Functions that are watched in a library, by all their names: the driver's has some 150.
const MAX_FUNCTIONS: usize = 1024;
/// Bytes of a name: those that are known have some 40.
const MAX_NAME: usize = 128;

/// A function of a library, and where its probe goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    pub function: &'static Function,
    /// Byte of the file.
    pub offset: u64,
    /// What the kernel does there.
    pub step: Step,
}

impl Site {
    /// Whether the thread is stepped over the instruction there.
    pub(super) fn is_expensive(&self) -> bool {
        self.step == Step::Stepped
    }
}

/// What is watched in a library.
#[derive(Clone, Debug, Default)]
pub(super) struct Symbols {
    /// By where they are.
    pub sites: Vec<Site>,
    /// What should be there and is not.
    pub missing: Vec<&'static str>,
}

/// Why a library's functions are not found.
#[derive(Debug, thiserror::Error)]
pub(super) enum SymbolError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is no library, or not one that this machine runs.
    #[error("it is no library for this machine: {0}")]
    Malformed(#[from] object::Error),
    /// It is of another machine.
    #[error("it is a library for another machine (ELF machine {0})")]
    Foreign(u16),
    /// It claims more than any library has.
    #[error("its {0} is larger than in any library that is known")]
    TooLarge(&'static str),
    /// Nothing in it has a name that is known.
    #[error("none of its functions has a name that is known: it is stripped, or something else")]
    Nameless,
}

/// Finds what is watched in a library of this kind.
pub(super) fn read(file: &File, kind: Kind) -> Result<Symbols, SymbolError> {
    let cache = ReadCache::new(file.try_clone()?);
    let header = Elf::parse(&cache)?;
    let endian = header.endian()?;
    let machine = match header.e_machine(endian) {
        EM_X86_64 => Machine::X86,
        EM_AARCH64 => Machine::Arm64,
        other => return Err(SymbolError::Foreign(other)),
    };
    let found = addresses(header, endian, &cache, kind)?;
    if found.is_empty() && !functions(kind).is_empty() {
        return Err(SymbolError::Nameless);
    }
    let segments = segments(header, endian, &cache)?;
    let mut sites = BTreeMap::new();
    for (address, function) in &found {
        let Some(offset) = file_offset(&segments, *address) else { continue };
        let code = code(file, offset)?;
        // What only jumps to another function of the table is no call of its own.
        let target =
            prologue::forward(machine, &code).and_then(|by| address.checked_add_signed(by));
        if target.is_some_and(|target| target != *address && found.contains_key(&target)) {
            continue;
        }
        let Prologue { skip, step } = prologue::decode(machine, &code);
        sites.entry(offset + skip).or_insert(Site { function, offset: offset + skip, step });
    }
    let is_found = |name| found.values().any(|function| function.name == name);
    let expected = functions(kind).iter().filter(|function| function.is_expected);
    let missing = expected.map(|function| function.name).filter(|name| !is_found(*name)).collect();
    Ok(Symbols { sites: sites.into_values().collect(), missing })
}

/// Returns the functions that are known by where they are. Of two names at one place, one counts.
fn addresses(
    header: &Elf,
    endian: object::Endianness,
    cache: &ReadCache<File>,
    kind: Kind,
) -> Result<BTreeMap<u64, &'static Function>, SymbolError> {
    if header.shnum(endian, cache)? > MAX_SECTIONS {
        return Err(SymbolError::TooLarge("table of sections"));
    }
    let sections = header.sections(endian, cache)?;
    for section in sections.iter() {
        let bytes = match section.sh_type(endian) {
            SHT_DYNSYM => {
                let names = SectionIndex(section.sh_link(endian) as usize);
                section.sh_size(endian).max(sections.section(names)?.sh_size(endian))
            }
            SHT_SYMTAB_SHNDX => section.sh_size(endian),
            _ => 0,
        };
        if bytes > MAX_TABLE {
            return Err(SymbolError::TooLarge("table of symbols"));
        }
    }
    let symbols = sections.symbols(endian, cache, SHT_DYNSYM)?;
    let mut found = BTreeMap::new();
    if symbols.is_empty() {
        return Ok(found);
    }
    // All at once: of each that is asked for by itself, the cache keeps a copy.
    let names = sections.section(symbols.string_section())?.data(endian, cache)?;
    for symbol in symbols.iter() {
        if symbol.st_type() != STT_FUNC || symbol.st_shndx(endian) == SHN_UNDEF {
            continue;
        }
        // One name that cannot be read does not take the others with it.
        let name = name_at(names, symbol.st_name(endian));
        if let Some(function) = name.and_then(|name| function_of(kind, name)) {
            found.entry(symbol.st_value(endian)).or_insert(function);
        }
        if found.len() > MAX_FUNCTIONS {
            return Err(SymbolError::TooLarge("number of functions"));
        }
    }
    Ok(found)
}

fn name_at(names: &[u8], at: u32) -> Option<&str> {
    let name = names.get(usize::try_from(at).ok()?..)?;
    let length = name.iter().take(MAX_NAME).position(|byte| *byte == 0)?;
    str::from_utf8(&name[..length]).ok()
}

/// A part of the file that is mapped as code.
struct Segment {
    address: u64,
    offset: u64,
    size: u64,
}

fn segments(
    header: &Elf,
    endian: object::Endianness,
    cache: &ReadCache<File>,
) -> Result<Vec<Segment>, SymbolError> {
    if header.phnum(endian, cache)? > MAX_SEGMENTS {
        return Err(SymbolError::TooLarge("table of segments"));
    }
    let headers = header.program_headers(endian, cache)?;
    let is_code = |header: &&object::elf::ProgramHeader64<_>| {
        header.p_type(endian) == PT_LOAD && header.p_flags(endian) & PF_X != 0
    };
    let segment = |header: &object::elf::ProgramHeader64<_>| Segment {
        address: header.p_vaddr(endian),
        offset: header.p_offset(endian),
        size: header.p_filesz(endian),
    };
    Ok(headers.iter().filter(is_code).map(segment).collect())
}

fn file_offset(segments: &[Segment], address: u64) -> Option<u64> {
    segments.iter().find_map(|segment| {
        let within = address.checked_sub(segment.address)?;
        (within < segment.size).then(|| segment.offset.checked_add(within)).flatten()
    })
}

/// Reads how a function begins, as far as the file goes.
fn code(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut code = vec![0; prologue::LOOKED_AT];
    let mut filled = 0;
    while filled < code.len() {
        match file.read_at(&mut code[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    code.truncate(filled);
    Ok(code)
}

#[cfg(test)]
mod tests;
