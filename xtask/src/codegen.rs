//! Regenerates `orb8-proto/src/generated/` from the `.proto` files. No `protoc` is needed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use prost::Message;

use crate::workspace;

/// What is compiled, each with the packages that it makes; imports come along.
const APIS: [Api; 4] = [
    Api {
        name: "orb8.v1",
        folder: "orb8-proto/proto",
        roots: &["orb8/v1/agent.proto", "orb8/v1/recording.proto"],
        packages: &["orb8.v1"],
    },
    Api {
        name: "hubble",
        folder: "orb8-proto/proto/hubble",
        roots: &["observer/observer.proto", "peer/peer.proto"],
        packages: &["flow", "observer", "peer", "relay"],
    },
    Api {
        name: "podresources",
        folder: "orb8-proto/proto/podresources",
        roots: &["podresources.proto"],
        packages: &["v1"],
    },
    Api {
        name: "tpu",
        folder: "orb8-proto/proto/tpu",
        roots: &["tpu_metric_service.proto"],
        packages: &["tpu.monitoring.runtime"],
    },
];

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
    let mut files = Vec::new();
    for api in &APIS {
        files.extend(api.generate(root)?);
    }
    for (name, content) in files {
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

/// Messages and services that belong together.
struct Api {
    /// Of the descriptors' file, and of the code's where there is one package.
    name: &'static str,
    /// Where the `.proto` files are, from the workspace root.
    folder: &'static str,
    roots: &'static [&'static str],
    packages: &'static [&'static str],
}

impl Api {
    /// Returns each file's name and content.
    fn generate(&self, root: &Path) -> Result<Vec<(String, Vec<u8>)>> {
        let Self { name, folder, roots, packages } = *self;
        let mut descriptors =
            protox::compile(roots, [root.join(folder)]).context("compiling the .proto files")?;
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
        let code = |package: &&str| {
            let code = fs::read(out.path().join(format!("{package}.rs")))?;
            let is_whole = *package == name;
            let to = if is_whole { format!("{name}.rs") } else { format!("{name}.{package}.rs") };
            Ok((to, code))
        };
        let mut files = packages.iter().map(code).collect::<Result<Vec<_>>>()?;
        files.push((format!("{name}.bin"), descriptors.encode_to_vec()));
        Ok(files)
    }
}
