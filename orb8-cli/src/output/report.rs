//! Status and diagnosis for people: labelled lines under headings.

use std::fmt::{self, Write};
use std::time::Duration;

use anstyle::Style;
use orb8_proto::units;
use orb8_proto::v1::{
    Accounting, Attachment, Check, CheckState, Cost, GetStatusResponse, Health, Lost, LostSource,
    RingStatus, SourceState, SourceStatus,
};

use super::style::{BAD, GOOD, HEADER, QUIET, WARN, paint};

mod kubernetes;

/// Column where values begin, as far as labels allow.
const LABEL: usize = 18;

/// Uptime from which a share of CPU time says something, nanoseconds.
const STARTING: u64 = 60_000_000_000;

/// Lines of text, with or without colours.
pub(crate) struct Report {
    text: String,
    colors: bool,
    /// Characters per line; `None` where nobody counts them.
    width: Option<usize>,
}

impl Report {
    pub(crate) const fn new(colors: bool, width: Option<usize>) -> Self {
        Self { text: String::new(), colors, width }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// Everything about an agent. The first block is what scripts have always cut out of it, so its
    /// numbers stay plain.
    pub(crate) fn status(&mut self, status: &GetStatusResponse) {
        self.heading("Agent Status");
        self.line(format_args!("{}", "-".repeat(40)));
        self.label("Node", &status.node_name);
        self.label("Version", &status.version);
        let (health, style) = match status.health() {
            Health::Ok => ("OK", GOOD),
            Health::Degraded => ("DEGRADED", WARN),
            Health::Unspecified => ("-", QUIET),
        };
        self.label("Health", &paint(health, style, self.colors));
        self.label("Uptime", &nanos(status.uptime_ns));
        self.label("Events Processed", &status.events_processed.to_string());
        self.count("Events Dropped", status.events_dropped);
        self.label("Pods Tracked", &status.pods_tracked.to_string());
        self.label("Workloads Known", &status.workloads_known.to_string());
        self.label("Active Flows", &status.active_flows.to_string());
        self.label("Subscribers", &status.subscribers.to_string());
        self.label("Kernel", &status.kernel);
        self.accounting(&status.accounting.unwrap_or_default());
        self.cost(&status.cost.unwrap_or_default(), status.uptime_ns);
        self.attachment(status.attachment.as_ref());
        self.sources(&status.sources);
        self.kubernetes(status.kubernetes.as_ref());
        self.amiss(&status.checks);
        self.rings(&status.rings);
    }

    /// What works, what does not, and what to do.
    pub(crate) fn diagnosis(&mut self, status: &GetStatusResponse) {
        if !status.node_name.is_empty() {
            self.label("Node", &status.node_name);
        }
        if !status.kernel.is_empty() {
            self.label("Kernel", &status.kernel);
        }
        self.checks(status.checks.iter());
        self.attachment(status.attachment.as_ref());
        self.sources(&status.sources);
        self.kubernetes(status.kubernetes.as_ref());
    }

    fn accounting(&mut self, accounting: &Accounting) {
        self.section("Accounting");
        self.amount("Counted", accounting.counted_packets, accounting.counted_bytes);
        let lost = amount(accounting.lost_packets, accounting.lost_bytes);
        let style = if accounting.lost_packets == 0 { Style::new() } else { BAD };
        self.label("Lost", &paint(&lost, style, self.colors));
        for (label, packets, bytes) in [
            ("Not IP", accounting.other_packets, accounting.other_bytes),
            ("Malformed", accounting.malformed_packets, accounting.malformed_bytes),
            ("Seen twice", accounting.duplicate_packets, accounting.duplicate_bytes),
        ] {
            if packets > 0 {
                self.amount(label, packets, bytes);
            }
        }
        if accounting.lost_moments > 0 {
            self.count("Moments lost", accounting.lost_moments);
        }
        if accounting.evicted_flows > 0 {
            let evicted = format!(
                "{} flows, {} packets, {}",
                units::count(accounting.evicted_flows),
                units::count(accounting.evicted_packets),
                units::bytes(accounting.evicted_bytes)
            );
            self.label("Evicted", &evicted);
        }
    }

    fn cost(&mut self, cost: &Cost, uptime_ns: u64) {
        self.section("Cost");
        // What starting costs is no share of anything.
        let cpu = match uptime_ns {
            ..STARTING => nanos(cost.cpu_ns),
            uptime => {
                format!("{} ({} of a core)", nanos(cost.cpu_ns), percent(cost.cpu_ns, uptime))
            }
        };
        self.label("CPU", &cpu);
        self.label("Memory", &units::memory(cost.rss_bytes));
        self.label("Kernel maps", &units::memory(cost.map_bytes));
        if let (Some(ns), Some(runs @ 1..)) = (cost.bpf_ns, cost.bpf_runs) {
            self.label("Programs", &format!("{} ns a run, {} runs", ns / runs, units::count(runs)));
        }
    }

    fn attachment(&mut self, attachment: Option<&Attachment>) {
        let Some(attachment) = attachment else { return };
        self.section("Attachment");
        let in_force = match &attachment.requested {
            requested if *requested == attachment.in_force => attachment.in_force.clone(),
            requested => format!("{} (asked for {requested})", attachment.in_force),
        };
        self.label("In force", &in_force);
        if !attachment.reason.is_empty() {
            self.label("Why", &attachment.reason);
        }
        if !attachment.cgroup_root.is_empty() {
            let storage = if attachment.socket_storage { "on" } else { "off" };
            self.label("Sockets", &format!("{}, socket storage {storage}", attachment.cgroup_root));
        }
        if !attachment.interfaces.is_empty() {
            let names: Vec<String> = attachment
                .interfaces
                .iter()
                .map(|interface| format!("{} ({})", interface.name, interface.mechanism))
                .collect();
            self.label("Interfaces", &names.join(", "));
        }
    }

    fn sources(&mut self, sources: &[SourceStatus]) {
        if sources.is_empty() {
            return;
        }
        self.section("Sources");
        for source in sources {
            let state = match source.state() {
                SourceState::Running => paint("running", GOOD, self.colors),
                SourceState::Skipped => paint("skipped", WARN, self.colors),
                SourceState::Absent => "absent".to_owned(),
                SourceState::Unspecified => "-".to_owned(),
            };
            let reason = if source.reason.is_empty() { "" } else { ": " };
            self.label(&source.name, &format!("{state}{reason}{}", source.reason));
        }
    }

    fn rings(&mut self, rings: &[RingStatus]) {
        if rings.is_empty() {
            return;
        }
        self.section("Rings");
        for ring in rings {
            let text = format!(
                "{}, {:.0} % full at most, {} events, {} dropped",
                units::memory(ring.size_bytes),
                ring.utilization * 100.0,
                units::count(ring.events),
                units::count(ring.drops)
            );
            self.label(&ring.probe, &text);
        }
    }

    /// What this node or agent lacks.
    fn amiss(&mut self, checks: &[Check]) {
        let amiss = checks.iter().filter(|check| check.state() != CheckState::Ok);
        if amiss.clone().next().is_some() {
            self.checks(amiss);
        }
    }

    fn checks<'a>(&mut self, checks: impl Iterator<Item = &'a Check> + Clone) {
        self.section("Checks");
        let width = checks.clone().map(|check| check.name.chars().count()).max().unwrap_or(0);
        for check in checks {
            let (state, style) = match check.state() {
                CheckState::Ok => ("ok    ", GOOD),
                CheckState::Absent => ("absent", WARN),
                CheckState::Failed => ("failed", BAD),
                CheckState::Unspecified => ("-     ", QUIET),
            };
            let state = paint(state, style, self.colors);
            let indent = width + "  absent    ".len();
            let detail = wrap(&check.detail, indent, self.width);
            self.line(format_args!("  {state}  {:width$}  {detail}", check.name));
            if !check.remedy.is_empty() {
                let remedy = wrap(&check.remedy, indent + ARROW.chars().count(), self.width);
                let remedy = paint(&format!("{ARROW}{remedy}"), QUIET, self.colors);
                self.line(format_args!("{:indent$}{remedy}", ""));
            }
        }
    }

