//! Connections to the collector, in clear text or over TLS.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::error::chain;
use crate::otlp::Protocol;

/// A collector that is there answers a SYN at once.
const CONNECT: Duration = Duration::from_secs(5);

/// Together less than a request may take, so that a dead connection is given up with it and the next
/// one does not go there again.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(4));

/// See the [module](self). Cloning shares the connections.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    headers: HeaderMap,
}

/// The collector cannot be spoken to; says why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreachable(String);

impl Transport {
    /// Prepares to connect.
    pub(super) fn new(tls: ClientConfig, protocol: Protocol, headers: HeaderMap) -> Self {
        let mut connector = HttpConnector::new();
        // Schemes are the wrapper's to judge.
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_keepalive(Some(KEEP_ALIVE.0));
        let schemes = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let connector = match protocol {
            Protocol::Grpc => schemes.enable_http2().wrap_connector(connector),
            Protocol::Http => schemes.enable_all_versions().wrap_connector(connector),
        };
        let client = Client::builder(TokioExecutor::new())
            .http2_only(protocol == Protocol::Grpc)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .http2_keep_alive_timeout(KEEP_ALIVE.1)
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { client, headers }
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<hyper::body::Incoming>;
    type Error = Unreachable;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unreachable>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreachable>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // An owned map yields a name once, and again without it for its further values.
        let mut last = None;
        for (name, value) in self.headers.clone() {
            if let Some(name) = name {
                last = Some(name);
            }
            if let Some(name) = &last {
                request.headers_mut().append(name, value);
            }
        }
        let response = self.client.request(request);
        Box::pin(async { response.await.map_err(|error| Unreachable(chain(&error))) })
    }
}
