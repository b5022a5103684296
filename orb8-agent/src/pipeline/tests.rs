use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use orb8_common::flow::{
    DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, HOOK_INTERFACE, HOOK_SOCKET,
};
use orb8_proto::filter::{End, Matcher};

use super::*;
use crate::event::{FlowSample, SampleKind, Signal};
use crate::store::{EndReason, Flow, InterfaceNames, Query, SortKey};

const TCP: u8 = 6;
const OWN_CGROUP: u64 = 77;

/// A pipeline that subscribers hear and that has its own time.
struct Bench {
    pipeline: Pipeline,
    start: Instant,
    cycles: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::in_process().unwrap();
        config.cgroup_root = None;
        change(&mut config);
        let addresses = LocalAddresses::default();
        addresses.set([Ipv4Addr::new(10, 0, 0, 1).into()]);
        let mut pipeline = Pipeline::new(&config, addresses.clone());
        pipeline.self_traffic = SelfTraffic::new(addresses, Some(OWN_CGROUP));
        Self { pipeline, start: Instant::now(), cycles: 0 }
    }

    fn both() -> Self {
        let mut bench = Self::new();
        bench.pipeline.set_both_hooks(true);
        bench
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.cycles)
    }

    fn ingest(&mut self, samples: &[FlowSample]) {
        let event = |sample: &FlowSample| Event {
            time: sample.last,
            subject: None,
            payload: Payload::Flow(sample.clone()),
        };
        let mut batch = samples.iter().map(event).collect();
        self.pipeline.ingest_at(&mut batch, self.now());
        assert!(batch.is_empty());
    }

    /// Takes in what a drain brought, and ends the cycle.
    fn cycle(&mut self, samples: &[FlowSample]) {
        self.cycles += 1;
        self.ingest(samples);
        self.pipeline.end_of_cycle(self.now());
    }

    fn flows(&mut self) -> Vec<Flow> {
        let query = Query {
            matcher: Matcher::default(),
            include_self_traffic: true,
            start: None,
            end: None,
            sort: SortKey::Bytes,
            ascending: false,
            limit: 1000,
        };
        let page = self.pipeline.query(&query, &InterfaceNames::default());
        page.rows.into_iter().map(|row| row.flow).collect()
    }

    fn counts(&self) -> (u64, u64, u64) {
        let totals = self.pipeline.totals();
        (totals.in_flows.packets, totals.duplicate.packets, totals.waiting.packets)
    }
}

fn mapped(last: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last]
}

/// From 10.0.0.1 to 10.0.0.2:80, out of a socket.
fn socket(port: u16) -> FlowKey {
    FlowKey {
        source_addr: mapped(1),
        destination_addr: mapped(2),
        source_port: port,
        destination_port: 80,
        ifindex: 0,
        cgroup_id: 5,
        protocol: TCP,
        direction: DIRECTION_EGRESS,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    }
}

/// The same, seen at an interface.
fn interface(port: u16, ifindex: u32, direction: u8) -> FlowKey {
    FlowKey { hook: HOOK_INTERFACE, cgroup_id: 0, ifindex, direction, ..socket(port) }
}

fn counted(key: FlowKey, packets: u64) -> FlowSample {
    FlowSample {
        key,
        kind: SampleKind::Counted,
        cgroup_id: key.cgroup_id,
        cookie: 0,
        ifindex: key.ifindex,
        packets,
        bytes: packets * 100,
        first: UnixNanos(1),
        last: UnixNanos(2),
        tcp_flags: 0x10,
    }
}

fn moment(key: FlowKey, kind: SampleKind) -> FlowSample {
    FlowSample { kind, ..counted(key, 0) }
}

mod dedup {
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
        let (enters, leaves) =
            (interface(1, 2, DIRECTION_INGRESS), interface(1, 3, DIRECTION_EGRESS));
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
}

mod self_traffic {
    use super::*;

    fn bench() -> Bench {
        let mut bench = Bench::new();
        bench.pipeline.set_own_ports(vec![9090, 9091]);
        bench
    }

