//! What is played now: the file, read again when it changes, and the time in it.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::beside;
use super::parse::{parse, parse_processes};
use super::scenario::{Device, Failure, Process, ProcessFile, Scenario, Start, What};
use super::status::{Answer, Status, each};

/// Says where the scenario's file is.
const ENVIRONMENT: &str = "ORB8_STANDIN_NVML";

/// What is read where the environment says nothing: a file beside the library.
const BESIDE: &str = "libnvidia-ml.scenario";

/// How often it is looked whether a file has changed: calls are to cost next to nothing.
const CHECK: f64 = 0.02;

/// How often one that is blocked looks whether it still is.
const BLOCKED: Duration = Duration::from_millis(20);

static LIBRARY: Mutex<Library> = Mutex::new(Library {
    uses: 0,
    epoch: 0,
    since: 0.0,
    checked: 0.0,
    identity: None,
    play: Err(Status::UNKNOWN),
});

/// The library in this process.
struct Library {
    /// How often it was initialised and not shut down.
    uses: u32,
    /// Tells when it began to be used last; handles are of one such time.
    epoch: u16,
    /// When it began to be used last, s since 1970.
    since: f64,
    /// When it was last looked whether the file has changed.
    checked: f64,
    identity: Option<Identity>,
    play: Result<Arc<Play>, Status>,
}

/// What tells whether a file is the same as before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    path: PathBuf,
    inode: u64,
    size: u64,
    written: (i64, i64),
}

