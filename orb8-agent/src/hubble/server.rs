//! `observer.Observer`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orb8_proto::hubble::observer;
use orb8_proto::hubble::observer::observer_server::Observer as Service;
use orb8_proto::hubble::relay::NodeState;
use tokio::sync::Semaphore;
use tokio_stream::Empty;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::id::Instance;
use super::peers::Peers;
use super::rate::Rate;
use super::request::Wanted;
use super::stream::{FlowStream, Subscriptions, Teller, Telling, past};
use super::who::CLUSTER;
use crate::clock::Clock;
use crate::pipeline::{Kept, PodQuery, SharedPipeline, lock};
use crate::status::StatusBoard;

/// Streams of flows at a time: a relay, a UI and what people type need a few.
const MAX_STREAMS: usize = 64;

/// Whoever waits for the pipeline gets it in between.
const PAUSE: Duration = Duration::from_millis(1);

/// As `hubble status` and `hubble list nodes` print it.
const VERSION: &str = concat!("orb8 v", env!("CARGO_PKG_VERSION"));

/// The service.
#[derive(Debug)]
pub(super) struct Observer {
    /// This node among others.
    peers: Peers,
    rate: Rate,
    pipeline: SharedPipeline,
    board: StatusBoard,
    instance: Instance,
    started: Instant,
    streams: Arc<Semaphore>,
    /// Ends the streams, which would never end by themselves.
    shutdown: CancellationToken,
}

impl Observer {
    pub(super) fn new(
        peers: Peers,
        rate: Rate,
        pipeline: SharedPipeline,
        board: StatusBoard,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            instance: Instance::new(peers.node(), Clock::system().now()),
            peers,
            rate,
            pipeline,
            board,
            started: Instant::now(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            shutdown,
        }
    }

    fn teller(&self) -> Teller {
        Teller::new(self.peers.node_name(), self.instance, &self.board)
    }

    fn uptime_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Events that are kept, room for them, and how many there were.
    fn kept(&self) -> Kept {
        let kept = lock(&self.pipeline).kept();
        Kept { events: kept.events.min(kept.capacity), ..kept }
    }
}

#[tonic::async_trait]
impl Service for Observer {
    type GetFlowsStream = FlowStream;
    type GetAgentEventsStream = Empty<Result<observer::GetAgentEventsResponse, Status>>;
    type GetDebugEventsStream = Empty<Result<observer::GetDebugEventsResponse, Status>>;

    async fn get_flows(
        &self,
        request: Request<observer::GetFlowsRequest>,
    ) -> Result<Response<FlowStream>, Status> {
        let wanted = Wanted::new(&request.into_inner(), self.peers.node())?;
        let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{MAX_STREAMS} clients get flows already; end one of them, or ask a relay"
            ))
        })?;
        let (kept, readers) = Subscriptions::new(&mut lock(&self.pipeline)).split();
        let teller = self.teller();
        let look = {
            let (wanted, teller) = (wanted.clone(), teller.clone());
            // Up to millions of events: others must not wait for that. It keeps its place among the
            // streams even when the client is gone before it is done.
            tokio::task::spawn_blocking(move || (past(&kept, &wanted, &teller), permit))
        };
        let (past, permit) = look.await.map_err(|error| Status::internal(error.to_string()))?;
        let telling = Telling::new(teller, self.board.clone());
        let shutdown = self.shutdown.clone();
        Ok(Response::new(FlowStream::new(telling, wanted, past, readers, shutdown, permit)))
    }

    async fn get_agent_events(
        &self,
        _request: Request<observer::GetAgentEventsRequest>,
    ) -> Result<Response<Self::GetAgentEventsStream>, Status> {
        Err(Status::unimplemented("agent events are those of Cilium's agent, and this is orb8's"))
    }

    async fn get_debug_events(
        &self,
        _request: Request<observer::GetDebugEventsRequest>,
    ) -> Result<Response<Self::GetDebugEventsStream>, Status> {
        Err(Status::unimplemented("debug events are those of Cilium's datapath, and this is orb8"))
    }

    async fn get_nodes(
        &self,
        _request: Request<observer::GetNodesRequest>,
    ) -> Result<Response<observer::GetNodesResponse>, Status> {
        let Kept { events, capacity, sent } = self.kept();
        let this = self.peers.this();
        let node = observer::Node {
            name: this.name,
            version: VERSION.to_owned(),
            address: this.address,
            state: NodeState::NodeConnected.into(),
            tls: Some(observer::Tls {
                enabled: this.tls.is_some(),
                server_name: this.tls.map(|tls| tls.server_name).unwrap_or_default(),
            }),
            uptime_ns: self.uptime_ns(),
            num_flows: events,
            max_flows: capacity,
            seen_flows: sent,
        };
        Ok(Response::new(observer::GetNodesResponse { nodes: vec![node] }))
    }

    async fn get_namespaces(
        &self,
        _request: Request<observer::GetNamespacesRequest>,
    ) -> Result<Response<observer::GetNamespacesResponse>, Status> {
        let mut survey = lock(&self.pipeline).survey_pods();
        while !lock(&self.pipeline).describe_pods(&mut survey) {
            tokio::time::sleep(PAUSE).await;
        }
        let query = PodQuery { local: true, limit: usize::MAX, ..PodQuery::default() };
        let pods = survey.page(&query).rows.into_iter();
        let mut names: BTreeSet<String> = pods.filter_map(|pod| pod.namespace).collect();
        let (kept, _) = Subscriptions::new(&mut lock(&self.pipeline)).split();
        for held in &kept {
            held.namespaces(&mut |namespace| {
                if !names.contains(namespace) {
                    names.insert(namespace.to_owned());
                }
            });
        }
        let namespace = |namespace| observer::Namespace { cluster: CLUSTER.to_owned(), namespace };
        let namespaces = names.into_iter().map(namespace).collect();
        Ok(Response::new(observer::GetNamespacesResponse { namespaces }))
    }

    async fn server_status(
        &self,
        _request: Request<observer::ServerStatusRequest>,
    ) -> Result<Response<observer::ServerStatusResponse>, Status> {
        let Kept { events, capacity, sent } = self.kept();
        Ok(Response::new(observer::ServerStatusResponse {
            num_flows: events,
            max_flows: capacity,
            seen_flows: sent,
            uptime_ns: self.uptime_ns(),
            num_connected_nodes: Some(1),
            num_unavailable_nodes: Some(0),
            unavailable_nodes: Vec::new(),
            version: VERSION.to_owned(),
            flows_rate: self.rate.of(Instant::now(), sent),
        }))
    }
}
