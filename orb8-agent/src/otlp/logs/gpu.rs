//! What happens to accelerators, and what is done with them.

use std::time::Duration;

use super::{Record, Severity, ends};
use crate::event::UnixNanos;
use crate::gpu::event::{AllocationKind, Process, Xid, XidAction};
use crate::gpu::sample::ThrottleReason;
use crate::gpu::share::Owner;
use crate::gpu::{DeviceId, GpuEvent, GpuEventKind as Kind};
use crate::otlp::attributes::Attributes;
use crate::otlp::names;

/// Returns the record of an event.
pub(in crate::otlp) fn accelerator(time: UnixNanos, event: &GpuEvent) -> Record {
    let GpuEvent { time: _, device, index, process, owners, kind } = event;
    let mut attributes = Attributes::default();
    attributes.text(names::GPU_ID, device.as_ref().map(DeviceId::as_str));
    if let Some(index) = index {
        attributes.number(names::GPU_INDEX, *index);
    }
    if let Some(process) = process {
        attributes.number(names::PROCESS_PID, process.pid);
        attributes.text(names::PROCESS_NAME, &*process.name);
    }
    owned(owners, &mut attributes);
    let Told { name, severity, words } = of_kind(kind, &mut attributes);
    let body = match subject(device.as_ref(), *index, process.as_ref(), owners) {
        subject if subject.is_empty() => words,
        subject => format!("{subject}: {words}"),
    };
    Record { time, name, severity, body, attributes }
}

/// What only this kind of event has.
struct Told {
    name: &'static str,
    severity: Severity,
    words: String,
}

impl Told {
    fn new(name: &'static str, severity: Severity, words: impl Into<String>) -> Self {
        Self { name, severity, words: words.into() }
    }
}

/// Tells whose it is: of one owner everything, of several their names.
fn owned(owners: &[Owner], to: &mut Attributes) {
    if let [Owner { namespace, pod, container, workload }] = owners {
        to.text(names::K8S_NAMESPACE_NAME, namespace.as_deref());
        to.text(names::K8S_POD_NAME, pod.as_deref());
        to.text(names::K8S_CONTAINER_NAME, container.as_deref().filter(|_| pod.is_some()));
        if let Some(workload) = workload {
            ends::owner(workload, to);
        }
    } else {
        to.list(names::GPU_OWNERS, owners.iter().filter_map(owner_name));
    }
}

fn owner_name(owner: &Owner) -> Option<String> {
    let Owner { namespace, pod, container, workload } = owner;
    if let (Some(namespace), Some(pod)) = (namespace, pod) {
        return Some(format!("{namespace}/{pod}"));
    }
    let unit = || workload.as_ref().and_then(|workload| workload.unit.clone());
    container.clone().or_else(unit)
}

/// What it is about, for people.
fn subject(
    device: Option<&DeviceId>,
    index: Option<u32>,
    process: Option<&Process>,
    owners: &[Owner],
) -> String {
    let index = || index.map(|index| format!("GPU {index}"));
    let device = index().or_else(|| device.map(|id| format!("GPU {id}")));
    let process = process.map(|process| format!("{}[{}]", process.name, process.pid));
    let mut named = owners.iter().filter_map(owner_name);
    let owner = named.next().map(|first| match named.count() {
        0 => first,
        more => format!("{first} and {more} more"),
    });
    let parts: Vec<String> = [device, owner, process].into_iter().flatten().collect();
    parts.join(", ")
}

fn phase(began: bool, to: &mut Attributes) -> &'static str {
    let word = if began { "began" } else { "ended" };
    to.text(names::GPU_PHASE, word);
    word
}

/// As bad as that is while it lasts.
const fn lasting(began: bool) -> Severity {
    if began { Severity::Warn } else { Severity::Info }
}

