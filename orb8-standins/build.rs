//! Compiles the libraries and the program in `native/`, with the compiler and for the target of this
//! crate: cargo cannot depend on a cdylib of the same workspace yet. They use the standard library
//! alone, so one call of rustc for each is all there is to it.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};

/// One file that is built.
struct Native {
    /// Below `native/`.
    folder: &'static str,
    /// What is installed.
    file: &'static str,
    /// What others link against, of a library; a program has none.
    soname: Option<&'static str>,
    /// What is left out or done otherwise in it.
    cfg: Option<&'static str>,
}

const NATIVES: [Native; 8] = [
    library("nvml", "libnvidia-ml.so.1", "libnvidia-ml.so.1", None),
    library("nvml", "libnvidia-ml-470.so.1", "libnvidia-ml.so.1", Some("old")),
    library("cuda", "libcuda.so.1", "libcuda.so.1", None),
    library("cuda", "libcuda-foreign.so.1", "libcuda.so.1", Some("foreign")),
    library("cuda", "libcuda-partial.so.1", "libcuda.so.1", Some("partial")),
    library("cudart", "libcudart.so.12", "libcudart.so.12", None),
    library("nccl", "libnccl.so.2", "libnccl.so.2", None),
    Native { folder: "workload", file: "gpu-workload", soname: None, cfg: None },
];

const fn library(
    folder: &'static str,
    file: &'static str,
    soname: &'static str,
    cfg: Option<&'static str>,
) -> Native {
    Native { folder, file, soname: Some(soname), cfg }
}

fn main() {
    println!("cargo::rerun-if-changed=native");
    println!("cargo::rerun-if-changed=scenarios");
    for cfg in NATIVES.iter().filter_map(|native| native.cfg) {
        println!("cargo::rustc-check-cfg=cfg({cfg})");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    build(&out);
    fs::write(out.join("natives.rs"), table(&out)).expect("writing to OUT_DIR");
    fs::write(out.join("scenarios.rs"), scenarios()).expect("writing to OUT_DIR");
}

/// Builds all, as many at a time as cargo would.
fn build(out: &Path) {
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    for natives in NATIVES.chunks(jobs) {
        let running: Vec<(&Native, Child)> =
            natives.iter().map(|native| (native, spawn(native, out))).collect();
        for (native, child) in running {
            let output = child.wait_with_output().expect("waiting for rustc");
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                eprintln!("{} does not compile:\n{text}", native.file);
                process::exit(1);
            }
        }
    }
}

fn spawn(native: &Native, out: &Path) -> Child {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let entry = if native.soname.is_some() { "lib.rs" } else { "main.rs" };
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets it"));
    rustc
        .current_dir(&root)
        .arg(Path::new("native").join(native.folder).join(entry))
        .args(["--edition", "2024", "--target", &env::var("TARGET").expect("cargo sets it")])
        .args(["--crate-name", &format!("standin_{}", native.folder)])
        .args(["-C", "panic=abort", "-C", "opt-level=s", "-C", "codegen-units=2"])
        // What is linked statically as a whole cannot load libraries: so it is with musl, else.
        .args(["-C", "target-feature=-crt-static"])
        // Stacks are followed through the libraries to the program.
        .args(["-C", "force-frame-pointers=yes"])
        .args(["--remap-path-prefix", &format!("{root}=orb8-standins")])
        .arg("-o")
        .arg(out.join(native.file))
        .stderr(Stdio::piped());
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", linker.to_string_lossy()));
    }
    match native.soname {
        // As the real ones: their own symbols are gone, the exported ones are there.
        Some(soname) => rustc
            .args(["--crate-type", "cdylib", "-C", "strip=symbols"])
            .args(["-C", &format!("link-arg=-Wl,-soname,{soname}")])
            // They find each other in the folder that they are in.
            .args(["-C", "link-arg=-Wl,-rpath,$ORIGIN"]),
        // Call sites are told by name.
        None => rustc.args(["--crate-type", "bin", "-C", "strip=debuginfo"]),
    };
    if let Some(cfg) = native.cfg {
        rustc.args(["--cfg", cfg]);
    }
    rustc.spawn().expect("running rustc")
}

/// Returns a slice expression: file name and content of each.
fn table(out: &Path) -> String {
    let mut text = String::from("&[");
    for native in &NATIVES {
        let path = out.join(native.file);
        let _ = write!(text, "({:?}, include_bytes!({path:?}).as_slice()),", native.file);
    }
    text + "]"
}

/// Returns a slice expression: name and text of each scenario.
fn scenarios() -> String {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let folder = fs::read_dir(root.join("scenarios")).expect("reading scenarios/");
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "scenario"));
    paths.sort();
    let mut text = String::from("&[");
    for path in &paths {
        let name = path.file_stem().expect("a name").to_string_lossy();
        let _ = write!(text, "Scenario {{ name: {name:?}, text: include_str!({path:?}) }},");
    }
    text + "]"
}
