//! Traffic: what is sent, from where to where, and by whom.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::available_parallelism,
};

use anyhow::{Context, Result, ensure};

use super::lab::{Cgroup, LOOPBACK, Lab, Netns, SERVER};

/// What is sent. Datagrams carry 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Connected sockets, one flow each, in turn.
    Udp { sockets: u32 },
    /// One socket, an address per flow, in turn.
    UdpUnconnected { flows: u32 },
    /// One established connection, as fast as the other end reads.
    TcpBulk,
    /// One established connection: one end asks, the other answers, 64 bytes each.
    TcpPing,
    /// Connections without data.
    TcpShort,
    /// Queries of 64 bytes and answers of 120, several at a time.
    DnsUdp,
    /// The same over one established connection, one at a time.
    DnsTcp,
}

/// As many flows as leave the cache between two packets of one.
pub(crate) const MANY: u32 = 4096;

impl Workload {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Udp { sockets: 1 } => "UDP, 1 connected socket".to_owned(),
            Self::Udp { sockets } => format!("UDP, {sockets} connected sockets"),
            Self::UdpUnconnected { flows } => format!("UDP, {flows} flows of one socket"),
            Self::TcpBulk => "TCP bulk".to_owned(),
            Self::TcpPing => "TCP ping-pong".to_owned(),
            Self::TcpShort => "short TCP connections".to_owned(),
            Self::DnsUdp => "DNS over UDP".to_owned(),
            Self::DnsTcp => "DNS over TCP".to_owned(),
        }
    }

    /// A rate with its unit; `rate` is what a [`Load`] counts, per second.
    pub(crate) fn rate(self, rate: f64) -> String {
        match self {
            Self::Udp { .. } | Self::UdpUnconnected { .. } => {
                format!("{:.0}k packets/s", rate / 1e3)
            }
            Self::TcpBulk => format!("{:.2} GB/s", rate / 1e9),
            Self::TcpPing => format!("{:.1}k round trips/s", rate / 1e3),
            Self::TcpShort => format!("{:.1}k connections/s", rate / 1e3),
            Self::DnsUdp | Self::DnsTcp => format!("{:.1}k queries/s", rate / 1e3),
        }
    }
}

/// Between which ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Within the client's namespace: the least work per packet, so programs show most.
    Loopback,
    /// From one pod to the other, across the node's bridge.
    Pods,
}

const PORT: u16 = 7777;

/// Where the DNS server listens, and what the agent takes for one.
pub(crate) const DNS_PORT: u16 = 53;

/// Addresses for short connections: ports of one would not last.
const ADDRESSES: u32 = 1024;

/// Running traffic. Dropping it ends it.
pub(crate) struct Load {
    source: Worker,
    _sink: Worker,
}

impl Load {
    /// Starts it; `rate` is in packets or connections a second, 0 for as many as go.
    pub(crate) fn start(lab: &Lab, workload: Workload, place: Place, rate: u64) -> Result<Self> {
        let (receiver, first) = match place {
            Place::Loopback => (&lab.client, LOOPBACK),
            Place::Pods => (&lab.server, SERVER),
        };
        let (sink, source) = roles(workload, first, rate);
        // Short connections need every processor.
        let cpu = |cpu| (workload != Workload::TcpShort).then_some(cpu);
        let last = available_parallelism()?.get() - 1;
        let sink = Worker::start(receiver, Some(&lab.receivers), cpu(last), &sink)?;
        let source = Worker::start(&lab.client, Some(&lab.senders), cpu(0), &source)?;
        Ok(Self { source, _sink: sink })
    }

    /// Datagrams, bytes of bulk, round trips, connections or answers so far.
    pub(crate) fn sent(&mut self) -> Result<u64> {
        self.source.count()
    }
}

/// The command lines of the receiving and the sending worker.
fn roles(workload: Workload, first: Ipv4Addr, rate: u64) -> (Vec<String>, Vec<String>) {
    let (any, to) =
        (SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT), SocketAddrV4::new(first, PORT));
    // Datagrams are answered from the address that they were sent to.
    let dns = SocketAddrV4::new(first, DNS_PORT);
    let udp = |flows: u32| format!("udp-send {to} --rate {rate} --flows {flows}");
    let (sink, source) = match workload {
        Workload::Udp { sockets } => (format!("udp-sink {any}"), udp(sockets) + " --connected"),
        Workload::UdpUnconnected { flows } => (format!("udp-sink {any}"), udp(flows)),
        Workload::TcpBulk => (format!("tcp-sink {any}"), format!("tcp-send {to}")),
        Workload::TcpPing => (format!("tcp-echo {any}"), format!("tcp-ping {to}")),
        Workload::TcpShort => (
            format!("tcp-close {any}"),
            format!("tcp-connect {to} --rate {rate} --addresses {ADDRESSES}"),
        ),
        Workload::DnsUdp => (format!("dns-answer {dns}"), format!("dns-ask {dns} --rate {rate}")),
        Workload::DnsTcp => {
            (format!("dns-answer {dns}"), format!("dns-ask {dns} --rate {rate} --tcp"))
        }
    };
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    (words(&sink), words(&source))
}

/// A child process. Dropping it ends it.
pub(crate) struct Worker {
    child: Child,
    answers: BufReader<ChildStdout>,
    questions: ChildStdin,
}

impl Worker {
    pub(super) fn start(
        netns: &Netns,
        cgroup: Option<&Cgroup>,
        cpu: Option<usize>,
        role: &[String],
    ) -> Result<Self> {
        let mut command = worker(netns, cgroup, cpu);
        command.args(role).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting a worker")?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both are piped");
        };
        let mut worker = Self { child, answers: BufReader::new(answers), questions };
        let ready = worker.answer()?;
        ensure!(ready == "ready", "{} does not start", role[0]);
        Ok(worker)
    }

    fn count(&mut self) -> Result<u64> {
        self.questions.write_all(b"\n")?;
        let answer = self.answer()?;
        answer.parse().context("a worker ended")
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that starts in a place of the lab; the role has to be added.
pub(crate) fn worker(netns: &Netns, cgroup: Option<&Cgroup>, cpu: Option<usize>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    // Out of the terminal's group: Ctrl-C reaches the benchmark, which ends its workers.
    command.process_group(0).args(["bench-worker", "--netns", &netns.path()]);
    if let Some(cgroup) = cgroup {
        command.arg("--cgroup").arg(cgroup.path());
    }
    if let Some(cpu) = cpu {
        command.arg("--cpu").arg(cpu.to_string());
    }
    command
}
