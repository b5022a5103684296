//! Calls that do not return.

use super::*;

#[tokio::test]
async fn a_call_that_hangs_stops_no_other_device_and_is_taken_up_again() {
    let used = boards(4, "[processes]\npid=4242 device=3 memory=1GiB sm=10\n");
    let node = Node::new(&used);
    // Only what hangs for long is taken for hanging.
    let mut source = node.source();
    source.patience.call = Duration::from_secs(1);
    read(&mut source).await.unwrap();
    let hangs = "[events]\nfrom 0s to 1m blocks nvmlDeviceGetTemperature on 1\n";
    node.play_from(0, &format!("{used}{hangs}")).await;
    let reading = read(&mut source).await.unwrap();
    assert_eq!(sampled(&reading), [true, false, true, true], "{:#?}", reading.devices);
    assert!(reason(&reading.devices[1]).contains("nvmlDeviceGetTemperature has not returned"));
    assert!(reading.processes.iter().any(|uses| uses.pid == 4242));
    assert_eq!(source.shared.state().left, 1);
    // Nobody waits for it a second time.
    source.patience.call = Duration::from_mins(1);
    for reading in read_quickly(&mut source).await {
        assert_eq!(sampled(&reading.unwrap()), [true, false, true, true]);
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
    // All of them hang, so none is taken for hanging too soon.
    let (reading, call) = (Duration::from_millis(400), Duration::from_millis(100));
    source.patience = Patience { reading, call };
    let hangs = "[events]\nfrom 0s to 1m blocks nvmlDeviceGetTemperature on 0-7\n";
    node.play_from(0, &boards(8, hangs)).await;
    // As if what was read before were too old to be told once more.
    source.shared.age(Duration::from_mins(1));
    let is_given_up = |seen: &Seen| matches!(&seen.state, DeviceState::Silent { reason } if reason.contains("no more are tried"));
    let last = |it: &Reading| is_given_up(&it.devices[7]);
    let reading = until(&mut source, "no more are tried", last).await;
    assert_eq!(sampled(&reading), [false; 8]);
    read_quickly(&mut source).await;
    assert_eq!(source.shared.state().left, MOST_LEFT);
    source.patience.call = Duration::from_secs(20);
    node.play(&boards(8, ""));
    let well = |it: &Reading| sampled(it) == [true; 8];
    until(&mut source, "all are taken up again", well).await;
    assert_eq!(source.shared.state().left, 0);
}

#[tokio::test]
async fn a_device_that_hangs_when_it_is_looked_up_is_listed() {
    let node = Node::h100s(3, "[events]\nfrom 0s to 1m blocks nvmlDeviceGetUUID on 2\n");
    let mut source = node.source();
    source.patience.call = Duration::from_secs(1);
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
    let mut source = node.impatient_source();
    let error = read_quickly(&mut source).await.remove(0).unwrap_err();
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
    let slow = "[events]\nfrom 0s slow nvmlDeviceGetTemperature 120ms on 0-7\n";
    node.play_from(0, &boards(8, slow)).await;
    // A round takes a second.
    source.patience = PATIENCE;
    for reading in read_quickly(&mut source).await {
        let is_told = [true; 8];
        assert_eq!(sampled(&reading.unwrap()), is_told, "what is late is told once more");
    }
    assert_eq!(source.shared.state().left, 0, "slow is not hanging");
}

#[tokio::test]
async fn dropping_the_source_waits_for_nothing() {
    let node = Node::h100s(1, "");
    let mut source = node.source();
    read(&mut source).await.unwrap();
    node.play_from(0, &boards(1, "[events]\nfrom 0s to 1m blocks all\n")).await;
    source.patience = PATIENCE;
    let _ = read(&mut source).await;
    let start = Instant::now();
    drop(source);
    assert!(start.elapsed() < Duration::from_secs(20), "the call takes a minute");
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
    let shared = Arc::clone(&source.shared);
    let is_back = |it: &Reading| {
        assert!(it.events.is_empty(), "told once");
        shared.state().left == 0
    };
    until(&mut source, "the other thread has come back", is_back).await;
}
