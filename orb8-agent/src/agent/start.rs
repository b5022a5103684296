//! Starting each signal by itself: one that cannot run says why, and the others do.

use std::{
    collections::HashMap,
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Agent;
use super::kubernetes::Kubernetes;
use crate::{
    attach::{self, Attacher, Plan, SharedPackets},
    config::{AttachStrategy, Config, MAX_RING, SignalSelection},
    conntrack::Translations,
    ebpf::{
        CgroupObject, DnsObject, DnsOptions, EbpfError, FlowObject, FlowOptions, PacketObject,
        SocketHookCgroup, TcpObject, TcpOptions,
    },
    error::{AgentError, chain},
    event::Signal,
    pipeline::{self, LocalAddresses, SharedPipeline},
    preflight::Preflight,
    sources::{
        cgroup::CgroupSource,
        dns::{DnsInlet, DnsSource},
        flow::{self, FlowSource},
        gpu::GpuSource,
        tcp::TcpSource,
    },
    status::{Check, CheckState, SourceState, SourceStatus, StatusBoard},
};

/// The tcp ring has the size of so many others: a short connection puts ten times the bytes of a flow's
/// moment into it.
const TCP_RINGS: u32 = 4;

/// What a source has that starts: the limits of what it delivers.
type Started = Result<Vec<String>, AgentError>;

/// Everything that starting needs, and the agent that it makes.
pub(super) struct Start<'a> {
    config: &'a Config,
    preflight: Preflight,
    pipeline: SharedPipeline,
    addresses: LocalAddresses,
    /// From the first object whose programs see packets: it decides where the others' go.
    attacher: Option<Attacher>,
    /// What the other sources look at first.
    names: Option<DnsInlet>,
    agent: Agent,
}

impl<'a> Start<'a> {
    pub(super) fn new(
        config: &'a Config,
        preflight: Preflight,
        pipeline: SharedPipeline,
        board: StatusBoard,
        addresses: LocalAddresses,
    ) -> Self {
        board.update(|status| status.is_starting = true);
        let agent = Agent {
            board,
            cancel: CancellationToken::new(),
            tasks: JoinSet::new(),
            names: HashMap::new(),
            drains: Vec::new(),
            export: None,
        };
        Self { config, preflight, pipeline, addresses, attacher: None, names: None, agent }
    }

