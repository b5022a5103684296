//! Signals that end a daemon.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::AgentError;

/// Returns a token that SIGTERM and SIGINT cancel. Call it within a runtime.
///
/// # Errors
///
/// The system refuses to tell signals.
pub fn shutdown() -> Result<CancellationToken, AgentError> {
    let listen = |kind| signal(kind).map_err(AgentError::io("listen for signals"));
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("stopping on SIGTERM"),
            _ = interrupt.recv() => tracing::info!("stopping on SIGINT"),
        }
        cancel.cancel();
    });
    Ok(token)
}
