//! The checked-in eBPF objects must have been built from the sources beside them. This needs no
//! BPF toolchain: it compares recorded digests. `cargo xtask probes --check` compares the bytes.

#[path = "objects_fresh/sources.rs"]
mod sources;

use std::fs;
use std::path::Path;

#[test]
fn objects_are_built_from_these_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in a folder");
    if !root.join("orb8-probes").is_dir() {
        println!("SKIPPED: a packaged crate has no probe sources to compare with");
        return;
    }
    let recorded = fs::read_to_string(root.join(sources::RECORD)).expect("a recorded digest");
    let found = sources::digest(root).expect("readable probe sources");
    assert_eq!(recorded.trim(), found, "stale eBPF objects: run `cargo xtask probes`");
}
