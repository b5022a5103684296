//! Records of the `tcp` ring: each is one event, or counted as none.
//!
//! An input is a row of records: a byte for the kind, and the bytes, filled up with zeroes.

use orb8_agent::clock::{Clock, Reading};
use orb8_agent::ebpf::TcpReasons;
use orb8_agent::event::Payload;
use orb8_agent::sources::tcp::Converter;
use orb8_common::tcp::{RTT_BUCKETS, TcpMoment, TcpSocket};
use zerocopy::{FromZeros, IntoBytes};

const MOMENT: u8 = 0;
const CLOSED: u8 = 1;
/// A live socket, as the iterator hands it over.
const LIVE: u8 = 2;

/// Converts any records.
pub fn run(data: &[u8]) {
    let clock = Clock::with_source(|| Reading { monotonic_ns: 1 << 40, unix_ns: 1 << 60 });
    let reasons = TcpReasons { drops: vec![(3, "NO_SOCKET".to_owned())], resets: Vec::new() };
    let mut converter = Converter::new(clock, &reasons);
    let mut rest = data;
    while let [kind, tail @ ..] = rest {
        let mut batch = Vec::new();
        let (mut moment, mut socket) = (TcpMoment::new_zeroed(), TcpSocket::new_zeroed());
        let refused = converter.undecodable();
        match *kind % 4 {
            MOMENT => {
                rest = fill(moment.as_mut_bytes(), tail);
                converter.ring(moment.as_bytes(), &mut batch);
            }
            CLOSED => {
                rest = fill(socket.as_mut_bytes(), tail);
                converter.ring(socket.as_bytes(), &mut batch);
            }
            LIVE => {
                rest = fill(socket.as_mut_bytes(), tail);
                converter.socket(&socket, &mut batch);
            }
            _ => {
                let (record, tail) = tail.split_at(tail.len().min(usize::from(*kind)));
                rest = tail;
                converter.ring(record, &mut batch);
            }
        }
        let refused = (converter.undecodable() - refused) as usize;
        let told = batch.len() + refused;
        assert!(told == 1 || (*kind % 4 == LIVE && told == 0), "{batch:?}, {refused} refused");
        for event in batch {
            let Payload::Tcp(sample) = event.payload else { panic!("another signal's event") };
            assert_eq!(sample.figures.map_or(RTT_BUCKETS, |it| it.rtt.len()), RTT_BUCKETS);
        }
    }
}

/// Copies what there is, and returns what is left.
fn fill<'a>(record: &mut [u8], from: &'a [u8]) -> &'a [u8] {
    let (bytes, rest) = from.split_at(from.len().min(record.len()));
    record[..bytes.len()].copy_from_slice(bytes);
    rest
}

/// A record of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let of = |kind: u8, record: &[u8]| [&[kind], record].concat();
    let moment = |kind| TcpMoment { kind, cookie: 7, ..TcpMoment::new_zeroed() };
    let socket =
        TcpSocket { srtt_us: 9, adopted: 1, drops: 3, cookie: 7, ..TcpSocket::new_zeroed() };
    let moments = (0..=10).map(|kind| of(MOMENT, moment(kind).as_bytes()));
    moments.chain([of(CLOSED, socket.as_bytes()), of(LIVE, socket.as_bytes())]).collect()
}
