use std::sync::atomic::AtomicU32;
use std::task::Wake;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Weight for u32 {
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// An event of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Large(usize);

impl Weight for Large {
    fn heap_bytes(&self) -> usize {
        self.0
    }
}

fn hub(recent: u32, backlog: u32) -> Hub<u32> {
    Hub::new(HubConfig { recent, backlog })
}

fn publish(hub: &mut Hub<u32>, events: impl IntoIterator<Item = u32>) {
    events.into_iter().for_each(|event| hub.push(UnixNanos(0), event));
    hub.publish();
}

fn events(batch: &Batch<u32>) -> impl Iterator<Item = u32> {
    batch.items.iter().map(|item| match item.happened {
        Happened::Event(event) => event,
        Happened::Lost(lost) => panic!("{lost:?}"),
    })
}

fn poll(reader: &mut Reader<u32>, woken: &Arc<Woken>) -> Poll<Option<(u64, Vec<u32>)>> {
    let waker = Waker::from(Arc::clone(woken));
    reader
        .poll_next(&mut Context::from_waker(&waker))
        .map(|received| received.map(|got| (got.missing, events(&got.batch).collect())))
}

#[test]
fn who_waits_is_woken_once_and_told_of_the_end() {
    let (mut hub, woken) = (hub(0, 1024), Arc::new(Woken::default()));
    let mut reader = hub.subscribe().reader;
    assert_eq!(poll(&mut reader, &woken), Poll::Pending);
    publish(&mut hub, [1]);
    publish(&mut hub, [2]);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(poll(&mut reader, &woken), Poll::Ready(Some((0, vec![1]))));
    assert_eq!(poll(&mut reader, &woken), Poll::Ready(Some((0, vec![2]))));
    assert_eq!(poll(&mut reader, &woken), Poll::Pending);
    drop(hub);
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    assert_eq!(poll(&mut reader, &woken), Poll::Ready(None));
}

#[test]
fn what_nobody_needs_is_not_kept() {
    let mut hub = hub(0, 1024);
    publish(&mut hub, 0..10);
    assert_eq!(hub.shared.log().items, 0);
    let reader = hub.subscribe().reader;
    publish(&mut hub, 0..10);
    assert_eq!((hub.shared.log().items, hub.subscribers()), (10, 1));
    drop(reader);
    publish(&mut hub, 0..10);
    assert_eq!((hub.shared.log().items, hub.subscribers()), (0, 0));
}

#[test]
fn one_slow_subscriber_holds_up_nobody() {
    let (mut hub, woken) = (hub(0, 100), Arc::new(Woken::default()));
    let (slow, mut fast) = (hub.subscribe().reader, hub.subscribe().reader);
    for event in 0..1_000 {
        publish(&mut hub, [event]);
        assert_eq!(poll(&mut fast, &woken), Poll::Ready(Some((0, vec![event]))));
    }
    assert_eq!(
        (hub.shared.log().items, hub.lost()),
        (100, 0),
        "nothing is lost until it is missed"
    );
    drop(slow);
}

/// What a hub's subscriber that reads nothing until now gets: how many events, and how many not.
fn late(hub: &mut Hub<Large>, reader: &mut Reader<Large>) -> (usize, u64) {
    hub.publish();
    let (mut got, mut missing) = (0, 0);
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(received)) = reader.poll_next(&mut context) {
        got += received.batch.items.len();
        missing += received.missing;
    }
    (got, missing)
}

#[test]
fn large_events_count_as_many() {
    const SIZE: usize = 4 * EVENT_BYTES;
    let mut hub = Hub::new(HubConfig { recent: 512, backlog: 2048 });
    let mut reader = hub.subscribe().reader;
    let (item, mut most) = (SIZE + size_of::<StreamItem<Large>>(), 0);
    for _ in 0..5_000 {
        hub.push(UnixNanos(0), Large(SIZE));
        most = most.max(hub.shared.log().bytes);
    }
    assert!(most <= 2048 * EVENT_BYTES + BATCH_BYTES + item, "{most}");
    let (got, missing) = late(&mut hub, &mut reader);
    assert_eq!(got as u64 + missing, 5_000);
    assert!((2048 / 5..=2048 / 4 + 1).contains(&got), "{got}");
    assert_eq!(hub.lost(), missing, "told like any other loss");
    drop(reader);
    hub.push(UnixNanos(0), Large(SIZE));
    let recent: usize = hub.subscribe().recent.iter().map(|batch| batch.items.len()).sum();
    assert!((512 / 8..=512 / 4 + 1).contains(&recent), "{recent}");
    let log = hub.shared.log();
    assert_eq!(log.bytes, log.batches.iter().map(|batch| batch.bytes).sum::<usize>());
}

#[test]
fn one_event_above_every_bound_arrives() {
    let mut hub = Hub::new(HubConfig { recent: 0, backlog: 1024 });
    let mut reader = hub.subscribe().reader;
    hub.push(UnixNanos(0), Large(1));
    hub.push(UnixNanos(0), Large(1 << 30));
    assert_eq!(late(&mut hub, &mut reader), (2, 0));
}

proptest! {
    /// Each step publishes a batch, and lets some readers read some.
    #[test]
    fn a_reader_loses_only_what_is_beyond_the_backlog_and_knows_how_much(
        steps in vec((0_u32..300, vec(0_usize..4, 3)), 1..60),
        recent in 0_u32..500,
        backlog in 200_u32..800,
    ) {
        let (mut hub, woken) = (hub(recent, backlog), Arc::new(Woken::default()));
        let mut readers: Vec<(Reader<u32>, u64)> =
            (0..3).map(|_| (hub.subscribe().reader, 0)).collect();
        let (mut published, mut missed) = (0_u32, 0);
        for (size, reads) in steps {
            publish(&mut hub, published..published + size);
            published += size;
            for ((reader, next), reads) in readers.iter_mut().zip(reads) {
                for _ in 0..reads {
                    let Poll::Ready(Some((missing, got))) = poll(reader, &woken) else {
                        prop_assert_eq!(*next, u64::from(published), "there is more to read");
                        break;
                    };
                    let behind = u64::from(published) - *next;
                    prop_assert!(missing == 0 || behind > u64::from(backlog));
                    let first = *next + missing;
                    *next = first + got.len() as u64;
                    let got: Vec<u64> = got.into_iter().map(u64::from).collect();
                    prop_assert_eq!(got, (first..*next).collect::<Vec<_>>());
                    missed += missing;
                }
            }
            let bound = u64::from(recent.max(backlog)) + BATCH as u64;
            prop_assert!(hub.shared.log().items as u64 <= bound);
        }
        prop_assert_eq!(hub.lost(), missed);
        let kept: Vec<u32> =
            hub.subscribe().recent.iter().flat_map(|batch| events(batch).collect::<Vec<_>>()).collect();
        let (kept_len, asked) = (kept.len() as u32, recent.min(published));
        prop_assert!((asked..recent + BATCH as u32).contains(&kept_len) || kept_len == asked);
        prop_assert_eq!(kept, (published - kept_len..published).collect::<Vec<_>>());
    }
}
