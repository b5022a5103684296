//! Bytes as Hubble's own programs write and read them: field numbers by hand, from
//! `api/v1/{flow,observer,peer,relay}` of Cilium 1.19.

use orb8_proto::hubble::flow::{
    FlowFilter, LostEventSource, TcpFlags, Verdict, Workload, layer4, layer7,
};
use orb8_proto::hubble::observer::{ServerStatusResponse, get_flows_response};
use orb8_proto::hubble::peer::ChangeNotification;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::*;
use crate::event::DnsOutcome;

/// A message, field by field.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn number(mut self, field: u32, value: u64) -> Self {
        encode_key(field, WireType::Varint, &mut self.0);
        encode_varint(value, &mut self.0);
        self
    }

    fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        encode_key(field, WireType::LengthDelimited, &mut self.0);
        encode_varint(value.len() as u64, &mut self.0);
        self.0.extend(value);
        self
    }

    fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

fn new() -> Bytes {
    Bytes::default()
}

#[test]
fn a_request_is_read_as_it_was_meant() {
    let filter = new()
        .text(1, "10.0.0.0/8")
        .text(2, "shop/web")
        .text(4, "ml/")
        .number(5, 2)
        .message(6, &new().number(1, 4).number(2, 1).number(3, 5))
        .text(10, "app=web")
        .text(12, "tcp")
        .text(14, "443")
        .number(15, 0)
        .text(18, "api.*")
        .number(20, 2)
        .message(23, &new().number(2, 1).number(5, 1))
        .message(26, &new().text(1, "web").text(2, "Deployment"))
        .text(29, "an-id")
        .number(33, 133)
        .text(38, "default")
        .message(999, &new().text(1, "true"));
    let bytes = new()
        .number(1, 20)
        .number(3, 1)
        .message(5, &new().number(19, 1))
        .message(6, &filter)
        .message(7, &new().number(1, 1_700_000_000).number(2, 5))
        .message(8, &new().number(1, 1_800_000_000))
        .message(10, &new().text(1, "source.identity"))
        // A field of a later version.
        .text(77, "unknown");
    let request = GetFlowsRequest::decode(&*bytes.0).unwrap();
    assert_eq!((request.number, request.follow, request.first), (20, true, false));
    let time = request.since.unwrap();
    assert_eq!((time.seconds, time.nanos), (1_700_000_000, 5));
    assert_eq!(request.until.unwrap().seconds, 1_800_000_000);
    assert_eq!(request.field_mask.unwrap().paths, ["source.identity"]);
    assert_eq!(request.blacklist[0].source_identity, [1]);
    let FlowFilter { source_ip, source_pod, destination_pod, verdict, .. } = &request.whitelist[0];
    assert_eq!((&source_ip[0][..], &source_pod[0][..]), ("10.0.0.0/8", "shop/web"));
    assert_eq!((&destination_pod[0][..], &verdict[..]), ("ml/", &[2][..]));
    let filter = &request.whitelist[0];
    let of = filter.event_type[0];
    assert_eq!((of.r#type, of.match_sub_type, of.sub_type), (4, true, 5));
    assert_eq!((&*filter.source_label[0], &*filter.protocol[0]), ("app=web", "tcp"));
    assert_eq!((&*filter.destination_port[0], &filter.reply[..]), ("443", &[false][..]));
    assert_eq!((&*filter.dns_query[0], &filter.destination_identity[..]), ("api.*", &[2][..]));
    assert_eq!(filter.tcp_flags, [TcpFlags { syn: true, ack: true, ..TcpFlags::default() }]);
    let workload = Workload { name: "web".into(), kind: "Deployment".into() };
    assert_eq!(filter.source_workload, [workload]);
    assert_eq!((&*filter.uuid[0], &filter.drop_reason_desc[..]), ("an-id", &[133][..]));
    assert_eq!(filter.destination_cluster_name, ["default"]);
    assert_eq!(filter.experimental.as_ref().unwrap().cel_expression, ["true"]);
}

#[test]
fn numbers_and_flags_may_be_packed() {
    // As Go writes repeated numbers: together.
    let bytes = new().bytes(5, &[1, 2]).bytes(15, &[0, 1]).bytes(19, &[7]).bytes(25, &[1]);
    let filter = FlowFilter::decode(&*bytes.0).unwrap();
    assert_eq!((filter.verdict, filter.reply), (vec![1, 2], vec![false, true]));
    assert_eq!((filter.source_identity, filter.ip_version), (vec![7], vec![1]));
}

#[test]
#[expect(deprecated, reason = "older clients read these")]
fn a_flow_is_read_as_it_was_meant() {
    let endpoint = new()
        .number(2, 4096)
        .text(3, "shop")
        .text(4, "k8s:app=web")
        .text(5, "web-1")
        .message(6, &new().text(1, "web").text(2, "Deployment"))
        .text(7, "default");
    let dns = new()
        .text(1, "api.example.")
        .text(2, "10.0.0.9")
        .number(3, 30)
        .text(4, "edge.example.")
        .text(5, "socket")
        .number(6, 3)
        .text(7, "A")
        .text(8, "CNAME");
    let bytes = new()
        .message(1, &new().number(1, 7))
        .number(2, 2)
        .number(3, 133)
        .message(5, &new().text(1, "10.0.0.1").text(2, "10.0.0.2").number(3, 1))
        .message(
            6,
            &new().message(
                1,
                &new().number(1, 40_000).number(2, 443).message(3, &new().number(2, 1)),
            ),
        )
        .message(8, &endpoint)
        .message(9, &new().number(2, 2))
        .number(10, 2)
        .text(11, "node-1")
        .text(13, "a.example")
        .text(14, "b.example")
        .message(15, &new().number(1, 2).number(2, 99).message(100, &dns))
        .message(19, &new().number(1, 1).number(2, 133))
        .message(20, &new().text(1, "svc").text(2, "shop"))
        .message(21, &new().text(1, "db").text(2, "ml"))
        .number(22, 2)
        .number(24, 101)
        .number(25, 133)
        .message(26, &new().number(1, 1))
        .message(28, &new().number(1, 7).text(2, "eth0"))
        .number(32, 9)
        .number(33, 5)
        .text(34, "an-id")
        .message(41, &new().text(1, "orb8").text(2, "0.1.0"))
        .text(100_000, "a line");
    let flow = Flow::decode(&*bytes.0).unwrap();
    assert_eq!((flow.time.unwrap().seconds, flow.verdict()), (7, Verdict::Dropped));
    assert_eq!((flow.drop_reason, flow.drop_reason_desc), (133, 133));
    let ip = flow.ip.as_ref().unwrap();
    assert_eq!((&*ip.source, &*ip.destination, ip.ip_version), ("10.0.0.1", "10.0.0.2", 1));
    let Some(layer4::Protocol::Tcp(tcp)) = flow.l4.as_ref().unwrap().protocol.as_ref() else {
        panic!("{flow:?}")
    };
    assert_eq!(
        (tcp.source_port, tcp.destination_port, tcp.flags.unwrap().syn),
        (40_000, 443, true)
    );
    let source = flow.source.as_ref().unwrap();
    assert_eq!((source.identity, &*source.namespace, &*source.pod_name), (4096, "shop", "web-1"));
    assert_eq!((&*source.labels[0], &*source.cluster_name), ("k8s:app=web", "default"));
    assert_eq!(source.workloads[0].kind, "Deployment");
    assert_eq!(flow.destination.as_ref().unwrap().identity, 2);
    assert_eq!((flow.r#type, &*flow.node_name), (2, "node-1"));
    assert_eq!((&*flow.source_names[0], &*flow.destination_names[0]), ("a.example", "b.example"));
    let l7 = flow.l7.as_ref().unwrap();
    let Some(layer7::Record::Dns(dns)) = &l7.record else { panic!("{l7:?}") };
    assert_eq!((l7.r#type, l7.latency_ns, &*dns.query, dns.rcode), (2, 99, "api.example.", 3));
    assert_eq!((&*dns.ips[0], dns.ttl, &*dns.cnames[0]), ("10.0.0.9", 30, "edge.example."));
    assert_eq!(
        (&*dns.observation_source, &*dns.qtypes[0], &*dns.rrtypes[0]),
        ("socket", "A", "CNAME")
    );
    let of = flow.event_type.unwrap();
    assert_eq!((of.r#type, of.sub_type), (1, 133));
    assert_eq!(flow.source_service.as_ref().unwrap().name, "svc");
    assert_eq!(flow.destination_service.as_ref().unwrap().namespace, "ml");
    assert_eq!((flow.traffic_direction, flow.trace_observation_point), (2, 101));
    assert_eq!((flow.is_reply, flow.socket_cookie, flow.cgroup_id), (Some(true), 9, 5));
    let interface = flow.interface.as_ref().unwrap();
    assert_eq!((interface.index, &*interface.name), (7, "eth0"));
    assert_eq!((&*flow.uuid, &*flow.summary), ("an-id", "a line"));
    assert_eq!(flow.emitter.as_ref().unwrap().name, "orb8");
    // And written as it was read: no field goes missing on the way.
    let again = Flow::decode(&*flow.encode_to_vec()).unwrap();
    assert_eq!((again, flow.encoded_len()), (flow.clone(), bytes.0.len()));
}

#[test]
fn answers_are_read_as_they_were_meant() {
    let lost = new()
        .number(1, 3)
        .number(2, 12)
        .message(3, &new().number(1, 0))
        .message(4, &new().number(1, 1))
        .message(5, &new().number(1, 2));
    let bytes = new().message(3, &lost).text(1_000, "node-1").message(1_001, &new().number(1, 7));
    let response = GetFlowsResponse::decode(&*bytes.0).unwrap();
    assert_eq!((&*response.node_name, response.time.unwrap().seconds), ("node-1", 7));
    let Some(get_flows_response::ResponseTypes::LostEvents(lost)) = response.response_types else {
        panic!("{response:?}")
    };
    assert_eq!((lost.source(), lost.num_events_lost), (LostEventSource::HubbleRingBuffer, 12));
    assert_eq!(
        (lost.cpu, lost.first.unwrap().seconds, lost.last.unwrap().seconds),
        (Some(0), 1, 2)
    );

    let status = new()
        .number(1, 1)
        .number(2, 2)
        .number(3, 3)
        .number(4, 4)
        .message(5, &new().number(1, 5))
        .message(6, &new())
        .text(7, "gone")
        .text(8, "orb8 v1");
    let mut status = status.0;
    encode_key(9, WireType::SixtyFourBit, &mut status);
    status.extend(1.5f64.to_le_bytes());
    let expected = ServerStatusResponse {
        num_flows: 1,
        max_flows: 2,
        seen_flows: 3,
        uptime_ns: 4,
        num_connected_nodes: Some(5),
        num_unavailable_nodes: Some(0),
        unavailable_nodes: vec!["gone".into()],
        version: "orb8 v1".into(),
        flows_rate: 1.5,
    };
    assert_eq!(ServerStatusResponse::decode(&*status).unwrap(), expected);

    let change =
        new().text(1, "n").text(2, "10.0.0.1:4244").number(3, 1).message(4, &new().text(1, "name"));
    let change = ChangeNotification::decode(&*change.0).unwrap();
    assert_eq!((&*change.name, &*change.address, change.r#type), ("n", "10.0.0.1:4244", 1));
    assert_eq!(change.tls.unwrap().server_name, "name");
}

/// What an answer of ours weighs, field by field, so that a renumbered one is found.
#[test]
fn our_own_answers_have_hubbles_numbers() {
    let event = samples::dns_event(samples::exchange(DnsOutcome::Answered));
    let interfaces = samples::interfaces();
    let id = samples::id(crate::event::Signal::Dns, 1);
    let observed =
        observed::Observed::of_dns(id, UnixNanos(SECOND), &event, &interfaces, NODE).unwrap();
    let flow = convert::flow(&observed, NODE, &samples::instance());
    let mut rest = &*flow.encode_to_vec();
    let mut fields = std::collections::BTreeSet::new();
    while !rest.is_empty() {
        let (field, wire_type) = prost::encoding::decode_key(&mut rest).unwrap();
        let context = prost::encoding::DecodeContext::default();
        prost::encoding::skip_field(wire_type, field, &mut rest, context).unwrap();
        fields.insert(field);
    }
    let expected = [1, 2, 5, 6, 8, 9, 10, 11, 15, 16, 19, 22, 26, 28, 32, 33, 34, 41, 100_000];
    assert_eq!(fields.into_iter().collect::<Vec<_>>(), expected);
}
