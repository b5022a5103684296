//! A TCP proxy that makes connections fail as networks do.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::task::AbortOnDropHandle;

/// The proxy; connections end with it.
pub(crate) struct Proxy {
    address: SocketAddr,
    target: SocketAddr,
    weather: Arc<Weather>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
    serving: Option<AbortOnDropHandle<()>>,
}

struct Weather {
    frozen: watch::Sender<bool>,
    /// Before each piece that the server sends.
    slow: watch::Sender<Duration>,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let weather = Arc::new(Weather {
            frozen: watch::channel(false).0,
            slow: watch::channel(Duration::ZERO).0,
        });
        let mut proxy =
            Self { address, target, weather, connections: Default::default(), serving: None };
        proxy.serve(listener);
        Ok(proxy)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and all connections.
    pub(crate) fn close(&mut self) {
        self.serving = None;
        self.cut();
    }

    /// Opens it again.
    pub(crate) async fn open(&mut self) -> io::Result<()> {
        let listener = orb8_k8s::testing::rebind(self.address).await?;
        self.serve(listener);
        Ok(())
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }

    pub(crate) fn freeze(&self, frozen: bool) {
        self.weather.frozen.send_replace(frozen);
    }

    pub(crate) fn slow_down(&self, per_piece: Duration) {
        self.weather.slow.send_replace(per_piece);
    }

    fn serve(&mut self, listener: TcpListener) {
        let (target, weather) = (self.target, Arc::clone(&self.weather));
        let live = Arc::clone(&self.connections);
        self.serving = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let handle = connections.spawn(connection(client, target, Arc::clone(&weather)));
                live.lock().unwrap().push(handle);
                while connections.try_join_next().is_some() {}
            }
        })));
    }
}

/// Carries a connection both ways until either end is done.
async fn connection(client: TcpStream, target: SocketAddr, weather: Arc<Weather>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = carry(from_client, to_server, &weather, false) => {}
        _ = carry(from_server, to_client, &weather, true) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    weather: &Weather,
    slowly: bool,
) -> io::Result<()> {
    let mut frozen = weather.frozen.subscribe();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        frozen.wait_for(|frozen| !frozen).await.map_err(io::Error::other)?;
        if slowly {
            let pause = *weather.slow.borrow();
            tokio::time::sleep(pause).await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}
