use orb8_common::flow::{DIRECTION_EGRESS, FlowKey, HOOK_INTERFACE, HOOK_SOCKET};

use super::*;
use crate::api::convert::Converter;
use crate::event::{FlowSample, Loss, SampleKind};
use crate::identity::Workload;
use crate::pipeline::{FlowEvent, FlowStep, Happened, Lost, StreamItem};
use crate::store::{EndReason, FlowStore, Owner};

pub(super) fn sample(port: u16, packets: u64) -> FlowSample {
    let mut address = [0; 16];
    address[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
    let mut v6 = [0; 16];
    (v6[0], v6[15]) = (0xfd, 1);
    FlowSample {
        key: FlowKey {
            source_addr: address,
            destination_addr: v6,
            source_port: port,
            destination_port: 443,
            ifindex: 0,
            cgroup_id: 5,
            protocol: 6,
            direction: DIRECTION_EGRESS,
            hook: HOOK_SOCKET,
            flags: 0,
            vlan: 0,
            inner_vlan: 0,
        },
        kind: if packets == 0 { SampleKind::New } else { SampleKind::Counted },
        cgroup_id: 5,
        cookie: 9,
        ifindex: 7,
        packets,
        bytes: packets * 100,
        first: UnixNanos(1_000),
        last: UnixNanos(2_000),
        tcp_flags: 0x12,
    }
}

#[tokio::test]
async fn flows_are_told_in_full() {
    let mut node = Node::new();
    let mut client = node.client();
    let icmp = FlowKey {
        protocol: 1,
        source_port: 8,
        destination_port: 0,
        hook: HOOK_INTERFACE,
        cgroup_id: 0,
        ifindex: 7,
        vlan: 100,
        ..sample(1, 1).key
    };
    node.ingest(&[sample(1, 3), FlowSample { key: icmp, cgroup_id: 0, ..sample(8, 1) }]);
    let answer = client.query_flows(v1::QueryFlowsRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.total_matched, 2);
    let accounting = answer.accounting.unwrap();
    assert_eq!((accounting.counted_packets, accounting.counted_bytes), (4, 400));

    let tcp = &answer.flows[0];
    let mut destination = vec![0; 16];
    (destination[0], destination[15]) = (0xfd, 1);
    let source = v1::Endpoint { ip: vec![10, 0, 0, 1], port: 1, ..v1::Endpoint::default() };
    assert_eq!(tcp.source, Some(source));
    assert_eq!(
        tcp.destination,
        Some(v1::Endpoint { ip: destination, port: 443, ..v1::Endpoint::default() })
    );
    assert_eq!((tcp.protocol(), tcp.ip_protocol), (v1::Protocol::Tcp, 6));
    assert_eq!((tcp.direction(), tcp.hook()), (v1::Direction::Egress, v1::Hook::Socket));
    assert_eq!((tcp.packets, tcp.bytes, tcp.tcp_flags), (3, 300, 0x12));
    assert_eq!((tcp.first_seen_ns, tcp.last_seen_ns), (1_000, 2_000));
    assert_eq!((tcp.local_end(), tcp.cgroup_id), (v1::LocalEnd::Source, 5));
    assert_eq!((tcp.socket_cookie, tcp.node_name.as_str(), tcp.icmp), (9, "node-1", None));
    let unnamed = v1::Interface { index: 7, name: String::new() };
    assert_eq!(tcp.interface, Some(unnamed), "a socket's interface may be another namespace's");

    let icmp = &answer.flows[1];
    assert_eq!(
        (icmp.protocol(), icmp.icmp),
        (v1::Protocol::Icmp, Some(v1::IcmpType { r#type: 8, code: 0 }))
    );
    assert_eq!((icmp.source.as_ref().unwrap().port, icmp.vlan), (0, Some(100)));
    assert_eq!((icmp.hook(), icmp.local_end()), (v1::Hook::Interface, v1::LocalEnd::Unspecified));
    assert_eq!(icmp.interface, Some(v1::Interface { index: 7, name: "veth7".into() }));
    node.stop().await;
}

#[tokio::test]
async fn queries_filter_and_refuse_nonsense() {
    let mut node = Node::new();
    let mut client = node.client();
    node.ingest(&[sample(1, 3), sample(2, 4), sample(3, 5)]);
    let port = |port| v1::FlowFilter { source_port: vec![port], ..v1::FlowFilter::default() };
    let request = v1::QueryFlowsRequest {
        include: vec![port(1), port(2)],
        sort_by: v1::SortBy::Packets.into(),
        limit: 1,
        ..v1::QueryFlowsRequest::default()
    };
    let answer = client.query_flows(request).await.unwrap().into_inner();
    assert_eq!((answer.total_matched, answer.flows[0].packets), (2, 4));

    let bad_ip = v1::FlowFilter { ip: vec!["nonsense".into()], ..v1::FlowFilter::default() };
    let bad_filter = v1::QueryFlowsRequest { exclude: vec![bad_ip], ..Default::default() };
    let bad_sort = v1::QueryFlowsRequest { sort_by: 99, ..Default::default() };
    for (request, word) in [(bad_filter, "nonsense"), (bad_sort, "sort_by")] {
        let error = client.query_flows(request).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert!(error.message().contains(word), "{}", error.message());
    }
    let request = v1::StreamEventsRequest { kinds: vec![99], ..Default::default() };
    let error = client.stream_events(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    node.stop().await;
}

#[tokio::test]
async fn streams_give_the_last_events_and_then_the_next() {
    let mut node = Node::new();
    let mut client = node.client();
    for port in 1..=10 {
        node.ingest(&[sample(port, 0)]);
    }
    let request = v1::StreamEventsRequest { last: 2, ..Default::default() };
    let mut events = client.stream_events(request).await.unwrap().into_inner();
    let port = |event: &v1::StreamEventsResponse| {
        event.flow.as_ref().unwrap().source.as_ref().unwrap().port
    };
    for expected in [9, 10] {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.kind(), port(&event)), (v1::EventKind::FlowNew, expected));
        assert_eq!((event.time_ns, event.node_name.as_str()), (2_000, "node-1"));
    }
    node.ingest(&[sample(11, 7)]);
    node.ingest(&[sample(11, 5)]);
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.kind(), event.delta_packets), (v1::EventKind::FlowNew, 7));
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.kind(), event.delta_bytes), (v1::EventKind::FlowUpdate, 500));
    assert_eq!(event.flow.unwrap().bytes, 1200);
    let reset = FlowSample { tcp_flags: 4, ..sample(11, 1) };
    node.ingest(&[reset]);
    node.end_cycle();
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.kind(), event.end_reason()), (v1::EventKind::FlowEnd, v1::EndReason::Rst));
    assert_eq!((event.delta_packets, event.delta_bytes), (1, 100));
    assert_eq!(event.flow.unwrap().packets, 13);

    // A stream that follows ends with the agent.
    node.stop().await;
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn streams_filter_and_end_where_asked() {
    let mut node = Node::new();
    let mut client = node.client();
    let many: Vec<FlowSample> = (1..=1000).map(|port| sample(port, 1)).collect();
    node.ingest(&many);
    node.ingest(&many);
    let filter = v1::FlowFilter { source_port: vec![500], ..Default::default() };
    let request = v1::StreamEventsRequest {
        include: vec![filter],
        kinds: vec![v1::EventKind::FlowNew.into()],
        last: 100,
        no_follow: true,
        ..Default::default()
    };
    let events = client.stream_events(request).await.unwrap().into_inner();
    let events: Vec<_> = events.collect().await;
    assert_eq!(events.len(), 1, "the one new event of that port, and then the end");
    node.stop().await;
}

