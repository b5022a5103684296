use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;
use crate::{clock::Reading, ebpf::Drained};

fn converter() -> Converter {
    Converter::new(Clock::with_source(|| Reading { monotonic_ns: 0, unix_ns: 1_000_000 }))
}

fn body(cookie: u64, egress: u64, ingress: u64) -> SocketBody {
    let counters = |packets| SocketCounters {
        packets,
        bytes: packets * 100,
        first_tick: 5,
        last_tick: 10 + packets,
        tcp_flags: 0,
    };
    SocketBody {
        local_addr: [1; 16],
        remote_addr: [2; 16],
        local_port: 80,
        remote_port: 4000,
        ifindex: 1,
        cgroup_id: 7,
        cookie,
        egress: counters(egress),
        ingress: counters(ingress),
        protocol: 6,
        ip_version: 6,
        reserved: 0,
        reserved_too: 0,
        reported_packets: 0,
        reported_bytes: 0,
    }
}

fn samples(batch: &[Event]) -> Vec<&FlowSample> {
    batch
        .iter()
        .map(|event| match &event.payload {
            Payload::Flow(sample) => sample,
            Payload::Dns(_) | Payload::Tcp(_) | Payload::Gpu(_) | Payload::Loss(_) => {
                panic!("only flows are converted")
            }
        })
        .collect()
}

fn drain(
    converter: &mut Converter,
    sockets: Vec<SocketBody>,
    closed: Vec<SocketBody>,
) -> Vec<Event> {
    let mut batch = Vec::new();
    let drained = Drained { sockets, closed, ..Drained::default() };
    converter.begin_cycle();
    for part in drained.parts(1) {
        converter.drained(&part, |tick| tick, &mut batch);
    }
    batch
}

#[test]
fn a_socket_gives_what_was_added_in_each_direction() {
    let mut converter = converter();
    let batch = drain(&mut converter, vec![body(1, 3, 0)], vec![]);
    let [egress] = samples(&batch)[..] else { panic!("{batch:?}") };
    assert_eq!((egress.packets, egress.bytes), (3, 300));
    assert_eq!((egress.key.source_port, egress.key.destination_port), (80, 4000));
    assert_eq!(egress.key.direction, DIRECTION_EGRESS);

    let batch = drain(&mut converter, vec![body(1, 5, 2)], vec![]);
    let [egress, ingress] = samples(&batch)[..] else { panic!("{batch:?}") };
    assert_eq!((egress.packets, ingress.packets), (2, 2));
    assert_eq!((ingress.key.source_port, ingress.key.destination_port), (4000, 80));
    assert_eq!(ingress.key.source_addr, [2; 16]);
}

#[test]
fn a_record_that_is_read_twice_counts_once() {
    let mut converter = converter();
    drain(&mut converter, vec![body(1, 3, 3)], vec![]);
    let batch = drain(&mut converter, vec![], vec![body(1, 4, 3), body(1, 5, 3)]);
    assert_eq!(samples(&batch).iter().map(|sample| sample.packets).sum::<u64>(), 2);
    let batch = drain(&mut converter, vec![], vec![body(1, 5, 3)]);
    assert!(batch.is_empty(), "{batch:?}");
}

#[test]
fn a_closed_socket_is_forgotten() {
    let mut converter = converter();
    drain(&mut converter, vec![], vec![body(1, 3, 3)]);
    for _ in 0..=REMEMBERED {
        assert_eq!(converter.sockets.len(), 1);
        drain(&mut converter, vec![], vec![]);
    }
    assert!(converter.sockets.is_empty());
}

#[test]
fn overflow_records_count_and_moments_do_not() {
    let mut converter = converter();
    let mut batch = Vec::new();
    let mut moment = Moment {
        key: socket_key(&body(1, 0, 0), DIRECTION_EGRESS),
        time_ns: 5,
        cgroup_id: 7,
        cookie: 1,
        bytes: 1500,
        packets: 2,
        ifindex: 3,
        kind: MOMENT_OVERFLOW,
        tcp_flags: 0,
        reserved: [0; 2],
    };
    assert!(!converter.ring(moment.as_bytes(), &mut batch));
    moment.kind = MOMENT_NEW;
    assert!(!converter.ring(moment.as_bytes(), &mut batch));
    let [overflow, new] = samples(&batch)[..] else { panic!("{batch:?}") };
    assert_eq!((overflow.kind, overflow.packets, overflow.bytes), (SampleKind::Counted, 2, 1500));
    assert_eq!((new.kind, new.packets, new.bytes), (SampleKind::New, 0, 0));
    assert_eq!(batch[0].time, UnixNanos(1_000_005));
}

#[test]
fn what_is_no_record_is_counted_and_dropped() {
    let mut converter = converter();
    let mut batch = Vec::new();
    for bytes in [&[][..], &[0; 8], &[0; 95], &[0; 97], &[0xff; 96]] {
        assert!(!converter.ring(bytes, &mut batch));
    }
    assert!(batch.is_empty());
    assert_eq!(converter.undecodable(), 5);
    assert!(converter.ring(PRESSURE.as_bytes(), &mut batch));
    assert_eq!(converter.undecodable(), 5);
}

proptest! {
    /// However often and in whatever order totals are read, their last values are what is counted.
    #[test]
    fn differences_add_up(steps in prop::collection::vec((0_u64..4, 0_u64..50, 0_u64..50), 1..60)) {
        let mut converter = converter();
        let mut totals = [(0_u64, 0_u64); 4];
        let mut counted = 0;
        for (cookie, egress, ingress) in steps {
            let total = &mut totals[cookie as usize];
            total.0 += egress;
            total.1 += ingress;
            let batch = drain(&mut converter, vec![body(cookie, total.0, total.1)], vec![]);
            counted += samples(&batch).iter().map(|sample| sample.packets).sum::<u64>();
        }
        prop_assert_eq!(counted, totals.iter().map(|(egress, ingress)| egress + ingress).sum::<u64>());
    }
}
