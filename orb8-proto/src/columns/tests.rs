use std::collections::HashSet;

use jiff::tz::TimeZone;

use super::{Format, Row, TABLE, View, Width, endpoint, owner, protocol};
use crate::filter::End;
use crate::v1::{
    Direction, EndReason, Endpoint, EventKind, Flow, IcmpType, LocalEnd, Protocol, Runtime,
    StreamEventsResponse, Workload,
};

fn format() -> Format {
    Format { numeric: false, time_zone: TimeZone::UTC }
}

fn flow(protocol: Protocol, source: ([u8; 4], u32), destination: ([u8; 4], u32)) -> Flow {
    let end = |(ip, port): ([u8; 4], u32)| Endpoint { ip: ip.to_vec(), port, workload: None };
    Flow {
        source: Some(end(source)),
        destination: Some(end(destination)),
        protocol: protocol.into(),
        direction: Direction::Egress.into(),
        bytes: 1440,
        packets: 5,
        ..Flow::default()
    }
}

fn cell(name: &str, flow: &Flow, event: Option<&StreamEventsResponse>) -> Option<String> {
    let column = TABLE.iter().find(|column| column.name == name).unwrap();
    (column.value)(&Row { flow, event }, &format())
}

#[test]
fn every_column_is_complete_and_shown_somewhere() {
    let shown: HashSet<&str> =
        View::ALL.iter().flat_map(|view| view.columns()).map(|column| column.name).collect();
    let mut names = HashSet::new();
    for column in TABLE {
        assert!(names.insert(column.name), "{} is there twice", column.name);
        assert!(shown.contains(column.name), "{} is in no view", column.name);
        assert!(column.doc.ends_with('.'), "{}", column.name);
        assert!(!column.header.is_empty() && !column.short_header.is_empty());
        if let Width::Flexible(least, _) = column.width {
            let header = column.short_header.len();
            assert!(usize::from(least) >= header || column.name == "destination");
        }
        assert!(super::markdown().contains(&format!("| {} | ", column.name)));
    }
    assert_eq!(names, shown, "a view has a column that the table lacks");
}

#[test]
fn wide_views_have_what_the_others_have() {
    for (view, wide) in [(View::Flows, View::FlowsWide), (View::Events, View::EventsWide)] {
        for column in view.columns() {
            assert!(wide.columns().iter().any(|other| other.name == column.name));
        }
    }
}

#[test]
fn an_owner_has_its_best_name() {
    let pod = Workload {
        namespace: "ml".into(),
        pod: "trainer-0".into(),
        container: "main".into(),
        ..Workload::default()
    };
    let docker = Workload {
        container: "3f2a9c01d4e5".into(),
        runtime: Runtime::Docker.into(),
        unit: "docker-3f2a.scope".into(),
        ..Workload::default()
    };
    let unit =
        Workload { unit: "sshd.service".into(), process: "sshd".into(), ..Workload::default() };
    let process = Workload {
        process: "curl".into(),
        cgroup_path: "/user.slice".into(),
        ..Workload::default()
    };
    let cgroup = Workload { cgroup_path: "/user.slice".into(), ..Workload::default() };
    assert_eq!(owner(&pod).as_deref(), Some("ml/trainer-0"));
    assert_eq!(owner(&docker).as_deref(), Some("docker:3f2a9c01d4e5"));
    assert_eq!(owner(&unit).as_deref(), Some("sshd.service"));
    assert_eq!(owner(&process).as_deref(), Some("curl"));
    assert_eq!(owner(&cgroup).as_deref(), Some("/user.slice"));
    let root = Workload { cgroup_path: "/".into(), ..Workload::default() };
    assert_eq!(owner(&root).as_deref(), Some("host"));
    assert_eq!(owner(&Workload::default()), None);
}

