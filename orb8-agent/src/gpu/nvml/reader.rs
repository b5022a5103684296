//! One device: what it is, what it was read before, and how it is read.

use std::time::{Duration, Instant};

use nvml_wrapper::sys_exports::field_id as id;
use nvml_wrapper::{Device as Handle, Nvml};

use crate::event::UnixNanos;
use crate::gpu::device::DeviceId;
use crate::gpu::reading::{DeviceState, ProcessUse, Seen};
use crate::gpu::sample::{NvLink, Sample};

use super::call::{Asker, Call, Refused, Stop};
use super::facts::{self, Facts};
use super::fields::{FAST, Fields, Values};
use super::gpm::{Gpm, Rates};
use super::health::Health;
use super::mig::{Instance, Instances, Whole};
use super::processes::{self, Shares, User};
use super::sampling::{Meter, Subject};

/// After which what stays the same is read again, since somebody can set a limit.
const FACTS_AGE: Duration = Duration::from_mins(1);

/// NVML counts what passed NVLink in these.
const KIBIBYTE: u64 = 1024;

/// A device, with what has to be kept between two readings.
#[derive(Debug)]
pub(super) struct Reader<'nvml> {
    pub(super) handle: Handle<'nvml>,
    pub(super) facts: Facts,
    pub(super) parts: Instances<'nvml>,
    index: u32,
    driver: Option<String>,
    facts_read: Option<Instant>,
    refused: Refused,
    fields: Fields,
    health: Health,
    gpm: Gpm<'nvml>,
    shares: Shares,
    pcie: [Meter; 2],
    /// Bytes.
    memory: Option<u64>,
}

/// What a reading of a device told.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    /// The device, then its parts.
    pub(super) seen: Vec<Seen>,
    pub(super) processes: Vec<ProcessUse>,
}

impl<'nvml> Reader<'nvml> {
    /// Looks a device up by its index.
    ///
    /// # Errors
    ///
    /// [`Stop`] where it is not to be asked; `Ok(None)` where it cannot be, for a reason that the
    /// asker has.
    pub(super) fn open(
        asker: &mut Asker,
        nvml: &'nvml Nvml,
        index: u32,
        driver: Option<&str>,
    ) -> Result<Option<Self>, Stop> {
        asker.begin();
        let handle =
            asker.ask(&mut Refused::default(), Call::Handle, || nvml.device_by_index(index))?;
        let Some(handle) = handle else { return Ok(None) };
        let mut refused = Refused::default();
        let facts = facts::read(asker, &mut refused, &handle, index, driver)?;
        let memory = facts::detail(asker, Call::Memory, || handle.memory_info())?;
        Ok(Some(Self {
            handle,
            facts,
            parts: Instances::default(),
            index,
            driver: driver.map(str::to_owned),
            facts_read: None,
            refused,
            fields: Fields::new(&FAST),
            health: Health::default(),
            gpm: Gpm::default(),
            shares: Shares::default(),
            pcie: Default::default(),
            memory: memory.map(|memory| memory.total),
        }))
    }

    /// Whether its handle has to be looked up again: the driver does not know it any more.
    pub(super) fn is_suspect(&self) -> bool {
        self.refused.is_suspect
    }

    /// Reads everything.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the device is not to be asked any further.
    pub(super) fn read(
        &mut self,
        asker: &mut Asker,
        nvml: &'nvml Nvml,
        now: Instant,
        time: UnixNanos,
    ) -> Result<News, Stop> {
        self.refresh(asker, now)?;
        asker.begin();
        let sample = self.sample(asker, nvml, now, time)?;
        let mut news = News::default();
        news.seen.push(Seen { device: self.facts.device.clone(), state: state(asker, sample) });
        for place in 0..self.parts.all.len() {
            news.seen.extend(self.part(asker, nvml, place, time)?);
        }
        news.processes = self.processes(asker, time)?;
        Ok(news)
    }

    fn refresh(&mut self, asker: &mut Asker, now: Instant) -> Result<(), Stop> {
        let is_due =
            self.facts_read.is_none_or(|read| now.saturating_duration_since(read) >= FACTS_AGE);
        // What was read when the device was looked up is not read twice.
        if is_due && self.facts_read.is_some() {
            let driver = self.driver.as_deref();
            let mut facts =
                facts::read(asker, &mut self.refused, &self.handle, self.index, driver)?;
            if self.facts.has_uuid && !facts.has_uuid {
                // It could not be told this time: the device is the same as far as is known.
                facts.device.id.clone_from(&self.facts.device.id);
                facts.has_uuid = true;
            }
            // Another one has its place.
            self.refused.is_suspect |= facts.device.id != self.facts.device.id;
            self.facts = facts;
        }
        if is_due {
            self.facts_read = Some(now);
        }
        let whole = Whole { device: &self.facts.device, memory: self.memory };
        let was_on = self.parts.is_on;
        self.parts.refresh(asker, &mut self.refused, &self.handle, &whole, is_due)?;
        self.facts.device.is_divided = self.parts.is_on;
        if self.parts.is_on != was_on {
            self.ask_anew();
        }
        Ok(())
    }

    /// What a divided device does not tell, a whole one may.
    fn ask_anew(&mut self) {
        let is_suspect = self.refused.is_suspect;
        self.refused = Refused::default();
        self.refused.is_suspect = is_suspect;
        self.fields = Fields::new(&FAST);
        self.health = Health::default();
    }

