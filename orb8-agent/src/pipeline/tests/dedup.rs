use super::*;

#[test]
fn a_packet_counts_where_it_is_seen_first() {
    let mut bench = Bench::new();
    let veth = interface(1, 7, DIRECTION_INGRESS);
    let uplink = interface(1, 2, DIRECTION_EGRESS);
    bench.ingest(&[moment(veth, SampleKind::New), moment(uplink, SampleKind::New)]);
    bench.cycle(&[counted(uplink, 10), counted(veth, 10)]);
    bench.cycle(&[counted(veth, 5), counted(uplink, 5)]);
    assert_eq!(bench.counts(), (15, 15, 0));
    let flows = bench.flows();
    assert_eq!((flows.len(), flows[0].key.ifindex, flows[0].packets), (1, 7, 15));
}

#[test]
fn both_directions_of_a_connection_count() {
    let mut bench = Bench::new();
    let there = interface(1, 2, DIRECTION_EGRESS);
    let back = FlowKey {
        source_addr: there.destination_addr,
        destination_addr: there.source_addr,
        source_port: there.destination_port,
        destination_port: there.source_port,
        direction: DIRECTION_INGRESS,
        ..there
    };
    bench.cycle(&[counted(there, 3), counted(back, 4)]);
    assert_eq!((bench.counts(), bench.flows().len()), ((7, 0, 0), 2));
}

#[test]
fn a_route_that_changes_is_followed() {
    let mut bench = Bench::new();
    let (old, new) = (interface(1, 2, DIRECTION_EGRESS), interface(1, 3, DIRECTION_EGRESS));
    bench.cycle(&[counted(old, 1)]);
    for _ in 0..10 {
        bench.cycle(&[counted(new, 1)]);
    }
    let (in_flows, duplicate, _) = bench.counts();
    assert_eq!((in_flows, duplicate), (8, 3), "the old one keeps it for three cycles");
}

#[test]
fn sockets_count_and_interfaces_repeat() {
    let mut bench = Bench::both();
    // Arriving, the interface sees it first.
    let mut arriving = socket(1);
    arriving.direction = DIRECTION_INGRESS;
    let wire = interface(1, 2, DIRECTION_INGRESS);
    bench.ingest(&[moment(wire, SampleKind::New), moment(arriving, SampleKind::New)]);
    bench.cycle(&[counted(wire, 6), counted(arriving, 6)]);
    assert_eq!(bench.counts(), (6, 6, 0), "known to be a socket's by then");
    bench.cycle(&[]);
    let flows = bench.flows();
    assert_eq!((flows.len(), flows[0].key.hook, flows[0].packets), (1, HOOK_SOCKET, 6));
}

#[test]
fn an_interface_waits_for_the_sockets_of_the_next_drain() {
    let mut bench = Bench::both();
    bench.cycle(&[counted(interface(1, 2, DIRECTION_INGRESS), 6)]);
    assert_eq!((bench.counts(), bench.flows().len()), ((0, 0, 6), 0));
    bench.cycle(&[counted(socket(1), 6)]);
    assert_eq!(bench.counts(), (6, 6, 0));
}

#[test]
fn forwarded_traffic_counts_at_its_first_interface() {
    let mut bench = Bench::both();
    let (enters, leaves) = (interface(1, 2, DIRECTION_INGRESS), interface(1, 3, DIRECTION_EGRESS));
    bench.cycle(&[counted(enters, 6), counted(leaves, 6)]);
    assert_eq!(bench.counts(), (0, 0, 12));
    bench.cycle(&[]);
    assert_eq!(bench.counts(), (6, 6, 0));
    assert_eq!(bench.flows()[0].key.ifindex, 2);
}

#[test]
fn the_accounting_adds_up() {
    let mut bench = Bench::both();
    bench.cycle(&[counted(interface(1, 2, DIRECTION_INGRESS), 6), counted(socket(1), 6)]);
    bench.cycle(&[counted(interface(2, 2, DIRECTION_INGRESS), 3)]);
    let kernel = crate::status::KernelCounters {
        lost_packets: 1,
        lost_bytes: 10,
        lost_moments: 2,
        other_packets: 3,
        other_bytes: 30,
        malformed_packets: 4,
        malformed_bytes: 40,
        owned_packets: 5,
        owned_bytes: 50,
    };
    let Accounting { counted, lost, other, malformed, duplicate, evicted, lost_moments } =
        Accounting::new(&kernel, &bench.pipeline.totals());
    let of = |packets, bytes| Count { packets, bytes };
    assert_eq!(counted, of(6 + 6 + 3 + 3 + 4 + 5, 1500 + 30 + 40 + 50), "waiting ones too");
    assert_eq!((lost, other, malformed), (of(1, 10), of(3, 30), of(4, 40)));
    assert_eq!(duplicate, of(11, 650));
    assert_eq!((evicted, lost_moments), (Totals::default(), 2));
}
