//! Calls that do not return.

use super::*;

#[tokio::test]
async fn a_call_that_hangs_stops_no_other_device_and_is_taken_up_again() {
    let used = boards(4, "[processes]\npid=4242 device=3 memory=1GiB sm=10\n");
    let node = Node::new(&used);
    let mut source = node.source();
    read(&mut source).await.unwrap();
    let hangs = "[events]\nfrom 0s to 1m blocks nvmlDeviceGetTemperature on 1\n";
    node.play_from(0, &format!("{used}{hangs}")).await;
    let reading = read(&mut source).await.unwrap();
    assert_eq!(sampled(&reading), [true, false, true, true], "{:#?}", reading.devices);
    assert!(reason(&reading.devices[1]).contains("nvmlDeviceGetTemperature has not returned"));
    assert!(reading.processes.iter().any(|uses| uses.pid == 4242));
    assert_eq!(source.shared.state().left, 1);
    // Nobody waits for it a second time.
    for _ in 0..3 {
        let start = Instant::now();
        let reading = read(&mut source).await.unwrap();
        assert_eq!(sampled(&reading), [true, false, true, true]);
        assert!(start.elapsed() < CALL, "{:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.play(&boards(4, ""));
    let well = |it: &Reading| sampled(it) == [true; 4];
    until(&mut source, "it is taken up again", well).await;
    assert_eq!(source.shared.state().left, 0);
    assert!(source.shared.state().hanging.is_empty());
}

#[tokio::test]
async fn when_every_device_hangs_so_many_threads_are_left_and_no_more() {
    let node = Node::h100s(8, "");
    let mut source = node.source();
    read(&mut source).await.unwrap();
    let hangs = "[events]\nfrom 0s to 1m blocks nvmlDeviceGetTemperature on 0-7\n";
    node.play_from(0, &boards(8, hangs)).await;
    let silent = |it: &Reading| sampled(it) == [false; 8];
    let reading = until(&mut source, "none answers", silent).await;
    assert!(reason(&reading.devices[7]).contains("no more are tried"), "{:#?}", reading.devices);
    read(&mut source).await.unwrap();
    assert_eq!(source.shared.state().left, MOST_LEFT);
    node.play(&boards(8, ""));
    let well = |it: &Reading| sampled(it) == [true; 8];
    until(&mut source, "all are taken up again", well).await;
    assert_eq!(source.shared.state().left, 0);
}

#[tokio::test]
async fn a_device_that_hangs_when_it_is_looked_up_is_listed() {
    let node = Node::h100s(3, "[events]\nfrom 0s to 1m blocks nvmlDeviceGetUUID on 2\n");
    let mut source = node.source();
    let reading = until(&mut source, "the others", |it| it.devices.len() == 3).await;
    assert_eq!(sampled(&reading), [true, true, false]);
    assert_eq!(reading.devices[2].device.id.as_str(), "nvidia-2");
    node.play(&boards(3, ""));
    let well = |it: &Reading| sampled(it) == [true; 3];
    let reading = until(&mut source, "it is known", well).await;
    assert!(reading.devices[2].device.id.as_str().starts_with("GPU-"));
}

#[tokio::test]
async fn a_driver_that_starts_slowly_is_said_to() {
    let node = Node::h100s(1, "[events]\nfrom 0s to 1m blocks nvmlInit_v2\n");
    let mut source = node.source();
    let error = read(&mut source).await.unwrap_err();
    assert!(error.to_string().contains("nvmlInit has not returned"), "{error}");
    assert_eq!(source.shared.state().left, 0, "there is nothing else to ask");
    node.play(&boards(1, ""));
    until(&mut source, "it has started", |it| sampled(it) == [true]).await;
}

#[tokio::test]
async fn a_slow_driver_tells_what_it_can_and_nobody_waits_for_the_rest() {
    let node = Node::h100s(8, "");
    let mut source = node.source();
    read(&mut source).await.unwrap();
    let slow = "[events]\nfrom 0s slow nvmlDeviceGetTemperature 250ms on 0-7\n";
    node.play_from(0, &boards(8, slow)).await;
    // A round takes 2 s.
    for _ in 0..3 {
        let reading = read(&mut source).await.unwrap();
        assert_eq!(sampled(&reading), [true; 8], "a reading that is late is told once more");
    }
    assert_eq!(source.shared.state().left, 0, "slow is not hanging");
}

#[tokio::test]
async fn dropping_the_source_waits_for_nothing() {
    let node = Node::h100s(1, "");
    let mut source = node.source();
    read(&mut source).await.unwrap();
    node.play_from(0, &boards(1, "[events]\nfrom 0s to 1m blocks all\n")).await;
    let _ = read(&mut source).await;
    let start = Instant::now();
    drop(source);
    assert!(start.elapsed() < Duration::from_secs(1), "the call takes a minute");
    // What hangs comes back, so that all is closed.
    node.play(&boards(1, ""));
}

#[tokio::test]
async fn events_are_waited_for_anew_where_the_wait_hangs() {
    let node = Node::h100s(1, "");
    let mut source = node.source();
    read(&mut source).await.unwrap();
    node.play(&boards(1, "[events]\nfrom 0s to 1m blocks nvmlEventSetWait_v2\n"));
    // A wait that began before has ended by then.
    tokio::time::sleep(Duration::from_millis(500)).await;
    // As if it had been so for long.
    source.shared.state().watched = Instant::now().checked_sub(xids::OVERDUE);
    read(&mut source).await.unwrap();
    assert_eq!(source.shared.state().left, 1);
    assert_eq!(source.shared.state().watcher, 2);
    node.play(&boards(1, "[events]\nat 500ms xid 31 on 0\n"));
    let told = until(&mut source, "the event", |it| !it.events.is_empty()).await;
    assert_eq!(told.events.len(), 1);
    a_while().await;
    assert!(read(&mut source).await.unwrap().events.is_empty(), "told once");
    assert_eq!(source.shared.state().left, 0, "the other thread has come back");
}
