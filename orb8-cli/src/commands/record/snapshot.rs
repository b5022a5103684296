//! What all queries answer at one time.

use std::future::Future;

use orb8_proto::v1::{
    GetStatusRequest, GetStatusResponse, QueryDnsRequest, QueryDnsResponse, QueryFlowsRequest,
    QueryFlowsResponse, QueryGpuRequest, QueryGpuResponse, QueryPodsRequest, QueryPodsResponse,
    QueryTcpRequest, QueryTcpResponse, QueryWorkloadsRequest, QueryWorkloadsResponse, RecordingGap,
    RecordingSnapshot, WorkloadGroup,
};
use prost::Message;
use tonic::{Code, Response, Status};

use super::destination::Destination;
use super::selection::Selection;
use crate::args::RecordSignal;
use crate::connection::Connection;
use crate::error::CliError;
use crate::recording::Kind;
use crate::time::now_ns;

/// Rows of a list: as many as an agent tells at once.
const LIMIT: u32 = 100_000;

/// Peers that are told of each workload.
const PEERS: u32 = 100;

/// Bytes of rows in one message, so that a block is no larger than others.
const PART: usize = 128 << 10;

/// How workloads are grouped, and what that is in a file.
const GROUPS: [(WorkloadGroup, Kind); 3] = [
    (WorkloadGroup::Workload, Kind::Workloads),
    (WorkloadGroup::Pod, Kind::WorkloadPods),
    (WorkloadGroup::Container, Kind::WorkloadContainers),
];

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    time_ns: u64,
    status: Option<GetStatusResponse>,
    flows: Option<QueryFlowsResponse>,
    dns: Option<QueryDnsResponse>,
    tcp: Option<QueryTcpResponse>,
    gpu: Option<QueryGpuResponse>,
    pods: Option<QueryPodsResponse>,
    workloads: Vec<(Kind, QueryWorkloadsResponse)>,
    gaps: Vec<RecordingGap>,
}

/// Asks everything, one question after the other.
pub(super) fn take(
    connection: &Connection,
    selection: &Selection,
) -> impl Future<Output = Snapshot> + Send + use<> {
    let mut client = connection.client.clone();
    let selection = selection.clone();
    let timeout = connection.timeout();
    async move {
        let mut snapshot = Snapshot::default();
        macro_rules! ask {
            ($name:literal, $method:ident, $request:expr) => {{
                let mut request = tonic::Request::new($request);
                request.set_timeout(timeout);
                snapshot.heard($name, client.$method(request).await)
            }};
        }
        if selection.has(RecordSignal::Flow) {
            let (include, exclude) = selection.flows();
            let request = QueryFlowsRequest {
                include,
                exclude,
                limit: LIMIT,
                include_self_traffic: true,
                ..QueryFlowsRequest::default()
            };
            snapshot.flows = ask!("flows", query_flows, request);
        }
        if selection.has(RecordSignal::Dns) {
            let (include, exclude) = selection.summaries();
            let request =
                QueryDnsRequest { include, exclude, limit: LIMIT, ..QueryDnsRequest::default() };
            snapshot.dns = ask!("dns", query_dns, request);
        }
        if selection.has(RecordSignal::Tcp) {
            let (include, exclude) = selection.connections();
            let request = QueryTcpRequest {
                include,
                exclude,
                limit: LIMIT,
                include_self_traffic: true,
                ..QueryTcpRequest::default()
            };
            snapshot.tcp = ask!("tcp", query_tcp, request);
        }
        if selection.has(RecordSignal::Gpu) {
            let (include, exclude) = selection.workloads();
            let request = QueryGpuRequest { include, exclude, ..QueryGpuRequest::default() };
            snapshot.gpu = ask!("gpu", query_gpu, request);
        }
        let (include, exclude) = selection.pods();
        let request = QueryPodsRequest { include, exclude, limit: LIMIT, local: false };
        snapshot.pods = ask!("pods", query_pods, request);
        for (group, kind) in GROUPS {
            let (include, exclude) = selection.workloads();
            let request = QueryWorkloadsRequest {
                include,
                exclude,
                group_by: group.into(),
                limit: LIMIT,
                peers: PEERS,
                ..QueryWorkloadsRequest::default()
            };
            let answer = ask!("workloads", query_workloads, request);
            snapshot.workloads.extend(answer.map(|answer| (kind, answer)));
        }
        snapshot.status = ask!("status", get_status, GetStatusRequest {});
        snapshot.time_ns = now_ns();
        snapshot.note_limits();
        snapshot
    }
}

impl Snapshot {
    /// Nothing but why.
    pub(super) fn failed(reason: &str) -> Self {
        let mut snapshot = Self { time_ns: now_ns(), ..Self::default() };
        snapshot.miss("snapshot", reason.to_owned());
        snapshot
    }

