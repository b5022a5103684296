//! What the agent's process keeps to know a cluster.

use anyhow::{Result, ensure};

use super::{
    cluster::{Cluster, Lists},
    manifests,
    process::{LISTED, start, wait_for_pods},
};
use crate::bench::{
    agent::{Agent, Signals},
    footprint::{HELD, HOLDS_MORE, SETTLING},
    interrupt::pause,
    lab::Lab,
    plan::Plan,
    programs::Hook,
    report::{Checked, Table},
    targets::{RSS_IDENTITY, Target},
    workload::{Load, Place, Workload},
};

/// An agent whose memory is measured again and again.
struct Measured<'a> {
    agent: Agent,
    api: &'static str,
    /// What an agent without an API has at first, MiB.
    idle: f64,
    table: &'a mut Table,
}

pub(super) fn measure(lab: &Lab, plan: &Plan, cluster: &Cluster) -> Result<Table> {
    let note = format!(
        "**The agent's memory** with {} pods (of this node: {}), {} Services, {} EndpointSlices and {} \
         nodes; a pod is {:.1} KiB of JSON. All signals at the socket hook, `--max-flows 131072`. \
         Three agents; those with an API are first measured when they observe and it has not answered, \
         and then row by row. `more` is over the first row, and the peak is that of the row. The flows \
         go to {} addresses, of which {} are pods' and {} Services', and each is counted at both ends.",
        manifests::PODS,
        manifests::LOCAL,
        manifests::SERVICES,
        manifests::SERVICES * manifests::SLICES,
        manifests::NODES,
        manifests::pod(0).to_string().len() as f64 / 1024.0,
        HELD / 2,
        manifests::PODS,
        manifests::SERVICES,
    );
    let header = &["API", "agent", "RSS", "RSS peak", "more", "more at most"];
    let mut table = Table::new(note, header);
    eprintln!("identity: memory, without the API");
    let agent = Agent::start(lab, Hook::Socket, Signals::All, &HOLDS_MORE)?;
    pause(SETTLING)?;
    let (idle, _) = agent.resident_mib()?;
    let mut measured = Measured { agent, api: "off", idle, table: &mut table };
    measured.row("at first", None)?;
    let load = measured.hold(lab, plan)?;
    measured.row("100k flows", None)?;
    drop((measured, load));
    for lists in Lists::BOTH {
        eprintln!("identity: memory, lists {}", lists.name());
        measure_with(lab, plan, cluster, lists, idle, &mut table)?;
    }
    Ok(table)
}

fn measure_with(
    lab: &Lab,
    plan: &Plan,
    cluster: &Cluster,
    lists: Lists,
    idle: f64,
    table: &mut Table,
) -> Result<()> {
    cluster.offer(lists);
    cluster.fall_silent();
    let agent = start(lab, cluster)?;
    pause(SETTLING)?;
    let mut measured = Measured { agent, api: lists.name(), idle, table };
    measured.row("at first", None)?;
    cluster.answer();
    wait_for_pods(&measured.agent)?;
    pause(LISTED)?;
    measured.row("all pods known", None)?;
    let _load = measured.hold(lab, plan)?;
    measured.row("all pods and 100k flows", Some(RSS_IDENTITY))?;
    cluster.force_relist()?;
    pause(LISTED)?;
    measured.row("after all was listed again", Some(RSS_IDENTITY))
}

impl Measured<'_> {
    /// Has it hold 100,000 flows, which last as long as what is returned.
    fn hold(&self, lab: &Lab, plan: &Plan) -> Result<Load> {
        let flows = Workload::UdpUnconnected { flows: HELD / 2 };
        let load = Load::start(lab, flows, Place::Pods, 20_000)?;
        pause(plan.held / 2)?;
        let held = self.agent.metrics()?.get("orb8_agent_flows")?;
        ensure!(held >= f64::from(HELD), "the agent holds {held} flows");
        Ok(load)
    }

    /// What it has now, and at most since the last row.
    fn row(&mut self, name: &str, target: Option<Target>) -> Result<()> {
        let (now, peak) = self.agent.resident_mib()?;
        let (more, most) = (now - self.idle, peak - self.idle);
        let cells = vec![
            self.api.to_owned(),
            name.to_owned(),
            format!("{now:.1} MiB"),
            format!("{peak:.1} MiB"),
            format!("{more:+.1} MiB"),
            format!("{most:+.1} MiB"),
        ];
        let checked = target.map(|target| -> Checked { ("more", more, target) });
        self.table.row(cells, checked.as_slice());
        self.agent.forget_peak()
    }
}
