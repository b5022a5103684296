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
        Happened::Event(FlowEvent { step, packets, bytes, .. }) => Some((*step, *packets, *bytes)),
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
fn a_flow_ends_before_another_with_its_key_begins() {
    let mut bench = Bench::new();
    let mut subscription = bench.pipeline.subscribe();
    bench.cycle(&[counted(socket(1), 5)]);
    let reopened = FlowSample { tcp_flags: 2, ..moment(socket(1), SampleKind::New) };
    bench.ingest(&[
        moment(socket(1), SampleKind::Rst),
        FlowSample { first: UnixNanos(3), last: UnixNanos(3), ..reopened },
    ]);
    let reset = EndReason::Rst;
    assert_eq!(
        receive(&mut subscription).0,
        [FlowStep::New, FlowStep::Closing(reset), FlowStep::End(reset), FlowStep::New]
    );
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
            (FlowStep::End(EndReason::Rst), 2, bytes_of(2)),
            (FlowStep::New, 1, bytes_of(1)),
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
    for (signal, heard) in [(Signal::Dns, [1, 0]), (Signal::Tcp, [0, 1]), (Signal::Flow, [0, 0])] {
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
