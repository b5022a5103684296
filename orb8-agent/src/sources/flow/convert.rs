//! Kernel records → [`Event`]s.

use orb8_common::flow::{
    ClosedSocket, DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, FlowStats, HOOK_SOCKET, MOMENT_FIN,
    MOMENT_NEW, MOMENT_OVERFLOW, MOMENT_RST, Moment, PRESSURE, SocketBody, SocketCounters,
    fold_tcp_flags,
};
use zerocopy::FromBytes;

use crate::{
    clock::Clock,
    ebpf::DrainedPart,
    event::{Event, FlowSample, Payload, SampleKind, UnixNanos},
};

/// Turns records into events, and totals of sockets into what was added to them.
pub struct Converter {
    clock: Clock,
    sockets: Sockets,
    undecodable: u64,
}

/// What is known of each socket's totals, by cookie.
type Sockets = hashbrown::HashMap<u64, Known, foldhash::fast::RandomState>;

struct Known {
    egress: SocketCounters,
    ingress: SocketCounters,
    /// Drains since the socket was closed: a packet that was counted while it closed may have its
    /// totals published once more, within microseconds.
    closed_for: Option<u8>,
}

/// Drains that a closed socket's totals are remembered for.
const REMEMBERED: u8 = 2;

impl Converter {
    /// Knows no socket yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, sockets: Sockets::default(), undecodable: 0 }
    }

    pub(super) fn now(&self) -> UnixNanos {
        self.clock.now()
    }

    /// Records that were not what they should be, since start.
    #[must_use]
    pub const fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Converts a ring record. True when it asks for a drain.
    pub fn ring(&mut self, record: &[u8], batch: &mut Vec<Event>) -> bool {
        if let Ok(moment) = Moment::read_from_bytes(record) {
            match self.moment(&moment) {
                Some(event) => batch.push(event),
                None => self.undecodable += 1,
            }
        } else if let Ok(body) = ClosedSocket::read_from_bytes(record) {
            let now = self.clock.now();
            self.socket(&body, true, |_| now, batch);
        } else if u64::read_from_bytes(record) == Ok(PRESSURE) {
            return true;
        } else {
            self.undecodable += 1;
        }
        false
    }

    fn moment(&self, moment: &Moment) -> Option<Event> {
        let Moment { key, time_ns, cgroup_id, cookie, bytes, packets, .. } = *moment;
        let (kind, packets, bytes) = match moment.kind {
            MOMENT_NEW => (SampleKind::New, 0, 0),
            MOMENT_FIN => (SampleKind::Fin, 0, 0),
            MOMENT_RST => (SampleKind::Rst, 0, 0),
            MOMENT_OVERFLOW => (SampleKind::Counted, u64::from(packets), u64::from(bytes)),
            _ => return None,
        };
        let time = self.clock.unix(time_ns);
        let sample = FlowSample {
            key,
            kind,
            cgroup_id,
            cookie,
            ifindex: moment.ifindex,
            packets,
            bytes,
            first: time,
            last: time,
            tcp_flags: moment.tcp_flags,
        };
        Some(Event { time, subject: None, payload: Payload::Flow(sample) })
    }

    /// Begins the taking in of a drain.
    pub fn begin_cycle(&mut self) {
        self.clock.sync();
        self.forget();
    }

    /// Converts a part of a drain. `monotonic_ns` tells what a tick is.
    pub fn drained(
        &mut self,
        drained: &DrainedPart<'_>,
        monotonic_ns: impl Fn(u64) -> u64,
        batch: &mut Vec<Event>,
    ) {
        let clock = self.clock.clone();
        let time = |tick| clock.unix(monotonic_ns(tick));
        let DrainedPart { flows, sockets, closed, undecodable } = *drained;
        self.undecodable += undecodable;
        batch.extend(flows.iter().map(|(key, stats)| counted(*key, stats, time)));
        for body in sockets {
            self.socket(body, false, time, batch);
        }
        for body in closed {
            self.socket(body, true, time, batch);
        }
    }

    fn forget(&mut self) {
        self.sockets.retain(|_, known| match &mut known.closed_for {
            Some(drains) if *drains >= REMEMBERED => false,
            Some(drains) => {
                *drains += 1;
                true
            }
            None => true,
        });
    }

    fn socket(
        &mut self,
        body: &SocketBody,
        closed: bool,
        time: impl Fn(u64) -> UnixNanos,
        batch: &mut Vec<Event>,
    ) {
        let known = self.sockets.entry(body.cookie).or_insert_with(|| Known {
            egress: SocketCounters::default(),
            ingress: SocketCounters::default(),
            closed_for: None,
        });
        for (direction, total, seen) in [
            (DIRECTION_EGRESS, &body.egress, &mut known.egress),
            (DIRECTION_INGRESS, &body.ingress, &mut known.ingress),
        ] {
            // Totals only grow; a record that is read late has nothing to add.
            let packets = total.packets.saturating_sub(seen.packets);
            let bytes = total.bytes.saturating_sub(seen.bytes);
            if packets == 0 && bytes == 0 {
                continue;
            }
            let first = if seen.packets == 0 { total.first_tick } else { seen.last_tick };
            let sample = FlowSample {
                key: socket_key(body, direction),
                kind: SampleKind::Counted,
                cgroup_id: body.cgroup_id,
                cookie: body.cookie,
                ifindex: body.ifindex,
                packets,
                bytes,
                first: time(first),
                last: time(total.last_tick),
                tcp_flags: fold_tcp_flags(total.tcp_flags),
            };
            *seen = *total;
            let time = sample.last;
            batch.push(Event { time, subject: None, payload: Payload::Flow(sample) });
        }
        if closed {
            known.closed_for.get_or_insert(0);
        }
    }
}

fn counted(key: FlowKey, stats: &FlowStats, time: impl Fn(u64) -> UnixNanos) -> Event {
    let sample = FlowSample {
        key,
        kind: SampleKind::Counted,
        cgroup_id: stats.cgroup_id,
        cookie: stats.cookie,
        ifindex: stats.ifindex,
        packets: stats.packets,
        bytes: stats.bytes,
        first: time(stats.first_tick),
        last: time(stats.last_tick),
        tcp_flags: stats.tcp_flags(),
    };
    Event { time: sample.last, subject: None, payload: Payload::Flow(sample) }
}

const fn socket_key(body: &SocketBody, direction: u8) -> FlowKey {
    let egress = direction == DIRECTION_EGRESS;
    let local = (body.local_addr, body.local_port);
    let remote = (body.remote_addr, body.remote_port);
    let ((source_addr, source_port), (destination_addr, destination_port)) =
        if egress { (local, remote) } else { (remote, local) };
    FlowKey {
        source_addr,
        destination_addr,
        source_port,
        destination_port,
        ifindex: 0,
        cgroup_id: body.cgroup_id,
        protocol: body.protocol,
        direction,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    }
}

#[cfg(test)]
mod tests;
