//! The kubelet's PodResources service on a socket of one's own, told what to answer and how badly.
//!
//! What it answers is JSON with the fields of the messages:
//! ```json
//! {"pod_resources": [{"name": "train-0", "namespace": "ml", "containers": [{"name": "main",
//!   "devices": [{"resource_name": "nvidia.com/gpu", "device_ids": ["GPU-1"]}]}]}],
//!  "allocatable": [{"resource_name": "nvidia.com/gpu", "device_ids": ["GPU-1", "GPU-2"]}]}
//! ```
//! It runs on a thread of its own: a restart ends every connection, as a kubelet's does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use orb8_proto::podresources::v1::{
    self, AllocatableResourcesRequest, AllocatableResourcesResponse, GetPodResourcesRequest,
    GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
    pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer},
};
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct PodResources {
    socket: PathBuf,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// What it answers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Pods with what they were given.
    #[serde(default)]
    pub pod_resources: Vec<Pod>,
    /// What can be given; where it is empty, what was given.
    #[serde(default)]
    pub allocatable: Vec<Devices>,
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its containers.
    #[serde(default)]
    pub containers: Vec<Container>,
}

/// A container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// What device plugins gave it.
    #[serde(default)]
    pub devices: Vec<Devices>,
    /// What DRA drivers gave it.
    #[serde(default)]
    pub dynamic_resources: Vec<Claim>,
}

/// Devices of one resource.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Devices {
    /// `nvidia.com/gpu`.
    pub resource_name: String,
    /// Their ids.
    pub device_ids: Vec<String>,
    /// Where they are; not answered.
    #[serde(default)]
    pub topology: serde_json::Value,
}

/// A DRA claim.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its name.
    pub claim_name: String,
    /// Its namespace.
    pub claim_namespace: String,
    /// Its devices.
    #[serde(default)]
    pub claim_resources: Vec<Claimed>,
}

/// A device of a claim.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claimed {
    /// What the runtime puts into the container.
    #[serde(default)]
    pub cdi_devices: Vec<Cdi>,
    /// `gpu.nvidia.com`.
    pub driver_name: String,
    /// The driver's name for where the device is.
    pub pool_name: String,
    /// The driver's name for the device.
    pub device_name: String,
    /// Of a device that several share.
    #[serde(default)]
    pub share_id: Option<String>,
}

/// A CDI device.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cdi {
    /// Its name in full.
    pub name: String,
}

/// How it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Everything.
    #[default]
    Well,
    /// The list alone, as kubelets before 1.23 do.
    ListOnly,
    /// As a kubelet does whose `KubeletPodResourcesGet` is off.
    GetOff,
    /// Not at all: each call waits.
    Hang,
    /// With an error.
    Fail,
}

/// How often it was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// `List`.
    pub list: u64,
    /// `Get`.
    pub get: u64,
    /// `GetAllocatableResources`.
    pub allocatable: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<(Answers, Manner)>,
    list: AtomicU64,
    get: AtomicU64,
    allocatable: AtomicU64,
}

impl Answers {
    /// Reads JSON.
    ///
    /// # Errors
    ///
    /// It is not JSON, or has other fields.
    pub fn parse(json: &str) -> io::Result<Self> {
        serde_json::from_str(json).map_err(io::Error::other)
    }
}

impl PodResources {
    /// Starts to serve on a socket that is made for it.
    ///
    /// # Errors
    ///
    /// The socket cannot be made, or the thread.
    pub fn start(socket: impl Into<PathBuf>, answers: Answers) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.change(|(known, _)| *known = answers);
        let mut server = Self { socket: socket.into(), shared, runtime: None };
        server.restart()?;
        Ok(server)
    }

    /// Returns where it serves.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Answers otherwise from now on.
    pub fn set(&self, answers: Answers) {
        self.shared.change(|(known, _)| *known = answers);
    }

    /// Answers in another manner from now on.
    pub fn set_manner(&self, manner: Manner) {
        self.shared.change(|(_, known)| *known = manner);
    }

    /// Returns how often it was called, restarts included.
    #[must_use]
    pub fn calls(&self) -> Calls {
        let Shared { list, get, allocatable, .. } = &*self.shared;
        Calls {
            list: list.load(Relaxed),
            get: get.load(Relaxed),
            allocatable: allocatable.load(Relaxed),
        }
    }

    /// Ends: connections break and the socket goes.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
            let _ = std::fs::remove_file(&self.socket);
        }
    }

    /// Ends and starts again, with a new socket at the same place.
    ///
    /// # Errors
    ///
    /// The socket cannot be made, or the thread.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime =
            builder.worker_threads(1).thread_name("pod-resources").enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&self.socket)?
        };
        let service = PodResourcesListerServer::new(Service(Arc::clone(&self.shared)));
        let connections = UnixListenerStream::new(listener);
        runtime.spawn(Server::builder().add_service(service).serve_with_incoming(connections));
        self.runtime = Some(runtime);
        Ok(())
    }
}

