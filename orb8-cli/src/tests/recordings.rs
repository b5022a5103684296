//! Recording the fake agent, and asking what was recorded.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use orb8_proto::v1::{
    EventKind, QueryFlowsResponse, RecordingHeader, RecordingSnapshot, StreamEventsResponse,
};
use prost::Message;
use tempfile::TempDir;

use super::agent::{End, FakeAgent, Script};
use super::{Outcome, Sink, Surroundings, samples};
use crate::error::Exit;
use crate::recording::{Kind, Recording, Writer};

fn script() -> Script {
    Script {
        flows: samples::flows(),
        events: samples::events(),
        summaries: samples::dns::summaries(),
        dns_totals: samples::dns::totals(),
        exchanges: samples::dns::exchanges(),
        connections: samples::tcp::connections(),
        tcp_totals: samples::tcp::totals(),
        tcp_events: samples::tcp::events(),
        gpu: samples::gpu::answer(),
        gpu_events: samples::gpu::events(),
        pods: samples::kubernetes::pods(),
        workloads: samples::workloads::answer(),
        sources: ["flow", "dns", "tcp", "gpu"].map(|name| samples::running(name, "")).to_vec(),
        end: End::Stays,
        ..Script::default()
    }
}

/// A directory with a recording of an agent.
struct Bench {
    agent: FakeAgent,
    dir: TempDir,
}

impl Bench {
    fn new(script: Script) -> Self {
        Self { agent: FakeAgent::start(script), dir: tempfile::tempdir().unwrap() }
    }

    async fn recorded() -> Self {
        let bench = Self::new(script());
        let outcome = bench.record("--duration 300ms").await;
        assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
        bench
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("a.orb8")
    }

    async fn record(&self, flags: &str) -> Outcome {
        let line = format!("record -o {} {flags}", self.file().display());
        Surroundings::piped().run(&self.agent.ask(&line)).await
    }

    async fn live(&self, command: &str) -> Outcome {
        Surroundings::piped().run(&self.agent.ask(command)).await
    }

    async fn replay(&self, command: &str) -> Outcome {
        replay(&self.file(), command).await
    }

    async fn replayed(&self, command: &str) -> String {
        let outcome = self.replay(command).await;
        assert_eq!(outcome.exit, Exit::Success, "{command}: {}", outcome.err);
        outcome.out
    }

    /// Leaves the file with other bytes.
    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.file()).unwrap();
        change(&mut bytes);
        fs::write(self.file(), bytes).unwrap();
    }
}

async fn replay(file: &Path, command: &str) -> Outcome {
    Surroundings::piped().run(&format!("--replay {} {command}", file.display())).await
}

#[tokio::test]
async fn a_replayed_trace_is_what_a_live_one_printed() {
    let bench = Bench::recorded().await;
    for command in [
        "trace network -o json --event new,update,closing,end,lost --include-self",
        "trace network -n ml -o json --event new,update,closing,end,lost --include-self",
        "trace dns -o json",
        "trace dns -o yaml --name *.svc",
        "trace dns -o wide",
        "trace tcp -o json --include-self --events connect,accept,fail,close,retransmit,reset,drop,overflow,state",
        "trace tcp -o wide --include-self --events reset,drop",
        "trace gpu -o json",
        "trace gpu -o wide --kinds xid,throttle,straggler",
        "trace gpu -o yaml -n ml --at-least reboot --device 3",
    ] {
        let live = bench.live(&format!("{command} --duration 300ms")).await;
        assert!(!live.out.is_empty(), "{command}");
        assert_eq!(bench.replayed(command).await, live.out, "{command}");
    }
    let outcome = bench.replay("trace dns").await;
    assert!(
        outcome.err.contains("nothing lost") || outcome.err.contains("lost"),
        "{}",
        outcome.err
    );
    assert!(!outcome.err.contains("warning"), "{}", outcome.err);
}

