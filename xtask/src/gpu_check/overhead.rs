//! What being watched costs a program: pairs of loops, with the agent and without.

use anyhow::{Context, Result};

use super::agent::Agent;
use super::torch::{self, Workload};
use crate::bench::stats::{median, ratios_to_neighbours};

/// A loop, and how fast it is with the agent, of how fast it is without.
pub(super) struct Overhead {
    pub(super) what: &'static str,
    /// Iterations a second without, the median.
    pub(super) rate: f64,
    /// One for each pair.
    pub(super) ratios: Vec<f64>,
    /// At most, as a part.
    pub(super) target: f64,
}

pub(super) fn measure(workload: &mut Workload, pairs: u32, seconds: u32) -> Result<Vec<Overhead>> {
    [("device", "bound by the device", 0.01), ("launch", "bound by launching", 0.02)]
        .into_iter()
        .map(|(kind, what, target)| {
            let (mut with, mut without) = (Vec::new(), Vec::new());
            without.push(torch::rate(workload, kind, seconds)?);
            for pair in 1..=pairs {
                eprintln!("gpu-check: a loop {what}, pair {pair} of {pairs}");
                let agent = Agent::start()?;
                agent.wait_for_probes(super::agent::PATIENCE)?;
                with.push(torch::rate(workload, kind, seconds)?);
                drop(agent);
                without.push(torch::rate(workload, kind, seconds)?);
            }
            let rate = median(&without).context("no loop ran")?;
            Ok(Overhead { what, rate, ratios: ratios_to_neighbours(&with, &without), target })
        })
        .collect()
}
