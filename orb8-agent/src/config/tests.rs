use orb8_k8s::client::Access;
use std::collections::BTreeSet;
use std::fs;

use clap::{Args, Command, FromArgMatches};

use super::settings::*;
use super::*;

/// A machine with 4 KiB pages and a cgroup v2 mount.
fn machine() -> Environment {
    Environment {
        host_name: Some("host-1".into()),
        page_size: 4096,
        cgroup_mount: Some("/sys/fs/cgroup".into()),
        ..Environment::default()
    }
}

fn with_variables(variables: &[(&str, &str)]) -> Environment {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Environment { variables: variables.iter().map(owned).collect(), ..machine() }
}

fn typed(arguments: &[&str]) -> RawConfig {
    let command = RawConfig::augment_args(Command::new("test"));
    let matches = command.try_get_matches_from([&["test"], arguments].concat()).unwrap();
    RawConfig::from_arg_matches(&matches).unwrap()
}

fn errors(raw: RawConfig, environment: &Environment) -> String {
    raw.load(environment).unwrap_err().to_string()
}

#[test]
fn every_setting_has_every_name_a_valid_default_and_a_doc() {
    let command = RawConfig::augment_args(Command::new("test"));
    let mut names = BTreeSet::new();
    for setting in SETTINGS {
        assert!(names.insert(setting.name), "{} is there twice", setting.name);
        assert!(setting.doc.ends_with('.') && !setting.doc.contains('\n'), "{}", setting.name);
        assert_eq!(setting.env, format!("ORB8_{}", setting.name.to_uppercase().replace('-', "_")));
        let arg = command.get_arguments().find(|arg| arg.get_id() == setting.name).unwrap();
        assert_eq!(arg.get_long(), Some(setting.name));
        assert_eq!(arg.get_env().unwrap(), setting.env);
        assert!(arg.get_help().unwrap().to_string().starts_with(setting.doc));

        // Each name reaches the same value.
        let value = value_for(setting);
        let by_flag = typed(&[&format!("--{}={value}", setting.name)]).load(&machine());
        let by_variable = RawConfig::default().load(&with_variables(&[(setting.env, value)]));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, format!("{} = {value:?}\n", setting.key())).unwrap();
        let by_file = RawConfig::default().with_file(file.path()).load(&machine());
        match setting.name {
            // Alone they are refused, which names them as well.
            "tls-cert" | "tls-key" | "tls-client-ca" => {
                for result in [by_flag, by_variable, by_file] {
                    assert!(result.unwrap_err().to_string().contains("--tls-"), "{}", setting.name);
                }
            }
            _ => {
                let by_flag = by_flag.unwrap();
                // Consent alone changes nothing; see `clear_text_needs_consent`.
                if setting.name != "insecure-listen" {
                    assert_ne!(by_flag, RawConfig::default().load(&machine()).unwrap(), "{value}");
                }
                assert_eq!(by_variable.unwrap(), by_flag, "{}", setting.env);
                assert_eq!(by_file.unwrap(), by_flag, "{}", setting.key());
            }
        }
    }
}

/// A value that is valid and not the default.
fn value_for(setting: &Setting) -> &'static str {
    match setting.name {
        "signals" => "flow,tcp",
        "dns-ports" => "53,5353",
        "listen" | "hubble-listen" => "127.0.0.1:9999",
        "insecure-listen" => "true",
        "admin-listen" | "socket" | "kubernetes" => "off",
        "remote-pods" => "false",
        "attach" => "both",
        "metrics-max-series" => "200",
        "flow-table-size" | "max-flows" | "event-buffer" | "subscriber-buffer" => "2048",
        "ring-buffer-size" | "history-size" => "2MiB",
        "history" | "metrics-labels" => "off",
        "drain-interval" | "flow-idle-timeout" | "dns-timeout" => "2s",
        "otlp-endpoint" => "http://127.0.0.1:4317",
        "otlp-protocol" => "http/protobuf",
        "otlp-headers" | "otlp-resource" => "a=b",
        "otlp-histograms" => "exponential",
        "otlp-interval" | "otlp-flow-interval" => "2s",
        "otlp-logs" => "flow,alerts",
        "otlp-queue-size" => "2048",
        "gpu-sources" => "nvml,amd",
        "gpu-interval" | "gpu-leak-window" => "2s",
        "gpu-idle-after" => "20s",
        "gpu-dcgm" => "http://127.0.0.1:9400/metrics",
        "gpu-trace" => "false",
        "gpu-trace-budget" => "2%",
        "dcgm-compat" => "true",
        "log" => "debug",
        "log-format" => "json",
        "interfaces" | "exclude-interfaces" => "eth*",
        _ => "/some/where",
    }
}

