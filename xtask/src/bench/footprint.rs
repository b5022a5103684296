//! What the agent's process needs, and whether everything is accounted for.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{
    agent::{Agent, Signals},
    interrupt::pause,
    lab::Lab,
    plan::Plan,
    programs::Hook,
    reference::{Count, Reference},
    report::{Checked, Table},
    targets::{self, Target},
    workload::{Load, MANY, Place, Workload},
};

/// One load on a fresh agent.
struct Situation {
    name: &'static str,
    /// With its rate, 0 for as much as goes.
    traffic: Option<(Workload, u64)>,
    cpu: Option<Target>,
    memory: Memory,
}

/// What is asked of the resident memory.
enum Memory {
    Nothing,
    AtMost(Target),
    PeakAtMost(Target),
    /// What it has more than the idle agent.
    GrownAtMost(Target),
}

/// The agent keeps 65,536 flows by default.
pub(super) const HELD: u32 = 100_000;
pub(super) const HOLDS_MORE: [&str; 2] = ["--max-flows", "131072"];

/// So that the idle agent's start is not measured with it, nor a load's first second.
pub(super) const SETTLING: Duration = Duration::from_millis(1500);

fn situations(hook: Hook) -> [Situation; 6] {
    let paced = Workload::Udp { sockets: 64 };
    let many = Workload::Udp { sockets: MANY };
    let held = match hook {
        // Each address is a flow of the sender and one of the receiver.
        Hook::Socket => Workload::UdpUnconnected { flows: HELD / 2 },
        Hook::Interface => Workload::UdpUnconnected { flows: HELD },
    };
    let situation = |name, traffic, cpu, memory| Situation { name, traffic, cpu, memory };
    [
        situation("idle", None, Some(targets::CPU_IDLE), Memory::AtMost(targets::RSS_IDLE)),
        situation("20k packets/s in 64 flows", Some((paced, 20_000)), None, Memory::Nothing),
        situation(
            "100k packets/s in 64 flows",
            Some((paced, 100_000)),
            Some(targets::CPU_100K),
            Memory::Nothing,
        ),
        situation("saturation, 4096 flows", Some((many, 0)), None, Memory::Nothing),
        situation(
            "short TCP connections",
            Some((Workload::TcpShort, 0)),
            None,
            Memory::PeakAtMost(targets::RSS_SHORT),
        ),
        situation(
            "100k flows held",
            Some((held, 20_000)),
            None,
            Memory::GrownAtMost(targets::RSS_HELD),
        ),
    ]
}

/// What one situation came to.
struct Figures {
    sent: f64,
    cpu_percent: f64,
    resident_mib: f64,
    peak_mib: f64,
    map_mib: f64,
    flows: f64,
    lost: Count,
    lost_moments: f64,
    /// Reference less counted and lost: 0, or a bug.
    unaccounted: Count,
}

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Table> {
    let note = format!(
        "{} A fresh `orb8-agent` for each row, with default settings but `--signals flow` \
         (`100k flows held`: `--max-flows 131072`). Processor time is that of the agent's process, per cent of a core; \
         programs run in the senders' time. `reference` is what programs beside the agent's counted, \
         which read no header, less what the agent counted or lost, over the whole row: packets / \
         bytes. Saturation is sent over loopback at the socket hook, across the bridge at the other.",
        plan.machine
    );
    let header = &[
        "hook",
        "load",
        "sent",
        "CPU",
        "RSS",
        "RSS peak",
        "kernel maps",
        "flows",
        "lost packets",
        "lost moments",
        "reference",
    ];
    let mut table = Table::new(note, header);
    for hook in [Hook::Socket, Hook::Interface] {
        let mut idle_mib = 0.0;
        for situation in situations(hook) {
            eprintln!("footprint: {} hook, {}", hook.name(), situation.name);
            let figures = measure_one(lab, plan, hook, &situation)?;
            if situation.traffic.is_none() {
                idle_mib = figures.resident_mib;
            }
            report(hook, &situation, &figures, idle_mib, &mut table);
        }
    }
    Ok(table)
}

