//! After any events in any order, the index is what a simple model says.

mod model;
mod readers;

use model::{Kind, Model};
use proptest::prelude::*;

use super::tests::{SOURCES, World, at};
use super::*;

/// Something that a watch tells.
#[derive(Clone, Debug)]
enum Event {
    /// A list starts.
    Begin(Source),
    /// An object, by number, with what varies of it.
    Apply(Source, u8, u64),
    Delete(Source, u8),
    /// An object that cannot be read.
    Keep(Source, u8),
    Finish(Source),
    /// The stream broke.
    Interrupted(Source),
    /// It told all there was to tell.
    Current(Source),
}

fn event() -> impl Strategy<Value = Event> {
    let source = || prop::sample::select(&SOURCES[..]);
    let pods = || prop::sample::select(&[Source::LocalPods, Source::RemotePods][..]);
    prop_oneof![
        1 => source().prop_map(Event::Begin),
        2 => source().prop_map(Event::Finish),
        1 => source().prop_map(Event::Interrupted),
        1 => pods().prop_map(Event::Interrupted),
        2 => pods().prop_map(Event::Current),
        2 => (pods(), 0..4_u8).prop_map(|(source, number)| Event::Keep(source, number)),
        8 => (source(), 0..4_u8, any::<u64>()).prop_map(|(s, n, what)| Event::Apply(s, n, what)),
        8 => (pods(), 0..4_u8, any::<u64>()).prop_map(|(s, n, what)| Event::Apply(s, n, what)),
        3 => (source(), 0..4_u8).prop_map(|(source, n)| Event::Delete(source, n)),
        3 => (pods(), 0..4_u8).prop_map(|(source, n)| Event::Delete(source, n)),
    ]
}

fn play(world: &mut World, model: &mut Model, event: &Event) {
    match *event {
        Event::Begin(source) => {
            world.writer.begin(source);
            model.begin(source);
        }
        Event::Apply(source, number, variant) => {
            let object = model::object(source, number, variant);
            world.apply(source, &object.json());
            model.apply(source, object);
        }
        Event::Delete(source, number) => {
            let object = model::object(source, number, 0);
            world.delete(source, &object.json());
            model.delete(source, &object.uid);
        }
        Event::Finish(source) => {
            world.writer.finish(source);
            model.finish(source);
        }
        Event::Keep(source, number) => {
            let object = model::object(source, number, 0);
            world.writer.keep(source, &object.uid);
            model.keep(source, &object.uid);
        }
        Event::Interrupted(source) => {
            world.writer.interrupted(source);
            model.interrupted(source);
        }
        Event::Current(source) if model.is_listed(source) => {}
        Event::Current(source) => {
            world.writer.current(source);
            model.caught_up(source);
        }
    }
}

fn check_now(world: &World, model: &Model, now: i64) {
    let mut pods: Vec<_> = world.index.pods().iter().map(|pod| pod.uid.to_string()).collect();
    pods.sort();
    assert_eq!(pods, model.pods());
    assert_eq!(world.index.counts().pods, pods.len() as u64);
    for uid in &pods {
        assert_eq!(world.controller(uid), model.controller(uid), "controller of {uid}");
        let mirror = world.index.pod(&format!("hash-of-{uid}")).map(|pod| pod.uid.to_string());
        assert_eq!(mirror, model.mirror(uid), "mirror of {uid}");
        let pod = world.index.pod(uid).unwrap();
        for container in &pod.containers {
            let (of, name, _) = world.index.container(container.id.as_deref().unwrap()).unwrap();
            assert_eq!((of, name), (pod.clone(), container.name.clone()));
        }
    }
    for ip in model::IPS {
        assert_eq!(world.pod_at(ip, now), model.holder(ip), "pod at {ip}");
        let node = world.index.node_at(ip.parse().unwrap()).map(|node| node.name.to_string());
        assert_eq!(node, model.node_at(ip), "node at {ip}");
        for port in model::PORTS {
            let service = world.service_at(ip, 6, port);
            assert_eq!(service, model.service_at(ip, port), "service at {ip}:{port}");
        }
    }
}

