use std::net::SocketAddr;
use std::time::{Duration, Instant};

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::MetricFamily;
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::server::Bounds;
use super::*;
use crate::config::Config;
use crate::error::AgentError;
use crate::pipeline::{LocalAddresses, Pipeline};
use crate::status::AdminCounters;

/// Shorter than anyone's patience in a test, and longer than a busy machine keeps one waiting.
const SHORT: Bounds = Bounds {
    connections: 6,
    of_client: 4,
    request: Duration::from_secs(2),
    answer: Duration::from_secs(2),
};

/// What ends by itself has ended after it.
const PATIENCE: Duration = Duration::from_secs(30);

/// An admin address on loopback.
struct Pages {
    at: SocketAddr,
    board: StatusBoard,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), AgentError>>,
}

impl Pages {
    async fn new(bounds: Bounds) -> Self {
        Self::with(bounds, |router| router).await
    }

    async fn with(bounds: Bounds, change: impl FnOnce(Router) -> Router) -> Self {
        let mut config = Config::in_process().unwrap();
        config.cgroup_root = None;
        let pipeline = Pipeline::new(&config, LocalAddresses::default()).shared();
        let board = StatusBoard::default();
        let pages = Admin::new(Metrics::new(pipeline, board.clone()), board.clone()).router();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let server = AdminServer::new(listener, change(pages), board.clone()).with(bounds);
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(server.run(shutdown.clone()));
        Self { at, board, shutdown, served }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    /// Connects from another address of this machine.
    async fn connect_from(&self, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        socket.connect(self.at).await.unwrap()
    }

    fn counters(&self) -> AdminCounters {
        self.board.read().admin
    }

    /// Waits for what connections' ends are counted as.
    async fn until(&self, is_so: impl Fn(AdminCounters) -> bool) -> AdminCounters {
        let started = Instant::now();
        while !is_so(self.counters()) {
            assert!(started.elapsed() < PATIENCE, "{:?}", self.counters());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.counters()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.served.await.unwrap().unwrap();
    }
}

/// Asks for a page, and returns head and body.
async fn get(stream: &mut TcpStream, path: &str, headers: &str) -> (String, Vec<u8>) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

async fn answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut read = Vec::new();
    let head = loop {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "{:?}", String::from_utf8(read));
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8(read.drain(..end + 4).collect()).unwrap().to_lowercase();
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let length: usize = length.parse().unwrap();
    while read.len() < length {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0);
    }
    assert_eq!(read.len(), length);
    (head, read)
}

#[tokio::test]
async fn a_client_has_the_format_that_it_asks_for() {
    let pages = Pages::new(SHORT).await;
    let mut stream = pages.connect().await;
    let (head, body) = get(&mut stream, "/metrics", "").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("version=0.0.4"), "{head}");
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("\n# TYPE orb8_agent_flows gauge\n") && !text.contains("# EOF"));

    // On the same connection.
    let accept = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let (head, body) = get(&mut stream, "/metrics", accept).await;
    assert!(head.contains("openmetrics-text; version=1.0.0"), "{head}");
    assert!(String::from_utf8(body).unwrap().ends_with("# EOF\n"));

    let accept = "accept: application/vnd.google.protobuf;\
                  proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n";
    let (head, body) = get(&mut stream, "/metrics", accept).await;
    assert!(head.contains("encoding=delimited") && head.contains("vary: accept"), "{head}");
    let first = MetricFamily::decode_length_delimited(body.as_slice()).unwrap();
    assert!(first.name.starts_with("orb8_"), "{first:?}");

    let (head, body) = get(&mut stream, "/metrics", "accept-encoding: gzip\r\n").await;
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut plain = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(body.as_slice()), &mut plain)
        .unwrap();
    assert!(plain.contains("\norb8_agent_admin_connections 1.0\n"), "{plain}");
    pages.stop().await;
}

#[tokio::test]
async fn half_a_request_is_given_up_and_an_idle_connection_is_not_held_against_anyone() {
    let pages = Pages::new(SHORT).await;
    let mut half = pages.connect().await;
    half.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    let mut silent = pages.connect().await;
    let mut idle = pages.connect().await;
    get(&mut idle, "/livez", "").await;
    assert_eq!(pages.counters().open, 3);
    for stream in [&mut half, &mut silent, &mut idle] {
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        let ended = tokio::time::timeout(PATIENCE, read).await;
        assert!(ended.is_ok(), "it is still open");
    }
    let counters = pages.until(|counters| counters.open == 0).await;
    assert_eq!(counters, AdminCounters { slow_requests: 2, ..AdminCounters::default() });
    pages.stop().await;
}

