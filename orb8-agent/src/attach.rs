//! Where programs that see packets go, and keeping them there while interfaces come and go.
//!
//! ```text
//! strategy, features ──decide──▶ Plan ──start──▶ Attacher ──add──▶ cgroup and interfaces
//!                                                   └──run──▶ hotplug
//! ```

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::{
    config::{AttachStrategy, Config, Environment, InterfaceSelector},
    ebpf::{Features, PacketObject, SocketHookCgroup},
    error::{AgentError, chain},
    netlink::{Change, Link, Network},
    pipeline::LocalAddresses,
    status::{AttachedInterface, Attachment, StatusBoard},
    store::InterfaceNames,
};

/// Which hooks are used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The socket hook, at the root of the cgroup v2 hierarchy.
    pub sockets: bool,
    /// The interface hook.
    pub interfaces: bool,
    /// Why.
    pub reason: String,
}

impl Plan {
    /// The strategy's word for it.
    #[must_use]
    pub const fn in_force(&self) -> &'static str {
        match (self.sockets, self.interfaces) {
            (true, true) => AttachStrategy::Both.word(),
            (true, false) => AttachStrategy::Cgroup.word(),
            (false, _) => AttachStrategy::Tc.word(),
        }
    }
}

/// State directories of runtimes whose pods have a network stack of their own, which this kernel's
/// sockets do not show.
const SANDBOXES: [(&str, &str); 4] = [
    ("/run/containerd/runsc", "gVisor"),
    ("/run/runsc", "gVisor"),
    ("/run/vc/sbs", "Kata Containers"),
    ("/run/kata", "Kata Containers"),
];

/// Chooses the hooks.
///
/// # Errors
/// [`AgentError::Unavailable`] when what was asked for cannot be had.
pub fn decide(config: &Config, features: &Features) -> Result<Plan, AgentError> {
    decide_on(config.attach, Machine::look(config, features))
}

/// What the choice depends on.
#[derive(Clone, Copy, Debug)]
struct Machine {
    /// Why the socket hook cannot be had.
    no_sockets: Option<&'static str>,
    /// Why the interface hook cannot be had.
    no_interfaces: Option<&'static str>,
    /// A sandboxing runtime that runs pods here.
    sandbox: Option<&'static str>,
}

impl Machine {
    fn look(config: &Config, features: &Features) -> Self {
        let no_sockets = if config.cgroup_root.is_none() {
            Some("cgroup v2 is not mounted (mount it, or set --cgroup-root)")
        } else if !features.socket_hook() {
            Some("this kernel has no cgroup_skb programs that know a packet's owner (5.10 has)")
        } else {
            None
        };
        let no_interfaces =
            (!features.interface_hook()).then_some("this kernel takes no tc programs");
        let is_used =
            |path: &str| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        let sandbox = SANDBOXES.iter().find(|(path, _)| is_used(path)).map(|(_, name)| *name);
        Self { no_sockets, no_interfaces, sandbox }
    }
}

fn decide_on(strategy: AttachStrategy, machine: Machine) -> Result<Plan, AgentError> {
    let Machine { no_sockets, no_interfaces, sandbox } = machine;
    let asked = |reason: &str| reason.to_owned();
    let plan = match strategy {
        AttachStrategy::Auto => match (no_sockets, sandbox) {
            (None, None) => Plan {
                sockets: true,
                interfaces: false,
                reason: "every local socket is seen, with its owner".to_owned(),
            },
            (None, Some(sandbox)) if no_interfaces.is_none() => Plan {
                sockets: true,
                interfaces: true,
                reason: format!("{sandbox} runs pods whose sockets this kernel does not see"),
            },
            (None, Some(sandbox)) => Plan {
                sockets: true,
                interfaces: false,
                reason: format!("{sandbox} runs pods, but this kernel takes no tc programs"),
            },
            (Some(why), _) => {
                Plan { sockets: false, interfaces: true, reason: format!("no socket hook: {why}") }
            }
        },
        AttachStrategy::Cgroup => {
            Plan { sockets: true, interfaces: false, reason: asked("asked for") }
        }
        AttachStrategy::Tc => Plan { sockets: false, interfaces: true, reason: asked("asked for") },
        AttachStrategy::Both => {
            Plan { sockets: true, interfaces: true, reason: asked("asked for") }
        }
    };
    let missing = [no_sockets.filter(|_| plan.sockets), no_interfaces.filter(|_| plan.interfaces)];
    let reasons: Vec<String> = missing.into_iter().flatten().map(str::to_owned).collect();
    if reasons.is_empty() {
        Ok(plan)
    } else {
        Err(AgentError::Unavailable { reason: reasons.join("; ") })
    }
}

/// What the programs know the socket hook's cgroup by; `None` where it cannot be told.
#[must_use]
pub fn hook_cgroup(root: &Path) -> Option<SocketHookCgroup> {
    let id = std::fs::metadata(root).ok()?.ino();
    let mount = Environment::of_machine().cgroup_mount?;
    let below = root.canonicalize().ok()?.strip_prefix(mount.canonicalize().ok()?).ok()?.to_owned();
    Some(SocketHookCgroup { id, level: u32::try_from(below.components().count()).ok()? })
}

