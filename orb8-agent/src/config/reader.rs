//! Raw settings → [`Config`].

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use orb8_common::dns::MAX_PORTS;
use orb8_k8s::client::Access;
use tracing_subscriber::EnvFilter;

use super::raw::Layers;
use super::settings::{self, DefaultValue, Setting};
use super::values::{
    absolute_path, address, boolean, duration, globs, number, path, ports, ring_size, size,
    unless_off,
};
use super::{
    AttachStrategy, Config, ConfigErrors, InterfaceSelector, KubernetesConfig, LogConfig,
    LogFormat, Origin, SignalSelection,
};
use crate::api::{ApiConfig, TlsFiles};
use crate::event::Signal;
use crate::history::HistoryConfig;
use crate::metrics::traffic::{LabelChoice, TrafficConfig};
use crate::pipeline::HubConfig;
use crate::sources::dns::DnsConfig;
use crate::store::StoreConfig;

/// Bounds of both flow tables: fewer serve nobody, more would be gigabytes of kernel memory.
const FLOWS: RangeInclusive<u32> = 1024..=4_194_304;

/// Bounds of label sets: with fewer most would be `other`, and more are hundreds of megabytes.
const SERIES: RangeInclusive<u32> = 100..=100_000;

/// Largest ring, bytes: half a minute of moments, and still memory that a node can spare.
pub(crate) const MAX_RING: u32 = 32 << 20;

/// Reads settings and remembers what was wrong with them.
pub(super) struct Reader<'a> {
    pub(super) layers: &'a Layers<'a>,
    pub(super) errors: ConfigErrors,
}

