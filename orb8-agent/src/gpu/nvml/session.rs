//! The thread that asks the driver, while the library is open and between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use tracing::{info, warn};

use crate::gpu::config::GpuConfig;
use crate::gpu::device::DeviceId;
use crate::gpu::source::SourceError;

use super::call::{Asker, Call, Refused, Stop};
use super::library;
use super::progress::Progress;
use super::reader::{News, Reader};
use super::shared::Shared;
use super::xids::Watch;

/// Between two times that a device is looked up again since its driver does not know its handle.
const LOOK_UP: Duration = Duration::from_secs(10);

/// Why the library is closed.
enum End {
    /// This thread ends.
    Thread,
    /// Every device is lost: what a new start of the driver may mend.
    AllLost,
    /// The driver is gone.
    Unloaded(String),
}

/// Asks the driver whenever a reading is wanted, until the source is closed or the thread was left
/// behind.
pub(super) fn run(shared: &Shared, progress: &Arc<Progress>, config: &GpuConfig) {
    let mut asker = Asker::new(Arc::clone(progress));
    while let Some(round) = shared.next_round(progress) {
        let Some(nvml) = open(shared, &asker, config) else {
            shared.finish(&mut asker);
            continue;
        };
        let end = serve(shared, &mut asker, &nvml, round);
        drop(nvml);
        match end {
            End::Thread => break,
            End::AllLost => shared.close(None),
            End::Unloaded(reason) => {
                warn!(reason, "NVIDIA's driver is gone");
                shared.close(Some(SourceError::Failed(format!(
                    "NVIDIA's driver went away ({reason}): it is looked for again every 30 s; see \
                     dmesg | grep NVRM if nobody is updating it"
                ))));
            }
        }
        shared.finish(&mut asker);
    }
}

/// Returns the open library, or opens it where that is due.
fn open(shared: &Shared, asker: &Asker, config: &GpuConfig) -> Option<Arc<Nvml>> {
    if let Some(nvml) = &shared.state().nvml {
        return Some(Arc::clone(nvml));
    }
    if !shared.may_open(Instant::now()) {
        return None;
    }
    asker.progress.turn_to(None);
    asker.progress.enter(Call::Init);
    let opened = library::open(config);
    asker.progress.leave();
    let mut state = shared.state();
    match opened {
        Ok(nvml) => {
            let nvml = Arc::new(nvml);
            state.nvml = Some(Arc::clone(&nvml));
            state.reopen = None;
            state.trouble = None;
            Some(nvml)
        }
        Err(error) => {
            state.reopen = Some(Instant::now() + super::shared::RETRY);
            state.trouble = Some(error);
            None
        }
    }
}

fn serve(shared: &Shared, asker: &mut Asker, nvml: &Arc<Nvml>, first: u64) -> End {
    let driver = asker.make(Call::Init, || nvml.sys_driver_version()).ok().and_then(Result::ok);
    info!(driver, "NVIDIA's driver is read");
    let mut session = Session {
        shared,
        nvml,
        driver,
        count: None,
        readers: BTreeMap::new(),
        looked_up: BTreeMap::new(),
        registered: None,
    };
    let mut round = first;
    loop {
        match session.round(asker, round) {
            Ok(()) if shared.is_all_lost() => return End::AllLost,
            Ok(()) => shared.finish(asker),
            Err(Stop::Unloaded(reason)) => return End::Unloaded(reason),
            Err(Stop::Left | Stop::Lost(_)) => return End::Thread,
        }
        match shared.next_round(&asker.progress) {
            Some(next) => round = next,
            None => return End::Thread,
        }
    }
}

/// The devices while the library is open.
struct Session<'a> {
    shared: &'a Shared,
    nvml: &'a Arc<Nvml>,
    driver: Option<String>,
    count: Option<u32>,
    readers: BTreeMap<u32, Reader<'a>>,
    looked_up: BTreeMap<u32, Instant>,
    /// Devices whose events are waited for.
    registered: Option<BTreeSet<(u32, DeviceId)>>,
}

