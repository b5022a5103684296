//! Whether the programs of flows cost the same in an agent, and beside the other signals.

use anyhow::{Context, Result};

use crate::bench::{
    agent::{Agent, Signals},
    cost::place,
    interrupt::pause,
    lab::Lab,
    plan::Plan,
    programs::{Attached, HOOK_PROGRAMS, Hook, RunTime, Variant},
    report::Table,
    stats::median,
    targets,
    workload::{Load, Workload},
};

const CASES: [(Hook, Workload); 3] = [
    (Hook::Socket, Workload::Udp { sockets: 1 }),
    (Hook::Socket, Workload::TcpShort),
    (Hook::Interface, Workload::Udp { sockets: 1 }),
];

/// Where the programs of flows are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    /// In this process, and nothing else: what the first table measures.
    Alone,
    Agent(Signals),
}

const HOMES: [Home; 3] = [Home::Alone, Home::Agent(Signals::FLOW), Home::Agent(Signals::All)];

impl Home {
    fn name(self) -> String {
        match self {
            Self::Alone => "the object alone".to_owned(),
            Self::Agent(signals) => format!("agent, signals: {}", signals.name()),
        }
    }
}

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Table> {
    let note = "**Programs of flows** beside the others: nanoseconds per run of those of flows only. \
                `the object alone` is what the first table of this page measures, here at the sockets \
                of both ends; `over alone` is the median of the differences within a round."
        .to_owned();
    let mut table = Table::new(note, &["hook", "traffic", "programs", "ns per run", "over alone"]);
    for (hook, workload) in CASES {
        eprintln!("signals: flow, {} hook, {}", hook.name(), workload.name());
        measure_case(lab, plan, hook, workload, &mut table)?;
    }
    Ok(table)
}

fn measure_case(
    lab: &Lab,
    plan: &Plan,
    hook: Hook,
    workload: Workload,
    table: &mut Table,
) -> Result<()> {
    let mut load = Load::start(lab, workload, place(hook), 0)?;
    let mut ns = [const { Vec::new() }; HOMES.len()];
    for round in 0..plan.signal_rounds as usize {
        for step in 0..HOMES.len() {
            // Each round starts with another, so that none is always the first.
            let i = (round + step) % HOMES.len();
            ns[i].push(measure_home(lab, plan, hook, HOMES[i])?);
        }
        // It has to be there until the last.
        load.sent()?;
    }
    for (home, values) in HOMES.iter().zip(&ns) {
        let differences: Vec<f64> =
            values.iter().zip(&ns[0]).map(|(value, alone)| value - alone).collect();
        let [value, over] = [values, &differences].map(|values| median(values).unwrap_or(f64::NAN));
        let shown = if *home == Home::Alone { "–".to_owned() } else { format!("{over:+.1}") };
        let cells = vec![
            hook.name().to_owned(),
            workload.name(),
            home.name(),
            format!("{value:.1}"),
            shown,
        ];
        let target =
            (*home == Home::Agent(Signals::FLOW)).then_some(("", over, targets::FLOW_UNCHANGED));
        table.row(cells, target.as_slice());
    }
    Ok(())
}

fn measure_home(lab: &Lab, plan: &Plan, hook: Hook, home: Home) -> Result<f64> {
    match home {
        Home::Alone => {
            let attached = Attached::new(lab, &lab.pods, hook, Variant::Flow { storage: true })?;
            measure_window(plan, || attached.run_time())
        }
        Home::Agent(signals) => {
            let agent = Agent::start(lab, hook, signals, &[])?;
            let of_flows: Vec<&str> = HOOK_PROGRAMS
                .iter()
                .copied()
                .filter(|beginning| beginning.starts_with("flow_"))
                .collect();
            let programs = agent.statistics(&of_flows)?;
            measure_window(plan, || programs.read())
        }
    }
}

fn measure_window(plan: &Plan, run_time: impl Fn() -> Result<RunTime>) -> Result<f64> {
    pause(plan.settling)?;
    let before = run_time()?;
    pause(plan.window)?;
    (run_time()? - before).per_run().context("the programs of flows did not run")
}
