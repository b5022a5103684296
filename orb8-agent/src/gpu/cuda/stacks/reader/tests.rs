use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

fn own(pid: u32) -> ProcessKey {
    let start = start_time(&Path::new("/proc").join(pid.to_string())).unwrap();
    ProcessKey { pid, start }
}

fn name(reader: &mut Reader, process: ProcessKey, address: u64) -> String {
    let names = reader.names(process, vec![address]);
    assert_eq!((names.len(), names[0].0), (1, address));
    names[0].1.to_string()
}

#[inline(never)]
fn a_function_of_this_test(number: u64) -> u64 {
    std::hint::black_box(number.wrapping_mul(3)) ^ 1
}

#[test]
fn functions_of_this_program_have_names() {
    let mut reader = Reader::new("/proc".into());
    let address = a_function_of_this_test as fn(u64) -> u64 as usize as u64;
    std::hint::black_box(a_function_of_this_test(1));
    let text = name(&mut reader, own(std::process::id()), address + 4);
    assert!(text.contains("a_function_of_this_test+0x4 ("), "{text}");
    assert!(!text.contains("::h"), "no hash: {text}");
    // A function of a library that has no other table.
    let libc = libc::malloc as unsafe extern "C" fn(usize) -> *mut libc::c_void as usize as u64;
    let text = name(&mut reader, own(std::process::id()), libc + 3);
    assert!(text.contains("malloc+0x3 (libc.so.6)"), "{text}");
    assert_eq!(reader.kept.len(), 2);
}

#[test]
fn an_address_that_is_nowhere_stays_one() {
    let mut reader = Reader::new("/proc".into());
    let process = own(std::process::id());
    assert_eq!(name(&mut reader, process, 0x10), "0x10");
    assert_eq!(name(&mut reader, process, 0), "0x0");
    assert_eq!(name(&mut reader, process, u64::MAX), "0xffffffffffffffff");
}

#[test]
fn a_process_that_is_gone_or_another_one_has_only_addresses() {
    let mut reader = Reader::new("/proc".into());
    let address = a_function_of_this_test as fn(u64) -> u64 as usize as u64;
    let another = ProcessKey { pid: std::process::id(), start: 1 };
    assert_eq!(name(&mut reader, another, address), format!("{address:#x}"));
    let mut child = Command::new("true").stdout(Stdio::null()).spawn().unwrap();
    let process = ProcessKey { pid: child.id(), start: 0 };
    child.wait().unwrap();
    assert_eq!(name(&mut reader, process, address), format!("{address:#x}"));
}

#[test]
fn what_is_kept_is_bounded() {
    let mut reader = Reader::new("/proc".into());
    let start = a_function_of_this_test as fn(u64) -> u64 as usize as u64;
    let process = own(std::process::id());
    for round in 0..5 {
        let addresses = (0..6_000).map(|i| start + round * 6_000 + i).collect();
        reader.names(process, addresses);
        assert!(reader.kept.len() <= MAX_KEPT, "{}", reader.kept.len());
    }
}

fn file_of(bytes: &[u8]) -> File {
    use std::io::Write as _;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A file of an ELF header, sections that say that they are tables of `size` bytes, each after the other,
/// and one of names.
fn with_tables_of(size: u64, tables: u16, len: u64) -> File {
    let mut bytes = vec![0; 64 + (usize::from(tables) + 1) * 64];
    bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    bytes[20] = 1;
    // e_shoff, e_shentsize, e_shnum, e_shstrndx; then sh_type, sh_offset, sh_size.
    bytes[40..48].copy_from_slice(&64_u64.to_le_bytes());
    bytes[58..60].copy_from_slice(&64_u16.to_le_bytes());
    bytes[60..62].copy_from_slice(&(tables + 1).to_le_bytes());
    bytes[62..64].copy_from_slice(&tables.to_le_bytes());
    for (i, section) in bytes[64..].chunks_exact_mut(64).enumerate() {
        section[4] = if i < usize::from(tables) { 2 } else { 3 };
        section[40..44].copy_from_slice(&u32::from(tables).to_le_bytes());
        section[24..32].copy_from_slice(&(i as u64 * size).to_le_bytes());
        section[32..40].copy_from_slice(&size.to_le_bytes());
    }
    let file = file_of(&bytes);
    // As long as it says, without taking room.
    file.set_len(len).unwrap();
    file
}

#[test]
fn a_file_cannot_make_the_agent_read_much() {
    let found = functions(with_tables_of(1 << 40, 1, 1 << 41), &[0]);
    assert_eq!(found, Some(vec![None]));
    // Each for itself is none too large. All of them would take an hour, and 3 TiB.
    let found = functions(with_tables_of(48 << 20, 60_000, 1 << 42), &[0]);
    assert_eq!(found, Some(vec![None]));
    assert_eq!(functions(file_of(b"#!/bin/sh\n"), &[0]), None);
    assert_eq!(functions(file_of(b""), &[0]), None);
}

proptest! {
    #[test]
    fn any_file_is_read(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        is_elf: bool,
        offset: u64,
    ) {
        let mut bytes = bytes;
        if is_elf && bytes.len() > 7 {
            bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        }
        if let Some(found) = functions(file_of(&bytes), &[offset, 0]) {
            prop_assert_eq!(found.len(), 2);
        }
    }
}
