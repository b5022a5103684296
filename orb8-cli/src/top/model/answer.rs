//! What answers make of the model.

use orb8_proto::v1::WorkloadSummary;

use super::{History, Model};
use crate::output::report::Report;
use crate::top::Tab;
use crate::top::poll::{Answer, Heard};
use crate::top::problems::{self, Known};
use crate::top::view::areas;

impl Model {
    pub(super) fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Silence(reason) => self.link.silence = Some(reason),
            // Of what is not shown any more.
            Heard::Answer(answer) if answer.plan != self.plan.number => {}
            Heard::Answer(answer) => self.take(*answer),
        }
    }

    fn take(&mut self, answer: Answer) {
        let Answer { plan: _, status, totals, workloads, flows, dns, tcp, gpu } = answer;
        self.link.silence = None;
        self.link.heard_ns = self.now_ns;
        self.status = Some(status);
        self.write_report();
        // What is not asked for by itself comes with all workloads.
        if let Some(Ok(all)) = totals.as_ref().or(workloads.as_ref()) {
            self.totals.clone_from(&all.totals);
        }
        if self.is_time_to_sample() {
            self.history.sample(self.totals.as_ref(), self.now_ns);
        }
        let (format, page) = (self.format(), self.page());
        let focus_page = areas::focus_rows(self.size).1.into();
        if let Some(focus) = &mut self.focus {
            if let Some(part) = workloads {
                focus.take(part);
            }
            if let Some(part) = flows {
                focus.take_flows(part, &format, focus_page);
            }
            return;
        }
        match self.tab {
            Tab::Overview => {
                self.take_overview(Answer { workloads, dns, tcp, gpu, ..Answer::default() });
            }
            Tab::Flows => {
                flows.into_iter().for_each(|part| self.flows.take(part, &format, page));
            }
            Tab::Workloads => {
                workloads.into_iter().for_each(|part| self.workloads.take(part, &format, page));
            }
            Tab::Dns => dns.into_iter().for_each(|part| self.dns.take(part, &format, page)),
            Tab::Tcp => tcp.into_iter().for_each(|part| self.tcp.take(part, &format, page)),
            Tab::Gpu => gpu.into_iter().for_each(|part| self.take_gpu(part, &format)),
            Tab::Agent => {}
        }
    }

    fn take_overview(&mut self, answer: Answer) {
        let Answer { workloads, dns, tcp, gpu, .. } = answer;
        // It comes now and then: meanwhile what was said holds, as long as somebody watches them.
        match gpu {
            Some(part) => self.accelerators = part.ok(),
            None if !self.watches_gpus() => self.accelerators = None,
            None => {}
        }
        let (dns, tcp) = (dns.and_then(Result::ok), tcp.and_then(Result::ok));
        let queries = dns.as_ref().and_then(|dns| dns.totals).map(|totals| totals.queries);
        let resent = tcp.as_ref().and_then(|tcp| tcp.totals.as_ref());
        let resent = resent.map(|totals| totals.retransmitted_segments);
        self.history.meter(queries, resent, self.now_ns);
        let status = self.status.take().unwrap_or_default();
        let known = Known {
            status: &status,
            workloads: match &workloads {
                Some(Ok(answer)) => &answer.workloads,
                Some(Err(_)) | None => &[],
            },
            dns: dns.as_ref(),
            tcp: tcp.as_ref(),
            gpu: self.accelerators.as_ref(),
            now_ns: self.now_ns,
        };
        self.problems = problems::find(&known, &mut self.growth);
        self.status = Some(status);
        let (format, page) = (self.format(), areas::overview_rows(self.size).into());
        workloads.into_iter().for_each(|part| self.overview.take(part, &format, page));
    }

    /// Whether about an interval has passed since the last sample.
    fn is_time_to_sample(&self) -> bool {
        let since = self.now_ns.saturating_sub(self.history.sampled_ns);
        since.saturating_mul(4) >= self.settings.interval.saturating_mul(3)
    }

    /// Writes what `orb8 status` would print.
    pub(super) fn write_report(&mut self) {
        let Some(status) = &self.status else { return };
        let mut report = Report::new(self.settings.colors, Some(self.size.0.into()));
        report.status(status);
        self.report = report.into_text().lines().map(str::to_owned).collect();
        let last = self.report.len().saturating_sub(areas::body(self.size).into());
        self.report_cursor.offset = self.report_cursor.offset.min(last);
    }
}

impl History {
    fn sample(&mut self, totals: Option<&WorkloadSummary>, now_ns: u64) {
        let Some(totals) = totals else { return };
        let (sent, received) =
            (totals.sent.unwrap_or_default(), totals.received.unwrap_or_default());
        self.sampled_ns = now_ns;
        self.sent.push(sent.bytes_per_second);
        self.received.push(received.bytes_per_second);
        self.packets.push(sent.packets_per_second.saturating_add(received.packets_per_second));
    }

    /// Takes counts since the agent's start. What happened while nobody asked is spread over that time.
    fn meter(&mut self, queries: Option<u64>, resent: Option<u64>, now_ns: u64) {
        if let Some(rate) = queries.and_then(|count| self.queries_meter.note(now_ns, count)) {
            self.queries.push(rate);
            self.queries_rate = Some(rate);
        }
        if let Some(rate) = resent.and_then(|count| self.resent_meter.note(now_ns, count)) {
            self.resent.push(rate);
            self.resent_rate = Some(rate);
        }
    }
}
