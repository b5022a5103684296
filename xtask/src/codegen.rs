//! Regenerates `orb8-proto/src/generated/` from the `.proto` files. No `protoc` is needed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use prost::Message;

use crate::workspace;

/// Where the `.proto` files are, from the workspace root.
const PROTO: &str = "orb8-proto/proto";
/// What is compiled; imports come along.
const ROOTS: [&str; 1] = ["orb8/v1/agent.proto"];
/// Where the results are checked in, from the workspace root.
const GENERATED: &str = "orb8-proto/src/generated";

/// Rewrites the generated files, or with `check` fails where they differ from what would be written.
///
/// # Errors
///
/// When a `.proto` file does not compile, a file cannot be written, or `check` finds a difference.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = workspace::root();
    let generated = root.join(GENERATED);
    for (name, content) in generate(&root.join(PROTO))? {
        let path = generated.join(&name);
        if check {
            let found = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            ensure!(found == content, "{} is stale: run `cargo xtask codegen`", path.display());
        } else {
            fs::create_dir_all(&generated)?;
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            println!("wrote {}", path.display());
        }
    }
    Ok(())
}

/// Returns each file's name and content.
fn generate(proto: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut descriptors = protox::compile(ROOTS, [proto]).context("compiling the .proto files")?;
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure()
        // In one order, so that output is the same each time.
        .btree_map(".")
        .out_dir(out.path())
        .compile_fds(descriptors.clone())
        .context("generating code")?;
    // Reflection serves names and types; comments would double its size.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let code = fs::read(out.path().join("orb8.v1.rs"))?;
    Ok(vec![
        ("orb8.v1.rs".to_owned(), code),
        ("orb8.v1.bin".to_owned(), descriptors.encode_to_vec()),
    ])
}
