use std::cell::RefCell;

use super::*;
use crate::clock::Reading;
use crate::event::SocketEnd;

/// A kernel that translates what goes to port 80, to port 8080 of the same address, once a connection
/// is tracked. Other ports below 1000 it tracks as they are.
#[derive(Debug, Default)]
struct Kernel {
    asked: u32,
    /// Questions before a connection is tracked.
    late: u32,
    fails: bool,
    /// Questions that fail before it answers again.
    hiccups: u32,
    /// The backend's port.
    backend: Option<u16>,
}

thread_local! {
    static KERNEL: RefCell<Kernel> = RefCell::default();
}

#[derive(Debug)]
struct Fake;

impl Tracking for Fake {
    fn opposite_of(&mut self, tuple: &Tuple) -> io::Result<Option<Tuple>> {
        KERNEL.with_borrow_mut(|kernel| {
            kernel.asked += 1;
            if kernel.fails {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            if kernel.hiccups > 0 {
                kernel.hiccups -= 1;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let Tuple { source, destination, protocol } = *tuple;
            let backend = kernel.backend.unwrap_or(8080);
            let port = if destination.port == 80 { backend } else { destination.port };
            let answers = SocketEnd { port, ..destination };
            let opposite = Tuple { source: answers, destination: source, protocol };
            Ok((destination.port < 1000 && kernel.asked > kernel.late).then_some(opposite))
        })
    }
}

fn open() -> Result<Box<dyn Tracking>, ConntrackError> {
    if KERNEL.with_borrow(|kernel| kernel.fails) {
        return Err(ConntrackError::Absent);
    }
    Ok(Box::new(Fake))
}

fn asked() -> u32 {
    KERNEL.with_borrow(|kernel| kernel.asked)
}

fn to(port: u16) -> Tuple {
    from(1, port)
}

fn from(client: u16, port: u16) -> Tuple {
    let end = |port| SocketEnd { addr: [7; 16], port };
    Tuple { source: end(client), destination: end(port), protocol: 6 }
}

/// Asks, and returns the port that answers.
fn ask(translations: &mut Translations, tuple: Tuple, at: Instant) -> Option<u16> {
    port(translations, tuple, UnixNanos(0), true, at)
}

fn port(
    translations: &mut Translations,
    tuple: Tuple,
    began: UnixNanos,
    is_service: bool,
    at: Instant,
) -> Option<u16> {
    let wanted = Wanted { tuple, began, is_service };
    translations.opposite(&wanted, at).map(|opposite| opposite.source.port)
}

fn ms(start: Instant, milliseconds: u64) -> Instant {
    start + Duration::from_millis(milliseconds)
}

#[test]
fn a_translated_destination_is_asked_for_once_in_a_while() {
    let (mut translations, start) = (Translations::new(open), Instant::now());
    assert_eq!(ask(&mut translations, to(80), start), Some(8080));
    assert_eq!(ask(&mut translations, to(81), start), None, "tracked as it is");
    for at in 0..100 {
        assert_eq!(ask(&mut translations, to(80), ms(start, at * 290)), Some(8080));
        assert_eq!(ask(&mut translations, to(81), ms(start, at * 290)), None);
    }
    assert_eq!(asked(), 2);
    assert_eq!(ask(&mut translations, to(80), ms(start, 30_000)), Some(8080));
    assert_eq!(asked(), 3, "the port may be another connection's by now");
    let icmp = Tuple { protocol: 1, ..to(80) };
    assert_eq!(ask(&mut translations, icmp, start), None);
    assert_eq!(asked(), 3, "there is nothing to ask");
}

#[test]
fn what_is_not_tracked_yet_is_asked_for_again() {
    KERNEL.set(Kernel { late: 2, ..Kernel::default() });
    let (mut translations, start) = (Translations::new(open), Instant::now());
    for (at, expected) in [(0, None), (1, None), (2, None), (3, Some(8080))] {
        assert_eq!(ask(&mut translations, to(80), ms(start, at)), expected, "after {at} ms");
    }
    assert_eq!(asked(), 3);
}

#[test]
fn what_is_never_tracked_is_rarely_asked_for() {
    let (mut translations, start) = (Translations::new(open), Instant::now());
    for at in 0..300 {
        assert_eq!(ask(&mut translations, to(2000), ms(start, at * 100)), None);
    }
    assert_eq!(asked(), u32::from(TRIES), "in 30 seconds");
    ask(&mut translations, to(2000), ms(start, 60_000));
    ask(&mut translations, to(2000), ms(start, 60_300));
    assert_eq!(asked(), u32::from(TRIES) + 1);
}

#[test]
fn questions_are_bounded_and_those_left_out_are_counted() {
    let (mut translations, start) = (Translations::new(open), Instant::now());
    let clients = PER_SECOND as u16 + 10;
    for client in 0..clients {
        let expected = (u32::from(client) < PER_SECOND).then_some(8080);
        assert_eq!(ask(&mut translations, from(client, 80), start), expected);
    }
    assert_eq!((asked(), translations.skipped()), (PER_SECOND, 10));
    assert_eq!(ask(&mut translations, from(1, 80), start), Some(8080), "that is known already");
    assert_eq!(ask(&mut translations, from(clients, 80), ms(start, 1000)), Some(8080));
}

#[test]
fn memory_is_bounded_and_the_old_go_first() {
    let (mut translations, start) = (Translations::new(open), Instant::now());
    let mut at = start;
    let ask_all =
        |translations: &mut Translations, clients: std::ops::Range<u32>, at: &mut Instant| {
            for client in clients {
                if client % PER_SECOND == 0 {
                    *at += Duration::from_secs(1);
                }
                assert_eq!(ask(translations, from(client as u16, 80), *at), Some(8080));
            }
        };
    ask_all(&mut translations, 0..20_000, &mut at);
    assert!(translations.recent.len() + translations.older.len() <= 2 * REMEMBERED);
    assert!(translations.older.len() == REMEMBERED && !translations.recent.is_empty());
    let before = asked();
    ask(&mut translations, from(19_999, 80), at);
    ask(&mut translations, from(19_999 - REMEMBERED as u16, 80), at);
    assert_eq!(asked(), before, "these are remembered");
    ask(&mut translations, from(0, 80), at + Duration::from_secs(1));
    assert_eq!(asked(), before + 1, "and this one is not");
}

#[test]
fn without_tracking_the_reason_is_there_and_it_is_looked_for_again() {
    KERNEL.set(Kernel { fails: true, ..Kernel::default() });
    let (mut translations, start) = (Translations::new(open), Instant::now());
    assert_eq!(ask(&mut translations, to(80), start), None);
    assert!(translations.problem().unwrap().contains("nf_conntrack"));
    KERNEL.set(Kernel::default());
    assert_eq!(ask(&mut translations, to(80), ms(start, 29_999)), None);
    assert_eq!(ask(&mut translations, to(80), ms(start, 30_000)), Some(8080));
    assert_eq!(translations.problem(), None);

    // What is known stays known when it fails later.
    KERNEL.set(Kernel { fails: true, ..Kernel::default() });
    assert_eq!(ask(&mut translations, to(80), ms(start, 60_000)), Some(8080));
    assert!(translations.problem().is_some());
    assert_eq!(ask(&mut translations, to(80), ms(start, 60_001)), Some(8080));
    assert_eq!(asked(), 2, "once more, and not again");
}

#[test]
fn a_port_that_is_used_again_is_asked_for_again() {
    let (mut translations, start) = (Translations::new(open), Instant::now());
    translations.clock = Clock::with_source(|| Reading { monotonic_ns: 0, unix_ns: 1_000 });
    let udp = Tuple { protocol: protocol::UDP, ..to(80) };
    let mut at = |tuple, began| port(&mut translations, tuple, UnixNanos(began), true, start);
    assert_eq!(at(to(80), 900), Some(8080));
    assert_eq!(at(udp, 900), Some(8080));
    KERNEL.with_borrow_mut(|kernel| kernel.backend = Some(9090));
    assert_eq!(at(to(80), 1_000), Some(8080), "it was there when the kernel was asked");
    assert_eq!(at(to(80), 1_001), Some(9090), "another connection");
    assert_eq!(at(udp, 1_001), Some(8080), "the kernel's entry is the same");
    assert_eq!(asked(), 3);
}

#[test]
fn one_error_is_forgiven() {
    KERNEL.set(Kernel { hiccups: 1, ..Kernel::default() });
    let (mut translations, start) = (Translations::new(open), Instant::now());
    assert_eq!(ask(&mut translations, to(80), start), Some(8080));
    assert_eq!((asked(), translations.problem()), (2, None));
}

#[test]
fn services_are_asked_for_though_there_is_noise() {
    let (mut translations, start) = (Translations::new(open), Instant::now());
    for client in 0..5_000 {
        port(&mut translations, from(client, 2_000), UnixNanos(0), false, start);
    }
    assert_eq!(asked(), PER_SECOND - FOR_SERVICES);
    assert_eq!(ask(&mut translations, to(80), start), Some(8080));
}
