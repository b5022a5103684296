//! What the eBPF objects are built from. Shared by the test beside and by `cargo xtask probes`.

use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Where the digest is recorded, from the checkout's root.
pub(crate) const RECORD: &str = "orb8-agent/src/ebpf/objects/SOURCES.sha256";

/// Files, and folders of Rust files, from the checkout's root.
const SOURCES: [&str; 5] = [
    "orb8-common/src",
    "orb8-probes/Cargo.lock",
    "orb8-probes/Cargo.toml",
    "orb8-probes/src",
    "rust-toolchain.toml",
];

/// Returns the SHA-256, in hex, over every source in the order of their paths: the path from the
/// root with `/` between its parts, a NUL byte, the content.
pub(crate) fn digest(root: &Path) -> io::Result<String> {
    let mut paths = Vec::new();
    for source in SOURCES {
        collect(root, source.to_owned(), &mut paths)?;
    }
    paths.sort();
    let mut hash = Sha256::new();
    for path in paths {
        hash.update(path.as_bytes());
        hash.update([0]);
        hash.update(fs::read(root.join(path))?);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn collect(root: &Path, path: String, paths: &mut Vec<String>) -> io::Result<()> {
    if !root.join(&path).is_dir() {
        paths.push(path);
        return Ok(());
    }
    for entry in fs::read_dir(root.join(&path))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rs") || entry.file_type()?.is_dir() {
            collect(root, format!("{path}/{name}"), paths)?;
        }
    }
    Ok(())
}