fn of_kind(kind: &Kind, to: &mut Attributes) -> Told {
    match *kind {
        Kind::Xid(ref of) => xid(of, to),
        Kind::Throttle { began, ref reasons } => throttle(began, reasons, to),
        Kind::EccUncorrected { count } => {
            to.number(names::GPU_COUNT, count);
            let words = format!("{count} errors of its memory were not mended");
            Told::new("orb8.gpu.ecc", Severity::Error, words)
        }
        Kind::RowRemap { is_pending, has_failed } => row_remap(is_pending, has_failed),
        Kind::Lost { ref reason } => {
            to.text(names::GPU_REASON, reason.as_str());
            Told::new("orb8.gpu.lost_device", Severity::Error, format!("it is lost: {reason}"))
        }
        Kind::Appeared => Told::new("orb8.gpu.appeared", Severity::Info, "it appeared"),
        Kind::Removed => Told::new("orb8.gpu.removed", Severity::Warn, "it was taken away"),
        Kind::Idle { began, lasted } => idle(began, lasted, to),
        Kind::Unallocated { began } => unallocated(began, to),
        Kind::Allocated { bytes, how } => allocated(bytes, how, to),
        Kind::AllocationFailed { bytes, error } => refused(bytes, error, to),
        Kind::Launches { rate, graph_rate, is_sampled } => {
            launches([rate, graph_rate], is_sampled, to)
        }
        Kind::ModuleLoaded { took } => {
            lasted(took, to);
            let words = format!("loaded a module in {:.3} s", took.as_secs_f64());
            Told::new("orb8.gpu.module", Severity::Info, words)
        }
        Kind::Leak { outstanding, growth } => leak(outstanding, growth, to),
        Kind::Sampling { began, what, part } => sampling(began, what, part, to),
        Kind::Collectives { communicator, rank, calls, bytes } => {
            collectives(Of { communicator, rank }, calls, bytes, to)
        }
        Kind::CommunicatorInit { communicator, rank, ranks, took } => {
            joined(Of { communicator, rank: Some(rank) }, ranks, took, to)
        }
        Kind::CommunicatorAbort { communicator, rank } => {
            let words =
                format!("{} gave its communicator up", (Of { communicator, rank }).tell(to));
            Told::new("orb8.gpu.communicator_abort", Severity::Error, words)
        }
        Kind::Straggler { communicator, rank, behind, is_missing } => {
            straggler(Of { communicator, rank: Some(rank) }, behind, is_missing, to)
        }
    }
}

fn xid(xid: &Xid, to: &mut Attributes) -> Told {
    let Xid { code, class, action, meaning } = *xid;
    to.number(names::GPU_XID, code);
    to.text(names::GPU_XID_CLASS, class.word());
    to.text(names::GPU_XID_ACTION, action.word());
    let severity = match action {
        XidAction::None => Severity::Info,
        XidAction::RestartPod => Severity::Warn,
        XidAction::ResetDevice | XidAction::Reboot | XidAction::Drain => Severity::Error,
    };
    let words = format!("XID {code} ({meaning}), what to do: {}", action.word());
    Told::new("orb8.gpu.xid", severity, words)
}

fn throttle(began: bool, reasons: &[ThrottleReason], to: &mut Attributes) -> Told {
    let reasons: Vec<&str> = reasons.iter().map(|reason| reason.word()).collect();
    to.text(names::GPU_REASON, reasons.join(",").as_str());
    let words = format!("throttling {}: {}", phase(began, to), reasons.join(", "));
    Told::new("orb8.gpu.throttle", lasting(began), words)
}

fn row_remap(is_pending: bool, has_failed: bool) -> Told {
    let (severity, words) = match (has_failed, is_pending) {
        (true, _) => (Severity::Error, "a row of its memory is damaged and no spare is left"),
        (false, true) => (Severity::Warn, "a row of its memory waits for a reset to be remapped"),
        (false, false) => (Severity::Info, "a row of its memory was remapped"),
    };
    Told::new("orb8.gpu.row_remap", severity, words)
}

fn idle(began: bool, time: Duration, to: &mut Attributes) -> Told {
    lasted(time, to);
    phase(began, to);
    let words = match began {
        true => format!("held and not used for {} s", time.as_secs()),
        false => format!("not idle any more after {} s", time.as_secs()),
    };
    Told::new("orb8.gpu.idle", lasting(began), words)
}

