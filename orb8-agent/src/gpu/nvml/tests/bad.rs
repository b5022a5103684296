//! Drivers and devices that do not work as they should.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn a_lost_device_stays_lost_and_takes_no_other_along() {
    let node = Node::h100s(3, "");
    let mut source = node.source();
    let before = read(&mut source).await.unwrap();
    node.play(&boards(3, "[events]\nat 300ms xid 79 on 1\nfrom 600ms lost on 1\n"));
    let id = before.devices[1].device.id.clone();
    let is_lost = |it: &Reading| matches!(it.devices[1].state, DeviceState::Lost { .. });
    let mut xids = 0;
    let lost = loop {
        let reading = read(&mut source).await.unwrap();
        xids += reading.events.len();
        if is_lost(&reading) {
            break reading;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let DeviceState::Lost { since, .. } = lost.devices[1].state else { panic!() };
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let reading = read(&mut source).await.unwrap();
        xids += reading.events.len();
        assert_eq!(sampled(&reading), [true, false, true]);
        assert_eq!(reading.devices[1].device.id, id);
        assert!(
            matches!(reading.devices[1].state, DeviceState::Lost { since: then, .. } if then == since)
        );
        assert!(reason(&reading.devices[1]).contains("fell off the bus"));
    }
    assert_eq!(xids, 1, "its last words are heard, and no others");
}

#[tokio::test]
async fn when_all_devices_are_lost_they_are_told_so_and_nothing_fails() {
    let node = Node::h100s(2, "");
    let mut source = node.source();
    read(&mut source).await.unwrap();
    node.play_from(0, &boards(2, "[events]\nfrom 0s lost on 0-1\n")).await;
    let lost = |it: &Reading| {
        it.devices.len() == 2
            && it.devices.iter().all(|seen| matches!(seen.state, DeviceState::Lost { .. }))
    };
    until(&mut source, "both lost", lost).await;
    for _ in 0..3 {
        let reading = read(&mut source).await.unwrap();
        assert!(lost(&reading), "{reading:#?}");
    }
    assert!(source.shared.state().nvml.is_none(), "the driver is let go of");
}

#[tokio::test]
async fn a_driver_that_is_reloaded_is_read_again() {
    let node = Node::h100s(1, "");
    let mut source = node.source();
    read(&mut source).await.unwrap();
    let reload = boards(1, "[events]\nfrom 100s to 200s unloaded\n");
    node.play_from(150_000, &reload).await;
    let error = read(&mut source).await.unwrap_err();
    assert!(error.to_string().contains("went away"), "{error}");
    assert!(source.shared.state().nvml.is_none());
    node.play_from(250_000, &reload).await;
    assert_eq!(read(&mut source).await.unwrap_err(), error, "it is not tried all the time");
    // As if 30 s had passed.
    source.shared.state().reopen = None;
    let reading = until(&mut source, "it is back", |it| sampled(it) == [true]).await;
    assert_eq!(reading.devices.len(), 1);
}

