//! What traffic comes to with programs or the agent in its way, beside what it comes to without.

use std::time::Instant;

use anyhow::Result;

use super::{
    agent::{Agent, Signals},
    interrupt::pause,
    lab::Lab,
    plan::Plan,
    programs::{Attached, Hook, Variant},
    report::Table,
    stats::{median, ratios_to_neighbours},
    targets::{self, Target},
    workload::{Load, MANY, Place, Workload},
};

/// What is in the way.
#[derive(Clone, Copy)]
enum Obstacle {
    Program(Hook, Variant),
    Agent(Hook),
}

const OBSTACLES: [Obstacle; 5] = [
    Obstacle::Program(Hook::Socket, Variant::Empty),
    Obstacle::Agent(Hook::Socket),
    Obstacle::Program(Hook::Interface, Variant::Empty),
    Obstacle::Program(Hook::Interface, Variant::Ring { wakes: true }),
    Obstacle::Agent(Hook::Interface),
];

const CASES: [(Workload, Option<Target>); 4] = [
    (Workload::Udp { sockets: 1 }, Some(targets::RATE_ONE)),
    (Workload::Udp { sockets: MANY }, Some(targets::RATE_MANY)),
    (Workload::TcpShort, Some(targets::RATE_SHORT)),
    (Workload::TcpBulk, None),
];

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Table> {
    let note = format!(
        "{} The agent observes flows only (`--signals flow`). Two pods on a node's bridge, so each packet passes two sockets and two interfaces, and \
         all of it shares the machine. Every measurement stands between two without programs; the \
         ratio is to their mean, and the median of all rounds is shown.",
        plan.machine
    );
    let mut table = Table::new(note, &["traffic", "in its way", "rate", "ratio"]);
    for (workload, target) in CASES {
        eprintln!("rate: {}", workload.name());
        measure_case(lab, plan, workload, target, &mut table)?;
    }
    Ok(table)
}

fn measure_case(
    lab: &Lab,
    plan: &Plan,
    workload: Workload,
    target: Option<Target>,
    table: &mut Table,
) -> Result<()> {
    let mut load = Load::start(lab, workload, Place::Pods, 0)?;
    let mut free = Vec::new();
    let mut rates = [const { Vec::new() }; OBSTACLES.len()];
    let mut ratios = [const { Vec::new() }; OBSTACLES.len()];
    pause(plan.settling)?;
    for _ in 0..plan.rounds {
        let mut bases = vec![rate_of(plan, &mut load)?];
        let mut values = Vec::new();
        for obstacle in OBSTACLES {
            values.push(with_obstacle(lab, plan, obstacle, &mut load)?);
            pause(plan.settling)?;
            bases.push(rate_of(plan, &mut load)?);
        }
        for (i, ratio) in ratios_to_neighbours(&values, &bases).into_iter().enumerate() {
            rates[i].push(values[i]);
            ratios[i].push(ratio);
        }
        free.extend(bases);
    }
    let shown = |values: &[f64]| workload.rate(median(values).unwrap_or(f64::NAN));
    let name = workload.name();
    table.row(vec![name.clone(), "nothing".to_owned(), shown(&free), "–".to_owned()], &[]);
    for (i, obstacle) in OBSTACLES.into_iter().enumerate() {
        let ratio = median(&ratios[i]).unwrap_or(f64::NAN);
        let what = match obstacle {
            Obstacle::Program(hook, variant) => format!("{}, {} hook", variant.name(), hook.name()),
            Obstacle::Agent(hook) => format!("**orb8-agent**, {} hook", hook.name()),
        };
        let target = target.filter(|_| matches!(obstacle, Obstacle::Agent(_)));
        let checked = target.map(|target| ("", ratio, target));
        let cells = vec![name.clone(), what, shown(&rates[i]), format!("{ratio:.3}")];
        table.row(cells, checked.as_slice());
    }
    Ok(())
}

fn with_obstacle(lab: &Lab, plan: &Plan, obstacle: Obstacle, load: &mut Load) -> Result<f64> {
    match obstacle {
        Obstacle::Program(hook, variant) => {
            let _attached = Attached::new(lab, &lab.pods, hook, variant)?;
            pause(plan.settling)?;
            rate_of(plan, load)
        }
        Obstacle::Agent(hook) => {
            let _agent = Agent::start(lab, hook, Signals::FLOW, &[])?;
            pause(plan.settling)?;
            rate_of(plan, load)
        }
    }
}

/// What is sent per second.
pub(super) fn rate_of(plan: &Plan, load: &mut Load) -> Result<f64> {
    let (start, sent) = (Instant::now(), load.sent()?);
    pause(plan.window)?;
    let sent = load.sent()? - sent;
    Ok(sent as f64 / start.elapsed().as_secs_f64())
}
