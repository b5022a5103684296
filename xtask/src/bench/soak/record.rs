//! What the scrapes said, and whether that is as it should be.

use std::{collections::HashMap, fmt};

use anyhow::Result;

use super::pods::LIFE;
use crate::bench::{
    agent::{Agent, Metrics},
    stats::median,
};

/// A pod's series go so long after the pod, and the agent looks every few seconds: those of what
/// came within this time may be there.
const SERIES_LIFE: u32 = LIFE + 60 + 15;
/// Until pods' series, closed connections and idle flows go as fast as they come.
const WARM_UP: usize = SERIES_LIFE as usize + 5;
/// Of the two ends of the main load, of names, and of nobody.
const OTHER_SERIES: f64 = 20.0;
/// Seconds that are taken together: what one scrape needs for a moment is no growth.
const WINDOW: usize = 10;
/// Part of the memory that it may be off by.
const FLAT: f64 = 0.05;
/// A scrape's connection, and one that is about to end.
const DESCRIPTORS: usize = 4;

/// One second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    resident_mib: f64,
    descriptors: usize,
    series: f64,
    flows: f64,
    lost: f64,
}

pub(super) struct Record {
    pods: u32,
    seconds: Vec<Second>,
    /// Values of counters in the last scrape.
    counters: HashMap<String, f64>,
    /// Counters that went back, in words.
    went_back: Vec<String>,
}

/// The verdict.
pub(super) struct Report {
    pub(super) figures: String,
    /// What is not as it should be, in words.
    pub(super) wrong: Vec<String>,
}

impl Record {
    /// Of a run in which so many pods come each second.
    pub(super) fn new(pods: u32) -> Self {
        Self { pods, seconds: Vec::new(), counters: HashMap::new(), went_back: Vec::new() }
    }

    pub(super) fn take(&mut self, agent: &Agent) -> Result<()> {
        let metrics = agent.metrics()?;
        let (resident_mib, _) = agent.resident_mib()?;
        self.seconds.push(Second {
            resident_mib,
            descriptors: agent.descriptors()?,
            series: metrics.get("orb8_metrics_series")?,
            flows: metrics.get("orb8_agent_flows")?,
            lost: metrics.get("orb8_agent_lost_packets_total")?,
        });
        self.compare(&metrics);
        Ok(())
    }

    /// Notes counters that are less than they were.
    fn compare(&mut self, metrics: &Metrics) {
        let before = std::mem::take(&mut self.counters);
        for (series, value) in metrics.series().filter(|(series, _)| is_counter(series)) {
            if before.get(series).is_some_and(|before| value < *before) {
                self.went_back.push(format!("{series}: {} and then {value}", before[series]));
            }
            self.counters.insert(series.to_owned(), value);
        }
    }

    /// The last second, in words.
    pub(super) fn last(&self) -> impl fmt::Display {
        let Second { resident_mib, descriptors, series, flows, lost } =
            self.seconds.last().copied().unwrap_or_default();
        format!(
            "RSS {resident_mib:.1} MiB, {descriptors} descriptors, {series:.0} label sets, \
             {flows:.0} flows, {lost:.0} packets lost"
        )
    }

    pub(super) fn report(&self) -> Report {
        let is_long = self.seconds.len() > WARM_UP + 2 * WINDOW;
        // A short run shows that the parts work; what it may conclude is less.
        let warm_up = if is_long { WARM_UP } else { self.seconds.len() / 2 };
        let warm = &self.seconds[warm_up..];
        let mut wrong = Vec::new();
        let memory: Vec<f64> = warm.iter().map(|second| second.resident_mib).collect();
        let windows: Vec<f64> = memory.chunks(WINDOW).filter_map(median).collect();
        let middle = median(&memory).unwrap_or(f64::NAN);
        let off = windows.iter().map(|window| (window / middle - 1.0).abs()).fold(0.0, f64::max);
        if is_long && off > FLAT {
            wrong.push(format!("RSS is off by {:.1} %: {windows:.1?} MiB", off * 100.0));
        }
        let (least, most) = range(warm.iter().map(|second| second.descriptors as f64));
        if most - least > DESCRIPTORS as f64 {
            wrong.push(format!("descriptors: {least} to {most}"));
        }
        let (_, series) = range(self.seconds.iter().map(|second| second.series));
        let bound = f64::from(self.pods * SERIES_LIFE) + OTHER_SERIES;
        if series > bound {
            wrong.push(format!("{series} label sets, where {bound} have reason to be there"));
        }
        let lost = self.seconds.last().map_or(0.0, |second| second.lost);
        if lost > 0.0 {
            wrong.push(format!("{lost} packets were lost"));
        }
        if self.counters.is_empty() {
            wrong.push("no counter was scraped".to_owned());
        }
        wrong.extend(self.went_back.iter().map(|what| format!("a counter went back: {what}")));
        let figures = format!(
            "after {warm_up} s of warm-up: RSS {middle:.1} MiB ± {:.1} %, {least:.0} to {most:.0} \
             descriptors; at most {series:.0} label sets of {bound:.0}; {} counters, none of which \
             may go back; {lost:.0} packets lost",
            off * 100.0,
            self.counters.len(),
        );
        Report { figures, wrong }
    }
}

/// Whether a series of that name and labels only grows.
fn is_counter(series: &str) -> bool {
    let name = series.split('{').next().unwrap_or(series);
    ["_total", "_count", "_bucket", "_sum"].iter().any(|end| name.ends_with(end))
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
        (least.min(value), most.max(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(resident: impl Fn(usize) -> f64) -> Record {
        let second = |at| Second {
            resident_mib: resident(at),
            descriptors: 40 + at % 2,
            series: 100.0,
            flows: 1000.0,
            lost: 0.0,
        };
        let counters = HashMap::from([("a_total".to_owned(), 1.0)]);
        Record { pods: 2, seconds: (0..300).map(second).collect(), counters, went_back: Vec::new() }
    }

    #[test]
    fn what_stays_is_well() {
        // A warm-up, and now and then a scrape that is caught in the act.
        let report = record(|at| match at {
            ..60 => 20.0 + at as f64 / 6.0,
            _ => 30.0 + if at % 7 == 0 { 3.0 } else { 0.0 },
        })
        .report();
        assert!(report.wrong.is_empty(), "{:?}", report.wrong);
    }

    #[test]
    fn what_grows_is_told() {
        let mut leaking = record(|at| 30.0 + at as f64 / 50.0);
        leaking.seconds[299].descriptors = 60;
        leaking.seconds[200].series = 10_000.0;
        leaking.seconds[299].lost = 3.0;
        let wrong = leaking.report().wrong;
        for word in ["RSS", "descriptors", "label sets", "lost"] {
            assert!(wrong.iter().any(|line| line.contains(word)), "{word}: {wrong:?}");
        }
    }

    #[test]
    fn a_counter_that_goes_back_is_told() {
        let mut record = record(|_| 30.0);
        for text in ["a_total 5\nb 7\n", "a_total 4\nb 3\n", "c_total{x=\"1\"} 2\n"] {
            record.compare(&Metrics::from(text));
        }
        assert_eq!(record.went_back, ["a_total: 5 and then 4"]);
    }
}