fn measure_one(lab: &Lab, plan: &Plan, hook: Hook, situation: &Situation) -> Result<Figures> {
    let reference = Reference::attach(lab, hook)?;
    let holds = matches!(situation.memory, Memory::GrownAtMost(_));
    let more: &[&str] = if holds { &HOLDS_MORE } else { &[] };
    let agent = Agent::start(lab, hook, Signals::FLOW, more)?;
    pause(SETTLING)?;
    let counted_before = reference.count()?;
    let (counted, lost) = agent.metrics()?.accounting()?;
    let seen_before = counted + lost;
    agent.forget_peak()?;
    let mut load = match situation.traffic {
        Some((workload, rate)) => Some(Load::start(lab, workload, place(hook, situation), rate)?),
        None => None,
    };
    pause(SETTLING)?;
    let time = match (&situation.traffic, holds) {
        (None, _) => plan.idle,
        (Some(_), true) => plan.held,
        (Some(_), false) => plan.loaded,
    };
    let sent_before = sent(&mut load)?;
    let (cpu, start) = (agent.cpu()?, Instant::now());
    pause(time)?;
    let (cpu, elapsed) = ((agent.cpu()? - cpu).as_secs_f64(), start.elapsed().as_secs_f64());
    let sent = (sent(&mut load)? - sent_before) as f64 / elapsed;
    let flows = agent.metrics()?.get("orb8_agent_flows")?;
    let (resident_mib, peak_mib) = agent.resident_mib()?;
    drop(load);
    let there_was = settled(&reference)? - counted_before;
    let metrics = agent.metrics()?;
    let (counted, lost) = metrics.accounting()?;
    Ok(Figures {
        sent,
        cpu_percent: cpu / elapsed * 100.0,
        resident_mib,
        peak_mib,
        map_mib: metrics.get("orb8_agent_map_memory_bytes")? / 1024.0 / 1024.0,
        flows,
        lost,
        lost_moments: metrics.get("orb8_ring_buffer_drops_total")?,
        unaccounted: there_was - (counted + lost - seen_before),
    })
}

fn place(hook: Hook, situation: &Situation) -> Place {
    match (hook, situation.traffic) {
        (Hook::Socket, Some((Workload::Udp { .. }, 0))) => Place::Loopback,
        _ => Place::Pods,
    }
}

fn sent(load: &mut Option<Load>) -> Result<u64> {
    load.as_mut().map_or(Ok(0), Load::sent)
}

/// What the reference counted once nothing comes any more and the agent has drained it all.
fn settled(reference: &Reference) -> Result<Count> {
    /// Two drains and a little.
    const REST: Duration = Duration::from_millis(2500);
    const PATIENCE: Duration = Duration::from_secs(60);
    let start = Instant::now();
    let mut before = reference.count()?;
    loop {
        pause(REST)?;
        let now = reference.count()?;
        if now == before {
            return Ok(now);
        }
        before = now;
        ensure!(start.elapsed() < PATIENCE, "traffic goes on after its end");
    }
}

fn report(hook: Hook, situation: &Situation, figures: &Figures, idle_mib: f64, table: &mut Table) {
    let Figures {
        sent,
        cpu_percent,
        resident_mib,
        peak_mib,
        map_mib,
        flows,
        lost,
        lost_moments,
        unaccounted,
    } = figures;
    let off_by = [unaccounted.packets, unaccounted.bytes].map(u64::cast_signed);
    let cells = vec![
        hook.name().to_owned(),
        situation.name.to_owned(),
        situation.traffic.map_or("–".to_owned(), |(workload, _)| workload.rate(*sent)),
        format!("{cpu_percent:.2} %"),
        format!("{resident_mib:.1} MiB"),
        format!("{peak_mib:.1} MiB"),
        format!("{map_mib:.1} MiB"),
        format!("{flows:.0}"),
        lost.packets.to_string(),
        format!("{lost_moments:.0}"),
        format!("{} / {}", off_by[0], off_by[1]),
    ];
    let mut checked: Vec<Checked> = Vec::new();
    checked.extend(situation.cpu.map(|target| ("CPU", *cpu_percent, target)));
    checked.extend(match situation.memory {
        Memory::Nothing => None,
        Memory::AtMost(target) => Some(("RSS", *resident_mib, target)),
        Memory::PeakAtMost(target) => Some(("RSS peak", *peak_mib, target)),
        Memory::GrownAtMost(target) => Some(("RSS over idle", resident_mib - idle_mib, target)),
    });
    if situation.traffic.is_some() {
        let difference = off_by.map(|value| value.unsigned_abs() as f64);
        checked.push(("lost", lost.packets as f64, targets::NO_LOSS));
        checked.push(("reference", difference[0] + difference[1], targets::EXACT));
    }
    table.row(cells, &checked);
}
