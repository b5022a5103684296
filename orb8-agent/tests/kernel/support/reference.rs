//! The other way to count: programs that read no header, beside those under test.

use std::fs::File;

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, LinkOrder, SchedClassifier, TcAttachType,
        tc::{self, NlOptions, TcAttachOptions},
    },
};

use super::netns::{Counted, Netns};

/// Loaded and attached reference programs.
pub(crate) struct Reference {
    ebpf: Ebpf,
    counts: PerCpuArray<MapData, [u64; 4]>,
}

/// Where among the programs of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    First,
    Last,
}

impl Reference {
    /// Counts what sockets of a cgroup send and receive.
    pub(crate) fn on_sockets(cgroup: &File) -> Self {
        let mut reference = Self::load();
        for (name, hook) in [
            ("bench_count_socket_ingress", CgroupSkbAttachType::Ingress),
            ("bench_count_socket_egress", CgroupSkbAttachType::Egress),
        ] {
            let program: &mut CgroupSkb = reference.program(name);
            program.load().expect("the reference loads");
            program.attach(cgroup, hook, CgroupAttachMode::Single).expect("the reference attaches");
        }
        reference
    }

    /// Counts what crosses an interface.
    pub(crate) fn on_interface(namespace: &Netns, interface: &str, tcx: bool) -> Self {
        Self::on_interface_at(namespace, interface, tcx, Order::First)
    }

    /// Counts what crosses an interface, before or after every other program.
    pub(crate) fn on_interface_at(
        namespace: &Netns,
        interface: &str,
        tcx: bool,
        order: Order,
    ) -> Self {
        namespace.run(|| {
            let mut reference = Self::load();
            if !tcx {
                // It may be there already; a failure shows when attaching.
                let _ = tc::qdisc_add_clsact(interface);
            }
            for (name, hook) in [
                ("bench_count_tc_ingress", TcAttachType::Ingress),
                ("bench_count_tc_egress", TcAttachType::Egress),
            ] {
                let options = match (tcx, order) {
                    (true, Order::First) => TcAttachOptions::TcxOrder(LinkOrder::first()),
                    (true, Order::Last) => TcAttachOptions::TcxOrder(LinkOrder::last()),
                    (false, order) => TcAttachOptions::Netlink(NlOptions {
                        priority: if order == Order::First { 1 } else { 5000 },
                        ..NlOptions::default()
                    }),
                };
                let program: &mut SchedClassifier = reference.program(name);
                program.load().expect("the reference loads");
                let attached = program.attach_with_options(interface, hook, options);
                attached.expect("the reference attaches");
            }
            reference
        })
    }

    fn load() -> Self {
        let object = aya::include_bytes_aligned!("../../objects/bench.bpf.o");
        let mut ebpf = Ebpf::load(object).expect("the reference object loads");
        let counts = ebpf.take_map("COUNTS").expect("the reference's counters");
        Self { ebpf, counts: PerCpuArray::try_from(counts).expect("an array per CPU") }
    }

    fn program<'a, P>(&'a mut self, name: &str) -> &'a mut P
    where
        P: 'a,
        &'a mut P: TryFrom<&'a mut aya::programs::Program>,
    {
        let program = self.ebpf.program_mut(name).expect("a program of the reference");
        program.try_into().unwrap_or_else(|_| panic!("{name} is of another type"))
    }

    /// What came in: wire packets, and bytes as the hook has them.
    pub(crate) fn ingress(&self) -> Counted {
        let [packets, bytes, ..] = self.read();
        Counted { packets, bytes }
    }

    /// What went out.
    pub(crate) fn egress(&self) -> Counted {
        let [_, _, packets, bytes] = self.read();
        Counted { packets, bytes }
    }

    pub(crate) fn total(&self) -> Counted {
        self.ingress() + self.egress()
    }

    fn read(&self) -> [u64; 4] {
        let cpus = self.counts.get(&0, 0).expect("the reference's counters");
        cpus.iter().fold([0; 4], |sum, cpu| std::array::from_fn(|i| sum[i] + cpu[i]))
    }
}
