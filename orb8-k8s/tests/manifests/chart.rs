//! The Helm chart: it makes what kustomize makes, takes no value that it does not know, and holds what
//! `deploy/` has for Prometheus and Grafana.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::DaemonSet;
use serde_json::{Value, json};

use super::documents::{Document, documents, root, skip, text};
use super::helm::{CHART, NAMESPACE, RELEASE, render, render_files, values, yaml};
use super::objects::{Objects, differences, objects};
use super::overlays::{build, unresolved};
use super::schema::fields_lost;

/// The kustomization that each file of values makes again.
const SAME: [(Option<&str>, &str); 5] = [
    (None, "deploy/base"),
    (Some("values-minimal.yaml"), "deploy/overlays/minimal"),
    (Some("values-production.yaml"), "deploy/overlays/production"),
    (Some("values-dev.yaml"), "deploy/overlays/dev"),
    (Some("values-gpu.yaml"), "deploy/overlays/gpu"),
];

/// Turns everything on that is off.
fn everything() -> Value {
    json!({
        "metrics": {
            "expose": true, "prometheusRule": {"enabled": true, "labels": {"release": "monitoring"}},
            "dashboards": {"enabled": true}, "serviceMonitor": {"enabled": true},
        },
        "api": {"access": "mtls"},
        "image": {"digest": format!("sha256:{}", "0".repeat(64)), "pullSecrets": [{"name": "pull"}]},
        "agent": {
            "settings": {"max_flows": 4_194_304, "dns_ports": [53, 5353], "remote_pods": false,
                "history": "off", "drain_interval": "500ms"},
            "env": [
                {"name": "SSL_CERT_FILE", "value": "/etc/ca/ca.pem"},
                {"name": "ORB8_OTLP_HEADERS",
                    "valueFrom": {"secretKeyRef": {"name": "otlp", "key": "headers"}}},
            ],
        },
        "podDisruptionBudget": {"enabled": true}, "networkPolicy": {"enabled": true},
        "podAnnotations": {"a": "b"}, "podLabels": {"team": "net"},
        "serviceAccount": {"annotations": {"c": "d"}},
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
    })
}

fn rendered(changes: &Value) -> Vec<Document> {
    render(&values(changes)).unwrap_or_else(|error| panic!("{error}"))
}

fn agent(documents: &[Document]) -> DaemonSet {
    documents.iter().find(|document| document.kind() == "apps/v1/DaemonSet").unwrap().read()
}

/// What is in a set but the namespace, which Helm's users make themselves.
fn without_namespace(documents: Vec<Document>) -> Objects {
    objects(documents.into_iter().filter(|document| document.kind() != "v1/Namespace").collect())
}

#[test]
fn it_makes_what_kustomize_makes() {
    for (file, folder) in SAME {
        let Some(kustomized) = build(folder, "it_makes_what_kustomize_makes") else { return };
        let changes = file.map_or_else(|| json!({}), yaml);
        let (chart, folder_has) = (objects(rendered(&changes)), without_namespace(kustomized));
        let differences = differences(&chart, &folder_has);
        assert!(differences.is_empty(), "the chart and {folder}:\n{differences}");
    }
}

/// The same without kubectl, for what needs no patch.
#[test]
fn the_default_is_the_base() {
    let folder = root().join("deploy/base");
    let mut base = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = Path::new("deploy/base").join(entry.unwrap().file_name());
        if !path.ends_with("kustomization.yaml") {
            base.extend(documents(path));
        }
    }
    for document in &mut base {
        document.value["metadata"]["labels"]["app.kubernetes.io/part-of"] = "orb8".into();
    }
    let differences = differences(&objects(rendered(&json!({}))), &without_namespace(base));
    assert!(differences.is_empty(), "the chart and deploy/base:\n{differences}");
}

