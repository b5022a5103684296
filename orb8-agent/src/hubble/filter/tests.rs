use orb8_proto::hubble::flow::{
    DropReason, HttpHeader, IpVersion, TcpFlags, TrafficDirection, Workload, flow_filter,
};
use proptest::prelude::*;

use super::*;
use crate::event::{DnsOutcome, Signal, UnixNanos};
use crate::hubble::tests::samples::*;
use crate::identity::Party;
use crate::pipeline::{FlowEvent, FlowStep};

fn none() -> FlowFilter {
    FlowFilter::default()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn wants(whitelist: &[FlowFilter], blacklist: &[FlowFilter], observed: &Observed<'_>) -> bool {
    Filters::new(whitelist, blacklist, NODE).unwrap().want(observed, &instance())
}

/// shop/web-1 (10.0.0.1:40000) → Service shop/db, behind which is shop/db-0 (10.0.0.2:443).
fn request() -> FlowEvent {
    let mut event =
        flow_event(key(), FlowStep::New, ends(web(), service("shop", "db", Some(db()))));
    event.row.flow.asking = Some(End::Source);
    event
}

/// shop/web-1 → somewhere that is called api.example.
fn outwards() -> FlowEvent {
    let mut event = flow_event(key(), FlowStep::Update, ends(web(), Party::Unknown));
    let label = crate::store::Label {
        name: "api.example".into(),
        addr: mapped(2),
        learned: UnixNanos(0),
        ttl: 1,
    };
    event.row.flow.label = Some(label.into());
    event
}

#[test]
fn every_field_picks_what_it_says() {
    let (event, interfaces) = (request(), interfaces());
    let observed = of_flow(&event, &interfaces).unwrap();
    let matches = |filter: FlowFilter| wants(&[filter], &[], &observed);
    let workload =
        |kind: &str, name: &str| vec![Workload { kind: kind.to_owned(), name: name.to_owned() }];
    let kinds = |of, match_sub_type, sub_type| {
        vec![EventTypeFilter { r#type: of, match_sub_type, sub_type }]
    };
    let interface = |index, name: &str| vec![NetworkInterface { index, name: name.to_owned() }];
    let identity = observed.source.who.identity();
    let syn = TcpFlags { syn: true, ..TcpFlags::default() };
    let rst = TcpFlags { rst: true, ..syn };
    let (forwarded, dropped) = (Verdict::Forwarded.into(), Verdict::Dropped.into());
    let (egress, ingress) = (TrafficDirection::Egress.into(), TrafficDirection::Ingress.into());
    let uuid = instance().uuid(observed.id);
    macro_rules! table {
        ($($field:ident: $yes:expr, $no:expr;)*) => { $(
            assert!(matches(FlowFilter { $field: $yes, ..none() }), stringify!($field));
            assert!(!matches(FlowFilter { $field: $no, ..none() }), stringify!($field));
        )* };
    }
    table! {
        uuid: vec![uuid], texts(&["00000000-0000-8000-8000-000000000000"]);
        source_ip: texts(&["10.0.0.1"]), texts(&["10.0.0.2"]);
        source_ip: texts(&["fd00::/8", "10.0.0.0/24"]), texts(&["10.0.1.0/24"]);
        destination_ip: texts(&["10.0.0.2/32"]), texts(&["10.0.0.1"]);
        source_port: texts(&["1", "40000"]), texts(&["443"]);
        destination_port: texts(&["443"]), texts(&["40000"]);
        source_pod: texts(&["shop/web"]), texts(&["shop/db"]);
        source_pod: texts(&["shop/"]), texts(&["ml/"]);
        destination_pod: texts(&["/db-0"]), texts(&["/web"]);
        destination_service: texts(&["shop/db"]), texts(&["shop/web"]);
        destination_service: texts(&["shop/"]), texts(&["db"]);
        source_label: texts(&["app=web"]), texts(&["app=db"]);
        source_label: texts(&["k8s:tier in (a,b),app"]), texts(&["reserved:app"]);
        source_label: texts(&["app!=db"]), texts(&["!app"]);
        destination_label: texts(&["k8s:io.kubernetes.pod.namespace=shop"]), texts(&["reserved:world"]);
        source_workload: workload("Deployment", "web"), workload("StatefulSet", "web");
        source_workload: workload("", "web"), workload("", "we");
        destination_workload: workload("StatefulSet", ""), workload("", "web");
        source_identity: vec![2, identity], vec![1, 2, 3];
        destination_identity: vec![observed.destination.who.identity()], vec![identity];
        source_cluster_name: texts(&["default"]), texts(&["other"]);
        traffic_direction: vec![egress], vec![ingress];
        verdict: vec![dropped, forwarded], vec![dropped];
        event_type: kinds(4, false, 0), kinds(1, false, 0);
        event_type: kinds(4, true, 5), kinds(4, true, 0);
        event_type: kinds(0, false, 0), kinds(129, false, 0);
        protocol: texts(&["udp", "TCP"]), texts(&["udp", "dns", "http"]);
        reply: vec![false], vec![true];
        tcp_flags: vec![syn], vec![rst];
        tcp_flags: vec![rst, syn], vec![TcpFlags { fin: true, ..TcpFlags::default() }];
        ip_version: vec![IpVersion::IPv4.into()], vec![IpVersion::IPv6.into()];
        node_name: texts(&["node-*"]), texts(&["other/"]);
        node_name: texts(&["default/node-1"]), texts(&["node"]);
        interface: interface(7, ""), interface(8, "");
    }
    // Nothing that a flow of packets has.
    for filter in [
        FlowFilter { dns_query: texts(&[""]), ..none() },
        FlowFilter { drop_reason_desc: vec![DropReason::PolicyDenied.into()], ..none() },
        FlowFilter { source_fqdn: texts(&["*"]), ..none() },
        FlowFilter { source_service: texts(&["/"]), ..none() },
        FlowFilter { interface: interface(0, "veth7"), ..none() },
        FlowFilter { destination_cluster_name: texts(&["other"]), ..none() },
    ] {
        assert!(!matches(filter.clone()), "{filter:?}");
    }
}

#[test]
fn names_drops_and_queries_are_found() {
    let interfaces = interfaces();
    let event = outwards();
    let observed = of_flow(&event, &interfaces).unwrap();
    let fqdn = |name: &str| FlowFilter { destination_fqdn: texts(&[name]), ..none() };
    assert!(wants(&[fqdn("*.example")], &[], &observed));
    assert!(!wants(&[fqdn("example")], &[], &observed));
    let world = FlowFilter { destination_label: texts(&["reserved:world"]), ..none() };
    assert!(wants(&[world], &[], &observed));

    let event = tcp_event(drop_sample("NETFILTER_DROP", 2), ends(Party::Unknown, web()));
    let id = id(Signal::Tcp, 0);
    let observed = Observed::of_tcp(id, UnixNanos(1), &event, &interfaces, NODE).unwrap();
    let reason =
        |reason: DropReason| FlowFilter { drop_reason_desc: vec![reason.into()], ..none() };
    assert!(wants(&[reason(DropReason::PolicyDenied)], &[], &observed));
    assert!(!wants(&[reason(DropReason::Unknown)], &[], &observed));
    let named = NetworkInterface { index: 0, name: "veth7".into() };
    assert!(wants(&[FlowFilter { interface: vec![named], ..none() }], &[], &observed));

    let event = dns_event(exchange(DnsOutcome::Timeout));
    let id = super::super::id::EventId { signal: Signal::Dns, sequence: 1, part: 0 };
    let observed = Observed::of_dns(id, UnixNanos(1), &event, &interfaces, NODE).unwrap();
    let query = |text: &str| FlowFilter { dns_query: texts(&[text]), ..none() };
    assert!(wants(&[query(r"^api\..*\.$")], &[], &observed), "names have their last dot");
    assert!(!wants(&[query("^example")], &[], &observed));
    let of = |name: &str| FlowFilter { protocol: texts(&[name]), ..none() };
    assert!(wants(&[of("dns")], &[], &observed) && wants(&[of("udp")], &[], &observed));
    let failed = FlowFilter { verdict: vec![Verdict::Error.into()], ..none() };
    assert!(wants(&[failed], &[], &observed));
}

#[test]
fn a_drop_of_which_nobody_knows_is_taken_for_a_request() {
    let interfaces = interfaces();
    let mut sample = drop_sample("TCP_CSUM", 0x10);
    sample.remote.port = 50_000;
    let event = tcp_event(sample, ends(web(), db()));
    let id = id(Signal::Tcp, 0);
    let observed = Observed::of_tcp(id, UnixNanos(1), &event, &interfaces, NODE).unwrap();
    assert_eq!(observed.is_reply, None);
    let reply = |reply| FlowFilter { reply: vec![reply], ..none() };
    assert!(wants(&[reply(false)], &[], &observed) && !wants(&[reply(true)], &[], &observed));
    let mut event = request();
    event.row.flow.asking = None;
    event.row.flow.key.destination_port = 50_000;
    let observed = of_flow(&event, &interfaces).unwrap();
    assert!(!wants(&[reply(false)], &[], &observed) && !wants(&[reply(true)], &[], &observed));
}

#[test]
fn fields_narrow_filters_widen_and_the_blacklist_wins() {
    let (event, interfaces) = (request(), interfaces());
    let observed = of_flow(&event, &interfaces).unwrap();
    let tcp = FlowFilter { protocol: texts(&["tcp"]), ..none() };
    let udp = FlowFilter { protocol: texts(&["udp"]), ..none() };
    let tcp_to_80 = FlowFilter { destination_port: texts(&["80"]), ..tcp.clone() };
    assert!(wants(&[], &[], &observed), "nothing asked for is everything");
    assert!(wants(&[none()], &[], &observed), "so is a filter without fields");
    assert!(!wants(std::slice::from_ref(&tcp_to_80), &[], &observed));
    assert!(wants(&[udp.clone(), tcp.clone()], &[], &observed));
    assert!(wants(&[], &[udp.clone(), tcp_to_80.clone()], &observed));
    assert!(!wants(std::slice::from_ref(&tcp), &[udp, tcp.clone()], &observed));
    // What nothing matches leaves nothing out, and lets nothing in.
    let http = FlowFilter { http_status_code: texts(&["500"]), ..none() };
    assert!(wants(&[], &[http], &observed));
    assert!(!wants(&[tcp_to_80], &[], &observed));
}

#[test]
fn what_cannot_be_matched_or_understood_is_refused_and_named() {
    let error = |whitelist: FlowFilter| {
        Filters::new(&[none(), whitelist], &[], NODE).unwrap_err().to_string()
    };
    let header = HttpHeader { key: "a".into(), value: "b".into() };
    let cel = flow_filter::Experimental { cel_expression: texts(&["true"]) };
    for (filter, field) in [
        (FlowFilter { http_status_code: texts(&["404"]), ..none() }, "http_status_code"),
        (FlowFilter { http_method: texts(&["GET"]), ..none() }, "http_method"),
        (FlowFilter { http_path: texts(&["/"]), ..none() }, "http_path"),
        (FlowFilter { http_url: texts(&["/"]), ..none() }, "http_url"),
        (FlowFilter { http_header: vec![header], ..none() }, "http_header"),
        (FlowFilter { trace_id: texts(&["1"]), ..none() }, "trace_id"),
        (FlowFilter { ip_trace_id: vec![1], ..none() }, "ip_trace_id"),
        (FlowFilter { source_ip_xlated: texts(&["10.0.0.1"]), ..none() }, "source_ip_xlated"),
        (FlowFilter { encrypted: vec![true], ..none() }, "encrypted"),
        (FlowFilter { node_labels: texts(&["a=b"]), ..none() }, "node_labels"),
        (FlowFilter { experimental: Some(cel), ..none() }, "experimental.cel_expression"),
        (FlowFilter { protocol: texts(&["http", "kafka"]), ..none() }, "protocol"),
    ] {
        let text = error(filter);
        assert!(text.starts_with(&format!("whitelist[1].{field}: orb8 ")), "{text}");
        assert!(text.ends_with("leave it out"), "{text}");
    }
    for (filter, field) in [
        (FlowFilter { source_ip: texts(&["ten"]), ..none() }, "source_ip"),
        (FlowFilter { destination_ip: texts(&["10.0.0.0/99"]), ..none() }, "destination_ip"),
        (FlowFilter { source_port: texts(&["http"]), ..none() }, "source_port"),
        (FlowFilter { destination_pod: texts(&[""]), ..none() }, "destination_pod"),
        (FlowFilter { source_label: texts(&["a=(b"]), ..none() }, "source_label"),
        (FlowFilter { destination_fqdn: texts(&["a b"]), ..none() }, "destination_fqdn"),
        (FlowFilter { dns_query: texts(&["("]), ..none() }, "dns_query"),
        (FlowFilter { node_name: texts(&[""]), ..none() }, "node_name"),
        (FlowFilter { protocol: texts(&["tpc"]), ..none() }, "protocol"),
        (FlowFilter { source_cluster_name: texts(&[""]), ..none() }, "source_cluster_name"),
    ] {
        assert!(error(filter.clone()).starts_with(&format!("whitelist[1].{field}: ")));
        let blacklisted = Filters::new(&[], &[filter], NODE).unwrap_err().to_string();
        assert!(blacklisted.starts_with(&format!("blacklist[0].{field}: ")), "{blacklisted}");
    }
    // What might match is not passed over.
    let encrypted = FlowFilter { encrypted: vec![true], ..none() };
    assert!(Filters::new(&[], &[encrypted], NODE).is_err());
}

#[test]
fn filters_are_bounded() {
    let many = vec![none(); MAX_FILTERS + 1];
    assert_eq!(Filters::new(&many, &[], NODE).unwrap_err(), FilterError::TooMany);
    let ports = vec!["1".to_owned(); MAX_BYTES / 3 + 1];
    let long = FlowFilter { source_port: ports, ..none() };
    assert_eq!(Filters::new(&[], &[long], NODE).unwrap_err(), FilterError::TooMany);
}

fn any_text() -> impl Strategy<Value = Vec<String>> {
    let one = prop_oneof![
        "\\PC{0,12}",
        "[a-z0-9./:*!=(), -]{0,16}",
        Just("shop/".to_owned()),
        Just("10.0.0.0/8".to_owned()),
        Just("app in (web, db),k8s:tier".to_owned()),
        Just("443".to_owned()),
        Just("tcp".to_owned()),
    ];
    prop::collection::vec(one, 0..3)
}

prop_compose! {
    fn any_filter()(
        texts in prop::collection::vec(any_text(), 16),
        numbers in prop::collection::vec(any::<i32>(), 0..3),
        flags in any::<[bool; 4]>(),
        chosen in any::<u32>(),
    ) -> FlowFilter {
        let text = |at: usize| if chosen >> at & 1 == 1 { texts[at].clone() } else { Vec::new() };
        let number = |at: usize| if chosen >> at & 1 == 1 { numbers.clone() } else { Vec::new() };
        let unsigned = |at: usize| number(at).into_iter().map(i32::cast_unsigned).collect();
        FlowFilter {
            uuid: text(0),
            source_ip: text(1),
            source_pod: text(2),
            source_fqdn: text(3),
            source_label: text(4),
            source_service: text(5),
            destination_ip: text(6),
            destination_pod: text(7),
            destination_fqdn: text(8),
            destination_label: text(9),
            protocol: text(10),
            source_port: text(11),
            destination_port: text(12),
            dns_query: text(13),
            node_name: text(14),
            destination_cluster_name: text(15),
            traffic_direction: number(16),
            verdict: number(17),
            drop_reason_desc: number(18),
            ip_version: number(19),
            source_identity: unsigned(20),
            destination_identity: unsigned(21),
            event_type: number(22).into_iter()
                .map(|of| EventTypeFilter { r#type: of, match_sub_type: flags[0], sub_type: of })
                .collect(),
            reply: if flags[1] { vec![flags[2]] } else { Vec::new() },
            tcp_flags: if flags[3] {
                vec![TcpFlags { syn: flags[0], ack: flags[1], ..TcpFlags::default() }]
            } else {
                Vec::new()
            },
            ..FlowFilter::default()
        }
    }
}

proptest! {
    /// Whatever a client sends: it is refused with a field's name, or compiled and compared.
    #[test]
    fn anything_is_refused_or_compared(
        white in prop::collection::vec(any_filter(), 0..3),
        black in prop::collection::vec(any_filter(), 0..3),
    ) {
        let interfaces = interfaces();
        let (request, outwards) = (request(), outwards());
        let dns = dns_event(exchange(DnsOutcome::Answered));
        let dropped = tcp_event(drop_sample("NO_SOCKET", 2), ends(web(), db()));
        let (dns_id, tcp_id) = (id(Signal::Dns, 1), id(Signal::Tcp, 0));
        let time = UnixNanos(1);
        let all = [
            of_flow(&request, &interfaces),
            of_flow(&outwards, &interfaces),
            Observed::of_dns(dns_id, time, &dns, &interfaces, NODE),
            Observed::of_tcp(tcp_id, time, &dropped, &interfaces, NODE),
        ].map(Option::unwrap);
        match Filters::new(&white, &black, NODE) {
            Ok(filters) => for observed in &all {
                let is_wanted = filters.want(observed, &instance());
                // A blacklist of the same filters leaves nothing.
                if let Ok(none) = Filters::new(&white, &white, NODE)
                    && !white.is_empty()
                {
                    prop_assert!(!none.want(observed, &instance()));
                }
                if is_wanted && !white.is_empty() {
                    let only = Filters::new(&white, &[], NODE).unwrap();
                    prop_assert!(only.want(observed, &instance()), "more is wanted with a blacklist");
                }
            },
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.contains("list[") || text.starts_with("at most"), "{text}");
                prop_assert!(!text.contains('\n'), "{text:?}");
            }
        }
    }
}