#[tokio::test]
async fn a_reader_that_hangs_is_reset_and_its_page_is_gone() {
    const LARGE: usize = 32 << 20;
    let held = Arc::new(AtomicUsize::new(0));
    let page = Arc::clone(&held);
    let large = move || {
        let body = Bytes::from_owner(Unread::new(vec![b'x'; LARGE], Arc::clone(&page)));
        std::future::ready(body.into_response())
    };
    let pages = Pages::with(SHORT, |router| router.route("/large", get_route(large))).await;
    let mut hanging = pages.connect().await;
    hanging.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // One that takes a little now and then is no better.
    let mut dripping = pages.connect().await;
    dripping.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut taken = [0; 1024];
    let started = Instant::now();
    while dripping.read(&mut taken).await.is_ok_and(|bytes| bytes > 0) {
        assert!(started.elapsed() < PATIENCE, "it never ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let counters = pages.until(|counters| counters.open == 0).await;
    assert_eq!(counters, AdminCounters { slow_readers: 2, ..AdminCounters::default() });
    assert_eq!(held.load(Relaxed), 0);
    // Others were served meanwhile, and one that reads has all of it.
    let (_, body) = get(&mut pages.connect().await, "/large", "").await;
    assert_eq!(body.len(), LARGE);
    drop(hanging);
    pages.stop().await;
}

#[tokio::test]
async fn a_client_with_too_many_connections_leaves_room_for_others() {
    let pages = Pages::new(Bounds { request: Duration::from_secs(30), ..SHORT }).await;
    let mut held = Vec::new();
    for _ in 0..SHORT.of_client {
        let mut stream = pages.connect().await;
        get(&mut stream, "/livez", "").await;
        held.push(stream);
    }
    let (head, body) = answer(&mut pages.connect().await).await;
    assert!(head.starts_with("http/1.1 503") && head.contains("connection: close"), "{head}");
    assert_eq!(body, b"there are too many connections");
    let mut other = pages.connect_from("127.0.0.2").await;
    let (head, _) = get(&mut other, "/livez", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    held.push(other);
    let mut third = pages.connect_from("127.0.0.3").await;
    get(&mut third, "/livez", "").await;
    held.push(third);
    answer(&mut pages.connect_from("127.0.0.4").await).await;
    let counters = pages.counters();
    assert_eq!((counters.client_full, counters.full, counters.open), (1, 1, 6));
    // Who leaves makes room.
    held.clear();
    pages.until(|counters| counters.open == 0).await;
    get(&mut pages.connect().await, "/livez", "").await;
    pages.stop().await;
}

#[tokio::test]
async fn pages_that_nobody_reads_are_bounded() {
    let pages = {
        let mut config = Config::in_process().unwrap();
        config.cgroup_root = None;
        let pipeline = Pipeline::new(&config, LocalAddresses::default()).shared();
        Admin::new(Metrics::new(pipeline, StatusBoard::default()), StatusBoard::default())
    };
    let ask = async || metrics(State(pages.clone()), HeaderMap::new()).await.status();
    assert_eq!(ask().await, StatusCode::OK);
    assert_eq!(pages.unread.load(Relaxed), 0, "it was dropped");
    let held = Unread::new(vec![0; MAX_UNREAD + 1], Arc::clone(&pages.unread));
    assert_eq!(ask().await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(pages.board.read().admin.unread, 1);
    drop(held);
    assert_eq!(ask().await, StatusCode::OK);
}

#[tokio::test]
async fn a_shutdown_waits_for_answers_and_not_for_the_idle() {
    let (asked, to_answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let signals = (Arc::clone(&asked), Arc::clone(&to_answer));
    let slow = move || {
        let (asked, to_answer) = signals.clone();
        async move {
            asked.add_permits(1);
            to_answer.acquire().await.unwrap().forget();
            "late\n"
        }
    };
    let patient = Bounds { request: Duration::from_secs(30), ..SHORT };
    let pages = Pages::with(patient, |router| router.route("/slow", get_route(slow))).await;
    let mut idle = pages.connect().await;
    get(&mut idle, "/livez", "").await;
    let mut asking = pages.connect().await;
    asking.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    asked.acquire().await.unwrap().forget();
    pages.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    to_answer.add_permits(1);
    assert_eq!(answer(&mut asking).await.1, b"late\n");
    let ended = tokio::time::timeout(PATIENCE, pages.served).await;
    ended.expect("it waits for the idle one").unwrap().unwrap();
}

fn get_route<H, T>(handler: H) -> axum::routing::MethodRouter
where
    H: axum::handler::Handler<T, ()>,
    T: 'static,
{
    axum::routing::get(handler)
}
