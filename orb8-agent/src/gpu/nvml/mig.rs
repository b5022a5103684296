//! The parts that a device is divided into (MIG).

use nvml_wrapper::Device as Handle;
use nvml_wrapper::struct_wrappers::device::DeviceAttributes;

use crate::gpu::device::{Device, DeviceId, Part};

use super::call::{Asker, Call, Refused, Stop};
use super::facts::detail;
use super::gpm::Gpm;
use super::raw;

/// More parts than any device can have.
const MOST: u32 = 32;

/// NVML's number for a mode that is on.
const ON: u32 = 1;

const MEBIBYTE: u64 = 1 << 20;
const GIBIBYTE: u64 = 1 << 30;

/// A part, with what is known of it.
#[derive(Debug)]
pub(super) struct Instance<'nvml> {
    pub(super) handle: Handle<'nvml>,
    pub(super) device: Device,
    pub(super) refused: Refused,
    pub(super) gpm: Gpm<'nvml>,
    pub(super) gpu_instance: u32,
    pub(super) compute_instance: Option<u32>,
}

/// A device's parts.
#[derive(Debug, Default)]
pub(super) struct Instances<'nvml> {
    /// Whether the device is divided, which it can be into nothing.
    pub(super) is_on: bool,
    pub(super) all: Vec<Instance<'nvml>>,
}

impl<'nvml> Instances<'nvml> {
    /// Looks which parts there are now. Those that are still there keep what is known of them; `anew`
    /// reads it again.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the device is not to be asked any further.
    pub(super) fn refresh(
        &mut self,
        asker: &mut Asker,
        refused: &mut Refused,
        parent: &Handle<'nvml>,
        whole: &Whole<'_>,
        anew: bool,
    ) -> Result<(), Stop> {
        let mode = asker.ask(refused, Call::MigMode, || parent.mig_mode())?;
        if mode.is_none() && !refused.has(Call::MigMode) {
            // It could not be told this time: the parts are what they were.
            return Ok(());
        }
        self.is_on = mode.is_some_and(|mode| mode.current == ON);
        if !self.is_on {
            self.all.clear();
            return Ok(());
        }
        let most = detail(asker, Call::MigCount, || parent.mig_device_count())?.unwrap_or(MOST);
        let mut before = std::mem::take(&mut self.all);
        for index in 0..most.min(MOST) {
            // A place that is empty is no error; nor is one that empties while it is looked at.
            let handle = detail(asker, Call::MigHandle, || parent.mig_device_by_index(index))?;
            let Some(handle) = handle else { continue };
            let Some(uuid) = detail(asker, Call::Uuid, || handle.uuid())? else { continue };
            let known = before.iter().position(|instance| {
                instance.device.id.as_str() == uuid && !instance.refused.is_suspect
            });
            let known = known.map(|place| before.swap_remove(place));
            match known {
                Some(known) if !anew => self.all.push(Instance { handle, ..known }),
                known => {
                    let found = Instance::find(asker, handle, uuid, index, whole)?;
                    let gpm = known.map(|known| known.gpm).unwrap_or_default();
                    self.all.extend(found.map(|found| Instance { gpm, ..found }));
                }
            }
        }
        Ok(())
    }

    /// Whether a GPU instance is a part by itself, so that its figures are that part's.
    pub(super) fn is_alone(&self, gpu_instance: u32) -> bool {
        self.all.iter().filter(|instance| instance.gpu_instance == gpu_instance).count() == 1
    }

    /// Returns the part that a process is on.
    pub(super) fn of(&self, gpu: Option<u32>, compute: Option<u32>) -> Option<&DeviceId> {
        let gpu = gpu?;
        let mut parts = self.all.iter().filter(|instance| {
            instance.gpu_instance == gpu
                && (compute.is_none()
                    || instance.compute_instance.is_none()
                    || instance.compute_instance == compute)
        });
        let part = parts.next()?;
        // Without a compute instance it can be one of several, and none is as good as another.
        parts.next().is_none().then_some(&part.device.id)
    }
}

/// What a part is a part of.
pub(super) struct Whole<'a> {
    pub(super) device: &'a Device,
    /// Bytes.
    pub(super) memory: Option<u64>,
}

