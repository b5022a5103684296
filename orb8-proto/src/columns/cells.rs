//! The text of cells that several subjects have.

use std::time::Duration;

use jiff::Timestamp;

use super::Format;
use crate::flow::present;
use crate::v1::{Controller, Endpoint, Interface, Runtime, TcpHealth, Workload};
use crate::{kinds, units};

pub(super) type Cell = Option<String>;

/// The owner where no cgroup but the root has the socket: the kernel, or a process outside every
/// container and unit.
pub const HOST: &str = "host";

/// Names an owner by the best name it has: `namespace/pod`, `docker:container`, a systemd unit,
/// a process, its cgroup, or [`HOST`].
#[must_use]
pub fn owner(workload: &Workload) -> Option<String> {
    if let Some(pod) = present(&workload.pod) {
        return Some(match present(&workload.namespace) {
            Some(namespace) => format!("{namespace}/{pod}"),
            None => pod.to_owned(),
        });
    }
    if let Some(container) = present(&workload.container) {
        return Some(match workload.runtime() {
            Runtime::Unspecified => container.to_owned(),
            runtime => format!("{}:{container}", runtime.word().unwrap_or_default()),
        });
    }
    let path = match workload.cgroup_path.as_str() {
        "/" => HOST,
        path => path,
    };
    [&workload.unit, &workload.process, path].into_iter().find_map(present).map(str::to_owned)
}

/// Names a controller as kubectl takes it: `deploy/web`.
pub(super) fn controller(controller: Option<&Controller>) -> Cell {
    let Controller { kind, name } = controller?;
    Some(format!("{}/{name}", kinds::word(kind)))
}

/// Returns the port of an end that has one: of TCP and UDP, all but listeners' peers.
pub(super) fn port(endpoint: Option<&Endpoint>) -> Option<u16> {
    u16::try_from(endpoint?.port).ok().filter(|port| *port > 0)
}

pub(super) fn text(text: &str) -> Cell {
    present(text).map(str::to_owned)
}

pub(super) fn word(word: Option<&'static str>) -> Cell {
    word.map(str::to_owned)
}

pub(super) fn interface(interface: Option<&Interface>) -> Cell {
    let interface = interface?;
    match (interface.name.as_str(), interface.index) {
        ("", 0) => None,
        ("", index) => Some(format!("#{index}")),
        (name, _) => Some(name.to_owned()),
    }
}

/// A count of what should not be: nothing where there is none.
pub(super) fn some(count: u64) -> Cell {
    (count > 0).then(|| units::packets(count))
}

pub(super) fn state(health: Option<&TcpHealth>) -> Cell {
    word(health?.state().word())
}

pub(super) fn rtt(health: Option<&TcpHealth>) -> Cell {
    health?.rtt_ns.map(units::latency)
}

pub(super) fn retransmits(health: Option<&TcpHealth>) -> Cell {
    Some(units::packets(health?.retransmits))
}

/// How long something that began lasted, or lasts.
pub(super) fn span(from_ns: u64, to_ns: u64) -> Cell {
    let lasted = to_ns.checked_sub(from_ns)?;
    (from_ns > 0).then(|| match lasted {
        ..60_000_000_000 => units::latency(lasted),
        _ => units::duration(Duration::from_nanos(lasted)),
    })
}

pub(super) fn clock(unix_ns: u64, format: &Format) -> Cell {
    if unix_ns == 0 {
        return None;
    }
    let time = Timestamp::from_nanosecond(i128::from(unix_ns)).ok()?;
    Some(time.to_zoned(format.time_zone.clone()).strftime("%H:%M:%S%.3f").to_string())
}

/// In the order of a connection's life.
pub(super) fn tcp_flags(flags: u32) -> String {
    const LETTERS: [(u32, char); 8] = [
        (0x02, 'S'),
        (0x10, 'A'),
        (0x08, 'P'),
        (0x01, 'F'),
        (0x04, 'R'),
        (0x20, 'U'),
        (0x40, 'E'),
        (0x80, 'C'),
    ];
    LETTERS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| *letter).collect()
}
