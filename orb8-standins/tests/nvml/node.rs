//! A folder with the library, and what it plays.

use std::time::{SystemTime, UNIX_EPOCH};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use orb8_standins::{Paths, install, scenario};

/// The libraries in a folder of their own, so that each test has an NVML of its own.
pub(crate) struct Node {
    pub(crate) paths: Paths,
    _folder: tempfile::TempDir,
}

impl Node {
    /// A node that plays a text.
    pub(crate) fn playing(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = install(folder.path()).unwrap();
        let node = Self { paths, _folder: folder };
        node.paths.play(text).unwrap();
        node
    }

    /// A node that plays a scenario of the crate since so many seconds.
    pub(crate) fn at(name: &str, seconds: f64) -> Self {
        let node = Self::playing("");
        node.jump(name, seconds);
        node
    }

    /// Plays a scenario of the crate as if it had begun so many seconds ago.
    pub(crate) fn jump(&self, name: &str, seconds: f64) {
        let text = scenario(name).unwrap().text;
        self.paths.play(&begun(text, seconds)).unwrap();
        // Longer than the library goes without looking at its file.
        std::thread::sleep(std::time::Duration::from_millis(30));
    }

    pub(crate) fn try_init(&self) -> Result<Nvml, NvmlError> {
        Nvml::builder().lib_path(self.paths.nvml.as_os_str()).init()
    }

    pub(crate) fn init(&self) -> Nvml {
        self.try_init().unwrap()
    }
}

/// Returns a scenario that began so many seconds ago.
pub(crate) fn begun(text: &str, seconds: f64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    format!("{text}\n[driver]\nstart = {}\n", now - seconds)
}
