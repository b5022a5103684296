//! Whether a device is well, by what it and its driver say, and what to do where it is not.

use std::time::Duration;

use super::duration;
use crate::flow::present;
use crate::units;
use crate::v1::{
    GpuDevice, GpuEcc, GpuNvLink, GpuRemappedRows, GpuSample, GpuState, GpuThrottleReason,
    GpuXidAction, GpuXidCount,
};

/// Damaged packets that a link may have had since the driver was loaded: some are usual.
const USUAL_CRC_ERRORS: u64 = 100;

/// How a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is to be done.
    #[default]
    Ok,
    /// It works, and somebody should look.
    Warn,
    /// Something has to be done before it is used.
    Bad,
}

impl Verdict {
    /// Returns its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// Something about a device, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What it is.
    pub what: String,
    /// What to do; empty where nothing is.
    pub remedy: &'static str,
    /// When it last happened, Unix time in nanoseconds; 0 for what is so now, and where that is not told.
    pub last_ns: u64,
}

impl Finding {
    fn new(verdict: Verdict, what: impl Into<String>, remedy: &'static str) -> Self {
        Self { verdict, what: what.into(), remedy, last_ns: 0 }
    }

    /// Says what it is, and of what happened how long ago that was.
    #[must_use]
    pub fn told(&self, now_ns: u64) -> String {
        match now_ns.checked_sub(self.last_ns).filter(|_| self.last_ns > 0) {
            Some(ago) => {
                let ago = units::duration(Duration::from_secs((ago / 1_000_000_000).max(1)));
                format!("{}, {ago} ago", self.what)
            }
            None => self.what.clone(),
        }
    }
}

/// Returns the worst of some findings.
#[must_use]
pub fn verdict(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or_default()
}

/// Returns everything that is found about a device, the worst first.
#[must_use]
pub fn judge(device: &GpuDevice) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(state(device));
    let counts = device.counts.as_ref();
    findings.extend(counts.into_iter().flat_map(|counts| &counts.xids).filter_map(of_xid));
    findings.extend(came_back(device));
    if let Some(sample) = &device.sample {
        findings.extend(sample.remapped_rows.as_ref().into_iter().flat_map(rows));
        findings.extend(sample.ecc.as_ref().and_then(ecc));
        findings.extend(throttle(sample));
        findings.extend(too_hot(sample));
        // A part has its parent's link, and its own time says nothing of the link's.
        if device.part.is_none() {
            findings.extend(pcie(sample));
        }
        findings.extend(sample.nvlink.as_ref().into_iter().flat_map(nvlink));
    }
    // Stable: of two that are as bad, the one that explains more stays first.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    findings
}

/// Returns for how long a device was held back since the agent started, by what loses work.
#[must_use]
pub fn throttled(device: &GpuDevice) -> Duration {
    let throttled = device.counts.iter().flat_map(|counts| &counts.throttled);
    let lost = throttled.filter(|lost| is_loss(lost.reason()));
    lost.map(|lost| duration(lost.time.as_ref())).sum()
}

/// Whether work is lost where a device is held back for this reason.
#[must_use]
pub const fn is_loss(reason: GpuThrottleReason) -> bool {
    use GpuThrottleReason as Reason;
    match reason {
        Reason::Unspecified | Reason::Idle | Reason::ApplicationClocks | Reason::DisplayClocks => {
            false
        }
        Reason::PowerCap
        | Reason::HardwareSlowdown
        | Reason::SyncBoost
        | Reason::SoftwareThermal
        | Reason::HardwareThermal
        | Reason::PowerBrake
        | Reason::BoardLimit
        | Reason::Reliability
        | Reason::Other => true,
    }
}

/// Whether a link is slower or narrower than device and slot can have it, while it is used: an idle one
/// saves power.
#[must_use]
pub fn is_link_degraded(sample: &GpuSample) -> bool {
    let is_used = sample.utilization.is_some_and(|busy| busy > 0.0);
    let is_below = |now: Option<u32>, most: Option<u32>| now.zip(most).is_some_and(|(n, m)| n < m);
    is_used
        && (is_below(sample.pcie_generation, sample.pcie_max_generation)
            || is_below(sample.pcie_width, sample.pcie_max_width))
}

fn state(device: &GpuDevice) -> Option<Finding> {
    let told = |what: &str| match present(&device.state_reason) {
        Some(reason) => format!("{what}: {reason}"),
        None => what.to_owned(),
    };
    match device.state() {
        GpuState::Ok | GpuState::Unspecified => None,
        GpuState::Lost => Some(Finding::new(
            Verdict::Bad,
            told("lost"),
            "drain the node and reboot it; if it is lost again, have the board and its slot looked at",
        )),
        GpuState::Silent => Some(Finding::new(
            Verdict::Warn,
            told("does not answer"),
            "if it lasts, see the kernel's log for the driver (dmesg, NVRM) and reset the device",
        )),
    }
}

