//! Where programs that see packets are attached: a cgroup (the socket hook) and devices (the
//! interface hook).

use std::{collections::HashMap, fs::File};

use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, LinkOrder, SchedClassifier, TcAttachType,
    tc::{self, NlOptions, SchedClassifierLinkId, TcAttachOptions, TcHandle},
};

use super::{
    EbpfError, Features,
    object::{Object, attach_error},
};

/// Priorities of the agent's clsact filters, one per signal: its own, so that nobody's filter is
/// replaced. The handle beside it is the agent's process id, which tells a dead agent's filters from
/// a live one's.
pub const FILTER_PRIORITIES: std::ops::RangeInclusive<u16> = 0x0b8..=0x0bf;

/// The cgroup v2 directory that the socket hook is attached to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketHookCgroup {
    /// Its id, which is its inode.
    pub id: u64,
    /// How deep below the root of the hierarchy it is.
    pub level: u32,
}

/// Whether a device's packets start with an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// They do (loopback's too).
    Ethernet,
    /// They start with the IP header: tun, WireGuard, IP tunnels.
    Raw,
}

/// How the interface hook is attached to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedTo {
    /// A TCX link, which dies with the process (6.6 and later).
    Tcx,
    /// A filter of the clsact qdisc, which has to be removed.
    Clsact,
}

impl AttachedTo {
    /// The name that status shows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// An object whose programs see packets.
pub trait PacketObject: Send {
    /// The signal's name.
    fn name(&self) -> &'static str;

    /// Attaches the socket hook to a cgroup v2 directory and all below it.
    ///
    /// # Errors
    /// [`EbpfError::Attach`] with the kernel's words.
    fn attach_sockets(&mut self, cgroup: &File, path: &str) -> Result<(), EbpfError>;

    /// Attaches the interface hook to a device of this thread's network namespace.
    ///
    /// # Errors
    /// [`EbpfError::Attach`] with the kernel's words.
    fn attach_interface(
        &mut self,
        index: u32,
        name: &str,
        kind: LinkKind,
    ) -> Result<AttachedTo, EbpfError>;

    /// Detaches from a device; no error when it is gone.
    fn detach_interface(&mut self, index: u32);
}

/// Names of an object's programs, ingress first.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketPrograms {
    /// Of the socket hook.
    pub(super) sockets: [&'static str; 2],
    /// Of the interface hook, for devices with Ethernet headers.
    pub(super) ethernet: [&'static str; 2],
    /// Of the interface hook, for devices without.
    pub(super) raw: [&'static str; 2],
    /// One of [`FILTER_PRIORITIES`].
    pub(super) priority: u16,
}

impl PacketPrograms {
    const fn of(&self, kind: LinkKind) -> [&'static str; 2] {
        match kind {
            LinkKind::Ethernet => self.ethernet,
            LinkKind::Raw => self.raw,
        }
    }
}

/// Where the programs of one object are attached.
pub(super) struct PacketHooks {
    programs: PacketPrograms,
    interfaces: HashMap<u32, InterfaceLinks>,
    tcx: bool,
}

struct InterfaceLinks {
    kind: LinkKind,
    ingress: SchedClassifierLinkId,
    egress: SchedClassifierLinkId,
}

impl PacketHooks {
    pub(super) fn new(programs: PacketPrograms, features: &Features) -> Self {
        Self { programs, interfaces: HashMap::new(), tcx: features.tcx() }
    }

    /// Loads the socket hook's programs, so that a refusal shows before anything is attached.
    pub(super) fn load_sockets(&self, object: &mut Object) -> Result<(), EbpfError> {
        for name in self.programs.sockets {
            let program: &mut CgroupSkb = object.program(name)?;
            program.load().map_err(|error| object.refused(error))?;
        }
        Ok(())
    }

    pub(super) fn attach_sockets(
        &self,
        object: &mut Object,
        cgroup: &File,
        path: &str,
    ) -> Result<(), EbpfError> {
        let hooks = [CgroupSkbAttachType::Ingress, CgroupSkbAttachType::Egress];
        for (name, hook) in self.programs.sockets.into_iter().zip(hooks) {
            let program: &mut CgroupSkb = object.program(name)?;
            let mode = CgroupAttachMode::Single;
            program.attach(cgroup, hook, mode).map_err(attach_error(name, path))?;
        }
        Ok(())
    }

    pub(super) fn attach_interface(
        &mut self,
        object: &mut Object,
        index: u32,
        name: &str,
        kind: LinkKind,
    ) -> Result<AttachedTo, EbpfError> {
        if self.interfaces.contains_key(&index) {
            self.detach_interface(object, index);
        }
        let [ingress, egress] = self.attach_both(object, name, kind)?;
        self.interfaces.insert(index, InterfaceLinks { kind, ingress, egress });
        Ok(if self.tcx { AttachedTo::Tcx } else { AttachedTo::Clsact })
    }

    fn attach_both(
        &self,
        object: &mut Object,
        interface: &str,
        kind: LinkKind,
    ) -> Result<[SchedClassifierLinkId; 2], EbpfError> {
        if !self.tcx {
            // It exists already where another program uses it; a failure shows when attaching.
            let _ = tc::qdisc_add_clsact(interface);
        }
        let [ingress, egress] = self.programs.of(kind);
        let first = self.attach_one(object, ingress, interface, TcAttachType::Ingress)?;
        match self.attach_one(object, egress, interface, TcAttachType::Egress) {
            Ok(second) => Ok([first, second]),
            Err(error) => {
                let program: &mut SchedClassifier = object.program(ingress)?;
                // The device is gone, or this direction goes with it.
                let _ = program.detach(first);
                Err(error)
            }
        }
    }

    fn attach_one(
        &self,
        object: &mut Object,
        name: &'static str,
        interface: &str,
        direction: TcAttachType,
    ) -> Result<SchedClassifierLinkId, EbpfError> {
        let program: &mut SchedClassifier = object.program(name)?;
        if program.fd().is_err() {
            program.load().map_err(attach_error(name, interface))?;
        }
        let options = if self.tcx {
            TcAttachOptions::TcxOrder(LinkOrder::default())
        } else {
            let pid = std::process::id();
            let handle = TcHandle::new((pid >> 16) as u16, pid as u16);
            let priority = self.programs.priority;
            TcAttachOptions::Netlink(NlOptions { priority, handle, classid: None })
        };
        program
            .attach_with_options(interface, direction, options)
            .map_err(attach_error(name, interface))
    }

    pub(super) fn detach_interface(&mut self, object: &mut Object, index: u32) {
        let Some(links) = self.interfaces.remove(&index) else { return };
        let [ingress, egress] = self.programs.of(links.kind);
        for (name, id) in [(ingress, links.ingress), (egress, links.egress)] {
            if let Ok(program) = object.program::<SchedClassifier>(name) {
                // A device that went took its filters along.
                let _ = program.detach(id);
            }
        }
    }

    /// Detaches from every device: links die with their descriptors, but clsact's filters do not.
    pub(super) fn detach_all(&mut self, object: &mut Object) {
        let indices: Vec<u32> = self.interfaces.keys().copied().collect();
        for index in indices {
            self.detach_interface(object, index);
        }
    }
}
