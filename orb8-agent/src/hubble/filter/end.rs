//! What must be at an end.

use std::net::IpAddr;

use ipnet::IpNet;
use orb8_proto::filter::{End, Selector};
use orb8_proto::hubble::flow::{FlowFilter, Workload};
use regex::Regex;

use super::super::observed::Side;
use super::{Problem, pattern};

/// One thing that must be so of an end.
#[derive(Clone, Debug)]
pub(super) enum EndTest {
    Ip(Vec<IpNet>),
    Port(Vec<u16>),
    Pod(Vec<Prefix>),
    Service(Vec<Prefix>),
    Fqdn(Regex),
    Label(Vec<Selector>),
    Workload(Vec<Workload>),
    Identity(Vec<u32>),
    Cluster(Vec<String>),
}

/// The beginning of a name, in a namespace; empty for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    namespace: String,
    name: String,
}

/// The fields of a filter that are about one end, with their names.
struct Fields<'a> {
    ip: (&'static str, &'a [String]),
    port: (&'static str, &'a [String]),
    pod: (&'static str, &'a [String]),
    service: (&'static str, &'a [String]),
    fqdn: (&'static str, &'a [String]),
    label: (&'static str, &'a [String]),
    cluster: (&'static str, &'a [String]),
    workload: &'a [Workload],
    identity: &'a [u32],
}

impl<'a> Fields<'a> {
    fn new(filter: &'a FlowFilter, end: End) -> Self {
        match end {
            End::Source => Self {
                ip: ("source_ip", &filter.source_ip),
                port: ("source_port", &filter.source_port),
                pod: ("source_pod", &filter.source_pod),
                service: ("source_service", &filter.source_service),
                fqdn: ("source_fqdn", &filter.source_fqdn),
                label: ("source_label", &filter.source_label),
                cluster: ("source_cluster_name", &filter.source_cluster_name),
                workload: &filter.source_workload,
                identity: &filter.source_identity,
            },
            End::Destination => Self {
                ip: ("destination_ip", &filter.destination_ip),
                port: ("destination_port", &filter.destination_port),
                pod: ("destination_pod", &filter.destination_pod),
                service: ("destination_service", &filter.destination_service),
                fqdn: ("destination_fqdn", &filter.destination_fqdn),
                label: ("destination_label", &filter.destination_label),
                cluster: ("destination_cluster_name", &filter.destination_cluster_name),
                workload: &filter.destination_workload,
                identity: &filter.destination_identity,
            },
        }
    }
}

/// Compiles what a filter says of one end.
pub(super) fn end_tests(filter: &FlowFilter, end: End) -> Result<Vec<EndTest>, Problem> {
    let Fields { ip, port, pod, service, fqdn, label, cluster, workload, identity } =
        Fields::new(filter, end);
    let mut tests = Vec::new();
    tests.extend(each(ip, network)?.map(EndTest::Ip));
    tests.extend(each(port, number)?.map(EndTest::Port));
    tests.extend(each(pod, prefix)?.map(EndTest::Pod));
    tests.extend(each(service, prefix)?.map(EndTest::Service));
    tests.extend(each(label, selector)?.map(EndTest::Label));
    tests.extend(each(cluster, named)?.map(EndTest::Cluster));
    if !fqdn.1.is_empty() {
        let names = pattern::names(fqdn.1).map_err(|problem| (fqdn.0, problem))?;
        tests.push(EndTest::Fqdn(names));
    }
    if !workload.is_empty() {
        tests.push(EndTest::Workload(workload.to_vec()));
    }
    if !identity.is_empty() {
        tests.push(EndTest::Identity(identity.to_vec()));
    }
    Ok(tests)
}

