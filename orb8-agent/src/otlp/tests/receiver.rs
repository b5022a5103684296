//! An OTLP receiver that does as it is told, over gRPC or HTTP.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Response;
use axum::routing::post;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use prost::Message;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Status};

use super::*;

/// How the next request is answered. When none is left, requests are taken.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// All of it but so many, with a message.
    Reject(i64, &'static str),
    /// With an error, over gRPC.
    Fail(Status),
    /// With an error, over HTTP: status and `Retry-After`.
    Http(u16, Option<&'static str>),
    /// Not at all.
    Hang,
}

/// What came, and what is answered.
#[derive(Debug, Default)]
struct Inbox {
    logs: Vec<ExportLogsServiceRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
    headers: Vec<HeaderMap>,
    /// Of logs.
    answers: VecDeque<Answer>,
    /// When requests with logs came.
    attempts: Vec<Instant>,
    /// Bytes of the largest one.
    largest: usize,
}

type Shared = Arc<Mutex<Inbox>>;

/// See the [module](self). It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    scheme: &'static str,
    inbox: Shared,
    /// Keeps the address for it while it is away: connections to it are refused.
    place: Option<TcpSocket>,
    /// Its own, so that every connection ends with it.
    runtime: Option<Runtime>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.go();
    }
}

impl Receiver {
    pub(super) async fn start(protocol: Protocol) -> Self {
        let mut receiver = Self::away(protocol).await;
        receiver.come().await;
        receiver
    }

    /// One that does not listen yet.
    pub(super) async fn away(protocol: Protocol) -> Self {
        let place = TcpSocket::new_v4().unwrap();
        place.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let (address, place) = (place.local_addr().unwrap(), Some(place));
        Self { protocol, address, scheme: "http", inbox: Shared::default(), place, runtime: None }
    }

    /// Listens.
    pub(super) async fn come(&mut self) {
        let (listener, inbox) = (self.listener().await, Arc::clone(&self.inbox));
        match self.protocol {
            Protocol::Grpc => self.serve(serve_grpc(listener, inbox, Server::builder())),
            Protocol::Http => {
                let router = Router::new()
                    .route("/v1/logs", post(post_logs))
                    .route("/v1/metrics", post(post_metrics))
                    .with_state(inbox);
                self.serve(async {
                    let listener = TcpListener::from_std(listener).unwrap();
                    axum::serve(listener, router).await.unwrap();
                });
            }
        }
    }

    /// Listens with TLS.
    pub(super) async fn secure(identity: Identity) -> Self {
        let mut receiver = Self::away(Protocol::Grpc).await;
        receiver.scheme = "https";
        let tls = ServerTlsConfig::new().identity(identity);
        let server = Server::builder().tls_config(tls).unwrap();
        let (listener, inbox) = (receiver.listener().await, Arc::clone(&receiver.inbox));
        receiver.serve(serve_grpc(listener, inbox, server));
        receiver
    }

    /// Ends, and every connection with it.
    pub(super) fn go(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    fn serve(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(work);
        self.runtime = Some(runtime);
    }

    /// Binds the address, as soon as whoever had it before is gone.
    async fn listener(&mut self) -> std::net::TcpListener {
        self.place = None;
        let listener =
            eventually("a free address", || std::net::TcpListener::bind(self.address).ok());
        let listener = listener.await;
        listener.set_nonblocking(true).unwrap();
        listener
    }

    pub(super) fn endpoint(&self) -> String {
        // Certificates are for names.
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    /// Answers the next requests with logs like this.
    pub(super) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.inbox().answers.extend(answers);
    }

    /// Returns all records that it took, oldest first.
    pub(super) fn records(&self) -> Vec<LogRecord> {
        let inbox = self.inbox();
        let scopes = inbox.logs.iter().flat_map(|request| &request.resource_logs);
        let scopes = scopes.flat_map(|of| &of.scope_logs);
        scopes.flat_map(|scope| scope.log_records.clone()).collect()
    }

    /// Waits for that many records.
    pub(super) async fn expect(&self, count: usize) -> Vec<LogRecord> {
        eventually(&format!("{count} records"), || {
            Some(self.records()).filter(|records| records.len() >= count)
        })
        .await
    }

    /// Returns the metrics of every request that it took.
    pub(super) fn metrics(&self) -> Vec<Metric> {
        let inbox = self.inbox();
        let scopes = inbox.metrics.iter().flat_map(|request| &request.resource_metrics);
        scopes.flat_map(|of| &of.scope_metrics).flat_map(|scope| scope.metrics.clone()).collect()
    }

    pub(super) fn log_requests(&self) -> Vec<ExportLogsServiceRequest> {
        self.inbox().logs.clone()
    }

    pub(super) fn metric_requests(&self) -> Vec<ExportMetricsServiceRequest> {
        self.inbox().metrics.clone()
    }

    pub(super) fn headers(&self) -> Vec<HeaderMap> {
        self.inbox().headers.clone()
    }

    pub(super) fn attempts(&self) -> Vec<Instant> {
        self.inbox().attempts.clone()
    }

    pub(super) fn largest(&self) -> usize {
        self.inbox().largest
    }

    fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap()
    }
}