    /// Whether a flow is the agent's own; `last` digits of the two addresses, and the ports.
    fn is_own(source: ([u8; 4], u16), destination: ([u8; 4], u16), direction: u8, of: u64) -> bool {
        let mut bench = bench();
        let address = |v4: [u8; 4]| {
            let mut address = mapped(0);
            address[12..].copy_from_slice(&v4);
            address
        };
        let key = FlowKey {
            source_addr: address(source.0),
            source_port: source.1,
            destination_addr: address(destination.0),
            destination_port: destination.1,
            direction,
            cgroup_id: of,
            ..socket(0)
        };
        bench.ingest(&[counted(key, 1)]);
        bench.flows()[0].self_traffic
    }

    const HERE: [u8; 4] = [10, 0, 0, 1];
    const ELSEWHERE: [u8; 4] = [10, 0, 0, 2];
    const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

    #[test]
    fn the_agents_end_is_told_by_its_cgroup() {
        let (agent, client) = ((HERE, 9090), (ELSEWHERE, 40_000));
        assert!(is_own(agent, client, DIRECTION_EGRESS, OWN_CGROUP), "an answer");
        assert!(is_own(client, agent, DIRECTION_INGRESS, OWN_CGROUP), "a question");
        assert!(!is_own(agent, client, DIRECTION_EGRESS, 5), "another process's port 9090");
        assert!(!is_own(client, agent, DIRECTION_INGRESS, 5), "another process's port 9090");
    }

    #[test]
    fn the_other_end_is_told_by_this_hosts_addresses() {
        let client = (HERE, 40_000);
        assert!(is_own(client, (LOOPBACK, 9091), DIRECTION_EGRESS, 5), "a client on this host");
        assert!(is_own(client, (HERE, 9090), DIRECTION_EGRESS, 5), "a client on this host");
        assert!(!is_own(client, (ELSEWHERE, 9090), DIRECTION_EGRESS, 5), "another node's agent");
        assert!(!is_own(client, (HERE, 9092), DIRECTION_EGRESS, 5), "another port");
        assert!(!is_own(client, (HERE, 443), DIRECTION_EGRESS, OWN_CGROUP), "not its API");
    }

    #[test]
    fn a_containers_loopback_is_its_own() {
        let cgroups = tempfile::tempdir().unwrap();
        let path = cgroups.path().join("docker").join("0123456789abcdef".repeat(4));
        fs::create_dir_all(&path).unwrap();
        let id = fs::metadata(&path).unwrap().ino();
        let mut bench = Bench::with(|config| config.cgroup_root = Some(cgroups.path().to_owned()));
        bench.pipeline.set_own_ports(vec![9090]);
        let mut loopback = mapped(0);
        loopback[12..].copy_from_slice(&LOOPBACK);
        let ends = |key| FlowKey {
            source_addr: loopback,
            destination_addr: loopback,
            destination_port: 9090,
            ..key
        };
        let in_container = FlowKey { cgroup_id: id, ..ends(socket(1)) };
        bench.ingest(&[counted(in_container, 1), counted(ends(socket(2)), 2)]);
        let own: Vec<bool> = bench.flows().iter().map(|flow| flow.self_traffic).collect();
        assert_eq!(own, [true, false], "a Prometheus beside its sidecar listens on 9090 as well");
    }

    #[test]
    fn this_process_has_a_cgroup_of_its_own() {
        let Some(mount) = Environment::of_machine().cgroup_mount else {
            eprintln!("skipped: no cgroup v2 hierarchy is mounted here");
            return;
        };
        assert!(own_cgroup_id(&mount).is_some_and(|id| id > 0));
    }
}

