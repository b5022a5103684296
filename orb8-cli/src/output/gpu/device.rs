//! Devices, with everything that is read of them.

use orb8_proto::gpu::Places;
use orb8_proto::gpu::health::{Finding, judge, throttled, verdict};
use orb8_proto::v1::{GpuCounts, GpuDevice, GpuSample, GpuXidCount};

use super::sample::{
    EccObject, NvLinkObject, RowsObject, SampleObject, ThrottleObject, ThrottledObject,
};
use super::{PartObject, ShareObject, XidObject, objects, sparse, text, timestamp};

sparse! {
    /// A device, or a part of one.
    pub(crate) struct DeviceObject<'a> {
        r#type: &'static str,
        gpu: String,
        id: &'a str,
        vendor: &'static str,
        source: &'a str,
        index: u32,
        minor: u32,
        model: &'a str,
        architecture: &'a str,
        pci_address: &'a str,
        serial: &'a str,
        driver_version: &'a str,
        part: PartObject<'a>,
        divided: bool,
        state: &'static str,
        state_reason: &'a str,
        lost_since: String,
        sample: SampleObject,
        shares: Vec<ShareObject<'a>>,
        unattributed_memory_bytes: u64,
        unattributed_utilization: f64,
        counts: CountsObject<'a>,
    }

    /// Whether a device is well.
    pub(crate) struct HealthObject<'a> {
        r#type: &'static str,
        gpu: String,
        id: &'a str,
        model: &'a str,
        part: PartObject<'a>,
        verdict: &'static str,
        findings: Vec<FindingObject>,
        state: &'static str,
        state_reason: &'a str,
        lost_since: String,
        throttle: ThrottleObject,
        throttled_ns: u64,
        temperature: f64,
        slowdown_temperature: f64,
        ecc: EccObject,
        remapped_rows: RowsObject,
        pcie_generation: u32,
        pcie_width: u32,
        pcie_max_generation: u32,
        pcie_max_width: u32,
        pcie_replays: u64,
        nvlink: NvLinkObject,
        counts: CountsObject<'a>,
    }

    struct FindingObject {
        verdict: &'static str,
        what: String,
        remedy: &'static str,
        last: String,
    }

    struct CountsObject<'a> {
        xids: Vec<XidObject<'a>>,
        last_xid: u32,
        last_xid_time: String,
        throttled: Vec<ThrottledObject>,
        energy_joules: f64,
        lost: u64,
        silent: u64,
    }
}

impl<'a> DeviceObject<'a> {
    pub(crate) fn new(device: &'a GpuDevice, places: &Places<'_>) -> Self {
        let GpuDevice {
            id,
            vendor: _,
            source,
            index,
            minor,
            model,
            architecture,
            pci_address,
            serial,
            driver_version,
            part,
            divided,
            state: _,
            state_reason,
            lost_since_ns,
            sample,
            shares,
            unattributed_memory_bytes,
            unattributed_utilization,
            counts,
        } = device;
        Self {
            r#type: Some("gpu_device"),
            gpu: Some(places.label(id)),
            id: text(id),
            vendor: device.vendor().word(),
            source: text(source),
            index: *index,
            minor: *minor,
            model: text(model),
            architecture: text(architecture),
            pci_address: text(pci_address),
            serial: text(serial),
            driver_version: text(driver_version),
            part: part.as_ref().map(PartObject::new),
            divided: Some(*divided),
            state: device.state().word(),
            state_reason: text(state_reason),
            lost_since: timestamp(*lost_since_ns),
            sample: sample.as_ref().map(SampleObject::new),
            shares: objects(shares, |share| ShareObject {
                // It is within its device.
                r#type: None,
                gpu: None,
                model: None,
                profile: None,
                ..ShareObject::new(device, Some(share), places)
            }),
            unattributed_memory_bytes: *unattributed_memory_bytes,
            unattributed_utilization: *unattributed_utilization,
            counts: counts.as_ref().map(CountsObject::new),
        }
    }
}

impl<'a> HealthObject<'a> {
    pub(crate) fn new(device: &'a GpuDevice, places: &Places<'_>) -> Self {
        let none = GpuSample::default();
        let sample = device.sample.as_ref().unwrap_or(&none);
        let findings = judge(device);
        let held = u64::try_from(throttled(device).as_nanos()).unwrap_or(u64::MAX);
        Self {
            r#type: Some("gpu_health"),
            gpu: Some(places.label(&device.id)),
            id: text(&device.id),
            model: text(&device.model),
            part: device.part.as_ref().map(PartObject::new),
            verdict: Some(verdict(&findings).word()),
            findings: Some(findings.into_iter().map(FindingObject::new).collect()),
            state: device.state().word(),
            state_reason: text(&device.state_reason),
            lost_since: timestamp(device.lost_since_ns),
            throttle: sample.throttle.as_ref().map(ThrottleObject::new),
            throttled_ns: Some(held),
            temperature: sample.temperature,
            slowdown_temperature: sample.slowdown_temperature,
            ecc: sample.ecc.as_ref().map(EccObject::new),
            remapped_rows: sample.remapped_rows.as_ref().map(RowsObject::new),
            pcie_generation: sample.pcie_generation,
            pcie_width: sample.pcie_width,
            pcie_max_generation: sample.pcie_max_generation,
            pcie_max_width: sample.pcie_max_width,
            pcie_replays: sample.pcie_replays,
            nvlink: sample.nvlink.as_ref().map(NvLinkObject::new),
            counts: device.counts.as_ref().map(CountsObject::new),
        }
    }
}

impl FindingObject {
    fn new(finding: Finding) -> Self {
        let Finding { verdict, what, remedy, last_ns } = finding;
        Self {
            verdict: Some(verdict.word()),
            what: Some(what),
            remedy: text(remedy),
            last: timestamp(last_ns),
        }
    }
}

impl<'a> CountsObject<'a> {
    fn new(counts: &'a GpuCounts) -> Self {
        let GpuCounts { xids, throttled, energy_joules, lost, silent, last_xid, last_xid_ns } =
            counts;
        let xid = |of: &'a GpuXidCount| {
            let GpuXidCount { xid, count, last_ns } = of;
            let last = timestamp(*last_ns);
            Some(XidObject { count: Some(*count), last, ..XidObject::new(xid.as_ref()?) })
        };
        let xids: Vec<_> = xids.iter().filter_map(xid).collect();
        Self {
            xids: (!xids.is_empty()).then_some(xids),
            last_xid: *last_xid,
            last_xid_time: timestamp(*last_xid_ns),
            throttled: objects(throttled, ThrottledObject::new),
            energy_joules: Some(*energy_joules),
            lost: Some(*lost),
            silent: Some(*silent),
        }
    }
}
