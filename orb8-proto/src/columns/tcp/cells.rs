//! The text of each cell of a TCP event.

use crate::columns::cells::{self, Cell};
use crate::columns::ends::{Ends, TwoEnded};
use crate::columns::{Format, Tone};
use crate::filter::End;
use crate::units;
use crate::v1::{Protocol, TcpConnection, TcpEvent, TcpEventKind};

type Row<'a> = &'a TcpEvent;

pub(super) fn time(row: Row<'_>, format: &Format) -> Cell {
    cells::clock(row.time_ns, format)
}

pub(super) fn event(row: Row<'_>, _: &Format) -> Cell {
    cells::word(row.kind().word())
}

pub(super) fn event_tone(row: Row<'_>) -> Tone {
    match row.kind() {
        TcpEventKind::Connect | TcpEventKind::Accept => Tone::Good,
        TcpEventKind::Fail | TcpEventKind::Overflow => Tone::Bad,
        // A connection that the kernel gave up.
        TcpEventKind::Close if row.errno > 0 => Tone::Bad,
        TcpEventKind::Retransmit | TcpEventKind::Reset | TcpEventKind::Drop => Tone::Warn,
        TcpEventKind::Close | TcpEventKind::State | TcpEventKind::Unspecified => Tone::Plain,
    }
}

pub(super) fn source(row: Row<'_>, format: &Format) -> Cell {
    end::<TcpEvent>(row, End::Source, format)
}

pub(super) fn destination(row: Row<'_>, format: &Format) -> Cell {
    end::<TcpEvent>(row, End::Destination, format)
}

macro_rules! two_ended {
    ($($type:ident)*) => { $(
        impl TwoEnded for $type {
            fn ends(row: Self::Row<'_>) -> Ends<'_> {
                let (source, destination) = (row.source.as_ref(), row.destination.as_ref());
                Ends::new(row.local(), source, destination, &row.node_name)
            }
        }
    )* };
}

two_ended! { TcpEvent TcpConnection }

/// Formats one end. Listeners have no peer.
pub(super) fn end<S: TwoEnded>(row: S::Row<'_>, end: End, format: &Format) -> Cell {
    let ends = S::ends(row);
    let port = |end| cells::port(ends.get(end));
    ends.place(end, (port(end), port(end.other()), Protocol::Tcp), format)
}

pub(super) fn owner(row: Row<'_>, _: &Format) -> Cell {
    cells::owner(TcpEvent::ends(row).owner()?)
}

pub(super) fn name(row: Row<'_>, _: &Format) -> Cell {
    TcpEvent::ends(row).label()
}

pub(super) fn role(row: Row<'_>, _: &Format) -> Cell {
    cells::word(row.role().word())
}

pub(super) fn state(row: Row<'_>, _: &Format) -> Cell {
    cells::word(row.state().word())
}

pub(super) fn rtt(row: Row<'_>, _: &Format) -> Cell {
    cells::rtt(row.health.as_ref())
}

pub(super) fn retransmits(row: Row<'_>, _: &Format) -> Cell {
    cells::retransmits(row.health.as_ref())
}

pub(super) fn sent(row: Row<'_>, _: &Format) -> Cell {
    Some(units::bytes(row.health.as_ref()?.bytes_sent))
}

pub(super) fn received(row: Row<'_>, _: &Format) -> Cell {
    Some(units::bytes(row.health.as_ref()?.bytes_received))
}

pub(super) fn interface(row: Row<'_>, _: &Format) -> Cell {
    cells::interface(row.interface.as_ref())
}

pub(super) fn container(row: Row<'_>, _: &Format) -> Cell {
    cells::text(&TcpEvent::ends(row).owner()?.container)
}

pub(super) fn node(row: Row<'_>, _: &Format) -> Cell {
    cells::text(&row.node_name)
}

pub(super) fn netns(row: Row<'_>, _: &Format) -> Cell {
    (row.network_namespace > 0).then(|| row.network_namespace.to_string())
}

pub(super) fn cgroup(row: Row<'_>, _: &Format) -> Cell {
    cells::text(&TcpEvent::ends(row).owner()?.cgroup_path)
}