mod hub {
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What there is to read now: the events in order, and how many were lost before.
    pub(super) fn read<T: Clone>(reader: &mut Reader<T>) -> (Vec<StreamItem<T>>, u64) {
        let (mut items, mut missing) = (Vec::new(), 0);
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(received)) = reader.poll_next(&mut context) {
            missing += received.missing;
            items.extend(received.batch.items.iter().cloned());
        }
        (items, missing)
    }

    /// What a subscriber gets: the steps in order, and how many events were lost before.
    fn receive(subscription: &mut Subscription<FlowEvent>) -> (Vec<FlowStep>, u64) {
        let (items, missing) = read(&mut subscription.reader);
        (items.iter().filter_map(step).collect(), missing)
    }

    fn step(item: &StreamItem<FlowEvent>) -> Option<FlowStep> {
        match &item.happened {
            Happened::Event(event) => Some(event.step),
            Happened::Lost(_) => None,
        }
    }

    #[test]
    fn subscribers_see_a_connection_from_its_first_packet_to_its_last_count() {
        let mut bench = Bench::new();
        let mut subscription = bench.pipeline.subscribe();
        bench.ingest(&[moment(socket(1), SampleKind::New)]);
        assert_eq!(receive(&mut subscription), (vec![FlowStep::New], 0), "at once");
        bench.ingest(&[moment(socket(1), SampleKind::Rst)]);
        bench.cycle(&[FlowSample { tcp_flags: 4, ..counted(socket(1), 5) }]);
        let (closing, end) = (FlowStep::Closing(EndReason::Rst), FlowStep::End(EndReason::Rst));
        assert_eq!(receive(&mut subscription), (vec![closing, end], 0));
    }

    /// Returns what every event so far added.
    fn added(subscription: &mut Subscription<FlowEvent>) -> Vec<(FlowStep, u64, u64)> {
        let (items, _) = read(&mut subscription.reader);
        let added = |item: &StreamItem<FlowEvent>| match &item.happened {
            Happened::Event(FlowEvent { step, packets, bytes, .. }) => {
                Some((*step, *packets, *bytes))
            }
            Happened::Lost(_) => None,
        };
        items.iter().filter_map(added).collect()
    }

    #[test]
    fn what_events_add_is_what_the_flow_has() {
        let mut bench = Bench::new();
        let mut subscription = bench.pipeline.subscribe();
        bench.ingest(&[moment(socket(1), SampleKind::New)]);
        bench.cycle(&[counted(socket(1), 5)]);
        bench.ingest(&[moment(socket(1), SampleKind::Rst)]);
        // The counts of a closed connection come in two parts, and a straggler after its end.
        bench.ingest(&[counted(socket(1), 2)]);
        bench.cycle(&[FlowSample { tcp_flags: 4, ..counted(socket(1), 1) }]);
        bench.cycle(&[counted(socket(1), 1)]);
        let end = FlowStep::End(EndReason::Rst);
        let bytes_of = |packets| counted(socket(1), packets).bytes;
        assert_eq!(
            added(&mut subscription),
            [
                (FlowStep::New, 0, 0),
                (FlowStep::Update, 5, bytes_of(5)),
                (FlowStep::Closing(EndReason::Rst), 0, 0),
                (end, 3, bytes_of(3)),
                (FlowStep::Update, 1, bytes_of(1)),
            ]
        );
        assert_eq!(bench.flows()[0].packets, 9);
    }

    #[test]
    fn a_closed_flow_that_makes_room_tells_its_last_counts() {
        let mut bench = Bench::with(|config| config.store.max_flows = 1);
        let mut subscription = bench.pipeline.subscribe();
        bench.ingest(&[
            counted(socket(1), 5),
            moment(socket(1), SampleKind::Rst),
            counted(socket(1), 2),
            counted(socket(2), 1),
        ]);
        let bytes_of = |packets| counted(socket(1), packets).bytes;
        assert_eq!(
            added(&mut subscription),
            [
                (FlowStep::New, 5, bytes_of(5)),
                (FlowStep::Closing(EndReason::Rst), 0, 0),
                (FlowStep::New, 1, bytes_of(1)),
                (FlowStep::End(EndReason::Rst), 2, bytes_of(2)),
            ]
        );
    }

    #[test]
    fn a_slow_subscriber_is_told_exactly_what_it_missed() {
        let mut bench = Bench::with(|config| config.hub = HubConfig { recent: 0, backlog: 256 });
        let mut subscription = bench.pipeline.subscribe();
        let mut fast = bench.pipeline.subscribe();
        let mut got = 0;
        for port in 1..=1000 {
            bench.ingest(&[moment(socket(port), SampleKind::New)]);
            got += receive(&mut fast).0.len();
        }
        let (steps, missing) = receive(&mut subscription);
        assert_eq!((steps.len(), missing), (256, 744), "as many as promised, however they came");
        assert_eq!(got, 1000, "others are not held up");
        let totals = bench.pipeline.totals();
        assert_eq!((totals.subscriber_lost, totals.subscribers), (missing, 2));
    }

    #[test]
    fn the_last_events_are_kept() {
        let mut bench = Bench::with(|config| config.hub.recent = 300);
        for port in 1..=1000 {
            bench.ingest(&[moment(socket(port), SampleKind::New)]);
        }
        let many: Vec<FlowSample> =
            (1001..=2000).map(|port| moment(socket(port), SampleKind::New)).collect();
        bench.ingest(&many);
        let subscription = bench.pipeline.subscribe();
        let recent = subscription.recent.iter().map(|batch| batch.items.len()).sum::<usize>();
        assert!((300..428).contains(&recent), "{recent}");
        let last = subscription.recent.last().unwrap();
        assert_eq!(last.first + last.items.len() as u64, 2000);
        let firsts: Vec<u64> = subscription.recent.iter().map(|batch| batch.first).collect();
        assert!(firsts.is_sorted());
    }

    #[test]
    fn events_are_as_small_as_the_bounds_take_them_to_be() {
        fn size<T: Weight>(event: &T) -> usize {
            size_of::<StreamItem<T>>() + event.heap_bytes()
        }
        let mut bench = Bench::new();
        let mut subscription = bench.pipeline.subscribe();
        bench.ingest(&[moment(socket(1), SampleKind::New)]);
        let (items, _) = read(&mut subscription.reader);
        let Happened::Event(flow) = &items[0].happened else { panic!("{items:?}") };
        assert!(size(flow) <= 512, "{}", size(flow));
    }

    #[test]
    fn nobody_listening_costs_no_events() {
        let mut bench = Bench::with(|config| config.hub.recent = 0);
        bench.cycle(&[counted(socket(1), 1)]);
        assert_eq!(bench.pipeline.subscribe().recent.len(), 0);
        assert!(!bench.pipeline.hubs.flow.is_wanted());
    }

    #[test]
    fn a_subscriber_hears_its_signal_only() {
        let mut bench = Bench::new();
        let mut dns = bench.pipeline.subscribe_dns();
        let mut tcp = bench.pipeline.subscribe_tcp();
        bench.ingest(&[moment(socket(1), SampleKind::New)]);
        assert!(read(&mut dns.reader).0.is_empty() && read(&mut tcp.reader).0.is_empty());
        for (signal, heard) in
            [(Signal::Dns, [1, 0]), (Signal::Tcp, [0, 1]), (Signal::Flow, [0, 0])]
        {
            let loss = Loss { signal, packets: 0, bytes: 0, moments: 2 };
            let event = Event { time: UnixNanos(1), subject: None, payload: Payload::Loss(loss) };
            bench.pipeline.ingest(&mut vec![event]);
            let got = [read(&mut dns.reader).0.len(), read(&mut tcp.reader).0.len()];
            assert_eq!(got, heard, "{}", signal.name());
        }
        drop(tcp);
        assert_eq!((bench.pipeline.tcp_subscribers(), bench.pipeline.totals().subscribers), (0, 1));
    }

    #[test]
    fn losses_are_told() {
        let mut bench = Bench::new();
        let mut subscription = bench.pipeline.subscribe();
        let loss = Loss { signal: Signal::Flow, packets: 3, bytes: 300, moments: 2 };
        let event = Event { time: UnixNanos(1), subject: None, payload: Payload::Loss(loss) };
        bench.pipeline.ingest(&mut vec![event]);
        let (items, _) = read(&mut subscription.reader);
        let happened: Vec<_> = items.into_iter().map(|item| item.happened).collect();
        let kernel = Happened::Lost(Lost::Kernel { packets: 3, bytes: 300 });
        assert_eq!(happened, [kernel, Happened::Lost(Lost::Ring { events: 2 })]);
    }
}

