//! Collectors that are away, full, wrong or silent.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::samples::*;
use super::*;

const MS: Duration = Duration::from_millis(1);

/// Sends one record to a receiver that answers so, and waits until it has all of them.
async fn deliver(protocol: Protocol, answers: Vec<Answer>) -> (Receiver, Node) {
    let receiver = Receiver::start(protocol).await;
    receiver.answer(answers);
    let node = Node::new(&receiver, &[LogKind::Dns]).start();
    node.feed([dns(timeout("a.example"))]);
    (receiver, node)
}

fn full(delay: Duration) -> Answer {
    let details = ErrorDetails::with_retry_info(Some(delay));
    Answer::Fail(Status::with_error_details(Code::ResourceExhausted, "full", details))
}

#[tokio::test]
async fn an_unavailable_collector_is_asked_again_with_growing_waits() {
    let unavailable = || Answer::Fail(Status::unavailable("restarting"));
    for (protocol, answers) in [
        (Protocol::Grpc, vec![unavailable(), unavailable()]),
        (Protocol::Http, vec![Answer::Http(503, None), Answer::Http(502, None)]),
    ] {
        let (receiver, mut node) = deliver(protocol, answers).await;
        receiver.expect(1).await;
        let attempts = receiver.attempts();
        assert_eq!(attempts.len(), 3);
        let waits = [attempts[1] - attempts[0], attempts[2] - attempts[1]];
        assert!(waits[0] >= 500 * MS && waits[1] >= 1_000 * MS, "{waits:?}");
        node.stop().await;
        let status = node.status().logs;
        assert_eq!((status.exported, status.failures, status.error), (1, 2, None));
        assert_eq!(status.dropped, [0; Cause::ALL.len()]);
    }
}

#[tokio::test]
async fn a_collector_is_left_alone_as_long_as_it_asks() {
    for (protocol, answers) in [
        (Protocol::Grpc, vec![full(2_500 * MS)]),
        (Protocol::Http, vec![Answer::Http(429, Some("3"))]),
    ] {
        let (receiver, mut node) = deliver(protocol, answers).await;
        receiver.expect(1).await;
        let attempts = receiver.attempts();
        let wait = attempts[1] - attempts[0];
        // Ours would be a second at most.
        assert!(wait >= 2_500 * MS, "{wait:?}");
        node.stop().await;
        assert_eq!(node.status().logs.exported, 1);
    }
}

#[tokio::test]
async fn what_is_refused_for_good_is_dropped_once() {
    for (protocol, answer, reason) in [
        (Protocol::Grpc, Answer::Fail(Status::invalid_argument("no")), "InvalidArgument: no"),
        (Protocol::Grpc, Answer::Fail(Status::resource_exhausted("large")), "large"),
        (Protocol::Http, Answer::Http(400, None), "HTTP 400 Bad Request: not now"),
        (Protocol::Http, Answer::Http(500, Some("1")), "HTTP 500"),
    ] {
        let (receiver, mut node) = deliver(protocol, vec![answer]).await;
        eventually("a drop", || (node.dropped(Kind::Logs, Cause::Refused) == 1).then_some(()))
            .await;
        let status = node.status();
        let error = status.logs.error.clone().unwrap();
        assert!(error.contains(reason), "{error}");
        let check = status.check();
        assert_eq!(check.state, crate::status::CheckState::Failed);
        assert!(check.detail.contains(reason) && check.detail.contains("1 dropped"), "{check:?}");
        assert!(check.remedy.unwrap().contains("--otlp-endpoint"));
        // And it goes on.
        node.feed([dns(timeout("b.example"))]);
        let records = receiver.expect(1).await;
        assert_attributes(&records[0].attributes, &[("dns.question.name", "b.example")]);
        assert_eq!(receiver.attempts().len(), 2, "not tried again");
        node.stop().await;
        assert_eq!(node.status().logs.error, None);
        assert_eq!(node.status().check().state, crate::status::CheckState::Ok);
    }
}

#[tokio::test]
async fn what_is_rejected_of_a_request_is_counted() {
    for protocol in Protocol::ALL {
        let receiver = Receiver::start(protocol).await;
        receiver.answer([Answer::Reject(3, "too old"), Answer::Reject(0, "a remark")]);
        let mut node = Node::new(&receiver, &[LogKind::Dns]).start();
        node.feed((0..10).map(|_| dns(timeout("a.example"))));
        receiver.expect(10).await;
        node.feed([dns(timeout("a.example"))]);
        receiver.expect(11).await;
        node.stop().await;
        assert_eq!(node.status().logs.exported, 8);
        assert_eq!(node.dropped(Kind::Logs, Cause::Rejected), 3);
        assert_eq!(receiver.attempts().len(), 2, "a part is never sent again");
    }
}

