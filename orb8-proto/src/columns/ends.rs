//! Who is at both ends, as tables tell it.
//!
//! | an end is | printed |
//! |---|---|
//! | a Service's address | `svc:namespace/name` |
//! | a pod | `namespace/pod` |
//! | a node's address | `node:name` |
//! | a container or systemd unit | as the owner column names it |
//! | an address that a DNS answer named | that name |
//! | anything else | the address |
//!
//! The end that the owner column names is its address all the same: no table tells it twice.

use std::net::IpAddr;

use super::cells::{self, Cell, owner};
use super::{Column, Cut, Format, Subject, Width};
use crate::filter::End;
use crate::flow::{is_on_node, present};
use crate::ports;
use crate::v1::{Endpoint, Protocol, Workload};

/// First port that systems hand out by themselves. A name for one of these is a coincidence, unless
/// the other end's port is no better.
const EPHEMERAL: u16 = 32_768;

/// Both ends of something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends<'a> {
    source: Option<&'a Endpoint>,
    destination: Option<&'a Endpoint>,
    /// The end that the owner column names.
    owner: Option<End>,
}

/// What has two ends.
pub(crate) trait TwoEnded: Subject {
    fn ends(row: Self::Row<'_>) -> Ends<'_>;

    const WORKLOAD: Column<Self> = Column {
        name: "workload",
        header: "WORKLOAD",
        doc: "What made the owner's pod, kind and name, as kubectl takes them: `deploy/web`.",
        value: |row, _| Self::ends(row).workload(),
        ..Column::WORDS
    };

    const PEER: Column<Self> = Column {
        name: "peer",
        header: "PEER",
        doc: "Who is at the other end: a pod, `svc:` and a Service, `node:` and a node, a container or a unit.",
        value: |row, _| Self::ends(row).peer(),
        ..Column::WORDS
    };

    const PEER_NODE: Column<Self> = Column {
        name: "peer_node",
        header: "PEER NODE",
        doc: "The node that the other end is on.",
        value: |row, _| Self::ends(row).peer_node(),
        ..Column::WORDS
    };

    const BACKEND: Column<Self> = Column {
        name: "backend",
        header: "BACKEND",
        width: Width::Flexible(12, Cut::Middle),
        doc: "Who answers for a Service's address, or is behind a masqueraded one, with the port there.",
        value: |row, format| Self::ends(row).backend(format),
        ..Column::WORDS
    };

    const FOUND: Column<Self> = Column {
        name: "found",
        header: "FOUND",
        doc: "How source and destination are known: by `cgroup`, `pod-ip`, `service`, `node` or `dns`.",
        value: |row, _| Self::ends(row).found(),
        ..Column::WORDS
    };
}

/// The ports of an end and of the other one, and what they are ports of.
pub(super) type Ports = (Option<u16>, Option<u16>, Protocol);

impl<'a> Ends<'a> {
    /// The owner is the `local` end, or else the one that is on the node.
    pub(super) fn new(
        local: Option<End>,
        source: Option<&'a Endpoint>,
        destination: Option<&'a Endpoint>,
        node_name: &str,
    ) -> Self {
        let is_here = |endpoint: Option<&Endpoint>| {
            endpoint
                .and_then(|endpoint| endpoint.workload.as_ref())
                .is_some_and(|workload| is_on_node(workload, node_name))
        };
        let owner = local.or_else(|| match (is_here(source), is_here(destination)) {
            (true, _) => Some(End::Source),
            (false, true) => Some(End::Destination),
            (false, false) => None,
        });
        Self { source, destination, owner }
    }

    pub(super) const fn get(&self, end: End) -> Option<&'a Endpoint> {
        match end {
            End::Source => self.source,
            End::Destination => self.destination,
        }
    }