#[test]
fn owners_are_found_by_cgroup() {
    let cgroups = tempfile::tempdir().unwrap();
    let path = cgroups.path().join("system.slice/sshd.service");
    fs::create_dir_all(&path).unwrap();
    let id = fs::metadata(&path).unwrap().ino();
    let mut bench = Bench::with(|config| config.cgroup_root = Some(cgroups.path().to_owned()));
    bench.cycle(&[counted(FlowKey { cgroup_id: id, ..socket(1) }, 1)]);
    let flows = bench.flows();
    assert_eq!(flows[0].subject().unwrap().unit.as_deref(), Some("sshd.service"));
    let totals = bench.pipeline.totals();
    assert_eq!((totals.workloads, totals.pods, totals.events, totals.flows), (1, 0, 1, 1));
}

mod health {
    use super::*;
    use crate::event::{
        DnsExchange, DnsOutcome, DnsQuestion, DnsSide, ResetBy, SocketEnd, TcpKind, TcpRole,
        TcpSample,
    };
    use crate::store::dns::DnsQuery;
    use crate::store::tcp::TcpQuery;

    fn sample(kind: TcpKind, cgroup_id: u64) -> TcpSample {
        TcpSample {
            kind,
            local: SocketEnd { addr: mapped(1), port: 40_000 },
            remote: SocketEnd { addr: mapped(2), port: 80 },
            of_packet: false,
            local_end: None,
            cgroup_id,
            cookie: 7,
            netns: 0,
            ifindex: 0,
            role: TcpRole::Client,
            state: 0,
            old_state: 0,
            srtt_ns: None,
            figures: None,
        }
    }