    /// Says what is missing first.
    pub(super) fn problem(&self) -> Option<String> {
        self.gaps.first().map(|RecordingGap { of, reason }| format!("{of}: {reason}"))
    }

    /// Writes it into blocks of its own, the end last.
    pub(super) fn write(self, to: &mut Destination) -> Result<(), CliError> {
        let Self { time_ns, status, flows, dns, tcp, gpu, pods, workloads, gaps } = self;
        to.flush()?;
        let mut parts = Parts { to, time_ns, messages: 0 };
        if let Some(mut answer) = flows {
            let rows = std::mem::take(&mut answer.flows);
            parts.rows(Kind::Flows, rows, answer, |answer, rows| answer.flows = rows)?;
        }
        if let Some(mut answer) = dns {
            let rows = std::mem::take(&mut answer.summaries);
            parts.rows(Kind::Dns, rows, answer, |answer, rows| answer.summaries = rows)?;
        }
        if let Some(mut answer) = tcp {
            let rows = std::mem::take(&mut answer.connections);
            parts.rows(Kind::Tcp, rows, answer, |answer, rows| answer.connections = rows)?;
        }
        if let Some(answer) = gpu {
            parts.gpu(answer)?;
        }
        if let Some(mut answer) = pods {
            let rows = std::mem::take(&mut answer.pods);
            parts.rows(Kind::Pods, rows, answer, |answer, rows| answer.pods = rows)?;
        }
        for (kind, mut answer) in workloads {
            let rows = std::mem::take(&mut answer.workloads);
            parts.rows(kind, rows, answer, |answer, rows| answer.workloads = rows)?;
        }
        if let Some(status) = status {
            parts.add(Kind::Status, &status)?;
        }
        let end = RecordingSnapshot { gaps, messages: parts.messages };
        parts.add(Kind::Snapshot, &end)?;
        to.flush()
    }

    /// Takes an answer, or notes why there is none. An older agent's ignorance is no failure.
    fn heard<M>(&mut self, of: &str, answer: Result<Response<M>, Status>) -> Option<M> {
        match answer {
            Ok(answer) => Some(answer.into_inner()),
            Err(status) if status.code() == Code::Unimplemented => None,
            Err(status) => {
                self.miss(of, status.message().to_owned());
                None
            }
        }
    }

    /// Notes lists that have more rows than were told.
    fn note_limits(&mut self) {
        let flows = self.flows.as_ref().map(|it| ("flows", it.flows.len(), it.total_matched));
        let dns = self.dns.as_ref().map(|it| ("dns", it.summaries.len(), it.total_matched));
        let tcp = self.tcp.as_ref().map(|it| ("tcp", it.connections.len(), it.total_matched));
        let pods = self.pods.as_ref().map(|it| ("pods", it.pods.len(), it.total_matched));
        for (of, got, all) in [flows, dns, tcp, pods].into_iter().flatten() {
            if (got as u64) < all {
                self.miss(of, format!("{got} of {all} are recorded"));
            }
        }
    }

    fn miss(&mut self, of: &str, reason: String) {
        self.gaps.push(RecordingGap { of: of.to_owned(), reason });
    }
}

/// Writes the messages of one snapshot.
struct Parts<'a> {
    to: &'a mut Destination,
    time_ns: u64,
    messages: u64,
}

impl Parts<'_> {
    /// Writes each of an answer's lists in parts, what is no list with the first one.
    fn gpu(&mut self, answer: QueryGpuResponse) -> Result<(), CliError> {
        let mut answer = answer;
        let devices = std::mem::take(&mut answer.devices);
        let processes = std::mem::take(&mut answer.processes);
        let activity = std::mem::take(&mut answer.activity);
        let rest = QueryGpuResponse::default;
        self.rows(Kind::Gpu, devices, answer, |answer, rows| answer.devices = rows)?;
        self.rows(Kind::Gpu, processes, rest(), |answer, rows| answer.processes = rows)?;
        self.rows(Kind::Gpu, activity, rest(), |answer, rows| answer.activity = rows)
    }

    fn add(&mut self, kind: Kind, message: &impl Message) -> Result<(), CliError> {
        self.messages += 1;
        self.to.add(kind, self.time_ns, &message.encode_to_vec())
    }

    /// Writes rows in parts, the answer's totals with the first one.
    fn rows<R: Message, A: Message + Default>(
        &mut self,
        kind: Kind,
        rows: Vec<R>,
        answer: A,
        put: impl Fn(&mut A, Vec<R>),
    ) -> Result<(), CliError> {
        let mut answer = answer;
        let (mut part, mut bytes) = (Vec::new(), 0);
        for row in rows {
            bytes += row.encoded_len();
            part.push(row);
            if bytes >= PART {
                let mut full = std::mem::take(&mut answer);
                put(&mut full, std::mem::take(&mut part));
                self.add(kind, &full)?;
                bytes = 0;
            }
        }
        put(&mut answer, part);
        self.add(kind, &answer)
    }
}
