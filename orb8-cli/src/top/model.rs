//! What the screen shows, and what keys and answers make of it. Nothing here asks, draws or waits.

use crossterm::event::{KeyEvent, KeyEventKind};
use jiff::tz::TimeZone;
use orb8_proto::columns::Format;
use orb8_proto::v1::{
    GetStatusResponse, QueryGpuRequest, QueryGpuResponse, WorkloadGroup, WorkloadSummary,
};

use super::Tab;
use super::export::FileFormat;
use super::focus::Focus;
use super::list::{Cursor, ListTab};
use super::poll::{Asks, Heard, Often, Plan};
use super::problems::Problem;
use super::trail::{Growth, Meter, Trail};
use super::view::areas;
use crate::args::{DnsTopArgs, FlowsArgs, SharesArgs, TcpTopArgs, WorkloadsArgs};

mod act;
mod answer;
mod gpu;
#[cfg(test)]
pub(in crate::top) mod tests;

/// How long a message stays, nanoseconds.
const NOTE: u64 = 10_000_000_000;

/// What does not change while the screen is open.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Who is asked.
    pub(super) agent: String,
    pub(super) include_self: bool,
    pub(super) colors: bool,
    pub(super) time_zone: TimeZone,
    /// Nanoseconds.
    pub(super) interval: u64,
}

/// Something that happened.
#[derive(Debug)]
pub(super) enum Input {
    Key(KeyEvent),
    /// A row and column that someone clicked on.
    Click(u16, u16),
    Wheel {
        is_up: bool,
    },
    Resize(u16, u16),
    Heard(Heard),
    /// Time passed.
    Tick,
    /// What became of an export, or of anything else that was to be done.
    Note(String),
}

/// What is to be done that the model cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    Export(FileFormat),
    Mouse(bool),
    Clear,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Model {
    pub(super) settings: Settings,
    pub(super) size: (u16, u16),
    pub(super) tab: Tab,
    /// The workloads that move most.
    pub(super) overview: ListTab<WorkloadsArgs>,
    pub(super) flows: ListTab<FlowsArgs>,
    pub(super) workloads: ListTab<WorkloadsArgs>,
    pub(super) dns: ListTab<DnsTopArgs>,
    pub(super) tcp: ListTab<TcpTopArgs>,
    /// Who has what of each accelerator; its answer has the accelerators too.
    pub(super) gpu: ListTab<SharesArgs>,
    /// Accelerators as the overview last heard of them.
    accelerators: Option<QueryGpuResponse>,
    pub(super) group: WorkloadGroup,
    pub(super) focus: Option<Focus>,
    pub(super) overlay: Option<Overlay>,
    pub(super) prompt: Option<Prompt>,
    /// Unix time in nanoseconds until which it is shown.
    pub(super) note: Option<(String, u64)>,
    pub(super) link: Link,
    pub(super) status: Option<GetStatusResponse>,
    /// What the agent says of itself, as `orb8 status` prints it.
    pub(super) report: Vec<String>,
    pub(super) report_cursor: Cursor,
    /// What all workloads do.
    pub(super) totals: Option<WorkloadSummary>,
    pub(super) history: History,
    pub(super) problems: Vec<Problem>,
    growth: Growth,
    pub(super) is_paused: bool,
    pub(super) mouse: bool,
    pub(super) now_ns: u64,
    plan: Plan,
}

/// What is above the tab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Overlay {
    Help(Cursor),
    /// All that is known of a row, as of when it was opened.
    Details {
        title: String,
        rows: Vec<(&'static str, String)>,
        cursor: Cursor,
    },
}

/// What the last line asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    Filter { text: String, error: Option<String> },
    Export,
}

/// How the agent answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// Unix time in nanoseconds of the last answer; 0 before the first.
    pub(super) heard_ns: u64,
    /// Unix time in nanoseconds since which one is waited for.
    pub(super) waiting_ns: u64,
    /// Why there is none.
    pub(super) silence: Option<String>,
}

/// Rates of the last minutes.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) sent: Trail,
    pub(super) received: Trail,
    pub(super) packets: Trail,
    pub(super) queries: Trail,
    pub(super) resent: Trail,
    /// The latest of the last two.
    pub(super) queries_rate: Option<u64>,
    pub(super) resent_rate: Option<u64>,
    queries_meter: Meter,
    resent_meter: Meter,
    /// Unix time in nanoseconds of the last sample: a key that asks anew is no new second.
    sampled_ns: u64,
}

impl Model {
    pub(super) fn new(settings: Settings, tab: Tab, size: (u16, u16), now_ns: u64) -> Self {
        let link = Link { waiting_ns: now_ns, ..Link::default() };
        let mut model = Self {
            settings,
            size,
            tab,
            overview: ListTab::default(),
            flows: ListTab::default(),
            workloads: ListTab::default(),
            dns: ListTab::default(),
            tcp: ListTab::default(),
            gpu: ListTab::default(),
            accelerators: None,
            group: WorkloadGroup::Workload,
            focus: None,
            overlay: None,
            prompt: None,
            note: None,
            link,
            status: None,
            report: Vec::new(),
            report_cursor: Cursor::default(),
            totals: None,
            history: History::default(),
            problems: Vec::new(),
            growth: Growth::default(),
            is_paused: false,
            mouse: false,
            now_ns,
            plan: Plan::default(),
        };
        model.plan.asks = model.asks();
        model
    }

