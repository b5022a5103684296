//! An agent's own store, streams and API, without programs in a kernel: what it answers live, and what
//! a recording of it answers.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orb8_agent::api::{Api, Tasks};
use orb8_agent::config::Config;
use orb8_agent::event::{Event, FlowSample, Payload, SampleKind, Signal, UnixNanos};
use orb8_agent::pipeline::{LocalAddresses, Pipeline, SharedPipeline, lock};
use orb8_agent::status::{SourceStatus, StatusBoard};
use orb8_common::flow::{
    DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, HOOK_INTERFACE, HOOK_SOCKET,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::Surroundings;
use super::agent::line;
use crate::error::Exit;

struct Node {
    pipeline: SharedPipeline,
    dir: TempDir,
    _shutdown: tokio_util::sync::DropGuard,
    _tasks: Tasks,
}

impl Node {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::in_process().unwrap();
        config.cgroup_root = None;
        config.node_name = "node-1".into();
        config.api.socket = Some(dir.path().join("agent.sock"));
        let board = StatusBoard::default();
        board.update(|status| {
            status.sources =
                Signal::ALL.map(|signal| SourceStatus::running(signal, Vec::new())).to_vec();
        });
        let pipeline = Pipeline::new(&config, LocalAddresses::default()).shared();
        let shutdown = CancellationToken::new();
        let api = Api::build(&config, pipeline.clone(), board).await.unwrap();
        let tasks = api.run(&shutdown);
        Self { pipeline, dir, _shutdown: shutdown.drop_guard(), _tasks: tasks }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("a.orb8")
    }

    fn count(&self, samples: impl IntoIterator<Item = FlowSample>) {
        let event = |sample: FlowSample| Event {
            time: sample.last,
            subject: None,
            payload: Payload::Flow(sample),
        };
        let mut pipeline = lock(&self.pipeline);
        pipeline.ingest(&mut samples.into_iter().map(event).collect());
        pipeline.end_of_cycle(std::time::Instant::now());
    }

    async fn live(&self, command: &str) -> String {
        self.run(&line(&self.dir.path().join("agent.sock"), command)).await
    }

    async fn replayed(&self, command: &str) -> String {
        self.run(&format!("--replay {} {command}", self.file().display())).await
    }

    async fn run(&self, line: &str) -> String {
        let outcome = Surroundings::piped().run(line).await;
        assert_eq!(outcome.exit, Exit::Success, "{line}: {}", outcome.err);
        outcome.out
    }
}

fn now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixNanos(u64::try_from(since.as_nanos()).unwrap())
}

