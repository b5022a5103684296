//! `/livez`, `/readyz` and `/metrics` over HTTP.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::metrics::{CONTENT_TYPE as OPENMETRICS, Metrics};
use crate::status::StatusBoard;

/// What the pages need.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    pub(super) board: StatusBoard,
    pub(super) metrics: Metrics,
}

pub(super) fn router(admin: Admin) -> Router {
    Router::new()
        // Whoever answers is alive.
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    let reasons = admin.board.read().not_ready();
    match reasons.as_slice() {
        [] => (StatusCode::OK, "ok\n".to_owned()),
        reasons => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], admin.metrics.render())
}
