//! Kernel records → [`Event`]s.

use std::sync::Arc;

use orb8_common::tcp::{
    DROP_REASONS, MOMENT_ACCEPT, MOMENT_CLOSE, MOMENT_CONNECT, MOMENT_DROP,
    MOMENT_LOCAL_IS_DESTINATION, MOMENT_LOCAL_IS_SOURCE, MOMENT_OF_PACKET, MOMENT_RESET_RECEIVED,
    MOMENT_RESET_SENT, MOMENT_RETRANSMIT, MOMENT_RETRANSMIT_SYNACK, MOMENT_STATE, ROLE_CLIENT,
    ROLE_LISTENER, ROLE_SERVER, STATE_CLOSE, STATE_ESTABLISHED, STATE_SYN_SENT, TcpMoment,
    TcpSocket,
};
use orb8_proto::filter::End;
use zerocopy::FromBytes;

use super::symbols::Symbols;
use crate::{
    clock::Clock,
    ebpf::{Reasons, TcpReasons},
    event::{
        Event, Payload, Reason, ResetBy, SocketEnd, TcpFigures, TcpKind, TcpRole, TcpSample,
        UnixNanos,
    },
};

/// Turns records into events, and what is only a total into what was added to it.
pub struct Converter {
    clock: Clock,
    drops: Names,
    resets: Names,
    pub(super) symbols: Symbols,
    listeners: Listeners,
    sampled: Sampled,
    /// Sockets that closed while live ones are being read: what is read of them is old by then.
    closed: Option<Cookies>,
    undecodable: u64,
}

/// Socket cookies.
type Cookies = hashbrown::HashSet<u64, foldhash::fast::RandomState>;

/// A kernel's reasons by number.
type Names = hashbrown::HashMap<u32, Arc<str>, foldhash::fast::RandomState>;

/// Connections that each listener had dropped when it was last read, by cookie.
type Listeners = hashbrown::HashMap<u64, u32, foldhash::fast::RandomState>;

/// Samples of connections older than the agent, by cookie: their smoothed round-trip time is read now
/// and then, since the kernel tells no single ones.
type Sampled = hashbrown::HashMap<u64, TcpFigures, foldhash::fast::RandomState>;

/// Where the kernel side counts the reasons of subsystems, which have large numbers.
const OTHER_REASONS: u32 = DROP_REASONS as u32 - 1;

/// Listeners that are remembered, and connections older than the agent.
const MAX_REMEMBERED: usize = 65_536;

impl Converter {
    /// Knows no socket yet.
    #[must_use]
    pub fn new(clock: Clock, reasons: &TcpReasons) -> Self {
        let names = |reasons: &Reasons| {
            reasons.iter().map(|(id, name)| (*id, Arc::from(name.as_str()))).collect()
        };
        Self {
            clock,
            drops: names(&reasons.drops),
            resets: names(&reasons.resets),
            symbols: Symbols::of_kernel(),
            listeners: Listeners::default(),
            sampled: Sampled::default(),
            closed: None,
            undecodable: 0,
        }
    }

    pub(super) fn now(&self) -> UnixNanos {
        self.clock.now()
    }

    /// Records that were not what they should be, since start.
    #[must_use]
    pub const fn undecodable(&self) -> u64 {
        self.undecodable
    }

    pub(super) const fn count_undecodable(&mut self, records: u64) {
        self.undecodable += records;
    }

    /// Takes the clocks' difference anew.
    pub(super) fn sync_clock(&mut self) {
        self.clock.sync();
    }

    /// From now on, live sockets are being read.
    pub(super) fn begin_reading(&mut self) {
        self.closed = Some(Cookies::default());
    }

    /// What was read was converted.
    pub(super) fn end_reading(&mut self) {
        self.closed = None;
    }

    fn close(&mut self, cookie: u64) {
        if let Some(closed) = &mut self.closed {
            closed.insert(cookie);
        }
    }

    /// Names what was dropped.
    pub(super) fn name_drops(&self, drops: &[(u32, u64)]) -> Vec<(Arc<str>, u64)> {
        let name = |id: u32| match id {
            OTHER_REASONS => "OTHER".into(),
            id => named(&self.drops, id).name,
        };
        drops.iter().map(|(id, packets)| (name(*id), *packets)).collect()
    }

    /// Converts a ring record.
    pub fn ring(&mut self, record: &[u8], batch: &mut Vec<Event>) {
        let event = if let Ok(moment) = TcpMoment::read_from_bytes(record) {
            self.moment(&moment)
        } else if let Ok(socket) = TcpSocket::read_from_bytes(record) {
            Some(self.closed(&socket))
        } else {
            None
        };
        match event {
            Some(event) => batch.push(event),
            None => self.undecodable += 1,
        }
    }

