//! What the kernel calls the reasons of drops and resets, and which drops are told.

use orb8_common::tcp::DROP_REASONS;

use super::{DROP_TRACEPOINT, RESET_TRACEPOINT};
use crate::ebpf::{btf::KernelTypes, tracefs};

/// A kernel's numbered reasons and their names.
pub type Reasons = Vec<(u32, String)>;

/// What the kernel calls its reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpReasons {
    /// Of dropped packets. Empty where the kernel tells none (before 5.17).
    pub drops: Reasons,
    /// Of resets. Empty where the kernel tells none (before 6.11).
    pub resets: Reasons,
}

/// The names that the kernel's tracepoints print; where those cannot be read, its types have them too.
pub(super) fn reasons(types: &KernelTypes) -> TcpReasons {
    let of = |group, name, values, prefix: &str| {
        let printed = tracefs::format(group, name)
            .map(|format| tracefs::names(&format, "reason"))
            .unwrap_or_default();
        if !printed.is_empty() {
            return printed;
        }
        let name = |(id, name): (u32, &str)| Some((id, name.strip_prefix(prefix)?.to_owned()));
        types.values(values).into_iter().filter_map(name).collect()
    };
    TcpReasons {
        drops: of("skb", DROP_TRACEPOINT, "skb_drop_reason", "SKB_DROP_REASON_"),
        resets: of("tcp", RESET_TRACEPOINT, "sk_rst_reason", "SK_RST_REASON_"),
    }
}

/// Drops that lose nothing: a segment that another one already holds, and what was still unread when a
/// socket closed.
const HARMLESS: [&str; 2] = ["TCP_OFOMERGE", "QUEUE_PURGE"];

/// Marks the reasons that are not told, a bit for each. What comes before `NOT_SPECIFIED` is no drop,
/// and that says nothing.
pub(super) fn ignored(drops: &Reasons) -> [u64; DROP_REASONS / 64] {
    let unspecified = drops.iter().find(|(_, name)| name == "NOT_SPECIFIED").map(|(id, _)| *id);
    let harmless = drops.iter().filter(|(_, name)| HARMLESS.contains(&name.as_str()));
    let mut bits = [0; DROP_REASONS / 64];
    for id in (0..=unspecified.unwrap_or(0)).chain(harmless.map(|(id, _)| *id)) {
        if let Some(word) = bits.get_mut(id as usize / 64) {
            *word |= 1 << (id % 64);
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_why_and_is_a_loss_is_told() {
        let named = |names: &[(u32, &str)]| -> Reasons {
            names.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
        };
        let bits = ignored(&named(&[(2, "NOT_SPECIFIED"), (3, "NO_SOCKET"), (70, "QUEUE_PURGE")]));
        assert_eq!(bits[..2], [0b0111, 1 << 6]);
        assert_eq!(ignored(&named(&[(0, "NOT_SPECIFIED"), (1, "NO_SOCKET")]))[0], 1);
        assert_eq!(ignored(&named(&[(0x10001, "QUEUE_PURGE")]))[0], 1, "beyond the bits");
    }
}
