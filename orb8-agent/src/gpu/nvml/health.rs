//! What is read of a device now and then: errors, links, and settings that seldom change.

use std::time::{Duration, Instant};

use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};
use nvml_wrapper::sys_exports::field_id as id;

use crate::gpu::sample::{Ecc, NvLink, RemappedRows};

use super::call::{Call, Stop};
use super::fields::{Fields, SLOW, Values};
use super::raw;
use super::sampling::Subject;

/// Between two readings: soon enough for an alert, and an XID tells at once what is urgent.
const PERIOD: Duration = Duration::from_secs(5);

/// More links than any device has.
const MOST_LINKS: u32 = 36;

/// What was read last.
#[derive(Debug)]
pub(super) struct Health {
    read: Option<Instant>,
    fields: Fields,
    /// Errors of each link, where the device does not tell those of all.
    of_links: Option<Fields>,
    pub(super) ecc: Option<Ecc>,
    pub(super) rows: Option<RemappedRows>,
    /// Rates and bytes are read each time, and not in it.
    pub(super) nvlink: Option<NvLink>,
    pub(super) replays: Option<u64>,
    pub(super) persistence_mode: Option<bool>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            read: None,
            fields: Fields::new(&SLOW),
            of_links: None,
            ecc: None,
            rows: None,
            nvlink: None,
            replays: None,
            persistence_mode: None,
        }
    }
}

impl Health {
    /// Reads it if it is time to.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the device is not to be asked any further.
    pub(super) fn refresh(
        &mut self,
        subject: &mut Subject<'_, '_>,
        now: Instant,
    ) -> Result<(), Stop> {
        if self.read.is_some_and(|read| now.saturating_duration_since(read) < PERIOD) {
            return Ok(());
        }
        let values = {
            let Subject { asker, refused, handle } = subject;
            self.fields.read(asker, refused, handle)?
        };
        self.ecc = subject.ecc(&values)?;
        self.rows = subject.rows()?;
        self.nvlink = subject.nvlink(&values)?;
        if let Some(nvlink) = self.nvlink.as_mut().filter(|links| links.crc_errors.is_none()) {
            let of_links = self.of_links.get_or_insert_with(|| link_errors(nvlink.links));
            let Subject { asker, refused, handle } = subject;
            let values = of_links.read(asker, refused, handle)?;
            nvlink.crc_errors = values.sum(id::NVML_FI_DEV_NVLINK_ERROR_DL_CRC);
            nvlink.replays = nvlink.replays.or(values.sum(id::NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY));
            nvlink.recoveries =
                nvlink.recoveries.or(values.sum(id::NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY));
        }
        self.replays = subject.replays(&values)?;
        self.persistence_mode = subject.persistence_mode()?;
        self.read = Some(now);
        Ok(())
    }
}

/// Since Hopper errors are counted by link, under other numbers.
fn link_errors(links: u32) -> Fields {
    let of_link = |link| {
        [
            id::NVML_FI_DEV_NVLINK_ERROR_DL_CRC,
            id::NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY,
            id::NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY,
        ]
        .map(|field| (field, link))
    };
    Fields::new(&(0..links).flat_map(of_link).collect::<Vec<_>>())
}