    fn section(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.line(format_args!(""));
        }
        self.heading(text);
    }

    fn heading(&mut self, text: &str) {
        let heading = paint(text, HEADER, self.colors);
        self.line(format_args!("{heading}"));
    }

    fn label(&mut self, label: &str, value: &str) {
        let label = format!("{label}:");
        let indent = label.chars().count().max(LABEL);
        self.line(format_args!("{label:LABEL$}{}", wrap(value, indent, self.width)));
    }

    /// A number that should be zero.
    fn count(&mut self, label: &str, count: u64) {
        let style = if count == 0 { Style::new() } else { BAD };
        self.label(label, &paint(&count.to_string(), style, self.colors));
    }

    fn amount(&mut self, label: &str, packets: u64, bytes: u64) {
        self.label(label, &amount(packets, bytes));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{}", line.to_string().trim_end());
    }
}

/// What a remedy begins with.
const ARROW: &str = "→ ";

/// Columns that a wrapped text needs: below that, the terminal may break it as it likes.
const NARROW: usize = 20;

/// Breaks a text that begins at a column into lines that begin there too, between words.
pub(crate) fn wrap(text: &str, indent: usize, width: Option<usize>) -> String {
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent));
    if room < NARROW || visible(text) <= room {
        return text.to_owned();
    }
    let mut wrapped = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = visible(word);
        if used > 0 && used + 1 + length > room {
            wrapped.push('\n');
            wrapped.extend(std::iter::repeat_n(' ', indent));
            used = 0;
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += length;
    }
    wrapped
}

