//! What goes wrong, worst first: what is down, what grows, what once happened.

use std::cmp::Reverse;

use orb8_proto::columns::workload::workload;
use orb8_proto::columns::{HOST, Tone};
use orb8_proto::units;
use orb8_proto::v1::{
    CheckState, GetStatusResponse, KubernetesState, QueryDnsResponse, QueryGpuResponse,
    QueryTcpResponse, SourceState, WorkloadSummary,
};

use super::trail::Growth;

mod accelerators;

/// Workloads that are named for one kind of trouble.
const WORST: usize = 5;

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) tone: Tone,
    pub(super) text: String,
    rank: Rank,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Something is broken now.
    Down,
    /// It happened in the last minute.
    Growing,
    /// Something that was wanted does not run, or not as it should.
    Missing,
    /// It happened once.
    Past,
}

/// What is looked at for problems.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) status: &'a GetStatusResponse,
    pub(super) workloads: &'a [WorkloadSummary],
    pub(super) dns: Option<&'a QueryDnsResponse>,
    pub(super) tcp: Option<&'a QueryTcpResponse>,
    pub(super) gpu: Option<&'a QueryGpuResponse>,
    pub(super) now_ns: u64,
}

/// Finds the problems there are.
pub(super) fn find(known: &Known<'_>, growth: &mut Growth) -> Vec<Problem> {
    let mut found = Found { problems: Vec::new(), growth, now_ns: known.now_ns };
    found.agent(known.status);
    found.kubernetes(known.status);
    found.losses(known);
    found.workloads(known.workloads);
    if let Some(tcp) = known.tcp {
        found.tcp(tcp);
    }
    if let Some(gpu) = known.gpu {
        found.accelerators(gpu);
    }
    found.growth.forget(known.now_ns);
    let mut problems = found.problems;
    problems.sort_by_key(|problem| problem.rank);
    problems
}

struct Found<'a> {
    problems: Vec<Problem>,
    growth: &'a mut Growth,
    now_ns: u64,
}

