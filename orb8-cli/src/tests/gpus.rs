//! `orb8 gpu`, the lists below it and `orb8 trace gpu` against the fake agent.

use insta::assert_snapshot;
use orb8_proto::v1::{
    GpuEventKind, GpuSourceStatus, GpuXidAction, QueryGpuResponse, SourceState, SourceStatus,
};

use super::agent::{End, FakeAgent, Script};
use super::{Outcome, Surroundings, samples};
use crate::error::Exit;

fn script() -> Script {
    Script {
        gpu: samples::gpu::answer(),
        gpu_events: samples::gpu::events(),
        sources: vec![samples::running("flow", ""), samples::running("gpu", "")],
        ..Script::default()
    }
}

async fn ask(surroundings: Surroundings, command: &str) -> Outcome {
    let agent = FakeAgent::start(script());
    surroundings.run(&agent.ask(command)).await
}

async fn succeed(surroundings: Surroundings, command: &str) -> String {
    let outcome = ask(surroundings, command).await;
    assert_eq!(outcome.exit, Exit::Success, "{command}: {}", outcome.err);
    outcome.out
}

/// What fits a terminal of 80 columns, with the notes.
async fn narrow(command: &str) -> String {
    let outcome = ask(Surroundings::terminal(80), command).await;
    assert_eq!(outcome.exit, Exit::Success, "{command}: {}", outcome.err);
    let is_table = |line: &&str| !line.contains(": ") && !line.starts_with("  ");
    let too_wide = outcome.out.lines().filter(is_table).find(|line| line.chars().count() > 80);
    assert_eq!(too_wide, None, "{command}");
    format!("{}-- notes\n{}", outcome.out, outcome.err)
}

const TRACE: &str = "trace gpu --last 99";

#[tokio::test]
async fn devices_in_80_columns() {
    assert_snapshot!(narrow("gpu").await);
}

#[tokio::test]
async fn devices_in_120_columns() {
    assert_snapshot!(succeed(Surroundings::terminal(120), "gpu").await);
}

#[tokio::test]
async fn devices_wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "gpu -o wide").await);
}

#[tokio::test]
async fn devices_json() {
    assert_snapshot!(succeed(Surroundings::piped(), "gpu -o json").await);
}

#[tokio::test]
async fn devices_in_color() {
    let surroundings = Surroundings { colors: true, ..Surroundings::terminal(120) };
    assert_snapshot!(succeed(surroundings, "gpu").await.replace('\x1b', "␛"));
}

#[tokio::test]
async fn pods_in_80_columns() {
    assert_snapshot!(narrow("gpu pods").await);
}

#[tokio::test]
async fn pods_wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "gpu pods -o wide").await);
}

#[tokio::test]
async fn pods_yaml() {
    assert_snapshot!(succeed(Surroundings::piped(), "gpu pods -o yaml --device 1").await);
}

#[tokio::test]
async fn processes_in_80_columns() {
    assert_snapshot!(narrow("gpu processes").await);
}

#[tokio::test]
async fn processes_wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "gpu processes -o wide").await);
}

#[tokio::test]
async fn processes_json() {
    assert_snapshot!(succeed(Surroundings::piped(), "gpu processes -o json").await);
}

#[tokio::test]
async fn idle_in_80_columns() {
    assert_snapshot!(narrow("gpu idle").await);
}

#[tokio::test]
async fn idle_wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "gpu idle -o wide").await);
}

#[tokio::test]
async fn health_in_80_columns() {
    assert_snapshot!(narrow("gpu health").await);
}

#[tokio::test]
async fn health_wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "gpu health -o wide").await);
}

#[tokio::test]
async fn health_json() {
    assert_snapshot!(succeed(Surroundings::piped(), "gpu health -o json").await);
}

#[tokio::test]
async fn leaks_in_80_columns() {
    assert_snapshot!(narrow("gpu leaks").await);
}

#[tokio::test]
async fn leaks_wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "gpu leaks --all -o wide").await);
}

#[tokio::test]
async fn leaks_json() {
    assert_snapshot!(succeed(Surroundings::piped(), "gpu leaks -o json").await);
}

#[tokio::test]
async fn events_in_80_columns() {
    assert_snapshot!(narrow(TRACE).await);
}

#[tokio::test]
async fn events_wide() {
    let command = format!("{TRACE} -o wide");
    assert_snapshot!(succeed(Surroundings::terminal(80), &command).await);
}

#[tokio::test]
async fn events_json() {
    let command = format!("{TRACE} -o json");
    assert_snapshot!(succeed(Surroundings::piped(), &command).await);
}

