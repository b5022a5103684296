//! Coming and going: other people's programs, leaks, interfaces that appear and vanish, crashes.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use orb8_agent::{
    config::AttachStrategy,
    ebpf::{AttachedTo, FlowOptions, LinkKind, PacketObject},
};
use orb8_common::packet::protocol;

use super::support::{
    Lab,
    agent::{Agent, config, in_runtime},
    engine::{DEFAULTS, Engine, TCX, features, has, without_tcx},
    eventually,
    netns::{Counted, Netns, VERSIONS, VETH},
    objects::{alive, held},
    reference::{Order, Reference},
    roles::Player,
    scaled, skip,
    traffic::{Udp, udp_echo},
};

/// How the interface hook is attached, where the kernel has it.
fn mechanisms() -> Vec<AttachedTo> {
    if has(TCX) {
        return vec![AttachedTo::Tcx, AttachedTo::Clsact];
    }
    skip(TCX, "clsact alone is tested");
    vec![AttachedTo::Clsact]
}

fn load(mechanism: AttachedTo, options: &FlowOptions) -> Engine {
    match mechanism {
        AttachedTo::Tcx => Engine::load_as(options, features()),
        AttachedTo::Clsact => Engine::load_as(options, &without_tcx()),
    }
}

#[test]
fn other_programs_on_the_interface_go_on() {
    let lab = Lab::new();
    let namespace = &lab.pair.client;
    for mechanism in mechanisms() {
        let tcx = mechanism == AttachedTo::Tcx;
        let others = [Order::First, Order::Last]
            .map(|order| Reference::on_interface_at(namespace, VETH, tcx, order));
        let before = others.each_ref().map(Reference::total);
        let mut expected = Counted::default();
        let mut exchange = |engine: Option<&mut Engine>| {
            let ends = udp_echo(&lab.pair, VERSIONS[0], Udp::Connected, 25, 500);
            expected += Counted::new(25, 25 * 542);
            for other in &others {
                eventually("the other program's packets", || {
                    (other.ingress().bytes >= expected.bytes).then_some(())
                });
                assert!(
                    other.egress().bytes >= expected.bytes,
                    "{other:?}",
                    other = other.egress()
                );
            }
            if let Some(engine) = engine {
                engine.read();
                let port = ends.client.port();
                let sent = engine.seen.sum(|key| key.source_port == port);
                assert_eq!(sent, Counted::new(25, 25 * 528), "{mechanism:?}");
            }
        };
        exchange(None);
        let mut engine = load(mechanism, &DEFAULTS);
        let attached = engine.attach_interface(namespace, VETH, LinkKind::Ethernet);
        assert_eq!(attached, mechanism);
        exchange(Some(&mut engine));
        let index = namespace.index(VETH);
        namespace.run(|| engine.object.detach_interface(index));
        exchange(None);
        eventually("everything passing from the first program to the last", || {
            let [first, last] = [0, 1].map(|i| others[i].total() - before[i]);
            (first == last).then_some(())
        });
        engine.read();
        let udp = engine.seen.sum(|key| key.protocol == protocol::UDP);
        assert_eq!(udp.packets, 50, "what was counted while attached");
    }
}

/// Ours among the filters that `tc` shows, by direction.
fn filters(namespace: &Netns) -> [usize; 2] {
    ["ingress", "egress"].map(|direction| {
        let shown = namespace.command("tc", &format!("filter show dev {VETH} {direction}"));
        let shown = shown.unwrap_or_default();
        shown.lines().filter(|line| line.contains(" handle ") && line.contains("flow_tc")).count()
    })
}

/// Times that one loaded object is attached and detached by name; dropping it comes on top, which
/// makes 64 cycles with 16 loads.
const ATTACHMENTS: u32 = 3;

#[test]
fn attaching_and_detaching_leaks_nothing() {
    let lab = Lab::new();
    let namespace = &lab.pair.client;
    let index = namespace.index(VETH);
    let small = FlowOptions { table_size: 1024, ring_size: 1 << 16, ..DEFAULTS };
    let before = held();
    let mut ours = BTreeSet::new();
    let descriptors = || fs::read_dir("/proc/self/fd").expect("the descriptors").count();
    let descriptors_before = descriptors();
    let mechanisms = mechanisms();
    for cycle in 0..scaled(16) {
        let mechanism = mechanisms[cycle as usize % mechanisms.len()];
        let mut engine = load(mechanism, &small);
        engine.attach_sockets(&lab.cgroup);
        for _ in 0..ATTACHMENTS {
            engine.attach_interface(namespace, VETH, LinkKind::Ethernet);
            ours.extend(held().difference(&before));
            if mechanism == AttachedTo::Clsact {
                assert_eq!(filters(namespace), [1, 1]);
            }
            namespace.run(|| engine.object.detach_interface(index));
        }
        // Both ways to end: by name, and by dropping everything.
        engine.attach_interface(namespace, VETH, LinkKind::Ethernet);
        namespace.run(|| drop(engine));
    }
    assert!(ours.iter().any(|(kind, _)| *kind == "link_id"), "{ours:?}");
    assert_eq!(descriptors(), descriptors_before);
    assert_eq!(filters(namespace), [0, 0]);
    // The kernel frees what is unused a little later.
    let left = || alive().intersection(&ours).copied().collect::<Vec<_>>();
    eventually("an end of all that was loaded", || left().is_empty().then_some(()));
}

