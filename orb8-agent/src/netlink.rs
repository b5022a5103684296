//! Interfaces and addresses of this network namespace, as they come and go.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressAttribute,
    link::{LinkAttribute, LinkLayerType, LinkMessage},
    tc::{TcAttribute, TcMessage},
};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio_stream::{Stream, StreamExt};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    ebpf::{FILTER_PRIORITIES, LinkKind},
    error::AgentError,
};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// What its packets start with.
    pub kind: LinkKind,
    /// The loopback device: its packets pass both directions, and the socket hook sees them.
    pub loopback: bool,
}

/// What happened to the interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An interface appeared, or changed its name.
    Link(Link),
    /// An interface went, by index.
    Gone(u32),
    /// Addresses changed.
    Addresses,
    /// Messages were lost: list everything again.
    Missed,
}

/// A netlink connection that is told of changes.
pub struct Network {
    handle: Handle,
    changes: std::pin::Pin<Box<dyn Stream<Item = Change> + Send + Sync>>,
    _connection: AbortOnDropHandle<()>,
}

impl Network {
    /// Opens a connection in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`AgentError::Io`] when there is no netlink.
    pub fn open() -> Result<Self, AgentError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, messages) =
            new_multicast_connection(&groups).map_err(AgentError::io("open a netlink socket"))?;
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let changes = messages.filter_map(|(message, _)| change(message.payload));
        Ok(Self { handle, changes: Box::pin(changes), _connection: connection })
    }

    /// Lists the interfaces.
    ///
    /// # Errors
    /// [`AgentError::Io`] with what the kernel said.
    pub async fn links(&self) -> Result<Vec<Link>, AgentError> {
        let mut dump = self.handle.link().get().execute();
        let mut links = Vec::new();
        while let Some(message) = dump.next().await {
            links.extend(link(&message.map_err(netlink_error("list interfaces"))?));
        }
        Ok(links)
    }

    /// Lists the addresses.
    ///
    /// # Errors
    /// [`AgentError::Io`] with what the kernel said.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, AgentError> {
        let mut dump = self.handle.address().get().execute();
        let mut addresses = Vec::new();
        while let Some(message) = dump.next().await {
            let message = message.map_err(netlink_error("list addresses"))?;
            addresses.extend(message.attributes.iter().filter_map(|attribute| match attribute {
                AddressAttribute::Address(address) | AddressAttribute::Local(address) => {
                    Some(*address)
                }
                _ => None,
            }));
        }
        Ok(addresses)
    }

    /// Waits for the next change; `None` when the connection ended.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.next().await
    }

    /// Removes the clsact filters that agents left on an interface when they were killed.
    ///
    /// Only filters of the agent's own priorities count, and of those only the ones whose handle, a
    /// process id, is no running agent's.
    pub async fn remove_stale_filters(&self, interface: u32) -> usize {
        let Ok(index) = i32::try_from(interface) else { return 0 };
        let mut removed = 0;
        for stale in self.stale_filters(index).await {
            match self.delete_filter(stale).await {
                Ok(()) => removed += 1,
                Err(error) => tracing::warn!(%error, interface, "cannot remove a stale filter"),
            }
        }
        removed
    }

    /// Deletes the one filter that `filter`'s header names; the library's own request cannot name
    /// one, and would delete all of a direction.
    async fn delete_filter(&self, filter: TcMessage) -> Result<(), rtnetlink::Error> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelTrafficFilter(filter));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let mut response = self.handle.clone().request(request)?;
        while let Some(message) = response.next().await {
            if let NetlinkPayload::Error(error) = message.payload
                && error.code.is_some()
            {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
        }
        Ok(())
    }

    async fn stale_filters(&self, index: i32) -> Vec<TcMessage> {
        let get = || self.handle.traffic_filter(index).get();
        let mut stale = Vec::new();
        for request in [get().ingress(), get().egress()] {
            let mut dump = Box::pin(request.execute());
            while let Some(Ok(message)) = dump.next().await {
                if is_stale(&message) {
                    let mut delete = TcMessage::with_index(index);
                    delete.header = message.header;
                    delete.attributes.push(TcAttribute::Kind("bpf".to_owned()));
                    stale.push(delete);
                }
            }
        }
        stale
    }
}

fn is_stale(message: &TcMessage) -> bool {
    let is_bpf = message
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, TcAttribute::Kind(kind) if kind == "bpf"));
    // The upper half of `tcm_info` is the priority, the lower the protocol.
    let priority = (message.header.info >> 16) as u16;
    let pid = u32::from(message.header.handle);
    is_bpf && FILTER_PRIORITIES.contains(&priority) && pid != 0 && !is_other_agent(pid)
}

/// Whether a process that runs programs like this one has the id. Our own id cannot be another's:
/// a filter that bears it is a dead agent's whose id we were given.
fn is_other_agent(pid: u32) -> bool {
    pid != std::process::id()
        && std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.starts_with("orb8"))
}

fn change(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Change> {
    match payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
            link(&message).map(Change::Link)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
            Some(Change::Gone(message.header.index))
        }
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_),
        ) => Some(Change::Addresses),
        NetlinkPayload::Overrun(_) => Some(Change::Missed),
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Option<Link> {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let kind = match message.header.link_layer_type {
        LinkLayerType::Ether | LinkLayerType::Loopback => LinkKind::Ethernet,
        _ => LinkKind::Raw,
    };
    let loopback = message.header.link_layer_type == LinkLayerType::Loopback;
    Some(Link { index: message.header.index, name, kind, loopback })
}

fn netlink_error(action: &'static str) -> impl FnOnce(rtnetlink::Error) -> AgentError {
    move |error| AgentError::io(action)(std::io::Error::other(error))
}