#[tokio::test]
async fn every_json_line_is_an_object_with_a_type() {
    for (command, types) in [
        ("gpu", ["gpu_device", "gpu_status"]),
        ("gpu pods", ["gpu_share", "gpu_status"]),
        ("gpu processes", ["gpu_process", "gpu_status"]),
        ("gpu idle", ["gpu_share", "gpu_status"]),
        ("gpu health", ["gpu_health", "gpu_status"]),
        ("gpu leaks --all", ["gpu_leak", "gpu_status"]),
        (TRACE, ["gpu", "lost"]),
    ] {
        let text = succeed(Surroundings::piped(), &format!("{command} -o json")).await;
        assert!(text.lines().count() > 1, "{command}");
        for line in text.lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(types.iter().any(|name| object["type"] == *name), "{command}: {line}");
        }
    }
}

/// The rows of a table, by the texts of their first columns.
async fn rows(command: &str) -> Vec<String> {
    let text = succeed(Surroundings::piped(), command).await;
    let rows = text.lines().skip(1).take_while(|line| !line.is_empty());
    let is_row = |line: &&str| !line.starts_with("EVENTS LOST");
    let start = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    rows.filter(is_row).map(start).collect()
}

#[tokio::test]
async fn filters_choose() {
    assert_eq!(rows("gpu --device 2").await, ["2 NVIDIA", "2:0 MIG", "2:1 MIG"]);
    assert_eq!(rows("gpu -n team-a").await, ["1 NVIDIA", "2 NVIDIA", "2:0 MIG"]);
    assert_eq!(
        rows("gpu pods -n team-a").await,
        ["1 team-a/notebook-7", "2:0 team-a/inference-5d9f"]
    );
    assert_eq!(rows("gpu pods --pod llama* --device 0").await, ["0 ml/llama-trainer-0"]);
    assert_eq!(
        rows("gpu pods --device 1b:00.0").await,
        ["0 ml/llama-trainer-0", "0 (unattributed)"]
    );
    assert_eq!(rows("gpu processes --device 2:0").await, ["913 tritonserver"]);
    assert_eq!(rows("gpu health --not -n ml --limit 1").await, ["1 warn"]);
    assert_eq!(rows("gpu leaks -n ml").await, [""; 0]);
    let all = rows("gpu leaks -n ml --all").await;
    assert_eq!(all, ["4711 ml/llama-trainer-0", "4711 ml/llama-trainer-0"], "a place and the rest");
    let xids = rows("trace gpu --last 99 --kinds xid").await;
    assert_eq!(xids.len(), 2);
    assert_eq!(rows("trace gpu --last 99 --kinds xid --at-least reset").await.len(), 1);
    assert_eq!(rows("trace gpu --last 99 --device 2 --kinds appeared,xid").await.len(), 1);
    assert_eq!(rows("trace gpu --last 99 -n default").await.len(), 1);
}

#[tokio::test]
async fn order_is_the_readers() {
    assert_eq!(rows("gpu pods --sort idle --limit 1").await, ["1 team-a/notebook-7"]);
    assert_eq!(rows("gpu pods --sort memory --limit 1").await, ["0 ml/llama-trainer-0"]);
    let smallest = rows("gpu pods --sort utilization --ascending").await;
    assert_eq!(smallest.last().unwrap(), "0 ml/llama-trainer-0");
    let by_owner = rows("gpu pods --sort owner").await;
    assert_eq!(by_owner[1], "1 default/debug", "after what is nobody's");
    for (sort, first) in [
        ("memory", "4711 python"),
        ("utilization", "4711 python"),
        ("launches", "4711 python"),
        ("waited", "4711 python"),
        ("pid", "812 serve"),
    ] {
        let first_row = rows(&format!("gpu processes --sort {sort}")).await.remove(0);
        assert_eq!(first_row, first, "{sort}");
    }
}