/// Counts the characters that are seen: colours are not.
fn visible(text: &str) -> usize {
    let mut in_color = false;
    let seen = |c: &char| {
        let was_in_color = in_color;
        in_color = (was_in_color || *c == '\x1b') && *c != 'm';
        !was_in_color && *c != '\x1b'
    };
    text.chars().filter(seen).count()
}

/// Returns the line that a loss makes in a stream. `in_ring` says what one in the ring means.
pub(crate) fn lost(lost: &Lost, in_ring: &str, colors: bool) -> String {
    let events = units::count(lost.events);
    let text = match lost.source() {
        LostSource::Kernel => format!(
            "EVENTS LOST: KERNEL {} packets, {} are in no flow",
            units::count(lost.packets),
            units::bytes(lost.bytes)
        ),
        LostSource::Ring => {
            format!("EVENTS LOST: RING {events} ({in_ring})")
        }
        LostSource::Subscriber => {
            format!("EVENTS LOST: SUBSCRIBER {events} (this reader is too slow)")
        }
        LostSource::Unspecified => format!("EVENTS LOST: {events}"),
    };
    paint(&text, WARN, colors)
}

fn amount(packets: u64, bytes: u64) -> String {
    format!("{} packets, {}", units::count(packets), units::bytes(bytes))
}

fn nanos(ns: u64) -> String {
    units::duration(Duration::from_nanos(ns))
}

/// Hundredths of a percent are what an idle agent costs.
fn percent(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_between_words_and_hangs() {
        let text = "one two three four five six";
        assert_eq!(wrap(text, 4, Some(24)), "one two three four\n    five six");
        assert_eq!(wrap(text, 4, Some(23)), text, "too narrow to wrap");
        assert_eq!(wrap(text, 4, None), text);
        let long = "https://example.org/a/long/address and more";
        assert_eq!(wrap(long, 2, Some(24)), "https://example.org/a/long/address\n  and more");
        let painted = paint("running", GOOD, true);
        assert_eq!(visible(&painted), 7);
    }
}
