use crossterm::event::{KeyCode, KeyModifiers};
use orb8_proto::v1::{
    QueryFlowsResponse, QueryWorkloadsResponse, SortBy, WorkloadGroup, WorkloadSortBy,
};

use super::*;
use crate::commands::list::List;
use crate::tests::samples;
use crate::top::keys::Step;
use crate::top::poll::Answer;

const SECOND: u64 = 1_000_000_000;

/// A model that is driven.
pub(in crate::top) struct Bench {
    pub(in crate::top) model: Model,
    /// What the agent knows of accelerators; `None` where it does not read any.
    pub(in crate::top) accelerators: Option<QueryGpuResponse>,
    now: u64,
}

impl Bench {
    pub(in crate::top) fn new(size: (u16, u16)) -> Self {
        Self::with(size, false)
    }

    pub(in crate::top) fn with(size: (u16, u16), colors: bool) -> Self {
        let settings = Settings {
            agent: "the agent at node-1:9090".into(),
            include_self: false,
            colors,
            time_zone: TimeZone::UTC,
            interval: SECOND,
        };
        let now = samples::NOON;
        Self { model: Model::new(settings, Tab::Overview, size, now), accelerators: None, now }
    }

    pub(in crate::top) fn press(&mut self, code: KeyCode) -> Option<Effect> {
        self.press_with(code, KeyModifiers::NONE)
    }

    fn press_with(&mut self, code: KeyCode, modifiers: KeyModifiers) -> Option<Effect> {
        self.model.update(Input::Key(KeyEvent::new(code, modifiers)), self.now)
    }

    pub(in crate::top) fn type_text(&mut self, text: &str) {
        for c in text.chars() {
            self.press(KeyCode::Char(c));
        }
    }

    /// Answers all that is asked for, a second later.
    pub(in crate::top) fn answer(&mut self) {
        self.now += SECOND;
        let mut answer = answers(self.model.plan());
        if let Some(known) = &self.accelerators {
            answer.status.sources.retain(|source| source.name != "gpu");
            answer.status.sources.push(samples::running("gpu", ""));
            answer.gpu = answer.gpu.map(|_| Ok(known.clone()));
        }
        self.model.update(Input::Heard(Heard::Answer(Box::new(answer))), self.now);
    }

    pub(in crate::top) fn silence(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
        let reason = "the agent at node-1:9090 went away: connection refused".to_owned();
        self.model.update(Input::Heard(Heard::Silence(reason)), self.now);
    }

    fn tick(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
        self.model.update(Input::Tick, self.now);
    }
}

/// Answers a plan from the samples.
pub(in crate::top) fn answers(plan: &Plan) -> Answer {
    let Asks { totals, workloads, flows, dns, tcp, gpu, forgotten: _ } = &plan.asks;
    let all = |request: &orb8_proto::v1::QueryWorkloadsRequest| {
        let mut answer = samples::workloads::answer();
        let is_wanted = |key: &String| request.keys.is_empty() || request.keys.contains(key);
        answer.workloads.retain(|row| is_wanted(&row.key));
        answer.total_matched = answer.workloads.len() as u64;
        Ok(answer)
    };
    let flow_list = QueryFlowsResponse {
        flows: samples::flows(),
        total_matched: 1_234,
        ..QueryFlowsResponse::default()
    };
    Answer {
        plan: plan.number,
        status: samples::status(),
        totals: totals.as_ref().map(all),
        workloads: workloads.as_ref().map(all),
        flows: flows.as_ref().map(|_| Ok(flow_list)),
        dns: dns.as_ref().map(|_| {
            Ok(orb8_proto::v1::QueryDnsResponse {
                summaries: samples::dns::summaries(),
                total_matched: samples::dns::summaries().len() as u64,
                totals: Some(samples::dns::totals()),
            })
        }),
        tcp: tcp.as_ref().map(|_| {
            Ok(orb8_proto::v1::QueryTcpResponse {
                connections: samples::tcp::connections(),
                total_matched: samples::tcp::connections().len() as u64,
                totals: Some(samples::tcp::totals()),
            })
        }),
        gpu: gpu.as_ref().map(|_| Ok(samples::gpu::none())),
    }
}