/// An object that the attacher and its source share.
pub type SharedPackets = Arc<Mutex<dyn PacketObject>>;

/// Locks a shared object. A panic elsewhere leaves it usable: the kernel keeps its state.
fn lock(object: &SharedPackets) -> MutexGuard<'_, dyn PacketObject + 'static> {
    object.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the programs of every object where the plan wants them.
pub struct Attacher {
    objects: Vec<SharedPackets>,
    plan: Plan,
    root: Option<PathBuf>,
    selector: InterfaceSelector,
    network: Option<Network>,
    /// Those that the plan wants programs on, by index.
    links: BTreeMap<u32, Link>,
    addresses: LocalAddresses,
    board: StatusBoard,
}

impl Attacher {
    /// Looks at the interfaces, and attaches nothing yet. Call it within a runtime.
    ///
    /// # Errors
    /// [`AgentError::Io`] when the plan needs interfaces and they cannot be listed.
    pub async fn start(
        plan: Plan,
        config: &Config,
        addresses: LocalAddresses,
        board: StatusBoard,
    ) -> Result<Self, AgentError> {
        let network = match Network::open() {
            Ok(network) => Some(network),
            Err(error) if plan.interfaces => return Err(error),
            Err(error) => {
                tracing::warn!(error = chain(&error), "own traffic cannot be told by address");
                None
            }
        };
        let root = config.cgroup_root.clone().filter(|_| plan.sockets);
        let attachment = Attachment {
            requested: config.attach.word(),
            in_force: plan.in_force(),
            reason: plan.reason.clone(),
            cgroup_root: root.as_ref().map(|root| root.display().to_string()),
            ..Attachment::default()
        };
        board.update(|status| status.attachment = Some(attachment));
        let selector = config.interfaces.clone();
        let mut attacher = Self {
            objects: Vec::new(),
            plan,
            root,
            selector,
            network,
            links: BTreeMap::new(),
            addresses,
            board,
        };
        attacher.list().await?;
        Ok(attacher)
    }

    /// Where programs go.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Lets the last object go that was added: it is detached when its other owners drop it.
    pub fn remove_last(&mut self) {
        if let Some(object) = self.objects.pop() {
            for index in self.links.keys() {
                lock(&object).detach_interface(*index);
            }
        }
    }

    /// Attaches an object to everything that is there, and from then on to what comes.
    ///
    /// # Errors
    /// [`AgentError::Ebpf`] when the socket hook, which the plan has, cannot be attached. The object is
    /// then attached nowhere.
    pub fn add(&mut self, object: SharedPackets) -> Result<(), AgentError> {
        if let Some(root) = &self.root {
            attach_sockets(&object, root)?;
        }
        for link in self.links.values() {
            self.attach_interface(&object, link);
        }
        self.objects.push(object);
        Ok(())
    }

    /// Follows changes until it is cancelled, then detaches from every interface.
    pub async fn run(mut self, cancel: CancellationToken) {
        while let Some(network) = &mut self.network {
            let change = tokio::select! {
                () = cancel.cancelled() => break,
                change = network.next() => change,
            };
            match change {
                Some(Change::Link(link)) => {
                    self.rename(|names| names.insert(link.index, &link.name));
                    self.link(&link).await;
                }
                Some(Change::Gone(index)) => {
                    self.rename(|names| names.remove(index));
                    self.gone(index);
                }
                Some(Change::Addresses) => self.list_addresses().await,
                Some(Change::Missed) => {
                    if let Err(error) = self.list().await {
                        tracing::warn!(error = chain(&error), "interfaces cannot be listed");
                    }
                }
                None => {
                    tracing::error!("the netlink connection ended: new interfaces are not seen");
                    break;
                }
            }
        }
        cancel.cancelled().await;
        for index in self.links.keys() {
            self.detach(*index);
        }
    }

    async fn list(&mut self) -> Result<(), AgentError> {
        self.list_addresses().await;
        let Some(network) = &self.network else {
            return Ok(());
        };
        let links = match network.links().await {
            Ok(links) => links,
            Err(error) if self.plan.interfaces => return Err(error),
            Err(error) => {
                tracing::warn!(error = chain(&error), "interfaces have no names");
                return Ok(());
            }
        };
        let names = links.iter().map(|link| (link.index, link.name.as_str()));
        self.rename(|known| *known = names.collect());
        if !self.plan.interfaces {
            return Ok(());
        }
        let is_there = |index: &u32| links.iter().any(|link| link.index == *index);
        let gone: Vec<u32> = self.links.keys().copied().filter(|index| !is_there(index)).collect();
        for index in gone {
            self.gone(index);
        }
        for link in &links {
            self.link(link).await;
        }
        Ok(())
    }

    async fn list_addresses(&self) {
        let Some(network) = &self.network else { return };
        match network.addresses().await {
            Ok(addresses) => self.addresses.set(addresses),
            Err(error) => tracing::warn!(error = chain(&error), "addresses cannot be listed"),
        }
    }

    async fn link(&mut self, link: &Link) {
        if !self.plan.interfaces {
            return;
        }
        if !self.is_wanted(link) {
            return self.gone(link.index);
        }
        // The kernel also tells of every change of state.
        if self.links.get(&link.index).is_some_and(|known| known.name == link.name) {
            return;
        }
        self.remove_stale_filters(link).await;
        for object in &self.objects {
            self.attach_interface(object, link);
        }
        self.links.insert(link.index, link.clone());
    }

    async fn remove_stale_filters(&self, link: &Link) {
        let Some(network) = &self.network else { return };
        let removed = network.remove_stale_filters(link.index).await;
        if removed > 0 {
            tracing::info!(interface = link.name, removed, "removed a dead agent's filters");
        }
    }

    /// Loopback only where it is named: its packets pass both directions.
    fn is_wanted(&self, link: &Link) -> bool {
        self.selector.selects(&link.name) && (!link.loopback || !self.selector.include.is_empty())
    }

    fn attach_interface(&self, object: &SharedPackets, link: &Link) {
        let Link { index, name, kind, .. } = link;
        let mut object = lock(object);
        match object.attach_interface(*index, name, *kind) {
            Ok(mechanism) => {
                let (signal, mechanism) = (object.name(), mechanism.name());
                tracing::info!(interface = name, signal, mechanism, "attached the interface hook");
                let interface = AttachedInterface { index: *index, name: name.clone(), mechanism };
                self.update(|attachment| {
                    attachment.interfaces.retain(|known| known.index != interface.index);
                    attachment.interfaces.push(interface);
                });
            }
            // One that went before we reached it is no loss.
            Err(error) => {
                tracing::warn!(interface = name, error = chain(&error), "cannot attach");
            }
        }
    }

    fn gone(&mut self, index: u32) {
        if self.links.remove(&index).is_some() {
            self.detach(index);
            self.update(|attachment| attachment.interfaces.retain(|known| known.index != index));
        }
    }

    fn detach(&self, index: u32) {
        for object in &self.objects {
            lock(object).detach_interface(index);
        }
    }

    fn rename(&self, change: impl FnOnce(&mut InterfaceNames)) {
        self.board.update(|status| change(Arc::make_mut(&mut status.interfaces)));
    }

    fn update(&self, change: impl FnOnce(&mut Attachment)) {
        self.board.update(|status| {
            if let Some(attachment) = &mut status.attachment {
                change(attachment);
            }
        });
    }
}

fn attach_sockets(object: &SharedPackets, root: &Path) -> Result<(), AgentError> {
    let shown = root.display().to_string();
    let directory = File::open(root).map_err(AgentError::io(format!("open the cgroup {shown}")))?;
    let mut object = lock(object);
    object
        .attach_sockets(&directory, &shown)
        .map_err(AgentError::ebpf("attach the socket hook"))?;
    tracing::info!(cgroup = shown, signal = object.name(), "attached the socket hook");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Machine = Machine { no_sockets: None, no_interfaces: None, sandbox: None };

    fn plan(strategy: AttachStrategy, machine: Machine) -> (&'static str, String) {
        let plan = decide_on(strategy, machine).expect("a plan");
        (plan.in_force(), plan.reason)
    }

    #[test]
    fn auto_takes_the_socket_hook_alone_where_it_sees_everything() {
        assert_eq!(plan(AttachStrategy::Auto, ALL).0, "cgroup");
    }

    #[test]
    fn auto_adds_the_interface_hook_for_sandboxes() {
        let (in_force, reason) =
            plan(AttachStrategy::Auto, Machine { sandbox: Some("gVisor"), ..ALL });
        assert_eq!(in_force, "both");
        assert!(reason.contains("gVisor"), "{reason}");
    }

    #[test]
    fn auto_falls_back_to_interfaces_and_says_why() {
        let machine = Machine { no_sockets: Some("cgroup v2 is not mounted"), ..ALL };
        let (in_force, reason) = plan(AttachStrategy::Auto, machine);
        assert_eq!(in_force, "tc");
        assert!(reason.contains("not mounted"), "{reason}");
    }

    #[test]
    fn what_is_asked_for_by_name_is_fatal_when_it_is_missing() {
        let machine = Machine { no_sockets: Some("cgroup v2 is not mounted"), ..ALL };
        for strategy in [AttachStrategy::Cgroup, AttachStrategy::Both] {
            let error = decide_on(strategy, machine).expect_err("no plan");
            assert!(error.to_string().contains("not mounted"), "{error}");
        }
        assert_eq!(plan(AttachStrategy::Tc, machine).0, "tc");
    }

    #[test]
    fn nothing_at_all_names_both_reasons() {
        let machine =
            Machine { no_sockets: Some("no cgroup"), no_interfaces: Some("no tc"), sandbox: None };
        let error = decide_on(AttachStrategy::Both, machine).expect_err("no plan").to_string();
        assert!(error.contains("no cgroup") && error.contains("no tc"), "{error}");
    }
}