impl Reader<'_> {
    /// Reads every setting before it gives up on any, so that all errors are found.
    pub(super) fn config(&mut self) -> Option<Config> {
        let page = self.layers.environment.page_size;
        let node_name = self.node_name();
        let api = self.api();
        let signals = self.optional(&settings::SIGNALS, signals);
        let attach = self.required(&settings::ATTACH, attach);
        let include = self.optional(&settings::INTERFACES, globs);
        let exclude = self.optional(&settings::EXCLUDE_INTERFACES, globs);
        // Whoever names it wants it: one that does not serve is no reason to do without.
        let usable = self.layers.environment.check_cgroup.unwrap_or(|_| Ok(()));
        let cgroup_root = self.optional(&settings::CGROUP_ROOT, |text| {
            let path = absolute_path(text)?;
            usable(&path).map(|()| path)
        });
        let flow_table_size = self.required(&settings::FLOW_TABLE_SIZE, number(FLOWS));
        let ring_buffer_size =
            self.required(&settings::RING_BUFFER_SIZE, ring_size(page, MAX_RING.into()));
        let drain_interval = self.required(
            &settings::DRAIN_INTERVAL,
            duration(Duration::from_millis(100)..=Duration::from_secs(60), "from 100ms to 60s"),
        );
        let dns_ports = self.required(&settings::DNS_PORTS, ports(1..=MAX_PORTS));
        let dns_timeout = self.required(
            &settings::DNS_TIMEOUT,
            duration(Duration::from_millis(100)..=Duration::from_secs(60), "from 100ms to 60s"),
        );
        let max_flows = self.required(&settings::MAX_FLOWS, number(FLOWS));
        let idle_timeout = self.required(
            &settings::FLOW_IDLE_TIMEOUT,
            duration(Duration::from_secs(1)..=Duration::from_secs(86_400), "from 1s to 24h"),
        );
        let recent = self.required(&settings::EVENT_BUFFER, number(0..=1 << 20));
        let backlog = self.required(&settings::SUBSCRIBER_BUFFER, number(1024..=1 << 24));
        let history = self.history();
        let kubernetes = self.kubernetes();
        let labels = self.required(&settings::METRICS_LABELS, metrics_labels);
        let max_series = self.required(&settings::METRICS_MAX_SERIES, number(SERIES));
        let otlp = self.otlp();
        let gpu = self.gpu();
        let filter = self.required(&settings::LOG, log_filter);
        let format = self.required(&settings::LOG_FORMAT, log_format);
        let found_root = self.layers.environment.cgroup_mount.clone();
        Some(Config {
            node_name: node_name?,
            api: api?,
            signals: signals?.map_or(SignalSelection::All, SignalSelection::Only),
            attach: attach?,
            interfaces: InterfaceSelector {
                include: include?.unwrap_or_default(),
                exclude: exclude?.unwrap_or_default(),
            },
            cgroup_root: cgroup_root?.or(found_root),
            flow_table_size: flow_table_size?,
            ring_buffer_size: ring_buffer_size?,
            drain_interval: drain_interval?,
            dns: DnsConfig { ports: dns_ports?, timeout: dns_timeout? },
            store: StoreConfig { max_flows: max_flows?, idle_timeout: idle_timeout? },
            history: history?,
            hub: HubConfig { recent: recent?, backlog: backlog? },
            kubernetes: kubernetes?,
            metrics: TrafficConfig { labels: labels?, max_series: max_series? },
            otlp: otlp?,
            gpu: gpu?,
            log: LogConfig { filter: filter?, format: format? },
        })
    }

    fn node_name(&mut self) -> Option<String> {
        let name = self.optional(&settings::NODE_NAME, |text| match text.trim() {
            "" => Err("must not be empty".to_owned()),
            name => Ok(name.to_owned()),
        })?;
        let found = || self.layers.environment.host_name.clone().filter(|name| !name.is_empty());
        let name = name.or_else(found);
        if name.is_none() {
            let at = settings::NODE_NAME.env.to_owned();
            self.errors.push(at, "must be set: this machine has no host name");
        }
        name
    }

    fn history(&mut self) -> Option<Option<HistoryConfig>> {
        let range = Duration::from_secs(60)..=Duration::from_secs(86_400);
        let keep = self.required(&settings::HISTORY, |text| {
            let wrong = |problem| format!("{problem}, or off");
            unless_off(text, |text| duration(range, "from 1m to 24h")(text).map_err(wrong))
        });
        let bytes =
            self.required(&settings::HISTORY_SIZE, size(1 << 20..=4 << 30, "from 1MiB to 4GiB"));
        let (keep, bytes) = (keep?, bytes?);
        Some(keep.map(|keep| HistoryConfig { keep, bytes }))
    }

    fn kubernetes(&mut self) -> Option<KubernetesConfig> {
        let access = self.required(&settings::KUBERNETES, kubernetes_access);
        let path = self.optional(&settings::KUBECONFIG, absolute_path);
        let context = self.optional(&settings::KUBE_CONTEXT, |text| Ok(text.to_owned()));
        let remote_pods = self.required(&settings::REMOTE_PODS, boolean);
        let (access, path, context) = (access?, path?, context?);
        let is_file_named = path.is_some() || context.is_some();
        let access = match access {
            // Whoever names a file wants it.
            Access::Auto | Access::Kubeconfig { .. } if is_file_named => {
                Access::Kubeconfig { path, context }
            }
            Access::InCluster | Access::Off if is_file_named => {
                let at = self.name_of(&settings::KUBERNETES);
                self.errors.push(
                    at,
                    "must be `kubeconfig` or `auto` where --kubeconfig or --kube-context is set",
                );
                return None;
            }
            access => access,
        };
        Some(KubernetesConfig { access, remote_pods: remote_pods? })
    }

    fn api(&mut self) -> Option<ApiConfig> {
        let off_or_address = |text: &str| unless_off(text, address);
        let listen = self.required(&settings::LISTEN, off_or_address);
        let insecure = self.required(&settings::INSECURE_LISTEN, boolean);
        let admin = self.required(&settings::ADMIN_LISTEN, off_or_address);
        let socket = self.required(&settings::SOCKET, |text| unless_off(text, absolute_path));
        let hubble = self.required(&settings::HUBBLE_LISTEN, off_or_address);
        let tls = self.tls();
        let dcgm_names = self.required(&settings::DCGM_COMPAT, boolean);
        let (listen, hubble, insecure, tls) = (listen?, hubble?, insecure?, tls?);
        let is_guarded = tls.is_some() || insecure;
        let mut is_exposed = false;
        for (setting, listen) in [(settings::LISTEN, listen), (settings::HUBBLE_LISTEN, hubble)] {
            if let Some(address) = listen.filter(|at| !at.ip().is_loopback() && !is_guarded) {
                self.refuse_clear_text(&setting, address);
                is_exposed = true;
            }
        }
        let (admin, socket, dcgm_names) = (admin?, socket?, dcgm_names?);
        let api = ApiConfig { listen, hubble, admin, socket, tls, dcgm_names };
        (!is_exposed).then_some(api)
    }

    fn refuse_clear_text(&mut self, setting: &Setting, address: SocketAddr) {
        self.errors.push(
            self.name_of(setting),
            format!(
                "{address} is not a loopback address and there is no TLS: set --tls-cert and \
                 --tls-key, listen on 127.0.0.1, or accept with --insecure-listen that \
                 everyone who reaches it reads all flows"
            ),
        );
    }

    /// Reads what belongs together: a certificate needs its key, and clients' authorities need both.
    fn tls(&mut self) -> Option<Option<TlsFiles>> {
        let certificate = self.optional(&settings::TLS_CERT, path);
        let key = self.optional(&settings::TLS_KEY, path);
        let client_ca = self.optional(&settings::TLS_CLIENT_CA, path);
        match (certificate?, key?, client_ca?) {
            (None, None, None) => Some(None),
            (Some(certificate), Some(key), client_ca) => {
                Some(Some(TlsFiles { certificate, key, client_ca }))
            }
            (certificate, key, _) => {
                for (setting, file) in [(settings::TLS_CERT, certificate), (settings::TLS_KEY, key)]
                {
                    if file.is_none() {
                        let at = format!("--{} ({})", setting.name, setting.env);
                        self.errors
                            .push(at, "must be set too: TLS needs a certificate and its key");
                    }
                }
                None
            }
        }
    }

    /// Reads a setting that has a default in the table.
    pub(super) fn required<T>(
        &mut self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match (self.layers.find(setting), setting.default) {
            (Some((text, origin)), _) => self.parse(setting, text, &origin, parse),
            (None, DefaultValue::Text(text)) => self.parse(setting, text, &Origin::Default, parse),
            (None, DefaultValue::Found(_) | DefaultValue::Unset) => None,
        }
    }

    /// Reads a setting that may be unset: `None` is a bad value, `Some(None)` is none.
    pub(super) fn optional<T>(
        &mut self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match self.layers.find(setting) {
            Some((text, origin)) => self.parse(setting, text, &origin, parse).map(Some),
            None => Some(None),
        }
    }

    /// Reads a setting that may be unset and that nobody may read in a message.
    pub(super) fn secret<T>(
        &mut self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match self.layers.find(setting) {
            Some((text, origin)) => {
                let parsed = parse(text);
                parsed
                    .map_err(|problem| self.errors.push(origin.name(setting), problem))
                    .ok()
                    .map(Some)
            }
            None => Some(None),
        }
    }

    fn parse<T>(
        &mut self,
        setting: &Setting,
        text: &str,
        origin: &Origin,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(text)
            .map_err(|problem| {
                self.errors.push(origin.name(setting), format!("{text:?} {problem}"));
            })
            .ok()
    }

    pub(super) fn name_of(&self, setting: &Setting) -> String {
        let origin = self.layers.find(setting).map_or(Origin::Default, |(_, origin)| origin);
        origin.name(setting)
    }
}

