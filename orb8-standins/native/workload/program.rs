//! The libraries, and what was done with them.

use std::ffi::{CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::cuda::Cuda;
use super::cudart::Cudart;
use super::gpu::Gpu;
use super::layer::Layer;
use super::nccl::{Ended, Nccl, UniqueId};
use super::options::{self, Options};
use super::pace::Progress;
use super::shared::counts::Counts;
use super::shared::library::Library;

unsafe extern "C" {
    fn setenv(name: *const c_char, value: *const c_char, overwrite: c_int) -> c_int;
}

/// What the stand-in of the driver reads.
const DRIVER: &str = "ORB8_STANDIN_CUDA";

/// What is loaded and counted.
pub(crate) struct Program {
    cuda: Cuda,
    runtime: Option<Cudart>,
    pub(crate) nccl: Option<Nccl>,
    pub(crate) id: UniqueId,
    pub(crate) counts: Counts,
    pub(crate) progress: Progress,
    pub(crate) missing: Mutex<Vec<&'static str>>,
    pub(crate) communicators: Mutex<Vec<Ended>>,
}

impl Program {
    /// Loads what is needed; an error says what is not there.
    pub(crate) fn load(options: &Options) -> Result<Self, String> {
        choose(&options.driver)?;
        let folder = match &options.libraries {
            Some(folder) => folder.clone(),
            None => beside()?,
        };
        let open = |file: &str| open(&folder, file);
        // First, so that the others find this one by its name.
        let driver = open(&options.cuda)?;
        let is_per_thread = options.layer == options::Layer::PerThread;
        let runtime = (options.layer == options::Layer::Runtime)
            .then(|| Cudart::new(open("libcudart.so.12")?))
            .transpose()?;
        let nccl = (options.ranks > 0).then(|| open("libnccl.so.2").map(Nccl::new)).transpose()?;
        let id = options.id.as_deref().map_or_else(|| Ok(UniqueId::new()), UniqueId::parse)?;
        Ok(Self {
            cuda: Cuda::new(driver, is_per_thread),
            runtime,
            nccl,
            id,
            counts: Counts::new(),
            progress: Progress::default(),
            missing: Mutex::default(),
            communicators: Mutex::default(),
        })
    }

    /// Returns the functions that are asked for, with the books.
    pub(crate) fn gpu(&self) -> Gpu<'_> {
        let layer: &dyn Layer = match &self.runtime {
            Some(runtime) => runtime,
            None => &self.cuda,
        };
        Gpu { layer, counts: &self.counts, missing: &self.missing }
    }

    /// Returns what the driver itself counted, of one that does.
    pub(crate) fn driver_counts(&self) -> Option<&'static Counts> {
        self.cuda.counts()
    }
}

fn beside() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(program.parent().unwrap_or(Path::new("/")).to_owned())
}

fn open(folder: &Path, file: &str) -> Result<Library, String> {
    let path = folder.join(file);
    let path = path.to_str().ok_or(format!("{} is no UTF-8", path.display()))?;
    Library::open(path)
}

/// Tells the stand-in of the driver what to play, besides what it was told already.
fn choose(pairs: &[String]) -> Result<(), String> {
    if pairs.is_empty() {
        return Ok(());
    }
    let before = std::env::var(DRIVER).unwrap_or_default();
    let value = format!("{before},{}", pairs.join(","));
    let text = |text: &str| CString::new(text).map_err(|error| error.to_string());
    let (name, value) = (text(DRIVER)?, text(value.trim_start_matches(','))?);
    // SAFETY: both end with a zero, and no other thread runs yet that could read the environment.
    match unsafe { setenv(name.as_ptr(), value.as_ptr(), 1) } {
        0 => Ok(()),
        _ => Err(format!("setting {DRIVER}: {}", std::io::Error::last_os_error())),
    }
}
