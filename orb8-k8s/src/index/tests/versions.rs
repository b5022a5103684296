use super::*;

const IP: &str = "10.1.0.1";

#[test]
fn an_address_has_its_owner_of_the_time() {
    let mut world = World::synced();
    world.apply(Source::LocalPods, &pod("a", IP, 0));
    // A flow may precede what is known of its pod.
    assert_eq!(world.pod_at(IP, -3600).as_deref(), Some("a"));
    world.set_time(10);
    world.delete(Source::LocalPods, &object("a"));
    assert_eq!(world.pod_at(IP, 9).as_deref(), Some("a"));
    assert_eq!(world.pod_at(IP, 10), None);
    world.set_time(20);
    world.apply(Source::RemotePods, &pod("b", IP, 18));
    for (time, owner) in [(9, "a"), (10, "b"), (19, "b"), (99, "b")] {
        assert_eq!(world.pod_at(IP, time).as_deref(), Some(owner), "{time}");
    }
}

#[test]
fn a_pod_that_ends_or_moves_frees_its_address() {
    for change in [
        json!({"phase": "Succeeded", "podIP": IP}),
        json!({"phase": "Failed"}),
        json!({"podIP": "10.1.0.9"}),
    ] {
        let mut world = World::synced();
        let mut a = pod("a", IP, 0);
        world.apply(Source::LocalPods, &a);
        a["status"] = change;
        world.set_time(10);
        world.apply(Source::LocalPods, &a);
        assert_eq!(world.pod_at(IP, 10), None);
        assert_eq!(world.pod_at(IP, 9).as_deref(), Some("a"));
        assert!(world.index.pod("a").is_some());
        world.set_time(11);
        world.apply(Source::LocalPods, &pod("b", IP, 10));
        assert_eq!(world.pod_at(IP, 9).as_deref(), Some("a"));
        assert_eq!(world.pod_at(IP, 10).as_deref(), Some("b"));
        assert_eq!(world.index.counts().conflicts, 0);
    }
}

#[test]
fn host_network_pods_have_no_address() {
    let mut world = World::synced();
    let mut host = pod("a", IP, 0);
    host["spec"]["hostNetwork"] = json!(true);
    world.apply(Source::LocalPods, &host);
    assert_eq!(world.pod_at(IP, 0), None);
    assert!(world.index.pod("a").unwrap().host_network);
}

#[test]
fn of_two_pods_with_one_address_the_later_one_has_it() {
    for first in ["old", "new"] {
        let mut world = World::synced();
        let (old, new) = (pod("old", IP, -100), pod("new", IP, -50));
        world.apply(Source::LocalPods, if first == "old" { &old } else { &new });
        world.set_time(10);
        world.apply(Source::RemotePods, if first == "old" { &new } else { &old });
        assert_eq!(world.pod_at(IP, 10).as_deref(), Some("new"));
        assert_eq!(world.index.counts().conflicts, 1);
        // What was told before the conflict stays as it was.
        assert_eq!(world.pod_at(IP, 9).as_deref(), Some(first));
        // The one that is left gets it back, from then on.
        world.set_time(20);
        let left = [&new];
        world.list(Source::LocalPods, if first == "old" { &[] } else { &left });
        world.list(Source::RemotePods, &[]);
        assert_eq!(world.pod_at(IP, 19).as_deref(), Some("new"));
        assert_eq!(world.pod_at(IP, 20).as_deref(), (first == "new").then_some("new"));
        assert_eq!(world.index.counts().conflicts, 0);
    }
}

/// A pod that was made an hour before it started.
fn queued(name: &str, started: i64) -> Value {
    let mut pod = pod(name, IP, started);
    pod["metadata"]["creationTimestamp"] = json!(date(-3600));
    pod
}

#[test]
fn of_two_pods_the_one_that_started_later_is_the_later_one() {
    for first in ["queued", "other"] {
        let mut world = World::synced();
        let (queued, other) = (queued("queued", -10), pod("other", IP, -50));
        let pods = if first == "queued" { [&queued, &other] } else { [&other, &queued] };
        pods.iter().for_each(|pod| world.apply(Source::RemotePods, pod));
        assert_eq!(world.pod_at(IP, 1).as_deref(), Some("queued"), "{first} first");
    }
}

#[test]
fn a_pod_that_may_be_gone_loses_its_address() {
    let mut world = World::synced();
    world.set_time(60);
    world.apply(Source::RemotePods, &pod("a", IP, 50));
    world.writer.interrupted(Source::RemotePods);
    // It got its address long after it started.
    world.set_time(100);
    world.apply(Source::LocalPods, &pod("b", IP, 40));
    for (time, owner) in [(59, "a"), (60, "b"), (100, "b")] {
        assert_eq!(world.pod_at(IP, time).as_deref(), Some(owner), "{time}");
    }
    // What catches up takes nothing either, until it has told everything.
    world.set_time(110);
    world.apply(Source::RemotePods, &pod("c", IP, 90));
    assert_eq!(world.pod_at(IP, 110).as_deref(), Some("b"));
    world.set_time(120);
    let generation = world.index.generation();
    world.writer.current(Source::RemotePods);
    assert_ne!(world.index.generation(), generation);
    assert_eq!(world.pod_at(IP, 119).as_deref(), Some("b"));
    assert_eq!(world.pod_at(IP, 120).as_deref(), Some("c"));
    // While both are there and told of, a stream that breaks changes nothing.
    world.writer.interrupted(Source::RemotePods);
    world.set_time(130);
    world.apply(Source::LocalPods, &owned(pod("b", IP, 40), "Job", "j"));
    assert_eq!(world.pod_at(IP, 130).as_deref(), Some("c"));
}

