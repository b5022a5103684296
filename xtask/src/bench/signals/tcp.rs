//! What the programs of `tcp` take for a segment. Most segments run none of them.

use std::fs;

use anyhow::{Context, Result};
use orb8_agent::event::Signal;

use crate::bench::{
    agent::{Agent, Signals},
    interrupt::pause,
    lab::{Lab, Netns},
    plan::Plan,
    programs::{Hook, Statistics, attach_operations},
    report::Table,
    stats::median,
    workload::{Load, Place, Workload},
};

const CASES: [Workload; 3] = [Workload::TcpPing, Workload::TcpBulk, Workload::TcpShort];

/// How the names of `sock_ops` programs begin, as far as the kernel keeps them: those that do nothing
/// and the agent's.
const EMPTY: &[&str] = &["bench_empty_ope"];
const OPERATIONS: &[&str] = &["tcp_operations"];
/// All of the signal's.
const ALL: &[&str] = &["tcp_"];

/// One window's figures.
#[derive(Clone, Copy)]
struct Figures {
    /// Of the `sock_ops` program.
    ns_per_run: f64,
    runs_per_segment: f64,
    /// Of all programs.
    ns_per_segment: f64,
    segments: f64,
    rate: f64,
}

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Table> {
    let note = "**Programs of `tcp`**, in an agent with `--signals tcp`. No program runs per packet: \
                `tcp_operations` runs with each sample of the round-trip time, and when a connection \
                opens or closes; the rest are tracepoints and the iterator that reads the sockets. \
                `empty` asks for the same callbacks and does nothing with them. Segments are those \
                that the kernel counts (`InSegs` and `OutSegs`) in the namespace of both ends, over \
                loopback, so one that is sent and received counts twice; of what is sent as one \
                packet and split later, each part counts. The statistics themselves are part of \
                every figure but the differences."
        .to_owned();
    let header = &[
        "traffic",
        "programs",
        "ns per run of `tcp_operations`",
        "over empty",
        "runs per segment",
        "ns per segment, all programs",
        "over empty",
        "segments",
        "traffic's rate",
    ];
    let mut table = Table::new(note, header);
    for workload in CASES {
        eprintln!("signals: tcp, {}", workload.name());
        measure_case(lab, plan, workload, &mut table)?;
    }
    Ok(table)
}

fn measure_case(lab: &Lab, plan: &Plan, workload: Workload, table: &mut Table) -> Result<()> {
    let (mut empty, mut agent) = (Vec::new(), Vec::new());
    for round in 0..plan.signal_rounds {
        // Which comes first changes, so that neither always does.
        for step in 0..2 {
            if (round + step) % 2 == 0 {
                empty.push(with_empty(lab, plan, workload)?);
            } else {
                agent.push(with_agent(lab, plan, workload)?);
            }
        }
    }
    let of = |figures: &[Figures], value: fn(&Figures) -> f64| {
        let values: Vec<f64> = figures.iter().map(value).collect();
        median(&values).unwrap_or(f64::NAN)
    };
    let over = |value: fn(&Figures) -> f64| {
        let differences: Vec<f64> =
            agent.iter().zip(&empty).map(|(agent, empty)| value(agent) - value(empty)).collect();
        format!("{:+.1}", median(&differences).unwrap_or(f64::NAN))
    };
    for (name, figures) in [("empty", &empty), ("`tcp`", &agent)] {
        let over = |value| if name == "empty" { "–".to_owned() } else { over(value) };
        let cells = vec![
            workload.name(),
            name.to_owned(),
            format!("{:.0}", of(figures, |figures| figures.ns_per_run)),
            over(|figures| figures.ns_per_run),
            format!("{:.3}", of(figures, |figures| figures.runs_per_segment)),
            format!("{:.1}", of(figures, |figures| figures.ns_per_segment)),
            over(|figures| figures.ns_per_segment),
            format!("{:.0}k/s", of(figures, |figures| figures.segments) / 1e3),
            workload.rate(of(figures, |figures| figures.rate)),
        ];
        table.row(cells, &[]);
    }
    Ok(())
}

fn with_empty(lab: &Lab, plan: &Plan, workload: Workload) -> Result<Figures> {
    let _attached = attach_operations(&lab.pods)?;
    let programs = Statistics::of(std::process::id(), EMPTY)?;
    measure_window(lab, plan, workload, &programs, &programs)
}

fn with_agent(lab: &Lab, plan: &Plan, workload: Workload) -> Result<Figures> {
    let agent = Agent::start(lab, Hook::Socket, Signals::Only(Signal::Tcp), &[])?;
    let (operations, all) = (agent.statistics(OPERATIONS)?, agent.statistics(ALL)?);
    measure_window(lab, plan, workload, &operations, &all)
}

/// The traffic starts here: sockets have callbacks only if a program saw them open.
fn measure_window(
    lab: &Lab,
    plan: &Plan,
    workload: Workload,
    operations: &Statistics,
    all: &Statistics,
) -> Result<Figures> {
    let mut load = Load::start(lab, workload, Place::Loopback, 0)?;
    pause(plan.settling)?;
    let mut snapshot = || -> Result<_> {
        Ok((operations.read()?, all.read()?, segments(&lab.client)?, load.sent()?))
    };
    let before = snapshot()?;
    pause(plan.window)?;
    let after = snapshot()?;
    let (operations, all) = (after.0 - before.0, after.1 - before.1);
    let segments = (after.2 - before.2) as f64;
    let seconds = plan.window.as_secs_f64();
    Ok(Figures {
        ns_per_run: operations.per_run().context("no program ran for the sockets")?,
        runs_per_segment: operations.runs as f64 / segments,
        ns_per_segment: all.ns as f64 / segments,
        segments: segments / seconds,
        rate: (after.3 - before.3) as f64 / seconds,
    })
}

/// Segments that the namespace received and sent.
fn segments(netns: &Netns) -> Result<u64> {
    netns.run(|| {
        let text = fs::read_to_string("/proc/thread-self/net/snmp")?;
        segments_in(&text).context("the kernel counts no segments")
    })
}

/// The names are on a line, and the values on the next.
fn segments_in(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let at = names.split(' ').position(|name| name == wanted)?;
        values.split(' ').nth(at)?.parse::<u64>().ok()
    };
    Some(value("InSegs")? + value("OutSegs")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_those_in_and_out() {
        let text = "Ip: Forwarding\nIp: 1\nTcp: RtoMax InSegs OutSegs InErrs\nTcp: 120 40 2 7\n";
        assert_eq!(segments_in(text), Some(42));
        assert_eq!(segments_in("Tcp: InSegs\nTcp: 1\n"), None);
        assert_eq!(segments_in(""), None);
    }
}