impl Identity {
    fn of(path: &Path, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            inode: metadata.ino(),
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// A scenario that is played.
pub(super) struct Play {
    pub(super) scenario: Scenario,
    /// When its time was 0, s since 1970.
    zero: f64,
    /// How often a function failed that fails with every error in turn.
    turns: Mutex<HashMap<&'static str, usize>>,
    /// What was last in the files of processes.
    files: Mutex<Vec<File>>,
}

/// A file of processes, as it was read last.
#[derive(Default)]
struct File {
    identity: Option<Identity>,
    processes: Arc<[Process]>,
}

/// A scenario at a time.
#[derive(Clone)]
pub(super) struct Now {
    pub(super) play: Arc<Play>,
    /// Since the scenario began, s.
    pub(super) time: f64,
    /// Since 1970, µs.
    pub(super) micros: u64,
    /// See [`Library::epoch`].
    pub(super) epoch: u16,
    /// What the files of processes have, once it was asked for.
    others: OnceLock<Vec<Process>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Begins to use the library.
pub(super) fn begin() -> Answer<()> {
    // A failing, slow or missing driver is met here already.
    unobstructed("nvmlInit_v2", None, || lock(&LIBRARY).look(clock()))?;
    let mut library = lock(&LIBRARY);
    if library.uses == 0 {
        let clock = clock();
        // Other than before, also where the library was unloaded in between.
        library.epoch = (clock.as_micros() >> 4) as u16;
        library.since = clock.as_secs_f64();
    }
    library.uses += 1;
    Ok(())
}

/// Stops using it.
pub(super) fn end() -> Answer<()> {
    let mut library = lock(&LIBRARY);
    library.uses = library.uses.checked_sub(1).ok_or(Status::UNINITIALIZED)?;
    Ok(())
}

/// Returns what is so now, for a function that is about no device.
pub(super) fn enter(function: &'static str) -> Answer<Now> {
    unobstructed(function, None, current)
}

/// Returns what is so now, for a function that is about a device.
pub(super) fn enter_device(function: &'static str, index: usize) -> Answer<Now> {
    let now = unobstructed(function, Some(index), current)?;
    if now.is_lost(index) { Err(Status::GPU_IS_LOST) } else { Ok(now) }
}

/// Returns what is so now, whatever is to fail.
pub(super) fn current() -> Answer<Now> {
    let clock = clock();
    let mut library = lock(&LIBRARY);
    if library.uses == 0 {
        return Err(Status::UNINITIALIZED);
    }
    let now = library.look(clock)?;
    let begun = library.since - now.play.zero;
    // Who began with a driver that is gone has to begin anew.
    if now.play.loaded(now.time).is_some_and(|loaded| loaded > begun) {
        return Err(Status::UNINITIALIZED);
    }
    Ok(now)
}

/// Waits, fails or goes on, as the scenario has it for a function.
fn unobstructed(
    function: &'static str,
    device: Option<usize>,
    look: impl Fn() -> Answer<Now>,
) -> Answer<Now> {
    loop {
        let now = look()?;
        match now.obstacle(function, device) {
            None => return Ok(now),
            Some(Obstacle::Blocked) => thread::sleep(BLOCKED),
            Some(Obstacle::Slow(time)) => {
                thread::sleep(time);
                return look();
            }
            Some(Obstacle::Fails(status)) => return Err(status),
        }
    }
}

enum Obstacle {
    Blocked,
    Slow(Duration),
    Fails(Status),
}

impl Library {
    /// Returns what is played, whoever uses the library.
    fn look(&mut self, clock: Duration) -> Answer<Now> {
        let unix = clock.as_secs_f64();
        if (unix - self.checked).abs() >= CHECK {
            self.checked = unix;
            self.refresh(unix);
        }
        let play = self.play.clone()?;
        let time = (unix - play.zero).max(0.0);
        let micros = u64::try_from(clock.as_micros()).unwrap_or(u64::MAX);
        if play.happens(time, |what| matches!(what, What::Unloaded)) {
            return Err(Status::DRIVER_NOT_LOADED);
        }
        Ok(Now { play, time, micros, epoch: self.epoch, others: OnceLock::new() })
    }

    /// Reads the file where it is not the one that was read.
    fn refresh(&mut self, unix: f64) {
        let path = std::env::var_os(ENVIRONMENT)
            .map(PathBuf::from)
            .or_else(|| beside::folder().map(|folder| folder.join(BESIDE)));
        let Some(path) = path else { return };
        let identity = fs::metadata(&path).ok().map(|metadata| Identity::of(&path, &metadata));
        if identity.is_some() && identity == self.identity {
            return;
        }
        let known = self.identity.take();
        self.identity = identity;
        match read(&path, unix) {
            Ok(play) => self.play = Ok(Arc::new(play)),
            Err(problem) => {
                // A file that is not there is told once; one that went with its folder is not missed.
                let is_removed = known.is_some() && path.parent().is_some_and(|it| !it.exists());
                let is_told = self.identity.is_none() && known.is_none() && self.play.is_err();
                if !is_removed && (!is_told || self.uses == 0) {
                    complain(&path, &problem);
                }
                self.play = Err(Status::UNKNOWN);
            }
        }
    }
}

fn read(path: &Path, unix: f64) -> Result<Play, String> {
    let text = fs::read_to_string(path).map_err(|error| {
        format!(
            "{error}: {ENVIRONMENT} has the path of a scenario, or {BESIDE} lies beside the library"
        )
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let scenario = parse(&text, folder)?;
    let zero = match scenario.driver.start {
        Start::Read => unix,
        Start::Written => fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(unix, |time| time.as_secs_f64()),
        Start::At(start) => start,
    };
    let files = scenario.files.iter().map(|_| File::default()).collect();
    Ok(Play { scenario, zero, turns: Mutex::default(), files: Mutex::new(files) })
}

/// Says what is wrong with a file: the library's caller learns no more than that there is an error.
fn complain(path: &Path, problem: &str) {
    let mut text = String::new();
    for line in problem.lines() {
        text += &format!("libnvidia-ml stand-in: {}: {line}\n", path.display());
    }
    // Standard error may be closed; there is nobody else to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

impl Play {
    /// Whether something of a kind happens at a time.
    fn happens(&self, time: f64, is: impl Fn(&What) -> bool) -> bool {
        self.scenario.happenings.iter().any(|it| is(&it.what) && it.window.contains(time))
    }

    /// Returns when the driver was loaded last; `None` if it was so from the beginning.
    fn loaded(&self, time: f64) -> Option<f64> {
        let unloaded =
            self.scenario.happenings.iter().filter(|it| matches!(it.what, What::Unloaded));
        unloaded.filter_map(|it| it.window.last_end(time)).reduce(f64::max)
    }

    fn processes_of(&self, number: usize, file: &ProcessFile) -> Arc<[Process]> {
        let metadata = fs::metadata(&file.path).ok();
        let identity = metadata.map(|metadata| Identity::of(&file.path, &metadata));
        let mut files = lock(&self.files);
        let known = &mut files[number];
        if known.identity != identity {
            let text = fs::read_to_string(&file.path).unwrap_or_default();
            match parse_processes(&text, &file.like) {
                Ok(read) => known.processes = read.into(),
                Err(problem) => complain(&file.path, &problem),
            }
            known.identity = identity;
        }
        Arc::clone(&known.processes)
    }
}

impl Now {
    /// Returns when the driver was loaded: counters began then.
    pub(super) fn loaded(&self) -> f64 {
        self.play.loaded(self.time).unwrap_or(0.0)
    }

    pub(super) fn device(&self, index: usize) -> Answer<&Device> {
        self.play.scenario.devices.get(index).ok_or(Status::INVALID_ARGUMENT)
    }

    /// Whether a device is off the bus.
    pub(super) fn is_lost(&self, index: usize) -> bool {
        self.is_so(index, |what| matches!(what, What::Lost))
    }

    /// Whether something of a kind happens to a device.
    pub(super) fn is_so(&self, index: usize, is: impl Fn(&What) -> bool) -> bool {
        self.play.scenario.happenings.iter().any(|it| {
            is(&it.what)
                && it.devices.as_ref().is_none_or(|devices| devices.has(index))
                && it.window.contains(self.time)
        })
    }

    /// Returns what holds a device's clocks back, as NVML's bits.
    pub(super) fn throttles(&self, index: usize) -> u64 {
        self.throttlings(index)
            .filter(|(window, _)| window.contains(self.time))
            .fold(0, |all, (_, bits)| all | bits)
    }

    /// Returns for how long something of the given bits held a device back since the driver was
    /// loaded, s.
    pub(super) fn throttled(&self, index: usize, of: u64) -> f64 {
        let loaded = self.loaded();
        let windows = self.throttlings(index).filter(|(_, bits)| bits & of != 0);
        windows.map(|(window, _)| window.measure(self.time) - window.measure(loaded)).sum()
    }

    fn throttlings(&self, index: usize) -> impl Iterator<Item = (&super::curve::Window, u64)> {
        self.play.scenario.happenings.iter().filter_map(move |it| match it.what {
            What::Throttled(bits)
                if it.devices.as_ref().is_none_or(|devices| devices.has(index)) =>
            {
                Some((&it.window, bits))
            }
            _ => None,
        })
    }

    /// Returns all processes, on whatever device and whenever: those of the scenario, and those that
    /// others wrote into files and that still run.
    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        let others = self.others.get_or_init(|| self.file_processes());
        self.play.scenario.processes.iter().chain(others)
    }

    fn file_processes(&self) -> Vec<Process> {
        let files = self.play.scenario.files.iter().enumerate();
        let all = files.map(|(number, file)| self.play.processes_of(number, file));
        let is_there = |process: &&Process| Path::new(&format!("/proc/{}", process.pid)).exists();
        all.flat_map(|file| file.iter().filter(is_there).cloned().collect::<Vec<_>>()).collect()
    }

    fn obstacle(&self, function: &'static str, device: Option<usize>) -> Option<Obstacle> {
        let about = |devices: &Option<super::scenario::Devices>| match (devices, device) {
            (None, _) => true,
            (Some(devices), Some(index)) => devices.has(index),
            (Some(_), None) => false,
        };
        let happenings = self.play.scenario.happenings.iter();
        let now = happenings.filter(|it| it.window.contains(self.time) && about(&it.devices));
        now.filter_map(|it| match &it.what {
            What::Blocks(pattern) if pattern.has(function) => Some(Obstacle::Blocked),
            What::Slow(pattern, time) if pattern.has(function) => {
                Some(Obstacle::Slow(Duration::from_secs_f64(*time)))
            }
            What::Fails(pattern, Failure::With(status)) if pattern.has(function) => {
                Some(Obstacle::Fails(*status))
            }
            What::Fails(pattern, Failure::Each) if pattern.has(function) => {
                let mut turns = lock(&self.play.turns);
                let turn = turns.entry(function).or_default();
                *turn += 1;
                Some(Obstacle::Fails(each(*turn - 1)))
            }
            _ => None,
        })
        .next()
    }
}
