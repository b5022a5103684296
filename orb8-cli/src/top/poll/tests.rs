use std::path::{Path, PathBuf};

use clap::Parser;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::*;
use crate::args::Cli;
use crate::connection::Fallback;
use crate::tests::agent::{FakeAgent, Script};
use crate::tests::console;
use crate::tests::samples;

const INTERVAL: Duration = Duration::from_millis(20);

/// Something in between that can be taken away.
struct Link {
    path: PathBuf,
    agent: PathBuf,
    task: Option<JoinHandle<()>>,
}

impl Link {
    fn new(folder: &Path, agent: &Path) -> Self {
        let mut link = Self { path: folder.join("link.sock"), agent: agent.to_owned(), task: None };
        link.connect();
        link
    }

    fn connect(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).unwrap();
        let agent = self.agent.clone();
        self.task = Some(tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let agent = agent.clone();
                open.spawn(async move {
                    let mut far = UnixStream::connect(agent).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        }));
    }

    fn cut(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
        // Its connections end with it.
        self.task.take().unwrap().abort();
    }
}

async fn connect(path: &Path) -> Connection {
    let agent = format!("--agent=unix:{}", path.display());
    let cli = Cli::try_parse_from(["orb8", &agent, "--timeout=500ms", "status"]).unwrap();
    let mut console = console();
    Connection::open(&cli.global, Fallback::None, &mut console).await.unwrap()
}

fn plan(number: u64) -> Plan {
    let asks = Asks {
        workloads: Some(QueryWorkloadsRequest { limit: 10, ..Default::default() }),
        ..Asks::default()
    };
    Plan { number, asks, is_paused: false }
}

async fn next(heard: &mut mpsc::Receiver<Heard>) -> Heard {
    tokio::time::timeout(Duration::from_secs(20), heard.recv()).await.unwrap().unwrap()
}

fn script() -> Script {
    Script { workloads: samples::workloads::answer(), ..Script::default() }
}

#[tokio::test]
async fn an_agent_that_comes_back_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(script());
    let mut link = Link::new(folder.path(), &agent.socket());
    let connection = connect(&link.path).await;
    let (plans, plan_seen) = watch::channel(plan(1));
    let (sender, mut heard) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let task = tokio::spawn(poll(connection, plan_seen, sender, INTERVAL, stop.clone()));

    let Heard::Answer(answer) = next(&mut heard).await else { panic!("it is there") };
    assert_eq!((answer.plan, answer.status.node_name.as_str()), (1, "worker-1"));
    assert_eq!(answer.workloads.unwrap().unwrap().workloads.len(), 5);
    assert!(answer.flows.is_none(), "nobody asked");

    link.cut();
    let reason = loop {
        if let Heard::Silence(reason) = next(&mut heard).await {
            break reason;
        }
    };
    assert!(reason.contains("the agent at unix:") && !reason.contains('\n'), "{reason}");

    link.connect();
    while matches!(next(&mut heard).await, Heard::Silence(_)) {}
    plans.send(plan(2)).unwrap();
    while !matches!(next(&mut heard).await, Heard::Answer(answer) if answer.plan == 2) {}
    stop.cancel();
    task.await.unwrap().close().await;
}

#[test]
fn now_and_then_is_with_new_questions_and_every_few_seconds() {
    let begin = Instant::now();
    let mut rarely = Rarely::default();
    let gpu = Some((QueryGpuRequest::default(), Often::NowAndThen));
    let asked =
        |number| Plan { asks: Asks { gpu: gpu.clone(), ..Asks::default() }, ..plan(number) };
    assert!(rarely.is_due(1, Often::NowAndThen, begin));
    rarely.note(&plan(1), begin);
    assert!(rarely.is_due(1, Often::NowAndThen, begin), "it was not among the questions");
    rarely.note(&asked(1), begin);
    let soon = begin + NOW_AND_THEN / 2;
    assert!(!rarely.is_due(1, Often::NowAndThen, soon));
    assert!(rarely.is_due(1, Often::Always, soon) && rarely.is_due(2, Often::NowAndThen, soon));
    assert!(rarely.is_due(1, Often::NowAndThen, begin + NOW_AND_THEN));
}

#[tokio::test]
async fn accelerators_are_asked_for_now_and_then() {
    let agent = FakeAgent::start(script());
    let connection = connect(&agent.socket()).await;
    let asks =
        Asks { gpu: Some((QueryGpuRequest::default(), Often::NowAndThen)), ..Asks::default() };
    let (_plans, plan_seen) = watch::channel(Plan { asks, ..plan(1) });
    let (sender, mut heard) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let task = tokio::spawn(poll(connection, plan_seen, sender, INTERVAL, stop.clone()));
    let mut told = Vec::new();
    while told.len() < 5 {
        let Heard::Answer(answer) = next(&mut heard).await else { panic!("it is there") };
        told.push(answer.gpu.is_some());
    }
    assert_eq!(told, [true, false, false, false, false]);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn an_older_agent_answers_what_it_knows() {
    let agent = FakeAgent::start(Script { is_old: true, ..script() });
    let mut connection = connect(&agent.socket()).await;
    let Heard::Answer(answer) = ask(&mut connection, &plan(1)).await else { panic!() };
    let refusal = answer.workloads.unwrap().unwrap_err();
    assert!(refusal.contains("it is version 0.1.0, update it"), "{refusal}");
}

#[tokio::test]
async fn a_pause_asks_no_more() {
    let agent = FakeAgent::start(script());
    let connection = connect(&agent.socket()).await;
    let (plans, plan_seen) = watch::channel(Plan { is_paused: true, ..plan(1) });
    let (sender, mut heard) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let task = tokio::spawn(poll(connection, plan_seen, sender, INTERVAL, stop.clone()));
    next(&mut heard).await;
    tokio::time::sleep(INTERVAL * 10).await;
    assert!(heard.try_recv().is_err());
    plans.send(plan(1)).unwrap();
    next(&mut heard).await;
    next(&mut heard).await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_slow_agent_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(script());
    let mut link = Link::new(folder.path(), &agent.socket());
    let connection = connect(&link.path).await;
    // It takes connections, and never answers.
    link.cut();
    let _silent = UnixListener::bind(&link.path).unwrap();
    let (_plans, plan_seen) = watch::channel(plan(1));
    let (sender, mut heard) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let task = tokio::spawn(poll(connection, plan_seen, sender, INTERVAL, stop.clone()));
    assert!(matches!(next(&mut heard).await, Heard::Silence(_)), "it gives up after --timeout");
    stop.cancel();
    let stopped = tokio::time::timeout(Duration::from_millis(200), task).await;
    assert!(stopped.is_ok(), "in the middle of a question too");
}
