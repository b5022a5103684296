//! The whole engine, asked as the command line asks it.

use std::time::Duration;

use orb8_agent::{
    config::{AttachStrategy, Config},
    embedded::Embedded,
};
use orb8_proto::v1::{
    Flow, GetStatusRequest, GetStatusResponse, QueryDnsRequest, QueryDnsResponse,
    QueryFlowsRequest, QueryFlowsResponse, QueryTcpRequest, QueryTcpResponse, StreamDnsRequest,
    StreamDnsResponse, StreamEventsRequest, StreamEventsResponse, StreamTcpRequest,
    StreamTcpResponse, TcpEventKind, TcpFilter,
    orbit_agent_service_client::OrbitAgentServiceClient,
};
use tonic::transport::Channel;

use super::{PATIENCE, cgroup::Cgroup, netns::Netns, watch::Watch};

/// A running engine.
pub(crate) struct Agent {
    engine: Embedded,
    pub(crate) client: OrbitAgentServiceClient<Channel>,
}

impl Agent {
    pub(crate) async fn start(config: Config) -> Self {
        let engine = Embedded::start(config).await.expect("the engine starts");
        let client = OrbitAgentServiceClient::new(engine.channel());
        Self { engine, client }
    }

    pub(crate) async fn stop(self) {
        let Self { engine, client } = self;
        drop(client);
        engine.shutdown().await;
    }

    pub(crate) async fn status(&mut self) -> GetStatusResponse {
        self.client.get_status(GetStatusRequest {}).await.expect("the status").into_inner()
    }

    /// Why a running source lacks what is told of as `gives`, where it does.
    pub(crate) async fn lack(&mut self, source: &str, gives: &str) -> Option<String> {
        let sources = self.status().await.sources;
        let source = sources.into_iter().find(|found| found.name == source).expect("its row");
        source.reason.split("; ").find(|reason| reason.contains(gives)).map(str::to_owned)
    }

    /// Interfaces that it is attached to, and how.
    pub(crate) async fn interfaces(&mut self) -> Vec<(String, String)> {
        let attachment = self.status().await.attachment.expect("an attachment");
        attachment.interfaces.into_iter().map(|found| (found.name, found.mechanism)).collect()
    }

    pub(crate) async fn flows(&mut self) -> QueryFlowsResponse {
        let request = QueryFlowsRequest {
            limit: 10_000,
            include_self_traffic: true,
            ..QueryFlowsRequest::default()
        };
        self.client.query_flows(request).await.expect("the flows").into_inner()
    }

    /// Takes in what was counted until now.
    pub(crate) async fn drain(&self) {
        self.engine.drain().await;
    }

    pub(crate) async fn dns(&mut self) -> QueryDnsResponse {
        let request = QueryDnsRequest { limit: 10_000, ..QueryDnsRequest::default() };
        self.client.query_dns(request).await.expect("the summaries").into_inner()
    }

    pub(crate) async fn connections(&mut self) -> QueryTcpResponse {
        let request = QueryTcpRequest { limit: 10_000, ..QueryTcpRequest::default() };
        self.client.query_tcp(request).await.expect("the connections").into_inner()
    }

    /// Follows the flows from now on.
    pub(crate) async fn watch_flows(&mut self) -> Watch<StreamEventsResponse> {
        let stream = self.client.stream_events(StreamEventsRequest::default()).await;
        Watch::new(stream.expect("a stream").into_inner())
    }

    /// Follows the DNS exchanges from now on.
    pub(crate) async fn watch_dns(&mut self) -> Watch<StreamDnsResponse> {
        let stream = self.client.stream_dns(StreamDnsRequest::default()).await;
        Watch::new(stream.expect("a stream").into_inner())
    }

    /// Follows the TCP events of these kinds from now on; of none, of all but STATE.
    pub(crate) async fn watch_tcp(&mut self, kinds: &[TcpEventKind]) -> Watch<StreamTcpResponse> {
        let kind = kinds.iter().map(|kind| i32::from(*kind)).collect();
        let request = StreamTcpRequest {
            include: vec![TcpFilter { kind, ..TcpFilter::default() }],
            ..StreamTcpRequest::default()
        };
        let stream = self.client.stream_tcp(request).await;
        Watch::new(stream.expect("a stream").into_inner())
    }

    /// Asks for the flows until those that `wanted` picks have that many packets.
    pub(crate) async fn flows_with(
        &mut self,
        packets: u64,
        wanted: impl Fn(&Flow) -> bool,
    ) -> Vec<Flow> {
        let start = std::time::Instant::now();
        loop {
            let flows = self.flows().await.flows;
            let found: Vec<Flow> = flows.iter().filter(|flow| wanted(flow)).cloned().collect();
            if found.iter().map(|flow| flow.packets).sum::<u64>() >= packets {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "not {packets} packets of them in {flows:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Defaults, with drains as often as they may be.
pub(crate) fn config(attach: AttachStrategy, cgroup: Option<&Cgroup>) -> Config {
    let config = Config::in_process().expect("valid defaults");
    Config {
        attach,
        cgroup_root: cgroup.map(|cgroup| cgroup.path().to_owned()),
        drain_interval: Duration::from_millis(100),
        ..config
    }
}

/// Runs a runtime whose threads are in a namespace.
pub(crate) fn in_runtime<T: Send>(namespace: &Netns, work: impl AsyncFnOnce() -> T + Send) -> T {
    namespace.run(|| {
        // Its threads are started by this one, so they are in the namespace too.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(work())
    })
}
