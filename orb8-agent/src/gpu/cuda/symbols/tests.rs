use std::io::{Read, Seek, Write};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// A file that exists for the test only.
fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file
}

/// A library of the stand-ins.
fn standin(name: &str) -> (tempfile::TempDir, File) {
    let folder = tempfile::tempdir().expect("a folder");
    orb8_standins::install(folder.path()).expect("the libraries");
    let file = File::open(folder.path().join(name)).expect("a library");
    (folder, file)
}

fn bytes_of(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    standin(name).1.read_to_end(&mut bytes).expect("its bytes");
    bytes
}

/// A whole library.
static NCCL: LazyLock<Vec<u8>> = LazyLock::new(|| bytes_of("libnccl.so.2"));

#[test]
fn what_is_no_library_is_refused() {
    for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0; 64]] {
        assert!(matches!(read(&file(bytes), Kind::Driver), Err(SymbolError::Malformed(_))));
    }
    let error = read(&file(&NCCL), Kind::Driver).expect_err("no function of CUDA's");
    assert!(matches!(error, SymbolError::Nameless), "{error}");
    assert!(read(&file(&NCCL), Kind::Runtime).expect("nothing is looked for").sites.is_empty());
    let mut other = NCCL.clone();
    other[18..20].copy_from_slice(&243_u16.to_le_bytes());
    let error = read(&file(&other), Kind::Driver).expect_err("RISC-V");
    assert!(matches!(error, SymbolError::Foreign(243)), "{error}");
}

#[test]
fn tables_that_claim_too_much_are_not_read() {
    let mut header = NCCL[..64].to_vec();
    // The sections' table right behind the header, its first entry with a count of its own.
    header[40..48].copy_from_slice(&64_u64.to_le_bytes());
    header[60..62].copy_from_slice(&0_u16.to_le_bytes());
    let mut section = [0; 64];
    section[32..40].copy_from_slice(&(1_u64 << 31).to_le_bytes());
    let mut file = file(&[header, section.to_vec()].concat());
    // So long that the table would fit.
    file.seek(std::io::SeekFrom::Start(1 << 40)).expect("a sparse file");
    file.write_all(&[0]).expect("written");
    let error = read(&file, Kind::Driver).expect_err("too large");
    assert!(matches!(error, SymbolError::TooLarge("table of sections")), "{error}");
}