#[test]
fn every_field_is_one_that_its_kind_has() {
    let documents = rendered(&everything());
    let kinds: BTreeSet<String> = documents.iter().map(Document::kind).collect();
    for kind in ["v1/ConfigMap", "monitoring.coreos.com/v1/PrometheusRule"] {
        assert!(kinds.contains(kind), "{kinds:?}");
    }
    let lost: Vec<String> = documents.iter().flat_map(fields_lost).collect();
    assert!(lost.is_empty(), "{}", lost.join("\n"));
    let other = json!({"metrics": {"expose": true, "podMonitor": {"enabled": true}}, "ipv6": true});
    let lost: Vec<String> = rendered(&other).iter().flat_map(fields_lost).collect();
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

/// The agent's variables, as the kubelet would see them.
fn variables(changes: &Value) -> BTreeMap<String, String> {
    let pod = agent(&rendered(changes)).spec.unwrap().template.spec.unwrap();
    let variables = pod.containers[0].env.clone().unwrap();
    assert!(unresolved(&variables).is_empty(), "{:?}", unresolved(&variables));
    let count = variables.len();
    let by_name: BTreeMap<String, String> = variables
        .into_iter()
        .map(|variable| (variable.name, variable.value.unwrap_or_default()))
        .collect();
    assert_eq!(by_name.len(), count, "a variable is there twice");
    by_name
}

/// Helm's numbers are floating point, and large ones print as 4.194304e+06 by themselves.
#[test]
fn settings_become_variables_as_they_were_written() {
    let variables = variables(&everything());
    for (name, value) in [
        ("ORB8_MAX_FLOWS", "4194304"),
        ("ORB8_DNS_PORTS", "53,5353"),
        ("ORB8_REMOTE_PODS", "false"),
        ("ORB8_HISTORY", "off"),
        ("ORB8_DRAIN_INTERVAL", "500ms"),
        ("SSL_CERT_FILE", "/etc/ca/ca.pem"),
    ] {
        assert_eq!(variables.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn listeners_of_ipv6_have_brackets() {
    let of = |changes: &Value| {
        let variables = variables(changes);
        (variables["ORB8_LISTEN"].clone(), variables["ORB8_ADMIN_LISTEN"].clone())
    };
    let closed = of(&json!({"ipv6": true}));
    assert_eq!((closed.0.as_str(), closed.1.as_str()), ("[::1]:9090", "[::1]:9091"));
    let open = of(&json!({"ipv6": true, "metrics": {"expose": true}, "api": {"access": "mtls"}}));
    assert_eq!((open.0.as_str(), open.1.as_str()), ("[::]:9090", "[$(HOST_IP)]:9091"));
}

#[test]
fn a_digest_wins_and_a_tag_is_the_charts_own() {
    let image = |changes: &Value| {
        let pod = agent(&rendered(changes)).spec.unwrap().template.spec.unwrap();
        pod.containers[0].image.clone().unwrap()
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(image(&json!({})), format!("ghcr.io/ignoramuss/orb8-agent:{version}"));
    assert!(image(&everything()).ends_with(&format!("orb8-agent@sha256:{}", "0".repeat(64))));
}

#[test]
fn what_cannot_work_says_what_to_do() {
    let error = |changes: &Value| render(&values(changes)).unwrap_err().to_string();
    let monitor = json!({"metrics": {"serviceMonitor": {"enabled": true}}});
    assert!(error(&monitor).contains("set metrics.expose"), "{}", error(&monitor));
    let both = json!({"metrics": {"expose": true, "serviceMonitor": {"enabled": true},
        "podMonitor": {"enabled": true}}});
    assert!(error(&both).contains("choose one"), "{}", error(&both));
}

fn schema() -> Value {
    serde_json::from_str(&text(Path::new(CHART).join("values.schema.json"))).unwrap()
}

/// What the schema says against values, a line each.
fn refused(changes: &Value) -> Vec<String> {
    let validator = jsonschema::draft7::new(&schema()).unwrap();
    let values = values(changes);
    let errors = validator.iter_errors(&values);
    errors.map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn its_own_values_are_ones_that_it_takes() {
    assert!(jsonschema::meta::is_valid(&schema()));
    let files = SAME.iter().filter_map(|(file, _)| file.map(yaml));
    for changes in files.chain([json!({}), everything()]) {
        assert!(refused(&changes).is_empty(), "{:?}", refused(&changes));
    }
}

#[test]
fn it_refuses_values_that_it_does_not_know() {
    for (changes, at) in [
        (json!({"tolerationz": []}), ""),
        (json!({"metrics": {"exposed": true}}), "/metrics"),
        (json!({"metrics": {"port": 0}}), "/metrics/port"),
        (json!({"metrics": {"serviceMonitor": {"interval": "15"}}}), "/metrics/serviceMonitor"),
        (json!({"api": {"access": "open"}}), "/api/access"),
        (json!({"image": {"digest": "latest"}}), "/image/digest"),
        (json!({"podDisruptionBudget": {"minAvailable": "10%"}}), "/podDisruptionBudget"),
        (json!({"capabilities": ["BPF", "PERFMON", "NET_ADMIN", "SYS_ADMIN"]}), "/capabilities"),
        (json!({"capabilities": ["BPF"]}), "/capabilities"),
        (json!({"updateStrategy": {"rollingUpdate": {"maxSurge": "10%"}}}), "/updateStrategy"),
        (json!({"agent": {"settings": {"max_flow": 1}}}), "/agent/settings"),
        // YAML's `off`.
        (json!({"agent": {"settings": {"history": false}}}), "/agent/settings"),
        (json!({"agent": {"settings": {"max_flows": true}}}), "/agent/settings"),
        // What other values decide.
        (json!({"agent": {"settings": {"admin_listen": "0.0.0.0:1"}}}), "/agent/settings"),
        (json!({"agent": {"settings": {"kubernetes": "off"}}}), "/agent/settings"),
        (json!({"agent": {"env": [{"name": "ORB8_LISTEN", "value": "0.0.0.0:1"}]}}), "/agent/env"),
    ] {
        let refused = refused(&changes);
        assert!(refused.iter().any(|line| line.starts_with(at)), "{changes}: {refused:?}");
    }
}

/// Values that can be set and have no default, or the other way round, are in one place only.
fn names(schema: &Value, values: &Value, at: &str, lines: &mut Vec<String>) {
    let (Some(known), Some(values)) = (schema.get("properties"), values.as_object()) else {
        return;
    };
    for (key, schema) in known.as_object().unwrap() {
        let at = format!("{at}.{key}");
        let is_described =
            ["description", "properties"].iter().any(|key| schema.get(key).is_some());
        // Scalars of a fixed choice say enough by it.
        if !is_described && schema.get("enum").is_none() && schema.get("type").is_none() {
            lines.push(format!("{at} is not described"));
        }
        match values.get(key) {
            Some(value) => names(schema, value, &at, lines),
            None if OPTIONAL.iter().any(|optional| at.starts_with(optional)) => {}
            None => lines.push(format!("{at} is not in values.yaml")),
        }
    }
}

/// Parts of objects that are Kubernetes' own, Helm's, and the agent's settings.
const OPTIONAL: [&str; 6] = [
    ".agent.settings",
    ".global",
    ".seLinuxOptions",
    ".seccompProfile",
    ".updateStrategy",
    ".resources",
];

#[test]
fn every_value_is_described_and_has_a_default() {
    let mut lines = Vec::new();
    names(&schema(), &yaml("values.yaml"), "", &mut lines);
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

/// Everything that Helm reads is below the chart's folder, so that it has copies.
#[test]
fn the_rules_and_dashboards_are_those_of_deploy() {
    let copies = [
        ("deploy/prometheus/rules", "files/rules", "yaml"),
        ("deploy/grafana/dashboards", "files/dashboards", "json"),
    ];
    for (from, to, ending) in copies {
        let folder = |path: &Path| {
            let entries = fs::read_dir(root().join(path)).unwrap().map(|entry| entry.unwrap());
            let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry));
            let named = named.filter(|(name, _)| name.ends_with(ending));
            named
                .map(|(name, entry)| (name, fs::read_to_string(entry.path()).unwrap()))
                .collect::<BTreeMap<String, String>>()
        };
        let (from, to) = (Path::new(from), Path::new(CHART).join(to));
        let (source, copy) = (folder(from), folder(&to));
        assert!(!source.is_empty(), "{}", from.display());
        if std::env::var_os("ORB8_BLESS").is_some() {
            for name in copy.keys() {
                fs::remove_file(root().join(&to).join(name)).unwrap();
            }
            for (name, text) in source {
                fs::write(root().join(&to).join(name), text).unwrap();
            }
            continue;
        }
        assert!(
            source == copy,
            "{} is stale; run `ORB8_BLESS=1 cargo test -p orb8-k8s --test manifests chart`",
            to.display()
        );
    }
}

/// What the operator gets is what it gets of `deploy/prometheus`.
#[test]
fn monitors_and_rules_are_those_of_deploy() {
    let spec = |documents: &[Document], kind: &str| {
        let kind = format!("monitoring.coreos.com/v1/{kind}");
        let matching = documents.iter().filter(|document| document.kind() == kind);
        matching.map(|document| document.value["spec"].clone()).collect::<Vec<_>>()
    };
    let service = rendered(&everything());
    let pod = rendered(&json!({"metrics": {"expose": true, "podMonitor": {"enabled": true}}}));
    for (chart, kind, file) in
        [(&service, "ServiceMonitor", "servicemonitor"), (&pod, "PodMonitor", "podmonitor")]
    {
        let deploy = documents(format!("deploy/prometheus/{file}.yaml"));
        assert_eq!(spec(chart, kind), spec(&deploy, kind), "{file}");
    }
    let groups = |specs: Vec<Value>| {
        let groups = specs.into_iter().flat_map(|spec| spec["groups"].as_array().unwrap().clone());
        groups.map(|group| (group["name"].to_string(), group)).collect::<Objects>()
    };
    let deploy = documents("deploy/prometheus/prometheusrule.yaml");
    let (chart, deploy) = (spec(&service, "PrometheusRule"), spec(&deploy, "PrometheusRule"));
    let differences = differences(&groups(chart), &groups(deploy));
    assert!(differences.is_empty(), "the chart and deploy/prometheus:\n{differences}");
}

/// A ConfigMap holds at most 1 MiB.
#[test]
fn dashboards_fit_and_are_whole() {
    let mut dashboards = 0;
    for document in rendered(&everything()) {
        if document.kind() != "v1/ConfigMap" {
            continue;
        }
        for (name, text) in document.value["data"].as_object().unwrap() {
            let copy = super::documents::text(Path::new(CHART).join("files/dashboards").join(name));
            let text = text.as_str().unwrap();
            assert!(text.len() < 1 << 20, "{name}");
            let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(read(text), read(&copy), "{name}");
            dashboards += 1;
        }
    }
    assert!(dashboards > 0);
}

#[test]
fn the_versions_are_those_of_the_workspace() {
    let chart = yaml("Chart.yaml");
    for key in ["version", "appVersion"] {
        assert_eq!(chart[key], env!("CARGO_PKG_VERSION"), "{key}");
    }
}

#[test]
fn the_notes_name_what_there_is() {
    for changes in [json!({}), everything(), yaml("values-dev.yaml")] {
        let files = render_files(&values(&changes)).unwrap();
        let notes = &files[&Path::new(CHART).join("templates/NOTES.txt")];
        assert!(notes.contains("pod-security.kubernetes.io/enforce=privileged"), "{notes}");
        assert!(!notes.contains("<no value>") && !notes.contains("{{"), "{notes}");
    }
}

/// Helm itself, where it is installed.
#[test]
fn helm_makes_the_same() {
    let helm = |arguments: &[&str]| {
        let chart = root().join(CHART);
        Command::new("helm").args(arguments).arg("--namespace").arg(NAMESPACE).arg(chart).output()
    };
    if helm(&["lint", "--strict"]).is_err() {
        return skip("helm_makes_the_same", "helm", "helm is not installed");
    }
    let lint = helm(&["lint", "--strict"]).unwrap();
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    for (file, _) in SAME {
        let file = file.map(|file| root().join(CHART).join(file));
        let mut arguments = vec!["template", RELEASE];
        if let Some(file) = &file {
            arguments.extend(["--values", file.to_str().unwrap()]);
        }
        let made = helm(&arguments).unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Vec<Value> =
            serde_saphyr::from_multiple(&String::from_utf8(made.stdout).unwrap()).unwrap();
        let made = made.into_iter().filter(|value| !value.is_null());
        let made = made.map(|value| Document { path: CHART.into(), value }).collect();
        let changes = file
            .map_or_else(|| json!({}), |file| yaml(file.file_name().unwrap().to_str().unwrap()));
        let differences = differences(&objects(made), &objects(rendered(&changes)));
        assert!(differences.is_empty(), "helm and the test's renderer: {differences}");
    }
}
