//! Whose a packet or a flow is.

use orb8_common::flow::{FlowKey, HOOK_INTERFACE};
use orb8_proto::filter::End;
use zerocopy::FromZeros;

use super::*;
use crate::event::{FlowSample, SampleKind};
use crate::store::{Flow, TCP};

/// A packet of which nothing but the ends is known.
fn packet(local: SocketEnd, remote: SocketEnd, netns: u32) -> TcpSample {
    let sample = sample(0, TcpKind::State);
    TcpSample { local, remote, netns, of_packet: true, cgroup_id: 0, ..sample }
}

fn in_netns(netns: u32, sample: TcpSample) -> TcpSample {
    // Each namespace's owner is another one.
    TcpSample { netns, cgroup_id: netns.into(), ..sample }
}

fn loopback(port: u16) -> SocketEnd {
    SocketEnd { addr: std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(), port }
}

impl Bench {
    fn way(&self, sample: &TcpSample) -> Option<bool> {
        self.table.find(sample).map(|found| found.is_reversed)
    }

    fn owner(&self, sample: &TcpSample) -> Option<u64> {
        self.table.find(sample).map(|found| found.connection.cgroup_id)
    }
}

#[test]
fn a_packet_is_its_connections_whichever_way_it_goes() {
    let mut bench = Bench::new(10);
    bench.apply(&connect(7));
    let (here, there) = (end(1, 7), end(2, 443));
    assert_eq!(bench.way(&packet(here, there, 0)), Some(false), "sent by it");
    assert_eq!(bench.way(&packet(there, here, 9)), Some(true), "sent to it");
    assert_eq!(bench.way(&packet(there, here, 8)), None, "another network namespace's");
    assert_eq!(bench.way(&packet(there, end(1, 8), 0)), None);
    let by_cookie = TcpSample { cookie: 7, ..packet(there, here, 9) };
    assert_eq!(bench.way(&by_cookie), Some(true));
    let others = TcpSample { cookie: 6, ..packet(there, here, 9) };
    assert_eq!(bench.way(&others), None, "another socket's");
}

#[test]
fn the_end_that_the_kernel_names_is_the_local_one() {
    let mut bench = Bench::new(10);
    bench.apply(&connect(7));
    let named =
        |local_end| TcpSample { local_end: Some(local_end), ..packet(end(2, 443), end(1, 7), 9) };
    assert_eq!(bench.way(&named(End::Destination)), Some(true));
    assert_eq!(bench.way(&named(End::Source)), None, "the server's, which nobody knows");
}

#[test]
fn namespaces_with_the_same_addresses_are_told_apart() {
    let mut bench = Bench::new(10);
    let ends = |cookie| TcpSample { local: end(1, 7), ..connect(cookie) };
    bench.apply(&in_netns(11, ends(1)));
    bench.apply(&in_netns(12, ends(2)));
    let of = |netns| packet(end(2, 443), end(1, 7), netns);
    assert_eq!((bench.owner(&of(11)), bench.owner(&of(12))), (Some(11), Some(12)));
    assert_eq!((bench.owner(&of(13)), bench.owner(&of(0))), (None, None));
    assert!(bench.table.remove(2).is_some());
    assert_eq!((bench.owner(&of(12)), bench.owner(&of(0))), (None, Some(11)), "the only one");
}

#[test]
fn between_two_containers_a_packet_of_an_unknown_namespace_is_nobodys() {
    let mut bench = Bench::new(10);
    bench.apply(&in_netns(11, connect(7)));
    let accepted = sample(8, TcpKind::Accept { handshake_ns: None });
    let server = TcpSample { local: end(2, 443), remote: end(1, 7), ..accepted };
    bench.apply(&in_netns(12, server));
    let of = |netns| packet(end(1, 7), end(2, 443), netns);
    assert_eq!(bench.owner(&of(0)), None);
    assert_eq!((bench.owner(&of(11)), bench.owner(&of(12))), (Some(11), Some(12)));
}

#[test]
fn loopback_is_every_namespaces() {
    let mut bench = Bench::new(10);
    bench
        .apply(&in_netns(11, TcpSample { local: loopback(7), remote: loopback(80), ..connect(1) }));
    let of = |netns| packet(loopback(7), loopback(80), netns);
    assert_eq!(
        (bench.owner(&of(11)), bench.owner(&of(12)), bench.owner(&of(0))),
        (Some(11), None, None)
    );
    // One loopback address is not enough: 127.0.0.1 may be told to talk to others.
    bench.apply(&in_netns(11, TcpSample { local: loopback(7), ..connect(2) }));
    assert_eq!(bench.owner(&packet(end(2, 443), loopback(7), 0)), Some(11));
}

#[test]
fn a_flow_without_a_cookie_is_its_owners() {
    let mut bench = Bench::new(10);
    let ends = |cookie| TcpSample { local: end(1, 7), ..connect(cookie) };
    bench.apply(&in_netns(11, ends(1)));
    bench.apply(&TcpSample { srtt_ns: Some(MS), ..in_netns(12, ends(2)) });
    let flow = |cgroup_id| {
        let key = FlowKey {
            source_addr: end(1, 7).addr,
            destination_addr: end(2, 443).addr,
            source_port: 7,
            destination_port: 443,
            protocol: TCP,
            hook: HOOK_INTERFACE,
            ..FlowKey::new_zeroed()
        };
        let (first, last) = (UnixNanos(SECOND), UnixNanos(9 * SECOND));
        let sample = FlowSample {
            key,
            kind: SampleKind::Counted,
            cgroup_id,
            cookie: 0,
            ifindex: 0,
            packets: 1,
            bytes: 60,
            first,
            last,
            tcp_flags: 0,
        };
        Flow { cgroup_id, ..Flow::new(&sample) }
    };
    let srtt = |cgroup_id| bench.table.health_of(&flow(cgroup_id)).map(|health| health.srtt_ns);
    assert_eq!((srtt(12), srtt(11)), (Some(Some(MS)), Some(None)));
    assert_eq!((srtt(13), srtt(0)), (None, None), "there is no telling");
}
