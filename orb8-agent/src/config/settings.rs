//! The one table of settings: flags, environment variables, file keys, help and docs derive from it.

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Name of the flag without its dashes.
    pub name: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// What its value is, as help prints it.
    pub value: &'static str,
    /// What holds when nothing sets it.
    pub default: DefaultValue,
    /// An environment variable of somebody else's that stands in for ours.
    pub fallback_env: Option<&'static str>,
    /// What it does and what is allowed, one or two sentences.
    pub doc: &'static str,
}

/// What holds when nothing sets a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// This text, parsed as any other value.
    Text(&'static str),
    /// Something found at start; the text says what.
    Found(&'static str),
    /// Nothing.
    Unset,
}

impl Setting {
    /// Returns the key in the TOML file: `flow_table_size`.
    #[must_use]
    pub fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Whether the flag stands for `true` without a value.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.value == "BOOL"
    }
}

/// What every variable of ours begins with.
pub const ENV_PREFIX: &str = "ORB8_";

/// Where the settings file is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/orb8/agent.toml";

/// Turns a listener off.
pub const OFF: &str = "off";

/// Variables that begin with `ORB8_` and are no settings of the agent.
pub const OTHER_VARIABLES: &[(&str, &str)] = &[
    ("ORB8_CONFIG", "the settings file, as `--config`"),
    ("ORB8_AGENT", "the agent that `orb8` talks to, as `--agent`"),
    ("ORB8_BLESS", "rewrites generated documentation in orb8's own tests"),
    ("ORB8_REQUIRE", "what has to be there, such as kernel features, or orb8's own tests fail"),
    ("ORB8_TEST_SCALE", "how much traffic orb8's own tests send, 1 for all"),
    ("ORB8_TEST_LATENCY_MS", "the bound of the latency test, milliseconds"),
    ("ORB8_TEST_ROLE", "what a child process of orb8's own tests does"),
    ("ORB8_STANDIN_NVML", "the scenario that NVML's stand-in plays, see orb8-standins"),
    ("ORB8_STANDIN_CUDA", "what the stand-in of CUDA plays, see orb8-standins"),
    ("ORB8_BPF_TOOLCHAIN", "where `cargo xtask probes` keeps bpf-linker"),
    ("ORB8_CI_REQUIRE_BPF", "whether CI fails without the BPF toolchain"),
    ("ORB8_CI_REQUIRE_VM", "whether CI fails without QEMU"),
];

