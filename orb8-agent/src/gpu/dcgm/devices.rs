//! From rows to devices: each device once, however many series tell of it.
//!
//! A device has one series of a metric, or one for each pod that shares it, with the same value in
//! all, or both with values of the pods' own (`vgpu`). With MIG there is one for each instance, which
//! repeats what is the whole device's. What tells of pods is taken apart: it says who holds what.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::fields::{Field, Whose, is_blank};
use super::text::Row;
use crate::event::UnixNanos;
use crate::gpu::checked::Checked;
use crate::gpu::device::{Device, DeviceId, Part, PciAddress, SourceKind, Vendor};
use crate::gpu::holding::Holding;
use crate::gpu::reading::{DeviceState, Seen};
use crate::gpu::sample::Sample;

/// More than any machine has: what is beyond is somebody's mistake.
const MOST_DEVICES: usize = 256;
const MOST_PARTS: usize = 64;
const MOST_HOLDINGS: usize = 4096;

/// The last error of a device, which stays until the next one.
const XID: &str = "DCGM_FI_DEV_XID_ERRORS";

/// Devices as they are put together.
#[derive(Debug, Default)]
pub(super) struct Devices {
    by_uuid: BTreeMap<(u32, String), Whole>,
    holdings: BTreeSet<Holding>,
}

/// What the rows told.
pub(super) struct Told {
    /// Devices, parts after what they are a part of.
    pub(super) devices: Vec<Seen>,
    /// Who holds them.
    pub(super) holdings: Vec<Holding>,
    /// The last error of each device that tells, 0 for none.
    pub(super) xids: Vec<(DeviceId, Option<u32>, u32)>,
}

#[derive(Debug)]
struct Whole {
    device: Device,
    values: Values,
    parts: BTreeMap<u32, (Device, Values)>,
}

/// The series of one device, by metric.
#[derive(Debug, Default)]
struct Values(HashMap<String, Value>);

#[derive(Debug, Default)]
struct Value {
    /// Of the series without a pod.
    plain: Option<f64>,
    /// Of those with one.
    repeated: Option<f64>,
    /// Whether they tell different things, so that none of them is the device's.
    differs: bool,
}

impl Devices {
    /// Takes in a row; one that is of something else (a switch, the exporter itself) is left alone.
    pub(super) fn take(&mut self, row: &Row<'_>, checked: &mut Checked) {
        let Some(uuid) = row.label("UUID") else { return };
        let key = (number(row, "gpu").unwrap_or(u32::MAX), uuid.to_owned());
        let is_full = self.by_uuid.len() == MOST_DEVICES && !self.by_uuid.contains_key(&key);
        if is_full {
            return checked.leave_out();
        }
        let whole = self.by_uuid.entry(key).or_insert_with(|| Whole::new(row, uuid));
        let held = match number(row, "GPU_I_ID") {
            Some(instance) => match whole.part(instance, row) {
                Some((device, _)) => device.clone(),
                None => return checked.leave_out(),
            },
            None => whole.device.clone(),
        };
        whole.put(row);
        let Some(holding) = holding(row, &held) else { return };
        if self.holdings.len() < MOST_HOLDINGS {
            self.holdings.insert(holding);
        } else if !self.holdings.contains(&holding) {
            checked.leave_out();
        }
    }

    /// Returns the devices as they were at a time.
    pub(super) fn finish(self, time: UnixNanos, checked: &mut Checked) -> Told {
        let mut devices = Vec::with_capacity(self.by_uuid.len());
        let mut xids = Vec::new();
        for whole in self.by_uuid.into_values() {
            let id = &whole.device.id;
            if let Some(code) = whole.values.get(XID).filter(|value| !is_blank(*value)) {
                // Within the bounds it fits.
                let code = checked.within(code, 0.0, f64::from(u16::MAX)).map(|code| code as u32);
                xids.extend(code.map(|code| (id.clone(), whole.device.index, code)));
            }
            devices.push(seen(whole.device, &whole.values, time, checked));
            let parts = whole.parts.into_values();
            devices.extend(parts.map(|(device, values)| seen(device, &values, time, checked)));
        }
        Told { devices, holdings: shared(self.holdings), xids }
    }
}

impl Whole {
    fn new(row: &Row<'_>, uuid: &str) -> Self {
        let minor = row.label("device").and_then(|name| name.strip_prefix("nvidia")?.parse().ok());
        let text = |name: &str| row.label(name).map(str::to_owned);
        let device = Device {
            id: DeviceId::new(uuid),
            vendor: Vendor::Nvidia,
            source: SourceKind::Dcgm,
            index: number(row, "gpu"),
            minor,
            model: text("modelName").unwrap_or_default(),
            architecture: None,
            pci: row.label("pci_bus_id").and_then(PciAddress::parse),
            serial: text("DCGM_FI_DEV_SERIAL"),
            driver: text("DCGM_FI_DRIVER_VERSION"),
            part: None,
            is_divided: false,
        };
        Self { device, values: Values::default(), parts: BTreeMap::new() }
    }

