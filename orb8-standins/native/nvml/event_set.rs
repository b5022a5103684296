//! What happens, told to who waits for it (`nvmlEventSet_t`).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::curve::Window;
use super::play::{Now, Play, current};
use super::scenario::What;
use super::status::{Answer, Status};

/// An error by NVIDIA's number for it.
const XID: u64 = 8;

/// What can be waited for: memory errors, clocks, performance states, XIDs.
pub(super) const SUPPORTED: u64 = 0x1 | 0x2 | 0x4 | XID | 0x10;

/// How long one sleeps at most before looking whether the scenario has become another.
const NAP: f64 = 0.1;

/// As many devices as a scenario can have.
const DEVICES: usize = 64;

static SETS: LazyLock<Mutex<Sets>> = LazyLock::new(Mutex::default);

/// All sets, by number: what was freed is told from what is there.
#[derive(Default)]
struct Sets {
    last: usize,
    sets: HashMap<usize, Set>,
}

/// Who waits for what.
#[derive(Default)]
struct Set {
    /// Of each device, what is waited for and since when, in the scenario's time.
    devices: HashMap<usize, (u64, f64)>,
    /// What was played when this was last looked at; another begins at 0.
    play: Option<Arc<Play>>,
    /// The last that was told: its time, and its place among those of the same time.
    told: Option<(f64, usize)>,
}

/// An event that is told next: its time, and its place among those of the same time.
struct Next {
    time: f64,
    order: usize,
    event: Event,
}

/// One thing that happened to a device.
pub(super) struct Event {
    pub(super) index: usize,
    pub(super) kind: u64,
    pub(super) data: u64,
    pub(super) instance: Option<(u32, u32)>,
}

fn sets() -> MutexGuard<'static, Sets> {
    SETS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn create() -> usize {
    let mut sets = sets();
    sets.last += 1;
    let number = sets.last;
    sets.sets.insert(number, Set::default());
    number
}

pub(super) fn free(set: usize) -> Answer<()> {
    sets().sets.remove(&set).map(|_| ()).ok_or(Status::INVALID_ARGUMENT)
}

/// Waits for a device's events from now on.
pub(super) fn register(set: usize, now: &Now, index: usize, kinds: u64) -> Answer<()> {
    if kinds & !SUPPORTED != 0 {
        return Err(Status::NOT_SUPPORTED);
    }
    let mut sets = sets();
    let set = sets.sets.get_mut(&set).ok_or(Status::INVALID_ARGUMENT)?;
    set.follow(now);
    let (known, _) = set.devices.entry(index).or_insert((0, now.time));
    *known |= kinds;
    Ok(())
}

/// Waits for the next event.
pub(super) fn wait(set: usize, timeout: Duration) -> Answer<Event> {
    let until = Instant::now() + timeout;
    loop {
        let now = current()?;
        let next = {
            let mut sets = sets();
            let set = sets.sets.get_mut(&set).ok_or(Status::INVALID_ARGUMENT)?;
            set.follow(&now);
            if let Some(event) = set.take(&now) {
                return Ok(event);
            }
            if set.devices.keys().any(|index| now.is_lost(*index)) {
                return Err(Status::GPU_IS_LOST);
            }
            set.next(&now).map_or(f64::INFINITY, |next| next.time - now.time)
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Status::TIMEOUT);
        }
        thread::sleep(left.min(Duration::from_secs_f64(next.clamp(0.0005, NAP))));
    }
}

impl Set {
    /// Begins anew with another scenario.
    fn follow(&mut self, now: &Now) {
        if self.play.as_ref().is_none_or(|play| !Arc::ptr_eq(play, &now.play)) {
            if self.play.is_some() {
                self.devices.values_mut().for_each(|(_, since)| *since = -1.0);
            }
            self.play = Some(Arc::clone(&now.play));
            self.told = None;
        }
    }

    /// Takes the next event that is due.
    fn take(&mut self, now: &Now) -> Option<Event> {
        let next = self.next(now).filter(|next| next.time <= now.time)?;
        self.told = Some((next.time, next.order));
        Some(next.event)
    }

    /// Returns the first event after what was told last, due or not.
    fn next(&self, now: &Now) -> Option<Next> {
        let happenings = now.play.scenario.happenings.iter().enumerate();
        let xids = happenings.filter_map(|(place, it)| match it.what {
            What::Xid { code, instance } => Some((place, it, code, instance)),
            _ => None,
        });
        let all = xids.flat_map(|(place, it, code, instance)| {
            self.devices.iter().filter_map(move |(index, (kinds, since))| {
                let is_about = it.devices.as_ref().is_none_or(|devices| devices.has(*index));
                let order = place * DEVICES + index;
                let time = self.after(order, *since, &it.window)?;
                let event = Event { index: *index, kind: XID, data: code, instance };
                (kinds & XID != 0 && is_about).then_some(Next { time, order, event })
            })
        });
        all.min_by(|one, other| one.time.total_cmp(&other.time).then(one.order.cmp(&other.order)))
    }

    /// Returns when an event happens next that was not told.
    fn after(&self, order: usize, since: f64, window: &Window) -> Option<f64> {
        let from = match self.told {
            // What happens at the same time comes in the order of the file.
            Some((time, told)) if told < order && window.is_beginning(time) => return Some(time),
            Some((time, _)) => time.max(since),
            None => since,
        };
        window.next(from)
    }
}
