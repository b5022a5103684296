//! Where the members that the `tcp` programs read are in this kernel's structures.

use orb8_common::tcp::Offsets;

use crate::ebpf::{EbpfError, btf::KernelTypes};

/// Looks every member up.
///
/// # Errors
/// [`EbpfError::Unknown`] with the first one that this kernel has not and that nothing works without.
pub(super) fn offsets(types: &KernelTypes) -> Result<Offsets, EbpfError> {
    let optional = |structure, path| types.offset(structure, path).unwrap_or(0);
    let needed = |structure: &'static str, path: &'static str, shown: &'static str| {
        types.offset(structure, path).ok_or(EbpfError::Unknown { what: shown })
    };
    macro_rules! member {
        ($structure:ident . $($path:ident).+) => {
            needed(
                stringify!($structure),
                concat!($(".", stringify!($path)),+).trim_start_matches('.'),
                concat!("the kernel's ", stringify!($structure), $(".", stringify!($path)),+),
            )?
        };
    }
    let segments = match (types.offset("sk_buff", "cb"), types.offset("tcp_skb_cb", "tcp_gso_segs"))
    {
        (Some(cb), Some(segments)) => cb + segments,
        _ => 0,
    };
    Ok(Offsets {
        family: member!(sock_common.skc_family),
        num: member!(sock_common.skc_num),
        dport: member!(sock_common.skc_dport),
        rcv_saddr: member!(sock_common.skc_rcv_saddr),
        daddr: member!(sock_common.skc_daddr),
        // Absent from kernels without IPv6, whose sockets are never of that family.
        v6_rcv_saddr: optional("sock_common", "skc_v6_rcv_saddr"),
        v6_daddr: optional("sock_common", "skc_v6_daddr"),
        state: member!(sock_common.skc_state),
        flags: member!(sock_common.skc_flags),
        cookie: member!(sock_common.skc_cookie),
        net: member!(sock_common.skc_net.net),
        net_inum: member!(net.ns.inum),
        sport: member!(inet_sock.inet_sport),
        protocol: member!(sock.sk_protocol),
        cgroup: member!(sock.sk_cgrp_data),
        cgroup_kn: member!(cgroup.kn),
        kn_id: member!(kernfs_node.id),
        err: member!(sock.sk_err),
        drops: optional("sock", "sk_drops"),
        ack_backlog: member!(sock.sk_ack_backlog),
        max_ack_backlog: member!(sock.sk_max_ack_backlog),
        srtt: member!(tcp_sock.srtt_us),
        rack_rtt: optional("tcp_sock", "rack.rtt_us"),
        total_retrans: member!(tcp_sock.total_retrans),
        bytes_acked: member!(tcp_sock.bytes_acked),
        bytes_sent: member!(tcp_sock.bytes_sent),
        bytes_retrans: member!(tcp_sock.bytes_retrans),
        bytes_received: member!(tcp_sock.bytes_received),
        callbacks: member!(tcp_sock.bpf_sock_ops_cb_flags),
        skb_sk: member!(sk_buff.sk),
        skb_head: member!(sk_buff.head),
        skb_len: member!(sk_buff.len),
        skb_dev: member!(sk_buff.dev),
        dev_net: member!(net_device.nd_net.net),
        skb_protocol: member!(sk_buff.protocol),
        skb_network_header: member!(sk_buff.network_header),
        skb_iif: member!(sk_buff.skb_iif),
        skb_segments: segments,
        socket_sk: member!(socket.sk),
    })
}