    /// Starts every signal that is wanted.
    ///
    /// # Errors
    /// [`AgentError::Unavailable`] when a setting asks for what cannot be had, and
    /// [`AgentError::NothingToRun`] when no source runs, or one that was asked for by name does not.
    pub(super) async fn all(&mut self) -> Result<(), AgentError> {
        self.check()?;
        self.cgroups();
        self.identity().await?;
        // Names before flows, so that a flow's first packet finds them.
        for signal in [Signal::Dns, Signal::Flow, Signal::Tcp, Signal::Gpu] {
            if !self.config.signals.includes(signal) {
                continue;
            }
            let started = match signal {
                Signal::Dns => self.dns().await,
                Signal::Flow => self.flows().await,
                Signal::Tcp => self.tcp(),
                // A source that may find its devices later says by itself how it does.
                Signal::Gpu => match self.gpu().await {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
            };
            self.tell(signal, started);
        }
        self.agent.board.update(|status| status.is_starting = false);
        if let Some(attacher) = self.attacher.take() {
            self.agent.tasks.spawn(attacher.run(self.agent.cancel.child_token()));
        }
        let status = self.agent.board.read();
        let is_skipped = |source: &SourceStatus| source.state != SourceState::Running;
        let is_asked = matches!(self.config.signals, SignalSelection::Only(_));
        if status.is_ready() && !(is_asked && status.sources.iter().any(is_skipped)) {
            return Ok(());
        }
        Err(AgentError::NothingToRun { reasons: status.skipped() })
    }

    /// Starts what tells who is at the ends.
    async fn identity(&mut self) -> Result<(), AgentError> {
        let Agent { board, cancel, tasks, .. } = &mut self.agent;
        pipeline::lock(&self.pipeline).set_translations(Translations::start(Instant::now()));
        let (addresses, pipeline) = (self.addresses.clone(), Arc::clone(&self.pipeline));
        let kubernetes = Kubernetes::new(self.config, addresses, pipeline, board.clone());
        kubernetes.start(self.config, tasks, &cancel.child_token()).await
    }

    /// Follows cgroups as they come and go. Where that fails, each is looked for when it is seen.
    fn cgroups(&mut self) {
        if self.config.cgroup_root.is_none() {
            return;
        }
        let unknown =
            EbpfError::Unknown { what: "where members are in the kernel's structures (BTF)" };
        let object = self.preflight.btf.as_ref().ok_or(unknown).and_then(CgroupObject::start);
        let source = object.map_err(AgentError::ebpf("follow cgroups")).and_then(|object| {
            let (pipeline, board) = (Arc::clone(&self.pipeline), self.agent.board.clone());
            CgroupSource::build(object, self.config.drain_interval, pipeline, board)
        });
        let (state, detail) = match source {
            Ok(source) => {
                self.agent.tasks.spawn(source.run(self.agent.cancel.child_token()));
                (CheckState::Ok, "the kernel tells which come and go".to_owned())
            }
            Err(error) => (
                CheckState::Absent,
                format!(
                    "each is looked for when it is seen, and now and then all: {}",
                    chain(&error)
                ),
            ),
        };
        let check = Check { name: "cgroup changes", state, detail, remedy: None };
        self.agent.board.update(|status| status.checks.push(check));
    }

    /// Refuses what cannot work before anything is attached.
    fn check(&self) -> Result<(), AgentError> {
        let wants = |signal| self.config.signals.includes(signal);
        if wants(Signal::Flow) {
            self.preflight.memory(self.config.flow_table_size)?;
        }
        let is_asked = self.config.attach != AttachStrategy::Auto;
        if is_asked && (wants(Signal::Flow) || wants(Signal::Dns)) {
            attach::decide(self.config, &self.preflight.features)?;
        }
        Ok(())
    }

    /// What runs so far.
    pub(super) fn finish(self) -> Agent {
        self.agent
    }

    fn tell(&self, signal: Signal, started: Started) {
        let source = match started {
            Ok(missing) => SourceStatus::running(signal, missing),
            Err(error) => {
                let reason = chain(&error);
                tracing::warn!(signal = signal.name(), reason, "a source does not run");
                SourceStatus::skipped(signal, reason)
            }
        };
        self.agent.board.update(|status| status.set_source(source));
    }

    async fn flows(&mut self) -> Started {
        let object = self
            .attach(|start, plan, leave_to| {
                let options = FlowOptions {
                    table_size: start.config.flow_table_size,
                    ring_size: start.config.ring_buffer_size,
                    socket_storage: plan.sockets,
                    leave_to,
                };
                let Preflight { features, btf, .. } = &start.preflight;
                FlowObject::load(&options, features, btf.as_ref())
            })
            .await?;
        let socket_storage = flow::lock(&object).socket_storage();
        self.agent.board.update(|status| {
            if let Some(attachment) = &mut status.attachment {
                attachment.socket_storage = socket_storage;
            }
        });
        let source = FlowSource::build(
            object,
            self.config.ring_buffer_size,
            self.config.drain_interval,
            Arc::clone(&self.pipeline),
            self.names.clone(),
            self.agent.board.clone(),
        );
        let source = self.keep(source)?;
        self.agent.drains.push(source.drain_requests());
        let task = self.agent.tasks.spawn(source.run(self.agent.cancel.child_token()));
        self.agent.names.insert(task.id(), Signal::Flow);
        Ok(Vec::new())
    }

    async fn dns(&mut self) -> Started {
        let object = self
            .attach(|start, _, leave_to| {
                let options = DnsOptions {
                    ring_size: start.config.ring_buffer_size,
                    ports: start.config.dns.ports.clone(),
                    leave_to,
                };
                DnsObject::load(&options, &start.preflight.features, start.preflight.btf.as_ref())
            })
            .await?;
        let plan = self.attacher.as_ref().map(Attacher::plan);
        let source = DnsSource::build(
            object,
            &self.config.dns,
            plan.is_some_and(|plan| plan.sockets && plan.interfaces),
            self.config.ring_buffer_size,
            self.config.drain_interval,
            Arc::clone(&self.pipeline),
            self.agent.board.clone(),
        );
        let source = self.keep(source)?;
        self.names = Some(source.inlet());
        self.agent.drains.push(source.drain_requests());
        let task = self.agent.tasks.spawn(source.run(self.agent.cancel.child_token()));
        self.agent.names.insert(task.id(), Signal::Dns);
        Ok(Vec::new())
    }

    fn tcp(&mut self) -> Started {
        let unknown =
            EbpfError::Unknown { what: "where members are in the kernel's structures (BTF)" };
        let btf = self.preflight.btf.as_ref().ok_or(unknown).map_err(AgentError::ebpf("look"))?;
        let ring_size = TCP_RINGS.saturating_mul(self.config.ring_buffer_size).min(MAX_RING);
        let options = TcpOptions { ring_size };
        let mut object =
            TcpObject::load(&options, btf).map_err(AgentError::ebpf("load the tcp programs"))?;
        let open = |root: &PathBuf| match File::open(root) {
            Ok(directory) => Some((directory, root.display().to_string())),
            Err(error) => {
                tracing::warn!(%error, cgroup = %root.display(), "sockets cannot be followed");
                None
            }
        };
        let root = self.config.cgroup_root.as_ref().and_then(open);
        let cgroup = root.as_ref().map(|(directory, path)| (directory, path.as_str()));
        let missing =
            object.attach(cgroup, btf).map_err(AgentError::ebpf("attach the tcp programs"))?;
        let source = TcpSource::build(
            object,
            ring_size,
            self.config.drain_interval,
            Arc::clone(&self.pipeline),
            self.names.clone(),
            self.agent.board.clone(),
        )?;
        self.agent.drains.push(source.drain_requests());
        let task = self.agent.tasks.spawn(source.run(self.agent.cancel.child_token()));
        self.agent.names.insert(task.id(), Signal::Tcp);
        Ok(missing)
    }

    async fn gpu(&mut self) -> Result<(), AgentError> {
        let board = pipeline::lock(&self.pipeline).gpu();
        let (pipeline, status) = (Arc::clone(&self.pipeline), self.agent.board.clone());
        let cancel = self.agent.cancel.child_token();
        let source = GpuSource::start(&self.config.gpu, pipeline, board, status, cancel).await?;
        let told = source.status().clone();
        self.agent.board.update(|status| status.set_source(told));
        let task = self.agent.tasks.spawn(source.run());
        self.agent.names.insert(task.id(), Signal::Gpu);
        Ok(())
    }

    /// Without its source, nobody would read what an object tells: it goes as well.
    fn keep<T>(&mut self, source: Result<T, AgentError>) -> Result<T, AgentError> {
        if let (Err(_), Some(attacher)) = (&source, &mut self.attacher) {
            attacher.remove_last();
        }
        source
    }

    /// Loads an object whose programs see packets, and attaches it where they go.
    async fn attach<T: PacketObject + 'static>(
        &mut self,
        load: impl Fn(&Self, &Plan, Option<SocketHookCgroup>) -> Result<T, EbpfError>,
    ) -> Result<Arc<Mutex<T>>, AgentError> {
        if let Some(mut attacher) = self.attacher.take() {
            let attached = self.add(&mut attacher, &load);
            self.attacher = Some(attacher);
            return attached;
        }
        let plan = attach::decide(self.config, &self.preflight.features)?;
        match self.attach_first(plan, &load).await {
            // A container that may not attach to the root cgroup can still see interfaces.
            Err(error) if self.config.attach == AttachStrategy::Auto => {
                let reason = format!("the socket hook failed: {}", chain(&error));
                tracing::warn!(reason, "falling back to the interface hook");
                let plan = Plan { sockets: false, interfaces: true, reason };
                self.attach_first(plan, &load).await
            }
            attached => attached,
        }
    }