#[test]
fn each_tab_asks_for_what_it_shows() {
    let mut bench = Bench::new((80, 24));
    let mut asked = |key: char| {
        bench.press(KeyCode::Char(key));
        let Asks { totals, workloads, flows, dns, tcp, gpu, forgotten: _ } =
            &bench.model.plan().asks;
        [totals, workloads]
            .map(Option::is_some)
            .into_iter()
            .chain([flows.is_some(), dns.is_some(), tcp.is_some(), gpu.is_some()])
            .collect::<Vec<_>>()
    };
    assert_eq!(asked('1'), [false, true, false, true, true, false], "nobody reads accelerators");
    assert_eq!(asked('2'), [true, false, true, false, false, false]);
    assert_eq!(asked('3'), [false, true, false, false, false, false]);
    assert_eq!(asked('4'), [true, false, false, true, false, false]);
    assert_eq!(asked('5'), [true, false, false, false, true, false]);
    assert_eq!(asked('6'), [true, false, false, false, false, true]);
    assert_eq!(asked('7'), [true, false, false, false, false, false]);
}

/// A bench of a node with accelerators, at their tab.
fn gpus() -> Bench {
    let mut bench = Bench::new((80, 24));
    bench.accelerators = Some(samples::gpu::answer());
    bench.press(KeyCode::Char('6'));
    bench.answer();
    bench
}

/// Who has the rows of the accelerators' tab.
fn pods(bench: &Bench) -> Vec<String> {
    let list = &bench.model.gpu;
    let rows = list.answer.as_ref().map(SharesArgs::rows).unwrap_or_default();
    let pod =
        |at: &usize| rows[*at].share.and_then(|share| Some(share.owner.as_ref()?.pod.clone()));
    list.shown.iter().map(|at| pod(at).unwrap_or_default()).collect()
}

#[test]
fn the_overview_asks_for_accelerators_now_and_then_where_they_are_read() {
    let mut bench = Bench::new((80, 24));
    let asked = |bench: &Bench| bench.model.plan().asks.gpu.as_ref().map(|(_, often)| *often);
    bench.answer();
    assert_eq!(asked(&bench), None, "its status says that nobody reads them");
    bench.accelerators = Some(samples::gpu::answer());
    bench.answer();
    assert_eq!(asked(&bench), Some(Often::NowAndThen));
    bench.answer();
    let lost = |bench: &Bench| {
        bench.model.problems.iter().any(|problem| problem.text.starts_with("GPU 3: lost"))
    };
    assert!(lost(&bench), "{:?}", bench.model.problems);
    // Not asked for this time.
    let mut answer = answers(bench.model.plan());
    (answer.gpu, answer.status.sources) = (None, vec![samples::running("gpu", "")]);
    bench.model.update(Input::Heard(Heard::Answer(Box::new(answer.clone()))), bench.now);
    assert!(lost(&bench), "it holds until there is another answer");
    answer.status.sources = vec![samples::skipped("gpu")];
    bench.model.update(Input::Heard(Heard::Answer(Box::new(answer))), bench.now);
    assert!(!lost(&bench), "nobody knows any more");
}

#[test]
fn no_problem_is_told_from_none_that_was_looked_for() {
    let mut bench = Bench::new((80, 24));
    let told = |bench: &mut Bench| {
        bench.press(KeyCode::Char('p'));
        let Some(Overlay::Details { rows, .. }) = bench.model.overlay.take() else {
            panic!("a list");
        };
        rows[0].1.clone()
    };
    bench.press(KeyCode::Char('6'));
    assert_eq!(told(&mut bench), "not looked for yet: 1 shows the overview");
    bench.press(KeyCode::Char('1'));
    bench.answer();
    bench.model.problems.clear();
    assert_eq!(told(&mut bench), "none");
}

