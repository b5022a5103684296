//! The API that Hubble's clients speak: the `hubble` command, hubble-relay, and with that Hubble's UI.
//!
//! ```text
//! flow, dns and tcp hubs ─▶ observed (which event is what flow) ─▶ filter ─▶ convert, mask ─┐
//!                                                                                           ▼
//! tcp (TLS, mTLS) ─▶ observer.Observer: GetFlows ◀────────────────────────────────────── stream
//!                    │                  ServerStatus, GetNodes, GetNamespaces
//!                    ├ peer.Peer: Notify (this node, and those that the Kubernetes API tells of)
//!                    └ health, reflection
//! ```
//! It is off by default, and has a port of its own. What it tells is what the hubs keep for subscribers
//! (`event-buffer` events of each signal), and what follows.

use std::net::SocketAddr;
use std::time::Duration;

use orb8_proto::hubble::observer::observer_server::ObserverServer;
use orb8_proto::hubble::peer::peer_server::PeerServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::api::{self, Tasks};
use crate::config::Config;
use crate::error::AgentError;
use crate::pipeline::{SharedPipeline, lock};
use crate::status::{Check, CheckState, StatusBoard};
use peers::Peers;
use rate::Rate;
use server::Observer;

mod convert;
mod drop_reason;
mod filter;
mod id;
mod mask;
mod observed;
mod peers;
mod rate;
mod request;
mod server;
mod stream;
mod who;

/// A client that does not answer a ping within as much again is gone, and its stream ends.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What health tells of, beside the whole. `hubble status` asks by a name that no service has.
const SERVICES: &[&str] = &[
    "hubble.server.Observer",
    <ObserverServer<Observer> as NamedService>::NAME,
    <PeerServer<Peers> as NamedService>::NAME,
];

/// An API whose listener is bound and that does not answer yet.
#[derive(Debug)]
pub struct Hubble {
    server: Server,
    listener: TcpListener,
    address: SocketAddr,
    has_tls: bool,
    node_name: String,
    pipeline: SharedPipeline,
    board: StatusBoard,
}

impl Hubble {
    /// Binds the listener, where there is to be one, and tells the pipeline that its port is the
    /// agent's own.
    ///
    /// # Errors
    ///
    /// An address that is in use or cannot be bound, or TLS files that cannot be used.
    pub async fn build(
        config: &Config,
        pipeline: SharedPipeline,
        board: StatusBoard,
    ) -> Result<Option<Self>, AgentError> {
        let Some(address) = config.api.hubble else { return Ok(None) };
        let tls = config.api.tls.as_ref();
        let (server, listener) = api::listen_grpc(address, "hubble-listen", tls).await?;
        let address = api::local_address(&listener)?.unwrap_or(address);
        lock(&pipeline).add_own_port(address.port());
        let has_tls = tls.is_some();
        board.update(|status| status.checks.push(check(address, has_tls)));
        let node_name = config.node_name.clone();
        Ok(Some(Self { server, listener, address, has_tls, node_name, pipeline, board }))
    }

    /// Returns where it listens, with the port that the system chose for port 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled.
    pub fn run(self, shutdown: &CancellationToken, tasks: &mut Tasks) {
        let rate = Rate::default();
        let follow = rate.clone().follow(self.pipeline.clone(), shutdown.clone());
        api::spawn(tasks, "hubble_rate", shutdown, follow);
        let routes = self.routes(rate, shutdown, tasks);
        let Self { server, listener, address, has_tls, .. } = self;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serve = server
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
        api::spawn(tasks, "hubble", shutdown, async { serve.await.map_err(AgentError::Serve) });
        tracing::info!(%address, tls = has_tls, "listening for Hubble's clients");
    }

    fn routes(&self, rate: Rate, shutdown: &CancellationToken, tasks: &mut Tasks) -> Routes {
        let Self { address, has_tls, node_name, pipeline, board, .. } = self;
        let peers = Peers::new(node_name, *address, *has_tls, pipeline.clone(), shutdown.clone());
        let observer =
            Observer::new(peers.clone(), rate, pipeline.clone(), board.clone(), shutdown.clone());
        let (reporter, health) = tonic_health::server::health_reporter();
        let follow = api::follow_readiness(SERVICES, reporter, board.readiness(), shutdown.clone());
        api::spawn(tasks, "hubble_health", shutdown, follow);
        let routes = Routes::new(ObserverServer::new(observer))
            .add_service(PeerServer::new(peers))
            .add_service(health);
        api::with_reflection(routes, orb8_proto::hubble::FILE_DESCRIPTOR_SET)
    }
}

fn check(address: SocketAddr, has_tls: bool) -> Check {
    let how = if has_tls { "TLS" } else { "clear text" };
    let detail = format!("Hubble's clients are served on {address} ({how})");
    Check { name: "hubble", state: CheckState::Ok, detail, remedy: None }
}

#[cfg(test)]
mod tests;