#[tokio::test]
async fn replayed_lists_are_what_live_ones_printed() {
    let bench = Bench::recorded().await;
    for command in [
        "flows -o json --include-self",
        "flows -o wide --include-self -n ml",
        "dns top -o json",
        "tcp top -o json --include-self",
        "pods -o yaml",
        "workloads -o json --peers 50",
        "gpu -o json",
        "gpu -o yaml -n team-a",
        "gpu pods -o wide --device 1",
        "gpu processes -o json",
        "gpu idle -o json",
        "gpu health -o json --check",
        "gpu leaks -o json --all",
        "status -o json",
        "diagnose -o yaml",
    ] {
        let (live, replayed) = (bench.live(command).await, bench.replay(command).await);
        assert_eq!(replayed.exit, live.exit, "{command}: {}", replayed.err);
        let lines = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            // The fake agent has an order of its own.
            lines.sort_unstable();
            lines
        };
        assert!(!live.out.is_empty(), "{command}");
        assert_eq!(lines(&replayed.out), lines(&live.out), "{command}");
    }
}

#[tokio::test]
async fn the_past_of_a_recording_is_asked_like_an_agents() {
    let bench = Bench::recorded().await;
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let all = lines(bench.replayed("trace dns -o json").await);
    let last = lines(bench.replayed("trace dns -o json --last 2").await);
    assert_eq!(last, all[all.len() - 2..]);
    assert_eq!(lines(bench.replayed("trace dns -o json --last 2 -f").await), last);
    let one = lines(bench.replayed("trace dns -o json --limit 1").await);
    assert_eq!(one, all[..1]);
    // The samples are of a day long ago, as the recording's end sees it.
    let none = bench.replayed("trace network -o json --since 1m").await;
    assert_eq!(none, "");
    let since = bench.replayed("trace network -o json --since 2020-01-01T00:00:00Z").await;
    assert_eq!(lines(since).len(), lines(bench.replayed("trace network -o json").await).len());
}

#[tokio::test]
async fn a_window_of_a_recording_has_what_its_events_added() {
    let bench = Bench::recorded().await;
    let outcome = bench.replay("flows -o json --from 2020-01-01T00:00:00Z --include-self").await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    let last = outcome.out.lines().last().unwrap();
    assert!(last.contains("\"type\":\"lost\"") || last.contains("\"type\":\"window\""), "{last}");
    assert!(outcome.out.contains("\"type\":\"window\""), "{}", outcome.out);
    let notes = bench.replay("flows --from 2020-01-01T00:00:00Z").await.err;
    assert!(notes.contains("counts are of "), "{notes}");
    assert!(
        notes.contains("nothing is known of before ") && notes.contains("the recording begins")
    );
}

/// Four snapshots, each with a flow more, and events between them.
fn seconds(file: &Path) {
    const SECOND: u64 = 1_000_000_000;
    let header = RecordingHeader {
        started_ns: samples::NOON,
        signals: vec!["flow".into()],
        ..RecordingHeader::default()
    };
    let mut writer = Writer::new(fs::File::create(file).unwrap(), &header).unwrap();
    for second in 0..4 {
        let time = samples::NOON + second * SECOND;
        writer.flush().unwrap();
        let flows = samples::flows().into_iter().take(second as usize + 1).collect();
        let answer = QueryFlowsResponse { flows, ..QueryFlowsResponse::default() };
        writer.add(Kind::Flows, time, &answer.encode_to_vec()).unwrap();
        let end = RecordingSnapshot { messages: 1, ..RecordingSnapshot::default() };
        writer.add(Kind::Snapshot, time, &end.encode_to_vec()).unwrap();
        writer.flush().unwrap();
        let flow = Some(samples::trainer());
        let kind = EventKind::FlowUpdate.into();
        let event = StreamEventsResponse {
            time_ns: time,
            kind,
            flow,
            delta_bytes: 1000,
            delta_packets: 1,
            ..StreamEventsResponse::default()
        };
        writer.add(Kind::FlowEvent, time, &event.encode_to_vec()).unwrap();
    }
    writer.add(Kind::End, samples::NOON + 3 * SECOND, &[]).unwrap();
    writer.flush().unwrap();
}

