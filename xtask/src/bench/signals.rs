//! What the signals beside flows cost, and whether flows cost more for them.

mod dns;
mod flow;
mod footprint;
mod rate;
mod tcp;

use anyhow::Result;

use super::{
    lab::Lab,
    plan::{Plan, statistics},
    report::Table,
};

pub(super) fn measure(lab: &Lab, plan: &Plan) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    {
        let _statistics = statistics()?;
        tables.push(dns::measure(lab, plan)?);
        tables.push(tcp::measure(lab, plan)?);
        tables.push(flow::measure(lab, plan)?);
    }
    tables.push(rate::measure(lab, plan)?);
    tables.push(footprint::measure(lab, plan)?);
    Ok(tables)
}
