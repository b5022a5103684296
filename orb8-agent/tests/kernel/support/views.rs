//! Who is said to be at both ends of what was seen, as lines that a test can write down.
//!
//! | an end | reads |
//! |---|---|
//! | a container, by its cgroup | `shop/web-1/main` |
//! | a pod, by its address | `shop/web-1` |
//! | a Service, and who answers | `svc:shop/web:http > shop/web-1/main` |
//! | a node, and who is behind it | `node:node-a > shop/web-1/main` |
//! | an address that is put in place of another's | `… at 10.244.1.10:8080` behind those |
//! | a name that DNS gave it | `name:web.test` |
//! | nobody known | `-` |

use orb8_proto::v1::{
    Attribution, DnsExchange, DnsSide, Endpoint, Flow, LocalEnd, StreamEventsResponse,
    TcpConnection, TcpEvent, Workload,
};

use super::{agent::Agent, watch::Watch};
use orb8_proto::v1::{StreamDnsResponse, StreamTcpResponse};

/// One thing that was told, with who is at its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Of which kind it is.
    pub(crate) what: String,
    pub(crate) local: Side,
    pub(crate) client: String,
    pub(crate) server: String,
}

/// Whose socket told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Client,
    Server,
    Nobody,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    Tcp,
    Udp,
    Dns,
}

const FLOW: &str = "flow";
const NEW: &str = "flow event FlowNew";
const CONNECTION: &str = "connection";
const CONNECT: &str = "tcp event Connect";
const ACCEPT: &str = "tcp event Accept";
const EXCHANGE: &str = "exchange";

impl Traffic {
    /// What has to be told of it at least.
    const fn told(self, side: Side) -> &'static [&'static str] {
        match (self, side) {
            (Self::Tcp, Side::Server) => &[FLOW, NEW, CONNECTION, ACCEPT],
            (Self::Tcp, _) => &[FLOW, NEW, CONNECTION, CONNECT],
            (Self::Udp, _) => &[FLOW, NEW],
            (Self::Dns, _) => &[FLOW, NEW, EXCHANGE],
        }
    }
}

/// Everything that an agent told.
pub(crate) struct Views {
    pub(crate) flows: Vec<Flow>,
    pub(crate) connections: Vec<TcpConnection>,
    pub(crate) flow_events: Vec<StreamEventsResponse>,
    pub(crate) exchanges: Vec<DnsExchange>,
    pub(crate) tcp_events: Vec<TcpEvent>,
}

/// Subscribers to all streams.
pub(crate) struct Watches {
    pub(crate) flows: Watch<StreamEventsResponse>,
    pub(crate) dns: Watch<StreamDnsResponse>,
    pub(crate) tcp: Watch<StreamTcpResponse>,
}

impl Watches {
    pub(crate) async fn new(agent: &mut Agent) -> Self {
        Self {
            flows: agent.watch_flows().await,
            dns: agent.watch_dns().await,
            tcp: agent.watch_tcp(&[]).await,
        }
    }

    fn taken(&self) -> usize {
        self.flows.seen.len() + self.dns.seen.len() + self.tcp.seen.len()
    }

    /// Takes in what is there, and asks for what is held.
    pub(crate) async fn views(&mut self, agent: &mut Agent) -> Views {
        agent.drain().await;
        let soon = std::time::Duration::from_millis(100);
        let mut taken = None;
        while taken != Some(self.taken()) {
            taken = Some(self.taken());
            tokio::join!(self.flows.rest(soon), self.dns.rest(soon), self.tcp.rest(soon));
        }
        let lost = [&self.flows.lost, &self.dns.lost, &self.tcp.lost];
        assert!(lost.iter().all(|lost| lost.is_empty()), "{lost:#?}");
        Views {
            flows: agent.flows().await.flows,
            connections: agent.connections().await.connections,
            flow_events: self.flows.seen.clone(),
            exchanges: self.dns.seen.clone(),
            tcp_events: self.tcp.seen.clone(),
        }
    }
}

impl Views {
    /// What was told of the traffic of a client's port.
    pub(crate) fn of(&self, port: u16) -> Vec<Told> {
        let flows = self.flows.iter().map(|flow| (FLOW.to_owned(), flow));
        let events = self.flow_events.iter().filter_map(|event| {
            Some((format!("flow event {:?}", event.kind()), event.flow.as_ref()?))
        });
        let flows = flows.chain(events).map(|(what, flow)| {
            (what, flow.local_end(), flow.source.as_ref(), flow.destination.as_ref())
        });
        let connections = self.connections.iter().map(|of| {
            (CONNECTION.into(), of.local_end(), of.source.as_ref(), of.destination.as_ref())
        });
        let exchanges = self.exchanges.iter().map(|of| {
            let local = match of.side() {
                DnsSide::Server => LocalEnd::Destination,
                _ => LocalEnd::Source,
            };
            (EXCHANGE.into(), local, of.client.as_ref(), of.server.as_ref())
        });
        let events = self.tcp_events.iter().map(|of| {
            let what = format!("tcp event {:?}", of.kind());
            (what, of.local_end(), of.source.as_ref(), of.destination.as_ref())
        });
        let all = flows.chain(connections).chain(exchanges).chain(events);
        all.filter_map(|(what, local, source, destination)| {
            told(port, what, local, source?, destination?)
        })
        .collect()
    }
}

fn told(
    port: u16,
    what: String,
    local: LocalEnd,
    source: &Endpoint,
    destination: &Endpoint,
) -> Option<Told> {
    let is_client = |end: &Endpoint| end.port == u32::from(port);
    let (client, server, near) = match (is_client(source), is_client(destination)) {
        (true, _) => (source, destination, LocalEnd::Source),
        (_, true) => (destination, source, LocalEnd::Destination),
        (false, false) => return None,
    };
    let side = match local {
        LocalEnd::Unspecified => Side::Nobody,
        local if local == near => Side::Client,
        _ => Side::Server,
    };
    Some(Told { what, local: side, client: who(client), server: who(server) })
}