    /// Returns who the owner column names.
    pub(super) fn owner(&self) -> Option<&'a Workload> {
        self.get(self.owner?)?.workload.as_ref()
    }

    /// Formats one end: `shop/web-7d4f:https`, `10.0.0.1:51000`, `[fd00::1]:51000`, or without a port
    /// where there are none.
    pub(super) fn place(&self, end: End, ports: Ports, format: &Format) -> Cell {
        let endpoint = self.get(end)?;
        let is_told = self.owner == Some(end) && endpoint.workload.is_some();
        let name = Some(endpoint).filter(|_| format.names && !is_told).and_then(any_name);
        Some(at(name, endpoint.addr()?, port(ports, format)))
    }

    /// The name by which one of the ends was found.
    pub(super) fn label(&self) -> Cell {
        let mut labels =
            End::BOTH.into_iter().filter_map(|end| present(&self.get(end)?.dns.as_ref()?.name));
        labels.next().map(str::to_owned)
    }

    fn workload(&self) -> Cell {
        cells::controller(self.owner()?.controller.as_ref())
    }

    /// Without an owner, both ends are somebody else's.
    fn peer(&self) -> Cell {
        let others = End::BOTH.into_iter().filter(|end| self.owner != Some(*end));
        let named = |end| {
            let endpoint: &Endpoint = self.get(end)?;
            name(endpoint).or_else(|| owner(endpoint.workload.as_ref()?))
        };
        let names: Vec<String> = others.filter_map(named).collect();
        present(&names.join(" ")).map(str::to_owned)
    }

    fn peer_node(&self) -> Cell {
        let peer = self.get(self.owner?.other())?;
        let workload = peer.workload.as_ref();
        let node = workload.and_then(|workload| present(&workload.node_name));
        node.or_else(|| present(&peer.node)).map(str::to_owned)
    }

    /// Its port is a number: nobody knows it by the name that some port has.
    fn backend(&self, format: &Format) -> Cell {
        End::BOTH.into_iter().find_map(|end| {
            let endpoint = self.get(end)?;
            let workload = endpoint.workload.as_ref().filter(|_| !format.numeric);
            let name = workload.and_then(owner);
            match &endpoint.translated {
                Some(behind) => {
                    let port = (behind.port > 0).then(|| behind.port.to_string());
                    Some(at(name, behind.addr()?, port))
                }
                None => name.filter(|_| endpoint.service.is_some()),
            }
        })
    }

    fn found(&self) -> Cell {
        let ways = End::BOTH.map(|end| self.get(end).and_then(Endpoint::found));
        let [source, destination] = ways.map(|way| way.unwrap_or("-"));
        ways.iter().any(Option::is_some).then(|| format!("{source}/{destination}"))
    }
}

/// Formats a name, or else an address, with a port where there is one.
fn at(name: Option<String>, ip: IpAddr, port: Option<String>) -> String {
    match (name, port) {
        (Some(name), Some(port)) => format!("{name}:{port}"),
        (Some(name), None) => name,
        (None, Some(port)) if ip.is_ipv6() => format!("[{ip}]:{port}"),
        (None, Some(port)) => format!("{ip}:{port}"),
        (None, None) => ip.to_string(),
    }
}

/// Names the first of two ports where its name is no coincidence.
fn port((port, other, protocol): Ports, format: &Format) -> Option<String> {
    let port = port?;
    let known = ports::name(protocol, port).filter(|_| !format.numeric);
    let by_chance = port >= EPHEMERAL && other.is_some_and(|other| other < EPHEMERAL);
    Some(match known {
        Some(name) if !by_chance => name.to_owned(),
        Some(_) | None => port.to_string(),
    })
}

/// Returns the name of who is at an end, or else of its address.
fn any_name(endpoint: &Endpoint) -> Option<String> {
    name(endpoint).or_else(|| present(&endpoint.dns.as_ref()?.name).map(str::to_owned))
}

/// Returns the name of who is at an end. A process or a cgroup says less than an address.
fn name(endpoint: &Endpoint) -> Option<String> {
    if let Some(service) = &endpoint.service {
        return Some(format!("svc:{}/{}", service.namespace, service.name));
    }
    let workload = endpoint.workload.as_ref();
    if let Some(pod) = workload.filter(|workload| !workload.pod.is_empty()) {
        return owner(pod);
    }
    if let Some(node) = present(&endpoint.node) {
        return Some(format!("node:{node}"));
    }
    let is_named =
        |workload: &&Workload| !workload.container.is_empty() || !workload.unit.is_empty();
    owner(workload.filter(is_named)?)
}
