use super::*;
use crate::metrics::family::{Family, Value};
use crate::metrics::traffic::families;

impl Bench {
    fn families(&self) -> Vec<Family> {
        families(&self.pipeline.traffic(0, 1000).0).collect()
    }

    /// Sum over all series of a metric.
    fn sum(&self, name: &str) -> u64 {
        let families = self.families();
        let samples = families.iter().filter(|family| family.name == name);
        let value = |value: &Value| match value {
            Value::Count(count) => *count,
            Value::Gauge(value) => *value as u64,
            Value::Sum(_) | Value::Histogram(_) => panic!("{name} is no count"),
        };
        samples.flat_map(|family| &family.samples).map(|sample| value(&sample.value)).sum()
    }

    /// What is in series, and in none since it is the agent's own, is what was counted in flows.
    fn review(&self) {
        let totals = self.pipeline.totals();
        let (own, flows) = (totals.traffic, totals.in_flows);
        assert_eq!(self.sum("orb8_flow_packets_total") + own.self_packets, flows.packets);
        assert_eq!(self.sum("orb8_flow_bytes_total") + own.self_bytes, flows.bytes);
    }

    fn active(&self) -> u64 {
        self.sum("orb8_active_flows")
    }
}

#[test]
fn every_counted_packet_is_in_one_series() {
    let mut bench = Bench::both();
    bench.pipeline.set_own_ports(vec![9090]);
    let own = FlowKey { destination_addr: mapped(1), destination_port: 9090, ..socket(3) };
    bench.cycle(&[
        counted(socket(1), 5),
        // Waits for the socket's, and is left out as the same.
        counted(interface(1, 7, DIRECTION_EGRESS), 5),
        counted(interface(2, 7, DIRECTION_INGRESS), 2),
        counted(own, 9),
    ]);
    bench.cycle(&[counted(socket(1), 1), counted(own, 1)]);
    bench.cycle(&[]);
    bench.review();
    let totals = bench.pipeline.totals();
    assert_eq!((totals.duplicate.packets, totals.traffic.self_packets), (5, 10));
    assert_eq!(bench.active(), 2, "not the agent's own");
}

#[test]
fn active_flows_are_those_that_have_not_ended() {
    let mut bench = Bench::with(|config| {
        config.store.max_flows = 3;
        config.store.idle_timeout = Duration::from_secs(15);
    });
    let samples: Vec<FlowSample> = (1..=5).map(|port| counted(socket(port), 1)).collect();
    bench.cycle(&samples);
    assert_eq!(bench.active(), 3, "two had to go");
    // One is closed, told when its last counts are in, and held for a while.
    bench.cycle(&[moment(socket(5), SampleKind::Rst)]);
    bench.cycle(&[counted(socket(5), 1)]);
    bench.cycle(&[]);
    bench.cycle(&[]);
    assert_eq!(bench.active(), 2);
    assert!(bench.pipeline.totals().flows >= 2);
    // What comes late of it is counted, and makes it no more active.
    bench.cycle(&[counted(socket(5), 1)]);
    assert_eq!(bench.active(), 2);
    bench.review();
    for _ in 0..30 {
        bench.cycle(&[]);
    }
    assert_eq!((bench.active(), bench.pipeline.totals().flows), (0, 0), "idle");
    bench.review();
    bench.cycle(&[counted(socket(5), 1)]);
    assert_eq!(bench.active(), 1, "it is another one");
}