async fn serve_grpc(listener: std::net::TcpListener, inbox: Shared, mut server: Server) {
    let (inbox, listener) = (Grpc(inbox), TcpListener::from_std(listener).unwrap());
    server
        .add_service(LogsServiceServer::new(inbox.clone()))
        .add_service(MetricsServiceServer::new(inbox))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .unwrap();
}

/// Notes that a request came, and returns how it is answered.
fn note(inbox: &Shared, headers: HeaderMap, size: usize) -> Option<Answer> {
    let mut inbox = inbox.lock().unwrap();
    inbox.headers.push(headers);
    inbox.attempts.push(Instant::now());
    inbox.largest = inbox.largest.max(size);
    inbox.answers.pop_front()
}

fn partial(answer: Option<Answer>) -> ExportLogsServiceResponse {
    let partial_success = match answer {
        Some(Answer::Reject(rejected_log_records, message)) => {
            Some(ExportLogsPartialSuccess { rejected_log_records, error_message: message.into() })
        }
        _ => None,
    };
    ExportLogsServiceResponse { partial_success }
}

#[derive(Clone, Debug)]
struct Grpc(Shared);

#[tonic::async_trait]
impl LogsService for Grpc {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        let answer = note(&self.0, headers, request.get_ref().encoded_len());
        match answer {
            Some(Answer::Fail(status)) => return Err(status),
            Some(Answer::Hang) => std::future::pending::<()>().await,
            Some(Answer::Http(..)) => panic!("over gRPC"),
            Some(Answer::Reject(..)) | None => {}
        }
        self.0.lock().unwrap().logs.push(request.into_inner());
        Ok(tonic::Response::new(partial(answer)))
    }
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let mut inbox = self.0.lock().unwrap();
        inbox.largest = inbox.largest.max(request.get_ref().encoded_len());
        inbox.metrics.push(request.into_inner());
        // A remark, which is no rejection.
        let remark = ExportMetricsPartialSuccess { error_message: "fine".into(), ..<_>::default() };
        Ok(tonic::Response::new(ExportMetricsServiceResponse { partial_success: Some(remark) }))
    }
}

fn protobuf(message: &impl Message) -> Response<Body> {
    let response = Response::builder().header("content-type", "application/x-protobuf");
    response.body(Body::from(message.encode_to_vec())).unwrap()
}

async fn post_logs(State(inbox): State<Shared>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let answer = note(&inbox, headers, body.len());
    match answer {
        Some(Answer::Http(status, retry_after)) => {
            let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
            if let Some(value) = retry_after {
                response = response.header("retry-after", value);
            }
            return response.body(Body::from("not now")).unwrap();
        }
        Some(Answer::Hang) => std::future::pending::<()>().await,
        Some(Answer::Fail(status)) => panic!("over HTTP: {status}"),
        Some(Answer::Reject(..)) | None => {}
    }
    inbox.lock().unwrap().logs.push(ExportLogsServiceRequest::decode(body).unwrap());
    protobuf(&partial(answer))
}

async fn post_metrics(State(inbox): State<Shared>, body: Bytes) -> Response<Body> {
    let mut inbox = inbox.lock().unwrap();
    inbox.largest = inbox.largest.max(body.len());
    inbox.metrics.push(ExportMetricsServiceRequest::decode(body).unwrap());
    protobuf(&ExportMetricsServiceResponse::default())
}