    fn part(&mut self, instance: u32, row: &Row<'_>) -> Option<&mut (Device, Values)> {
        if self.parts.len() == MOST_PARTS && !self.parts.contains_key(&instance) {
            return None;
        }
        self.device.is_divided = true;
        let whole = &self.device;
        Some(self.parts.entry(instance).or_insert_with(|| {
            let part = Part {
                parent: whole.id.clone(),
                gpu_instance: instance,
                compute_instance: None,
                profile: row.label("GPU_I_PROFILE").unwrap_or_default().to_owned(),
            };
            let id = DeviceId::new(format!("{}/gi{instance}", whole.id));
            let index = Some(instance);
            let device = Device { id, index, part: Some(part), is_divided: false, ..whole.clone() };
            (device, Values::default())
        }))
    }

    /// Puts a value with the device or with its part.
    fn put(&mut self, row: &Row<'_>) {
        let whose = Field::by_name(row.name).map(|field| field.whose);
        let whose = whose.or((row.name == XID).then_some(Whose::Whole));
        let Some(whose) = whose else { return };
        let is_of_pod = pod(row).is_some();
        let part = number(row, "GPU_I_ID");
        match part.and_then(|instance| self.parts.get_mut(&instance)) {
            Some((_, values)) if whose == Whose::Either => values.put(row, is_of_pod),
            Some(_) => self.values.put(row, true),
            None => self.values.put(row, is_of_pod),
        }
    }
}

impl Values {
    fn put(&mut self, row: &Row<'_>, is_repeated: bool) {
        let value = match self.0.get_mut(row.name) {
            Some(value) => value,
            None => self.0.entry(row.name.to_owned()).or_default(),
        };
        if !is_repeated {
            value.plain.get_or_insert(row.value);
        } else if let Some(known) = value.repeated {
            value.differs |= known.to_bits() != row.value.to_bits();
        } else {
            value.repeated = Some(row.value);
        }
    }

    fn get(&self, name: &str) -> Option<f64> {
        let value = self.0.get(name)?;
        value.plain.or(value.repeated.filter(|_| !value.differs))
    }
}

fn seen(device: Device, values: &Values, time: UnixNanos, checked: &mut Checked) -> Seen {
    let mut sample = Sample { time, ..Sample::default() };
    let mut names: Vec<_> = values.0.keys().collect();
    // Two fields may have one place; which of them is there must not be chance.
    names.sort_unstable();
    for name in names {
        let (Some(field), Some(value)) = (Field::by_name(name), values.get(name)) else { continue };
        field.put(value, &mut sample, checked);
    }
    let memory = &mut sample.memory;
    if let (None, Some(used), Some(reserved), Some(free)) =
        (memory.total, memory.used, memory.reserved, memory.free)
    {
        memory.total = Some(used + reserved + free);
    }
    Seen { device, state: DeviceState::Sampled(Box::new(sample)) }
}

/// Returns who holds a device, where the row has a pod.
fn holding(row: &Row<'_>, device: &Device) -> Option<Holding> {
    let (namespace, pod) = pod(row)?;
    let container =
        first(row, &["exported_container", "container", "container_name"]).unwrap_or_default();
    let claim = row
        .label("dra_claim_name")
        .map(|claim| format!("{}/{claim}", row.label("dra_claim_namespace").unwrap_or(namespace)));
    let resource = match (row.label("dra_driver_name"), &device.part) {
        (Some(driver), _) => driver.to_owned(),
        (None, Some(part)) => format!("nvidia.com/mig-{}", part.profile),
        (None, None) => "nvidia.com/gpu".to_owned(),
    };
    Some(Holding {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        resource,
        device: Some(device.id.clone()),
        given_as: row.label("dra_device_name").unwrap_or(device.id.as_str()).to_owned(),
        is_shared: row.label("vgpu").is_some(),
        claim,
    })
}

/// Namespace and name. Where a scrape renamed the pod's labels, `pod` is the exporter's own.
fn pod<'a>(row: &'a Row<'_>) -> Option<(&'a str, &'a str)> {
    let pod = first(row, &["exported_pod", "pod", "pod_name"])?;
    let namespace = first(row, &["exported_namespace", "namespace", "pod_namespace"])?;
    Some((namespace, pod))
}

/// Says of each device that several containers hold that it is shared, and tells each holder once.
fn shared(holdings: BTreeSet<Holding>) -> Vec<Holding> {
    let mut holders: BTreeMap<DeviceId, BTreeSet<(String, String, String)>> = BTreeMap::new();
    let mut unique: BTreeMap<_, Holding> = BTreeMap::new();
    for holding in holdings {
        let who = (holding.namespace.clone(), holding.pod.clone(), holding.container.clone());
        let Some(device) = holding.device.clone() else { continue };
        holders.entry(device.clone()).or_default().insert(who.clone());
        let known = unique.entry((device, who)).or_insert_with(|| holding.clone());
        known.is_shared |= holding.is_shared;
        known.claim = known.claim.take().or(holding.claim);
    }
    let is_shared = |holding: &Holding| {
        let device = holding.device.as_ref().and_then(|device| holders.get(device));
        device.is_some_and(|holders| holders.len() > 1)
    };
    unique
        .into_values()
        .map(|holding| Holding { is_shared: holding.is_shared || is_shared(&holding), ..holding })
        .collect()
}

fn first<'a>(row: &'a Row<'_>, labels: &[&str]) -> Option<&'a str> {
    labels.iter().find_map(|label| row.label(label))
}

fn number(row: &Row<'_>, label: &str) -> Option<u32> {
    row.label(label)?.parse().ok()
}
