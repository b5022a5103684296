//! Where NVIDIA's management library is, and what to do where it cannot be used.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::gpu::config::GpuConfig;
use crate::gpu::source::SourceError;

use super::raw;

/// The library's name: the one that programs of any driver since 2013 are linked with.
const NAME: &str = "libnvidia-ml.so.1";

/// Where it is, below a root: distributions, then what operators and clouds put on a node.
const FOLDERS: [&str; 16] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/lib/x86_64-linux-gnu/nvidia/current",
    "usr/lib/aarch64-linux-gnu/nvidia/current",
    "usr/lib64/nvidia",
    // Bottlerocket.
    "usr/lib/nvidia/tesla",
    // Talos.
    "usr/local/glibc/usr/lib",
    // The GPU Operator's driver container.
    "run/nvidia/driver/usr/lib64",
    "run/nvidia/driver/usr/lib/x86_64-linux-gnu",
    "run/nvidia/driver/usr/lib/aarch64-linux-gnu",
    // GKE: on the node, and as its device plugin mounts it.
    "home/kubernetes/bin/nvidia/lib64",
    "usr/local/nvidia/lib64",
    // NixOS, WSL.
    "run/opengl-driver/lib",
    "usr/lib/wsl/lib",
];

/// Opens the library and the driver behind it.
///
/// # Errors
///
/// [`SourceError::Absent`] where there is none, [`SourceError::Failed`] where it does not work; both
/// say what to do.
pub(super) fn open(config: &GpuConfig) -> Result<Nvml, SourceError> {
    let places = places(config);
    let mut refused = None;
    for place in &places.files {
        let opened = raw::check(place);
        match opened.and_then(|()| Nvml::builder().lib_path(place.as_os_str()).init()) {
            Ok(nvml) => return Ok(nvml),
            // The loader did not find one of that name; files were looked for before.
            Err(NvmlError::LibloadingError(_)) if place.is_relative() => {}
            // Another place may have the right one: an operator's driver beside an old one, say. What
            // the driver itself says is better to know than that a file cannot be loaded.
            Err(error) => {
                let is_loaders = matches!(error, NvmlError::LibloadingError(_));
                let told = explain(&error, place, config);
                match &refused {
                    Some((_, false)) => {}
                    Some((_, true)) if is_loaders => {}
                    _ => refused = Some((told, is_loaders)),
                }
            }
        }
    }
    Err(refused.map_or_else(|| absent(config, &places), |(told, _)| told))
}

/// What is tried, and how many places were looked at.
struct Places {
    files: Vec<PathBuf>,
    looked_at: usize,
}

fn places(config: &GpuConfig) -> Places {
    if let Some(library) = &config.nvml_library {
        let is_there = library.exists();
        return Places {
            files: is_there.then(|| library.clone()).into_iter().collect(),
            looked_at: 1,
        };
    }
    let root = &config.roots.libraries;
    // What is there by the loader's own rules comes first, other than where a test has its own root.
    let by_loader = (root == Path::new("/")).then(|| PathBuf::from(NAME));
    let candidates: Vec<PathBuf> = [root.clone(), root.join("host")]
        .iter()
        .flat_map(|root| FOLDERS.map(|folder| root.join(folder).join(NAME)))
        .collect();
    let looked_at = candidates.len() + usize::from(by_loader.is_some());
    // Several of them are often one file.
    let mut known = BTreeSet::new();
    let found = candidates
        .into_iter()
        .filter(|file| fs::canonicalize(file).is_ok_and(|real| known.insert(real)));
    Places { files: by_loader.into_iter().chain(found).collect(), looked_at }
}

fn absent(config: &GpuConfig, places: &Places) -> SourceError {
    SourceError::Absent(match &config.nvml_library {
        Some(library) => format!(
            "{} (--gpu-nvml-library) is not there: correct the path, or leave the setting out",
            library.display()
        ),
        None => format!(
            "{NAME} is in none of {} places (the loader's, the distributions', the GPU Operator's \
             /run/nvidia/driver, GKE's /home/kubernetes/bin/nvidia, each also below /host): on a \
             node with NVIDIA's GPUs install the driver, or mount its folder into the agent's \
             container and name the file by --gpu-nvml-library",
            places.looked_at
        ),
    })
}

/// Says what an error of the start means and what to do.
fn explain(error: &NvmlError, library: &Path, config: &GpuConfig) -> SourceError {
    let shown = library.display();
    match error {
        NvmlError::DriverNotLoaded => SourceError::Absent(format!(
            "NVIDIA's driver is not loaded ({shown} is there): load it (modprobe nvidia), or look \
             why it does not (dmesg | grep NVRM)"
        )),
        NvmlError::LibRmVersionMismatch => SourceError::Failed(mismatch(library, config)),
        NvmlError::NoPermission => SourceError::Failed(format!(
            "{shown} may not talk to NVIDIA's driver: run the agent as root, and in a container \
             with /dev/nvidiactl and /dev/nvidia* (privileged, or runtimeClassName nvidia)"
        )),
        NvmlError::LibloadingError(error) => SourceError::Failed(format!(
            "{shown} cannot be loaded ({error}): it is for another architecture or C library, or \
             is damaged; name the right file by --gpu-nvml-library"
        )),
        NvmlError::FailedToLoadSymbol(error) => SourceError::Failed(format!(
            "{shown} is no NVML that orb8 can use ({error}): drivers from 418 on can be; name the \
             right file by --gpu-nvml-library"
        )),
        NvmlError::Uninitialized => {
            SourceError::Failed(format!("{shown} did not initialize: see dmesg | grep NVRM"))
        }
        other => SourceError::Failed(format!(
            "{shown} did not initialize ({other}): see what nvidia-smi and dmesg | grep NVRM say"
        )),
    }
}