    fn sample(
        &mut self,
        asker: &mut Asker,
        nvml: &'nvml Nvml,
        now: Instant,
        time: UnixNanos,
    ) -> Result<Sample, Stop> {
        let Self { handle, refused, fields, health, gpm, facts, .. } = self;
        let values = fields.read(asker, refused, handle)?;
        // Between the round's beginning and this, other calls may have taken any time.
        let counted_at = Instant::now();
        let rates = if facts.has_gpm {
            gpm.read(asker, refused, nvml, || handle.gpm_sample())?
        } else {
            Rates::default()
        };
        let mut subject = Subject { asker, refused, handle };
        health.refresh(&mut subject, now)?;
        let counted = [id::NVML_FI_DEV_PCIE_COUNT_TX_BYTES, id::NVML_FI_DEV_PCIE_COUNT_RX_BYTES]
            .map(|field| values.get(field));
        let counted = [0, 1].map(|place| self.pcie[place].rate(counted_at, counted[place]));
        let limits = &facts.limits;
        let sample = Sample {
            time,
            busy: subject.busy(&rates)?,
            memory: subject.memory()?,
            temperature: subject.temperature(limits, &values)?,
            power: subject.power(limits)?,
            clocks: subject.clocks(limits)?,
            throttle: subject.throttle(&values)?,
            nvlink: nvlink(health, &values, &rates),
            ecc: health.ecc,
            rows: health.rows,
            performance_state: subject.performance_state()?,
            persistence_mode: health.persistence_mode,
            pcie: subject.pcie(limits, &rates, counted, health.replays)?,
        };
        self.memory = sample.memory.total.or(self.memory);
        Ok(sample)
    }

    fn part(
        &mut self,
        asker: &mut Asker,
        nvml: &'nvml Nvml,
        place: usize,
        time: UnixNanos,
    ) -> Result<Option<Seen>, Stop> {
        let Some(gpu_instance) = self.parts.all.get(place).map(|part| part.gpu_instance) else {
            return Ok(None);
        };
        // What a GPU instance does is no single part's where it has several.
        let has_gpm = self.facts.has_gpm && self.parts.is_alone(gpu_instance);
        let Some(part) = self.parts.all.get_mut(place) else { return Ok(None) };
        let Instance { handle, device, refused, gpm, .. } = part;
        asker.begin();
        let rates = if has_gpm {
            gpm.read(asker, refused, nvml, || self.handle.gpm_mig_sample(gpu_instance))?
        } else {
            Rates::default()
        };
        let mut sample = Sample { time, ..Sample::default() };
        rates.put(&mut sample.busy);
        sample.pcie.tx_rate = rates.pcie_tx;
        sample.pcie.rx_rate = rates.pcie_rx;
        sample.memory = Subject { asker, refused, handle }.memory()?;
        Ok(Some(Seen { device: device.clone(), state: state(asker, sample) }))
    }

    fn processes(&mut self, asker: &mut Asker, time: UnixNanos) -> Result<Vec<ProcessUse>, Stop> {
        if self.parts.is_on {
            return self.processes_of_parts(asker);
        }
        let Self { handle, refused, shares, facts, .. } = self;
        let users = processes::users(asker, refused, handle)?.unwrap_or_default();
        let mut busy = shares.read(asker, refused, handle, time)?;
        let id = &facts.device.id;
        Ok(users
            .into_iter()
            .map(|user| ProcessUse { busy: busy.remove(&user.pid), ..used(id, &user) })
            .collect())
    }

    /// Each part is asked by itself; where the driver does not answer for one, the device says who is
    /// on it.
    fn processes_of_parts(&mut self, asker: &mut Asker) -> Result<Vec<ProcessUse>, Stop> {
        let mut told = Vec::new();
        let mut is_lacking = false;
        for Instance { handle, device, refused, .. } in &mut self.parts.all {
            match processes::users(asker, refused, handle)? {
                Some(users) => told.extend(users.iter().map(|user| used(&device.id, user))),
                None => is_lacking = true,
            }
        }
        if is_lacking {
            let users = processes::users(asker, &mut self.refused, &self.handle)?;
            for user in users.unwrap_or_default() {
                let part = self.parts.of(user.gpu_instance, user.compute_instance);
                let is_told = told.iter().any(|known: &ProcessUse| {
                    known.pid == user.pid && part.is_none_or(|part| *part == known.device)
                });
                if !is_told {
                    told.push(used(part.unwrap_or(&self.facts.device.id), &user));
                }
            }
        }
        Ok(told)
    }
}

fn used(device: &DeviceId, user: &User) -> ProcessUse {
    let User { pid, kind, memory, .. } = *user;
    ProcessUse { device: device.clone(), pid, kind, memory, busy: None }
}

/// A device of which nothing could be told is silent, not one that has nothing.
fn state(asker: &Asker, sample: Sample) -> DeviceState {
    match &asker.last_failure {
        Some((call, error)) if asker.answers == 0 => {
            DeviceState::Silent { reason: format!("{}: {error}", call.name()) }
        }
        _ => DeviceState::Sampled(Box::new(sample)),
    }
}

fn nvlink(health: &Health, values: &Values, rates: &Rates) -> Option<NvLink> {
    let bytes = |field| values.get(field).map(|kibibytes| kibibytes.saturating_mul(KIBIBYTE));
    Some(NvLink {
        tx_bytes: bytes(id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX),
        rx_bytes: bytes(id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX),
        tx_rate: rates.nvlink_tx,
        rx_rate: rates.nvlink_rx,
        ..health.nvlink?
    })
}
