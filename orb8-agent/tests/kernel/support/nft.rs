//! Address translation, as a node does it for Services.

use super::{netns::Netns, program::has_programs, skip};

/// Applies rules for the tables `ip t` and `ip6 t`; `None`, and said so, where that is not possible.
pub(crate) fn translate(namespace: &Netns, rules: &[&str]) -> Option<()> {
    if !has_programs(&["nft"]) {
        return None;
    }
    for rule in ["add table ip t", "add table ip6 t"].iter().chain(rules) {
        if let Err(reason) = namespace.command("nft", rule) {
            skip("nftables", reason.trim());
            return None;
        }
    }
    Some(())
}