#[tokio::test]
async fn a_library_that_was_replaced_is_opened_anew() {
    let node = Node::h100s(1, "");
    let mut source = node.source();
    let driver = |it: &Reading| it.devices[0].device.driver.clone();
    assert_eq!(driver(&read(&mut source).await.unwrap()).as_deref(), Some("570.124.06"));
    node.play_from(0, &boards(1, "[events]\nfrom 0s unloaded\n")).await;
    read(&mut source).await.unwrap_err();
    // As an update does it: another file by the same name.
    let new = node.directory.path().join("libnvidia-ml.new");
    fs::copy(&node.library, &new).unwrap();
    fs::rename(&new, &node.library).unwrap();
    let old = format!("{} (deleted)", node.library.display());
    node.play(&format!("[driver]\nversion = 580.82.07\n{}", boards(1, "")));
    // The thread that waits for events is out of the old one after its wait, at the latest.
    let is_open = || fs::read_to_string("/proc/self/maps").unwrap().contains(&old);
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_open() {
        assert!(Instant::now() < deadline, "the old file is open still");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    source.shared.state().reopen = None;
    let is_new = |it: &Reading| driver(it).as_deref() == Some("580.82.07");
    until(&mut source, "the new driver", is_new).await;
    assert!(!is_open(), "the old file stays closed");
}

#[tokio::test]
async fn each_way_to_have_no_driver_is_told_apart() {
    let cases = [
        ("driver-not-loaded", "modprobe nvidia", true),
        ("lib-rm-version-mismatch", "another version", false),
        ("no-permission", "/dev/nvidiactl", false),
        ("unknown", "nvidia-smi", false),
    ];
    for (error, told, is_absent) in cases {
        let node = Node::h100s(1, &format!("[events]\nfrom 0s fails nvmlInit_v2 {error}\n"));
        let problem = read(&mut node.source()).await.unwrap_err();
        assert!(problem.to_string().contains(told), "{error}: {problem}");
        assert_eq!(matches!(problem, SourceError::Absent(_)), is_absent, "{error}: {problem}");
    }
    let node = Node::new("[driver]\nversion = 570.1\n");
    let none = read(&mut node.source()).await.unwrap_err();
    assert!(matches!(&none, SourceError::Absent(told) if told.contains("has no device")), "{none}");
}

#[tokio::test]
async fn every_error_in_turn_leaves_what_does_answer() {
    let node = Node::h100s(2, "");
    let mut source = node.source();
    read(&mut source).await.unwrap();
    let failing = boards(
        2,
        "[processes]\npid=4242 device=all memory=1GiB sm=10\n[events]\n\
         from 0s fails nvmlDeviceGetPowerUsage each on 0\n\
         from 0s fails nvmlDeviceGetTemperature each on 0\n\
         from 0s fails nvmlDeviceGetComputeRunningProcesses_v3 each on 0\n",
    );
    node.play_from(0, &failing).await;
    for _ in 0..40 {
        let reading = read(&mut source).await.unwrap();
        assert_eq!(reading.devices.len(), 2);
        sample(&reading.devices[1]);
        // An error that means that the device is lost is believed, until it answers again.
        source.shared.retry_now();
    }
    node.play(&boards(2, ""));
    let well = |it: &Reading| sampled(it) == [true, true];
    until(&mut source, "all is well again", well).await;
    let Unread { count, last } = source.unread();
    assert!(count > 0 && last.is_some());
}

#[tokio::test]
async fn a_device_of_which_nothing_answers_is_silent_and_not_empty() {
    let node = Node::h100s(2, "");
    let mut source = node.source();
    read(&mut source).await.unwrap();
    node.play_from(0, &boards(2, "[events]\nfrom 0s fails all unknown on 0\n")).await;
    let silent = |it: &Reading| matches!(it.devices[0].state, DeviceState::Silent { .. });
    let reading = until(&mut source, "it is silent", silent).await;
    assert_eq!(sampled(&reading), [false, true]);
    assert!(reason(&reading.devices[0]).contains("internal driver error"));
    read(&mut source).await.unwrap();
    let last = source.unread().last.unwrap();
    assert!(last.contains(" of GPU 0: ") && last.contains("internal driver error"), "{last}");
    assert_eq!(reading.devices[0].device.model, "NVIDIA H100 80GB HBM3", "it is known still");
}

#[tokio::test]
async fn an_old_library_lacks_functions_and_tells_what_it_can() {
    let node = Node::h100s(
        1,
        "[processes]\npid=4242 memory=1GiB sm=10\n[events]\nfrom 0s throttled power-cap on 0\n",
    );
    let old = node.directory.path().join("libnvidia-ml-470.so.1");
    assert!(old.exists());
    let mut source = patient(&GpuConfig { nvml_library: Some(old), ..node.config() });
    read(&mut source).await.unwrap();
    a_while().await;
    let reading = read(&mut source).await.unwrap();
    let sample = sample(&reading.devices[0]);
    assert!(sample.memory.total.is_some() && sample.memory.used.is_some());
    assert_eq!(sample.memory.reserved, None, "that is in what is used");
    assert_eq!(sample.throttle.reasons.as_deref(), Some(&[ThrottleReason::PowerCap][..]));
    assert_eq!(sample.busy.sm, None);
    assert_eq!(reading.processes[0].pid, 4242);
    assert_eq!(source.unread().count, 0, "what a driver lacks is no failure");
}

/// Without these there is nothing to tell at all.
const NEEDED: [&str; 4] =
    ["nvmlInit_v2", "nvmlShutdown", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"];

/// The functions that a library's file has.
fn functions(library: &[u8]) -> Vec<String> {
    let words = library.split(|byte| *byte == 0).filter(|word| word.starts_with(b"nvml"));
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let words = words.filter(|word| word.iter().all(is_letter));
    let names: BTreeSet<String> =
        words.map(|word| String::from_utf8(word.to_vec()).unwrap()).collect();
    names.into_iter().collect()
}

/// The same file without a function: it has another name.
fn without(library: &[u8], function: &str) -> Vec<u8> {
    let word = [&[0], function.as_bytes(), &[0]].concat();
    let mut file = library.to_vec();
    let places: Vec<usize> = (0..file.len() - word.len())
        .filter(|at| file[*at] == 0 && file[*at..].starts_with(&word))
        .collect();
    for at in places {
        file[at + 1] = b'x';
    }
    file
}

#[tokio::test]
async fn a_library_may_lack_any_function() {
    let node = Node::new(&format!(
        "{}[mig 1]\n3g.40gb\n[processes]\npid=4242 memory=1GiB sm=10\n",
        boards(2, "")
    ));
    let whole = fs::read(&node.library).unwrap();
    let functions = functions(&whole);
    assert!(functions.len() > 80, "{functions:?}");
    for function in &functions {
        let library = node.directory.path().join(format!("{function}.so"));
        fs::write(&library, without(&whole, function)).unwrap();
        let config = GpuConfig { nvml_library: Some(library.clone()), ..node.config() };
        let mut source = patient(&config);
        for _ in 0..2 {
            match read(&mut source).await {
                Ok(reading) => assert!(sampled(&reading).iter().any(|is| *is), "{function}"),
                Err(error) => {
                    // The stand-in calls some by their names itself, and cannot be loaded without.
                    let is_its_own = error.to_string().contains("undefined symbol: x");
                    assert!(is_its_own || NEEDED.contains(&&**function), "{function}: {error}");
                }
            }
        }
        let asking = source.asking.as_ref().unwrap();
        assert!(!asking.thread.is_finished(), "{function}: it panicked");
        fs::remove_file(library).unwrap();
    }
}

#[tokio::test]
async fn nonsense_is_left_out_and_counted() {
    let node = Node::h100s(
        1,
        "[device 0]\ntemperature = 65535\npower = 4294967\nmemory.other = nan\n\
         utilization = 250\nclock.sm = 4294967295\n",
    );
    let mut source = node.source();
    let reading = read(&mut source).await.unwrap();
    let sample = sample(&reading.devices[0]);
    assert_eq!(sample.temperature.gpu, None);
    assert_eq!(sample.power.draw, None);
    assert_eq!(sample.busy.gpu, None);
    assert_eq!(sample.clocks.sm, None);
    assert!(source.invalid() >= 4, "{}", source.invalid());
    assert_eq!(sample.clocks.memory, Some(1593), "the others are told");
}