// Loopback: without TLS nobody but this machine's users may read its traffic.
const DEFAULT_LISTEN: DefaultValue = DefaultValue::Text("127.0.0.1:9090");
// Next to the API's port, as dashboards of orb8 expect it; loopback like the API.
const DEFAULT_ADMIN_LISTEN: DefaultValue = DefaultValue::Text("127.0.0.1:9091");
// /run is a tmpfs, so a crash leaves nothing behind a reboot.
const DEFAULT_SOCKET: DefaultValue = DefaultValue::Text("/run/orb8/agent.sock");
// Exposing the traffic of a node in clear text is never what someone wants by accident.
const DEFAULT_INSECURE_LISTEN: DefaultValue = DefaultValue::Text("false");
// The socket hook where it serves, since it knows owners exactly; the interface hook elsewhere.
const DEFAULT_ATTACH: DefaultValue = DefaultValue::Text("auto");
// Two directions of 32k connections between two drains; 41k short connections a second fit with
// the early drain that a table under pressure asks for. About 11 MiB per generation.
const DEFAULT_FLOW_TABLE_SIZE: DefaultValue = DefaultValue::Text("65536");
// 10,000 moments of 104 bytes: a quarter of a second at 41k connections/s, many wake-ups' worth.
const DEFAULT_RING_BUFFER_SIZE: DefaultValue = DefaultValue::Text("1MiB");
// Rates read as per-second figures, and a thousand drained flows cost well under a millisecond.
const DEFAULT_DRAIN_INTERVAL: DefaultValue = DefaultValue::Text("1s");
// What IANA gave it.
const DEFAULT_DNS_PORTS: DefaultValue = DefaultValue::Text("53");
// What resolvers themselves wait before they ask again.
const DEFAULT_DNS_TIMEOUT: DefaultValue = DefaultValue::Text("5s");
// Few series, and the same ones after a rollout.
const DEFAULT_METRICS_LABELS: DefaultValue = DefaultValue::Text("namespace,workload");
// Forty nodes' worth of pods; some 30 MiB where each of them does flows, DNS and TCP.
const DEFAULT_METRICS_MAX_SERIES: DefaultValue = DefaultValue::Text("10000");
// As many as one generation of the kernel's table holds; about 15 MiB when full.
const DEFAULT_MAX_FLOWS: DefaultValue = DefaultValue::Text("65536");
// Longer than the 15 s to 30 s of usual keep-alives and scrapes, so those stay one flow.
const DEFAULT_FLOW_IDLE_TIMEOUT: DefaultValue = DefaultValue::Text("60s");
// Enough for `--last 100` behind a narrow filter; at most 2 MiB a signal.
const DEFAULT_EVENT_BUFFER: DefaultValue = DefaultValue::Text("4096");
// A subscriber may stall for a third of a second at 200k events/s; at most
// 32 MiB a signal if one does.
const DEFAULT_SUBSCRIBER_BUFFER: DefaultValue = DefaultValue::Text("65536");
// Starts, stops and what an operator should act on.
const DEFAULT_KUBERNETES: DefaultValue = DefaultValue::Text("auto");
// A flow's other end is most often on another node.
const DEFAULT_REMOTE_PODS: DefaultValue = DefaultValue::Text("true");
const DEFAULT_LOG: DefaultValue = DefaultValue::Text("info");
// As often as nvidia-smi and DCGM have something new to show.
const DEFAULT_GPU_INTERVAL: DefaultValue = DefaultValue::Text("1s");
// Where dcgm-exporter listens.
const DEFAULT_GPU_DCGM: DefaultValue = DefaultValue::Text("http://localhost:9400/metrics");
// Where every kubelet has it.
const DEFAULT_GPU_POD_RESOURCES: DefaultValue =
    DefaultValue::Text("/var/lib/kubelet/pod-resources/kubelet.sock");
// A job reads its data and compiles first.
const DEFAULT_GPU_IDLE_AFTER: DefaultValue = DefaultValue::Text("10m");
// What a loop that does nothing but launch may lose unnoticed.
const DEFAULT_GPU_TRACE_BUDGET: DefaultValue = DefaultValue::Text("1%");
// Longer than most training steps with their evaluation.
const DEFAULT_GPU_LEAK_WINDOW: DefaultValue = DefaultValue::Text("1m");
// What most collectors listen for, and one connection for everything.
const DEFAULT_OTLP_PROTOCOL: DefaultValue = DefaultValue::Text("grpc");
// As often as Prometheus usually scrapes.
const DEFAULT_OTLP_INTERVAL: DefaultValue = DefaultValue::Text("15s");
// OpenTelemetry's own default, which every backend takes.
const DEFAULT_OTLP_HISTOGRAMS: DefaultValue = DefaultValue::Text("explicit");
// As flow logs of clouds have it: a record a minute of what goes on, and one of each end.
const DEFAULT_OTLP_FLOW_INTERVAL: DefaultValue = DefaultValue::Text("60s");
// At most 16 MiB: ten minutes of a dozen records a second.
const DEFAULT_OTLP_QUEUE_SIZE: DefaultValue = DefaultValue::Text("8192");
// Who wants Hubble's clients says so: it is one more port on the node.
const DEFAULT_HUBBLE_LISTEN: DefaultValue = DefaultValue::Text("off");
// As long as it takes to be woken, and to find the shell.
const DEFAULT_HISTORY: DefaultValue = DefaultValue::Text("15m");
// 1,000 flows that move all the time have 15 minutes of history in 5 MiB; a node with 100 new
// connections a second fills it in 4 minutes. With more, 100,000 flows would take over 40 MiB.
const DEFAULT_HISTORY_SIZE: DefaultValue = DefaultValue::Text("8MiB");
// For people; collectors ask for json.
const DEFAULT_LOG_FORMAT: DefaultValue = DefaultValue::Text("text");