/// Who is at an end.
pub(crate) fn who(end: &Endpoint) -> String {
    let mut front = String::new();
    if let Some(service) = &end.service {
        let port = if service.port_name.is_empty() { "?" } else { &service.port_name };
        front = format!("svc:{}/{}:{port}", service.namespace, service.name);
    } else if !end.node.is_empty() {
        front = format!("node:{}", end.node);
    }
    let at = end.translated.as_ref().map(|at| {
        let ip = at.addr().map_or("?".into(), |ip| ip.to_string());
        format!(" at {ip}")
    });
    let owner = end.workload.as_ref().map(workload);
    let name = end.dns.as_ref().map(|name| format!("name:{}", name.name));
    let behind = owner.or(name).unwrap_or_else(|| "-".into());
    let at = at.unwrap_or_default();
    match (front.is_empty(), &*behind, at.is_empty()) {
        (true, _, _) => format!("{behind}{at}"),
        (false, "-", true) => front,
        (false, ..) => format!("{front} > {behind}{at}"),
    }
}

fn workload(owner: &Workload) -> String {
    let pod = match (&*owner.pod, &*owner.pod_uid) {
        ("", "") => format!("cgroup:{}", owner.cgroup_path),
        ("", uid) => format!("uid:{uid}"),
        (pod, _) => format!("{}/{pod}", owner.namespace),
    };
    match owner.attribution() {
        Attribution::PodIp => pod,
        _ => format!("{pod}/{}", owner.container),
    }
}

impl Told {
    /// Whether the other end's socket may not have been heard of: at the first packet, and where a
    /// server answered a moment ago.
    fn is_early(&self) -> bool {
        let is_answer = self.what == EXCHANGE && self.local == Side::Server;
        is_answer || matches!(&*self.what, NEW | CONNECT | ACCEPT)
    }

    /// Whether it says that these are at the ends, or of the other end less than that.
    pub(crate) fn agrees(&self, client: &str, server: &str) -> bool {
        let is = |found: &str, wanted: &str, is_near: bool| {
            wanted.split(" | ").any(|wanted| {
                found == wanted || !is_near && self.is_early() && is_less(found, wanted)
            })
        };
        is(&self.client, client, self.local == Side::Client)
            && is(&self.server, server, self.local == Side::Server)
    }
}

/// Whether it is true and less than what there is to know: nobody, the node, the Service, or the pod
/// without its container. Never another one.
fn is_less(found: &str, wanted: &str) -> bool {
    let (front, behind) = wanted.split_once(" > ").unwrap_or(("", wanted));
    let (owner, at) = behind.split_once(" at ").unwrap_or((behind, ""));
    let pod = owner.rsplit_once('/').map_or(owner, |(pod, _)| pod);
    let less = match (front, at) {
        ("", _) => pod.to_owned(),
        (front, "") => format!("{front} > {pod}"),
        (front, at) => format!("{front} > {pod} at {at}"),
    };
    let nodes = ["node:node-a".to_owned(), format!("{front} > - at {at}")];
    let is_node = HOST_NETWORK.contains(&pod) && nodes.iter().any(|node| node == found);
    // Before it is known who asked whom, a node port is a node's.
    let is_unasked =
        !front.is_empty() && (found == owner || found == format!("node:node-a > {behind}"));
    found == "-" || found == less || found == front || is_node || is_unasked
}

/// Pods that have no address but the node's.
const HOST_NETWORK: [&str; 2] = ["kube-system/proxy-a", "monitoring/exporter-node-a"];

/// What does not read as it should.
#[derive(Default)]
pub(crate) struct Review {
    wrong: Vec<String>,
}

impl Review {
    /// Compares what was told of a client's port with who it is at the client's socket, and at the
    /// server's: client, server. `None` where that socket is not of this node. ` | ` is between
    /// answers of which each is right.
    pub(crate) fn expect(
        &mut self,
        views: &Views,
        port: u16,
        traffic: Traffic,
        at_client: Option<[&str; 2]>,
        at_server: Option<[&str; 2]>,
    ) {
        self.compare(views, port, at_client, at_server);
        let told = views.of(port);
        for (side, expected) in [(Side::Client, at_client), (Side::Server, at_server)] {
            for wanted in traffic.told(side).iter().filter(|_| expected.is_some()) {
                let is_told = told.iter().any(|told| told.local == side && told.what == *wanted);
                self.check(is_told, || format!("{port} at the {side:?}: no {wanted}"));
            }
        }
    }

    /// Compares what there is, however little.
    pub(crate) fn compare(
        &mut self,
        views: &Views,
        port: u16,
        at_client: Option<[&str; 2]>,
        at_server: Option<[&str; 2]>,
    ) {
        for told in views.of(port) {
            let expected = match told.local {
                Side::Client => at_client,
                Side::Server => at_server,
                Side::Nobody => None,
            };
            let Some([client, server]) = expected else { continue };
            self.check(told.agrees(client, server), || {
                let Told { what, local, client: found, server: at } = &told;
                format!(
                    "{port} at the {local:?}: {what}: {found} -> {at}, not {client} -> {server}"
                )
            });
        }
    }

    /// Notes what is wrong unless it holds.
    pub(crate) fn check(&mut self, holds: bool, wrong: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(wrong());
        }
    }

    /// # Panics
    /// Where something was not as expected, all of it.
    pub(crate) fn finish(self) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}
