//! One workload's libtpu: what it tells of its devices.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use orb8_proto::tpu::runtime_metric_service_client::RuntimeMetricServiceClient;
use orb8_proto::tpu::{MetricRequest, TpuMetric, attr_value, gauge, metric};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::error::chain;
use crate::gpu::netns;

/// Devices that one workload may tell of. A host has eight chips, of two cores at most.
const MOST_DEVICES: usize = 64;

/// The answer is a few lines.
const LARGEST: usize = 1 << 20;

/// Which processes serve, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) pid: u32,
    pub(super) port: u16,
}

/// What libtpu tells of one device, by its number in the workload. Nothing is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    /// Part of the time in which the core was busy, percent.
    pub(super) busy: Option<f64>,
    /// Bytes.
    pub(super) used: Option<f64>,
    /// Bytes.
    pub(super) total: Option<f64>,
}

type Field = fn(&mut Figures) -> &mut Option<f64>;

/// libtpu's names.
const METRICS: [(&str, Field); 3] = [
    ("tpu.runtime.tensorcore.dutycycle.percent", |figures| &mut figures.busy),
    ("tpu.runtime.hbm.memory.usage.bytes", |figures| &mut figures.used),
    ("tpu.runtime.hbm.memory.total.bytes", |figures| &mut figures.total),
];

/// A connection that is kept while it works.
pub(super) type Client = RuntimeMetricServiceClient<Channel>;

/// Connects in the process's network when it is first used, and whenever that broke.
pub(super) fn client(proc: PathBuf, place: &Place, within: Duration) -> Client {
    let Place { pid, port } = *place;
    let connector = service_fn(move |_: Uri| {
        let proc = proc.clone();
        async move {
            let stream = netns::connect(&proc, pid, port, within).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    // The name is for the header alone; the connector decides where it goes.
    let endpoint =
        Endpoint::from_static("http://localhost").connect_timeout(within).timeout(within);
    let channel = endpoint.connect_with_connector_lazy(connector);
    RuntimeMetricServiceClient::new(channel).max_decoding_message_size(LARGEST)
}

/// Asks for everything; one metric that this libtpu does not have is left out.
pub(super) async fn ask(client: &mut Client) -> Result<BTreeMap<i64, Figures>, String> {
    let mut devices = BTreeMap::new();
    let mut last = None;
    for (name, field) in METRICS {
        let request = MetricRequest { metric_name: name.to_owned(), skip_node_aggregation: false };
        match client.get_runtime_metric(request).await {
            Ok(response) => take(response.into_inner().metric, field, &mut devices),
            Err(status) if is_final(&status) => return Err(why(&status)),
            Err(status) => last = Some(status),
        }
    }
    match last {
        Some(status) if devices.is_empty() => Err(why(&status)),
        _ => Ok(even_out(devices)),
    }
}

/// Whether asking for another metric has no point.
fn is_final(status: &tonic::Status) -> bool {
    use tonic::Code::{Cancelled, DeadlineExceeded, Unavailable, Unimplemented, Unknown};
    matches!(status.code(), Cancelled | DeadlineExceeded | Unavailable | Unimplemented | Unknown)
}

/// What the service said, or what kept us from asking it.
fn why(status: &tonic::Status) -> String {
    status.source().map_or_else(|| status.message().to_owned(), chain)
}

fn take(metric: Option<TpuMetric>, field: Field, devices: &mut BTreeMap<i64, Figures>) {
    for row in metric.into_iter().flat_map(|metric| metric.metrics) {
        let Some(metric::Measure::Gauge(gauge)) = row.measure else { continue };
        let value = match gauge.value {
            Some(gauge::Value::AsDouble(value)) => value,
            Some(gauge::Value::AsInt(value)) => value as f64,
            _ => continue,
        };
        let id = row.attribute.and_then(|attribute| attribute.value?.attr);
        let id = match id {
            Some(attr_value::Attr::IntAttr(id)) => id,
            Some(attr_value::Attr::StringAttr(id)) => match id.parse() {
                Ok(id) => id,
                Err(_) => continue,
            },
            _ => continue,
        };
        if devices.len() < MOST_DEVICES || devices.contains_key(&id) {
            *field(devices.entry(id).or_default()) = Some(value);
        }
    }
}

/// Up to v3 a chip has two cores, with memory each, and how busy it is is told once for both.
fn even_out(mut devices: BTreeMap<i64, Figures>) -> BTreeMap<i64, Figures> {
    let busy: Vec<f64> = devices.values().filter_map(|figures| figures.busy).collect();
    if busy.is_empty() || busy.len() == devices.len() || !devices.len().is_multiple_of(busy.len()) {
        return devices;
    }
    let cores = devices.len() / busy.len();
    for (core, figures) in devices.values_mut().enumerate() {
        figures.busy = Some(busy[core / cores]);
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(busy: Option<f64>) -> Figures {
        Figures { busy, used: Some(1.0), total: Some(2.0) }
    }

    #[test]
    fn two_cores_of_a_chip_share_its_figure() {
        let told = [(0, Some(40.0)), (1, Some(60.0)), (2, None), (3, None)];
        let told = told.map(|(id, busy)| (id, figures(busy)));
        let busy: Vec<_> = even_out(told.into()).into_values().map(|it| it.busy).collect();
        assert_eq!(busy, [Some(40.0), Some(40.0), Some(60.0), Some(60.0)]);
        let odd =
            [(0, Some(40.0)), (1, Some(60.0)), (2, None)].map(|(id, busy)| (id, figures(busy)));
        let busy: Vec<_> = even_out(odd.into()).into_values().map(|it| it.busy).collect();
        assert_eq!(busy, [Some(40.0), Some(60.0), None], "nobody knows whose it is");
    }
}
