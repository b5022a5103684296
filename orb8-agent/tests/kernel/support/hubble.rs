//! The whole daemon, asked as Hubble's clients ask it: over a socket.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use orb8_agent::{AgentError, agent, config::Config};
use orb8_proto::hubble::{
    flow::{Flow, layer4::Protocol},
    observer::{
        GetFlowsRequest, GetFlowsResponse, ServerStatusRequest, ServerStatusResponse,
        get_flows_response::ResponseTypes, observer_client::ObserverClient,
    },
};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::PATIENCE;

/// Hubble's usual port, in a namespace of the test's own.
const LISTEN: &str = "127.0.0.1:4244";

/// A running daemon with an API for Hubble's clients.
pub(crate) struct Observer {
    pub(crate) client: ObserverClient<Channel>,
    shutdown: CancellationToken,
    agent: JoinHandle<Result<(), AgentError>>,
}

impl Observer {
    /// Starts it, and waits until it says that it serves, as `hubble status` does.
    pub(crate) async fn start(mut config: Config) -> Self {
        config.api.hubble = Some(LISTEN.parse().expect("an address"));
        let shutdown = CancellationToken::new();
        let agent = tokio::spawn(agent::run(config, shutdown.clone()));
        let started = Instant::now();
        loop {
            if let Some(channel) = serving().await {
                return Self { client: ObserverClient::new(channel), shutdown, agent };
            }
            assert!(!agent.is_finished(), "{:?}", agent.await);
            // Loading every program takes an emulated machine longer than anything else here.
            assert!(started.elapsed() < 3 * PATIENCE, "it does not serve");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn stop(self) {
        let Self { client, shutdown, agent } = self;
        drop(client);
        shutdown.cancel();
        agent.await.expect("no panic").expect("an orderly end");
    }

    pub(crate) async fn status(&mut self) -> ServerStatusResponse {
        self.client.server_status(ServerStatusRequest {}).await.expect("the status").into_inner()
    }

    /// Follows everything from now on.
    pub(crate) async fn follow(&mut self) -> Flows {
        let request = GetFlowsRequest { follow: true, ..GetFlowsRequest::default() };
        self.flows(request).await
    }

    pub(crate) async fn flows(&mut self, request: GetFlowsRequest) -> Flows {
        let stream = self.client.get_flows(request).await.expect("a stream").into_inner();
        Flows { stream, seen: Vec::new() }
    }
}

async fn serving() -> Option<Channel> {
    let channel = Channel::from_static("http://127.0.0.1:4244").connect().await.ok()?;
    let request = HealthCheckRequest { service: "hubble.server.Observer".to_owned() };
    let answer = HealthClient::new(channel.clone()).check(request).await.ok()?;
    (answer.into_inner().status().as_str_name() == "SERVING").then_some(channel)
}

/// What a stream told, so far.
pub(crate) struct Flows {
    stream: Streaming<GetFlowsResponse>,
    pub(crate) seen: Vec<Flow>,
}

impl Flows {
    /// Waits for a flow, which may have been told already.
    pub(crate) async fn one(&mut self, what: &str, wanted: impl Fn(&Flow) -> bool) -> Flow {
        if let Some(flow) = self.seen.iter().find(|flow| wanted(flow)) {
            return flow.clone();
        }
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let next = tokio::time::timeout_at(end, self.stream.next()).await;
            let Ok(Some(response)) = next else { panic!("no {what} in {:#?}", self.seen) };
            let flow = told(response.expect("no error"));
            let is_it = wanted(&flow);
            self.seen.push(flow.clone());
            if is_it {
                return flow;
            }
        }
    }

    /// Waits for the next flow.
    pub(crate) async fn more(&mut self) {
        let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
        let Ok(Some(response)) = next else { panic!("nothing more than {:#?}", self.seen) };
        self.seen.push(told(response.expect("no error")));
    }

    /// Everything, of a stream that ends.
    pub(crate) async fn all(mut self) -> Vec<Flow> {
        while let Some(response) = self.stream.next().await {
            self.seen.push(told(response.expect("no error")));
        }
        self.seen
    }
}

fn told(response: GetFlowsResponse) -> Flow {
    match response.response_types {
        Some(ResponseTypes::Flow(flow)) => flow,
        other => panic!("nothing was lost, and no relay asked: {other:?}"),
    }
}

/// Source and destination, with ports where there are some.
pub(crate) fn ends(flow: &Flow) -> [SocketAddr; 2] {
    let ip = flow.ip.as_ref().expect("addresses");
    let protocol = flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref());
    let (source, destination) = match protocol {
        Some(Protocol::Tcp(tcp)) => (tcp.source_port, tcp.destination_port),
        Some(Protocol::Udp(udp)) => (udp.source_port, udp.destination_port),
        _ => (0, 0),
    };
    let end = |ip: &str, port| {
        SocketAddr::new(ip.parse().expect("an address"), u16::try_from(port).expect("a port"))
    };
    [end(&ip.source, source), end(&ip.destination, destination)]
}
