//! What it costs to know who is at the ends: the index, the agent's process, and the pipeline while
//! a cluster of 5,000 pods is listed.

pub(super) mod cluster;
mod enrichment;
mod lookups;
mod manifests;
mod memory;
mod process;
mod stall;

use anyhow::Result;

use super::{lab::Lab, plan::Plan, report::Table};
use cluster::Cluster;

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Table>> {
    let lookups = lookups::measure(plan)?;
    let enrichment = enrichment::measure(lab, plan)?;
    eprintln!("identity: making the cluster");
    let cluster = Cluster::start(lab)?;
    Ok(vec![
        lookups,
        enrichment,
        process::times(lab, plan, &cluster)?,
        memory::measure(lab, plan, &cluster)?,
        stall::measure(lab, plan, &cluster)?,
        // Last: it leaves other pods than those that it found.
        process::processor(lab, plan, &cluster)?,
    ])
}