    fn moment(&mut self, moment: &TcpMoment) -> Option<Event> {
        let kind = self.kind(moment)?;
        if moment.kind == MOMENT_CLOSE {
            self.close(moment.cookie);
        }
        let is_opened = matches!(moment.kind, MOMENT_CONNECT | MOMENT_ACCEPT);
        // The figures of one that the kernel does not follow: the table has the rest.
        let figures = (moment.kind == MOMENT_CLOSE).then(|| {
            let sampled = self.sampled.remove(&moment.cookie).unwrap_or_default();
            Box::new(TcpFigures {
                bytes_sent: moment.value,
                bytes_received: moment.other_value,
                retransmits: moment.total,
                ..sampled
            })
        });
        let sample = TcpSample {
            kind,
            local: SocketEnd { addr: moment.local_addr, port: moment.local_port },
            remote: SocketEnd { addr: moment.remote_addr, port: moment.remote_port },
            of_packet: moment.flags & MOMENT_OF_PACKET != 0,
            local_end: match moment.flags & (MOMENT_LOCAL_IS_SOURCE | MOMENT_LOCAL_IS_DESTINATION) {
                MOMENT_LOCAL_IS_SOURCE => Some(End::Source),
                MOMENT_LOCAL_IS_DESTINATION => Some(End::Destination),
                _ => None,
            },
            cgroup_id: moment.cgroup_id,
            cookie: moment.cookie,
            netns: moment.netns,
            ifindex: moment.ifindex,
            role: role(moment.role),
            // The kernel calls back before it changes a server's state.
            state: if is_opened { STATE_ESTABLISHED } else { moment.state },
            old_state: moment.old_state,
            srtt_ns: nanoseconds(moment.srtt_us),
            figures,
        };
        Some(self.event(moment.time_ns, sample))
    }

    fn kind(&mut self, moment: &TcpMoment) -> Option<TcpKind> {
        let handshake_ns = (moment.value != 0).then_some(moment.value);
        Some(match moment.kind {
            MOMENT_CONNECT => TcpKind::Connect { handshake_ns },
            MOMENT_ACCEPT => TcpKind::Accept { handshake_ns },
            MOMENT_STATE => TcpKind::State,
            MOMENT_CLOSE if moment.old_state == STATE_SYN_SENT => {
                TcpKind::Fail { errno: moment.error as u16 }
            }
            MOMENT_CLOSE => TcpKind::Close { errno: moment.error as u16 },
            MOMENT_RETRANSMIT | MOMENT_RETRANSMIT_SYNACK => {
                TcpKind::Retransmit { segments: moment.reason, total: moment.total }
            }
            MOMENT_RESET_SENT => {
                let reason = (moment.reason != 0).then(|| named(&self.resets, moment.reason));
                TcpKind::Reset { by: ResetBy::Local, reason }
            }
            MOMENT_RESET_RECEIVED => TcpKind::Reset { by: ResetBy::Remote, reason: None },
            MOMENT_DROP => TcpKind::Drop {
                reason: named(&self.drops, moment.reason),
                location: self.symbols.get(moment.value),
                weight: moment.total,
                tcp_flags: moment.tcp_flags,
                bytes: moment.bytes,
            },
            _ => return None,
        })
    }

    /// Converts the last record of a socket.
    fn closed(&mut self, socket: &TcpSocket) -> Event {
        self.close(socket.cookie);
        self.sampled.remove(&socket.cookie);
        let errno = socket.error as u16;
        let kind = match (socket.role, socket.old_state) {
            (ROLE_LISTENER, _) => {
                self.listeners.remove(&socket.cookie);
                TcpKind::Progress
            }
            (_, STATE_SYN_SENT) => TcpKind::Fail { errno },
            _ => TcpKind::Close { errno },
        };
        self.sample(socket, kind)
    }

    /// Converts the record of a live socket.
    pub fn socket(&mut self, socket: &TcpSocket, batch: &mut Vec<Event>) {
        if self.closed.as_ref().is_some_and(|closed| closed.contains(&socket.cookie)) {
            return;
        }
        let kind = if socket.role == ROLE_LISTENER {
            // What a listener does is told by its connections, but for those that it drops.
            let Some(overflow) = self.overflow(socket) else { return };
            overflow
        } else {
            TcpKind::Progress
        };
        let event = self.sample(socket, kind);
        batch.push(event);
    }