/// Some of everything that tells flows apart, with few different counts.
fn sample(number: u16) -> FlowSample {
    let mut address = [0; 16];
    address[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, (number % 3) as u8]);
    let is_of_socket = !number.is_multiple_of(4);
    let protocol = [6, 17, 1, 132][usize::from(number / 2 % 4)];
    let packets = u64::from(number % 5 + 1);
    FlowSample {
        key: FlowKey {
            source_addr: address,
            destination_addr: [0xfd; 16],
            source_port: if protocol == 1 { number % 256 } else { 4_000 + number / 7 },
            destination_port: if protocol == 1 { 0 } else { 443 },
            ifindex: if is_of_socket { 0 } else { 1 + u32::from(number % 3) },
            cgroup_id: if is_of_socket { 1 + u64::from(number % 6) } else { 0 },
            protocol,
            direction: if number.is_multiple_of(2) { DIRECTION_EGRESS } else { DIRECTION_INGRESS },
            hook: if is_of_socket { HOOK_SOCKET } else { HOOK_INTERFACE },
            flags: 0,
            vlan: 0,
            inner_vlan: 0,
        },
        kind: SampleKind::Counted,
        cgroup_id: if is_of_socket { 1 + u64::from(number % 6) } else { 0 },
        cookie: 0,
        ifindex: u32::from(number % 3),
        packets,
        bytes: packets * 100,
        first: now(),
        last: now(),
        tcp_flags: if protocol == 6 { 0x10 } else { 0 },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_answers_in_the_agents_order() {
    let node = Node::start().await;
    let moment = now();
    let at = |sample: FlowSample| FlowSample { first: moment, last: moment, ..sample };
    node.count((0..200).map(sample).map(at));
    node.live(&format!("record -o {} --duration 300ms", node.file().display())).await;
    for sort in ["bytes", "packets", "rate", "last-seen", "first-seen"] {
        for flags in ["", "--ascending", "--limit 7", "-o wide --direction egress", "--port 4003"] {
            let command =
                format!("flows -o json --sort {sort} {flags}").replace("-o json -o", "-o");
            let command = match flags.starts_with("-o") {
                true => format!("flows --sort {sort} {flags}"),
                false => command,
            };
            let live = node.live(&command).await;
            assert!(live.lines().count() > 1, "{command}");
            // Rates are those of the moment.
            let without = |text: &str| -> Vec<String> {
                let rates = ["\"bytes_per_second\":", "\"packets_per_second\":"];
                let is_rate = |part: &&str| !rates.iter().any(|rate| part.starts_with(rate));
                let keep =
                    |line: &str| line.split(',').filter(is_rate).collect::<Vec<_>>().join(",");
                text.lines().map(keep).collect()
            };
            assert_eq!(without(&node.replayed(&command).await), without(&live), "{command}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_has_every_line_of_the_live_trace() {
    let node = Node::start().await;
    let flags = "--duration 1500ms";
    let record = format!("record -o {} {flags}", node.file().display());
    let trace = format!("trace network -o json {flags}");
    let traffic = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        for step in 0..20 {
            node.count((0..40).map(|number| sample(number * 3 + step)));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (_, live, ()) = tokio::join!(node.live(&record), node.live(&trace), traffic);
    assert!(live.lines().count() >= 800, "{}", live.lines().count());
    let replayed = node.replayed("trace network -o json").await;
    for (number, (replayed, live)) in replayed.lines().zip(live.lines()).enumerate() {
        assert_eq!(replayed, live, "line {number}");
    }
    assert_eq!(replayed.lines().count(), live.lines().count());
    // Both add up to what the agent counted.
    let sum = |text: &str, field: &str| -> u64 {
        let value = |line: &str| {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            object[field].as_u64().unwrap_or(0)
        };
        text.lines().map(value).sum()
    };
    let counted = lock(&node.pipeline).totals().in_flows.bytes;
    assert_eq!(sum(&replayed, "delta_bytes"), counted);
    let window = node.replayed("flows -o json --since 1h --limit 100000").await;
    assert_eq!(sum(&window, "bytes"), counted);
    // And so does the agent's own history.
    let history = node.live("flows -o json --since 1h --limit 100000").await;
    assert_eq!(sum(&history, "bytes"), counted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_says_what_its_counts_are_of() {
    let node = Node::start().await;
    node.count((0..5).map(sample));
    let ask = async |command: &str| {
        let line = line(&node.dir.path().join("agent.sock"), command);
        let outcome = Surroundings::piped().run(&line).await;
        assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
        outcome
    };
    let plain = ask("flows").await;
    assert!(!plain.err.contains("counts are of"), "{}", plain.err);
    let unix = now().0 / 1_000_000_000 - 3_600;
    let hour = ask(&format!("flows --from {unix}")).await;
    assert!(hour.err.contains("counts are of "), "{}", hour.err);
    assert!(hour.err.contains("nothing is known of before "), "{}", hour.err);
    assert!(hour.err.contains("--history and --history-size say how far"), "{}", hour.err);
    let json = ask(&format!("flows -o json --from {unix}")).await.out;
    let window: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(window["type"], "window");
    for field in ["start", "end", "history_start"] {
        assert!(window[field].is_string(), "{window}");
    }
    // What was counted before does not count.
    let counted = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        node.count([sample(1)]);
    };
    let (waited, ()) = tokio::join!(ask("flows -o json --duration 500ms"), counted);
    assert_eq!(waited.out.lines().count(), 1, "{}", waited.out);
    let flow: serde_json::Value = serde_json::from_str(waited.out.trim()).unwrap();
    assert_eq!(flow["packets"], 2);
}