#[tokio::test]
async fn flags_become_requests() {
    let agent = FakeAgent::start(script());
    for command in [
        "gpu -n ml --not --pod a --device 0,GPU-*",
        "gpu processes --workload job/x",
        "trace gpu --kinds xid,throttle --at-least reboot --device 3 --last 5 --limit 1",
        "trace gpu --since 1m -f --limit 1 -n team-b",
    ] {
        let outcome = Surroundings::piped().run(&agent.ask(command)).await;
        assert_eq!(outcome.exit, Exit::Success, "{command}: {}", outcome.err);
    }
    let queries = std::mem::take(&mut *agent.heard.gpu_queries.lock().unwrap());
    assert_eq!(queries[0].include[0].namespace, ["ml"]);
    assert_eq!(queries[0].exclude[0].pod, ["a"]);
    assert_eq!(queries[0].devices, ["0", "GPU-*"]);
    assert!(queries[0].without_activity && !queries[1].without_activity);
    let streams = std::mem::take(&mut *agent.heard.gpu_streams.lock().unwrap());
    let kinds = [GpuEventKind::Xid, GpuEventKind::Throttle].map(i32::from);
    assert_eq!((streams[0].kinds.as_slice(), streams[0].last), (kinds.as_slice(), 5));
    assert_eq!(streams[0].at_least(), GpuXidAction::Reboot);
    assert!(streams[0].no_follow && streams[0].devices == ["3"]);
    assert!(!streams[1].no_follow && streams[1].since_time_ns.is_some());
    assert_eq!(streams[1].include[0].namespace, ["team-b"]);
}

#[tokio::test]
async fn bad_flags_say_what_is_meant() {
    for (line, expected) in [
        ("gpu --device gpu0", "give a number (0), a part (0:1), a PCI address"),
        ("gpu pods --sort size", "[possible values: device, memory, utilization, idle, owner]"),
        ("gpu processes --sort size", "[possible values: memory, utilization, launches,"),
        ("gpu --port 80", "workloads have no such thing; it filters their traffic"),
        ("gpu health --check --watch", "cannot be used with"),
        ("trace gpu --kinds xidd", "[possible values: xid, throttle, ecc, row-remap, lost-device,"),
        ("trace gpu --at-least reboots", "[possible values: none, restart-pod, reset, reboot,"),
        ("trace gpu --not -n Ml", "`Ml` is no name in Kubernetes"),
    ] {
        let outcome = Surroundings::piped().run(line).await;
        assert_eq!(outcome.exit, Exit::Usage, "{line}: {}", outcome.err);
        assert!(outcome.err.contains(expected), "{line}: {}", outcome.err);
    }
    let outcome = ask(Surroundings::piped(), "gpu --device 9").await;
    assert_eq!(outcome.exit, Exit::Usage);
    let expected = "`9` is none of the devices that are there: 0, 1, 2, 2:0, 2:1, 3";
    assert!(outcome.err.contains(expected), "{}", outcome.err);
}

#[tokio::test]
async fn a_bad_device_fails_a_check() {
    for (command, exit) in [
        ("gpu health --check", Exit::Failure),
        ("gpu health --check -o json", Exit::Failure),
        ("gpu health", Exit::Success),
        ("gpu health --check --device 0", Exit::Success),
        ("gpu health --check --device 1", Exit::Success),
        ("gpu health --check --device 3", Exit::Failure),
    ] {
        let outcome = ask(Surroundings::piped(), command).await;
        assert_eq!(outcome.exit, exit, "{command}: {}", outcome.err);
        assert!(!outcome.out.is_empty(), "{command}");
    }
    let none = FakeAgent::start(Script { gpu: samples::gpu::none(), ..script() });
    let outcome = Surroundings::piped().run(&none.ask("gpu health --check")).await;
    assert_eq!(outcome.exit, Exit::Failure, "whose driver does not load has no device");
}

#[tokio::test]
async fn a_driver_that_cannot_be_read_fails_a_check() {
    let mut answer = samples::gpu::answer();
    answer.devices.truncate(1);
    for (source, problem, exit) in [
        ("nvml", "", Exit::Success),
        ("nvml", "its driver is another version than its library: reboot", Exit::Failure),
        ("dcgm", "no answer for 2.0 s", Exit::Success),
    ] {
        let mut answer = answer.clone();
        answer.sources = vec![GpuSourceStatus {
            name: source.into(),
            problem: problem.into(),
            failures: 4,
            ..GpuSourceStatus::default()
        }];
        let agent = FakeAgent::start(Script { gpu: answer, ..script() });
        let outcome = Surroundings::piped().run(&agent.ask("gpu health --check")).await;
        assert_eq!(outcome.exit, exit, "{source} {problem}: {}", outcome.out);
    }
}

