//! What this kernel has, asked by trying: a version number tells nothing about a vendor's kernel.

use aya::{
    Btf,
    maps::MapType,
    programs::{ProgramType, SchedClassifier, TcAttachType},
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};
use aya_obj::btf::BtfKind;

/// One thing that the agent would use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// As `orb8 diagnose` shows it.
    pub name: &'static str,
    /// Whether the kernel has it.
    pub present: bool,
    /// What it serves, and what serves instead.
    pub purpose: &'static str,
    /// Since when stock kernels have it.
    pub since: &'static str,
}

/// The answers.
#[derive(Clone, Debug)]
pub struct Features {
    rows: Vec<Feature>,
    charges_memory_cgroup: bool,
}

const BTF: &str = "BTF";
const CGROUP_SKB: &str = "cgroup_skb programs";
const CGROUP_OWNER: &str = "cgroup id of a packet";
const CLASSIFIER: &str = "tc programs";
const TCX: &str = "TCX";
const RING: &str = "ring buffer";
const STORAGE: &str = "socket storage";
const STORAGE_ITERATOR: &str = "socket storage iterator";
const SOCKET_RELEASE: &str = "socket release hook";
const SOCK_OPS: &str = "sock_ops programs";
const TRACEPOINTS: &str = "raw tracepoints";
const OPEN_SOCKETS: &str = "sockets of open files";
const DROP_REASONS: &str = "reasons of drops";
const RESET_REASONS: &str = "reasons of resets";

impl Features {
    /// Asks the running kernel, whose types are `btf`. Without privileges most answers are no.
    #[must_use]
    pub fn probe(btf: Option<&Btf>) -> Self {
        let iterator = btf.is_some_and(|btf| {
            btf.id_by_type_name_kind("bpf_iter_bpf_sk_storage_map", BtfKind::Func).is_ok()
        });
        let knows =
            |name, kind| btf.is_some_and(|btf| btf.id_by_type_name_kind(name, kind).is_ok());
        let feature = |name, present, since, purpose| Feature { name, present, purpose, since };
        let rows = vec![
            feature(
                BTF,
                btf.is_some(),
                "5.4",
                "kernel types; without it flows work, slower, and tcp does not",
            ),
            feature(
                CGROUP_SKB,
                program(ProgramType::CgroupSkb),
                "4.10",
                "the socket hook; without it the interface hook serves, with owners unknown",
            ),
            feature(
                CGROUP_OWNER,
                helper(ProgramType::CgroupSkb, BpfHelper::BPF_FUNC_skb_cgroup_id),
                "5.10",
                "owners at the socket hook; without it the interface hook serves",
            ),
            feature(CLASSIFIER, program(ProgramType::SchedClassifier), "4.1", "the interface hook"),
            feature(
                TCX,
                SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok(),
                "6.6",
                "links that die with the agent; without it clsact filters serve",
            ),
            feature(
                RING,
                is_map_supported(MapType::RingBuf).unwrap_or(false),
                "5.8",
                "new flows, FIN and RST as they happen; orb8 needs it",
            ),
            feature(
                STORAGE,
                is_map_supported(MapType::SkStorage).unwrap_or(false)
                    && helper(ProgramType::CgroupSkb, BpfHelper::BPF_FUNC_sk_storage_get),
                "5.2",
                "cheap counting of busy sockets; without it the flow table counts them",
            ),
            feature(STORAGE_ITERATOR, iterator, "5.9", "collecting what socket storage counted"),
            feature(
                SOCKET_RELEASE,
                helper(ProgramType::CgroupSock, BpfHelper::BPF_FUNC_sk_storage_get),
                "5.9",
                "collecting what a closed socket counted",
            ),
            feature(
                SOCK_OPS,
                program(ProgramType::SockOps),
                "4.13",
                "handshakes and round-trip times of TCP",
            ),
            feature(
                TRACEPOINTS,
                program(ProgramType::RawTracePoint),
                "4.17",
                "retransmits, resets and drops of TCP as they happen",
            ),
            feature(
                OPEN_SOCKETS,
                knows("bpf_sock_from_file", BtfKind::Func),
                "5.11",
                "round-trip times of TCP connections older than the agent",
            ),
            feature(
                DROP_REASONS,
                knows("skb_drop_reason", BtfKind::Enum),
                "5.17",
                "dropped TCP packets, with the reason",
            ),
            feature(
                RESET_REASONS,
                knows("sk_rst_reason", BtfKind::Enum),
                "6.10",
                "why a RST was sent; without it RSTs are told all the same",
            ),
        ];
        // Came with the same release (5.11), and can be asked for.
        let charges_memory_cgroup =
            helper(ProgramType::CgroupSkb, BpfHelper::BPF_FUNC_ktime_get_coarse_ns);
        Self { rows, charges_memory_cgroup }
    }

    /// The answers of a kernel that lacks a feature: for tests of what serves instead.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        for row in &mut self.rows {
            row.present &= row.name != name;
        }
        self
    }

    /// One row per feature.
    #[must_use]
    pub fn rows(&self) -> &[Feature] {
        &self.rows
    }

    /// Whether maps are charged to the memory cgroup; older kernels charge them to the limit of
    /// locked memory.
    #[must_use]
    pub const fn charges_memory_cgroup(&self) -> bool {
        self.charges_memory_cgroup
    }

    /// Whether the socket hook can be used.
    #[must_use]
    pub fn socket_hook(&self) -> bool {
        self.has(CGROUP_SKB) && self.has(CGROUP_OWNER)
    }

    /// Whether the interface hook can be used.
    #[must_use]
    pub fn interface_hook(&self) -> bool {
        self.has(CLASSIFIER)
    }

    /// Whether the ring exists, without which nothing loads.
    #[must_use]
    pub fn ring(&self) -> bool {
        self.has(RING)
    }

    /// Whether connected sockets can count in their own storage.
    #[must_use]
    pub fn socket_storage(&self) -> bool {
        [BTF, STORAGE, STORAGE_ITERATOR, SOCKET_RELEASE].iter().all(|name| self.has(name))
    }

    pub(crate) fn tcx(&self) -> bool {
        self.has(TCX)
    }

    fn has(&self, name: &str) -> bool {
        self.rows.iter().any(|feature| feature.name == name && feature.present)
    }
}

fn program(kind: ProgramType) -> bool {
    is_program_supported(kind).unwrap_or(false)
}

fn helper(program: ProgramType, helper: BpfHelper) -> bool {
    is_helper_supported(program, helper).unwrap_or(false)
}