#[test]
fn shares_are_sorted_here_even_in_a_pause() {
    let mut bench = gpus();
    let in_order = [
        "llama-trainer-0",
        "",
        "server-0",
        "notebook-7",
        "debug",
        "inference-5d9f",
        "llama-trainer-1",
    ];
    assert_eq!(pods(&bench), in_order);
    bench.press(KeyCode::Char(' '));
    let number = bench.model.plan().number;
    bench.press(KeyCode::Char('s'));
    bench.press(KeyCode::Char('s'));
    assert_eq!(bench.model.gpu.sort().word, "utilization");
    assert_eq!(pods(&bench)[..2], ["llama-trainer-0", "inference-5d9f"]);
    bench.press(KeyCode::Char('s'));
    assert_eq!(pods(&bench)[0], "notebook-7", "the one that is idle");
    bench.press(KeyCode::Char('s'));
    bench.press(KeyCode::Char('s'));
    bench.press(KeyCode::Char('r'));
    assert_eq!(pods(&bench), in_order.into_iter().rev().collect::<Vec<_>>());
    assert_eq!(bench.model.plan().number, number, "nobody was asked");
}

#[test]
fn text_and_flags_choose_among_shares() {
    let mut bench = gpus();
    bench.type_text("/unallocated");
    bench.press(KeyCode::Enter);
    bench.answer();
    assert_eq!(pods(&bench), ["debug"]);
    bench.press(KeyCode::Esc);
    bench.type_text("/-n ml");
    bench.press(KeyCode::Enter);
    let (asked, _) = bench.model.plan().asks.gpu.clone().unwrap();
    assert_eq!(asked.include[0].namespace, ["ml"]);
    bench.answer();
    assert!(!pods(&bench).contains(&String::new()), "what is nobody's is not theirs");
}

/// Another text is no other question to the agent, and wants rows all the same.
#[test]
fn another_text_asks_anew_in_a_pause() {
    for key in ['3', '6'] {
        let mut bench = gpus();
        bench.press(KeyCode::Char(key));
        bench.answer();
        bench.press(KeyCode::Char(' '));
        for text in ["/a", "/b", "/c"] {
            let number = bench.model.plan().number;
            bench.type_text(text);
            bench.press(KeyCode::Enter);
            assert!(bench.model.plan().number > number, "{key} {text}");
        }
    }
}

#[test]
fn a_share_tells_what_its_processes_do() {
    let mut bench = gpus();
    bench.press(KeyCode::Enter);
    let Some(Overlay::Details { rows, .. }) = &bench.model.overlay else { panic!() };
    let told = |name: &str| {
        let from = rows.iter().position(|(of, _)| *of == name).unwrap_or_else(|| panic!("{name}"));
        let more =
            rows[from + 1..].iter().take_while(|(of, text)| of.is_empty() && !text.is_empty());
        let lines = std::iter::once(&rows[from]).chain(more).map(|(_, text)| text.as_str());
        lines.collect::<Vec<_>>().join(" ")
    };
    assert_eq!((told("pid"), told("launches")), ("4711".into(), "~1235".into()));
    let nccl = "ae94423cfbb2ef4a, ready, rank 0 of 8, all-reduce ×12345 98.8GB, rank 5 is 12 behind, \
                no answer from rank 7";
    assert_eq!(told("nccl"), nccl);
    assert!(told("memory from").contains("at::native::empty_cuda"), "{rows:?}");
    assert!(told("not seen").contains("linked statically"), "{rows:?}");
}

#[test]
fn clicks_choose_shares_below_the_devices() {
    let mut bench = gpus();
    let first =
        (0..24).find(|row| bench.model.gpu_areas((80, 24)).row_at(*row) == Some(0)).unwrap();
    bench.model.update(Input::Click(3, first + 2), bench.now);
    assert_eq!(bench.model.gpu.cursor.selected, 2);
    bench.model.update(Input::Click(3, 3), bench.now);
    assert_eq!(bench.model.gpu.cursor.selected, 2, "devices are not chosen");
}