#[tokio::test]
async fn what_was_long_ago_need_not_count() {
    // Errors were two minutes ago, and device 1 is not well for other reasons too.
    for (command, expected, exit) in [
        (
            "--device 3",
            "XID 79 ×1 (hardware): GPU has fallen off the bus, 2m 7s ago",
            Exit::Failure,
        ),
        ("--device 1 --since 3m", "XID 31 ×2", Exit::Success),
        ("--device 3 --since 3m", "XID 79 ×1", Exit::Failure),
    ] {
        let outcome = ask(Surroundings::piped(), &format!("gpu health --check {command}")).await;
        assert_eq!(outcome.exit, exit, "{command}");
        assert!(outcome.out.contains(expected), "{command}: {}", outcome.out);
    }
    let mut answer = samples::gpu::answer();
    for device in &mut answer.devices {
        device.set_state(orb8_proto::v1::GpuState::Ok);
    }
    let agent = FakeAgent::start(Script { gpu: answer, ..script() });
    for (since, exit) in [("3m", Exit::Failure), ("1m", Exit::Success)] {
        let command = format!("gpu health --check --device 3 --since {since}");
        let outcome = Surroundings::piped().run(&agent.ask(&command)).await;
        assert_eq!(outcome.exit, exit, "{since}: {}", outcome.out);
        assert_eq!(outcome.out.contains("XID 79"), exit == Exit::Failure, "{since}");
    }
}

#[tokio::test]
async fn without_a_device_it_says_what_was_looked_for() {
    let agent = FakeAgent::start(Script { gpu: samples::gpu::none(), ..script() });
    for command in ["gpu", "gpu pods", "gpu processes", "gpu idle", "gpu health", "gpu leaks"] {
        let outcome = Surroundings::piped().run(&agent.ask(command)).await;
        assert_eq!(outcome.exit, Exit::Success, "{command}: {}", outcome.err);
        let said = outcome.out + &outcome.err;
        assert!(said.contains("nvml: libnvidia-ml.so.1 is in none"), "{command}: {said}");
        assert!(said.contains("amd: no AMD device"), "{command}: {said}");
    }
    let absent = SourceStatus {
        state: SourceState::Absent.into(),
        reason: "no accelerator is on this machine".into(),
        ..samples::running("gpu", "")
    };
    let script = Script { gpu: QueryGpuResponse::default(), sources: vec![absent], ..script() };
    let agent = FakeAgent::start(script);
    let outcome = Surroundings::piped().run(&agent.ask("gpu")).await;
    assert_eq!(outcome.exit, Exit::Unavailable);
    let expected = "does not run the gpu signal: no accelerator is on this machine";
    assert!(outcome.err.contains(expected), "{}", outcome.err);
}