fn unallocated(began: bool, to: &mut Attributes) -> Told {
    phase(began, to);
    let words = match began {
        true => "used and not allocated",
        false => "not used without being allocated any more",
    };
    Told::new("orb8.gpu.unallocated", lasting(began), words)
}

fn allocated(bytes: u64, how: AllocationKind, to: &mut Attributes) -> Told {
    to.number(names::GPU_BYTES, bytes);
    let words = format!("took {bytes} bytes ({})", how.word());
    Told::new("orb8.gpu.allocated", Severity::Info, words)
}

fn refused(bytes: u64, error: u32, to: &mut Attributes) -> Told {
    to.number(names::GPU_BYTES, bytes);
    to.text(names::ERROR_TYPE, error.to_string().as_str());
    let words = format!("was refused {bytes} bytes: CUDA error {error}");
    Told::new("orb8.gpu.allocation_failed", Severity::Warn, words)
}

fn launches([kernels, graphs]: [f64; 2], is_sampled: bool, to: &mut Attributes) -> Told {
    to.number(names::GPU_LAUNCHES, whole(kernels));
    to.number(names::GPU_GRAPH_LAUNCHES, whole(graphs));
    to.flag(names::GPU_SAMPLED, is_sampled);
    let words = format!("{kernels:.0} kernels and {graphs:.0} graphs a second");
    Told::new("orb8.gpu.launches", Severity::Info, words)
}

fn leak(outstanding: u64, growth: f64, to: &mut Attributes) -> Told {
    to.number(names::GPU_BYTES, outstanding);
    to.number(names::GPU_GROWTH, whole(growth));
    let words = format!("has {outstanding} bytes, and {growth:.0} more each second");
    Told::new("orb8.gpu.leak", Severity::Warn, words)
}

fn sampling(began: bool, what: &str, part: f64, to: &mut Attributes) -> Told {
    to.text(names::GPU_REASON, what);
    phase(began, to);
    let words = match began {
        true => format!("{what} are watched {:.1} % of the time", part * 100.0),
        false => format!("{what} are watched all the time again"),
    };
    Told::new("orb8.gpu.sampling", Severity::Info, words)
}

/// A rank of a communicator.
#[derive(Clone, Copy)]
struct Of {
    communicator: u64,
    rank: Option<u32>,
}

impl Of {
    fn tell(self, to: &mut Attributes) -> String {
        let Self { communicator, rank } = self;
        if communicator > 0 {
            // Whole, as it is compared with that of other nodes.
            to.text(names::NCCL_COMMUNICATOR, format!("{communicator:016x}").as_str());
        }
        let Some(rank) = rank else { return "a rank".to_owned() };
        to.number(names::NCCL_RANK, rank);
        format!("rank {rank}")
    }
}

fn collectives(of: Of, calls: u64, bytes: u64, to: &mut Attributes) -> Told {
    to.number(names::GPU_COUNT, calls);
    to.number(names::GPU_BYTES, bytes);
    let words = format!("{} called {calls} collectives of {bytes} bytes", of.tell(to));
    Told::new("orb8.gpu.collectives", Severity::Info, words)
}

fn joined(of: Of, ranks: u32, took: Duration, to: &mut Attributes) -> Told {
    to.number(names::NCCL_RANKS, ranks);
    lasted(took, to);
    let words = format!("{} of {ranks} joined in {:.3} s", of.tell(to), took.as_secs_f64());
    Told::new("orb8.gpu.communicator_init", Severity::Info, words)
}

fn straggler(of: Of, behind: u64, is_missing: bool, to: &mut Attributes) -> Told {
    let rank = of.tell(to);
    to.number(names::GPU_COUNT, behind);
    let (severity, words) = match is_missing {
        true => (Severity::Error, format!("{rank} does not answer")),
        false => (Severity::Warn, format!("{rank} is {behind} collectives behind")),
    };
    Told::new("orb8.gpu.straggler", severity, words)
}

fn lasted(time: Duration, to: &mut Attributes) {
    to.seconds(names::GPU_DURATION, Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
}

/// A rate as a whole number; `as` saturates.
const fn whole(rate: f64) -> u64 {
    rate as u64
}
