//! NCCL's report as JSON. Names are NCCL's; what is not there is left out.
//!
//! What answers may be anybody's: lists are read up to a bound, and one communicator at a time, so that
//! what is parsed takes little more room than its text.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Communicator, Rank, RasStatus};
use crate::gpu::activity::CollectiveKind;

/// What of a job is kept: ten thousand ranks in as many communicators as frameworks make.
const MOST_COMMUNICATORS: usize = 1024;
const MOST_RANKS: usize = 65_536;
/// Ranks of one communicator that do not answer, and are named.
const MOST_MISSING: usize = 1024;

#[derive(Deserialize)]
struct Report<'a> {
    nccl_version: Option<String>,
    #[serde(borrow, default, deserialize_with = "first::<_, _, MOST_COMMUNICATORS>")]
    communicators: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawCommunicator<'a> {
    hash: String,
    size: Option<u32>,
    #[serde(default, deserialize_with = "first::<_, _, MOST_RANKS>")]
    ranks: Vec<RawRank>,
    #[serde(borrow, default, deserialize_with = "first::<_, _, MOST_MISSING>")]
    missing_ranks: Vec<&'a RawValue>,
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
    collective_counts: Counts,
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

/// Counts of the kinds that are known.
#[derive(Default)]
struct Counts(Vec<(CollectiveKind, u64)>);

/// What is known of a rank that does not answer.
#[derive(Deserialize)]
struct Missing {
    rank: u32,
}

/// Reads a report.
pub(super) fn parse(text: &[u8]) -> Result<RasStatus, serde_json::Error> {
    let report: Report<'_> = serde_json::from_slice(text)?;
    let mut room = MOST_RANKS;
    let mut communicators = Vec::new();
    for raw in report.communicators {
        communicators.extend(communicator(serde_json::from_str(raw.get())?, &mut room)?);
    }
    Ok(RasStatus { version: report.nccl_version, communicators })
}

fn communicator(
    raw: RawCommunicator<'_>,
    room: &mut usize,
) -> Result<Option<Communicator>, serde_json::Error> {
    let digits = raw.hash.strip_prefix("0x").unwrap_or(&raw.hash);
    let Ok(hash) = u64::from_str_radix(digits, 16) else { return Ok(None) };
    let ranks: Vec<Rank> = raw.ranks.into_iter().take(*room).map(rank).collect();
    *room -= ranks.len();
    let missing = raw.missing_ranks.into_iter().map(missing).collect::<Result<_, _>>()?;
    Ok(Some(Communicator { hash, size: raw.size, ranks, missing }))
}

/// A number alone, or what is known of who has it.
fn missing(raw: &RawValue) -> Result<u32, serde_json::Error> {
    serde_json::from_str(raw.get())
        .or_else(|_| serde_json::from_str(raw.get()).map(|Missing { rank }| rank))
}

fn rank(raw: RawRank) -> Rank {
    Rank {
        rank: raw.rank,
        counts: raw.collective_counts.0,
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

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Known;

        impl<'de> Visitor<'de> for Known {
            type Value = Counts;

            fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
                text.write_str("counts by collective")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
                let mut counts: Vec<(CollectiveKind, u64)> = Vec::new();
                while let Some((name, count)) = map.next_entry::<String, i64>()? {
                    // Before anything was called it is negative.
                    let (Some(kind), Ok(count)) = (kind(&name), u64::try_from(count)) else {
                        continue;
                    };
                    if counts.iter().all(|(known, _)| *known != kind) {
                        counts.push((kind, count));
                    }
                }
                Ok(Counts(counts))
            }
        }

        deserializer.deserialize_map(Known)
    }
}

/// Reads a list up to `MOST` elements; the others are looked over.
fn first<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct First<T, const MOST: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for First<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
            text.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut elements = Vec::new();
            while elements.len() < MOST {
                match list.next_element()? {
                    Some(element) => elements.push(element),
                    None => return Ok(elements),
                }
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(elements)
        }
    }

    deserializer.deserialize_seq(First::<T, MOST>(PhantomData))
}
