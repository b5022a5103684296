//! The files, and how they get into a folder.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::scenario::scenarios;

/// Name and content of what `build.rs` compiled.
const NATIVES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/natives.rs"));

/// The environment variable with the path of the scenario that NVML's stand-in plays, for a process
/// that is not to play what [`Paths::play`] says.
pub const ENVIRONMENT: &str = "ORB8_STANDIN_NVML";

/// Where the installed files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The folder that has them all, to be searched by the dynamic loader.
    pub directory: PathBuf,
    /// NVIDIA's management library.
    pub nvml: PathBuf,
    /// The same as an old driver has it (470): without the functions that came later.
    pub nvml_old: PathBuf,
    /// The CUDA driver's library.
    pub cuda: PathBuf,
    /// The same, made by another compiler: other instructions at the beginning of functions.
    pub cuda_foreign: PathBuf,
    /// The same, without several functions.
    pub cuda_partial: PathBuf,
    /// The CUDA runtime.
    pub cudart: PathBuf,
    /// NCCL.
    pub nccl: PathBuf,
    /// A program that uses them.
    pub workload: PathBuf,
    /// The folder with the scenarios, `<name>.scenario`.
    pub scenarios: PathBuf,
    /// What NVML's stand-in plays where the environment does not say, see [`Paths::play`].
    pub playing: PathBuf,
    /// Where the scenarios of this crate look for more processes while they are played here, a line
    /// for each: `PID device=0 memory=2GiB sm=40`.
    pub processes: PathBuf,
}

impl Paths {
    fn in_directory(directory: &Path) -> Self {
        let path = |file: &str| directory.join(file);
        Self {
            directory: directory.to_owned(),
            nvml: path("libnvidia-ml.so.1"),
            nvml_old: path("libnvidia-ml-470.so.1"),
            cuda: path("libcuda.so.1"),
            cuda_foreign: path("libcuda-foreign.so.1"),
            cuda_partial: path("libcuda-partial.so.1"),
            cudart: path("libcudart.so.12"),
            nccl: path("libnccl.so.2"),
            workload: path("gpu-workload"),
            scenarios: path("scenarios"),
            playing: path("libnvidia-ml.scenario"),
            processes: path("processes"),
        }
    }

    /// Returns the path of a scenario by its name; it is there for those of [`scenarios`].
    #[must_use]
    pub fn scenario(&self, name: &str) -> PathBuf {
        self.scenarios.join(format!("{name}.scenario"))
    }

    /// Has NVML's stand-in in this folder play a scenario from now on, also where it is loaded already
    /// (within 20 ms). Other folders' are not affected, so tests in one process can each play their
    /// own.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn play(&self, text: &str) -> io::Result<()> {
        write(&self.playing, text.as_bytes(), 0o644)
    }

    /// Says which processes there are besides those of the scenario, see [`Paths::processes`].
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn add_processes(&self, lines: &str) -> io::Result<()> {
        write(&self.processes, lines.as_bytes(), 0o644)
    }
}

/// Writes the libraries, the workload and the scenarios into a folder, which is made where it is not
/// there. What is there already with the same content is left as it is, also while it is in use.
///
/// # Errors
/// The folder cannot be made or written to.
pub fn install(directory: &Path) -> io::Result<Paths> {
    let paths = Paths::in_directory(directory);
    fs::create_dir_all(&paths.scenarios)?;
    for (name, content) in NATIVES {
        write(&directory.join(name), content, 0o755)?;
    }
    for scenario in scenarios() {
        write(&paths.scenario(scenario.name), scenario.text.as_bytes(), 0o644)?;
    }
    Ok(paths)
}

/// Puts a file in place at once: who has the old one open or mapped keeps it.
fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return fs::set_permissions(path, Permissions::from_mode(mode));
    }
    static WRITES: AtomicU32 = AtomicU32::new(0);
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}-{number}.new", std::process::id()));
    fs::write(&new, content)?;
    fs::set_permissions(&new, Permissions::from_mode(mode))?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn everything_is_installed_where_it_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let paths = install(&folder.path().join("made")).unwrap();
        let Paths {
            directory,
            nvml,
            nvml_old,
            cuda,
            cuda_foreign,
            cuda_partial,
            cudart,
            nccl,
            workload,
            ..
        } = &paths;
        let libraries = [nvml, nvml_old, cuda, cuda_foreign, cuda_partial, cudart, nccl];
        for path in libraries.into_iter().chain([workload]) {
            let metadata = fs::metadata(path).unwrap();
            assert_eq!(metadata.mode() & 0o777, 0o755, "{}", path.display());
            assert!(fs::read(path).unwrap().starts_with(b"\x7fELF"), "{}", path.display());
        }
        assert_eq!(NATIVES.len(), libraries.len() + 1, "each file has its place in `Paths`");
        let there = fs::read_dir(directory).unwrap().count();
        assert_eq!(there, NATIVES.len() + 1, "the scenarios, and nothing that was left over");
        for scenario in scenarios() {
            assert_eq!(fs::read_to_string(paths.scenario(scenario.name)).unwrap(), scenario.text);
        }
    }

    #[test]
    fn what_is_there_already_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let paths = install(folder.path()).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let (nvml, cuda) = (inode(&paths.nvml), inode(&paths.cuda));
        fs::write(&paths.cuda, "something else").unwrap();
        assert_eq!(install(folder.path()).unwrap(), paths);
        assert_eq!(inode(&paths.nvml), nvml);
        assert_ne!(inode(&paths.cuda), cuda, "who has the old one mapped keeps it");
    }
}
