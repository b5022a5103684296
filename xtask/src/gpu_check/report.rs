//! What was found, as the tables of docs/benchmarks.md.

use anyhow::{Context, Result};
use orb8_proto::v1::{GpuDevice, GpuProcess};

use super::agent::Cost;
use super::overhead::Overhead;
use super::smi;
use super::torch::Count;
use crate::bench::report::{Table, put_between};
use crate::bench::stats::median;
use crate::bench::targets::Target;
use crate::workspace::root;

/// Bytes of a mebibyte.
const MIB: f64 = 1_048_576.0;

pub(super) struct Report {
    machine: String,
    tables: Vec<Table>,
}

impl Report {
    pub(super) fn new(
        devices: &[smi::Device],
        versions: String,
        date: Option<&str>,
    ) -> Result<Self> {
        let device = devices.first().context("nvidia-smi lists no device")?;
        let date = match date {
            Some(date) => date.to_owned(),
            None => jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        };
        let count = devices.len();
        let machine =
            format!("{count} × {}, driver {}, {versions}, {date}.", device.name, device.driver);
        Ok(Self { machine, tables: Vec::new() })
    }

    /// Compares devices, figure by figure. What moves from one moment to the next may differ by so much.
    pub(super) fn figures(&mut self, told: &[GpuDevice], smi: &[smi::Device]) {
        let note = format!(
            "{} **Figures** of the agent beside those of `nvidia-smi`, read one after the other.",
            self.machine
        );
        let header = &["GPU", "figure", "orb8", "nvidia-smi", "may differ by"];
        let mut table = Table::new(note, header);
        for known in smi {
            let device = told.iter().find(|device| device.id == known.uuid);
            let is_there = if device.is_some() { 0.0 } else { 1.0 };
            let cells = ["uuid", device.map_or("–", |it| &*it.id), &known.uuid, "0"];
            table.row(row(known.index, cells), &[("", is_there, Target::AtMost(0.0, ""))]);
            let Some(sample) = device.and_then(|device| device.sample.as_ref()) else { continue };
            let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / MIB);
            let number = |number: Option<u32>| number.map(f64::from);
            let figures = [
                ("memory, MiB", mib(sample.memory_total_bytes), known.memory_total, 1.0),
                ("memory used, MiB", mib(sample.memory_used_bytes), known.memory_used, 64.0),
                (
                    "utilization, %",
                    sample.utilization.map(|ratio| ratio * 100.0),
                    known.utilization,
                    25.0,
                ),
                ("temperature, °C", sample.temperature, known.temperature, 3.0),
                ("power, W", sample.power_watts, known.power, 60.0),
                ("SM clock, MHz", number(sample.sm_clock), known.sm_clock, 300.0),
                ("memory clock, MHz", number(sample.memory_clock), known.memory_clock, 100.0),
                (
                    "PCIe generation at most",
                    number(sample.pcie_max_generation),
                    known.max_generation,
                    0.0,
                ),
                ("PCIe lanes at most", number(sample.pcie_max_width), known.max_width, 0.0),
                (
                    "uncorrected errors",
                    sample.ecc.and_then(|ecc| ecc.uncorrected).map(|count| count as f64),
                    known.uncorrected,
                    0.0,
                ),
            ];
            for (figure, ours, theirs, slack) in figures {
                // What one of them has and the other has not is a difference as well.
                let difference = match (ours, theirs) {
                    (Some(ours), Some(theirs)) => (ours - theirs).abs(),
                    (None, None) => 0.0,
                    (Some(_), None) | (None, Some(_)) => f64::INFINITY,
                };
                let text =
                    |value: Option<f64>| value.map_or("–".to_owned(), |it| format!("{it:.1}"));
                let cells = [figure, &text(ours), &text(theirs), &format!("{slack}")];
                let target = Target::AtMost(slack, "");
                table.row(row(known.index, cells), &[("difference", difference, target)]);
            }
        }
        self.tables.push(table);
    }

    /// Whether the processes that use a device are seen on one.
    pub(super) fn processes(&mut self, told: &[GpuProcess], known: &[u32]) {
        let note = "**Processes** that use a device, and whether the agent sees them.".to_owned();
        let mut table = Table::new(note, &["processes", "seen", "with memory"]);
        let seen = |pid: &&u32| told.iter().any(|process| process.pid == **pid);
        let with_memory =
            |pid: &&u32| told.iter().any(|it| it.pid == **pid && it.memory_bytes.is_some());
        let (seen, with) =
            (known.iter().filter(seen).count(), known.iter().filter(with_memory).count());
        let cells = vec![known.len().to_string(), seen.to_string(), with.to_string()];
        let missing = (known.len() - seen) as f64;
        table.row(cells, &[("missing", missing, Target::AtMost(0.0, ""))]);
        self.tables.push(table);
    }

    /// Calls that are known, and those that were counted.
    pub(super) fn counts(&mut self, counts: &[Count]) {
        let note = "**Calls** of a PyTorch program that counts them itself.".to_owned();
        let mut table = Table::new(note, &["what", "known", "orb8", "sampled"]);
        for Count { what, known, told, sampled } in counts {
            let off = (*told as f64 - *known as f64).abs() / *known as f64;
            // What was looked at in a part of the time is an estimate.
            let most = if *sampled { 0.05 } else { 0.0 };
            let yes = if *sampled { "yes" } else { "no" };
            let cells =
                vec![(*what).to_owned(), known.to_string(), told.to_string(), yes.to_owned()];
            table.row(cells, &[("off by", off * 100.0, Target::AtMost(most * 100.0, " %"))]);
        }
        self.tables.push(table);
    }

    /// What the agent takes.
    pub(super) fn cost(&mut self, cost: &Cost) {
        let note = "**The agent** with `--signals gpu`, while the program waits.".to_owned();
        let mut table = Table::new(note, &["CPU", "RSS", "probes", "of them expensive"]);
        let percent = cost.cpu * 100.0;
        let cells = vec![
            format!("{percent:.2} %"),
            format!("{:.1} MiB", cost.resident),
            cost.watching.probes.to_string(),
            cost.watching.expensive.to_string(),
        ];
        table.row(cells, &[("CPU", percent, Target::AtMost(0.5, " %"))]);
        self.tables.push(table);
    }

    /// What being watched costs.
    pub(super) fn overhead(&mut self, loops: &[Overhead]) {
        let note =
            "**What being watched costs** a PyTorch loop: its rate with the agent, over the \
                    mean of those right before and after without it; the median of pairs."
                .to_owned();
        let mut table = Table::new(note, &["loop", "iterations/s", "pairs", "with the agent"]);
        for Overhead { what, rate, ratios, target } in loops {
            let ratio = median(ratios).unwrap_or(f64::NAN);
            let cells = vec![
                (*what).to_owned(),
                format!("{rate:.0}"),
                ratios.len().to_string(),
                format!("{ratio:.4}"),
            ];
            let overhead = (1.0 - ratio) * 100.0;
            table.row(cells, &[("overhead", overhead, Target::AtMost(target * 100.0, " %"))]);
        }
        self.tables.push(table);
    }

    /// Prints it, and puts it where it belongs.
    pub(super) fn write(&self, print_only: bool) -> Result<()> {
        let rendered = crate::bench::report::render(&self.tables);
        println!("{rendered}");
        if print_only {
            return Ok(());
        }
        let path = root().join("docs/benchmarks.md");
        let page = std::fs::read_to_string(&path)?;
        Ok(std::fs::write(&path, put_between(&page, "gpu", &rendered)?)?)
    }
}