    fn overflow(&mut self, socket: &TcpSocket) -> Option<TcpKind> {
        let is_full = self.listeners.len() >= MAX_REMEMBERED;
        let before = match self.listeners.get_mut(&socket.cookie) {
            Some(known) => std::mem::replace(known, socket.drops),
            // What is not remembered cannot be told from what was told before.
            None if is_full => return None,
            None => {
                self.listeners.insert(socket.cookie, socket.drops);
                // What an old listener dropped before the agent came is not news.
                if socket.adopted != 0 { socket.drops } else { 0 }
            }
        };
        let overflows = socket.drops.wrapping_sub(before);
        (overflows > 0).then_some(TcpKind::Overflow {
            overflows,
            queue: socket.queue,
            limit: socket.queue_limit,
        })
    }

    fn sample(&mut self, socket: &TcpSocket, kind: TcpKind) -> Event {
        let mut figures = self.figures(socket);
        if socket.adopted != 0 {
            self.add_reading(socket, &mut figures);
        }
        let sample = TcpSample {
            kind,
            local: SocketEnd { addr: socket.local_addr, port: socket.local_port },
            remote: SocketEnd { addr: socket.remote_addr, port: socket.remote_port },
            of_packet: false,
            local_end: None,
            cgroup_id: socket.cgroup_id,
            cookie: socket.cookie,
            netns: socket.netns,
            ifindex: 0,
            role: role(socket.role),
            state: socket.state,
            old_state: if socket.state == STATE_CLOSE { socket.old_state } else { 0 },
            srtt_ns: nanoseconds(socket.srtt_us),
            figures: Some(Box::new(figures)),
        };
        self.event(socket.time_ns, sample)
    }

    fn figures(&self, socket: &TcpSocket) -> TcpFigures {
        TcpFigures {
            opened: (socket.opened_ns != 0).then(|| self.clock.unix(socket.opened_ns)),
            handshake_ns: (socket.handshake_ns != 0).then_some(socket.handshake_ns),
            rtt_sum_us: socket.rtt_sum_us,
            rtt_samples: socket.rtt_samples,
            rtt_min_us: socket.rtt_min_us,
            rtt_max_us: socket.rtt_max_us,
            rtt: socket.rtt,
            retransmits: socket.retransmits,
            bytes_sent: socket.bytes_sent,
            bytes_received: socket.bytes_received,
        }
    }

    /// Takes a connection's smoothed round-trip time as a sample.
    fn add_reading(&mut self, socket: &TcpSocket, figures: &mut TcpFigures) {
        let is_known = self.sampled.contains_key(&socket.cookie);
        // After a restart some still have callbacks, and samples of their own.
        let is_sampled = socket.rtt_samples > 0;
        if is_sampled || socket.srtt_us == 0 || (!is_known && self.sampled.len() >= MAX_REMEMBERED)
        {
            return;
        }
        let sampled = self.sampled.entry(socket.cookie).or_default();
        if sampled.rtt_samples == 0 || socket.srtt_us < sampled.rtt_min_us {
            sampled.rtt_min_us = socket.srtt_us;
        }
        sampled.rtt_max_us = sampled.rtt_max_us.max(socket.srtt_us);
        sampled.rtt_samples = sampled.rtt_samples.saturating_add(1);
        sampled.rtt_sum_us += u64::from(socket.srtt_us);
        let bucket = (u32::BITS - socket.srtt_us.leading_zeros()) as usize;
        let last = sampled.rtt.len() - 1;
        sampled.rtt[bucket.min(last)] += 1;
        let TcpFigures { rtt_sum_us, rtt_samples, rtt_min_us, rtt_max_us, rtt, .. } = *sampled;
        *figures =
            TcpFigures { rtt_sum_us, rtt_samples, rtt_min_us, rtt_max_us, rtt, ..figures.clone() };
    }

    fn event(&self, monotonic_ns: u64, sample: TcpSample) -> Event {
        let time = self.clock.unix(monotonic_ns);
        Event { time, subject: None, payload: Payload::Tcp(Box::new(sample)) }
    }
}

/// Names a reason; one that the kernel did not list has its number for a name.
fn named(names: &Names, id: u32) -> Reason {
    let name = names.get(&id).cloned().unwrap_or_else(|| format!("{id:#x}").into());
    Reason { id, name }
}

const fn role(role: u8) -> TcpRole {
    match role {
        ROLE_CLIENT => TcpRole::Client,
        ROLE_SERVER => TcpRole::Server,
        ROLE_LISTENER => TcpRole::Listener,
        _ => TcpRole::Unknown,
    }
}

fn nanoseconds(us: u32) -> Option<u64> {
    (us != 0).then(|| u64::from(us) * 1000)
}

#[cfg(test)]
mod tests;
