//! Which flows a client wants: `flow.FlowFilter`, compiled.
//!
//! ```text
//! FlowFilter ──compile──▶ Rule: every test must pass ─┬ whitelist: any rule, or none there
//!                                                     └ blacklist: no rule
//! ```
//! What cannot be understood is refused and named. So is a wanted thing that orb8 never sees, such as an
//! HTTP status: nothing would come, and nobody would know why.

use orb8_proto::filter::End;
use orb8_proto::hubble::flow::{EventTypeFilter, FlowFilter, NetworkInterface, Verdict};
use prost::Message;
use regex::{Regex, RegexSet};

use super::convert::{flag_bits, query_name, version};
use super::drop_reason;
use super::id::Instance;
use super::observed::{ICMP, ICMPV6, IGMP, Observed, SCTP, Subject, TCP, UDP, VRRP};
use super::who::CLUSTER;
use end::{EndTest, end_tests};
use pattern::{node_names, queries};

mod end;
mod pattern;

/// Filters in a request, and bytes of them all, at most: each event is compared with them.
const MAX_FILTERS: usize = 256;
const MAX_BYTES: usize = 64 * 1024;

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FilterError {
    #[error("{list}[{at}].{field}: {problem}")]
    Field { list: &'static str, at: usize, field: &'static str, problem: String },
    #[error(
        "at most {MAX_FILTERS} filters, and {MAX_BYTES} bytes of them; use prefixes in place of many names"
    )]
    TooMany,
}

/// A field and what is wrong with it.
type Problem = (&'static str, String);

/// Compiled whitelist and blacklist.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters {
    whitelist: Vec<Rule>,
    blacklist: Vec<Rule>,
    /// Whether there was a whitelist: one whose rules match nothing is not the same as none.
    is_selective: bool,
}

/// A compiled filter: all tests must pass.
#[derive(Clone, Debug)]
struct Rule(Vec<Test>);

#[derive(Clone, Debug)]
enum Test {
    Uuid(Vec<String>),
    Verdict(Vec<i32>),
    DropReason(Vec<i32>),
    Reply(Vec<bool>),
    Direction(Vec<i32>),
    EventType(Vec<EventTypeFilter>),
    Protocol(Vec<Protocol>),
    IpVersion(Vec<i32>),
    TcpFlags(Vec<u8>),
    Interface(Vec<NetworkInterface>),
    DnsQuery(RegexSet),
    /// Whether it is this node.
    Node(bool),
    At(End, EndTest),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Number(u8),
    Icmp,
    Dns,
    /// One that orb8 does not read.
    Unread,
}

impl Filters {
    /// Compiles filters. `node` is the name of this node.
    ///
    /// # Errors
    ///
    /// The first value that cannot be understood or matched.
    pub(super) fn new(
        whitelist: &[FlowFilter],
        blacklist: &[FlowFilter],
        node: &str,
    ) -> Result<Self, FilterError> {
        let all = || whitelist.iter().chain(blacklist);
        if all().count() > MAX_FILTERS || all().map(Message::encoded_len).sum::<usize>() > MAX_BYTES
        {
            return Err(FilterError::TooMany);
        }
        let compile = |list: &'static str, filters: &[FlowFilter], is_wanted| {
            let compile = |(at, filter): (usize, &FlowFilter)| {
                let compiled = compile(filter, node, is_wanted);
                compiled.map_err(|(field, problem)| FilterError::Field { list, at, field, problem })
            };
            let rules = filters.iter().enumerate().map(compile);
            rules.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            whitelist: compile("whitelist", whitelist, true)?,
            blacklist: compile("blacklist", blacklist, false)?,
            is_selective: !whitelist.is_empty(),
        })
    }

    /// Whether the flow is wanted.
    pub(super) fn want(&self, observed: &Observed<'_>, instance: &Instance) -> bool {
        let matches = |rule: &Rule| rule.0.iter().all(|test| test.passes(observed, instance));
        (!self.is_selective || self.whitelist.iter().any(matches))
            && !self.blacklist.iter().any(matches)
    }
}