    /// Begins every tab with a filter.
    pub(super) fn filter_all(&mut self, text: &str) -> Result<(), String> {
        self.overview.set_filter(text)?;
        self.flows.set_filter(text)?;
        self.workloads.set_filter(text)?;
        self.dns.set_filter(text)?;
        self.tcp.set_filter(text)?;
        self.gpu.set_filter(text)?;
        self.replan();
        Ok(())
    }

    /// Takes what happened, and returns what is to be done about it.
    pub(super) fn update(&mut self, input: Input, now_ns: u64) -> Option<Effect> {
        self.now_ns = now_ns;
        if self.note.as_ref().is_some_and(|(_, until)| *until <= now_ns) {
            self.note = None;
        }
        let effect = match input {
            Input::Key(key) if key.kind == KeyEventKind::Release => None,
            Input::Key(key) => self.press(key),
            Input::Click(column, row) => {
                self.click(column, row);
                None
            }
            Input::Wheel { is_up } => {
                self.wheel(is_up);
                None
            }
            Input::Resize(width, height) => {
                self.resize((width, height));
                None
            }
            Input::Heard(heard) => {
                self.hear(heard);
                None
            }
            Input::Tick => None,
            Input::Note(text) => {
                self.note = Some((text, now_ns.saturating_add(NOTE)));
                None
            }
        };
        self.replan();
        effect
    }

    /// Returns what is to be asked now.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns how long no answer came that was due, nanoseconds; `None` where none is overdue.
    pub(super) fn overdue(&self) -> Option<u64> {
        if self.is_paused && self.link.silence.is_none() {
            return None;
        }
        let since = self.link.heard_ns.max(self.link.waiting_ns);
        let waited = self.now_ns.saturating_sub(since);
        let is_overdue = waited > self.settings.interval.saturating_mul(2).max(2_000_000_000);
        (is_overdue || self.link.silence.is_some()).then_some(waited)
    }

    /// Rows of a list that fit the screen.
    pub(super) fn page(&self) -> usize {
        areas::rows(self.size).into()
    }

    pub(super) fn format(&self) -> Format {
        Format {
            numeric: false,
            names: true,
            time_zone: self.settings.time_zone.clone(),
            now_ns: self.now_ns,
        }
    }

    fn resize(&mut self, size: (u16, u16)) {
        self.size = size;
        self.write_report();
        let page = self.page();
        let focus_page = areas::focus_rows(size);
        let gpu_page = self.gpu_page();
        let Self { overview, flows, workloads, dns, tcp, gpu, focus, .. } = self;
        overview.cursor.follow(overview.shown.len(), areas::overview_rows(size).into());
        flows.cursor.follow(flows.shown.len(), page);
        workloads.cursor.follow(workloads.shown.len(), page);
        dns.cursor.follow(dns.shown.len(), page);
        tcp.cursor.follow(tcp.shown.len(), page);
        gpu.cursor.follow(gpu.shown.len(), gpu_page);
        if let Some(focus) = focus {
            focus.flows.cursor.follow(focus.flows.shown.len(), focus_page.1.into());
            focus.peers.follow(focus.summary.peers.len(), focus_page.0.into());
        }
    }

    /// Asks for what is shown now.
    fn replan(&mut self) {
        let asks = self.asks();
        let is_new = asks != self.plan.asks;
        let is_changed = is_new || self.plan.is_paused != self.is_paused;
        self.plan.asks = asks;
        self.plan.number += u64::from(is_new);
        self.plan.is_paused = self.is_paused;
        // A key makes no silence younger.
        if is_changed && self.link.silence.is_none() {
            self.link.waiting_ns = self.now_ns;
        }
    }

    fn asks(&self) -> Asks {
        let include_self = self.settings.include_self;
        let group = self.group.into();
        let totals = ListTab::<WorkloadsArgs>::default().request(include_self, 0);
        let totals = orb8_proto::v1::QueryWorkloadsRequest { limit: 1, ..totals };
        let one =
            |limited: bool| Asks { totals: limited.then(|| totals.clone()), ..Asks::default() };
        if let Some(focus) = &self.focus {
            return Asks {
                workloads: Some(focus.workloads_request(include_self)),
                flows: Some(focus.flows_request(include_self)),
                ..one(true)
            };
        }
        // Unfiltered, the rows bring what they add up to.
        match self.tab {
            Tab::Overview => Asks {
                workloads: Some(self.overview.request(include_self, group)),
                dns: Some(orb8_proto::v1::QueryDnsRequest { limit: 1, ..Default::default() }),
                tcp: Some(orb8_proto::v1::QueryTcpRequest { limit: 1, ..Default::default() }),
                gpu: self.watches_gpus().then(|| (QueryGpuRequest::default(), Often::NowAndThen)),
                forgotten: self.overview.forgotten,
                ..one(!self.overview.filter.text.is_empty())
            },
            Tab::Workloads => Asks {
                workloads: Some(self.workloads.request(include_self, group)),
                forgotten: self.workloads.forgotten,
                ..one(!self.workloads.filter.text.is_empty())
            },
            Tab::Flows => Asks {
                flows: Some(self.flows.request(include_self, group)),
                forgotten: self.flows.forgotten,
                ..one(true)
            },
            Tab::Dns => Asks {
                dns: Some(self.dns.request(include_self, group)),
                forgotten: self.dns.forgotten,
                ..one(true)
            },
            Tab::Tcp => Asks {
                tcp: Some(self.tcp.request(include_self, group)),
                forgotten: self.tcp.forgotten,
                ..one(true)
            },
            Tab::Gpu => Asks {
                gpu: Some((self.gpu.request(include_self, group), Often::Always)),
                forgotten: self.gpu.forgotten,
                ..one(true)
            },
            Tab::Agent => one(true),
        }
    }
}
