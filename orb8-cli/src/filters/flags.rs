//! Every filter flag, one row each.

use orb8_proto::v1::{
    Direction, DnsFilter, DnsOutcome, DnsSide, FlowFilter, Protocol, TcpEventKind, TcpFilter,
    TcpState,
};

/// A filter that is being put together. Each signal's is made of the parts that it has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Draft {
    pub(super) flow: FlowFilter,
    pub(super) dns: DnsFilter,
    pub(super) tcp: TcpFilter,
}

/// One filter flag.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) aliases: &'static [&'static str],
    pub(super) value: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
}

/// How a flag's values get into a filter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Names, addresses: as they are typed; the matcher judges them.
    Text(fn(&mut Draft) -> &mut Vec<String>),
    /// Text whose commas mean something.
    Whole(fn(&mut Draft) -> &mut Vec<String>),
    /// Ports by number or name.
    Port(fn(&mut Draft) -> &mut Vec<u32>),
    /// Words of an enum; one may stand for several values.
    Word {
        choices: fn() -> Vec<&'static str>,
        numbers: fn(&str) -> Result<Vec<i32>, String>,
        field: fn(&mut Draft) -> &mut Vec<i32>,
    },
    /// How long something takes at least.
    Latency(fn(&mut Draft) -> &mut Option<u64>),
    /// A flag without a value.
    Version(u32),
}

macro_rules! text {
    ($signal:ident.$field:ident) => {
        Kind::Text(|draft| &mut draft.$signal.$field)
    };
}

macro_rules! whole {
    ($field:ident) => {
        Kind::Whole(|draft| &mut draft.flow.$field)
    };
}

macro_rules! port {
    ($field:ident) => {
        Kind::Port(|draft| &mut draft.flow.$field)
    };
}

macro_rules! word {
    ($signal:ident.$field:ident, $enum:ident) => {
        Kind::Word {
            choices: || $enum::WORDS.iter().map(|(_, word)| *word).collect(),
            numbers: |text| find($enum::WORDS, text).map(|found| vec![found.into()]),
            field: |draft| &mut draft.$signal.$field,
        }
    };
}

macro_rules! latency {
    ($signal:ident) => {
        Kind::Latency(|draft| &mut draft.$signal.min_latency_ns)
    };
}

const fn flag(name: &'static str, value: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { name, short: None, aliases: &[], value, help, kind }
}

const fn short(flag: Flag, short: char) -> Flag {
    Flag { short: Some(short), ..flag }
}

const fn alias(flag: Flag, aliases: &'static [&'static str]) -> Flag {
    Flag { aliases, ..flag }
}

/// Which pods; what it is given says whose.
macro_rules! pods {
    ($of:literal, $pod:literal, $node:literal) => {
        &[
            short(
                flag(
                    "namespace",
                    "NAME",
                    text!(flow.namespace),
                    concat!("Kubernetes namespace", $of),
                ),
                'n',
            ),
            flag("pod", "[NS/]NAME", text!(flow.pod), concat!("Pod", $of)),
            short(
                alias(
                    flag(
                        "selector",
                        "SELECTOR",
                        whole!(label),
                        concat!(
                            "Labels of ",
                            $pod,
                            ", as kubectl takes them: app=web,tier!=db or 'env in (a,b)'; of several \
                             selectors one must match, so what is ruled out belongs in one: '!a,!b'"
                        ),
                    ),
                    &["label"],
                ),
                'l',
            ),
            flag(
                "workload",
                "[KIND/]NAME",
                text!(flow.workload),
                concat!("What made ", $pod, ": deploy/web, job/*, or a name"),
            ),
            flag("node", "NAME", text!(flow.node), concat!("Node", $of, $node)),
            flag(
                "container",
                "NAME",
                text!(flow.container),
                concat!("Container", $of, ", by name or id"),
            ),
        ]
    };
}

/// Whose pods' traffic it is.
pub(super) const OWNER: &[Flag] =
    pods!(" of either end", "either end's pod", ": that a pod runs on, or whose address it is");

/// Which pods.
pub(super) const PODS: &[Flag] = pods!("", "the pod", " that it runs on");

pub(super) const SERVICE: &[Flag] =
    &[flag("service", "[NS/]NAME", text!(flow.service), "Service whose address either end is")];

pub(super) const UNIT: &[Flag] =
    &[flag("unit", "NAME", text!(flow.unit), "systemd unit of either end")];

pub(super) const OWN_UNIT: &[Flag] =
    &[flag("unit", "NAME", text!(flow.unit), "systemd unit that it is")];

pub(super) const IP: &[Flag] =
    &[flag("ip", "ADDRESS", text!(flow.ip), "Address or prefix of either end")];

pub(super) const POD_IP: &[Flag] =
    &[flag("ip", "ADDRESS", text!(flow.ip), "One of its addresses, or a prefix of one")];

