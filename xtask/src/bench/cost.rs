//! Nanoseconds per run of a program, from the kernel's own statistics.

use anyhow::{Context, Result};

use super::{
    interrupt::pause,
    lab::Lab,
    plan::Plan,
    programs::{Attached, Hook, Variant},
    report::Table,
    stats::median,
    targets::{self, Target},
    workload::{Load, MANY, Place, Workload},
};

const SOCKET_VARIANTS: &[Variant] =
    &[Variant::Empty, Variant::Flow { storage: true }, Variant::Flow { storage: false }];

const INTERFACE_VARIANTS: &[Variant] = &[
    Variant::Empty,
    Variant::Ring { wakes: true },
    Variant::Ring { wakes: false },
    Variant::Flow { storage: true },
];

/// Programs under one kind of traffic. The target is that of orb8 with its defaults.
pub(super) struct Case {
    hook: Hook,
    workload: Workload,
    target: Option<Target>,
}

pub(super) const fn case(hook: Hook, workload: Workload, target: Option<Target>) -> Case {
    Case { hook, workload, target }
}

const CASES: [Case; 8] = {
    use Hook::{Interface, Socket};
    use Workload::{TcpBulk, TcpShort, Udp, UdpUnconnected};
    [
        case(Socket, Udp { sockets: 1 }, Some(targets::SOCKET_ONE)),
        case(Socket, Udp { sockets: MANY }, Some(targets::SOCKET_MANY)),
        case(Socket, UdpUnconnected { flows: MANY }, Some(targets::SOCKET_UNCONNECTED)),
        case(Socket, TcpBulk, Some(targets::SOCKET_ONE)),
        case(Socket, TcpShort, None),
        case(Interface, Udp { sockets: 1 }, Some(targets::INTERFACE_ONE)),
        case(Interface, Udp { sockets: MANY }, Some(targets::INTERFACE_MANY)),
        case(Interface, TcpShort, Some(targets::INTERFACE_SHORT)),
    ]
};

/// The columns that [`measure_case`] fills.
pub(super) const HEADER: &[&str] =
    &["hook", "traffic", "program", "ns per run", "over empty", "traffic's rate"];

/// One variant's figures, a value per round.
#[derive(Default)]
struct Series {
    ns: Vec<f64>,
    over_empty: Vec<f64>,
    /// What the traffic came to with the statistics on.
    rate: Vec<f64>,
}

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Table> {
    let note = format!(
        "{} Medians of rounds; `over empty` is the median of the differences within a round. The \
         statistics themselves are part of every figure but the difference. Socket hook: sockets of \
         the sending cgroup, over loopback; interface hook: two interfaces of a bridge.",
        plan.machine
    );
    let mut table = Table::new(note, HEADER);
    for case in &CASES {
        let variants = match case.hook {
            Hook::Socket => SOCKET_VARIANTS,
            Hook::Interface => INTERFACE_VARIANTS,
        };
        measure_case(lab, plan, case, variants, &mut table)?;
    }
    Ok(table)
}

/// Adds a row for each variant; the first is the empty one.
pub(super) fn measure_case(
    lab: &Lab,
    plan: &Plan,
    case: &Case,
    variants: &[Variant],
    table: &mut Table,
) -> Result<()> {
    eprintln!("cost: {} hook, {}", case.hook.name(), case.workload.name());
    let place = place(case.hook);
    let mut load = Load::start(lab, case.workload, place, 0)?;
    let mut series: Vec<Series> = variants.iter().map(|_| Series::default()).collect();
    for round in 0..plan.rounds as usize {
        let mut ns = vec![0.0; variants.len()];
        for step in 0..variants.len() {
            // Each round starts with another, so that none is always the first.
            let i = (round + step) % variants.len();
            let (run, rate) = measure_variant(lab, plan, case.hook, variants[i], &mut load)?;
            ns[i] = run;
            series[i].rate.push(rate);
        }
        for (series, run) in series.iter_mut().zip(&ns) {
            series.ns.push(*run);
            series.over_empty.push(run - ns[0]);
        }
    }
    for (variant, series) in variants.iter().zip(&series) {
        report(case, *variant, series, table);
    }
    Ok(())
}

/// Where traffic shows most of what a hook costs.
pub(super) const fn place(hook: Hook) -> Place {
    match hook {
        Hook::Socket => Place::Loopback,
        Hook::Interface => Place::Pods,
    }
}

/// Nanoseconds per run, and the traffic's rate.
fn measure_variant(
    lab: &Lab,
    plan: &Plan,
    hook: Hook,
    variant: Variant,
    load: &mut Load,
) -> Result<(f64, f64)> {
    let attached = Attached::new(lab, &lab.senders, hook, variant)?;
    pause(plan.settling)?;
    let (before, sent) = (attached.run_time()?, load.sent()?);
    pause(plan.window)?;
    let (after, sent) = (attached.run_time()?, load.sent()? - sent);
    let ns = (after - before).per_run();
    let ns =
        ns.with_context(|| format!("{} did not run at the {} hook", variant.name(), hook.name()))?;
    Ok((ns, sent as f64 / plan.window.as_secs_f64()))
}

fn report(case: &Case, variant: Variant, series: &Series, table: &mut Table) {
    let [ns, over, rate] = [&series.ns, &series.over_empty, &series.rate]
        .map(|values| median(values).unwrap_or(f64::NAN));
    let over_shown = match variant {
        Variant::Empty => "–".to_owned(),
        _ => format!("{over:+.0}"),
    };
    let cells = vec![
        case.hook.name().to_owned(),
        case.workload.name(),
        variant.name().to_owned(),
        format!("{ns:.0}"),
        over_shown,
        case.workload.rate(rate),
    ];
    let target = case.target.filter(|_| variant == Variant::Flow { storage: true });
    let checked = target.map(|target| ("", over, target));
    table.row(cells, checked.as_slice());
}
