//! What the threads that wait for the driver, and who waits for them, have in common.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::gpu::device::SourceKind;
use crate::gpu::event::GpuEvent;
use crate::gpu::reading::{DeviceState, Reading, Seen};
use crate::gpu::source::{SourceError, Unread};

use super::call::Asker;
use super::facts;
use super::progress::{Progress, Waiting};
use super::reader::News;
use super::slots::{Slot, bare, silent};
use super::xids::Watch;

/// Threads that may be left waiting for the driver. Each is a device that hangs; where more do, the
/// driver as a whole does, and more threads would only wait with them.
pub(super) const MOST_LEFT: usize = 4;

/// After which a driver, or a device that is lost, is looked at again.
pub(super) const RETRY: Duration = Duration::from_secs(30);

/// Before a retry is due, by the clock of who asks in intervals of their own.
const EARLY: Duration = Duration::from_secs(1);

/// Events that wait for the next reading at most.
const MOST_EVENTS: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something to do, or an end to it.
    pub(super) wake: Condvar,
    /// A round is done, or a thread has ended.
    pub(super) done: Notify,
}

/// What is known, and what is going on.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Readings that were asked for.
    pub(super) wanted: u64,
    /// The last of them that is done.
    pub(super) finished: u64,
    pub(super) is_closed: bool,
    /// The open library; `None` where it is not, or is to be closed.
    pub(super) nvml: Option<Arc<Nvml>>,
    /// When it is tried again to open it.
    pub(super) reopen: Option<Instant>,
    /// Why nothing is told.
    pub(super) trouble: Option<SourceError>,
    pub(super) slots: BTreeMap<u32, Slot>,
    /// Devices that were lost and are no longer listed by the driver.
    remembered: Vec<Slot>,
    /// Whether there ever was a device.
    has_seen: bool,
    count: Option<u32>,
    /// Devices whose calls have not returned.
    pub(super) hanging: BTreeMap<u32, Waiting>,
    /// Threads that wait for them, and for the driver's events.
    pub(super) left: usize,
    /// Where events are waited for.
    pub(super) watch: Option<Arc<Watch>>,
    /// Whether the driver has to be told anew to tell events.
    pub(super) rewatch: bool,
    /// Which thread waits for events, and when it was last seen to.
    pub(super) watcher: u64,
    pub(super) watched: Option<Instant>,
    events: Vec<GpuEvent>,
    lost_events: u64,
    pub(super) invalid: u64,
    pub(super) unread: Unread,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a reading, other than where one is still going on.
    pub(super) fn request(&self) -> u64 {
        let mut state = self.state();
        if state.finished == state.wanted {
            state.wanted += 1;
            self.wake.notify_all();
        }
        state.wanted
    }

    /// Waits for a reading to be asked for; `None` where this thread has to end.
    pub(super) fn next_round(&self, progress: &Progress) -> Option<u64> {
        let mut state = self.state();
        loop {
            if state.is_closed || progress.was_left() {
                return None;
            }
            if state.finished < state.wanted {
                return Some(state.wanted);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that a reading is done.
    pub(super) fn finish(&self, asker: &mut Asker) {
        let mut state = self.state();
        state.account(asker);
        if !asker.progress.was_left() {
            // No other is asked for before.
            state.finished = state.wanted;
        }
        drop(state);
        self.done.notify_one();
    }

    /// Whether a device was read in this round already, by a thread that was left behind since.
    pub(super) fn was_read(&self, index: u32, round: u64) -> bool {
        self.state().slots.get(&index).is_some_and(|slot| slot.round == round)
    }

    /// Whether a device is to be left alone: it hangs, or is lost.
    pub(super) fn rests(&self, index: u32, now: Instant) -> bool {
        let state = self.state();
        let retry = state.slots.get(&index).and_then(|slot| slot.retry);
        state.hanging.contains_key(&index) || retry.is_some_and(|retry| now + EARLY < retry)
    }

    /// Notes how many devices there are.
    pub(super) fn note_count(&self, count: u32) {
        let mut state = self.state();
        state.count = Some(count);
        state.trouble = (count == 0 && !state.has_seen).then(|| {
            SourceError::Absent(
                "NVIDIA's driver is loaded and has no device: see lspci -d 10de: and \
                 dmesg | grep NVRM"
                    .into(),
            )
        });
    }

    /// Takes what a reading of a device told.
    pub(super) fn publish(&self, asker: &mut Asker, index: u32, round: u64, news: News) {
        let mut state = self.state();
        state.account(asker);
        if asker.progress.was_left() {
            return;
        }
        state.has_seen = true;
        if let Some(id) = news.seen.first().map(|seen| &seen.device.id) {
            state.remembered.retain(|slot| slot.device().is_none_or(|device| device.id != *id));
            let was_lost = state.slots.get(&index).is_some_and(|slot| slot.retry.is_some());
            if was_lost {
                info!(device = %id, "a device that was lost answers again");
            }
        }
        state.slots.insert(index, Slot { news, read: Instant::now(), round, retry: None });
    }

    /// Notes that a device does not tell anything this time.
    pub(super) fn publish_silent(&self, asker: &mut Asker, index: u32, round: u64, reason: &str) {
        if self.state().slots.get(&index).is_some_and(|slot| slot.retry.is_some()) {
            // It was lost before, and still is.
            return self.publish_lost(asker, index, round, reason);
        }
        let news = {
            let state = self.state();
            let known = state.slots.get(&index).map(|slot| slot.news.seen.clone());
            let seen = known.unwrap_or_else(|| vec![bare(facts::unknown(index))]);
            News { seen: silent(&seen, reason), processes: Vec::new() }
        };
        self.publish(asker, index, round, news);
    }

    /// Notes that a device is lost. It stays so until it answers again.
    pub(super) fn publish_lost(&self, asker: &mut Asker, index: u32, round: u64, reason: &str) {
        let (now, time) = (Instant::now(), super::unix_now());
        let mut state = self.state();
        state.account(asker);
        if asker.progress.was_left() {
            return;
        }
        let retry = Some(now + RETRY);
        let known = state.slots.remove(&index).or_else(|| state.recall(index));
        let slot = match known {
            Some(slot) if slot.retry.is_some() => Slot { read: now, round, retry, ..slot },
            known => {
                let seen =
                    known.map_or_else(|| vec![bare(facts::unknown(index))], |slot| slot.news.seen);
                if let Some(Seen { device, .. }) = seen.first() {
                    warn!(device = %device.id, index, reason, "a device is lost");
                }
                let state = || DeviceState::Lost { reason: reason.to_owned(), since: time };
                let seen = seen.into_iter().map(|seen| Seen { state: state(), ..seen }).collect();
                Slot { news: News { seen, processes: Vec::new() }, read: now, round, retry }
            }
        };
        state.has_seen = true;
        state.slots.insert(index, slot);
    }

    /// Forgets what is known of indexes, since they may be other devices' from now on.
    pub(super) fn renumber(&self, from: u32) {
        let mut state = self.state();
        let gone = state.slots.split_off(&from);
        state.remembered.extend(gone.into_values().filter(|slot| slot.retry.is_some()));
    }

    /// Whether every device is lost.
    pub(super) fn is_all_lost(&self) -> bool {
        let state = self.state();
        !state.slots.is_empty() && state.slots.values().all(|slot| slot.retry.is_some())
    }

    /// Closes the library, as soon as every thread is out of it, and tries again later.
    pub(super) fn close(&self, trouble: Option<SourceError>) {
        let mut state = self.state();
        state.reopen = Some(Instant::now() + RETRY);
        if let Some(trouble) = trouble {
            state.trouble = Some(trouble);
            let slots = std::mem::take(&mut state.slots);
            state.remembered.extend(slots.into_values().filter(|slot| slot.retry.is_some()));
        }
        // Dropped after the lock is: it waits for the driver.
        let (nvml, watch) = (state.nvml.take(), state.watch.take());
        drop(state);
        drop((nvml, watch));
    }

    /// Whether it is time to try to open the library.
    pub(super) fn may_open(&self, now: Instant) -> bool {
        self.state().reopen.is_none_or(|reopen| now + EARLY >= reopen)
    }

    /// Leaves a thread behind that waits for a device, if it still does and another may be started.
    pub(super) fn leave_behind(&self, progress: &Progress, index: u32, waiting: Waiting) -> bool {
        let mut state = self.state();
        if state.left >= MOST_LEFT || !progress.leave_behind(waiting) {
            return false;
        }
        state.left += 1;
        state.hanging.insert(index, waiting);
        drop(state);
        warn!(
            index,
            call = waiting.call.name(),
            "a device's driver hangs: it is left alone until the call returns"
        );
        true
    }

    /// Notes that a thread that was left behind has come back, and with it its device.
    pub(super) fn come_back(&self, waited_for: Option<Waiting>) {
        let mut state = self.state();
        state.left = state.left.saturating_sub(1);
        if let Some(waiting) = waited_for
            && let Some(index) = waiting.device
            && state.hanging.get(&index) == Some(&waiting)
        {
            state.hanging.remove(&index);
            info!(index, "a device's driver answers again");
        }
    }

    /// Keeps an event for the next reading.
    pub(super) fn push(&self, event: GpuEvent) {
        let mut state = self.state();
        if state.events.len() < MOST_EVENTS {
            state.events.push(event);
        } else {
            state.lost_events += 1;
            state.unread.count += 1;
            state.unread.last =
                Some(format!("XID events beyond the {MOST_EVENTS} of one interval"));
        }
    }

    /// Returns what is known now.
    ///
    /// # Errors
    ///
    /// [`SourceError`] where that is nothing.
    pub(super) fn reading(
        &self,
        now: Instant,
        fresh: Duration,
        waiting: Option<Waiting>,
    ) -> Result<Reading, SourceError> {
        let mut state = self.state();
        if state.lost_events > 0 {
            warn!(count = state.lost_events, "more XID events than could be kept: they are lost");
            state.lost_events = 0;
        }
        if let Some(trouble) = &state.trouble {
            return Err(trouble.clone());
        }
        if !state.has_seen && state.hanging.is_empty() {
            return Err(SourceError::Failed(match (waiting, state.count) {
                (Some(waiting), _) => {
                    format!("NVIDIA's driver is being started: {}", waiting.tell(now))
                }
                (None, Some(count)) => format!(
                    "NVIDIA's driver has {count} devices and this process may see none of them: \
                     run the agent privileged, or with all of /dev/nvidia*"
                ),
                (None, None) => "NVIDIA's driver is being started".into(),
            }));
        }
        let mut reading = Reading {
            source: SourceKind::Nvml,
            devices: Vec::new(),
            processes: Vec::new(),
            events: std::mem::take(&mut state.events),
            holdings: Vec::new(),
        };
        for (index, slot) in &state.slots {
            state.tell(*index, slot, now, fresh, waiting, &mut reading);
        }
        for (index, waiting) in &state.hanging {
            if !state.slots.contains_key(index) {
                let seen = [bare(facts::unknown(*index))];
                reading.devices.extend(silent(&seen, &waiting.tell(now)));
            }
        }
        reading.devices.extend(state.remembered.iter().flat_map(|slot| slot.news.seen.clone()));
        Ok(reading)
    }
}

#[cfg(test)]
impl Shared {
    /// Has lost devices looked at again in the next round.
    pub(super) fn retry_now(&self) {
        for slot in self.state().slots.values_mut() {
            slot.retry = slot.retry.map(|_| Instant::now());
        }
    }

    /// Has devices been read so much longer ago.
    pub(super) fn age(&self, by: Duration) {
        for slot in self.state().slots.values_mut() {
            slot.read = slot.read.checked_sub(by).unwrap_or(slot.read);
        }
    }
}

impl State {
    /// Takes over what a thread counted.
    fn account(&mut self, asker: &mut Asker) {
        self.invalid += std::mem::take(&mut asker.checked.invalid);
        self.unread.count += std::mem::take(&mut asker.failures);
        if let Some(last) = asker.last_unread.take() {
            self.unread.last = Some(last);
        }
    }

    /// Finds the lost device that is at an index now: who is lost does not say who it is.
    fn recall(&mut self, index: u32) -> Option<Slot> {
        let had = |slot: &Slot| slot.device().is_some_and(|device| device.index == Some(index));
        let place = self.remembered.iter().position(had);
        let place = place.or_else(|| (!self.remembered.is_empty()).then_some(0))?;
        Some(self.remembered.swap_remove(place))
    }
}
