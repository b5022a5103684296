use std::collections::HashSet;

use jiff::tz::TimeZone;

use super::flow::{Row, endpoint, protocol};
use super::{Format, Subject, View, Width, all, dns, flow, gpu, markdown, owner, pod, tcp};
use crate::filter::End;
use crate::v1::{
    Direction, DnsLabel, EndReason, Endpoint, EventKind, Flow, IcmpType, LocalEnd, Protocol,
    Runtime, StreamEventsResponse, TcpHealth, TcpState, Workload,
};

mod dns_cells;
mod ends;
mod gpu_cells;
mod tcp_cells;

const NOW: u64 = 1_700_000_000_123_456_789;

fn format() -> Format {
    Format { numeric: false, names: true, time_zone: TimeZone::UTC, now_ns: NOW }
}

fn a_flow(protocol: Protocol, source: ([u8; 4], u32), destination: ([u8; 4], u32)) -> Flow {
    let end =
        |(ip, port): ([u8; 4], u32)| Endpoint { ip: ip.to_vec(), port, ..Endpoint::default() };
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
    let columns = all(&[&flow::LIST, &flow::EVENTS]);
    let column = columns.iter().find(|column| column.name == name).unwrap();
    (column.value)(Row { flow, event }, &format())
}

/// Judges the columns of a subject.
fn complete<S: Subject>(views: &[&View<S>]) {
    let markdown = markdown(views);
    let mut names = HashSet::new();
    for column in all(views) {
        assert!(names.insert(column.name));
        assert!(column.doc.ends_with('.'), "{}", column.name);
        assert!(!column.header.is_empty(), "{}", column.name);
        if let Width::Flexible(least, _) = column.width {
            let header = column.short_header().len();
            let names_fit = usize::from(least) >= header || column.name == "destination";
            assert!(names_fit, "{}", column.name);
        }
        assert!(markdown.contains(&format!("| {} | ", column.name)));
    }
    for view in views {
        let shown: HashSet<&str> = view.wide.iter().map(|column| column.name).collect();
        assert_eq!(shown.len(), view.wide.len(), "`{}` has a column twice", view.command);
        for column in view.columns {
            assert!(
                shown.contains(column.name),
                "{} is in no wide `{}`",
                column.name,
                view.command
            );
        }
    }
}

#[test]
fn every_column_is_complete_and_wide_views_have_all() {
    complete(&[&flow::LIST, &flow::EVENTS]);
    complete(&[&dns::EXCHANGES]);
    complete(&[&dns::TOP]);
    complete(&[&tcp::EVENTS]);
    complete(&[&tcp::TOP]);
    complete(&[&pod::LIST]);
    complete(&[&gpu::LIST]);
    complete(&[&gpu::SHARES, &gpu::IDLE]);
    complete(&[&gpu::PROCESSES]);
    complete(&[&gpu::HEALTH]);
    complete(&[&gpu::LEAKS]);
    complete(&[&gpu::EVENTS]);
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
    let flow = a_flow(Protocol::Tcp, ([10, 0, 0, 5], 50_051), ([10, 0, 0, 7], 443));
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
    let mut ping = a_flow(Protocol::Icmp, ([10, 0, 0, 5], 0), ([1, 1, 1, 1], 0));
    ping.icmp = Some(IcmpType { r#type: 8, code: 0 });
    assert_eq!(cell("source", &ping, None).unwrap(), "10.0.0.5");
    assert_eq!(cell("protocol", &ping, None).unwrap(), "ICMP echo-request");
    assert_eq!(cell("info", &ping, None).unwrap(), "8/0");
    ping.icmp = Some(IcmpType { r#type: 99, code: 7 });
    assert_eq!(cell("protocol", &ping, None).unwrap(), "ICMP");
    assert_eq!(cell("info", &ping, None).unwrap(), "99/7");
    let mut gre = a_flow(Protocol::Other, ([10, 0, 0, 5], 0), ([1, 1, 1, 1], 0));
    gre.ip_protocol = 47;
    assert_eq!(protocol(&gre), "GRE");
    gre.ip_protocol = 99;
    assert_eq!(protocol(&gre), "IP 99");
}

#[test]
fn an_update_shows_what_it_adds() {
    let flow = a_flow(Protocol::Tcp, ([10, 0, 0, 5], 51_000), ([10, 0, 0, 7], 443));
    let event = |kind: EventKind| StreamEventsResponse {
        kind: kind.into(),
        delta_bytes: 100,
        delta_packets: 1,
        end_reason: EndReason::Rst.into(),
        time_ns: NOW,
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
    let mut flow = a_flow(Protocol::Tcp, ([10, 0, 0, 5], 51_000), ([10, 0, 0, 7], 443));
    assert_eq!(cell("owner", &flow, None), None);
    flow.destination.as_mut().unwrap().workload = named("server");
    assert_eq!(cell("owner", &flow, None).unwrap(), "server", "the only known end");
    flow.source.as_mut().unwrap().workload = named("client");
    flow.local_end = LocalEnd::Source.into();
    assert_eq!(cell("owner", &flow, None).unwrap(), "client");
    assert_eq!(cell("peer", &flow, None).unwrap(), "server");
}

#[test]
fn a_name_that_led_there_is_shown_instead() {
    let mut flow = a_flow(Protocol::Tcp, ([10, 0, 0, 5], 51_000), ([10, 0, 0, 7], 443));
    assert_eq!(cell("name", &flow, None), None);
    let label = DnsLabel { name: "api.example.com".into(), ..DnsLabel::default() };
    flow.destination.as_mut().unwrap().dns = Some(label);
    let text = |format: &Format| endpoint(&flow, End::Destination, format).unwrap();
    assert_eq!(text(&format()), "api.example.com:https");
    assert_eq!(text(&Format { numeric: true, ..format() }), "api.example.com:443");
    assert_eq!(text(&Format { names: false, ..format() }), "10.0.0.7:https");
    assert_eq!(cell("name", &flow, None).unwrap(), "api.example.com");
}

#[test]
fn a_flow_has_its_connections_health() {
    let mut flow = a_flow(Protocol::Tcp, ([10, 0, 0, 5], 51_000), ([10, 0, 0, 7], 443));
    assert_eq!(cell("rtt", &flow, None), None);
    flow.tcp = Some(TcpHealth {
        state: TcpState::FinWait1.into(),
        rtt_ns: Some(1_234_000),
        retransmits: 3,
        ..TcpHealth::default()
    });
    assert_eq!(cell("state", &flow, None).unwrap(), "fin-wait-1");
    assert_eq!(cell("rtt", &flow, None).unwrap(), "1.2ms");
    assert_eq!(cell("retransmits", &flow, None).unwrap(), "3");
}

#[test]
fn tcp_flags_are_letters() {
    let mut flow = a_flow(Protocol::Tcp, ([10, 0, 0, 5], 1), ([10, 0, 0, 7], 2));
    flow.tcp_flags = 0x1b;
    assert_eq!(cell("info", &flow, None).unwrap(), "SAPF");
    flow.tcp_flags = 0;
    assert_eq!(cell("info", &flow, None), None);
}
