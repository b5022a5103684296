//! The admin address's connections: few, and none for long.
//!
//! ```text
//! accept ─▶ a seat, or 503 ─▶ request in time, or closed ─▶ page ─▶ read in time, or reset
//! ```
//! The kubelet's probes come here too: who hangs must not keep others out.

use std::io::{self, ErrorKind, Write as _};
use std::net::{IpAddr, Shutdown};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hashbrown::HashMap;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::patient::{Course, Patient};
use crate::error::AgentError;
use crate::status::StatusBoard;

/// How much is allowed to whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Open connections: two Prometheus servers, the kubelet and people need a handful.
    pub(super) connections: u32,
    /// Open connections of one address, so that one that hangs leaves room for the others.
    pub(super) of_client: u32,
    /// How long a request may take to come. Also how long an idle connection is kept: less than the
    /// usual intervals of scrapes and probes (10 s and more), so that none is closed just as the next
    /// request comes.
    pub(super) request: Duration,
    /// How long an answer may take to be read: longer than the usual timeouts of scrapes.
    pub(super) answer: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 64,
            of_client: 24,
            request: Duration::from_secs(8),
            answer: Duration::from_secs(20),
        }
    }
}

/// When there are no descriptors or no memory, trying again at once would only burn time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The smallest that the HTTP library takes: requests here are a few hundred bytes.
const REQUEST_BUFFER: usize = 8 << 10;

/// What a client without a seat is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\
    content-length: 30\r\nconnection: close\r\nretry-after: 10\r\n\r\nthere are too many connections";

/// See the [module](self).
#[derive(Debug)]
pub(in crate::api) struct AdminServer {
    listener: TcpListener,
    pages: Router,
    board: StatusBoard,
    bounds: Bounds,
    seats: Seats,
}

/// Who is connected, by address. Cloning shares it.
#[derive(Clone, Debug, Default)]
struct Seats(Arc<Mutex<HashMap<IpAddr, u32>>>);

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    All,
    Client,
}

/// A place among the connections. Dropping it frees it.
#[derive(Debug)]
struct Seat {
    seats: Seats,
    client: IpAddr,
    board: StatusBoard,
}

impl AdminServer {
    pub(in crate::api) fn new(listener: TcpListener, pages: Router, board: StatusBoard) -> Self {
        let (bounds, seats) = (Bounds::default(), Seats::default());
        Self { listener, pages, board, bounds, seats }
    }

    #[cfg(test)]
    pub(super) fn with(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Answers until `shutdown` is cancelled, and lets what was begun end.
    ///
    /// # Errors
    ///
    /// None: what cannot be accepted is tried again.
    pub(in crate::api) async fn run(self, shutdown: CancellationToken) -> Result<(), AgentError> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                // Frees what ended ones hold.
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, client)) => {
                        match self.seat(client.ip().to_canonical()) {
                            Some(seat) => {
                                connections.spawn(self.serve(stream, seat, shutdown.clone()));
                            }
                            None => refuse(stream),
                        }
                    }
                    Err(error) => after(error).await,
                }
            }
        }
        while connections.join_next().await.is_some() {}
        Ok(())
    }

    fn seat(&self, client: IpAddr) -> Option<Seat> {
        let refused = |full| {
            self.board.update(|status| match full {
                Full::All => status.admin.full += 1,
                Full::Client => status.admin.client_full += 1,
            });
        };
        self.seats.take(client, self.bounds, &self.board).map_err(refused).ok()
    }

    fn serve(
        &self,
        stream: TcpStream,
        seat: Seat,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        // A page is written at once: nothing is gained by waiting for more.
        let _ = stream.set_nodelay(true);
        let (stream, course) = Patient::new(stream, self.bounds.answer);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.request)
            .max_buf_size(REQUEST_BUFFER)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.pages.clone()));
        async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                seat.note(&error, &course);
            }
        }
    }
}

impl Seats {
    fn take(&self, client: IpAddr, bounds: Bounds, board: &StatusBoard) -> Result<Seat, Full> {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open: u32 = seats.values().sum();
        if open >= bounds.connections {
            return Err(Full::All);
        }
        let of_client = seats.entry(client).or_default();
        if *of_client >= bounds.of_client {
            return Err(Full::Client);
        }
        *of_client += 1;
        board.update(|status| status.admin.open = u64::from(open) + 1);
        Ok(Seat { seats: self.clone(), client, board: board.clone() })
    }
}

impl Seat {
    /// Counts a connection that was given up.
    fn note(&self, error: &hyper::Error, course: &Course) {
        tracing::debug!(%error, client = %self.client, "a connection to the admin address failed");
        self.board.update(|status| {
            if course.is_unread() {
                status.admin.slow_readers += 1;
            } else if error.is_timeout() && course.lacks_request() {
                status.admin.slow_requests += 1;
            }
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_client) = seats.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                seats.remove(&self.client);
            }
        }
        let open: u32 = seats.values().sum();
        self.board.update(|status| status.admin.open = u64::from(open));
    }
}

/// Says why before it hangs up, if that can be said at once.
fn refuse(stream: TcpStream) {
    // Its buffer is empty, so that it takes all of this without waiting.
    let told = stream.into_std().and_then(|mut stream| {
        stream.write_all(FULL)?;
        stream.shutdown(Shutdown::Write)
    });
    if let Err(error) = told {
        tracing::debug!(%error, "a client without a seat was told nothing");
    }
}

async fn after(error: io::Error) {
    // The client's own doing.
    let is_clients = matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    );
    if !is_clients {
        tracing::warn!(%error, "the admin address accepts no connection for now");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