#[test]
fn ports_have_names_where_they_mean_something() {
    let flow = flow(Protocol::Tcp, ([10, 0, 0, 5], 50_051), ([10, 0, 0, 7], 443));
    let text = |end| endpoint(&flow, end, &format()).unwrap();
    assert_eq!(text(End::Source), "10.0.0.5:50051", "an ephemeral port is no service");
    assert_eq!(text(End::Destination), "10.0.0.7:https");
    let numeric = Format { numeric: true, ..format() };
    assert_eq!(endpoint(&flow, End::Destination, &numeric).unwrap(), "10.0.0.7:443");

    let mut v6 = flow;
    v6.destination.as_mut().unwrap().ip = vec![0; 16];
    assert_eq!(endpoint(&v6, End::Destination, &format()).unwrap(), "[::]:https");
    v6.destination.as_mut().unwrap().ip = vec![1, 2, 3];
    assert_eq!(endpoint(&v6, End::Destination, &format()), None);
}

#[test]
fn protocols_without_ports_have_none() {
    let mut ping = flow(Protocol::Icmp, ([10, 0, 0, 5], 0), ([1, 1, 1, 1], 0));
    ping.icmp = Some(IcmpType { r#type: 8, code: 0 });
    assert_eq!(cell("source", &ping, None).unwrap(), "10.0.0.5");
    assert_eq!(cell("protocol", &ping, None).unwrap(), "ICMP echo-request");
    assert_eq!(cell("info", &ping, None).unwrap(), "8/0");
    ping.icmp = Some(IcmpType { r#type: 99, code: 7 });
    assert_eq!(cell("protocol", &ping, None).unwrap(), "ICMP");
    assert_eq!(cell("info", &ping, None).unwrap(), "99/7");
    let mut gre = flow(Protocol::Other, ([10, 0, 0, 5], 0), ([1, 1, 1, 1], 0));
    gre.ip_protocol = 47;
    assert_eq!(protocol(&gre), "GRE");
    gre.ip_protocol = 99;
    assert_eq!(protocol(&gre), "IP 99");
}

#[test]
fn an_update_shows_what_it_adds() {
    let flow = flow(Protocol::Tcp, ([10, 0, 0, 5], 51_000), ([10, 0, 0, 7], 443));
    let event = |kind: EventKind| StreamEventsResponse {
        kind: kind.into(),
        delta_bytes: 100,
        delta_packets: 1,
        end_reason: EndReason::Rst.into(),
        time_ns: 1_700_000_000_123_456_789,
        ..StreamEventsResponse::default()
    };
    let update = event(EventKind::FlowUpdate);
    assert_eq!(cell("bytes", &flow, Some(&update)).unwrap(), "100B");
    assert_eq!(cell("packets", &flow, Some(&update)).unwrap(), "1");
    assert_eq!(cell("total", &flow, Some(&update)).unwrap(), "1.4KB");
    assert_eq!(cell("event", &flow, Some(&update)).unwrap(), "update");
    assert_eq!(cell("time", &flow, Some(&update)).unwrap(), "22:13:20.123");
    let end = event(EventKind::FlowEnd);
    assert_eq!(cell("bytes", &flow, Some(&end)).unwrap(), "1.4KB");
    assert_eq!(cell("event", &flow, Some(&end)).unwrap(), "reset");
    let new = event(EventKind::FlowNew);
    let unseen = Flow { bytes: 0, packets: 0, ..flow };
    assert_eq!(cell("bytes", &unseen, Some(&new)), None, "packets come with the next update");
}

#[test]
fn the_owner_is_the_local_end() {
    let named = |name: &str| Some(Workload { unit: name.into(), ..Workload::default() });
    let mut flow = flow(Protocol::Tcp, ([10, 0, 0, 5], 51_000), ([10, 0, 0, 7], 443));
    assert_eq!(cell("owner", &flow, None), None);
    flow.destination.as_mut().unwrap().workload = named("server");
    assert_eq!(cell("owner", &flow, None).unwrap(), "server", "the only known end");
    flow.source.as_mut().unwrap().workload = named("client");
    flow.local_end = LocalEnd::Source.into();
    assert_eq!(cell("owner", &flow, None).unwrap(), "client");
    assert_eq!(cell("peer", &flow, None).unwrap(), "server");
}

#[test]
fn tcp_flags_are_letters() {
    let mut flow = flow(Protocol::Tcp, ([10, 0, 0, 5], 1), ([10, 0, 0, 7], 2));
    flow.tcp_flags = 0x1b;
    assert_eq!(cell("info", &flow, None).unwrap(), "SAPF");
    flow.tcp_flags = 0;
    assert_eq!(cell("info", &flow, None), None);
}
