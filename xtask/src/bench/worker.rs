//! `bench-worker`: a process that sends or receives, in a namespace and a cgroup of the lab.
//!
//! It prints `ready`, answers each line on standard input with what it has sent, and ends with it.

mod dns;
mod tcp;
mod udp;

use std::{
    fs::{self, File},
    io::{self, BufRead, Write},
    net::SocketAddrV4,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, setns},
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, Signal},
    },
    unistd::Pid,
};

/// What `bench-worker` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// File of the network namespace to be in
    #[arg(long)]
    netns: PathBuf,
    /// Directory of the cgroup to be in
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// Processor to stay on
    #[arg(long)]
    cpu: Option<usize>,
    #[command(subcommand)]
    role: Role,
}

#[derive(clap::Subcommand)]
enum Role {
    /// Holds a socket that never reads: what it has no room for is dropped
    UdpSink { address: SocketAddrV4 },
    /// Sends datagrams
    UdpSend(udp::Send),
    /// Reads from every connection, for ever
    TcpSink { address: SocketAddrV4 },
    /// Writes to one connection, for ever
    TcpSend { to: SocketAddrV4 },
    /// Closes every connection that the other end has closed
    TcpClose { address: SocketAddrV4 },
    /// Connects and closes, again and again
    TcpConnect(tcp::Connect),
    /// Sends back what it gets
    TcpEcho { address: SocketAddrV4 },
    /// Sends a little and waits for as much, again and again
    TcpPing { to: SocketAddrV4 },
    /// Answers every query, over UDP and TCP
    DnsAnswer { address: SocketAddrV4 },
    /// Asks and waits for answers
    DnsAsk(dns::Ask),
    /// Becomes another program
    Exec {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

/// What was sent: datagrams, bytes of bulk, round trips, connections, or queries that were answered.
static SENT: AtomicU64 = AtomicU64::new(0);

pub(crate) fn run(args: Args) -> Result<()> {
    let Args { netns, cgroup, cpu, role } = args;
    // Whatever ends the benchmark, no worker stays.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    SigSet::all().thread_unblock()?;
    if let Some(cgroup) = cgroup {
        let procs = cgroup.join("cgroup.procs");
        fs::write(&procs, std::process::id().to_string()).context("joining the cgroup")?;
    }
    setns(File::open(&netns)?, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
    if let Some(cpu) = cpu {
        let mut cpus = CpuSet::new();
        cpus.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &cpus)?;
    }
    allow_sockets().context("raising the limit of open files")?;
    match role {
        Role::UdpSink { address } => udp::sink(address)?,
        Role::UdpSend(send) => udp::send(&send)?,
        Role::TcpSink { address } => tcp::sink(address)?,
        Role::TcpSend { to } => tcp::send(to)?,
        Role::TcpClose { address } => tcp::close(address)?,
        Role::TcpConnect(connect) => tcp::connect(&connect),
        Role::TcpEcho { address } => tcp::echo(address)?,
        Role::TcpPing { to } => tcp::ping(to)?,
        Role::DnsAnswer { address } => dns::answer(address)?,
        Role::DnsAsk(ask) => dns::ask(&ask)?,
        Role::Exec { command } => {
            let error = Command::new(&command[0]).args(&command[1..]).exec();
            return Err(error).with_context(|| format!("starting {}", command[0]));
        }
    }
    answer()
}

/// A socket per flow takes more descriptors than the usual limit, and no more than the hard one.
fn allow_sockets() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
}

/// Answers with the count until standard input ends.
fn answer() -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "ready")?;
    for line in io::stdin().lock().lines() {
        line?;
        writeln!(out, "{}", SENT.load(Relaxed))?;
    }
    Ok(())
}

/// Starts `work` on a thread that ends with the process.
fn spawn(work: impl FnMut() + Send + 'static) {
    thread::spawn(work);
}

/// Sends in steps, at a rate or as fast as it goes.
struct Pace {
    rate: u64,
    start: Instant,
    given: u64,
}

impl Pace {
    /// Things a second; 0 for no limit.
    fn new(rate: u64) -> Self {
        Self { rate, start: Instant::now(), given: 0 }
    }

    /// Waits until something is due, and returns how much.
    fn due(&mut self) -> u64 {
        const UNPACED: u64 = 64;
        const STEP: Duration = Duration::from_millis(1);
        if self.rate == 0 {
            return UNPACED;
        }
        loop {
            let due = (self.start.elapsed().as_secs_f64() * self.rate as f64) as u64;
            if due > self.given {
                return due - std::mem::replace(&mut self.given, due);
            }
            thread::sleep(STEP);
        }
    }
}