macro_rules! settings {
    ($($constant:ident = $name:literal $env:literal $value:literal, $default:expr, $fallback:expr, $doc:literal;)*) => {
        $(
            #[doc = concat!("`--", $name, "`: ", $doc)]
            pub const $constant: Setting = Setting {
                name: $name,
                env: $env,
                value: $value,
                default: $default,
                fallback_env: $fallback,
                doc: $doc,
            };
        )*

        /// Every setting, in the order of help and docs.
        pub const SETTINGS: &[Setting] = &[$($constant),*];
    };
}

settings! {
    LISTEN = "listen" "ORB8_LISTEN" "ADDRESS", DEFAULT_LISTEN, None,
        "Address and port of the gRPC API, or `off`. Without TLS only a loopback address is accepted, \
         unless `insecure-listen` is set.";
    INSECURE_LISTEN = "insecure-listen" "ORB8_INSECURE_LISTEN" "BOOL", DEFAULT_INSECURE_LISTEN, None,
        "Lets the gRPC API and `hubble-listen` have any address without TLS: everyone who reaches them reads all \
         flows.";
    ADMIN_LISTEN = "admin-listen" "ORB8_ADMIN_LISTEN" "ADDRESS", DEFAULT_ADMIN_LISTEN, None,
        "Address and port of `/metrics`, `/livez` and `/readyz`, or `off`.";
    HUBBLE_LISTEN = "hubble-listen" "ORB8_HUBBLE_LISTEN" "ADDRESS", DEFAULT_HUBBLE_LISTEN, None,
        "Address and port of the API that Hubble's clients speak, usually port 4244, or `off`. It has the TLS \
         files of the gRPC API; without them only a loopback address is accepted, unless `insecure-listen` is \
         set.";
    SOCKET = "socket" "ORB8_SOCKET" "PATH", DEFAULT_SOCKET, None,
        "Path of the gRPC API's unix socket, or `off`. Only the agent's user can connect.";
    TLS_CERT = "tls-cert" "ORB8_TLS_CERT" "PATH", DefaultValue::Unset, None,
        "PEM file with the certificate chain of the gRPC API. Needs `tls-key`.";
    TLS_KEY = "tls-key" "ORB8_TLS_KEY" "PATH", DefaultValue::Unset, None,
        "PEM file with the private key of `tls-cert`.";
    TLS_CLIENT_CA = "tls-client-ca" "ORB8_TLS_CLIENT_CA" "PATH", DefaultValue::Unset, None,
        "PEM file with the authorities that client certificates must come from. Turns mTLS on.";
    SIGNALS = "signals" "ORB8_SIGNALS" "NAMES", DefaultValue::Unset, None,
        "What is observed: `flow`, `dns`, `tcp`, `gpu`, comma-separated. Unset: everything that runs here. One that \
         is named and cannot run ends the agent.";
    ATTACH = "attach" "ORB8_ATTACH" "HOOK", DEFAULT_ATTACH, None,
        "Where flows are counted: `cgroup` (sockets), `tc` (interfaces), `both`, or `auto`.";
    INTERFACES = "interfaces" "ORB8_INTERFACES" "NAMES", DefaultValue::Unset, None,
        "Interfaces of the interface hook, comma-separated, `*` for any text. Unset: every one that is up.";
    EXCLUDE_INTERFACES = "exclude-interfaces" "ORB8_EXCLUDE_INTERFACES" "NAMES", DefaultValue::Unset, None,
        "Interfaces that the interface hook leaves out, comma-separated, `*` for any text.";
    CGROUP_ROOT = "cgroup-root" "ORB8_CGROUP_ROOT" "PATH", DefaultValue::Found("the cgroup v2 mount"), None,
        "Root of the cgroup v2 hierarchy: where the socket hook is attached and owners are looked up.";
    FLOW_TABLE_SIZE = "flow-table-size" "ORB8_FLOW_TABLE_SIZE" "FLOWS", DEFAULT_FLOW_TABLE_SIZE, None,
        "Flows that the kernel's table holds between two drains, 1024 to 4194304. It has two generations \
         of this size.";
    RING_BUFFER_SIZE = "ring-buffer-size" "ORB8_RING_BUFFER_SIZE" "BYTES", DEFAULT_RING_BUFFER_SIZE, None,
        "Size of each signal's ring buffer, in bytes or as `512KiB` or `1MiB`: a power of two and a \
         multiple of the page size, at most 32MiB. That of `tcp` is four times as large, up to the same.";
    DRAIN_INTERVAL = "drain-interval" "ORB8_DRAIN_INTERVAL" "DURATION", DEFAULT_DRAIN_INTERVAL, None,
        "How often the kernel's counters are read, 100ms to 60s.";
    DNS_PORTS = "dns-ports" "ORB8_DNS_PORTS" "PORTS", DEFAULT_DNS_PORTS, None,
        "Ports of DNS servers, comma-separated, at most 8.";
    DNS_TIMEOUT = "dns-timeout" "ORB8_DNS_TIMEOUT" "DURATION", DEFAULT_DNS_TIMEOUT, None,
        "How long a DNS query may go unanswered before a timeout is told, 100ms to 60s.";
    MAX_FLOWS = "max-flows" "ORB8_MAX_FLOWS" "FLOWS", DEFAULT_MAX_FLOWS, None,
        "Flows that the agent keeps, 1024 to 4194304. When there are more, ended ones and then those \
         idle for longest make room; their counts stay in the totals.";
    FLOW_IDLE_TIMEOUT = "flow-idle-timeout" "ORB8_FLOW_IDLE_TIMEOUT" "DURATION", DEFAULT_FLOW_IDLE_TIMEOUT, None,
        "A flow without packets for this long has ended, 1s to 24h.";
    EVENT_BUFFER = "event-buffer" "ORB8_EVENT_BUFFER" "EVENTS", DEFAULT_EVENT_BUFFER, None,
        "Recent events kept for subscribers that ask for the last ones, 0 to 1048576.";
    SUBSCRIBER_BUFFER = "subscriber-buffer" "ORB8_SUBSCRIBER_BUFFER" "EVENTS", DEFAULT_SUBSCRIBER_BUFFER, None,
        "Events that a subscriber may fall behind before it loses some and is told how many, 1024 to \
         16777216.";
    HISTORY = "history" "ORB8_HISTORY" "DURATION", DEFAULT_HISTORY, None,
        "How far back it can be asked what flows moved in a part of time, 1m to 24h, or `off`.";
    HISTORY_SIZE = "history-size" "ORB8_HISTORY_SIZE" "BYTES", DEFAULT_HISTORY_SIZE, None,
        "Memory that the history may take, 1MiB to 4GiB; it takes none that it does not need. On a busy node \
         it reaches back less than `history` says, and tells how far.";
    NODE_NAME = "node-name" "ORB8_NODE_NAME" "NAME", DefaultValue::Found("the host name"), Some("NODE_NAME"),
        "Name of this node in answers, and in the Kubernetes API.";
    KUBERNETES = "kubernetes" "ORB8_KUBERNETES" "ACCESS", DEFAULT_KUBERNETES, None,
        "Where pods, Services and nodes are asked for: `in-cluster` (the pod's ServiceAccount), `kubeconfig`, \
         `off`, or `auto`: in-cluster where that is possible, else a kubeconfig of a cluster that has this \
         node by name and address, if that runs no program for its credentials.";
    KUBECONFIG = "kubeconfig" "ORB8_KUBECONFIG" "PATH", DefaultValue::Unset, None,
        "The kubeconfig file. Unset: those that `KUBECONFIG` names, else `~/.kube/config`.";
    KUBE_CONTEXT = "kube-context" "ORB8_KUBE_CONTEXT" "NAME", DefaultValue::Unset, None,
        "Context of the kubeconfig. Unset: its current one.";
    REMOTE_PODS = "remote-pods" "ORB8_REMOTE_PODS" "BOOL", DEFAULT_REMOTE_PODS, None,
        "Whether the pods of other nodes are watched too, by address, labels and controller: without them, \
         only this node's have names.";
    METRICS_LABELS = "metrics-labels" "ORB8_METRICS_LABELS" "LABELS", DEFAULT_METRICS_LABELS, None,
        "Labels of traffic metrics, comma-separated: `namespace`, `workload`, `workload-kind`, `pod`, \
         `container`, `unit`, and of the other end `peer-namespace`, `peer-workload`, `peer-pod`, \
         `peer-service`, `peer-node`. `workload|pod` is the first of them that is known. `off`: none.";
    METRICS_MAX_SERIES = "metrics-max-series" "ORB8_METRICS_MAX_SERIES" "SETS", DEFAULT_METRICS_MAX_SERIES, None,
        "Label sets that traffic metrics tell apart, 100 to 100000. What has no room is counted with every \
         label `other`, and such label sets are counted.";
    GPU_SOURCES = "gpu-sources" "ORB8_GPU_SOURCES" "NAMES", DefaultValue::Unset, None,
        "Who is asked about accelerators, comma-separated: `nvml`, `dcgm`, `amd`, `drm`, `tpu`, `neuron`. Unset: \
         each that is there.";
    GPU_INTERVAL = "gpu-interval" "ORB8_GPU_INTERVAL" "DURATION", DEFAULT_GPU_INTERVAL, None,
        "How often accelerators are read, 1s to 10s.";
    GPU_NVML_LIBRARY = "gpu-nvml-library" "ORB8_GPU_NVML_LIBRARY" "PATH", DefaultValue::Unset, None,
        "NVIDIA's management library, `libnvidia-ml.so.1`. Unset: it is looked for where drivers, the GPU \
         Operator and GKE put it.";
    GPU_DCGM = "gpu-dcgm" "ORB8_GPU_DCGM" "URL", DEFAULT_GPU_DCGM, None,
        "URL of the metrics of this node's dcgm-exporter.";
    GPU_POD_RESOURCES = "gpu-pod-resources" "ORB8_GPU_POD_RESOURCES" "PATH", DEFAULT_GPU_POD_RESOURCES, None,
        "The kubelet's socket that tells which container was given which device, or `off`. Mount its directory, \
         since the kubelet makes the socket anew.";
    GPU_IDLE_AFTER = "gpu-idle-after" "ORB8_GPU_IDLE_AFTER" "DURATION", DEFAULT_GPU_IDLE_AFTER, None,
        "Who holds a device for this long without using it is told as idle, 10s to 24h.";
    GPU_TRACE = "gpu-trace" "ORB8_GPU_TRACE" "BOOL", DefaultValue::Text("true"), None,
        "Whether calls to CUDA and NCCL are watched, in processes that use a device.";
    GPU_TRACE_BUDGET = "gpu-trace-budget" "ORB8_GPU_TRACE_BUDGET" "PERCENT", DEFAULT_GPU_TRACE_BUDGET, None,
        "Part of a thread's time that watching its calls may take, 0.1% to 10%. Beyond it, the most frequent calls \
         are watched in a part of the time, and said to be.";
    GPU_LEAK_WINDOW = "gpu-leak-window" "ORB8_GPU_LEAK_WINDOW" "DURATION", DEFAULT_GPU_LEAK_WINDOW, None,
        "Memory that a process does not give back is told as a leak when it grows over five windows of this \
         length, 1s to 1h.";
    GPU_NEURON_MONITOR = "gpu-neuron-monitor" "ORB8_GPU_NEURON_MONITOR" "PATH", DefaultValue::Unset, None,
        "AWS's `neuron-monitor`. Unset: where its packages put it.";
    DCGM_COMPAT = "dcgm-compat" "ORB8_DCGM_COMPAT" "BOOL", DefaultValue::Text("false"), None,
        "Whether `/metrics` has accelerators' figures under dcgm-exporter's names and labels too, so that \
         dashboards for it work. Two exporters of the same names count double.";
    OTLP_ENDPOINT = "otlp-endpoint" "ORB8_OTLP_ENDPOINT" "URL", DefaultValue::Unset, Some("OTEL_EXPORTER_OTLP_ENDPOINT"),
        "URL of an OpenTelemetry collector that metrics and logs are sent to, such as `http://collector:4317`, \
         or `off`. Unset: nothing is sent.";
    OTLP_PROTOCOL = "otlp-protocol" "ORB8_OTLP_PROTOCOL" "PROTOCOL", DEFAULT_OTLP_PROTOCOL, Some("OTEL_EXPORTER_OTLP_PROTOCOL"),
        "How the collector is spoken to: `grpc` (usually port 4317) or `http/protobuf` (usually port 4318; \
         `/v1/metrics` and `/v1/logs` are added to the URL).";
    OTLP_HEADERS = "otlp-headers" "ORB8_OTLP_HEADERS" "HEADERS", DefaultValue::Unset, Some("OTEL_EXPORTER_OTLP_HEADERS"),
        "Headers of each request as `name=value`, comma-separated, values percent-encoded. They are never \
         logged; the variable keeps them out of the process list too.";
    OTLP_CA = "otlp-ca" "ORB8_OTLP_CA" "PATH", DefaultValue::Unset, Some("OTEL_EXPORTER_OTLP_CERTIFICATE"),
        "PEM file with the authorities that the collector's certificate must come from. Unset: this \
         machine's. Needs an https URL.";
    OTLP_RESOURCE = "otlp-resource" "ORB8_OTLP_RESOURCE" "ATTRIBUTES", DefaultValue::Unset, Some("OTEL_RESOURCE_ATTRIBUTES"),
        "More attributes of everything that is sent, as `name=value`, comma-separated, values \
         percent-encoded: `k8s.cluster.name=prod`, say.";
    OTLP_INTERVAL = "otlp-interval" "ORB8_OTLP_INTERVAL" "DURATION", DEFAULT_OTLP_INTERVAL, None,
        "How often metrics are sent to the collector, 1s to 1h.";
    OTLP_HISTOGRAMS = "otlp-histograms" "ORB8_OTLP_HISTOGRAMS" "KIND", DEFAULT_OTLP_HISTOGRAMS, Some("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"),
        "Buckets of histograms that are sent: `explicit`, or `exponential` where the backend takes them.";
    OTLP_LOGS = "otlp-logs" "ORB8_OTLP_LOGS" "NAMES", DefaultValue::Unset, None,
        "What is sent to the collector as logs, comma-separated: `flow`, `dns`, `tcp`, `gpu`, and `alerts`, \
         which is what goes wrong with DNS, TCP and accelerators and what was lost. Unset: none.";
    OTLP_FLOW_INTERVAL = "otlp-flow-interval" "ORB8_OTLP_FLOW_INTERVAL" "DURATION", DEFAULT_OTLP_FLOW_INTERVAL, None,
        "How often a flow that goes on has a log record, 1s to 1h. Its end has one in any case.";
    OTLP_QUEUE_SIZE = "otlp-queue-size" "ORB8_OTLP_QUEUE_SIZE" "RECORDS", DEFAULT_OTLP_QUEUE_SIZE, None,
        "Log records that wait for a collector that is away, 1024 to 1048576, and 2 KiB for each of them in \
         all. The oldest make room, and are counted.";
    LOG = "log" "ORB8_LOG" "FILTER", DEFAULT_LOG, Some("RUST_LOG"),
        "What is logged: `error`, `warn`, `info`, `debug`, `trace`, or per module as in `info,orb8_agent=debug`.";
    LOG_FORMAT = "log-format" "ORB8_LOG_FORMAT" "FORMAT", DEFAULT_LOG_FORMAT, None,
        "How log lines read: `text` or `json`.";
}