impl<'nvml> Instance<'nvml> {
    fn find(
        asker: &mut Asker,
        handle: Handle<'nvml>,
        uuid: String,
        index: u32,
        whole: &Whole<'_>,
    ) -> Result<Option<Self>, Stop> {
        let gpu_instance = detail(asker, Call::MigIds, || raw::gpu_instance(&handle))?;
        let Some(gpu_instance) = gpu_instance else { return Ok(None) };
        let compute_instance = detail(asker, Call::MigIds, || raw::compute_instance(&handle))?;
        let name = detail(asker, Call::Identity, || handle.name())?;
        let attributes = detail(asker, Call::Attributes, || handle.attributes())?;
        let profile = name
            .as_deref()
            .and_then(profile_in)
            .or_else(|| attributes.as_ref().and_then(|read| profile_of(read, whole.memory)));
        let part = Part {
            parent: whole.device.id.clone(),
            gpu_instance,
            compute_instance,
            profile: profile.unwrap_or_else(|| "mig".into()),
        };
        let device = Device {
            id: DeviceId::new(uuid),
            index: Some(index),
            part: Some(part),
            is_divided: false,
            ..whole.device.clone()
        };
        Ok(Some(Self {
            handle,
            device,
            refused: Refused::default(),
            gpm: Gpm::default(),
            gpu_instance,
            compute_instance,
        }))
    }
}

/// Finds the profile in NVML's name of a part: `NVIDIA A100-SXM4-40GB MIG 1g.5gb`.
fn profile_in(name: &str) -> Option<String> {
    let (_, profile) = name.rsplit_once("MIG ")?;
    (profile.contains("g.") && profile.contains("gb")).then(|| profile.trim().to_owned())
}

/// Makes the profile's name from what a part has. Its memory is named by the nearest eighth of the
/// device's, as NVIDIA does: the parts have a bit less than their name says.
fn profile_of(attributes: &DeviceAttributes, memory: Option<u64>) -> Option<String> {
    let total = memory.filter(|total| *total > 0)?;
    let part = attributes.memory_size_mb.checked_mul(MEBIBYTE)?;
    let eighths = part.saturating_mul(8).div_ceil(total);
    let gigabytes = (eighths * total.div_ceil(GIBIBYTE) + 4) / 8;
    let (gpu, compute) =
        (attributes.gpu_instance_slice_count, attributes.compute_instance_slice_count);
    if gpu == 0 {
        return None;
    }
    let slices = if compute == gpu { format!("{gpu}g") } else { format!("{compute}c.{gpu}g") };
    Some(format!("{slices}.{gigabytes}gb"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(gpu: u32, compute: u32, memory_size_mb: u64) -> DeviceAttributes {
        DeviceAttributes {
            multiprocessor_count: 14,
            shared_copy_engine_count: 1,
            shared_decoder_count: 0,
            shared_encoder_count: 0,
            shared_jpeg_count: 0,
            shared_ofa_count: 0,
            gpu_instance_slice_count: gpu,
            compute_instance_slice_count: compute,
            memory_size_mb,
        }
    }

    #[test]
    fn a_parts_name_has_its_profile() {
        let cases = [
            ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", Some("1g.5gb")),
            ("NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb", Some("1c.3g.40gb")),
            ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", Some("1g.10gb+me")),
            ("NVIDIA H100 80GB HBM3", None),
        ];
        for (name, profile) in cases {
            assert_eq!(profile_in(name).as_deref(), profile, "{name}");
        }
    }

    #[test]
    fn without_a_name_the_profile_is_from_what_the_part_has() {
        let (h100, a100) = (Some(81_559 * MEBIBYTE), Some(40_960 * MEBIBYTE));
        let cases = [
            (attributes(1, 1, 9_984), h100, "1g.10gb"),
            (attributes(2, 2, 20_096), h100, "2g.20gb"),
            (attributes(3, 3, 40_448), h100, "3g.40gb"),
            (attributes(7, 7, 81_079), h100, "7g.80gb"),
            (attributes(1, 1, 4_864), a100, "1g.5gb"),
            (attributes(3, 1, 19_968), a100, "1c.3g.20gb"),
        ];
        for (has, total, profile) in cases {
            assert_eq!(profile_of(&has, total).as_deref(), Some(profile), "{has:?}");
        }
        assert_eq!(profile_of(&attributes(1, 1, 9_984), None), None);
        assert_eq!(profile_of(&attributes(0, 0, 0), h100), None);
    }
}