#[test]
fn interfaces_that_appear_are_attached_within_a_second() {
    let lab = Lab::new();
    let namespace = &lab.pair.client;
    in_runtime(namespace, async || {
        let mut agent = Agent::start(config(AttachStrategy::Tc, None)).await;
        let interfaces = agent.interfaces().await;
        assert!(interfaces.iter().any(|(name, _)| name == VETH), "{interfaces:?}");
        assert!(interfaces.iter().all(|(name, _)| name != "lo"), "{interfaces:?}");
        let has_hot = async |agent: &mut Agent| {
            agent.interfaces().await.iter().any(|(name, _)| name == "hot0")
        };
        for _ in 0..3 {
            namespace.ip("link add hot0 type veth peer name cold0");
            let appeared = Instant::now();
            while !has_hot(&mut agent).await {
                assert!(appeared.elapsed() < Duration::from_secs(1), "not within a second");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            namespace.ip("link set cold0 up");
            namespace.ip("link set hot0 up");
            namespace.ip("addr add 10.91.0.1/24 dev hot0");
            let sent = namespace.run(|| {
                let socket = std::net::UdpSocket::bind("10.91.0.1:0").expect("a socket");
                // Nobody has the address, so what leaves is a question for it.
                socket.send_to(&[0; 10], "10.91.0.2:9").is_ok()
            });
            assert!(sent);
            namespace.ip("link del hot0");
            let gone = Instant::now();
            while has_hot(&mut agent).await {
                assert!(gone.elapsed() < Duration::from_secs(1), "still there after a second");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // What was there all along still counts.
        let ends = udp_echo(&lab.pair, VERSIONS[0], Udp::Connected, 20, 200);
        let port = u32::from(ends.client.port());
        let flows = agent
            .flows_with(40, |flow| {
                [&flow.source, &flow.destination].into_iter().flatten().any(|end| end.port == port)
            })
            .await;
        assert!(flows.iter().all(|flow| flow.packets == 20 && flow.bytes == 20 * 228), "{flows:?}");
        agent.stop().await;
    });
}

#[test]
fn an_interface_that_is_removed() {
    let lab = Lab::new();
    let namespace = &lab.pair.client;
    for mechanism in mechanisms() {
        let mut engine = load(mechanism, &DEFAULTS);
        namespace.ip("link add gone0 type veth peer name gone1");
        let index = namespace.index("gone0");
        engine.attach_interface(namespace, "gone0", LinkKind::Ethernet);
        engine.attach_interface(namespace, VETH, LinkKind::Ethernet);
        namespace.ip("link del gone0");
        namespace.run(|| engine.object.detach_interface(index));
        // The other interface does not notice.
        let ends = udp_echo(&lab.pair, VERSIONS[1], Udp::Unconnected, 10, 100);
        engine.read();
        let counted = engine.seen.sum(|key| key.destination_port == ends.server.port());
        assert_eq!(counted, Counted::new(10, 10 * 148), "{mechanism:?}");
        namespace.run(|| drop(engine));
    }
}

/// Filters outlive whom `kill -9` ended; the next agent removes them, and only them.
#[test]
fn filters_of_a_killed_agent_are_removed() {
    let lab = Lab::new();
    let namespace = &lab.pair.client;
    let others = Reference::on_interface(namespace, VETH, false);
    for dead in 1..=2 {
        let mut player = Player::start(namespace, None, &format!("attacher {VETH}"));
        assert_eq!(player.hear::<String>(), "attached");
        player.kill();
        assert_eq!(filters(namespace), [dead, dead], "what dead agents left");
    }
    in_runtime(namespace, async || {
        for _ in 0..2 {
            let mut agent = Agent::start(config(AttachStrategy::Tc, None)).await;
            let interfaces = agent.interfaces().await;
            let mechanism = interfaces.iter().find(|(name, _)| name == VETH);
            let mechanism = mechanism.map(|(_, mechanism)| mechanism.as_str());
            let expected = if has(TCX) { AttachedTo::Tcx } else { AttachedTo::Clsact };
            assert_eq!(mechanism, Some(expected.name()));
            let ours = usize::from(!has(TCX));
            assert_eq!(filters(namespace), [ours, ours], "one set of filters");
            agent.stop().await;
            assert_eq!(filters(namespace), [0, 0], "none after the end");
        }
    });
    let before = others.total();
    udp_echo(&lab.pair, VERSIONS[0], Udp::Connected, 10, 100);
    assert!((others.total() - before).packets >= 20, "another program's filters stay");
}