#[test]
fn sorting_is_the_agents() {
    let mut bench = Bench::new((80, 24));
    bench.press(KeyCode::Char('2'));
    let sort = |bench: &Bench| {
        let request = bench.model.plan().asks.flows.clone().unwrap();
        (request.sort_by(), request.ascending)
    };
    assert_eq!(sort(&bench), (SortBy::Rate, false));
    bench.press(KeyCode::Char('s'));
    bench.press(KeyCode::Char('r'));
    assert_eq!(sort(&bench), (SortBy::Bytes, true));
    bench.press(KeyCode::Char('S'));
    bench.press(KeyCode::Char('S'));
    assert_eq!(sort(&bench), (SortBy::FirstSeen, true), "the one before the first is the last");
}

#[test]
fn an_answer_to_an_earlier_question_is_ignored() {
    let mut bench = Bench::new((80, 24));
    let late = answers(bench.model.plan());
    bench.press(KeyCode::Char('3'));
    bench.model.update(Input::Heard(Heard::Answer(Box::new(late))), bench.now);
    assert!(bench.model.workloads.answer.is_none() && bench.model.status.is_none());
    bench.answer();
    assert_eq!(bench.model.workloads.shown.len(), 5);
}

#[test]
fn a_filter_is_asked_for_or_refused() {
    let mut bench = Bench::new((80, 24));
    bench.press(KeyCode::Char('3'));
    bench.type_text("/-n mlx");
    bench.press(KeyCode::Backspace);
    assert!(bench.model.plan().asks.workloads.as_ref().unwrap().include.is_empty(), "not yet");
    bench.press(KeyCode::Enter);
    let asked = bench.model.plan().asks.workloads.clone().unwrap();
    assert_eq!(asked.include[0].namespace, ["ml"]);
    assert!(bench.model.plan().asks.totals.is_some(), "all are more than those that match");
    assert!(bench.model.prompt.is_none());

    bench.type_text("/ --port 53");
    bench.press(KeyCode::Enter);
    let Some(Prompt::Filter { text, error: Some(error) }) = &bench.model.prompt else {
        panic!("{:?}", bench.model.prompt);
    };
    assert_eq!(text, "-n ml --port 53", "it is there to be corrected");
    assert!(error.contains("workloads have no such thing"), "{error}");
    bench.press(KeyCode::Esc);
    assert_eq!(bench.model.workloads.filter.text, "-n ml", "nothing has changed");
    bench.press(KeyCode::Esc);
    assert_eq!(bench.model.workloads.filter.text, "", "there was nothing else to go back from");
}

#[test]
fn text_chooses_among_the_rows() {
    let mut bench = Bench::new((80, 24));
    bench.press(KeyCode::Char('3'));
    bench.type_text("/SSH");
    bench.press(KeyCode::Enter);
    bench.answer();
    let keys: Vec<_> = bench.model.workloads.selected().into_iter().map(|row| &row.key).collect();
    assert_eq!(keys, ["cgroup:/system.slice/ssh.service"]);
    assert_eq!(bench.model.workloads.shown.len(), 1);
}

#[test]
fn a_selected_row_stays_selected_where_rows_move() {
    let mut bench = Bench::new((80, 24));
    bench.press(KeyCode::Char('3'));
    bench.answer();
    bench.press(KeyCode::Down);
    bench.press(KeyCode::Down);
    let selected = |bench: &Bench| bench.model.workloads.selected().unwrap().key.clone();
    let before = selected(&bench);
    let mut answer = answers(bench.model.plan());
    if let Some(Ok(QueryWorkloadsResponse { workloads, .. })) = &mut answer.workloads {
        workloads.reverse();
    }
    bench.model.update(Input::Heard(Heard::Answer(Box::new(answer.clone()))), bench.now);
    assert_eq!(selected(&bench), before);
    bench.press(KeyCode::Home);
    let top = selected(&bench);
    if let Some(Ok(QueryWorkloadsResponse { workloads, .. })) = &mut answer.workloads {
        workloads.reverse();
    }
    bench.model.update(Input::Heard(Heard::Answer(Box::new(answer))), bench.now);
    assert_ne!(selected(&bench), top, "who looks at the top goes on to do so");
}

