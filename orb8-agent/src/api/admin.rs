//! `/livez`, `/readyz` and `/metrics` over HTTP.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::Router;
use axum::extract::State;
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, VARY,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::Semaphore;

use crate::metrics::{Format, Metrics, accepts_gzip};
use crate::status::StatusBoard;

mod patient;
mod server;

pub(super) use server::AdminServer;

/// Bytes of pages that scrapers did not read yet. Above it there is no further page: one that reads
/// nothing has a page until its time is up, and there may be many of them.
const MAX_UNREAD: usize = 64 << 20;

/// Smaller pages are not worth the time.
const MIN_COMPRESSED: usize = 4 << 10;

/// What the pages need. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    board: StatusBoard,
    metrics: Metrics,
    /// One page is made at a time: a storm of scrapes has to wait, not the node.
    turn: Arc<Semaphore>,
    unread: Arc<AtomicUsize>,
}

impl Admin {
    pub(super) fn new(metrics: Metrics, board: StatusBoard) -> Self {
        Self { board, metrics, turn: Arc::new(Semaphore::new(1)), unread: Arc::default() }
    }

    pub(super) fn router(self) -> Router {
        Router::new()
            // Whoever answers is alive.
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self)
    }

    /// Makes a page; `None` where the agent is about to stop.
    async fn page(&self, format: Format, is_compressed: bool) -> Option<Page> {
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
        let (metrics, unread) = (self.metrics.clone(), Arc::clone(&self.unread));
        let made = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let text = metrics.render(format);
            let compressed =
                if is_compressed && text.len() >= MIN_COMPRESSED { gzip(&text) } else { None };
            let is_compressed = compressed.is_some();
            Page { body: Unread::new(compressed.unwrap_or(text), unread), is_compressed }
        });
        made.await.ok()
    }
}

/// A page on its way.
struct Page {
    body: Unread,
    is_compressed: bool,
}

/// A body that counts while it is held.
struct Unread {
    bytes: Vec<u8>,
    unread: Arc<AtomicUsize>,
}

impl Unread {
    fn new(bytes: Vec<u8>, unread: Arc<AtomicUsize>) -> Self {
        unread.fetch_add(bytes.len(), Relaxed);
        Self { bytes, unread }
    }
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.unread.fetch_sub(self.bytes.len(), Relaxed);
    }
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    let reasons = admin.board.read().not_ready();
    match reasons.as_slice() {
        [] => (StatusCode::OK, "ok\n".to_owned()),
        reasons => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    }
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if admin.unread.load(Relaxed) > MAX_UNREAD {
        admin.board.update(|status| status.admin.unread += 1);
        let problem = "scrapers hold too many pages that they have not read; scrape less often\n";
        return (StatusCode::SERVICE_UNAVAILABLE, problem).into_response();
    }
    let format = Format::accepted(values(&headers, &ACCEPT));
    let is_compressed = accepts_gzip(values(&headers, &ACCEPT_ENCODING));
    let Some(Page { body, is_compressed }) = admin.page(format, is_compressed).await else {
        let problem = "the page could not be made; the agent's log says why\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, problem).into_response();
    };
    let mut told = HeaderMap::new();
    told.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    told.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    if is_compressed {
        told.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    (told, Bytes::from_owner(body)).into_response()
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

/// Compresses for speed: most of the gain at a tenth of the time. `None` where that fails.
fn gzip(text: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    encoder.write_all(text).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests;
