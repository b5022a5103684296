//! What traffic comes to with flows only, and with all signals.

use anyhow::Result;

use crate::bench::{
    agent::{Agent, Signals},
    interrupt::pause,
    lab::Lab,
    plan::Plan,
    programs::Hook,
    rate::rate_of,
    report::Table,
    stats::{median, ratios_to_neighbours},
    workload::{Load, Place, Workload},
};

const CASES: [Workload; 4] =
    [Workload::DnsUdp, Workload::TcpPing, Workload::TcpShort, Workload::TcpBulk];

const SIGNALS: [Signals; 2] = [Signals::FLOW, Signals::All];

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Table> {
    let note = "**Traffic with and without**, between two pods, with the agent at the socket hook. \
                Every measurement stands between two without an agent; `of nothing` is the median of \
                the ratios to their mean, `of flows only` that of the ratios of both in a round."
        .to_owned();
    let header = &["traffic", "signals", "rate", "of nothing", "of flows only"];
    let mut table = Table::new(note, header);
    for workload in CASES {
        eprintln!("signals: rate, {}", workload.name());
        measure_case(lab, plan, workload, &mut table)?;
    }
    Ok(table)
}

fn measure_case(lab: &Lab, plan: &Plan, workload: Workload, table: &mut Table) -> Result<()> {
    let mut free = Vec::new();
    let mut rates = [const { Vec::new() }; SIGNALS.len()];
    let mut ratios = [const { Vec::new() }; SIGNALS.len()];
    for _ in 0..plan.signal_rounds {
        let mut bases = vec![without(lab, plan, workload)?];
        let mut values = Vec::new();
        for signals in SIGNALS {
            values.push(with_agent(lab, plan, workload, signals)?);
            bases.push(without(lab, plan, workload)?);
        }
        for (i, ratio) in ratios_to_neighbours(&values, &bases).into_iter().enumerate() {
            rates[i].push(values[i]);
            ratios[i].push(ratio);
        }
        free.extend(bases);
    }
    let of_flows: Vec<f64> =
        ratios[1].iter().zip(&ratios[0]).map(|(all, flows)| all / flows).collect();
    let shown = |values: &[f64]| workload.rate(median(values).unwrap_or(f64::NAN));
    let ratio = |values: &[f64]| format!("{:.3}", median(values).unwrap_or(f64::NAN));
    let none = || "–".to_owned();
    let mut row = |signals: &str, rate, of_nothing, of_flows| {
        table.row(vec![workload.name(), signals.to_owned(), rate, of_nothing, of_flows], &[]);
    };
    row("nothing", shown(&free), none(), none());
    row(SIGNALS[0].name(), shown(&rates[0]), ratio(&ratios[0]), none());
    row(SIGNALS[1].name(), shown(&rates[1]), ratio(&ratios[1]), ratio(&of_flows));
    Ok(())
}

/// Traffic is started anew for each measurement: an agent sees all of a connection that it sees open.
fn without(lab: &Lab, plan: &Plan, workload: Workload) -> Result<f64> {
    let mut load = Load::start(lab, workload, Place::Pods, 0)?;
    pause(plan.settling)?;
    rate_of(plan, &mut load)
}

fn with_agent(lab: &Lab, plan: &Plan, workload: Workload, signals: Signals) -> Result<f64> {
    let _agent = Agent::start(lab, Hook::Socket, signals, &[])?;
    without(lab, plan, workload)
}