/// Reads each value; `None` where there is none.
fn each<T>(
    (field, values): (&'static str, &[String]),
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Vec<T>>, Problem> {
    if values.is_empty() {
        return Ok(None);
    }
    let read = values.iter().map(|value| read(value)).collect::<Result<Vec<_>, _>>();
    read.map(Some).map_err(|problem| (field, problem))
}

fn network(text: &str) -> Result<IpNet, String> {
    let parsed: Option<IpNet> = match text.contains('/') {
        true => text.parse().ok(),
        false => text.parse().ok().map(|ip: IpAddr| ip.to_canonical().into()),
    };
    parsed.ok_or_else(|| format!("`{text}` is neither an address nor a prefix like 10.0.0.0/8"))
}

fn number(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("`{text}` is no port number"))
}

fn named(text: &str) -> Result<String, String> {
    match text {
        "" => Err("a name must not be empty".to_owned()),
        name => Ok(name.to_owned()),
    }
}

fn prefix(text: &str) -> Result<Prefix, String> {
    let (namespace, name) = match text.split_once('/') {
        _ if text.is_empty() => return Err("a name must not be empty".to_owned()),
        Some(both) => both,
        // As Hubble takes it.
        None => ("default", text),
    };
    Ok(Prefix { namespace: namespace.to_owned(), name: name.to_owned() })
}

fn selector(text: &str) -> Result<Selector, String> {
    Selector::new(&with_sources(text)).map_err(|problem| {
        format!("`{text}` is no label selector like `app=web` or `reserved:world`: {problem}")
    })
}

/// Puts the source of each key before it, as a part of the key: `k8s:app` is `k8s.app`, and `app` of
/// whichever source is `any.app`.
fn with_sources(selector: &str) -> String {
    let mut out = String::with_capacity(selector.len() + 8);
    let mut rest = selector;
    loop {
        let start = rest.find(|c: char| !c.is_whitespace() && c != '!').unwrap_or(rest.len());
        let (before, from_key) = rest.split_at(start);
        out.push_str(before);
        let is_end = |c: char| c.is_whitespace() || matches!(c, '=' | '!' | ',' | '(' | ')');
        let (key, after) = from_key.split_at(from_key.find(is_end).unwrap_or(from_key.len()));
        match key.split_once(':') {
            _ if key.is_empty() => {}
            Some((source, name)) => out.extend([source, ".", name]),
            None => out.extend(["any.", key]),
        }
        let mut depth = 0i32;
        let comma = after.find(|c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ',' && depth <= 0
        });
        let Some(comma) = comma else {
            out.push_str(after);
            return out;
        };
        let (requirement, next) = after.split_at(comma + 1);
        out.push_str(requirement);
        rest = next;
    }
}

impl Prefix {
    fn matches(&self, of: Option<(&str, &str)>) -> bool {
        of.is_some_and(|(namespace, name)| {
            (self.namespace.is_empty() || self.namespace == namespace)
                && name.starts_with(&self.name)
        })
    }
}

impl EndTest {
    pub(super) fn passes(&self, side: &Side<'_>) -> bool {
        match self {
            Self::Ip(wanted) => wanted.iter().any(|network| network.contains(&side.ip)),
            Self::Port(wanted) => side.port.is_some_and(|port| wanted.contains(&port)),
            Self::Pod(wanted) => wanted.iter().any(|wanted| wanted.matches(side.who.pod())),
            Self::Service(wanted) => wanted.iter().any(|wanted| wanted.matches(side.service)),
            Self::Fqdn(wanted) => side
                .name
                .is_some_and(|name| wanted.is_match(name.strip_suffix('.').unwrap_or(name))),
            Self::Label(wanted) => {
                wanted.iter().any(|selector| selector.matches(|key| side.who.label(key)))
            }
            Self::Workload(wanted) => side.who.workload().is_some_and(|(kind, name)| {
                wanted.iter().any(|wanted| {
                    (wanted.name.is_empty() || wanted.name == name)
                        && (wanted.kind.is_empty() || wanted.kind == kind)
                })
            }),
            Self::Identity(wanted) => wanted.contains(&side.who.identity()),
            Self::Cluster(wanted) => wanted.iter().any(|wanted| wanted == side.who.cluster()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_a_source() {
        for (selector, expected) in [
            ("app", "any.app"),
            ("k8s:app=web", "k8s.app=web"),
            ("reserved:world", "reserved.world"),
            ("!app , k8s:tier in (a, b),x!=y", "!any.app , k8s.tier in (a, b),any.x!=y"),
            ("app.kubernetes.io/name=a", "any.app.kubernetes.io/name=a"),
            ("", ""),
        ] {
            assert_eq!(with_sources(selector), expected);
        }
    }

    #[test]
    fn names_are_found_by_their_beginning() {
        let matches = |wanted: &str, of| prefix(wanted).unwrap().matches(of);
        let web = Some(("shop", "web-1"));
        assert!(matches("shop/", web) && matches("shop/we", web) && matches("/web", web));
        assert!(!matches("web", web), "without a namespace it is one of `default`");
        assert!(matches("web", Some(("default", "web-1"))));
        assert!(matches("/", web) && !matches("/", None));
        assert!(!matches("shop/web-12", web) && !matches("sho/", web));
        assert!(prefix("").is_err());
    }

    #[test]
    fn nonsense_is_named() {
        assert!(network("10.0.0.0/33").unwrap_err().contains("10.0.0.0/33"));
        assert!(network("ten").is_err() && network("").is_err());
        assert_eq!(network("::ffff:10.0.0.1").unwrap(), "10.0.0.1/32".parse().unwrap());
        assert!(number("65536").is_err() && number("http").is_err());
        assert!(selector("app=").is_ok() && selector("app==(").is_err() && selector("").is_err());
        assert!(named("").is_err());
    }
}