    async fn attach_first<T: PacketObject + 'static>(
        &mut self,
        plan: Plan,
        load: &impl Fn(&Self, &Plan, Option<SocketHookCgroup>) -> Result<T, EbpfError>,
    ) -> Result<Arc<Mutex<T>>, AgentError> {
        pipeline::lock(&self.pipeline).set_both_hooks(plan.sockets && plan.interfaces);
        let (addresses, board) = (self.addresses.clone(), self.agent.board.clone());
        let mut attacher = Attacher::start(plan, self.config, addresses, board).await?;
        let object = self.add(&mut attacher, load)?;
        self.attacher = Some(attacher);
        Ok(object)
    }

    fn add<T: PacketObject + 'static>(
        &self,
        attacher: &mut Attacher,
        load: &impl Fn(&Self, &Plan, Option<SocketHookCgroup>) -> Result<T, EbpfError>,
    ) -> Result<Arc<Mutex<T>>, AgentError> {
        let plan = attacher.plan();
        let both = plan.sockets && plan.interfaces;
        let root = self.config.cgroup_root.as_deref().filter(|_| both);
        let object = load(self, plan, root.and_then(attach::hook_cgroup))
            .map_err(AgentError::ebpf("load the programs"))?;
        let object = Arc::new(Mutex::new(object));
        attacher.add(Arc::clone(&object) as SharedPackets)?;
        Ok(object)
    }
}
