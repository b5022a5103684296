//! `cargo xtask soak`: whether the agent stays what it is under load, while pods come and go.
//!
//! ```text
//! Lab ─▶ 50k packets/s, DNS ─┐
//! pods (API objects, cgroups, ├─▶ agent ─(scrape a second)─▶ record ─▶ verdict
//! connections of their own) ─┘
//! ```
//! It needs the agent's own crates, and builds itself as the benchmark does.

#[cfg(feature = "bench")]
mod pods;
#[cfg(feature = "bench")]
mod record;

use anyhow::Result;

/// What `soak` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long, the warm-up included
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(15..=86_400))]
    seconds: u32,
    /// Packets a second, beside those of the pods
    #[arg(long, default_value_t = 50_000)]
    packets: u64,
    /// Pods that come, and that go, each second
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    pods: u32,
}

#[cfg(not(feature = "bench"))]
pub(crate) fn run(_: &Args) -> Result<()> {
    super::run_optimised()
}

#[cfg(feature = "bench")]
pub(crate) fn run(args: &Args) -> Result<()> {
    observed::run(args)
}

#[cfg(feature = "bench")]
mod observed {
    use std::time::{Duration, Instant};

    use anyhow::{Result, bail, ensure};
    use nix::unistd::Uid;

    use super::{Args, pods::Pods, record::Record};
    use crate::bench::{
        agent::{Agent, Signals},
        interrupt::{self, pause},
        lab::Lab,
        programs::Hook,
        workload::{Load, Place, Workload},
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// Flows of the main load.
    const FLOWS: u32 = 64;
    /// A node's worth of names.
    const QUERIES: u64 = 100;

    pub(super) fn run(args: &Args) -> Result<()> {
        ensure!(
            Uid::effective().is_root(),
            "programs are loaded and namespaces made: run it as root"
        );
        interrupt::watch()?;
        let lab = Lab::new()?;
        let mut pods = Pods::start(&lab)?;
        let flags = pods.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let agent = Agent::start(&lab, Hook::Socket, Signals::All, &flags)?;
        let load = Workload::Udp { sockets: FLOWS };
        let mut load = Load::start(&lab, load, Place::Pods, args.packets)?;
        let _names = Load::start(&lab, Workload::DnsUdp, Place::Pods, QUERIES)?;
        let mut record = Record::new(args.pods);
        let start = Instant::now();
        for second in 1..=args.seconds {
            pods.turn_over(args.pods)?;
            pause((start + second * SECOND).saturating_duration_since(Instant::now()))?;
            record.take(&agent)?;
            if second % 10 == 0 {
                eprintln!("soak: {second} s: {}", record.last());
            }
        }
        let sent = load.sent()? as f64 / start.elapsed().as_secs_f64();
        let report = record.report();
        println!("{:.0} packets/s sent, {} pods came and went", sent, pods.gone());
        println!("{}", report.figures);
        let mut wrong = report.wrong;
        if sent < 0.9 * args.packets as f64 {
            wrong.push(format!("only {sent:.0} packets/s were sent: the machine is too slow"));
        }
        if !wrong.is_empty() {
            bail!("{}", wrong.join("\n       "));
        }
        Ok(())
    }
}
