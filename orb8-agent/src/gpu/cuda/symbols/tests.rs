use std::io::{Seek, Write};

use proptest::prelude::*;

use super::*;

/// A file that exists for the test only.
fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file
}

/// The beginning of the program that tests run in: an ELF file with all tables.
fn program() -> Vec<u8> {
    std::fs::read("/proc/self/exe").expect("this program")
}

#[test]
fn what_is_no_library_is_refused() {
    for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0; 64]] {
        assert!(matches!(read(&file(bytes), Kind::Driver), Err(SymbolError::Malformed(_))));
    }
    let program = program();
    let error = read(&file(&program), Kind::Driver).expect_err("no function of CUDA's");
    assert!(matches!(error, SymbolError::Nameless), "{error}");
    assert!(read(&file(&program), Kind::Runtime).expect("nothing is looked for").sites.is_empty());
    let mut other = program;
    other[18..20].copy_from_slice(&243_u16.to_le_bytes());
    let error = read(&file(&other), Kind::Driver).expect_err("RISC-V");
    assert!(matches!(error, SymbolError::Foreign(243)), "{error}");
}

#[test]
fn tables_that_claim_too_much_are_not_read() {
    let mut header = program()[..64].to_vec();
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A damaged file is an error or finds less, and nothing worse.
    #[test]
    fn a_damaged_file_does_no_harm(
        damage in prop::collection::vec((0_usize..4096, any::<u8>()), 1..40),
        length in 0_usize..65536,
    ) {
        let mut bytes = program();
        bytes.truncate(length.max(64));
        for (at, byte) in damage {
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        let _ = read(&file(&bytes), Kind::Nccl);
    }
}

/// A library of the stand-ins.
fn standin(name: &str) -> (tempfile::TempDir, File) {
    let folder = tempfile::tempdir().expect("a folder");
    orb8_standins::install(folder.path()).expect("the libraries");
    let file = File::open(folder.path().join(name)).expect("a library");
    (folder, file)
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
