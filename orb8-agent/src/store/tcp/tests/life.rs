//! Sockets that connect again, and connections whose beginning or end was not told.

use orb8_common::tcp::STATE_CLOSE;

use super::*;

const SYN_SENT: u8 = 2;

fn refused(cookie: u64) -> TcpSample {
    TcpSample {
        state: STATE_CLOSE,
        old_state: SYN_SENT,
        ..sample(cookie, TcpKind::Fail { errno: 111 })
    }
}

/// Figures of a connection that was opened then.
fn opened(second: u64) -> TcpFigures {
    TcpFigures { opened: Some(UnixNanos(second * SECOND)), ..figures(4, 1) }
}

impl Bench {
    fn close_missing(&mut self, live: &[u64], before: u64) {
        let (before, now) = (UnixNanos(before * SECOND), self.now());
        self.table.close_missing(&|cookie| live.contains(&cookie), before, now);
    }

    fn closed(&self, cookie: u64) -> Option<u64> {
        self.health(cookie).closed.map(|closed| closed.0 / SECOND)
    }
}

#[test]
fn a_socket_that_was_refused_connects_again() {
    let mut bench = Bench::new(10);
    bench.apply(&refused(7));
    bench.apply(&TcpSample { remote: end(3, 443), ..connect(7) });
    assert_eq!((bench.table.len(), bench.table.by_ends.len()), (1, 1));
    assert_eq!((bench.health(7).state, bench.closed(7)), (ESTABLISHED, None));
    assert_eq!(bench.table.connections[&7].remote, end(3, 443));
    bench.apply(&with_figures(sample(7, TcpKind::Progress), opened(2)));
    assert_eq!(bench.health(7).rtt.unwrap().samples, 4);
    // What was queued for the first one is not the second one's.
    bench.second += KEEP_CLOSED.as_secs();
    bench.table.expire(bench.now());
    assert_eq!((bench.table.len(), bench.table.closed.len()), (1, 0));
    let ended = TcpSample { remote: end(3, 443), ..close(7) };
    bench.apply(&with_figures(ended, TcpFigures { rtt_samples: 6, ..opened(2) }));
    assert_eq!(bench.closed(7), Some(bench.second));
    let TcpTotals { connects, failures, closes, resent, .. } = bench.table.totals();
    assert_eq!((*connects, *failures, *closes, *resent), (1, 1, 1, 1));
    bench.second += KEEP_CLOSED.as_secs();
    bench.table.expire(bench.now());
    assert!(bench.table.is_empty() && bench.table.by_ends.len() == 0);
}

#[test]
fn whatever_comes_first_of_the_next_connection_begins_it() {
    let again = TcpKind::Retransmit { segments: 1, total: 1 };
    let dialing = |kind| TcpSample { state: SYN_SENT, ..sample(7, kind) };
    for (next, is_closed) in [
        (with_figures(sample(7, TcpKind::Progress), opened(2)), false),
        (dialing(TcpKind::State), false),
        (dialing(again), false),
        (with_figures(refused(7), opened(2)), true),
        (refused(7), true),
    ] {
        let mut bench = Bench::new(10);
        bench.apply(&refused(7));
        bench.apply(&next);
        assert_eq!(bench.table.len(), 1);
        assert_eq!(bench.closed(7), is_closed.then_some(2), "{:?}", next.kind);
    }
}

#[test]
fn what_is_left_of_a_closed_connection_is_no_other_one() {
    let mut bench = Bench::new(10);
    bench.apply(&connect(7));
    bench.apply(&with_figures(close(7), opened(1)));
    let closed = bench.health(7).clone();
    bench.apply(&with_figures(sample(7, TcpKind::Progress), opened(1)));
    bench.apply(&TcpSample { state: STATE_CLOSE, ..sample(7, TcpKind::Progress) });
    // Told to close, which it had done.
    bench.apply(&TcpSample { old_state: STATE_CLOSE, ..close(7) });
    bench.apply(&sample(7, TcpKind::Reset { by: ResetBy::Local, reason: None }));
    assert_eq!((bench.table.len(), bench.health(7)), (1, &closed));
}

#[test]
fn another_connection_on_a_socket_whose_close_was_lost() {
    let mut bench = Bench::new(10);
    bench.apply(&progress(7, 4, 1));
    bench.apply(&TcpSample { remote: end(3, 443), ..connect(7) });
    let connection = &bench.table.connections[&7];
    assert_eq!((connection.remote, connection.health().rtt), (end(3, 443), None));
    assert_eq!((bench.table.len(), bench.table.by_ends.len()), (1, 1));
}