#[tokio::test]
async fn streams_begin_at_a_time() {
    let mut node = Node::new();
    let mut client = node.client();
    for port in 1..=5_u16 {
        node.ingest(&[FlowSample { last: UnixNanos(u64::from(port) * 1_000), ..sample(port, 0) }]);
    }
    let mut ports = async |last: u32, since: Option<u64>| {
        let request = v1::StreamEventsRequest {
            last,
            since_time_ns: since,
            no_follow: true,
            ..Default::default()
        };
        let events = client.stream_events(request).await.unwrap().into_inner();
        let port = |event: Result<v1::StreamEventsResponse, _>| {
            event.unwrap().flow.unwrap().source.unwrap().port
        };
        events.map(port).collect::<Vec<u32>>().await
    };
    assert_eq!(ports(0, Some(3_000)).await, [3, 4, 5], "at the time, and later");
    assert_eq!(ports(0, Some(0)).await, [1, 2, 3, 4, 5]);
    assert_eq!(ports(0, Some(5_001)).await, [0; 0]);
    assert_eq!(ports(2, Some(3_000)).await, [4, 5], "of the last two");
    assert_eq!(ports(4, Some(4_000)).await, [4, 5], "of the last four");
    assert_eq!(ports(0, None).await, [0; 0], "the past is not asked for");
    node.stop().await;
}