fn mismatch(library: &Path, config: &GpuConfig) -> String {
    let library_version = file_version(library).map(|version| format!(" {version}"));
    let loaded = loaded_version(&config.roots.proc).map(|version| format!(" ({version})"));
    format!(
        "{}{} is of another version than the driver that is loaded{} (NVML error 18): the driver \
         was updated while it ran; reboot the node, or unload the old one's modules and load the \
         new one's",
        library.display(),
        library_version.unwrap_or_default(),
        loaded.unwrap_or_default(),
    )
}

/// Returns the version that a library's file has in its name, once links are followed.
fn file_version(library: &Path) -> Option<String> {
    let file = fs::canonicalize(library).ok()?;
    let version = file.file_name()?.to_str()?.strip_prefix("libnvidia-ml.so.")?;
    version.contains('.').then(|| version.to_owned())
}

/// Returns the version of the driver that the kernel has.
fn loaded_version(proc: &Path) -> Option<String> {
    let text = fs::read_to_string(proc.join("driver/nvidia/version")).ok()?;
    let is_version =
        |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn config(root: &Path) -> GpuConfig {
        let mut config = GpuConfig::default();
        config.roots.libraries = root.into();
        config.roots.proc = root.join("proc");
        config
    }

    fn put(root: &Path, path: &str, content: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    #[test]
    fn a_node_without_the_library_is_told_where_it_was_looked_for() {
        let root = TempDir::new().unwrap();
        let error = open(&config(root.path())).unwrap_err();
        let SourceError::Absent(told) = error else { panic!("{error:?}") };
        assert!(told.contains("in none of 32 places"), "{told}");
        assert!(told.contains("--gpu-nvml-library"), "{told}");
    }

    #[test]
    fn a_setting_that_names_no_file_is_told_as_such() {
        let setting = GpuConfig {
            nvml_library: Some("/nonexistent/libnvidia-ml.so.1".into()),
            ..GpuConfig::default()
        };
        let SourceError::Absent(told) = open(&setting).unwrap_err() else { panic!() };
        assert!(told.starts_with("/nonexistent/libnvidia-ml.so.1 (--gpu-nvml-library)"), "{told}");
    }

    #[test]
    fn operators_and_clouds_places_are_looked_at_also_below_the_hosts_root() {
        for place in [
            "run/nvidia/driver/usr/lib64",
            "home/kubernetes/bin/nvidia/lib64",
            "host/usr/lib/aarch64-linux-gnu",
            "host/run/nvidia/driver/usr/lib/x86_64-linux-gnu",
        ] {
            let root = TempDir::new().unwrap();
            put(root.path(), &format!("{place}/{NAME}"), "");
            let found = places(&config(root.path())).files;
            assert_eq!(found, [root.path().join(place).join(NAME)], "{place}");
        }
    }

    #[test]
    fn a_file_that_is_no_library_is_there_and_does_not_work() {
        let root = TempDir::new().unwrap();
        put(root.path(), &format!("usr/lib64/{NAME}"), "no library");
        let error = open(&config(root.path())).unwrap_err();
        let SourceError::Failed(told) = error else { panic!("{error:?}") };
        assert!(told.contains("cannot be loaded"), "{told}");
    }

    #[test]
    fn each_way_to_fail_says_what_to_do() {
        let root = TempDir::new().unwrap();
        put(root.path(), "lib/libnvidia-ml.so.550.54.15", "");
        let library = root.path().join("lib").join(NAME);
        std::os::unix::fs::symlink("libnvidia-ml.so.550.54.15", &library).unwrap();
        put(
            root.path(),
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 2023\nGCC\n",
        );
        let config = config(root.path());
        let told = |error: NvmlError| explain(&error, &library, &config).to_string();
        let mismatch = told(NvmlError::LibRmVersionMismatch);
        assert!(mismatch.contains("550.54.15") && mismatch.contains("535.129.03"), "{mismatch}");
        assert!(mismatch.contains("reboot"), "{mismatch}");
        assert!(told(NvmlError::DriverNotLoaded).contains("modprobe nvidia"));
        assert!(told(NvmlError::NoPermission).contains("/dev/nvidiactl"));
        assert!(told(NvmlError::Unknown).contains("nvidia-smi"));
        assert!(matches!(
            explain(&NvmlError::DriverNotLoaded, &library, &config),
            SourceError::Absent(_)
        ));
    }
}
