//! What there was: programs beside the agent's that only count, and read no header.

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};

use super::{
    lab::Lab,
    programs::{COMPARISON_OBJECT, Hook, attach_interfaces, attach_sockets},
};

/// Packets with their IP bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl std::ops::Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

impl std::ops::Sub for Count {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            packets: self.packets.wrapping_sub(other.packets),
            bytes: self.bytes.wrapping_sub(other.bytes),
        }
    }
}

/// Attached reference programs.
pub(crate) struct Reference {
    hook: Hook,
    counts: PerCpuArray<MapData, [u64; 4]>,
    _ebpf: Ebpf,
}

impl Reference {
    /// Counts what the pods' sockets, or the node's interfaces, send and receive.
    pub(crate) fn attach(lab: &Lab, hook: Hook) -> Result<Self> {
        let mut ebpf = Ebpf::load(COMPARISON_OBJECT)?;
        match hook {
            Hook::Socket => attach_sockets(&mut ebpf, "count", lab.pods.path())?,
            Hook::Interface => lab.node.run(|| attach_interfaces(&mut ebpf, "count"))?,
        }
        let counts = ebpf.take_map("COUNTS").context("the comparison object has no COUNTS")?;
        Ok(Self { hook, counts: PerCpuArray::try_from(counts)?, _ebpf: ebpf })
    }

    /// What it has counted.
    pub(crate) fn count(&self) -> Result<Count> {
        /// What is before the IP header at the interface hook. The traffic that is accounted for
        /// has no packet of many segments, so each counted packet has one.
        const ETHERNET: u64 = 14;
        let mut sum = Count::default();
        for [in_packets, in_bytes, out_packets, out_bytes] in
            self.counts.get(&0, 0)?.iter().copied()
        {
            sum.packets += in_packets + out_packets;
            sum.bytes += in_bytes + out_bytes;
        }
        if self.hook == Hook::Interface {
            sum.bytes -= ETHERNET * sum.packets;
        }
        Ok(sum)
    }
}