fn metrics_labels(text: &str) -> Result<LabelChoice, String> {
    match text {
        settings::OFF => Ok(LabelChoice::none()),
        text => LabelChoice::parse(text),
    }
}

fn signals(text: &str) -> Result<Vec<Signal>, String> {
    let named = |name: &str| Signal::ALL.into_iter().find(|signal| signal.name() == name);
    let signals: Option<Vec<Signal>> = text.split(',').map(|name| named(name.trim())).collect();
    signals.ok_or_else(|| {
        let names = Signal::ALL.map(Signal::name).join(", ");
        format!("must be one or more of {names}, comma-separated")
    })
}

fn kubernetes_access(text: &str) -> Result<Access, String> {
    Ok(match text {
        "auto" => Access::Auto,
        "in-cluster" => Access::InCluster,
        "kubeconfig" => Access::Kubeconfig { path: None, context: None },
        settings::OFF => Access::Off,
        _ => {
            return Err(format!(
                "must be auto, in-cluster, kubeconfig or off, and `{text}` is none"
            ));
        }
    })
}

fn attach(text: &str) -> Result<AttachStrategy, String> {
    AttachStrategy::ALL
        .into_iter()
        .find(|strategy| strategy.word() == text)
        .ok_or_else(|| "must be auto, cgroup, tc or both".into())
}

fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("must be a level or a list of directives: {error}"))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".into()),
    }
}