#[test]
fn a_workload_opens_and_closes() {
    let mut bench = Bench::new((80, 24));
    bench.answer();
    bench.press(KeyCode::Enter);
    let asks = bench.model.plan().asks.clone();
    let asked = asks.workloads.unwrap();
    assert_eq!(asked.keys, ["ml/PyTorchJob/llama"]);
    assert!(asked.peers > 0);
    let flows = asks.flows.unwrap();
    assert_eq!(flows.include[0].workload, ["PyTorchJob/llama"]);
    bench.answer();
    let focus = bench.model.focus.as_ref().unwrap();
    assert_eq!((focus.summary.peers.len(), focus.flows.shown.len()), (4, 0), "none is its own");
    bench.press(KeyCode::Char('o'));
    assert_eq!(bench.model.focus.as_ref().unwrap().pane, crate::top::focus::Pane::Flows);
    bench.press(KeyCode::Esc);
    assert!(bench.model.focus.is_none() && bench.model.tab == Tab::Overview);
}

#[test]
fn a_row_shows_all_that_is_known() {
    let mut bench = Bench::new((80, 24));
    bench.press(KeyCode::Char('2'));
    bench.answer();
    bench.press(KeyCode::Enter);
    let Some(Overlay::Details { rows, .. }) = &bench.model.overlay else { panic!() };
    assert!(rows.contains(&("bytes", "98.8GB".to_owned())), "{rows:?}");
    bench.press(KeyCode::Esc);
    assert!(bench.model.overlay.is_none());
}

#[test]
fn a_pause_asks_once_and_no_more() {
    let mut bench = Bench::new((80, 24));
    bench.answer();
    bench.press(KeyCode::Char(' '));
    assert!(bench.model.plan().is_paused);
    bench.tick(60);
    assert_eq!(bench.model.overdue(), None, "nobody is waited for");
    let number = bench.model.plan().number;
    bench.press(KeyCode::Char('5'));
    assert!(bench.model.plan().number > number && bench.model.plan().is_paused);
    bench.press(KeyCode::Char(' '));
    assert!(!bench.model.plan().is_paused);
    bench.tick(1);
    assert_eq!(bench.model.overdue(), None, "it was asked a second ago");
}

#[test]
fn silence_is_told_and_ends() {
    let mut bench = Bench::new((80, 24));
    bench.tick(1);
    assert_eq!(bench.model.overdue(), None);
    bench.tick(4);
    assert_eq!(bench.model.overdue(), Some(5 * SECOND));
    bench.answer();
    assert_eq!(bench.model.overdue(), None);
    bench.silence(1);
    assert!(bench.model.overdue().is_some(), "a refusal needs no waiting");
    assert_eq!(bench.model.overview.shown.len(), 5, "what was known stays");
    bench.tick(60);
    bench.press(KeyCode::Char('5'));
    assert_eq!(bench.model.overdue(), Some(61 * SECOND), "a key makes it no younger");
    bench.answer();
    assert_eq!((bench.model.overdue(), bench.model.link.silence.clone()), (None, None));
}

#[test]
fn workloads_are_grouped_by_a_key() {
    let mut bench = Bench::new((80, 24));
    bench.press(KeyCode::Char('3'));
    let group = |bench: &Bench| bench.model.plan().asks.workloads.as_ref().unwrap().group_by();
    for expected in [WorkloadGroup::Workload, WorkloadGroup::Pod, WorkloadGroup::Container] {
        assert_eq!(group(&bench), expected);
        bench.press(KeyCode::Char('g'));
    }
    assert_eq!(group(&bench), WorkloadGroup::Workload);
    let sort = bench.model.plan().asks.workloads.as_ref().unwrap().sort_by();
    assert_eq!(sort, WorkloadSortBy::Rate);
}