#[tokio::test]
async fn only_problems_that_matter_are_told() {
    let said = ask(Surroundings::piped(), "gpu").await.out;
    assert!(said.contains("dcgm: no answer") && !said.contains("amd: "), "{said}");
    assert!(said.contains("given out, and none of these devices: GPU-9cc7"), "{said}");
    let mut answer = samples::gpu::answer();
    answer.time_ns = 0;
    answer.holders.as_mut().unwrap().problem = "the socket does not answer".into();
    answer.watching.as_mut().unwrap().problems = vec!["kernel.perf_event_paranoid".into()];
    answer.watching.as_mut().unwrap().lost = 1234;
    answer.sources.push(GpuSourceStatus::default());
    let agent = FakeAgent::start(Script { gpu: answer, ..script() });
    let said = Surroundings::piped().run(&agent.ask("gpu processes")).await.err;
    for expected in [
        "have not been read yet",
        "holders: the socket does not answer",
        "calls to CUDA: kernel.perf_event_paranoid",
        "calls to CUDA: 1,234 records had no room",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let quiet = Surroundings::piped().run(&agent.ask("gpu processes -q")).await;
    assert!(quiet.err.is_empty(), "{}", quiet.err);
}

#[tokio::test]
async fn what_is_idle_for_less_is_shown_on_demand() {
    let mut answer = samples::gpu::answer();
    for share in answer.devices.iter_mut().flat_map(|device| &mut device.shares) {
        share.idle_long = false;
        if share.standing() == orb8_proto::v1::GpuStanding::Unallocated {
            share.set_standing(orb8_proto::v1::GpuStanding::Active);
        }
    }
    let agent = FakeAgent::start(Script { gpu: answer, ..script() });
    let outcome = Surroundings::piped().run(&agent.ask("gpu idle")).await;
    assert!(
        outcome.err.contains("1 holder is idle for less than --gpu-idle-after"),
        "{}",
        outcome.err
    );
    let all = Surroundings::piped().run(&agent.ask("gpu idle --all")).await;
    assert!(all.out.contains("team-a/notebook-7"), "{}", all.out);
}

#[tokio::test]
async fn a_watched_list_fits_the_screen() {
    let agent = FakeAgent::start(script());
    let line = agent.ask("gpu --watch --interval 100ms --duration 250ms");
    let outcome = Surroundings::terminal(100).run(&line).await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    assert!(outcome.out.starts_with("\x1b[?25l\x1b[2J\x1b[H"), "{:?}", outcome.out);
    let title = "  6 devices by number, 3 busy, 1323W, 1 lost; Ctrl-C ends";
    assert!(outcome.out.lines().next().unwrap().contains(title), "{:?}", outcome.out);
    // 24 lines: a frame may have 23, the last stays empty.
    let frame = outcome.out.split("\x1b[H").nth(1).unwrap();
    assert!((15..24).contains(&frame.lines().count()), "{frame:?}");
    assert!(frame.contains("team-a/inference-5d9f"), "{frame:?}");
}

#[tokio::test]
async fn a_watched_list_says_what_has_no_room() {
    let mut answer = samples::gpu::answer();
    let busy = answer.devices.remove(0);
    let device = |index: u32| {
        let mut device = busy.clone();
        (device.id, device.index) = (format!("GPU-{index}"), Some(index));
        device.shares = vec![busy.shares[0].clone(); 4];
        device
    };
    answer.devices = (0..16).map(device).collect();
    let agent = FakeAgent::start(Script { gpu: answer, ..script() });
    let line = agent.ask("gpu --watch --interval 1h --duration 250ms");
    let outcome = Surroundings::terminal(80).run(&line).await;
    let frame = outcome.out.split("\x1b[H").nth(1).unwrap();
    assert_eq!(frame.lines().count(), 24, "23 lines and what ends them all: {frame:?}");
    let last = frame.lines().rfind(|line| line.contains('…')).unwrap();
    assert!(last.starts_with("… 6 more devices, 75 more lines"), "{frame:?}");
    // 64 pods do not push a problem off the screen.
    assert!(frame.contains("dcgm: no answer"), "{frame:?}");
}

#[tokio::test]
async fn flags_stand_behind_the_list_that_they_are_of() {
    for (line, expected) in [
        ("gpu -n ml pods", "--namespace goes behind `pods`: orb8 gpu pods --namespace"),
        ("gpu --watch health", "--watch goes behind `health`"),
        ("gpu --device 0 idle", "--device goes behind `idle`"),
        ("-n ml gpu pods", "it goes behind the command: orb8 gpu … -n …"),
        ("-A trace gpu", "it goes behind the command: orb8 trace … -A …"),
    ] {
        let outcome = Surroundings::piped().run(line).await;
        assert_eq!(outcome.exit, Exit::Usage, "{line}");
        assert!(outcome.err.contains(expected), "{line}: {}", outcome.err);
    }
    let unknown = Surroundings::piped().run("-z gpu").await.err;
    assert!(!unknown.contains("behind"), "{unknown}");
    // What every command takes stands anywhere.
    let agent = FakeAgent::start(script());
    let outcome = Surroundings::piped().run(&agent.ask("gpu -o json pods")).await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    assert!(outcome.out.starts_with("{\"type\":\"gpu_share\""), "{}", outcome.out);
}

#[tokio::test]
async fn a_trace_has_a_summary() {
    let outcome = ask(Surroundings::piped(), TRACE).await;
    let summary = "13 events (2 xid, 1 throttle, 1 lost-device, 1 appeared, 1 idle, 1 unallocated, \
                   1 allocated, 1 allocation-failed, 1 launches, 1 leak, 1 communicator-init, \
                   1 straggler), 17 events lost\n";
    assert_eq!(outcome.err, summary);
    let agent = FakeAgent::start(Script { end: End::Fails, ..script() });
    let gone = Surroundings::piped().run(&agent.ask("trace gpu")).await;
    assert_eq!(gone.exit, Exit::Unavailable);
    assert!(gone.err.contains("went away: the agent is shutting down"), "{}", gone.err);
}

#[tokio::test]
async fn an_old_agent_is_called_one() {
    let sources = vec![samples::running("flow", "")];
    let old = FakeAgent::start(Script { is_old: true, sources, ..script() });
    for command in ["gpu", "gpu health", "trace gpu"] {
        let outcome = Surroundings::piped().run(&old.ask(command)).await;
        assert_eq!(outcome.exit, Exit::Unavailable, "{command}: {}", outcome.err);
        assert!(outcome.err.contains("signal: it is version 0.1.0, older"), "{}", outcome.err);
    }
}
