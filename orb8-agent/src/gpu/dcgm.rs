//! A dcgm-exporter that runs on this node: what it exports, read again.

use std::collections::HashMap;
use std::error::Error as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::checked::Checked;
use super::config::{GpuConfig, SourceSelection};
use super::device::{DeviceId, SourceKind};
use super::event::{GpuEvent, GpuEventKind};
use super::reading::Reading;
use super::source::{Source, SourceError};
use super::{sysfs, xid};
use crate::clock::Clock;
use crate::error::chain;
use crate::event::UnixNanos;
use devices::Devices;

mod devices;
mod fields;
pub mod text;

/// The whole of a scrape. It is local, and answers from memory.
const DEADLINE: Duration = Duration::from_millis(800);

/// 16 devices with 7 instances each and every field are 4 MiB.
const LARGEST: usize = 16 << 20;

/// Between two scrapes: each makes the exporter ask the kubelet for all pods, and it has new values
/// each 30 s unless told otherwise. One that fails, or is something else, is not asked more often.
const REST: Duration = Duration::from_secs(5);

/// What the names of metrics begin with that are of interest.
const PREFIX: &str = "DCGM_FI_";

/// PCI's number of NVIDIA.
const VENDOR: &str = "0x10de";

/// See the [module](self).
#[derive(Debug)]
pub struct DcgmSource {
    url: String,
    /// Where devices are looked for before the exporter is; `None` where it was asked for.
    sys: Option<PathBuf>,
    rest: Duration,
    client: Client<HttpConnector, Empty<Bytes>>,
    last: Option<(Instant, Result<Reading, SourceError>)>,
    /// The last error of each device, once it is known.
    xids: HashMap<DeviceId, u32>,
    checked: Checked,
}

impl DcgmSource {
    /// Prepares to scrape the URL of the settings.
    #[must_use]
    pub fn new(config: &GpuConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(DEADLINE));
        connector.set_nodelay(true);
        let is_unasked =
            config.sources == SourceSelection::Auto && config.dcgm == GpuConfig::default().dcgm;
        Self {
            url: config.dcgm.clone(),
            sys: is_unasked.then(|| config.roots.sys.clone()),
            rest: REST,
            client: Client::builder(TokioExecutor::new()).build(connector),
            last: None,
            xids: HashMap::new(),
            checked: Checked::default(),
        }
    }

    /// Sets the time between two scrapes, in which the last one is told again.
    #[must_use]
    pub fn with_rest(mut self, rest: Duration) -> Self {
        self.rest = rest;
        self
    }

    /// Scrapes and reads.
    async fn ask(&mut self) -> Result<Reading, SourceError> {
        let Ok(text) = tokio::time::timeout(DEADLINE, self.scrape()).await else {
            let late = format!("it has not answered within {} ms", DEADLINE.as_millis());
            return Err(failed(&self.url, late));
        };
        self.interpret(&text?, Clock::system().now())
    }

    async fn scrape(&self) -> Result<Bytes, SourceError> {
        let url = &self.url;
        let uri: Uri = url.parse().map_err(|_| failed(url, "it is no URL".to_owned()))?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(failed(url, "only http:// is spoken here".to_owned()));
        }
        let request = Request::get(uri).body(Empty::new());
        let request = request.map_err(|error| failed(url, error.to_string()))?;
        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() { absent(url, &error) } else { failed(url, chain(&error)) }
        })?;
        if !response.status().is_success() {
            return Err(failed(url, format!("it answers HTTP {}", response.status())));
        }
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| failed(url, format!("the answer broke off: {error}")))?;
        Ok(body.to_bytes())
    }

    /// Reads what an exporter told at a time.
    ///
    /// # Errors
    ///
    /// [`SourceError::Failed`] where it tells of no device.
    pub fn interpret(&mut self, text: &[u8], time: UnixNanos) -> Result<Reading, SourceError> {
        let mut devices = Devices::default();
        let mut rows = 0_usize;
        for row in text::rows(text, PREFIX) {
            match row {
                Ok(row) => {
                    rows += 1;
                    devices.take(&row, &mut self.checked);
                }
                Err(text::Malformed) => self.checked.leave_out(),
            }
        }
        if rows == 0 {
            return Err(failed(&self.url, "it tells of no device".to_owned()));
        }
        let told = devices.finish(time, &mut self.checked);
        let events = self.events(&told.xids, time);
        Ok(Reading {
            source: SourceKind::Dcgm,
            devices: told.devices,
            processes: Vec::new(),
            events,
            holdings: told.holdings,
        })
    }

    /// Tells errors that are new: the value of one stays until the next, so the first that is read of
    /// a device may be weeks old.
    fn events(&mut self, xids: &[(DeviceId, Option<u32>, u32)], time: UnixNanos) -> Vec<GpuEvent> {
        self.xids.retain(|known, _| xids.iter().any(|(device, ..)| device == known));
        let mut events = Vec::new();
        for (device, index, code) in xids {
            let before = self.xids.insert(device.clone(), *code);
            if *code != 0 && before.is_some_and(|before| before != *code) {
                events.push(GpuEvent {
                    time,
                    device: Some(device.clone()),
                    index: *index,
                    process: None,
                    owners: Vec::new(),
                    kind: GpuEventKind::Xid(xid::describe(*code)),
                });
            }
        }
        events
    }
}

impl Source for DcgmSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Dcgm
    }

    async fn read(&mut self) -> Result<Reading, SourceError> {
        if let Some((when, told)) = &self.last
            && when.elapsed() < self.rest
        {
            return told.clone();
        }
        // Every other machine would show a connection that is refused, each 30 s.
        if let Some(sys) = self.sys.as_ref().filter(|sys| !sysfs::may_have(sys, VENDOR)) {
            return Err(SourceError::Absent(format!(
                "no device of NVIDIA's in {}, so that no dcgm-exporter is looked for; name dcgm in --gpu-sources \
                 to ask it all the same",
                sys.join(sysfs::PCI).display()
            )));
        }
        let told = self.ask().await;
        // What happened is told once.
        let again = told.clone().map(|reading| Reading { events: Vec::new(), ..reading });
        self.last = Some((Instant::now(), again));
        told
    }

    fn invalid(&self) -> u64 {
        self.checked.invalid
    }
}

fn absent(url: &str, error: &hyper_util::client::legacy::Error) -> SourceError {
    let why = error.source().map_or_else(|| error.to_string(), chain);
    SourceError::Absent(format!(
        "no dcgm-exporter answers at {url} ({why}); start it on this node, or set --gpu-dcgm to its URL"
    ))
}

fn failed(url: &str, why: String) -> SourceError {
    SourceError::Failed(format!(
        "dcgm-exporter at {url} cannot be read: {why}; look into its log, or set --gpu-dcgm to its URL"
    ))
}

#[cfg(test)]
mod tests;