#[tokio::test]
async fn a_collector_that_hangs_is_asked_again() {
    for protocol in Protocol::ALL {
        let receiver = Receiver::start(protocol).await;
        receiver.answer([Answer::Hang]);
        let node = Node::new(&receiver, &[]);
        node.build().unwrap();
        let (queue, health) = (Queue::new(1_024), Health::new(node.board.clone()));
        let config = &node.config.otlp;
        let client = Client::build(config.endpoint.as_ref().unwrap(), config).unwrap();
        let sender = LogSender {
            client: client.with_timeout(1_000 * MS),
            queue: queue.clone(),
            resource: Resource::new("node-1", false, &[]),
            health,
            give_up: GIVE_UP,
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(sender.run(stop.clone()));
        queue.push([records_of(1).remove(0)]);
        receiver.expect(1).await;
        assert_eq!(receiver.attempts().len(), 2);
        stop.cancel();
        running.await.unwrap();
        let status = node.status().logs;
        assert_eq!((status.exported, status.failures), (1, 1));
    }
}

#[tokio::test]
async fn a_batch_that_is_put_off_for_too_long_does_not_hold_up_the_next() {
    let receiver = Receiver::start(Protocol::Grpc).await;
    receiver.answer(vec![Answer::Fail(Status::unavailable("poison")); 3]);
    let node = Node::new(&receiver, &[]);
    node.build().unwrap();
    let config = &node.config.otlp;
    let queue = Queue::new(1_024);
    let sender = LogSender {
        client: Client::build(config.endpoint.as_ref().unwrap(), config).unwrap(),
        queue: queue.clone(),
        resource: Resource::new("node-1", false, &[]),
        health: Health::new(node.board.clone()),
        give_up: 1_400 * MS,
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(sender.run(stop.clone()));
    queue.push(records_of(5));
    eventually("a drop", || (node.dropped(Kind::Logs, Cause::Retries) == 5).then_some(())).await;
    queue.push(records_of(2));
    receiver.expect(2).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(node.status().logs.exported, 2);
}

fn records_of(count: usize) -> Vec<prost::bytes::Bytes> {
    let record = |_| {
        let lost = crate::pipeline::Lost::Ring { events: 1 };
        logs::lost(at(1), None, lost).encode(at(2))
    };
    (0..count).map(record).collect()
}

#[tokio::test]
async fn a_collector_that_was_away_costs_bounded_memory_and_counted_drops() {
    const EVENTS: u64 = 20_000;
    for protocol in Protocol::ALL {
        let mut receiver = Receiver::away(protocol).await;
        let mut node = Node::new(&receiver, &[LogKind::Dns]);
        node.config.otlp.interval = 100 * MS;
        let mut node = node.start();
        for event in 0..EVENTS / 100 {
            node.feed((0..100).map(|_| dns(timeout("a.example"))));
            if event % 10 == 0 {
                tokio::time::sleep(MS).await;
            }
            let OtlpStatus { queued, queued_bytes, .. } = node.status();
            assert!(queued <= 1_024 && queued_bytes <= 1_024 * 2_048, "{queued} {queued_bytes}");
        }
        let accounted = |node: &Node| {
            let status = node.status();
            status.queued + status.logs.dropped.iter().sum::<u64>()
        };
        // But for the batch on its way.
        eventually("all of them, counted", || {
            (accounted(&node) >= EVENTS - queue::BATCH as u64).then_some(())
        })
        .await;
        assert!(node.dropped(Kind::Logs, Cause::Queue) > EVENTS / 2);
        let error = node.status().logs.error.clone();
        assert!(error.unwrap().contains("refused"), "{:?}", node.status());
        eventually("metrics that failed", || node.status().metrics.error).await;

        receiver.come().await;
        // The first batch, and what waited.
        receiver.expect(1_024).await;
        eventually("metrics", || (!receiver.metrics().is_empty()).then_some(())).await;
        node.stop().await;
        let (status, records) = (node.status(), receiver.records());
        let told = records.iter().filter(|record| record.event_name == "orb8.lost").count() as u64;
        let dropped = status.logs.dropped.iter().sum::<u64>();
        assert_eq!(status.logs.exported + dropped, EVENTS, "{status:?}");
        assert_eq!(records.len() as u64, status.logs.exported + told);
        assert!(told >= 1, "the gap is told where it is missed");
        assert_eq!((status.logs.error, status.metrics.error, status.queued), (None, None, 0));
    }
}

#[tokio::test]
async fn a_restarted_collector_is_found_again() {
    for protocol in Protocol::ALL {
        let mut receiver = Receiver::start(protocol).await;
        let mut node = Node::new(&receiver, &[LogKind::Dns]).start();
        node.feed([dns(timeout("a.example"))]);
        receiver.expect(1).await;
        receiver.go();
        node.feed([dns(timeout("b.example"))]);
        eventually("a failure", || node.status().logs.error).await;
        receiver.come().await;
        let records = receiver.expect(2).await;
        assert_attributes(&records[1].attributes, &[("dns.question.name", "b.example")]);
        node.stop().await;
        assert_eq!(node.status().logs.dropped, [0; Cause::ALL.len()]);
    }
}

#[tokio::test]
async fn what_waits_goes_out_at_shutdown() {
    for protocol in Protocol::ALL {
        let receiver = Receiver::start(protocol).await;
        let mut node = Node::new(&receiver, &[LogKind::Dns, LogKind::Flow]);
        node.config.otlp.interval = Duration::from_secs(3_600);
        let mut node = node.start();
        node.feed((0..3_000).map(|_| dns(timeout("a.example"))));
        let start = Instant::now();
        node.stop().await;
        // Nothing waits for its batch to fill.
        assert!(start.elapsed() < FLUSH, "{:?}", start.elapsed());
        let status = node.status();
        let dropped = status.logs.dropped.iter().sum::<u64>();
        assert_eq!(status.logs.exported + dropped, 3_000, "{status:?}");
        assert!(status.logs.exported >= 1_024 && status.metrics.exported > 0, "{status:?}");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_at_shutdown_does_not_hold_the_agent() {
    for protocol in Protocol::ALL {
        let receiver = Receiver::away(protocol).await;
        let mut node = Node::new(&receiver, &[LogKind::Dns]).start();
        node.feed((0..10).map(|_| dns(timeout("a.example"))));
        let start = Instant::now();
        node.stop().await;
        assert!(start.elapsed() < FLUSH * 2, "{:?}", start.elapsed());
        assert_eq!(node.dropped(Kind::Logs, Cause::Shutdown), 10);
    }
    // One that takes connections and never answers.
    let receiver = Receiver::start(Protocol::Http).await;
    receiver.answer([Answer::Hang]);
    let mut node = Node::new(&receiver, &[LogKind::Dns]).start();
    node.feed((0..10).map(|_| dns(timeout("a.example"))));
    let start = Instant::now();
    node.stop().await;
    assert!(start.elapsed() < FLUSH * 2, "{:?}", start.elapsed());
    assert_eq!(node.dropped(Kind::Logs, Cause::Shutdown), 10);
}

#[tokio::test]
async fn somebody_else_at_the_address_is_told_from_a_collector() {
    // HTTP/1 where gRPC is wanted, and gRPC where HTTP/1 is.
    for (served, spoken) in [(Protocol::Http, Protocol::Grpc), (Protocol::Grpc, Protocol::Http)] {
        let receiver = Receiver::start(served).await;
        let mut node = Node::new(&receiver, &[LogKind::Dns]);
        node.config.otlp.protocol = spoken;
        let mut node = node.start();
        node.feed([dns(timeout("a.example"))]);
        eventually("a failure", || node.status().logs.error).await;
        let remedy = node.status().check().remedy.unwrap();
        assert!(remedy.contains("--otlp-protocol"), "{remedy}");
        node.stop().await;
        assert!(receiver.records().is_empty());
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let page = axum::Router::new().fallback(|| async { "<h1>hello</h1>" });
    let serving = tokio::spawn(async { axum::serve(listener, page).await });
    let mut node = Node::new(&Receiver::away(Protocol::Http).await, &[LogKind::Dns]);
    node.config.otlp.endpoint = Some(format!("http://{address}").parse().unwrap());
    let mut node = node.start();
    node.feed([dns(timeout("a.example"))]);
    let error = eventually("a failure", || node.status().logs.error).await;
    assert!(error.contains("no collector answered") && error.contains("hello"), "{error}");
    node.stop().await;
    serving.abort();
}

#[tokio::test]
async fn many_metrics_go_in_requests_that_receivers_take() {
    let receiver = Receiver::start(Protocol::Grpc).await;
    let node = Node::new(&receiver, &[]);
    node.build().unwrap();
    let families = super::super::metrics::tests::large_families();
    let resource = Resource::new("node-1", false, &[]);
    let config = &node.config.otlp;
    let client = Client::build(config.endpoint.as_ref().unwrap(), config).unwrap();
    let mut sent = 0;
    for (request, points) in
        super::super::metrics::Requests::new(&resource, Histograms::Explicit, at(1), &families)
    {
        client.export(request).await.unwrap();
        sent += points;
    }
    assert_eq!(sent, families.iter().map(|family| family.samples.len() as u64).sum::<u64>());
    let requests = receiver.metric_requests().len();
    assert!(requests > 2 && receiver.largest() < 4 << 20, "{requests} {}", receiver.largest());
}
