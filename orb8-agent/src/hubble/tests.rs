//! An agent without an engine, asked by Hubble's API over real sockets: a test is its source.

use std::time::{Duration, Instant};

use orb8_common::flow::FlowKey;
use orb8_proto::hubble::flow::{Flow, LostEvent};
use orb8_proto::hubble::observer::get_flows_response::ResponseTypes;
use orb8_proto::hubble::observer::observer_client::ObserverClient;
use orb8_proto::hubble::observer::{GetFlowsRequest, GetFlowsResponse};
use tokio_stream::StreamExt;
use tonic::Streaming;
use tonic::transport::Channel;

use super::*;
use crate::event::{Event, FlowSample, Payload, UnixNanos};
use crate::pipeline::{LocalAddresses, Pipeline};

mod flows;
pub(in crate::hubble) mod samples;
mod service;
mod wire;

use samples::{NODE, SECOND};

type Client = ObserverClient<Channel>;

/// Nothing that has to happen takes longer.
const SOON: Duration = Duration::from_secs(10);

struct Node {
    config: Config,
    pipeline: SharedPipeline,
    board: StatusBoard,
    shutdown: CancellationToken,
    tasks: Tasks,
}

impl Node {
    fn new() -> Self {
        let mut config = Config::in_process().unwrap();
        config.node_name = NODE.into();
        config.cgroup_root = None;
        config.api.hubble = Some("127.0.0.1:0".parse().unwrap());
        Self::with(config)
    }

    fn with(config: Config) -> Self {
        let pipeline = Pipeline::new(&config, LocalAddresses::default()).shared();
        Self {
            config,
            pipeline,
            board: StatusBoard::default(),
            shutdown: CancellationToken::new(),
            tasks: Tasks::new(),
        }
    }

    async fn build(&self) -> Result<Option<Hubble>, AgentError> {
        Hubble::build(&self.config, self.pipeline.clone(), self.board.clone()).await
    }

    /// Listens, and returns where.
    async fn run(&mut self) -> SocketAddr {
        let hubble = self.build().await.unwrap().unwrap();
        let address = hubble.address();
        hubble.run(&self.shutdown, &mut self.tasks);
        address
    }

    async fn channel(&mut self) -> Channel {
        let at = format!("http://{}", self.run().await);
        Channel::from_shared(at).unwrap().connect().await.unwrap()
    }

    async fn client(&mut self) -> Client {
        Client::new(self.channel().await)
    }

    fn feed(&self, payloads: impl IntoIterator<Item = (UnixNanos, Payload)>) {
        let event = |(time, payload)| Event { time, subject: None, payload };
        lock(&self.pipeline).ingest(&mut payloads.into_iter().map(event).collect());
    }

    /// A new flow to each port, a second after the other: port 1 at 1 s.
    fn connect(&self, ports: impl IntoIterator<Item = u16>) {
        self.feed(ports.into_iter().map(|port| {
            let time = UnixNanos(u64::from(port) * SECOND);
            let key = FlowKey { destination_port: port, ..samples::key() };
            let sample = FlowSample { first: time, last: time, ..samples::sample(key, 0) };
            (time, Payload::Flow(sample))
        }));
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(result) = self.tasks.join_next().await {
            result.unwrap().unwrap();
        }
    }
}

/// Something that a stream tells.
#[derive(Clone, Debug)]
enum Told {
    Flow(Box<Flow>),
    Lost(LostEvent),
}

impl Told {
    fn new(response: GetFlowsResponse) -> Self {
        assert_eq!(response.node_name, NODE);
        assert!(response.time.is_some());
        match response.response_types.unwrap() {
            ResponseTypes::Flow(flow) => Self::Flow(Box::new(flow)),
            ResponseTypes::LostEvents(lost) => Self::Lost(lost),
            ResponseTypes::NodeStatus(status) => panic!("{status:?}"),
        }
    }

    fn flow(self) -> Flow {
        match self {
            Self::Flow(flow) => *flow,
            Self::Lost(lost) => panic!("{lost:?}"),
        }
    }
}

async fn next(stream: &mut Streaming<GetFlowsResponse>) -> Option<Told> {
    let next = tokio::time::timeout(SOON, stream.next()).await.expect("something soon");
    next.map(|response| Told::new(response.unwrap()))
}

async fn follow(client: &mut Client, request: GetFlowsRequest) -> Streaming<GetFlowsResponse> {
    let request = GetFlowsRequest { follow: true, ..request };
    client.get_flows(request).await.unwrap().into_inner()
}

/// Everything that a request gets of the past.
async fn all(client: &mut Client, request: GetFlowsRequest) -> Vec<Flow> {
    let stream = client.get_flows(request).await.unwrap().into_inner();
    let flows = stream.map(|response| Told::new(response.unwrap()).flow());
    tokio::time::timeout(SOON, flows.collect()).await.expect("an end")
}

fn port(flow: &Flow) -> u32 {
    use orb8_proto::hubble::flow::layer4::Protocol;
    match flow.l4.as_ref().unwrap().protocol.as_ref().unwrap() {
        Protocol::Tcp(tcp) => tcp.destination_port,
        Protocol::Udp(udp) => udp.destination_port,
        other => panic!("{other:?}"),
    }
}

fn ports(flows: &[Flow]) -> Vec<u32> {
    flows.iter().map(port).collect()
}