#[test]
fn the_older_pod_gets_its_address_back() {
    let mut world = World::synced();
    world.apply(Source::LocalPods, &pod("old", IP, -100));
    world.apply(Source::RemotePods, &pod("new", IP, -50));
    world.set_time(20);
    world.delete(Source::RemotePods, &object("new"));
    assert_eq!(world.pod_at(IP, 19).as_deref(), Some("new"));
    assert_eq!(world.pod_at(IP, 20).as_deref(), Some("old"));
}

/// The pod `a` was last certain to be there at 10, the list is at 100, and `b` started meanwhile.
fn relisted(started: i64, listed_first: bool) -> World {
    let mut world = World::synced();
    world.apply(Source::LocalPods, &pod("a", IP, -1000));
    world.set_time(10);
    world.writer.current(Source::LocalPods);
    world.set_time(100);
    world.writer.begin(Source::LocalPods);
    if listed_first {
        world.apply(Source::LocalPods, &pod("b", IP, started));
    }
    world.writer.finish(Source::LocalPods);
    if !listed_first {
        world.apply(Source::LocalPods, &pod("b", IP, started));
    }
    world
}

#[test]
fn where_nobody_watched_the_new_pods_start_tells() {
    for listed_first in [true, false] {
        // Clocks that differ cannot take it out of what was seen.
        for (started, from) in [(50, 50), (-500, 10), (5000, 100)] {
            let world = relisted(started, listed_first);
            assert_eq!(world.pod_at(IP, from - 1).as_deref(), Some("a"), "{started}");
            assert_eq!(world.pod_at(IP, from).as_deref(), Some("b"), "{started}");
            assert_eq!(world.index.counts().conflicts, 0);
        }
    }
}

#[test]
fn where_somebody_watched_it_changed_hands_when_it_was_seen() {
    // The new pod waited for an address since before the old one ended.
    let mut world = World::synced();
    world.apply(Source::LocalPods, &pod("a", IP, -1000));
    world.set_time(100);
    world.delete(Source::LocalPods, &object("a"));
    world.apply(Source::LocalPods, &pod("b", IP, 50));
    assert_eq!(world.pod_at(IP, 99).as_deref(), Some("a"));
    assert_eq!(world.pod_at(IP, 100).as_deref(), Some("b"));
}

#[test]
fn a_stream_that_broke_tells_late() {
    let mut world = World::synced();
    world.apply(Source::LocalPods, &pod("a", IP, -1000));
    world.set_time(10);
    world.apply(Source::LocalPods, &pod("other", "10.1.0.2", 10));
    world.set_time(60);
    world.writer.interrupted(Source::LocalPods);
    world.set_time(100);
    world.delete(Source::LocalPods, &object("a"));
    world.apply(Source::LocalPods, &pod("b", IP, 50));
    assert_eq!(world.pod_at(IP, 49).as_deref(), Some("a"));
    assert_eq!(world.pod_at(IP, 50).as_deref(), Some("b"));
    // Up to date again.
    world.writer.current(Source::LocalPods);
    world.set_time(200);
    world.delete(Source::LocalPods, &object("b"));
    world.apply(Source::LocalPods, &pod("c", IP, 150));
    assert_eq!(world.pod_at(IP, 199).as_deref(), Some("b"));
}

#[test]
fn versions_end_after_ten_minutes() {
    let mut world = World::synced();
    world.apply(Source::LocalPods, &pod("a", IP, 0));
    world.set_time(10);
    world.delete(Source::LocalPods, &object("a"));
    world.apply(Source::LocalPods, &pod("b", IP, 0));
    world.set_time(609);
    world.writer.expire();
    assert_eq!(world.pod_at(IP, 9).as_deref(), Some("a"));
    world.set_time(610);
    world.writer.expire();
    // What is forgotten is nobody's, not the next one's.
    assert_eq!(world.pod_at(IP, 9), None);
    assert_eq!(world.pod_at(IP, 10).as_deref(), Some("b"));
    world.delete(Source::LocalPods, &object("b"));
    world.set_time(1210);
    world.writer.expire();
    assert!(world.index.0.addresses.is_empty());
}

#[test]
fn an_address_has_few_versions() {
    let mut world = World::synced();
    for n in 0..7 {
        world.set_time(n * 10);
        world.apply(Source::LocalPods, &pod(&format!("p{n}"), IP, n * 10));
        world.set_time(n * 10 + 9);
        world.delete(Source::LocalPods, &object(&format!("p{n}")));
    }
    // The one that ended last, and the four before it.
    assert_eq!(world.pod_at(IP, 15), None);
    for n in 2..7 {
        assert_eq!(world.pod_at(IP, n * 10 + 5), Some(format!("p{n}")));
    }
}

#[test]
fn a_clock_that_is_set_back_does_not_mix_versions() {
    let mut world = World::synced();
    world.set_time(100);
    world.apply(Source::LocalPods, &pod("a", IP, 0));
    world.set_time(50);
    world.delete(Source::LocalPods, &object("a"));
    world.apply(Source::LocalPods, &pod("b", IP, 40));
    assert_eq!(world.pod_at(IP, 99).as_deref(), Some("a"));
    assert_eq!(world.pod_at(IP, 100).as_deref(), Some("b"));
}