/// Compiles a filter; `None` for one that can match nothing.
fn compile(filter: &FlowFilter, node: &str, is_wanted: bool) -> Result<Option<Rule>, Problem> {
    if let Some((field, why, can_match)) = unsupported(filter) {
        return match is_wanted || can_match {
            true => Err((field, format!("{why}; leave it out"))),
            // Nothing is left out by what nothing matches.
            false => Ok(None),
        };
    }
    let mut tests = Vec::new();
    let mut add = |test: Option<Test>| tests.extend(test);
    add(of_any(&filter.uuid, Test::Uuid));
    add(of_any(&filter.verdict, Test::Verdict));
    add(of_any(&filter.drop_reason_desc, Test::DropReason));
    add(of_any(&filter.reply, Test::Reply));
    add(of_any(&filter.traffic_direction, Test::Direction));
    add(of_any(&filter.event_type, Test::EventType));
    add(of_any(&filter.ip_version, Test::IpVersion));
    add(of_any(&filter.interface, Test::Interface));
    let flags: Vec<u8> = filter.tcp_flags.iter().map(flag_bits).collect();
    add(of_any(&flags, Test::TcpFlags));
    add(of_any(&protocols(&filter.protocol, is_wanted)?, Test::Protocol));
    if !filter.dns_query.is_empty() {
        let set = queries(&filter.dns_query).map_err(|problem| ("dns_query", problem))?;
        add(Some(Test::DnsQuery(set)));
    }
    if !filter.node_name.is_empty() {
        let pattern = node_names(&filter.node_name).map_err(|problem| ("node_name", problem))?;
        add(Some(Test::Node(is_node(&pattern, node))));
    }
    for end in End::BOTH {
        tests.extend(end_tests(filter, end)?.into_iter().map(|test| Test::At(end, test)));
    }
    Ok(Some(Rule(tests)))
}

fn of_any<T: Clone>(values: &[T], test: impl FnOnce(Vec<T>) -> Test) -> Option<Test> {
    (!values.is_empty()).then(|| test(values.to_vec()))
}

/// Finds a field by which orb8 cannot filter: its name, why, and whether a flow could match it all the
/// same.
fn unsupported(filter: &FlowFilter) -> Option<(&'static str, &'static str, bool)> {
    const HTTP: &str = "orb8 does not read HTTP, so nothing would match";
    let has_cel = filter.experimental.as_ref().is_some_and(|more| !more.cel_expression.is_empty());
    let numbers = filter.tcp_flags.iter().any(|flags| flags.ns);
    let fields = [
        ("http_status_code", !filter.http_status_code.is_empty(), HTTP, false),
        ("http_method", !filter.http_method.is_empty(), HTTP, false),
        ("http_path", !filter.http_path.is_empty(), HTTP, false),
        ("http_url", !filter.http_url.is_empty(), HTTP, false),
        ("http_header", !filter.http_header.is_empty(), HTTP, false),
        (
            "trace_id",
            !filter.trace_id.is_empty(),
            "orb8 does not read the headers of traces, so nothing would match",
            false,
        ),
        (
            "ip_trace_id",
            !filter.ip_trace_id.is_empty(),
            "orb8 does not read IP options, so nothing would match",
            false,
        ),
        (
            "source_ip_xlated",
            !filter.source_ip_xlated.is_empty(),
            "orb8 tells addresses as the socket or interface has them, so nothing would match",
            false,
        ),
        ("tcp_flags", numbers, "orb8 does not read the flag NS, so nothing would match", false),
        ("encrypted", !filter.encrypted.is_empty(), "orb8 does not see what is encrypted", true),
        ("node_labels", !filter.node_labels.is_empty(), "orb8 does not watch nodes' labels", true),
        ("experimental.cel_expression", has_cel, "orb8 does not run expressions", true),
    ];
    let found = fields.into_iter().find(|(_, is_set, ..)| *is_set);
    found.map(|(field, _, why, can_match)| (field, why, can_match))
}