#[test]
fn who_names_a_kubeconfig_wants_it() {
    let access = |arguments: &[&str]| typed(arguments).load(&machine()).unwrap().kubernetes.access;
    assert_eq!(access(&[]), Access::Auto);
    assert_eq!(access(&["--kubernetes=in-cluster"]), Access::InCluster);
    let named = |path: Option<&str>, context: Option<&str>| Access::Kubeconfig {
        path: path.map(Into::into),
        context: context.map(str::to_owned),
    };
    assert_eq!(access(&["--kubernetes=kubeconfig"]), named(None, None));
    assert_eq!(access(&["--kubeconfig=/a"]), named(Some("/a"), None));
    assert_eq!(access(&["--kube-context=b"]), named(None, Some("b")));
    let both = ["--kubernetes=kubeconfig", "--kubeconfig=/a", "--kube-context=b"];
    assert_eq!(access(&both), named(Some("/a"), Some("b")));
    for other in ["off", "in-cluster"] {
        let asked = typed(&[&format!("--kubernetes={other}"), "--kubeconfig=/a"]);
        assert!(errors(asked, &machine()).contains("--kubernetes: "), "{other}");
    }
    assert!(errors(typed(&["--kubernetes=on"]), &machine()).contains("`on` is none"));
}

#[test]
fn defaults_are_valid() {
    let config = RawConfig::default().load(&machine()).unwrap();
    assert_eq!(config.api.listen, Some("127.0.0.1:9090".parse().unwrap()));
    assert_eq!(config.api.admin, Some("127.0.0.1:9091".parse().unwrap()));
    assert_eq!(config.api.socket, Some("/run/orb8/agent.sock".into()));
    assert_eq!(config.api.tls, None);
    assert_eq!(config.attach, AttachStrategy::Auto);
    assert_eq!(config.flow_table_size, 65_536);
    assert_eq!(config.ring_buffer_size, 1 << 20);
    assert_eq!(config.cgroup_root, Some("/sys/fs/cgroup".into()));
    assert_eq!(config.node_name, "host-1");
    assert_eq!(config.drain_interval, Duration::from_secs(1));
    assert_eq!(config.dns, DnsConfig { ports: vec![53], timeout: Duration::from_secs(5) });
    assert_eq!(config.log, LogConfig { filter: "info".into(), format: LogFormat::Text });
    assert!(config.interfaces.selects("anything"));
    let big_pages = Environment { page_size: 65_536, ..machine() };
    RawConfig::default().load(&big_pages).unwrap();
}

#[test]
fn in_process_listens_nowhere() {
    let config = Config::in_process().unwrap();
    assert_eq!(config.api, ApiConfig::default());
}

#[test]
fn flags_win_over_environment_over_file_over_fallback() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        &file,
        "node_name = \"file\"\nmax_flows = 5000\ninterfaces = [\"eth0\", \"veth*\"]\n",
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let fallback = [("ORB8_CONFIG", path), ("NODE_NAME", "fallback"), ("RUST_LOG", "warn")];
    let config = RawConfig::default().load(&with_variables(&fallback)).unwrap();
    assert_eq!((config.node_name.as_str(), config.store.max_flows), ("file", 5000));
    assert_eq!(config.log.filter, "warn");
    assert!(config.interfaces.selects("veth1") && !config.interfaces.selects("lo"));

    let both = [&fallback[..], &[("ORB8_NODE_NAME", "variable"), ("ORB8_LOG", "error")]].concat();
    let config = RawConfig::default().load(&with_variables(&both)).unwrap();
    assert_eq!((config.node_name.as_str(), config.log.filter.as_str()), ("variable", "error"));

    let config = typed(&["--node-name", "flag"]).load(&with_variables(&both)).unwrap();
    assert_eq!(config.node_name, "flag");

    let only = [("NODE_NAME", "fallback")];
    assert_eq!(RawConfig::default().load(&with_variables(&only)).unwrap().node_name, "fallback");
}