/// Each version begins where the one before ended, or after what was forgotten; none is empty.
fn check_versions(world: &World) {
    let guard = world.index.0.guard();
    for (address, versions) in world.index.0.addresses.iter(&guard) {
        let spans = versions.spans();
        assert!(spans.iter().all(|(from, until)| from <= until), "{address:?}: {spans:?}");
        assert!(spans.iter().rev().skip(1).all(|(from, until)| from < until));
        assert!(spans.windows(2).all(|pair| pair[0].1 == pair[1].0), "{address:?}: {spans:?}");
    }
}

proptest! {
    #[test]
    fn the_index_is_what_the_events_say(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        let mut model = Model::default();
        for (time, event) in (0..).zip(&events) {
            world.set_time(time);
            play(&mut world, &mut model, event);
            check_now(&world, &model, time);
            check_versions(&world);
        }
        // Nothing is left of what all watches forget.
        for source in SOURCES {
            world.list(source, &[]);
        }
        prop_assert!(world.writer.owners.is_empty());
        world.set_time(10_000);
        world.writer.expire();
        let tables = &world.index.0;
        prop_assert!(tables.pods.is_empty() && tables.static_pods.is_empty());
        prop_assert!(tables.containers.is_empty() && tables.addresses.is_empty());
        prop_assert!(tables.services.is_empty());
        prop_assert!(tables.nodes.is_empty() && tables.node_addresses.is_empty());
    }

    #[test]
    fn what_was_seen_stays_true(events in prop::collection::vec(event(), 1..40)) {
        let mut world = World::new();
        let mut model = Model::default();
        let mut seen = Vec::new();
        for (step, event) in (0..).zip(&events) {
            world.set_time(step * 10);
            play(&mut world, &mut model, event);
            // Now and then all watches are up to date; who has an address then, had it.
            if step % 3 == 0 && !model.is_listing() {
                // One after the other, and then they stay so for a moment.
                for time in [step * 10 + 3, step * 10 + 5] {
                    world.set_time(time);
                    for source in SOURCES {
                        world.writer.current(source);
                        model.caught_up(source);
                    }
                }
                let holders = model::IPS.iter().map(|ip| (*ip, model.holder(ip)));
                seen.extend(holders.filter_map(|(ip, pod)| Some((ip, step * 10 + 4, pod?))));
            }
            for (ip, time, pod) in &seen {
                let answer = world.pod_at(ip, *time);
                let is_forgotten = model.changes(ip) > 4 && answer.is_none();
                assert!(is_forgotten || answer.as_ref() == Some(pod), "{ip} at {time}: {answer:?}");
            }
        }
    }

    #[test]
    fn while_watched_an_address_changes_hands_when_it_is_told(
        events in prop::collection::vec(event(), 1..40),
    ) {
        let mut world = World::synced();
        let mut model = Model::default();
        SOURCES.iter().for_each(|source| model.caught_up(*source));
        let mut held = Vec::new();
        let watched = |event: &&Event| matches!(event, Event::Apply(..) | Event::Delete(..));
        for (time, event) in (0..).zip(events.iter().filter(watched)) {
            world.set_time(time);
            play(&mut world, &mut model, event);
            held.push(model.holder(model::IPS[0]));
        }
        prop_assume!(model.changes(model::IPS[0]) <= 4);
        // An address that nobody has yet is the next one's.
        for time in 0..held.len() {
            let next = held[time..].iter().flatten().next();
            let answer = world.pod_at(model::IPS[0], time as i64);
            prop_assert_eq!(answer.as_ref(), next, "at {} of {:?}", time, held);
        }
        prop_assert!(at(0) < at(1));
    }
}

/// Which kinds of object there are to be told of.
fn kind_of(source: Source) -> Kind {
    match source {
        Source::LocalPods | Source::RemotePods => Kind::Pod,
        Source::Services => Kind::Service,
        Source::EndpointSlices => Kind::Slice,
        Source::Nodes => Kind::Node,
        Source::ReplicaSets => Kind::Owner("ReplicaSet"),
        Source::Jobs => Kind::Owner("Job"),
        Source::StatefulSets => Kind::Owner("StatefulSet"),
    }
}
