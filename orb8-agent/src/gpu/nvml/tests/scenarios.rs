//! Every scenario that the stand-in comes with.

use std::collections::BTreeSet;

use super::*;

/// Moments of a scenario that are looked at, milliseconds: in them is all that there is in one.
const MOMENTS: [u64; 7] = [0, 2_500, 3_500, 4_500, 6_500, 9_500, 60_000];

#[tokio::test]
async fn every_scenario_is_read_in_time_and_makes_sense() {
    let mut played = tokio::task::JoinSet::new();
    for scenario in orb8_standins::scenarios() {
        played.spawn(async move { play(scenario.name, scenario.text).await });
    }
    assert!(played.len() >= 10, "{}", played.len());
    // Together, since each waits until all is closed.
    drop(played.join_all().await);
}

async fn play(name: &str, text: &str) -> Node {
    let node = Node::new(text);
    let mut source = node.source();
    let mut is_known = false;
    for moment in MOMENTS {
        node.play_from(moment, text).await;
        for _ in 0..2 {
            match read(&mut source).await {
                Ok(reading) => {
                    is_known |= !reading.devices.is_empty();
                    look(name, &reading);
                }
                Err(error) => assert!(error.to_string().len() > 20, "{name}: {error}"),
            }
        }
    }
    // The one without a driver that fits has none.
    assert_eq!(is_known, name != "driver-mismatch", "{name}");
    // What hangs comes back, so that all is closed.
    node.play(&boards(1, ""));
    node
}

fn look(name: &str, reading: &Reading) {
    let ids: BTreeSet<_> = reading.devices.iter().map(|seen| &seen.device.id).collect();
    assert_eq!(ids.len(), reading.devices.len(), "{name}: each once");
    for seen in &reading.devices {
        if let Some(part) = &seen.device.part {
            assert!(ids.contains(&part.parent), "{name}: {part:?} is a part of nothing");
        }
        let Some(sample) = seen.state.sample() else {
            assert!(!reason(seen).is_empty(), "{name}: {}", seen.device.id);
            continue;
        };
        let memory = sample.memory;
        if let (Some(total), Some(used)) = (memory.total, memory.used) {
            assert!(used <= total, "{name}: {memory:?}");
        }
        for ratio in [sample.busy.gpu, sample.busy.memory, sample.busy.sm, sample.busy.engine] {
            assert!(ratio.is_none_or(|ratio| (0.0..=1.0).contains(&ratio)), "{name}: {ratio:?}");
        }
    }
    for uses in &reading.processes {
        assert!(ids.contains(&uses.device), "{name}: {uses:?}");
        assert!(uses.busy.is_none_or(|busy| (0.0..=1.0).contains(&busy)), "{name}: {uses:?}");
    }
}