/// A library that has functions and nothing else: where in `names` each one's name begins, and where
/// it is.
fn library(names: &[u8], functions: impl IntoIterator<Item = (u32, u64)>) -> File {
    let symbol = |(name, address): (u32, u64)| {
        // A global function in some section.
        [&name.to_le_bytes()[..], &[0x12, 0, 1, 0], &address.to_le_bytes(), &[0; 8]].concat()
    };
    let symbols: Vec<u8> =
        [vec![0; 24]].into_iter().chain(functions.into_iter().map(symbol)).flatten().collect();
    let section = |kind: u32, at: usize, bytes: &[u8], link: u32, entry: u64| {
        let mut section = [0; 64];
        section[4..8].copy_from_slice(&kind.to_le_bytes());
        section[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        section[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        section[40..44].copy_from_slice(&link.to_le_bytes());
        section[56..].copy_from_slice(&entry.to_le_bytes());
        section
    };
    let [symbols_at, names_at] = [64, 64 + symbols.len()];
    let sections_at = (names_at + names.len()).next_multiple_of(8);
    let mut header = NCCL[..64].to_vec();
    header[40..48].copy_from_slice(&(sections_at as u64).to_le_bytes());
    // No segments; three sections, of which the last has their names, too.
    header[56..].copy_from_slice(&[0, 0, 64, 0, 3, 0, 2, 0]);
    let mut bytes = [&header, &symbols[..], names].concat();
    bytes.resize(sections_at, 0);
    bytes.extend([0; 64]);
    bytes.extend(section(SHT_DYNSYM, symbols_at, &symbols, 2, 24));
    bytes.extend(section(object::elf::SHT_STRTAB, names_at, names, 0, 0));
    file(&bytes)
}

#[test]
fn a_library_has_no_more_functions_than_libraries_have() {
    let names = b"\0cuLaunchKernel\0cuMemFree_v2\0";
    let found = read(&library(names, [(1, 16), (16, 32)]), Kind::Driver).expect("two functions");
    assert_eq!(found.sites.len(), 0, "no code is where they are");
    assert!(!found.missing.contains(&"cuMemFree") && found.missing.contains(&"cuMemAlloc"));
    let many = (0..=MAX_FUNCTIONS as u64).map(|number| (1, number * 16));
    let error = read(&library(names, many), Kind::Driver).expect_err("too many");
    assert!(matches!(error, SymbolError::TooLarge("number of functions")), "{error}");
}

/// Each of them would be read, and kept, to its end.
#[test]
fn names_without_an_end_are_no_names() {
    let names = vec![b'a'; 1 << 20];
    let error = read(&library(&names, (0..40_000).map(|at| (at, 16))), Kind::Driver);
    assert!(matches!(error, Err(SymbolError::Nameless)), "{error:?}");
    let error = read(&library(b"\0cuMemFree", [(1, 16)]), Kind::Driver);
    assert!(matches!(error, Err(SymbolError::Nameless)), "{error:?}");
    let error = read(&library(b"\0", [(u32::MAX, 16)]), Kind::Driver);
    assert!(matches!(error, Err(SymbolError::Nameless)), "{error:?}");
}

#[test]
fn a_place_in_memory_is_a_place_in_the_file() {
    let segments = [
        Segment { address: 0x1000, offset: 0x400, size: 0x100 },
        Segment { address: 0x5000, offset: u64::MAX, size: 0x100 },
    ];
    assert_eq!(file_offset(&segments, 0x1080), Some(0x480));
    assert_eq!(file_offset(&segments, 0x1100), None, "behind it");
    assert_eq!(file_offset(&segments, 0xfff), None, "before it");
    assert_eq!(file_offset(&segments, 0x5001), None, "no such place");
}

/// Bytes of the tables at a library's beginning and at its end, and any others.
fn place() -> impl Strategy<Value = usize> {
    let length = NCCL.len();
    prop_oneof![0..4096_usize, length - 4096..length, 0..length]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A damaged file is an error or finds less, and nothing worse.
    #[test]
    fn a_damaged_file_does_no_harm(
        damage in prop::collection::vec((place(), any::<u8>()), 1..40),
        length in prop_oneof![2 => Just(NCCL.len()), 1 => 64..NCCL.len()],
    ) {
        let mut bytes = NCCL[..length].to_vec();
        for (at, byte) in damage {
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        if let Ok(Symbols { sites, .. }) = read(&file(&bytes), Kind::Nccl) {
            prop_assert!(sites.len() <= MAX_FUNCTIONS);
        }
    }
}

#[test]
fn every_function_is_found_where_a_probe_is_cheap() {
    for (name, kind, skips) in
        [("libcuda.so.1", Kind::Driver, &[10][..]), ("libnccl.so.2", Kind::Nccl, &[4])]
    {
        let (_folder, file) = standin(name);
        let Symbols { sites, missing } = read(&file, kind).expect("its functions");
        for site in &sites {
            // The same of every machine: the stand-ins are built for this one.
            if cfg!(target_arch = "x86_64") {
                assert_eq!(site.step, Step::Emulated, "{}", site.function.name);
                let code = code(&file, site.offset - skips[0]).expect("code");
                let Prologue { skip, .. } = prologue::decode(Machine::X86, &code);
                assert!(skips.contains(&skip), "{}", site.function.name);
            }
        }
        let variants = |name| sites.iter().filter(|site| site.function.name == name).count();
        if kind == Kind::Driver {
            assert_eq!(missing, Vec::<&str>::new());
            assert!(variants("cuLaunchKernel") >= 2, "one for each meaning of the default stream");
            assert!(variants("cuMemcpyHtoD") >= 3, "and one for each version");
        }
    }
}

#[test]
fn another_compilers_code_is_dear_and_what_is_missing_is_told() {
    let (_folder, file) = standin("libcuda-foreign.so.1");
    let Symbols { sites, .. } = read(&file, Kind::Driver).expect("its functions");
    assert!(sites.iter().any(|site| site.step == Step::Stepped));
    let (_folder, file) = standin("libcuda-partial.so.1");
    let Symbols { sites, missing } = read(&file, Kind::Driver).expect("its functions");
    assert!(!missing.is_empty() && !sites.is_empty());
    for name in missing {
        assert!(sites.iter().all(|site| site.function.name != name));
    }
}
