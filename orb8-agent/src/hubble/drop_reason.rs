//! The kernel's reasons of drops → Hubble's.
//!
//! Hubble's are those of Cilium's datapath. A reason of the kernel's that means the same has its number;
//! the others are `DROP_REASON_UNKNOWN`, and a flow's summary has the kernel's own word for all of them.

use orb8_proto::hubble::flow::DropReason;

/// By the kernel's names, in their order.
const TABLE: &[(&str, DropReason)] = &[
    ("BPF_CGROUP_EGRESS", DropReason::PolicyDenied),
    ("FQ_HORIZON_LIMIT", DropReason::ReachedEdtRateLimitingDropHorizon),
    ("HDR_TRUNC", DropReason::InvalidPacketDropped),
    ("ICMP_CSUM", DropReason::InvalidPacketDropped),
    ("INVALID_PROTO", DropReason::InvalidPacketDropped),
    ("IPV6_BAD_EXTHDR", DropReason::InvalidIpv6ExtensionHeader),
    ("IP_CSUM", DropReason::InvalidPacketDropped),
    ("IP_INHDR", DropReason::InvalidPacketDropped),
    ("IP_INNOROUTES", DropReason::FibLookupFailed),
    ("IP_INVALID_SOURCE", DropReason::InvalidSourceIp),
    ("IP_LOCAL_SOURCE", DropReason::InvalidSourceIp),
    ("IP_NOPROTO", DropReason::UnknownL4Protocol),
    ("IP_OUTNOROUTES", DropReason::FibLookupFailed),
    ("IP_RPFILTER", DropReason::InvalidSourceIp),
    ("NEIGH_CREATEFAIL", DropReason::UnknownL3TargetAddress),
    ("NEIGH_DEAD", DropReason::UnknownL3TargetAddress),
    ("NEIGH_FAILED", DropReason::UnknownL3TargetAddress),
    ("NETFILTER_DROP", DropReason::PolicyDenied),
    ("NO_SOCKET", DropReason::SocketLookupFailed),
    ("PKT_TOO_SMALL", DropReason::InvalidPacketDropped),
    ("SECURITY_HOOK", DropReason::PolicyDenied),
    ("SKB_CSUM", DropReason::InvalidPacketDropped),
    ("TCP_CSUM", DropReason::InvalidPacketDropped),
    ("TCP_FLAGS", DropReason::InvalidPacketDropped),
    ("TCP_INVALID_SYN", DropReason::InvalidPacketDropped),
    ("TC_EGRESS", DropReason::PolicyDenied),
    ("TC_INGRESS", DropReason::PolicyDenied),
    ("UDP_CSUM", DropReason::InvalidPacketDropped),
    ("UNHANDLED_PROTO", DropReason::UnsupportedL3Protocol),
    ("XDP", DropReason::PolicyDenied),
];

/// What stands for an unknown reason in a monitor message. Clients print 0 as a success.
const UNKNOWN_SUB_TYPE: i32 = 255;

/// Returns Hubble's reason for a kernel's.
pub(super) fn of(name: &str) -> DropReason {
    let at = TABLE.binary_search_by(|(known, _)| (*known).cmp(name));
    at.map_or(DropReason::Unknown, |at| TABLE[at].1)
}

/// Returns the sub-type of the monitor message that would tell of it.
pub(super) fn sub_type(reason: DropReason) -> i32 {
    match reason {
        DropReason::Unknown => UNKNOWN_SUB_TYPE,
        known => known.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_order_and_found() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0), "a search needs the order");
        for (name, reason) in TABLE {
            assert_eq!(of(name), *reason, "{name}");
            assert!((130..=205).contains(&i32::from(*reason)), "{name} is a drop for clients");
        }
        assert_eq!(of("QDISC_DROP"), DropReason::Unknown);
        assert_eq!(sub_type(DropReason::Unknown), 255);
        assert_eq!(sub_type(DropReason::PolicyDenied), 133);
    }
}
