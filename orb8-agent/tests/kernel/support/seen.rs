//! What was read from the programs, added up.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use nix::time::{ClockId, clock_gettime};
use orb8_agent::ebpf::Drained;
use orb8_common::{
    flow::{
        ClosedSocket, DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, HOOK_INTERFACE, HOOK_SOCKET,
        MOMENT_OVERFLOW, Moment, PRESSURE, SocketBody, SocketCounters, fold_tcp_flags,
    },
    packet::TCP_SYN,
};
use zerocopy::FromBytes;

use super::netns::Counted;

/// What one flow came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) counted: Counted,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    pub(crate) tcp_flags: u8,
    pub(crate) cgroup_id: u64,
    pub(crate) cookie: u64,
}

/// Everything that was read.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) flows: HashMap<FlowKey, Flow>,
    pub(crate) moments: Vec<Moment>,
    /// Sockets that had a record of their own, by cookie: totals that are in `flows` already.
    pub(crate) sockets: HashMap<u64, [SocketCounters; 2]>,
    /// Records that came through the ring since a table was full: of packets, of closed sockets.
    pub(crate) overflowed: u64,
    pub(crate) closed_by_ring: u64,
    pub(crate) pressed: u64,
}

impl Seen {
    /// Everything that was counted towards flows.
    pub(crate) fn total(&self) -> Counted {
        self.sum(|_| true)
    }

    /// What was counted towards the flows that `wanted` picks.
    pub(crate) fn sum(&self, wanted: impl Fn(&FlowKey) -> bool) -> Counted {
        self.flows
            .iter()
            .filter(|(key, _)| wanted(key))
            .fold(Counted::default(), |sum, (_, flow)| sum + flow.counted)
    }

    /// A flow that has to be there.
    pub(crate) fn flow(&self, key: &FlowKey) -> &Flow {
        let Some(flow) = self.flows.get(key) else {
            panic!("no flow {key:#?} among {:#?}", self.flows);
        };
        flow
    }

    fn add(&mut self, key: FlowKey, added: Flow) {
        let flow = self.flows.entry(key).or_insert(Flow { first_ns: u64::MAX, ..Flow::default() });
        flow.counted += added.counted;
        flow.first_ns = flow.first_ns.min(added.first_ns);
        flow.last_ns = flow.last_ns.max(added.last_ns);
        flow.tcp_flags |= added.tcp_flags;
        for (known, seen) in
            [(&mut flow.cgroup_id, added.cgroup_id), (&mut flow.cookie, added.cookie)]
        {
            if seen != 0 {
                *known = seen;
            }
        }
    }

    pub(crate) fn take_in(&mut self, drained: &Drained, time: impl Fn(u64) -> u64) {
        for (key, stats) in &drained.flows {
            let added = Flow {
                counted: Counted::new(stats.packets, stats.bytes),
                first_ns: time(stats.first_tick),
                last_ns: time(stats.last_tick),
                tcp_flags: stats.tcp_flags(),
                cgroup_id: stats.cgroup_id,
                cookie: stats.cookie,
            };
            self.add(*key, added);
        }
        for body in drained.sockets.iter().chain(&drained.closed) {
            self.socket(body, &time);
        }
    }

    fn socket(&mut self, body: &SocketBody, time: impl Fn(u64) -> u64) {
        let totals = [body.ingress, body.egress];
        let known = self.sockets.insert(body.cookie, totals).unwrap_or_default();
        let mut kept = totals;
        for (direction, (now, before)) in
            [DIRECTION_INGRESS, DIRECTION_EGRESS].into_iter().zip(totals.iter().zip(&known))
        {
            // Totals only grow: an older copy that is read later has nothing to add.
            if now.packets < before.packets || now.bytes < before.bytes {
                kept[usize::from(direction)] = *before;
                continue;
            }
            let added = Counted::new(now.packets - before.packets, now.bytes - before.bytes);
            if added == Counted::default() {
                continue;
            }
            let flow = Flow {
                counted: added,
                first_ns: time(now.first_tick),
                last_ns: time(now.last_tick),
                tcp_flags: fold_tcp_flags(now.tcp_flags),
                cgroup_id: body.cgroup_id,
                cookie: body.cookie,
            };
            self.add(socket_key(body, direction), flow);
        }
        self.sockets.insert(body.cookie, kept);
    }

    pub(crate) fn ring(&mut self, record: &[u8]) {
        if let Ok(moment) = Moment::read_from_bytes(record) {
            if moment.kind != MOMENT_OVERFLOW {
                self.moments.push(moment);
                return;
            }
            self.overflowed += 1;
            let added = Flow {
                counted: Counted::new(moment.packets.into(), moment.bytes.into()),
                first_ns: moment.time_ns,
                last_ns: moment.time_ns,
                tcp_flags: moment.tcp_flags,
                cgroup_id: moment.cgroup_id,
                cookie: moment.cookie,
            };
            self.add(moment.key, added);
        } else if let Ok(body) = ClosedSocket::read_from_bytes(record) {
            self.closed_by_ring += 1;
            self.socket(&body, |_| monotonic_ns());
        } else {
            assert_eq!(u64::read_from_bytes(record), Ok(PRESSURE), "a ring record");
            self.pressed += 1;
        }
    }
}

fn socket_key(body: &SocketBody, direction: u8) -> FlowKey {
    let local = (body.local_addr, body.local_port);
    let remote = (body.remote_addr, body.remote_port);
    let (source, destination) =
        if direction == DIRECTION_EGRESS { (local, remote) } else { (remote, local) };
    FlowKey {
        source_addr: source.0,
        destination_addr: destination.0,
        source_port: source.1,
        destination_port: destination.1,
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

/// Checks that one end received what the other sent.
pub(crate) fn assert_same_at_both_ends(sent: &Flow, received: &Flow) {
    let missing = received.tcp_flags & !sent.tcp_flags;
    if missing & TCP_SYN == 0 {
        assert_eq!(sent.counted, received.counted);
        return;
    }
    // Kernels before 6.12 do not show the socket hook what a listener answers over IPv6.
    let synack = received.counted - sent.counted;
    assert_eq!(synack.packets, 1, "{sent:?} {received:?}");
    assert!((60..=100).contains(&synack.bytes), "{sent:?} {received:?}");
}

/// The key of a flow at the socket hook of a cgroup.
pub(crate) fn socket_flow(
    cgroup: u64,
    direction: u8,
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
) -> FlowKey {
    FlowKey {
        source_addr: mapped(source.ip()),
        destination_addr: mapped(destination.ip()),
        source_port: source.port(),
        destination_port: destination.port(),
        ifindex: 0,
        cgroup_id: cgroup,
        protocol,
        direction,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    }
}

/// The key of a flow at the hook of an interface.
pub(crate) fn interface_flow(
    ifindex: u32,
    direction: u8,
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
) -> FlowKey {
    let key = socket_flow(0, direction, protocol, source, destination);
    FlowKey { ifindex, hook: HOOK_INTERFACE, ..key }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The clock of the kernel's records.
pub(crate) fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