#[tokio::test]
async fn what_goes_on_goes_at_its_pace() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.orb8");
    seconds(&file);
    let timed = async |command: &str| {
        let began = Instant::now();
        let outcome = replay(&file, command).await;
        assert_eq!(outcome.exit, Exit::Success, "{command}: {}", outcome.err);
        (outcome.out, began.elapsed())
    };
    let (at_once, took) = timed("trace network -o json").await;
    assert!(at_once.lines().count() == 4 && took < Duration::from_secs(2), "{took:?}");
    let (paced, took) = timed("trace network -o json --replay-speed 3").await;
    assert_eq!(paced, at_once);
    assert!(took >= Duration::from_secs(1), "{took:?}");
    let (half, _) = timed("trace network -o json --replay-speed 3 --duration 500ms").await;
    assert_eq!(half.lines().count(), 2, "those of the first second and a half");
    let (watched, _) = timed(
        "flows --watch --interval 200ms --duration 1900ms --replay-speed 3 -o json --include-self",
    )
    .await;
    let first = watched.lines().next().unwrap();
    let shown = watched.lines().filter(|line| *line == first).count();
    assert!(shown >= 8, "the first flow is in every answer: {shown}");
    assert!(watched.lines().count() > 2 * shown, "and more come");
    assert_eq!(
        timed("flows -o json --include-self --replay-speed 0.001").await.0.lines().count(),
        4
    );
}

#[tokio::test]
async fn windows_of_a_recording_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.orb8");
    seconds(&file);
    let bytes = async |flags: &str| {
        let outcome = replay(&file, &format!("flows -o json {flags}")).await;
        assert_eq!(outcome.exit, Exit::Success, "{flags}: {}", outcome.err);
        let find = |line: &str| {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            (object["type"] == "flow").then(|| object["bytes"].as_u64().unwrap())
        };
        outcome.out.lines().filter_map(find).collect::<Vec<_>>()
    };
    // Relative to its end, three seconds after noon.
    assert_eq!(bytes("--since 1s").await, [2000]);
    assert_eq!(bytes("--from 3s --to 2s").await, [1000], "its end is the next one's begin");
    assert_eq!(bytes("--from 2s").await, [3000]);
    let wrong = replay(&file, "flows --from 1s --to 2s").await;
    assert!(wrong.err.contains("--to is before --from"), "{}", wrong.err);
    assert_eq!(bytes("--since 1h").await, [4000]);
    assert_eq!(bytes("--to 2500ms").await, [1000]);
    assert_eq!(bytes("--since 1h -n nobody").await, [0_u64; 0]);
}

#[tokio::test]
async fn signals_and_filters_choose() {
    let bench = Bench::new(script());
    let outcome = bench.record("--duration 200ms --signals dns -n ml").await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    assert_eq!(bench.agent.heard.streams.lock().unwrap().len(), 0);
    let filter = bench.agent.heard.dns_streams.lock().unwrap()[0].include[0].clone();
    assert_eq!(filter.flow.unwrap().namespace, ["ml"]);
    let outcome = bench.replay("flows").await;
    assert_eq!(outcome.exit, Exit::Usage);
    let said = "the recording has no flow: it was made with --signals dns";
    assert!(outcome.err.contains(said), "{}", outcome.err);
    bench.replayed("trace dns").await;

    let bad = bench.record("--signals dsn --force").await;
    assert_eq!(bad.exit, Exit::Usage);
    assert!(bad.err.contains("must be one or more of flow, dns, tcp"), "{}", bad.err);
}

#[tokio::test]
async fn what_does_not_run_is_left_out_unless_it_is_named() {
    let sources =
        vec![samples::running("flow", ""), samples::skipped("dns"), samples::skipped("tcp")];
    let bench = Bench::new(Script { sources, ..script() });
    let named = bench.record("--duration 100ms --signals dns").await;
    assert_eq!(named.exit, Exit::Unavailable);
    assert!(named.err.contains("does not run the dns signal"), "{}", named.err);
    assert!(!bench.file().exists(), "nothing was recorded");
    let outcome = bench.record("--duration 100ms").await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    assert!(outcome.err.contains("dns is not recorded: the kernel has no ring"), "{}", outcome.err);
    let replayed = bench.replay("trace dns").await;
    assert_eq!(replayed.exit, Exit::Unavailable);
    assert!(replayed.err.contains("does not run the dns signal"), "{}", replayed.err);
}