    fn timeout(cgroup_id: u64) -> DnsExchange {
        DnsExchange {
            client: SocketEnd::default(),
            server: SocketEnd::default(),
            transport: 17,
            side: DnsSide::Client,
            cgroup_id,
            cookie: 0,
            ifindex: 0,
            id: 1,
            question: Some(DnsQuestion { name: "a".into(), kind: 1, class: 1 }),
            outcome: DnsOutcome::Timeout,
            response: None,
            asked: Some(UnixNanos(1)),
            latency_ns: 5,
            retries: 0,
            told_retries: None,
            query_bytes: 30,
        }
    }

    fn ingest(bench: &mut Bench, payload: Payload) {
        let event = Event { time: UnixNanos(9), subject: None, payload };
        let now = bench.now();
        bench.pipeline.ingest_at(&mut vec![event], now);
    }

    #[test]
    fn the_rst_of_a_closed_port_is_no_connection() {
        let mut bench = Bench::new();
        let reset = || TcpKind::Reset { by: ResetBy::Local, reason: None };
        let packet = TcpSample { of_packet: true, cookie: 0, ..sample(reset(), 0) };
        for sample in [packet, sample(reset(), 5)] {
            ingest(&mut bench, Payload::Tcp(Box::new(sample)));
        }
        let page = bench.pipeline.query_tcp(&TcpQuery { limit: 9, ..TcpQuery::default() });
        assert_eq!((page.total, bench.pipeline.totals().connections), (0, 0));
        assert_eq!(bench.pipeline.tcp_totals().resets_sent, 2);
    }

