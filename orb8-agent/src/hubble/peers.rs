//! `peer.Peer`: where hubble-relay finds the agent of every node.
//!
//! The Kubernetes API tells which nodes there are; each is taken to have an agent that listens on the
//! same port. Without it, or where only this node's own processes can connect, this node is all.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use orb8_proto::hubble::peer;
use orb8_proto::hubble::peer::ChangeNotificationType as Change;
use orb8_proto::hubble::peer::peer_server::Peer as Service;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status};

use super::who::CLUSTER;
use crate::pipeline::{SharedPipeline, lock};

/// How often it is looked which nodes there are: a relay itself waits 30 s to try again.
const LOOK: Duration = Duration::from_secs(5);

/// Clients that are told of peers at a time: a relay needs one, and each holds a list of all nodes.
const CLIENTS: usize = 32;

/// What a relay takes every peer's certificate to be for, behind node and cluster.
const DOMAIN: &str = "hubble-grpc.cilium.io";

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Peers {
    node: Arc<str>,
    listen: SocketAddr,
    has_tls: bool,
    pipeline: SharedPipeline,
    shutdown: CancellationToken,
    places: Arc<Semaphore>,
}

impl Peers {
    pub(super) fn new(
        node: &str,
        listen: SocketAddr,
        has_tls: bool,
        pipeline: SharedPipeline,
        shutdown: CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(CLIENTS));
        Self { node: node.into(), listen, has_tls, pipeline, shutdown, places }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn node_name(&self) -> Arc<str> {
        Arc::clone(&self.node)
    }

    /// Returns what is told of this node.
    pub(super) fn this(&self) -> peer::ChangeNotification {
        let own = self.addresses().get(&*self.node).copied();
        self.tell(&self.node, own.unwrap_or(self.listen), Change::PeerAdded)
    }

    /// Returns the address of each node's agent, this one's included.
    fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        let is_reachable = !self.listen.ip().is_loopback();
        let nodes = if is_reachable { lock(&self.pipeline).nodes() } else { Vec::new() };
        let at = |ip: &IpAddr| SocketAddr::new(*ip, self.listen.port());
        let told =
            nodes.iter().filter_map(|node| Some((node.name.to_string(), at(node.ips.first()?))));
        let mut addresses: BTreeMap<String, SocketAddr> = told.collect();
        if !self.listen.ip().is_unspecified() {
            // Whoever chose an address meant it.
            addresses.insert(self.node.to_string(), self.listen);
        } else if !addresses.contains_key(&*self.node) {
            addresses.insert(self.node.to_string(), at(&source_ip(self.listen)));
        }
        addresses
    }

    fn tell(&self, name: &str, address: SocketAddr, change: Change) -> peer::ChangeNotification {
        peer::ChangeNotification {
            name: name.to_owned(),
            address: address.to_string(),
            r#type: change.into(),
            tls: self.has_tls.then(|| peer::Tls { server_name: server_name(name) }),
        }
    }
}

/// The address that this machine has for others; loopback where it has none. No packet is sent for it.
fn source_ip(any: SocketAddr) -> IpAddr {
    // Of the documentation's, which no route but the default one leads to.
    let (elsewhere, loopback): (IpAddr, IpAddr) = match any {
        SocketAddr::V4(_) => (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(_) => {
            (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into())
        }
    };
    let route = || {
        let socket = UdpSocket::bind((any.ip(), 0))?;
        socket.connect((elsewhere, 9))?;
        socket.local_addr()
    };
    route().map_or(loopback, |at: SocketAddr| at.ip())
}

/// The name that a relay expects in a node's certificate.
fn server_name(node: &str) -> String {
    format!("{}.{CLUSTER}.{DOMAIN}", node.replace('.', "-"))
}

#[tonic::async_trait]
impl Service for Peers {
    type NotifyStream = Notifications;

    async fn notify(
        &self,
        _request: Request<peer::NotifyRequest>,
    ) -> Result<Response<Notifications>, Status> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{CLIENTS} clients are told of peers already"))
        })?;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Response::new(Notifications {
            peers: self.clone(),
            look,
            told: BTreeMap::new(),
            ready: VecDeque::new(),
            shutdown: Box::pin(self.shutdown.clone().cancelled_owned()),
            _place: place,
        }))
    }
}

/// What one client is told: all peers, then changes.
pub(super) struct Notifications {
    peers: Peers,
    look: Interval,
    told: BTreeMap<String, SocketAddr>,
    ready: VecDeque<peer::ChangeNotification>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Somebody else's when this client goes.
    _place: OwnedSemaphorePermit,
}

impl Notifications {
    fn look(&mut self) {
        let now = self.peers.addresses();
        for (name, address) in &now {
            let change = match self.told.get(name) {
                None => Change::PeerAdded,
                Some(told) if told != address => Change::PeerUpdated,
                Some(_) => continue,
            };
            self.ready.push_back(self.peers.tell(name, *address, change));
        }
        for (name, address) in self.told.iter().filter(|(name, _)| !now.contains_key(*name)) {
            self.ready.push_back(self.peers.tell(name, *address, Change::PeerDeleted));
        }
        self.told = now;
    }
}

impl Stream for Notifications {
    type Item = Result<peer::ChangeNotification, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(change)));
            }
            if self.shutdown.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            ready!(self.look.poll_tick(context));
            self.look();
        }
    }
}

#[cfg(test)]
mod tests;