#[tokio::test]
async fn ctrl_c_ends_a_recording_cleanly() {
    let bench = Bench::new(script());
    let surroundings = Surroundings::piped();
    let interrupt = surroundings.interrupt.clone();
    let line = bench.agent.ask(&format!("record -o {}", bench.file().display()));
    let run = tokio::spawn(async move { surroundings.run(&line).await });
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!run.is_finished());
    interrupt.cancel();
    let outcome = run.await.unwrap();
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    assert!(outcome.out.starts_with("recorded ") && outcome.out.contains(" and 2 snapshots in "));
    let recording = Recording::open(&bench.file()).unwrap();
    assert!(recording.damage().is_none(), "{:?}", recording.damage());
    assert_eq!(recording.header().node_name, "worker-1");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(bench.file()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn an_agent_that_goes_away_leaves_what_was_recorded() {
    let bench = Bench::new(Script { end: End::Fails, ..script() });
    let outcome = bench.record("").await;
    assert_eq!(outcome.exit, Exit::Unavailable, "{}", outcome.err);
    assert!(outcome.err.contains("the agent is shutting down"), "{}", outcome.err);
    let recording = Recording::open(&bench.file()).unwrap();
    assert!(recording.damage().is_none());
    assert!((0..recording.blocks()).any(|block| recording.has(block, Kind::End)));
}

#[tokio::test]
async fn files_are_not_overwritten_by_accident() {
    let bench = Bench::recorded().await;
    let before = fs::read(bench.file()).unwrap();
    let outcome = bench.record("--duration 100ms").await;
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.err.contains("overwrite it with --force"), "{}", outcome.err);
    assert_eq!(fs::read(bench.file()).unwrap(), before);
    let outcome = bench.record("--duration 100ms --force").await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    assert_ne!(fs::read(bench.file()).unwrap(), before);
    fs::set_permissions(bench.file(), Permissions::from_mode(0o644)).unwrap();
    bench.record("--duration 100ms --force").await;
    assert_eq!(fs::metadata(bench.file()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn standard_output_takes_a_recording_but_no_terminal_does() {
    let bench = Bench::new(script());
    let line = bench.agent.ask("record -o - --duration 200ms");
    let outcome = Surroundings::terminal(80).run(&line).await;
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.err.contains("no text for a terminal"), "{}", outcome.err);

    let (out, err) = (Sink::default(), Sink::default());
    let exit = Surroundings::piped().run_to(&line, Box::new(out.clone()), err.clone()).await;
    assert_eq!(exit, Exit::Success, "{}", err.text());
    let bytes = out.0.lock().unwrap().clone();
    let recording = Recording::read(bytes).unwrap();
    assert!(recording.damage().is_none() && recording.blocks() > 1);
    assert!(err.text().contains("recorded "), "{}", err.text());
}

/// Whoever reads has seen enough.
struct Gone;

impl io::Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_cannot_be_written_ends_it() {
    let bench = Bench::new(script());
    let full = bench.agent.ask("record -o /dev/full --force");
    let outcome = Surroundings::piped().run(&full).await;
    assert_eq!(outcome.exit, Exit::Failure);
    assert!(outcome.err.contains("cannot write /dev/full: No space left"), "{}", outcome.err);
    let nowhere = bench.agent.ask("record -o /nonexistent/a.orb8 --duration 1s");
    let outcome = Surroundings::piped().run(&nowhere).await;
    assert_eq!(outcome.exit, Exit::Failure);
    assert!(outcome.err.contains("cannot create /nonexistent/a.orb8: No such"), "{}", outcome.err);
    let gone = bench.agent.ask("record -o -");
    let exit = Surroundings::piped().run_to(&gone, Box::new(Gone), Sink::default()).await;
    assert_eq!(exit, Exit::Success, "as with any output that nobody reads any more");
}

#[tokio::test]
async fn a_size_ends_a_recording() {
    let bench = Bench::new(script());
    let outcome = bench.record("--max-size 64KiB --snapshot-interval 10ms").await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    let bytes = fs::metadata(bench.file()).unwrap().len();
    assert!((30_000..=65_536).contains(&bytes), "{bytes}");
    assert!(outcome.err.contains("--max-size is reached"), "{}", outcome.err);
    assert!(Recording::open(&bench.file()).unwrap().damage().is_none());
}

#[tokio::test]
async fn a_damaged_recording_is_replayed_with_a_warning() {
    let bench = Bench::recorded().await;
    let whole = fs::read(bench.file()).unwrap();
    let events = bench.replayed("trace dns -o json").await.lines().count();
    bench.change(|bytes| bytes.truncate(whole.len() - 10));
    let outcome = bench.replay("trace dns -o json -q").await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    assert!(outcome.err.contains("warning: ") && outcome.err.contains("it is cut off within"));
    assert_eq!(outcome.out.lines().count(), events);
    // Of the first snapshot.
    assert!(!bench.replayed("flows -o json").await.is_empty());

    let header = whole.windows(4).position(|window| window == [0xb1, b'L', b'K', b'\n']).unwrap();
    fs::write(bench.file(), &whole).unwrap();
    bench.change(|bytes| bytes[header + 60] ^= 1);
    let outcome = bench.replay("pods -o json").await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    let said = "a block is damaged (1 in all, the first at byte ";
    assert!(outcome.err.contains(said), "{}", outcome.err);

    bench.change(|bytes| bytes.truncate(header));
    let outcome = bench.replay("flows").await;
    assert_eq!(outcome.exit, Exit::Usage, "{}", outcome.err);
    assert!(outcome.err.contains("it was cut off before the first"), "{}", outcome.err);
    let outcome = bench.replay("trace network").await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
}

#[tokio::test]
async fn what_cannot_be_replayed_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("other");
    let refuse = async |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let outcome = replay(&file, "flows").await;
        assert_eq!(outcome.exit, Exit::Failure);
        outcome.err
    };
    assert!(refuse(b"").await.contains("it is empty"));
    let other = refuse(b"{\"type\":\"flow\"}\n").await;
    assert!(other.contains("it is no recording of orb8 record\n  name a file that"), "{other}");
    let newer = [&crate::recording::MAGIC[..], &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert!(refuse(&newer).await.contains("update orb8 to replay it"));
    let missing = replay(&dir.path().join("none"), "flows").await;
    assert!(missing.err.contains("No such file"), "{}", missing.err);
    let directory = replay(dir.path(), "diagnose").await;
    assert_eq!(directory.exit, Exit::Failure);
    assert!(directory.err.contains("no regular file"), "{}", directory.err);
    // It is not waited for whoever may write into it.
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let pipe = replay(&pipe, "flows").await;
    assert!(pipe.err.contains("no regular file"), "{}", pipe.err);
}

#[tokio::test]
async fn a_recording_is_one_thing_and_an_agent_another() {
    for (line, expected) in [
        ("--replay a --agent b flows", "it cannot be used with --agent or --standalone"),
        ("--replay a --standalone flows", "it cannot be used with --agent or --standalone"),
        ("--replay-speed 2 flows", "it needs --replay FILE"),
        ("--replay a --replay-speed 0 trace dns", "give how many times faster"),
        ("--replay a record -o b", "a recording is a file already"),
        ("record", "--output <FILE>"),
        ("record -o a --max-size 5", "at least 64KiB"),
        ("flows --since 12", "give how long ago"),
        ("flows --from 1m --since 2m", "cannot be used multiple times"),
    ] {
        let outcome = Surroundings::piped().run(line).await;
        assert_eq!(outcome.exit, Exit::Usage, "{line}: {}", outcome.err);
        assert!(outcome.err.contains(expected), "{line}: {}", outcome.err);
    }
}