#[test]
fn a_connection_learns_its_cookie() {
    let mut bench = Bench::new(10);
    let of = |netns| TcpSample { cookie: 0, netns, ..connect(7) };
    bench.apply(&of(9));
    bench.apply(&of(8));
    bench.apply(&progress(7, 4, 0));
    assert_eq!((bench.table.len(), bench.table.by_ends.len()), (2, 2), "one namespace's each");
    assert_eq!(bench.health(7).rtt.unwrap().samples, 4);
    assert_eq!(bench.table.connections[&7].cookie, 7);
    // Another socket has taken its place.
    bench.apply(&TcpSample { local: end(1, 7), ..connect(6) });
    assert_eq!((bench.table.len(), bench.table.by_ends.len()), (3, 2));
    // A closed one learns no more, and goes as it would have.
    bench.apply(&TcpSample { cookie: 0, netns: 8, local: end(1, 7), ..close(0) });
    bench.apply(&TcpSample { netns: 8, local: end(1, 7), ..connect(5) });
    bench.second += KEEP_CLOSED.as_secs();
    bench.table.expire(bench.now());
    let mut cookies: Vec<u64> = bench.table.connections.keys().copied().collect();
    cookies.sort_unstable();
    assert_eq!(cookies, [5, 6, 7]);
}

#[test]
fn what_is_not_among_the_living_is_closed() {
    let mut bench = Bench::new(40);
    for cookie in 1..=4 {
        bench.apply(&connect(cookie));
    }
    bench.apply(&TcpSample { cookie: 0, ..connect(9) });
    bench.apply(&close(2));
    bench.close_missing(&[1], 4);
    let closed = [1, 2, 3, 4].map(|cookie| bench.closed(cookie));
    assert_eq!(closed, [None, Some(6), Some(4), None], "the fourth is younger");
    assert_eq!(bench.health(3).state, STATE_CLOSE);
    assert_eq!((bench.table.closed.len(), bench.table.totals().closes), (2, 1));
    bench.second += KEEP_CLOSED.as_secs();
    bench.table.expire(bench.now());
    assert_eq!(bench.table.len(), 3, "1, 4 and the one without a cookie");
}

#[test]
fn closing_what_is_missing_keeps_to_the_closed_ones_part() {
    let mut bench = Bench::new(40);
    for cookie in 1..=40 {
        bench.apply(&connect(cookie));
    }
    bench.close_missing(&[], 100);
    assert_eq!((bench.table.len(), bench.table.closed.len()), (10, 10));
}

#[test]
fn a_presumed_close_is_corrected() {
    let mut bench = Bench::new(40);
    bench.apply(&progress(1, 4, 1));
    bench.apply(&progress(2, 4, 1));
    bench.apply(&progress(3, 4, 1));
    bench.close_missing(&[], 4);
    // The record was on its way.
    bench.apply(&with_figures(close(1), figures(6, 2)));
    assert_eq!((bench.closed(1), bench.health(1).rtt.unwrap().samples), (Some(4), 6));
    // It lives.
    bench.apply(&progress(2, 7, 1));
    assert_eq!((bench.closed(2), bench.health(2).rtt.unwrap().samples), (None, 7));
    bench.apply(&connect(3));
    assert_eq!(bench.health(3).rtt, None, "the next one");
    let totals = bench.table.totals();
    assert_eq!((totals.rtt.count(), totals.resent), (6 + 7 + 4, 2 + 1 + 1), "each once");
    bench.second += KEEP_CLOSED.as_secs();
    bench.table.expire(bench.now());
    assert_eq!((bench.table.len(), bench.table.closed.len()), (2, 0));
}

#[test]
fn what_is_gone_does_not_come_back_without_a_state() {
    let mut bench = Bench::new(10);
    bench.apply(&TcpSample { state: STATE_CLOSE, ..progress(7, 4, 1) });
    let reset = TcpKind::Reset { by: ResetBy::Local, reason: None };
    bench.apply(&TcpSample { cookie: 0, cgroup_id: 0, netns: 0, state: 0, ..sample(7, reset) });
    assert!(bench.table.is_empty() && bench.table.by_ends.len() == 0);
    assert_eq!((bench.table.totals().untracked, bench.table.totals().rtt.count()), (0, 0));
    bench.apply(&with_figures(close(7), figures(4, 1)));
    assert_eq!((bench.table.len(), bench.table.totals().rtt.count()), (1, 4), "its end is told");
}

#[test]
fn a_socket_that_is_refused_for_ever_takes_one_place() {
    let mut bench = Bench::new(40);
    bench.apply(&connect(1));
    bench.apply(&close(1));
    for _ in 0..100 {
        bench.apply(&refused(7));
        assert!(bench.table.len() <= 2 && bench.table.closed.len() <= 10);
    }
    assert_eq!(
        (bench.table.totals().failures, bench.table.by_ends.len()),
        (100, bench.table.len())
    );
    assert!(bench.table.connections.contains_key(&7));
}
