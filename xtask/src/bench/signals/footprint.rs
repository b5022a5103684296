//! What the agent's process needs for all signals, and whether it loses anything.

use std::time::Instant;

use anyhow::Result;

use crate::bench::{
    agent::{Agent, Signals},
    footprint::SETTLING,
    interrupt::pause,
    lab::Lab,
    plan::Plan,
    programs::Hook,
    report::{Checked, Table},
    targets,
    workload::{Load, Place, Workload},
};

/// One load on a fresh agent; the rate is queries or connections a second.
struct Situation {
    signals: Signals,
    name: &'static str,
    traffic: Option<(Workload, u64)>,
}

const SITUATIONS: [Situation; 4] = [
    Situation { signals: Signals::FLOW, name: "idle", traffic: None },
    Situation { signals: Signals::All, name: "idle", traffic: None },
    Situation {
        signals: Signals::All,
        name: "5k DNS queries/s",
        traffic: Some((Workload::DnsUdp, 5_000)),
    },
    Situation {
        signals: Signals::All,
        name: "20k short TCP connections/s",
        traffic: Some((Workload::TcpShort, 20_000)),
    },
];

/// How the agent's metrics call the rings of flow, dns and tcp.
const PROBES: [&str; 3] = ["network", "dns", "tcp"];

/// What one situation came to.
struct Figures {
    sent: f64,
    cpu_percent: f64,
    resident_mib: f64,
    peak_mib: f64,
    map_bytes: u64,
    lost_packets: f64,
    /// One for each signal, `None` where it is not observed.
    lost_records: [Option<f64>; PROBES.len()],
    untracked: f64,
}

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Table> {
    let note = "**The agent's process** at the socket hook, with default settings. `lost records` are \
                moments, messages and closes that a ring had no room for, `untracked` connections that \
                neither the kernel's storage nor the agent's table had room for; `kernel maps` leaves out \
                what lies with each socket."
        .to_owned();
    let header = &[
        "signals",
        "load",
        "sent",
        "CPU",
        "RSS",
        "RSS peak",
        "kernel maps",
        "lost packets",
        "lost records: flow / dns / tcp",
        "untracked",
    ];
    let mut table = Table::new(note, header);
    for situation in &SITUATIONS {
        eprintln!("signals: footprint, {}, {}", situation.signals.name(), situation.name);
        report(situation, &measure_one(lab, plan, situation)?, &mut table);
    }
    Ok(table)
}

fn measure_one(lab: &Lab, plan: &Plan, situation: &Situation) -> Result<Figures> {
    let agent = Agent::start(lab, Hook::Socket, situation.signals, &[])?;
    pause(SETTLING)?;
    agent.forget_peak()?;
    let mut load = match situation.traffic {
        Some((workload, rate)) => Some(Load::start(lab, workload, Place::Pods, rate)?),
        None => None,
    };
    pause(SETTLING)?;
    let mut sent = || load.as_mut().map_or(Ok(0), Load::sent);
    let sent_before = sent()?;
    let (cpu, start) = (agent.cpu()?, Instant::now());
    pause(if situation.traffic.is_some() { plan.loaded } else { plan.idle })?;
    let (cpu, elapsed) = ((agent.cpu()? - cpu).as_secs_f64(), start.elapsed().as_secs_f64());
    let sent = (sent()? - sent_before) as f64 / elapsed;
    let (resident_mib, peak_mib) = agent.resident_mib()?;
    drop(load);
    // What is on its way is drained, and counted.
    pause(SETTLING)?;
    let metrics = agent.metrics()?;
    Ok(Figures {
        sent,
        cpu_percent: cpu / elapsed * 100.0,
        resident_mib,
        peak_mib,
        map_bytes: agent.map_bytes()?,
        lost_packets: metrics.get("orb8_agent_lost_packets_total")?,
        lost_records: PROBES
            .map(|probe| metrics.get_labelled("orb8_ring_buffer_drops_total", "probe", probe)),
        untracked: metrics.get("orb8_agent_untracked_connections_total")?,
    })
}

fn report(situation: &Situation, figures: &Figures, table: &mut Table) {
    let Figures {
        sent,
        cpu_percent,
        resident_mib,
        peak_mib,
        map_bytes,
        lost_packets,
        lost_records,
        untracked,
    } = figures;
    let cells = vec![
        situation.signals.name().to_owned(),
        situation.name.to_owned(),
        situation.traffic.map_or("–".to_owned(), |(workload, _)| workload.rate(*sent)),
        format!("{cpu_percent:.2} %"),
        format!("{resident_mib:.1} MiB"),
        format!("{peak_mib:.1} MiB"),
        format!("{:.1} MiB", *map_bytes as f64 / 1024.0 / 1024.0),
        format!("{lost_packets:.0}"),
        lost_records
            .map(|lost| lost.map_or("–".to_owned(), |lost| format!("{lost:.0}")))
            .join(" / "),
        format!("{untracked:.0}"),
    ];
    let checked: &[Checked] = if situation.traffic.is_none() {
        &[("CPU", *cpu_percent, targets::CPU_IDLE), ("RSS", *resident_mib, targets::RSS_IDLE)]
    } else {
        let lost = lost_packets + lost_records.iter().flatten().sum::<f64>() + untracked;
        &[("lost", lost, targets::NO_LOSS)]
    };
    table.row(cells, checked);
}