#[test]
fn every_bad_setting_is_reported_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "attach = \"xdp\"\nflow_tabel_size = 1\nmax_flows = 1.5\n").unwrap();
    let variables = [("ORB8_RING_BUFFER_SIZE", "3MiB"), ("ORB8_LISTENN", "x"), ("PATH", "/bin")];
    let raw = typed(&["--drain-interval", "5", "--log-format", "xml", "--tls-cert", "/c.pem"])
        .with_file(file.path());
    let text = errors(raw, &with_variables(&variables));
    let lines: Vec<&str> = text.lines().collect();
    let path = file.path().display();
    for expected in [
        "ORB8_LISTENN: is no variable of orb8; unset it or correct its name".to_owned(),
        format!("flow_tabel_size in {path}: is no setting; the keys are the flags of `orb8-agent --help` with `_` for `-`"),
        format!("max_flows in {path}: must be a text, a number, a boolean or a list of texts"),
        format!("attach in {path}: \"xdp\" must be auto, cgroup, tc or both"),
        "ORB8_RING_BUFFER_SIZE: \"3MiB\" must be a power of two from 4096 (this machine's page size) \
         to 33554432 bytes, such as 524288, 512KiB or 1MiB"
            .to_owned(),
        "--drain-interval: \"5\" must be a duration from 100ms to 60s, such as 1s, 1500ms or 2m"
            .to_owned(),
        "--log-format: \"xml\" must be text or json".to_owned(),
        "--tls-key (ORB8_TLS_KEY): must be set too: TLS needs a certificate and its key".to_owned(),
    ] {
        assert!(lines.contains(&expected.as_str()), "no line {expected:?} in:\n{text}");
    }
    assert_eq!(lines.len(), 8, "{text}");
}

#[test]
fn clear_text_needs_consent() {
    for address in ["0.0.0.0:9090", "[::]:9090", "10.0.0.1:9090"] {
        for flag in ["--listen", "--hubble-listen"] {
            let text = errors(typed(&[flag, address]), &machine());
            assert!(text.starts_with(&format!("{flag}: ")), "{text}");
            assert!(text.contains("--insecure-listen") && !text.contains('\n'), "{text}");
            for consent in [&["--insecure-listen"][..], &["--tls-cert=/c", "--tls-key=/k"]] {
                let config = typed(&[&[flag, address], consent].concat()).load(&machine()).unwrap();
                let ApiConfig { listen, hubble, .. } = config.api;
                let set = if flag == "--listen" { listen } else { hubble };
                assert_eq!(set, Some(address.parse().unwrap()));
            }
        }
    }
    let both = errors(typed(&["--listen=10.0.0.1:1", "--hubble-listen=10.0.0.1:2"]), &machine());
    assert_eq!(both.lines().count(), 2, "each is named: {both}");
    typed(&["--hubble-listen=127.0.0.1:4244"]).load(&machine()).unwrap();
    let text = errors(typed(&["--listen=[::]:9090", "--insecure-listen=false"]), &machine());
    assert!(text.contains("not a loopback address"), "{text}");
    typed(&["--listen=127.9.9.9:1"]).load(&machine()).unwrap();
    typed(&["--listen=[::1]:1"]).load(&machine()).unwrap();
}

#[test]
fn listeners_can_be_off() {
    for off in ["off", ""] {
        let variables = [("ORB8_LISTEN", off), ("ORB8_ADMIN_LISTEN", off), ("ORB8_SOCKET", off)];
        let config = RawConfig::default().load(&with_variables(&variables)).unwrap();
        assert_eq!(config.api, ApiConfig::default());
    }
}