impl Found<'_> {
    fn add(&mut self, rank: Rank, tone: Tone, text: String) {
        self.problems.push(Problem { tone, text, rank });
    }

    /// Adds a count that should be zero, unless it is; returns whether it grew.
    fn count(&mut self, key: &str, count: u64, tone: Tone, text: impl FnOnce(String) -> String) {
        if count == 0 {
            return;
        }
        let text = text(units::count(count));
        match self.growth.note(key, self.now_ns, count) {
            0 => self.add(Rank::Past, Tone::Quiet, text),
            more => {
                let text = format!("{text}, {} in the last minute", units::count(more));
                self.add(Rank::Growing, tone, text);
            }
        }
    }

    fn agent(&mut self, status: &GetStatusResponse) {
        for check in status.checks.iter().filter(|check| check.state() == CheckState::Failed) {
            self.add(Rank::Down, Tone::Bad, format!("{}: {}", check.name, check.detail));
        }
        for source in &status.sources {
            match source.state() {
                SourceState::Skipped => {
                    let text = format!("{} is skipped: {}", source.name, source.reason);
                    self.add(Rank::Missing, Tone::Warn, text);
                }
                SourceState::Running if !source.reason.is_empty() => {
                    let text = format!("of {}: {}", source.name, source.reason);
                    self.add(Rank::Missing, Tone::Warn, text);
                }
                SourceState::Running | SourceState::Absent | SourceState::Unspecified => {}
            }
        }
    }

    fn kubernetes(&mut self, status: &GetStatusResponse) {
        let Some(kubernetes) = &status.kubernetes else { return };
        match kubernetes.state() {
            KubernetesState::Disconnected => {
                let down = kubernetes.watches.iter().filter(|watch| !watch.connected);
                let down: Vec<&str> = down.map(|watch| watch.resource.as_str()).collect();
                let watches = match down.is_empty() {
                    true => String::new(),
                    false => format!(" (watches of {})", down.join(", ")),
                };
                let text = format!("Kubernetes is disconnected{watches}: {}", kubernetes.reason);
                self.add(Rank::Down, Tone::Bad, text);
            }
            KubernetesState::Syncing => {
                self.add(Rank::Missing, Tone::Warn, "Kubernetes has not told all yet".to_owned());
            }
            KubernetesState::Connected | KubernetesState::Off | KubernetesState::Unspecified => {}
        }
    }

    fn losses(&mut self, known: &Known<'_>) {
        let accounting = known.status.accounting.unwrap_or_default();
        let lost = accounting.lost_packets;
        self.count("lost", lost, Tone::Bad, |count| format!("{count} packets are in no flow"));
        for ring in &known.status.rings {
            let key = format!("ring {}", ring.probe);
            let name = &ring.probe;
            self.count(&key, ring.drops, Tone::Bad, |count| {
                format!("the ring of {name} dropped {count} events")
            });
        }
        let evicted = accounting.evicted_flows;
        self.count("evicted", evicted, Tone::Warn, |count| {
            format!("{count} flows had to go for want of room: see --max-flows")
        });
        if let Some(totals) = known.dns.and_then(|dns| dns.totals) {
            let lost = totals.lost_messages;
            self.count("dns lost", lost, Tone::Bad, |count| {
                format!("{count} DNS messages are lost")
            });
        }
    }

    fn workloads(&mut self, all: &[WorkloadSummary]) {
        type Count = fn(&WorkloadSummary) -> u64;
        let errors: Count = |row| row.dns.as_ref().map_or(0, |dns| dns.errors);
        let timeouts: Count = |row| row.dns.as_ref().map_or(0, |dns| dns.timeouts);
        let resent: Count = |row| row.tcp.as_ref().map_or(0, |tcp| tcp.retransmits);
        for (what, tone, count) in [
            ("DNS errors", Tone::Bad, errors),
            ("DNS timeouts", Tone::Bad, timeouts),
            ("segments sent again", Tone::Warn, resent),
        ] {
            let mut worst: Vec<&WorkloadSummary> =
                all.iter().filter(|row| count(row) > 0).collect();
            worst.sort_by_key(|row| Reverse(count(row)));
            for row in worst.into_iter().take(WORST) {
                let name = match &row.workload {
                    Some(of) if of.cgroup_path == "/" => HOST.to_owned(),
                    of => workload(of.as_ref()),
                };
                let key = format!("{what} {}", row.key);
                let of = match what {
                    "DNS errors" => row.dns.as_ref().map(|dns| dns.responses),
                    _ => None,
                };
                self.count(&key, count(row), tone, |count| match of {
                    Some(all) => format!("{name}: {count} {what} of {}", units::count(all)),
                    None => format!("{name}: {count} {what}"),
                });
            }
        }
    }

    fn tcp(&mut self, tcp: &QueryTcpResponse) {
        let Some(totals) = &tcp.totals else { return };
        for drop in &totals.drops {
            let reason = &drop.reason;
            self.count(&format!("drop {reason}"), drop.packets, Tone::Warn, |count| {
                format!("the kernel dropped {count} packets: {reason}")
            });
        }
        for (key, count, tone, text) in [
            ("overflows", totals.overflows, Tone::Bad, "connections refused in full queues"),
            ("failures", totals.failures, Tone::Warn, "connects failed"),
            ("tcp lost", totals.lost_events, Tone::Bad, "TCP events are lost"),
        ] {
            self.count(key, count, tone, |count| format!("{count} {text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use orb8_proto::v1::{Accounting, Kubernetes, RingStatus, SourceStatus, WorkloadDns};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn status(lost: u64) -> GetStatusResponse {
        GetStatusResponse {
            accounting: Some(Accounting { lost_packets: lost, ..Accounting::default() }),
            ..GetStatusResponse::default()
        }
    }

    fn texts(status: &GetStatusResponse, at: u64, growth: &mut Growth) -> Vec<(Tone, String)> {
        let known =
            Known { status, workloads: &[], dns: None, tcp: None, gpu: None, now_ns: at * SECOND };
        find(&known, growth).into_iter().map(|problem| (problem.tone, problem.text)).collect()
    }

    #[test]
    fn nothing_wrong_is_no_problem() {
        assert!(texts(&status(0), 1, &mut Growth::default()).is_empty());
    }

    #[test]
    fn what_happened_once_is_quiet_until_it_happens_again() {
        let mut growth = Growth::default();
        let once = texts(&status(7), 1, &mut growth);
        assert_eq!(once, [(Tone::Quiet, "7 packets are in no flow".to_owned())]);
        let again = texts(&status(10), 2, &mut growth);
        let expected = "10 packets are in no flow, 3 in the last minute";
        assert_eq!(again, [(Tone::Bad, expected.to_owned())]);
    }

    #[test]
    fn what_is_down_comes_first() {
        let mut status = status(7);
        status.sources = vec![SourceStatus {
            name: "tcp".into(),
            state: SourceState::Skipped.into(),
            reason: "no BTF".into(),
        }];
        status.rings = vec![RingStatus { probe: "dns".into(), drops: 2, ..RingStatus::default() }];
        status.kubernetes = Some(Kubernetes {
            state: KubernetesState::Disconnected.into(),
            reason: "refused".into(),
            ..Kubernetes::default()
        });
        let texts = texts(&status, 1, &mut Growth::default());
        let starts = ["Kubernetes is disconnected: refused", "tcp is skipped: no BTF", "7 packets"];
        for (text, start) in texts.iter().zip(starts) {
            assert!(text.1.starts_with(start), "{text:?}");
        }
        assert_eq!(texts.len(), 4);
    }

    #[test]
    fn the_worst_workloads_are_named() {
        let row = |key: &str, errors| WorkloadSummary {
            key: key.into(),
            dns: Some(WorkloadDns { errors, responses: 40, ..WorkloadDns::default() }),
            ..WorkloadSummary::default()
        };
        let rows: Vec<_> = (0..9).map(|errors| row(&errors.to_string(), errors)).collect();
        let status = status(0);
        let known =
            Known { status: &status, workloads: &rows, dns: None, tcp: None, gpu: None, now_ns: 1 };
        let found = find(&known, &mut Growth::default());
        assert_eq!(found.len(), WORST);
        assert_eq!(found[0].text, "(unknown): 8 DNS errors of 40");
    }
}
