//! NCCL's report as JSON. Names are NCCL's; what is not there is left out.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Communicator, Rank, RasStatus};
use crate::gpu::activity::CollectiveKind;

/// What of a job is kept: ten thousand ranks in as many communicators as frameworks make.
const MOST_COMMUNICATORS: usize = 1024;
const MOST_RANKS: usize = 65_536;

#[derive(Deserialize)]
struct Report {
    nccl_version: Option<String>,
    #[serde(default)]
    communicators: Vec<RawCommunicator>,
}

#[derive(Deserialize)]
struct RawCommunicator {
    hash: String,
    size: Option<u32>,
    #[serde(default)]
    ranks: Vec<RawRank>,
    #[serde(default)]
    missing_ranks: Vec<Missing>,
}

#[derive(Deserialize)]
struct RawRank {
    rank: u32,
    #[serde(default)]
    host: String,
    pid: Option<u32>,
    #[serde(default)]
    status: Status,
    #[serde(default)]
    collective_counts: BTreeMap<String, i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    init_state: i64,
    async_error: i64,
    finalize_called: bool,
    destroy_flag: bool,
    abort_flag: bool,
}

/// A number alone, or what is known of who has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Missing {
    Number(u32),
    Known { rank: u32 },
}

/// Reads a report.
pub(super) fn parse(text: &[u8]) -> Result<RasStatus, serde_json::Error> {
    let report: Report = serde_json::from_slice(text)?;
    let mut room = MOST_RANKS;
    let communicators = report.communicators.into_iter().take(MOST_COMMUNICATORS);
    let communicators = communicators.filter_map(|raw| communicator(raw, &mut room)).collect();
    Ok(RasStatus { version: report.nccl_version, communicators })
}

fn communicator(raw: RawCommunicator, room: &mut usize) -> Option<Communicator> {
    let digits = raw.hash.strip_prefix("0x").unwrap_or(&raw.hash);
    let ranks: Vec<Rank> = raw.ranks.into_iter().take(*room).map(rank).collect();
    *room -= ranks.len();
    let missing = raw.missing_ranks.into_iter().take(MOST_RANKS).map(|missing| match missing {
        Missing::Number(rank) | Missing::Known { rank } => rank,
    });
    Some(Communicator {
        hash: u64::from_str_radix(digits, 16).ok()?,
        size: raw.size,
        ranks,
        missing: missing.collect(),
    })
}

fn rank(raw: RawRank) -> Rank {
    let counts = raw.collective_counts.iter().filter_map(|(name, count)| {
        // Before anything was called it is negative.
        Some((kind(name)?, u64::try_from(*count).ok()?))
    });
    Rank {
        rank: raw.rank,
        counts: counts.collect(),
        host: raw.host,
        pid: raw.pid,
        init_state: raw.status.init_state,
        async_error: raw.status.async_error,
        is_finalized: raw.status.finalize_called || raw.status.destroy_flag,
        is_aborted: raw.status.abort_flag,
    }
}

fn kind(name: &str) -> Option<CollectiveKind> {
    Some(match name {
        "AllReduce" => CollectiveKind::AllReduce,
        "ReduceScatter" => CollectiveKind::ReduceScatter,
        "AllGather" => CollectiveKind::AllGather,
        "AlltoAll" | "AllToAll" => CollectiveKind::AllToAll,
        "Broadcast" => CollectiveKind::Broadcast,
        "Reduce" => CollectiveKind::Reduce,
        "Send" => CollectiveKind::Send,
        "Recv" => CollectiveKind::Recv,
        _ => return None,
    })
}