#[test]
fn a_named_file_must_exist_and_the_default_one_need_not() {
    let missing = "/nonexistent/orb8.toml";
    let text = errors(RawConfig::default().with_file(missing), &machine());
    assert!(text.starts_with("/nonexistent/orb8.toml: cannot be read: "), "{text}");
    let environment = Environment { default_file: Some(missing.into()), ..machine() };
    RawConfig::default().load(&environment).unwrap();

    let broken = tempfile::NamedTempFile::new().unwrap();
    fs::write(&broken, "listen = \n").unwrap();
    let text = errors(RawConfig::default().with_file(broken.path()), &machine());
    assert!(text.contains("is no TOML"), "{text}");
}

#[test]
fn a_machine_without_names_and_cgroups_says_what_is_missing() {
    let bare = Environment { page_size: 4096, ..Environment::default() };
    let text = errors(RawConfig::default(), &bare);
    assert_eq!(text, "ORB8_NODE_NAME: must be set: this machine has no host name");
    let config = typed(&["--node-name=n"]).load(&bare).unwrap();
    assert_eq!(config.cgroup_root, None);
}

#[test]
fn telemetry_is_sent_nowhere_unless_asked_for() {
    use crate::otlp::{Histograms, Protocol};

    let otlp = |variables: &[(&str, &str)]| {
        RawConfig::default().load(&with_variables(variables)).unwrap().otlp
    };
    assert_eq!(otlp(&[]).endpoint, None);
    let standard = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b"),
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=prod"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "base2_exponential_bucket_histogram",
        ),
    ];
    let config = otlp(&standard);
    assert_eq!(config.endpoint.unwrap(), "http://c:4318/");
    assert_eq!(config.protocol, Protocol::Http);
    assert_eq!(config.headers["api-key"], "a b");
    assert_eq!(config.resource, [("k8s.cluster.name".to_owned(), "prod".to_owned())]);
    assert_eq!(config.histograms, Histograms::Exponential);
    let off = [&standard[..], &[("ORB8_OTLP_ENDPOINT", "off")]].concat();
    assert_eq!(otlp(&off).endpoint, None, "ours wins");
    let others = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "nonsense"),
        ("OTEL_RESOURCE_ATTRIBUTES", "nonsense"),
    ];
    assert_eq!(otlp(&others), otlp(&[]), "what is not for us is no mistake");
    let clear = [("OTEL_EXPORTER_OTLP_CERTIFICATE", "/c"), ("ORB8_OTLP_ENDPOINT", "http://c:1")];
    assert_eq!(otlp(&clear).ca, None);
    let for_us = [&others[..], &[("ORB8_OTLP_ENDPOINT", "http://c:1")]].concat();
    let text = errors(RawConfig::default(), &with_variables(&for_us));
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn what_is_wrong_with_the_export_is_told_at_once_and_without_secrets() {
    let raw = typed(&["--otlp-endpoint=http://user:hidden@c:4317", "--otlp-headers=hidden"]);
    let text =
        errors(raw, &with_variables(&[("ORB8_OTLP_LOGS", "x"), ("ORB8_OTLP_PROTOCOL", "y")]));
    assert!(!text.contains("hidden"), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    for at in ["--otlp-endpoint: ", "--otlp-headers: ", "ORB8_OTLP_LOGS: ", "ORB8_OTLP_PROTOCOL: "]
    {
        assert!(lines.iter().any(|line| line.starts_with(at) && line.contains("must")), "{text}");
    }

    let paths = ["--otlp-endpoint=http://c:4317/v1", "--otlp-ca=/ca.pem"];
    let text = errors(typed(&paths), &machine());
    assert!(text.contains("--otlp-endpoint: must have no path with gRPC"), "{text}");
    assert!(text.contains("--otlp-ca: needs an https endpoint"), "{text}");
    typed(&["--otlp-endpoint=http://c/v1", "--otlp-protocol=http/protobuf"])
        .load(&machine())
        .unwrap();
}