    #[test]
    fn an_owner_that_was_not_known_is_looked_for_again_by_who_asks() {
        let cgroups = tempfile::tempdir().unwrap();
        let mut bench = Bench::with(|config| config.cgroup_root = Some(cgroups.path().to_owned()));
        // Long ago for who asks.
        bench.start -= Duration::from_secs(30);
        ingest(&mut bench, Payload::Dns(Box::new(timeout(u64::MAX))));
        let path = cgroups.path().join("system.slice/sshd.service");
        fs::create_dir_all(&path).unwrap();
        let id = fs::metadata(&path).unwrap().ino();
        // The last walk was just now.
        ingest(&mut bench, Payload::Dns(Box::new(timeout(id))));
        ingest(&mut bench, Payload::Tcp(Box::new(sample(TcpKind::Fail { errno: 111 }, id))));
        assert_eq!(bench.pipeline.totals().workloads, 0);
        let page = bench.pipeline.query_tcp(&TcpQuery { limit: 9, ..TcpQuery::default() });
        let unit = |owner: Option<&crate::identity::Workload>| owner?.unit.clone();
        assert_eq!(unit(page.rows[0].subject.workload()).as_deref(), Some("sshd.service"));
        let page = bench.pipeline.query_dns(&DnsQuery { limit: 9, ..DnsQuery::default() });
        let mut units: Vec<_> = page.rows.iter().map(|row| unit(row.workload.as_deref())).collect();
        units.sort();
        assert_eq!(units, [None, Some("sshd.service".into())]);
    }
}

mod ends {
    use super::*;
    use crate::identity::{Party, Workload};

    const UDP: u8 = 17;
    const ICMP: u8 = 1;
    /// Types.
    const ECHO_REQUEST: u16 = 8;
    const ECHO_REPLY: u16 = 0;

    /// A pipeline that knows cgroups by their names.
    struct Cgroups {
        bench: Bench,
        root: tempfile::TempDir,
    }

    impl Cgroups {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().to_owned();
            Self { bench: Bench::with(|config| config.cgroup_root = Some(path)), root }
        }

        fn add(&self, name: &str) -> u64 {
            let path = self.root.path().join("system.slice").join(name);
            fs::create_dir_all(&path).unwrap();
            fs::metadata(path).unwrap().ino()
        }

        /// Removes one, and has that known.
        fn remove(&mut self, name: &str) {
            fs::remove_dir(self.root.path().join("system.slice").join(name)).unwrap();
            self.bench.cycles += 40;
            let now = self.bench.now();
            self.bench.pipeline.enrich.owner(u64::MAX, now);
        }

