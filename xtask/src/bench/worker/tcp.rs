//! Connections.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream},
    sync::atomic::Ordering::Relaxed,
    thread,
    time::Duration,
};

use super::{Pace, SENT, spawn};

/// Bytes written at once.
const BLOCK: usize = 64 * 1024;

/// Bytes of a question, and of its answer.
const PING: usize = 64;

/// Threads at each end of short connections: enough to keep two processors busy while some wait.
const THREADS: u64 = 4;

/// What `tcp-connect` takes.
#[derive(clap::Args)]
pub(crate) struct Connect {
    to: SocketAddrV4,
    /// Addresses, from `to` upwards: ports last longer
    #[arg(long)]
    addresses: u32,
    /// Connections a second; 0 for as many as it can
    #[arg(long)]
    rate: u64,
}

pub(super) fn sink(address: SocketAddrV4) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    spawn(move || {
        let mut block = vec![0; 4 * BLOCK];
        while let Ok((mut stream, _)) = listener.accept() {
            while stream.read(&mut block).is_ok_and(|read| read > 0) {}
        }
    });
    Ok(())
}

pub(super) fn send(to: SocketAddrV4) -> io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    let block = vec![0x5a; BLOCK];
    spawn(move || {
        while stream.write_all(&block).is_ok() {
            SENT.fetch_add(BLOCK as u64, Relaxed);
        }
    });
    Ok(())
}

pub(super) fn echo(address: SocketAddrV4) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            // What it fails with ends the connection, and the next may do better.
            let _ = stream.set_nodelay(true).and_then(|()| echo_until_end(&mut stream));
        }
    });
    Ok(())
}

fn echo_until_end(stream: &mut TcpStream) -> io::Result<()> {
    let mut ping = [0; PING];
    loop {
        stream.read_exact(&mut ping)?;
        stream.write_all(&ping)?;
    }
}

pub(super) fn ping(to: SocketAddrV4) -> io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    let mut ping = [0x5a; PING];
    spawn(move || {
        while stream.write_all(&ping).and_then(|()| stream.read_exact(&mut ping)).is_ok() {
            SENT.fetch_add(1, Relaxed);
        }
    });
    Ok(())
}

pub(super) fn close(address: SocketAddrV4) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    for _ in 0..THREADS {
        let listener = listener.try_clone()?;
        spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                // The end of the other side; an error ends the connection as well.
                let _ = stream.read(&mut [0]);
            }
        });
    }
    Ok(())
}

pub(super) fn connect(connect: &Connect) {
    let Connect { to, addresses, rate } = *connect;
    for thread in 0..THREADS {
        let mut pace = Pace::new(rate.div_ceil(THREADS));
        let mut next = thread as u32;
        spawn(move || {
            loop {
                for _ in 0..pace.due() {
                    let ip = Ipv4Addr::from_bits(to.ip().to_bits() + next % addresses);
                    next = next.wrapping_add(1);
                    match once(SocketAddrV4::new(ip, to.port())) {
                        Ok(()) => drop(SENT.fetch_add(1, Relaxed)),
                        // No port is free, for instance.
                        Err(_) => thread::sleep(Duration::from_millis(1)),
                    }
                }
            }
        });
    }
}

/// A connection without data. This end closes first, and the other's FIN still finds it: no RST.
fn once(to: SocketAddrV4) -> io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.shutdown(Shutdown::Write)?;
    // The other end's FIN.
    stream.read(&mut [0]).map(drop)
}