impl Drop for PodResources {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut (Answers, Manner))) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns what to answer, when it is time to.
    async fn answers(&self, offered: &[Manner]) -> Result<Answers, Status> {
        let (answers, manner) = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match manner {
            Manner::Hang => std::future::pending().await,
            Manner::Fail => Err(Status::unknown("cannot list: the checkpoint is damaged")),
            manner if offered.contains(&manner) => Ok(answers),
            Manner::GetOff => Err(Status::unknown("PodResources API Get method disabled")),
            _ => Err(Status::unimplemented("unknown method")),
        }
    }
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl PodResourcesLister for Service {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.0.list.fetch_add(1, Relaxed);
        let offered = [Manner::Well, Manner::ListOnly, Manner::GetOff];
        let answers = self.0.answers(&offered).await?;
        let pod_resources = answers.pod_resources.into_iter().map(Into::into).collect();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        self.0.allocatable.fetch_add(1, Relaxed);
        let answers = self.0.answers(&[Manner::Well, Manner::GetOff]).await?;
        let given = || {
            let containers = answers.pod_resources.iter().flat_map(|pod| &pod.containers);
            containers.flat_map(|container| container.devices.clone()).collect()
        };
        let devices: Vec<Devices> =
            if answers.allocatable.is_empty() { given() } else { answers.allocatable };
        let devices = devices.into_iter().map(Into::into).collect();
        Ok(Response::new(AllocatableResourcesResponse { devices, ..Default::default() }))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        self.0.get.fetch_add(1, Relaxed);
        let answers = self.0.answers(&[Manner::Well]).await?;
        let GetPodResourcesRequest { pod_name, pod_namespace } = request.into_inner();
        let is_it = |pod: &Pod| pod.name == pod_name && pod.namespace == pod_namespace;
        let Some(pod) = answers.pod_resources.into_iter().find(is_it) else {
            let missing = format!("pod {pod_name} in namespace {pod_namespace} not found");
            return Err(Status::unknown(missing));
        };
        Ok(Response::new(GetPodResourcesResponse { pod_resources: Some(pod.into()) }))
    }
}

impl From<Pod> for v1::PodResources {
    fn from(Pod { name, namespace, containers }: Pod) -> Self {
        Self { name, namespace, containers: containers.into_iter().map(Into::into).collect() }
    }
}

impl From<Container> for v1::ContainerResources {
    fn from(Container { name, devices, dynamic_resources }: Container) -> Self {
        Self {
            name,
            devices: devices.into_iter().map(Into::into).collect(),
            dynamic_resources: dynamic_resources.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

impl From<Devices> for v1::ContainerDevices {
    fn from(Devices { resource_name, device_ids, topology: _ }: Devices) -> Self {
        Self { resource_name, device_ids, topology: None }
    }
}

impl From<Claim> for v1::DynamicResource {
    fn from(Claim { claim_name, claim_namespace, claim_resources }: Claim) -> Self {
        let claim_resources = claim_resources.into_iter().map(Into::into).collect();
        Self { claim_name, claim_namespace, claim_resources }
    }
}

impl From<Claimed> for v1::ClaimResource {
    fn from(claimed: Claimed) -> Self {
        let Claimed { cdi_devices, driver_name, pool_name, device_name, share_id } = claimed;
        let cdi_devices = cdi_devices.into_iter().map(|Cdi { name }| v1::CdiDevice { name });
        let cdi_devices = cdi_devices.collect();
        Self { cdi_devices, driver_name, pool_name, device_name, share_id }
    }
}