#[test]
fn keys_end_it_or_ask_for_a_format() {
    let mut bench = Bench::new((80, 24));
    assert_eq!(bench.press(KeyCode::Char('e')), None);
    assert_eq!(bench.press(KeyCode::Char('y')), Some(Effect::Export(FileFormat::Yaml)));
    bench.press(KeyCode::Char('e'));
    assert_eq!(bench.press(KeyCode::Char('q')), None, "it leaves the question");
    bench.press(KeyCode::Char('/'));
    assert_eq!(bench.press(KeyCode::Char('q')), None, "it is typed");
    assert_eq!(bench.press_with(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Effect::Quit));
    let mut bench = Bench::new((80, 24));
    assert_eq!(bench.press(KeyCode::Char('m')), Some(Effect::Mouse(true)));
    assert_eq!(bench.press(KeyCode::Char('q')), Some(Effect::Quit));
}

#[test]
fn a_key_right_after_escape_is_a_key() {
    let mut bench = Bench::new((80, 24));
    bench.answer();
    bench.press(KeyCode::Enter);
    bench.press_with(KeyCode::Char('4'), KeyModifiers::ALT);
    assert!(bench.model.focus.is_none() && bench.model.tab == Tab::Dns);
    bench.type_text("/x");
    assert_eq!(bench.press_with(KeyCode::Char('q'), KeyModifiers::ALT), Some(Effect::Quit));
}

#[test]
fn the_mouse_chooses_tabs_and_rows() {
    let mut bench = Bench::new((80, 24));
    let mut click = |column, row| {
        bench.model.update(Input::Click(column, row), bench.now);
    };
    let tab = areas::NAME.len() as u16 + " 1 overview ".len() as u16 + 1;
    click(tab, 0);
    click(0, 6);
    assert_eq!((bench.model.tab, bench.model.flows.cursor.selected), (Tab::Flows, 0), "no rows");
    bench.answer();
    bench.model.update(Input::Click(3, 6), bench.now);
    assert_eq!(bench.model.flows.cursor.selected, 2);
    bench.model.update(Input::Wheel { is_up: false }, bench.now);
    assert_eq!(bench.model.flows.cursor.selected, 5);
}

#[test]
fn no_size_and_no_key_breaks_it() {
    let steps = [Step::Down, Step::PageDown, Step::Last, Step::PageUp, Step::First];
    let codes =
        [KeyCode::Enter, KeyCode::Esc, KeyCode::Tab, KeyCode::Char('?'), KeyCode::Char('o')];
    let mut bench = Bench::new((80, 24));
    for size in [(0, 0), (1, 1), (20, 5), (40, 10), (80, 24), (300, 100)] {
        bench.model.update(Input::Resize(size.0, size.1), bench.now);
        for _ in Tab::ALL {
            bench.answer();
            for code in codes {
                bench.press(code);
                steps.into_iter().for_each(|step| bench.model.step(step));
                bench.answer();
            }
            bench.press(KeyCode::Esc);
            bench.press(KeyCode::Tab);
        }
    }
}

#[test]
fn rates_are_sampled_once_an_interval() {
    let mut bench = Bench::new((80, 24));
    (0..3).for_each(|_| bench.answer());
    assert_eq!(bench.model.history.sent.last(4), [0, 1_234_569_410, 1_234_569_410, 1_234_569_410]);
    // A key that asks anew is no new second.
    bench.press(KeyCode::Char('s'));
    let answer = answers(bench.model.plan());
    bench.model.update(Input::Heard(Heard::Answer(Box::new(answer))), bench.now);
    assert_eq!(bench.model.history.sent.last(4)[0], 0);
}