/// Returns what errors of one number say of the device; `None` where there were none.
#[must_use]
pub fn of_xid(count: &GpuXidCount) -> Option<Finding> {
    let xid = count.xid.as_ref().filter(|_| count.count > 0)?;
    let (verdict, remedy) = match xid.action() {
        GpuXidAction::None | GpuXidAction::Unspecified => (Verdict::Ok, ""),
        GpuXidAction::RestartPod => {
            (Verdict::Warn, "the program's own fault most often: restart the pod and see its log")
        }
        GpuXidAction::ResetDevice => {
            (Verdict::Bad, "take the pods off the device and reset it (nvidia-smi --gpu-reset)")
        }
        GpuXidAction::Reboot => (Verdict::Bad, "drain the node and reboot it"),
        GpuXidAction::Drain => (Verdict::Bad, "drain the node and have the board looked at"),
    };
    let class = xid.class().word().map(|class| format!(" ({class})")).unwrap_or_default();
    let what = format!("XID {} ×{}{class}: {}", xid.code, units::count(count.count), xid.meaning);
    Some(Finding { last_ns: count.last_ns, ..Finding::new(verdict, what, remedy) })
}

fn came_back(device: &GpuDevice) -> Option<Finding> {
    let lost = device.counts.as_ref()?.lost;
    let is_back = device.state() == GpuState::Ok && lost > 0;
    is_back.then(|| {
        let what =
            format!("was lost ×{} since the agent started, and came back", units::count(lost));
        Finding::new(
            Verdict::Warn,
            what,
            "if it is lost again, have the board and its slot looked at",
        )
    })
}

fn rows(rows: &GpuRemappedRows) -> Vec<Finding> {
    let GpuRemappedRows { correctable: _, uncorrectable, pending, failed } = *rows;
    let mut findings = Vec::new();
    if failed {
        findings.push(Finding::new(
            Verdict::Bad,
            "a row of memory could not be remapped: no spare is left",
            "drain the node and have the board replaced",
        ));
    }
    if pending {
        findings.push(Finding::new(
            Verdict::Warn,
            "a remapped row waits for a reset",
            "reset the device when its pods are done (nvidia-smi --gpu-reset)",
        ));
    }
    if uncorrectable > 0 && !failed && !pending {
        let what =
            format!("rows of memory that spares stand in for: {}", units::count(uncorrectable));
        findings.push(Finding::new(Verdict::Ok, what, ""));
    }
    findings
}

fn ecc(ecc: &GpuEcc) -> Option<Finding> {
    let errors = ecc.uncorrected.filter(|errors| *errors > 0)?;
    let what = format!("memory errors that were not corrected: {}", units::count(errors));
    let remedy =
        "take the pods off the device and reset it; if it happens again, have the board replaced";
    Some(Finding::new(Verdict::Bad, what, remedy))
}

/// What its power limit costs is what somebody chose; heat and bad power are nobody's choice.
fn throttle(sample: &GpuSample) -> Vec<Finding> {
    use GpuThrottleReason as Reason;
    let reasons: Vec<Reason> =
        sample.throttle.iter().flat_map(|throttle| throttle.reasons()).collect();
    let found = |wanted: &[Reason], remedy| {
        let found: Vec<&str> =
            reasons.iter().filter(|it| wanted.contains(it)).filter_map(|it| it.word()).collect();
        let what = || format!("is held back: {}", found.join(", "));
        (!found.is_empty()).then(|| Finding::new(Verdict::Warn, what(), remedy))
    };
    let heat = found(
        &[Reason::HardwareThermal, Reason::SoftwareThermal],
        "see to its cooling: fans, air flow, dust, neighbours",
    );
    let power = found(
        &[Reason::PowerBrake, Reason::HardwareSlowdown],
        "see to the machine's power supply and to the device's cooling",
    );
    heat.into_iter().chain(power).collect()
}

fn too_hot(sample: &GpuSample) -> Option<Finding> {
    let (now, slow) = sample.temperature.zip(sample.slowdown_temperature)?;
    let what = || format!("{now:.0} °C, and it slows down at {slow:.0} °C");
    (now >= slow).then(|| Finding::new(Verdict::Warn, what(), "see to its cooling"))
}

fn pcie(sample: &GpuSample) -> Option<Finding> {
    let link = |generation: Option<u32>, width: Option<u32>| match (generation, width) {
        (Some(generation), Some(width)) => format!("gen{generation} x{width}"),
        (Some(generation), None) => format!("gen{generation}"),
        (None, width) => format!("x{}", width.unwrap_or_default()),
    };
    let what = || {
        format!(
            "PCIe is {} under load, and can be {}",
            link(sample.pcie_generation, sample.pcie_width),
            link(sample.pcie_max_generation, sample.pcie_max_width)
        )
    };
    let remedy = "reseat the board, and see to its slot and riser";
    is_link_degraded(sample).then(|| Finding::new(Verdict::Warn, what(), remedy))
}

fn nvlink(nvlink: &GpuNvLink) -> Vec<Finding> {
    let mut findings = Vec::new();
    let down = nvlink.links.saturating_sub(nvlink.active);
    // A board that has no bridge, or no peer, has none up.
    if down > 0 && nvlink.active > 0 {
        let what = format!("NVLinks that are down: {down} of {}", nvlink.links);
        let remedy = "see to the fabric manager and its log; have bridges and boards reseated";
        findings.push(Finding::new(Verdict::Warn, what, remedy));
    }
    let recoveries = nvlink.recoveries.unwrap_or_default();
    let damaged = nvlink.crc_errors.unwrap_or_default();
    if recoveries > 0 || damaged > USUAL_CRC_ERRORS {
        let what = format!(
            "NVLink had {} damaged packets and was trained again ×{}",
            units::count(damaged),
            units::count(recoveries)
        );
        let remedy = "if it goes on, have bridges and boards reseated";
        findings.push(Finding::new(Verdict::Warn, what, remedy));
    }
    findings
}

#[cfg(test)]
mod tests;