impl Subject<'_, '_> {
    fn ecc(&mut self, values: &Values) -> Result<Option<Ecc>, Stop> {
        let Self { asker, refused, handle } = self;
        let Some(mode) = asker.ask(refused, Call::EccMode, || handle.is_ecc_enabled())? else {
            return Ok(None);
        };
        if !mode.currently_enabled {
            return Ok(Some(Ecc::default()));
        }
        let mut count = |field, error, counter| {
            let Self { asker, refused, handle } = self;
            if let Some(count) = values.get(field) {
                return Ok(Some(count));
            }
            let read =
                asker.ask(refused, Call::EccErrors, || handle.total_ecc_errors(error, counter))?;
            Ok(read.and_then(|count| asker.checked.whole(count)))
        };
        let (mended, lost) = (MemoryError::Corrected, MemoryError::Uncorrected);
        let (volatile, lifetime) = (EccCounter::Volatile, EccCounter::Aggregate);
        Ok(Some(Ecc {
            is_enabled: true,
            corrected: count(id::NVML_FI_DEV_ECC_SBE_VOL_TOTAL, mended, volatile)?,
            uncorrected: count(id::NVML_FI_DEV_ECC_DBE_VOL_TOTAL, lost, volatile)?,
            corrected_lifetime: count(id::NVML_FI_DEV_ECC_SBE_AGG_TOTAL, mended, lifetime)?,
            uncorrected_lifetime: count(id::NVML_FI_DEV_ECC_DBE_AGG_TOTAL, lost, lifetime)?,
        }))
    }

    fn rows(&mut self) -> Result<Option<RemappedRows>, Stop> {
        let Self { asker, refused, handle } = self;
        let read = asker.ask(refused, Call::RemappedRows, || raw::remapped_rows(handle))?;
        let Some(rows) = read else { return Ok(None) };
        // More rows than a device could remap is a sentinel.
        if rows.correctable == u32::MAX || rows.uncorrectable == u32::MAX {
            asker.checked.leave_out();
            return Ok(None);
        }
        Ok(Some(RemappedRows {
            correctable: rows.correctable.into(),
            uncorrectable: rows.uncorrectable.into(),
            is_pending: rows.is_pending,
            has_failed: rows.has_failed,
        }))
    }

    fn nvlink(&mut self, values: &Values) -> Result<Option<NvLink>, Stop> {
        let known = values.get(id::NVML_FI_DEV_NVLINK_LINK_COUNT);
        // Without the count, links are asked one after the other until there is none.
        let most = known.and_then(|count| u32::try_from(count).ok()).unwrap_or(MOST_LINKS);
        let (mut links, mut active) = (0, 0);
        for link in 0..most.min(MOST_LINKS) {
            let Self { asker, refused, handle } = self;
            if refused.has(Call::NvLinkState) {
                break;
            }
            // A link that is not there is no reason not to ask for the others in the next reading.
            let mut one = refused.clone();
            let state = asker
                .ask(&mut one, Call::NvLinkState, || handle.link_wrapper_for(link).is_active())?;
            match state {
                Some(is_active) => {
                    links += 1;
                    active += u32::from(is_active);
                }
                None if link == 0 && known.is_none() && one.has(Call::NvLinkState) => {
                    refused.add(Call::NvLinkState);
                }
                None if known.is_none() => break,
                None => {}
            }
        }
        if links == 0 {
            return Ok(None);
        }
        let flits = values.get(id::NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL);
        let packets = values.get(id::NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL);
        Ok(Some(NvLink {
            links,
            active,
            crc_errors: match (flits, packets) {
                (None, None) => None,
                (flits, packets) => Some(flits.unwrap_or(0) + packets.unwrap_or(0)),
            },
            replays: values.get(id::NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL),
            recoveries: values.get(id::NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL),
            ..NvLink::default()
        }))
    }

    fn replays(&mut self, values: &Values) -> Result<Option<u64>, Stop> {
        let Self { asker, refused, handle } = self;
        if let Some(replays) = values.get(id::NVML_FI_DEV_PCIE_REPLAY_COUNTER) {
            return Ok(Some(replays));
        }
        let read = asker.ask(refused, Call::PcieReplays, || handle.pcie_replay_counter())?;
        let Some(replays) = read else { return Ok(None) };
        if replays == u32::MAX {
            asker.checked.leave_out();
            return Ok(None);
        }
        Ok(Some(replays.into()))
    }

    fn persistence_mode(&mut self) -> Result<Option<bool>, Stop> {
        let Self { asker, refused, handle } = self;
        asker.ask(refused, Call::PersistenceMode, || handle.is_in_persistent_mode())
    }
}