        /// Who is at the ends of a flow.
        fn told(&mut self, key: FlowKey) -> [Option<String>; 2] {
            let flows = self.bench.flows();
            let flow = flows.iter().find(|flow| flow.key == key).unwrap();
            [&flow.ends.source, &flow.ends.destination]
                .map(|party| party.workload().and_then(|owner| owner.unit.clone()))
        }
    }

    fn ends(source: &str, destination: &str) -> [Option<String>; 2] {
        [source, destination].map(|name| (!name.is_empty()).then(|| name.to_owned()))
    }

    fn of(cgroup_id: u64, direction: u8, protocol: u8) -> FlowKey {
        FlowKey { cgroup_id, direction, protocol, ..socket(40_000) }
    }

    #[test]
    fn who_comes_after_a_server_that_is_gone_is_told_in_its_place() {
        let mut cgroups = Cgroups::new();
        let [client, first, second] =
            ["a.service", "b.service", "c.service"].map(|it| cgroups.add(it));
        let sent = of(client, DIRECTION_EGRESS, UDP);
        let [to_first, to_second] = [first, second].map(|id| of(id, DIRECTION_INGRESS, UDP));
        cgroups.bench.cycle(&[counted(to_first, 1), counted(sent, 1)]);
        assert_eq!(cgroups.told(sent), ends("a.service", "b.service"));
        cgroups.remove("b.service");
        cgroups.bench.cycle(&[counted(sent, 1)]);
        assert_eq!(cgroups.told(sent), ends("a.service", "b.service"), "nobody else is there");
        cgroups.bench.cycle(&[counted(to_second, 1), counted(sent, 1)]);
        cgroups.bench.cycle(&[counted(sent, 1)]);
        assert_eq!(cgroups.told(sent), ends("a.service", "c.service"));
    }

    #[test]
    fn a_connection_ends_with_its_server() {
        let mut cgroups = Cgroups::new();
        let [client, first, second] =
            ["a.service", "b.service", "c.service"].map(|it| cgroups.add(it));
        let sent = of(client, DIRECTION_EGRESS, TCP);
        cgroups.bench.cycle(&[counted(of(first, DIRECTION_INGRESS, TCP), 1), counted(sent, 1)]);
        cgroups.remove("b.service");
        for _ in 0..2 {
            let other = of(second, DIRECTION_INGRESS, TCP);
            cgroups.bench.cycle(&[counted(other, 1), counted(sent, 1)]);
        }
        assert_eq!(cgroups.told(sent), ends("a.service", "b.service"));
    }

    /// What an address tells stays, whoever made the network namespace that the kernel answers in.
    #[test]
    fn an_address_goes_before_the_kernels_own_socket() {
        let owner =
            || Some(Arc::new(Workload { cgroup_path: "/made".into(), ..Workload::default() }));
        let root = || Some(Arc::new(Workload { cgroup_path: "/".into(), ..Workload::default() }));
        let pod = serde_json::from_value::<orb8_k8s::wire::PodObject>(serde_json::json!({
            "metadata": {"namespace": "ns", "name": "web", "uid": "u"},
            "spec": {"nodeName": "there"},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}}))
        .unwrap();
        let (index, mut writer) = Index::new();
        let source = orb8_k8s::index::Source::RemotePods;
        writer.begin(source);
        writer.apply(source, pod);
        writer.finish(source);
        let pod = Party::Pod(index.pod("u").unwrap());
        for (protocol, kind, subject, is_kernels) in [
            (ICMP, ECHO_REPLY, owner(), true),
            (ICMP, ECHO_REQUEST, owner(), false),
            (TCP, 1, owner(), false),
            (TCP, 1, root(), true),
        ] {
            let mut bench = Bench::new();
            let key = FlowKey { source_port: kind, ..of(7, DIRECTION_EGRESS, protocol) };
            let add = |bench: &mut Bench| {
                let owner = crate::store::Owner { subject: subject.clone(), self_traffic: false };
                let now = bench.now();
                bench.pipeline.store.apply(&counted(key, 1), owner, now).1.clone()
            };
            assert_eq!(add(&mut bench).ends.source, subject.clone().into());
            assert_eq!(add(&mut bench).is_owned(End::Source), !is_kernels);
            bench.pipeline.store.get_mut(&key).unwrap().ends.source = pod.clone();
            let expected = if is_kernels { pod.clone() } else { subject.clone().into() };
            assert_eq!(add(&mut bench).ends.source, expected, "{protocol} {kind}");
        }
    }

    #[test]
    fn what_is_unknown_is_looked_at_ever_more_rarely() {
        let mut bench = Bench::new();
        bench.pipeline.enrich.renew();
        let key = of(0, DIRECTION_EGRESS, TCP);
        let looked: Vec<usize> = (1..=9)
            .filter(|second| {
                let last = UnixNanos(second * 1_000_000_000);
                let before = bench.flows().first().map(|flow| flow.looked.age(last));
                let sample = FlowSample { last, ..counted(key, 1) };
                bench.cycle(&[sample]);
                before != Some(0) && bench.flows()[0].looked.age(last) == 0
            })
            .map(|second| second as usize)
            .collect();
        assert_eq!(looked, [1, 2, 4, 8]);
        let last = UnixNanos(9_500_000_000);
        bench.ingest(&[FlowSample { last, ..moment(key, SampleKind::Fin) }]);
        assert_eq!(bench.flows()[0].looked.age(last), 0, "the last there is to know it by");
    }

    #[test]
    fn who_opened_a_connection_is_seen_at_its_first_packet_only() {
        let mut bench = Bench::new();
        for (port, kind, tcp_flags, asking) in [
            (1, SampleKind::New, 0x02, Some(End::Source)),
            (2, SampleKind::New, 0x12, Some(End::Destination)),
            (3, SampleKind::New, 0x10, None),
            (4, SampleKind::Counted, 0x12, None),
        ] {
            let sample = FlowSample { tcp_flags, kind, ..counted(socket(port), 0) };
            bench.ingest(&[sample]);
            let flow = bench.pipeline.store.get_mut(&socket(port)).unwrap();
            assert_eq!(flow.asking, asking, "{port}");
        }
    }
}