fn protocols(names: &[String], is_wanted: bool) -> Result<Vec<Protocol>, Problem> {
    let read = |name: &String| {
        Ok(match name.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Number(TCP),
            "udp" => Protocol::Number(UDP),
            "sctp" => Protocol::Number(SCTP),
            "icmp" => Protocol::Icmp,
            "icmpv4" => Protocol::Number(ICMP),
            "icmpv6" => Protocol::Number(ICMPV6),
            "igmp" => Protocol::Number(IGMP),
            "vrrp" => Protocol::Number(VRRP),
            "dns" => Protocol::Dns,
            "http" | "kafka" => Protocol::Unread,
            _ => {
                return Err((
                    "protocol",
                    format!(
                        "`{name}` is none of tcp, udp, sctp, icmp, icmpv4, icmpv6, igmp, vrrp, dns"
                    ),
                ));
            }
        })
    };
    let protocols = names.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if is_wanted && !protocols.is_empty() && protocols.iter().all(|of| *of == Protocol::Unread) {
        let problem = format!(
            "orb8 does not read {}, so nothing would match; leave it out",
            names.join(" and ")
        );
        return Err(("protocol", problem));
    }
    Ok(protocols)
}

fn is_node(pattern: &Regex, node: &str) -> bool {
    let whole = if node.contains('/') { node.to_owned() } else { format!("{CLUSTER}/{node}") };
    pattern.is_match(&whole.to_lowercase())
}

impl Test {
    fn passes(&self, observed: &Observed<'_>, instance: &Instance) -> bool {
        match self {
            Self::Uuid(wanted) => wanted.contains(&instance.uuid(observed.id)),
            Self::Verdict(wanted) => wanted.contains(&observed.verdict().into()),
            Self::DropReason(wanted) => match observed.subject {
                Subject::Drop { reason, .. } => {
                    wanted.contains(&drop_reason::of(&reason.name).into())
                }
                _ => false,
            },
            // Hubble's clients take a drop of which nobody knows for a request.
            Self::Reply(wanted) => match observed.is_reply {
                None if observed.verdict() != Verdict::Dropped => false,
                is_reply => wanted.contains(&is_reply.unwrap_or(false)),
            },
            Self::Direction(wanted) => wanted.contains(&observed.direction().into()),
            Self::EventType(wanted) => {
                let (of, sub_type) = observed.event_type();
                wanted.iter().any(|wanted| {
                    (wanted.r#type == 0 || wanted.r#type == of)
                        && (!wanted.match_sub_type || wanted.sub_type == sub_type)
                })
            }
            Self::Protocol(wanted) => wanted.iter().any(|wanted| match *wanted {
                Protocol::Number(number) => observed.protocol == number,
                Protocol::Icmp => matches!(observed.protocol, ICMP | ICMPV6),
                Protocol::Dns => observed.dns().is_some(),
                Protocol::Unread => false,
            }),
            Self::IpVersion(wanted) => wanted.contains(&version(observed.source.ip).into()),
            Self::TcpFlags(wanted) => observed
                .tcp_flags
                .is_some_and(|flags| wanted.iter().any(|wanted| flags & wanted == *wanted)),
            Self::Interface(wanted) => observed.interface.is_some_and(|(index, name)| {
                wanted.iter().any(|wanted| {
                    (wanted.index == 0 || wanted.index == index)
                        && (wanted.name.is_empty() || Some(&*wanted.name) == name)
                })
            }),
            Self::DnsQuery(wanted) => observed
                .dns()
                .and_then(|dns| dns.question.as_ref())
                .is_some_and(|question| wanted.is_match(&query_name(&question.name))),
            Self::Node(is_this) => *is_this,
            Self::At(end, test) => test.passes(observed.side(*end)),
        }
    }
}

#[cfg(test)]
mod tests;