impl Session<'_> {
    /// Reads every device that can be asked.
    fn round(&mut self, asker: &mut Asker, round: u64) -> Result<(), Stop> {
        asker.progress.turn_to(None);
        let count = self.count(asker)?;
        let (mut is_partial, mut answered) = (false, false);
        let mut unloaded = None;
        for index in 0..count {
            let was_read = self.shared.was_read(index, round);
            is_partial |= was_read;
            if was_read || self.shared.rests(index, Instant::now()) {
                continue;
            }
            asker.progress.turn_to(Some(index));
            match self.device(asker, index) {
                Ok(Some(news)) => {
                    answered = true;
                    self.shared.publish(asker, index, round, news);
                }
                Ok(None) => self.unanswered(asker, index, round),
                Err(Stop::Lost(reason)) => {
                    self.readers.remove(&index);
                    self.shared.publish_lost(asker, index, round, &reason);
                }
                Err(Stop::Unloaded(reason)) => {
                    self.readers.remove(&index);
                    self.shared.publish_silent(asker, index, round, &reason);
                    unloaded = Some(reason);
                }
                Err(Stop::Left) => return Err(Stop::Left),
            }
        }
        // The driver is there as long as it answers for one device.
        if let Some(reason) = unloaded.filter(|_| !answered && !is_partial) {
            return Err(Stop::Unloaded(reason));
        }
        // What another thread registered stays so until this one knows all the devices.
        if is_partial { Ok(()) } else { self.register(asker) }
    }

    /// Returns how many devices there are. Where that changed, an index can be another device's.
    fn count(&mut self, asker: &mut Asker) -> Result<u32, Stop> {
        asker.begin();
        let nvml = self.nvml;
        let read = asker.ask(&mut Refused::default(), Call::DeviceCount, || nvml.device_count());
        let count = match read {
            Ok(Some(count)) => count,
            Ok(None) => self.count.unwrap_or(0),
            // It is about no device: all of them are.
            Err(Stop::Lost(reason)) => return Err(Stop::Unloaded(reason)),
            Err(stop) => return Err(stop),
        };
        if self.count != Some(count) {
            let from = if self.count.is_some() { 0 } else { count };
            self.shared.renumber(from);
            self.readers.clear();
            self.count = Some(count);
        }
        self.shared.note_count(count);
        Ok(count)
    }

    fn device(&mut self, asker: &mut Asker, index: u32) -> Result<Option<News>, Stop> {
        let now = Instant::now();
        let is_suspect = self.readers.get(&index).is_some_and(Reader::is_suspect);
        let looked_up = self.looked_up.get(&index);
        let may_look_up =
            looked_up.is_none_or(|then| now.saturating_duration_since(*then) >= LOOK_UP);
        if is_suspect && may_look_up {
            self.readers.remove(&index);
        }
        if !self.readers.contains_key(&index) {
            self.looked_up.insert(index, now);
            let driver = self.driver.as_deref();
            let Some(reader) = Reader::open(asker, self.nvml, index, driver)? else {
                return Ok(None);
            };
            self.readers.insert(index, reader);
        }
        let Some(reader) = self.readers.get_mut(&index) else { return Ok(None) };
        reader.read(asker, self.nvml, now, super::unix_now()).map(Some)
    }

    /// A device that cannot be looked up is silent; one that this process may not see is not there.
    fn unanswered(&self, asker: &mut Asker, index: u32, round: u64) {
        if let Some((call, error)) = &asker.last_failure {
            let reason = format!("{}: {error}", call.name());
            self.shared.publish_silent(asker, index, round, &reason);
        }
    }

    /// Has the driver tell errors of the devices that there are now.
    fn register(&mut self, asker: &mut Asker) -> Result<(), Stop> {
        let now: BTreeSet<(u32, DeviceId)> = self
            .readers
            .iter()
            .map(|(index, reader)| (*index, reader.facts.device.id.clone()))
            .collect();
        let again = std::mem::take(&mut self.shared.state().rewatch);
        if self.registered.as_ref() == Some(&now) && !again {
            return Ok(());
        }
        asker.progress.turn_to(None);
        let watch = match asker.make(Call::EventSet, || Watch::new(self.nvml))? {
            Ok(mut watch) => {
                for (index, reader) in &self.readers {
                    asker.progress.turn_to(Some(*index));
                    let added =
                        asker.make(Call::RegisterEvents, || watch.add(*index, &reader.handle))?;
                    note(*index, added);
                }
                (!watch.devices.is_empty()).then(|| Arc::new(watch))
            }
            Err(error) => {
                warn!(%error, "the driver tells no XID events: see dmesg | grep Xid instead");
                None
            }
        };
        self.registered = Some(now);
        let before = std::mem::replace(&mut self.shared.state().watch, watch);
        drop(before);
        self.shared.wake.notify_all();
        Ok(())
    }
}

fn note(index: u32, added: Result<(), NvmlError>) {
    if let Err(error) = added {
        // Boards for desktops have none.
        info!(index, %error, "a device tells no XID events");
    }
}