/// Which way it goes, and how.
pub(super) const ENDS: &[Flag] = &[
    flag("port", "PORT", port!(port), "Port of either end, by number or name"),
    flag("from-namespace", "NAME", text!(flow.source_namespace), "Namespace of the source"),
    flag("from-pod", "[NS/]NAME", text!(flow.source_pod), "Pod of the source"),
    alias(
        flag("from-selector", "SELECTOR", whole!(source_label), "Labels of the source's pod"),
        &["from-label"],
    ),
    flag("from-workload", "[KIND/]NAME", text!(flow.source_workload), "What made the source's pod"),
    flag("from-service", "[NS/]NAME", text!(flow.source_service), "Service of the source"),
    flag("from-node", "NAME", text!(flow.source_node), "Node of the source"),
    flag("from-container", "NAME", text!(flow.source_container), "Container of the source"),
    flag("from-ip", "ADDRESS", text!(flow.source_ip), "Address or prefix of the source"),
    flag("from-port", "PORT", port!(source_port), "Port of the source"),
    flag("to-namespace", "NAME", text!(flow.destination_namespace), "Namespace of the destination"),
    flag("to-pod", "[NS/]NAME", text!(flow.destination_pod), "Pod of the destination"),
    alias(
        flag(
            "to-selector",
            "SELECTOR",
            whole!(destination_label),
            "Labels of the destination's pod",
        ),
        &["to-label"],
    ),
    flag(
        "to-workload",
        "[KIND/]NAME",
        text!(flow.destination_workload),
        "What made the destination's pod",
    ),
    flag("to-service", "[NS/]NAME", text!(flow.destination_service), "Service of the destination"),
    flag("to-node", "NAME", text!(flow.destination_node), "Node of the destination"),
    flag("to-container", "NAME", text!(flow.destination_container), "Container of the destination"),
    flag("to-ip", "ADDRESS", text!(flow.destination_ip), "Address or prefix of the destination"),
    flag("to-port", "PORT", port!(destination_port), "Port of the destination"),
    flag("protocol", "PROTOCOL", word!(flow.protocol, Protocol), "Protocol"),
    flag("direction", "DIRECTION", word!(flow.direction, Direction), "As seen from this node"),
];

pub(super) const INTERFACE: &[Flag] =
    &[flag("interface", "NAME", text!(flow.interface), "Interface")];

pub(super) const VERSION: &[Flag] = &[
    short(flag("ipv4", "", Kind::Version(4), "Only IPv4"), '4'),
    short(flag("ipv6", "", Kind::Version(6), "Only IPv6"), '6'),
];

/// What was asked and answered.
pub(super) const DNS: &[Flag] = &[
    flag(
        "name",
        "PATTERN",
        text!(dns.name),
        "Name that is asked for, with * for any text; *.svc also matches below the cluster's domain",
    ),
    flag("type", "TYPE", text!(dns.query_type), "Type of record that is asked for: A, AAAA, 65"),
    flag("rcode", "RCODE", text!(dns.rcode), "Response code: NXDOMAIN, SERVFAIL, 5"),
    flag("outcome", "OUTCOME", word!(dns.outcome, DnsOutcome), "What became of the query"),
    flag("side", "SIDE", word!(dns.side, DnsSide), "Where it was seen"),
    flag("slow", "DURATION", latency!(dns), "Answers that took at least this long, and timeouts"),
];

/// What happened.
pub(super) const TCP_EVENTS: &[Flag] = &[
    alias(
        flag(
            "events",
            "KIND",
            Kind::Word {
                choices: || TcpEventKind::WORDS.iter().map(|(_, word)| *word).collect(),
                numbers: event_kinds,
                field: |draft| &mut draft.tcp.kind,
            },
            "What happened, all but `state` by default; `connect` has `fail` with it",
        ),
        &["event"],
    ),
    flag("reason", "NAME", text!(tcp.reason), "The kernel's reason for a drop or reset"),
];

/// How a connection is.
pub(super) const TCP: &[Flag] = &[
    flag("state", "STATE", word!(tcp.state, TcpState), "State that the connection is in"),
    flag("slow", "DURATION", latency!(tcp), "Handshake or round-trip time at least this long"),
];

/// An attempt that failed is an attempt to connect too.
fn event_kinds(text: &str) -> Result<Vec<i32>, String> {
    Ok(match find(TcpEventKind::WORDS, text)? {
        TcpEventKind::Connect => vec![TcpEventKind::Connect.into(), TcpEventKind::Fail.into()],
        kind => vec![kind.into()],
    })
}

fn find<E: Copy>(words: &[(E, &str)], text: &str) -> Result<E, String> {
    words
        .iter()
        .find(|(_, word)| word.eq_ignore_ascii_case(text))
        .map(|(value, _)| *value)
        .ok_or_else(|| format!("`{text}` is none of its values"))
}
