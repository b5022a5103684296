use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const MAPS: &str = "\
55d0c0000000-55d0c0001000 r-xp 00000000 103:02 17                        /usr/bin/python3
7f0000000000-7f0000001000 r--p 00000000 103:02 4711                      /usr/lib/libcuda.so.535.261.03
7f0000001000-7f0000002000 r-xp 00001000 103:02 4711                      /usr/lib/libcuda.so.535.261.03
7f0000003000-7f0000004000 r-xp 00001000 103:02 4711                      /usr/lib/libcuda.so.535.261.03
7f0000005000-7f0000006000 r-xp 00001000 00:2f 99       /opt/my env/nccl/lib/libnccl.so.2 (deleted)
7f0000007000-7f0000008000 r-xp 00000000 00:2f 98                         /opt/libcudart-d0da41ae.so.11.0
7f0000009000-7f000000a000 r-xp 00000000 00:2f 97                         /opt/libnccl-net.so
7f000000b000-7f000000c000 rw-p 00000000 00:00 0                          [heap]
7f000000d000-7f000000e000 rw-p 00000000 00:00 0 
";

fn process(maps: &str) -> tempfile::TempDir {
    let proc = tempfile::tempdir().expect("a folder");
    fs::create_dir(proc.path().join("7")).expect("a process");
    fs::write(proc.path().join("7/maps"), maps).expect("its mappings");
    proc
}

#[test]
fn libraries_are_told_by_their_files_names() {
    for (name, kind) in [
        ("libcuda.so.1", Some(Kind::Driver)),
        ("libcuda.so", Some(Kind::Driver)),
        ("libcudart.so.12", Some(Kind::Runtime)),
        ("libnccl.so.2.29.7", Some(Kind::Nccl)),
        ("libnccl-1a2b3c4d.so.2", Some(Kind::Nccl)),
        ("libnccl-net.so", None),
        ("libnccl-tuner.so", None),
        ("libcudadebugger.so.1", None),
        ("libcuda.a", None),
        ("", None),
    ] {
        assert_eq!(Kind::of(name), kind, "{name}");
    }
}

#[test]
fn a_processs_code_is_found_once_for_each_file() {
    let proc = process(MAPS);
    let found = of_process(proc.path(), 7).expect("mappings");
    let rows: Vec<_> = found
        .iter()
        .map(|mapped| (mapped.kind, mapped.inode.1, mapped.range.as_str(), mapped.is_deleted))
        .collect();
    assert_eq!(
        rows,
        [
            (Kind::Driver, 4711, "7f0000001000-7f0000002000", false),
            (Kind::Nccl, 99, "7f0000005000-7f0000006000", true),
            (Kind::Runtime, 98, "7f0000007000-7f0000008000", false),
        ]
    );
    assert_eq!(found[1].path, Path::new("/opt/my env/nccl/lib/libnccl.so.2"));
    assert!(of_process(proc.path(), 8).expect("none").is_empty(), "a process that is gone");
}

#[test]
fn garbage_in_the_table_is_passed_over() {
    for line in ["/libcuda.so", "a b /libcuda.so.1", "1-2 r-xp 0 8:1 x /libcuda.so.1", "\0\0/\0"] {
        assert_eq!(mapped(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn a_file_is_opened_in_the_processs_root_and_nowhere_else() {
    let proc = process(MAPS);
    let root = proc.path().join("7/root");
    fs::create_dir_all(root.join("usr/lib")).expect("a root");
    let mapped = of_process(proc.path(), 7).expect("mappings").swap_remove(0);
    let path = root.join("usr/lib/libcuda.so.535.261.03");
    let failure = || open(proc.path(), 7, &mapped).expect_err("no file").kind();
    assert_eq!(failure(), io::ErrorKind::NotFound);
    // A link of the container's leads to what the container has there.
    symlink("/etc/passwd", &path).expect("a link");
    assert_eq!(failure(), io::ErrorKind::NotFound);
    fs::remove_file(&path).expect("removed");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert_eq!(failure(), io::ErrorKind::InvalidInput, "and nobody waits for a writer");
    fs::remove_file(&path).expect("removed");
    fs::write(&path, "code").expect("a file");
    open(proc.path(), 7, &mapped).expect("opened");
}

#[test]
fn links_to_one_file_are_one_file_and_a_copy_is_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name| folder.path().join(name);
    fs::write(path("one"), "code").expect("a file");
    fs::hard_link(path("one"), path("linked")).expect("a link");
    fs::copy(path("one"), path("copied")).expect("a copy");
    let open = |name| File::open(path(name)).expect("a file");
    assert!(is_same(&open("one"), &open("linked")).expect("told"));
    assert!(!is_same(&open("one"), &open("copied")).expect("told"));
}