#[tokio::test]
async fn a_sockets_interface_has_a_name_where_its_owner_is_in_our_network() {
    let node = Node::new();
    let converter = Converter::new("node-1".into(), &node.board);
    let name = |hook: u8, host_network: bool| {
        let key = FlowKey { hook, ..sample(1, 1).key };
        let owner = Workload { host_network, ..Workload::default() };
        let mut store = FlowStore::new(node.config.store, Instant::now());
        let owner = Owner { subject: Some(Arc::new(owner)), self_traffic: false };
        let (_, flow) = store.apply(&FlowSample { key, ..sample(1, 1) }, owner, Instant::now());
        let flow = flow.clone();
        converter.flow(&store.row(flow)).interface.unwrap().name
    };
    assert_eq!(name(HOOK_SOCKET, true), "veth7");
    assert_eq!(name(HOOK_SOCKET, false), "", "7 is something else over there");
    assert_eq!(name(HOOK_INTERFACE, false), "veth7");
}

#[tokio::test]
async fn every_end_and_loss_is_told_as_what_it_is() {
    let node = Node::new();
    let converter = Converter::new("node-1".into(), &node.board);
    let tell = |happened| converter.flow_event(&StreamItem { time: UnixNanos(5), happened });
    let mut store = FlowStore::new(node.config.store, Instant::now());
    let (_, flow) = store.apply(&sample(1, 1), Owner::default(), Instant::now());
    let flow = flow.clone();
    let row = store.row(flow);
    let steps = [
        (FlowStep::New, v1::EventKind::FlowNew, v1::EndReason::Unspecified),
        (FlowStep::Update, v1::EventKind::FlowUpdate, v1::EndReason::Unspecified),
        (FlowStep::End(EndReason::Fin), v1::EventKind::FlowEnd, v1::EndReason::Fin),
        (FlowStep::End(EndReason::Rst), v1::EventKind::FlowEnd, v1::EndReason::Rst),
        (FlowStep::End(EndReason::Idle), v1::EventKind::FlowEnd, v1::EndReason::Idle),
        (FlowStep::End(EndReason::Evicted), v1::EventKind::FlowEnd, v1::EndReason::Evicted),
    ];
    for (step, kind, reason) in steps {
        let happened = Happened::Event(FlowEvent { step, row: row.clone(), packets: 2, bytes: 30 });
        let event = tell(happened);
        assert_eq!((event.kind(), event.end_reason()), (kind, reason));
        assert_eq!((event.delta_packets, event.delta_bytes), (2, 30), "{kind:?}");
        assert!(event.flow.is_some() && event.lost.is_none(), "{kind:?}");
    }
    let lost = |source: v1::LostSource, events, packets, bytes| v1::Lost {
        source: source.into(),
        events,
        packets,
        bytes,
    };
    let losses = [
        (Lost::Kernel { packets: 2, bytes: 30 }, lost(v1::LostSource::Kernel, 0, 2, 30)),
        (Lost::Ring { events: 4 }, lost(v1::LostSource::Ring, 4, 0, 0)),
        (Lost::Subscriber { events: 5 }, lost(v1::LostSource::Subscriber, 5, 0, 0)),
    ];
    for (of, expected) in losses {
        let event = tell(Happened::Lost(of));
        assert_eq!((event.kind(), event.lost), (v1::EventKind::Lost, Some(expected)));
        assert!(event.flow.is_none() && event.delta_packets == 0);
    }
}

#[tokio::test]
async fn losses_are_in_line() {
    let mut node = Node::new();
    node.config.hub.backlog = 1024;
    node.pipeline = Pipeline::new(&node.config, LocalAddresses::default()).shared();
    let mut client = node.client();
    let request = v1::StreamEventsRequest {
        kinds: vec![v1::EventKind::FlowNew.into()],
        ..Default::default()
    };
    let mut events = client.stream_events(request).await.unwrap().into_inner();
    // Nobody polls the stream meanwhile, so nothing leaves the hub.
    let total = 30_000_u64;
    for port in 0..total {
        node.ingest(&[FlowSample { kind: SampleKind::New, ..sample(port as u16, 0) }]);
    }
    let (mut got, mut lost) = (0, 0);
    while got + lost < total {
        let event = events.next().await.unwrap().unwrap();
        match event.lost {
            Some(of) => {
                assert_eq!(of.source(), v1::LostSource::Subscriber);
                lost += of.events;
            }
            None => got += 1,
        }
    }
    assert!(lost > 0 && got > 0, "{got} got, {lost} lost");
    assert_eq!(got + lost, total);

    let request = v1::StreamEventsRequest::default();
    let mut events = client.stream_events(request).await.unwrap().into_inner();
    let loss = Loss { signal: Signal::Flow, packets: 3, bytes: 300, moments: 0 };
    let event = Event { time: UnixNanos(5), subject: None, payload: Payload::Loss(loss) };
    lock(&node.pipeline).ingest(&mut vec![event]);
    let lost = events.next().await.unwrap().unwrap().lost.unwrap();
    assert_eq!((lost.source(), lost.packets, lost.bytes), (v1::LostSource::Kernel, 3, 300));
    node.stop().await;
}
