//! Dashboards as code: the panels are tables here, and what Grafana and Prometheus's operator read is
//! generated from them and from the rules.
//!
//! ```text
//! overview, workload, dns, tcp, gpu, agents ─▶ grafana ─▶ deploy/grafana/dashboards/*.json
//! deploy/prometheus/rules/*.yaml ───────▶ rules ───▶ deploy/prometheus/{prometheusrule.yaml, README.md}
//! ```
//! Both are copied into the Helm chart.
//!
//! `orb8-agent/tests/prometheus.rs` runs every query against a Prometheus that scrapes an agent.

mod agents;
mod dns;
mod gpu;
mod grafana;
mod model;
mod overview;
mod query;
mod rules;
mod tcp;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::workspace::root;
use model::Dashboard;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only compare with what is checked in
    #[arg(long)]
    check: bool,
}

/// Writes every generated file, or with `--check` fails where one differs from what would be written.
///
/// # Errors
///
/// When a file cannot be read or written, the rules do not parse, or `--check` finds a difference.
pub(crate) fn run(args: &Args) -> Result<()> {
    for (path, content) in generate()? {
        if args.check {
            ensure!(
                read(&path)? == content,
                "{} is stale: run `cargo xtask dashboards`",
                path.display()
            );
        } else {
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            println!("wrote {}", path.display());
        }
    }
    Ok(())
}

fn dashboards() -> [Dashboard; 6] {
    [
        overview::dashboard(),
        workload::dashboard(),
        dns::dashboard(),
        tcp::dashboard(),
        gpu::dashboard(),
        agents::dashboard(),
    ]
}

/// Returns each file's path and content.
fn generate() -> Result<Vec<(PathBuf, String)>> {
    let deploy = root().join("deploy");
    // Helm reads nothing that is not below the chart.
    let chart = deploy.join("helm/orb8/files");
    let mut files = Vec::new();
    for dashboard in dashboards() {
        let name = format!("{}.json", dashboard.uid);
        let page = serde_json::to_string_pretty(&grafana::render(&dashboard))? + "\n";
        files.push((chart.join("dashboards").join(&name), page.clone()));
        files.push((deploy.join("grafana/dashboards").join(name), page));
    }
    let folder = deploy.join("prometheus");
    let rules = rules::read(&folder)?;
    for name in rules::FILES {
        files.push((chart.join(name), read(&folder.join(name))?));
    }
    let readme = folder.join("README.md");
    let text = read(&readme)?;
    files.push((folder.join("prometheusrule.yaml"), rules.manifest()));
    files.push((readme, rules.put_into(&text)?));
    Ok(files)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests;
