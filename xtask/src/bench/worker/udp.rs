//! Datagrams.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::atomic::Ordering::Relaxed,
};

use super::{Pace, SENT, spawn};

/// Bytes of payload.
const PAYLOAD: usize = 64;

/// What `udp-send` takes.
#[derive(clap::Args)]
pub(crate) struct Send {
    to: SocketAddrV4,
    /// Flows, in turn
    #[arg(long)]
    flows: u32,
    /// One connected socket per flow; else one socket and an address per flow, from `to` upwards
    #[arg(long)]
    connected: bool,
    /// Datagrams a second; 0 for as many as it can
    #[arg(long)]
    rate: u64,
}

pub(super) fn sink(address: SocketAddrV4) -> io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    // It has to outlive this function, and nothing reads it.
    std::mem::forget(socket);
    Ok(())
}

pub(super) fn send(send: &Send) -> io::Result<()> {
    let Send { to, flows, connected, rate } = *send;
    if connected {
        let sockets = (0..flows).map(|_| connect(to)).collect::<io::Result<Vec<_>>>()?;
        in_turn(sockets, rate, |socket, payload| socket.send(payload));
    } else {
        let socket = bind()?;
        let first = to.ip().to_bits();
        let address = |i| SocketAddrV4::new(Ipv4Addr::from_bits(first + i), to.port());
        let addresses = (0..flows).map(address).collect();
        in_turn(addresses, rate, move |to: &SocketAddrV4, payload| socket.send_to(payload, to));
    }
    Ok(())
}

fn bind() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
}

pub(super) fn connect(to: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = bind()?;
    socket.connect(to)?;
    Ok(socket)
}

fn in_turn<T: std::marker::Send + 'static>(
    flows: Vec<T>,
    rate: u64,
    send: impl Fn(&T, &[u8]) -> io::Result<usize> + std::marker::Send + 'static,
) {
    let mut pace = Pace::new(rate);
    let mut next = 0;
    spawn(move || {
        let payload = [0x5a; PAYLOAD];
        loop {
            let mut sent = 0;
            for _ in 0..pace.due() {
                // A full queue refuses one; it is not counted, and the next may pass.
                sent += u64::from(send(&flows[next], &payload).is_ok());
                next += 1;
                if next == flows.len() {
                    next = 0;
                }
            }
            SENT.fetch_add(sent, Relaxed);
        }
    });
}
