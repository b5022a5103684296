//! libtpu's metrics service on a port of one's own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orb8_proto::tpu::runtime_metric_service_server::{
    RuntimeMetricService, RuntimeMetricServiceServer,
};
use orb8_proto::tpu::{
    AttrValue, Attribute, Gauge, Metric, MetricRequest, MetricResponse, TpuMetric, attr_value,
    gauge, metric,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// A service that answers until it is dropped.
#[derive(Debug)]
pub struct Tpu {
    address: SocketAddr,
    shared: Arc<Mutex<Answers>>,
    runtime: Option<Runtime>,
}

/// What it answers.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Values of each metric by device: `("tpu.runtime.hbm.memory.usage.bytes", vec![(0, 1e9)])`. Bytes
    /// are told as whole numbers.
    pub metrics: Vec<(String, Vec<(i64, f64)>)>,
    /// Whether devices' numbers are text, as some versions have them.
    pub has_text_ids: bool,
    /// How long it takes.
    pub delay: Duration,
}

impl Tpu {
    /// Starts one on a free port, on a thread of its own.
    ///
    /// # Errors
    ///
    /// There is no port or no thread.
    pub fn start(answers: Answers) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("standin-tpu")
            .enable_all()
            .build()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        // It may be started where nothing may be waited for.
        let entered = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        drop(entered);
        let shared = Arc::new(Mutex::new(answers));
        let service = RuntimeMetricServiceServer::new(Service(Arc::clone(&shared)));
        let serving = Server::builder().add_service(service);
        runtime.spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { address, shared, runtime: Some(runtime) })
    }

    /// Returns its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers otherwise from now on.
    pub fn set(&self, answers: Answers) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    }
}

impl Drop for Tpu {
    fn drop(&mut self) {
        // May be dropped where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Service(Arc<Mutex<Answers>>);

#[tonic::async_trait]
impl RuntimeMetricService for Service {
    async fn get_runtime_metric(
        &self,
        request: Request<MetricRequest>,
    ) -> Result<Response<MetricResponse>, Status> {
        let name = request.into_inner().metric_name;
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::time::sleep(answers.delay).await;
        let known = answers.metrics.iter().find(|(known, _)| *known == name);
        let Some((_, values)) = known else {
            return Err(Status::invalid_argument(format!("no metric {name}")));
        };
        let is_whole = name.ends_with(".bytes");
        let metrics = values.iter().map(|(device, value)| {
            let id = match answers.has_text_ids {
                true => attr_value::Attr::StringAttr(device.to_string()),
                false => attr_value::Attr::IntAttr(*device),
            };
            let value = match is_whole {
                true => gauge::Value::AsInt(*value as i64),
                false => gauge::Value::AsDouble(*value),
            };
            let attribute =
                Attribute { key: "device-id".into(), value: Some(AttrValue { attr: Some(id) }) };
            let measure = metric::Measure::Gauge(Gauge { value: Some(value) });
            Metric { attribute: Some(attribute), measure: Some(measure) }
        });
        let metric = TpuMetric { metrics: metrics.collect(), name, ..TpuMetric::default() };
        Ok(Response::new(MetricResponse { metric: Some(metric) }))
    }
}
