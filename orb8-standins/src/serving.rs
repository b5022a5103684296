//! A thread that serves connections until its owner is dropped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// No test waits longer, and no thread stays longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves on a free port of `localhost`, each connection on a thread of its own.
#[derive(Debug)]
pub(crate) struct Serving {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Serving {
    pub(crate) fn start(
        port: u16,
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let is_over = Arc::new(AtomicBool::new(false));
        thread::Builder::new().name("standin".into()).spawn({
            let is_over = Arc::clone(&is_over);
            move || accept(&listener, &is_over, &Arc::new(serve))
        })?;
        Ok(Self { address, is_over })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        // Wakes the thread up; one that is gone already needs no waking.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(
    listener: &TcpListener,
    is_over: &AtomicBool,
    serve: &Arc<impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static>,
) {
    while let Ok((stream, _)) = listener.accept() {
        if is_over.load(Relaxed) {
            return;
        }
        let serve = Arc::clone(serve);
        let patient = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        if patient.is_err() {
            continue;
        }
        // Without a thread the connection is closed, which a client has to bear with as well; one that
        // goes away early is no error here.
        let _ = thread::Builder::new().name("standin-client".into()).spawn(move || serve(stream));
    }
}