fn row(index: u32, cells: [&str; 4]) -> Vec<String> {
    [index.to_string()].into_iter().chain(cells.map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use orb8_proto::v1::GpuSample;

    use super::*;

    fn report() -> Report {
        Report { machine: "1 × H100.".to_owned(), tables: Vec::new() }
    }

    fn rows(report: &Report) -> String {
        crate::bench::report::render(&report.tables)
    }

    #[test]
    fn a_figure_that_one_of_them_lacks_is_a_difference() {
        let known = smi::Device {
            uuid: "GPU-1".to_owned(),
            memory_total: Some(81_559.0),
            power: Some(70.0),
            ..smi::Device::default()
        };
        let sample = GpuSample { memory_total_bytes: Some(81_559 << 20), ..GpuSample::default() };
        let told =
            GpuDevice { id: "GPU-1".to_owned(), sample: Some(sample), ..GpuDevice::default() };
        let mut both = report();
        both.figures(&[told], std::slice::from_ref(&known));
        let text = rows(&both);
        let line = |text: &str, what: &str| {
            text.lines().find(|line| line.contains(what)).unwrap_or_default().to_owned()
        };
        assert!(line(&text, "memory, MiB").ends_with("| yes |"), "{text}");
        assert!(line(&text, "power, W").contains("| **no"), "{text}");
        assert!(line(&text, "temperature").ends_with("| yes |"), "neither has it: {text}");
        let mut none = report();
        none.figures(&[], &[known]);
        let text = rows(&none);
        assert!(line(&text, "uuid").contains("| **no"), "{text}");
    }

    #[test]
    fn exact_counts_may_not_differ_and_sampled_ones_a_little() {
        let count = |told, sampled| Count { what: "launches", known: 1000, told, sampled };
        for (told, sampled, met) in
            [(1000, false, "yes"), (999, false, "**no"), (970, true, "yes"), (900, true, "**no")]
        {
            let mut report = report();
            report.counts(&[count(told, sampled)]);
            let text = rows(&report);
            let last = text.trim_end().lines().last().unwrap_or_default();
            assert!(last.contains(&format!("| {met}")), "{told} {sampled}: {text}");
        }
    }

    #[test]
    fn the_page_has_a_place_for_it() {
        let page = include_str!("../../../docs/benchmarks.md");
        let page = put_between(page, "gpu", "what was found").unwrap();
        assert!(page.contains("what was found") && !page.contains("not run on a GPU"));
    }
}
