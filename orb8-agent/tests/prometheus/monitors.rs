//! The ServiceMonitor and the PodMonitor find what is deployed, and leave the labels alone that tell
//! whose traffic it is.

use serde_json::{Value, json};

use super::{
    rules::{promtool, yaml},
    server::deployed,
};
use crate::kernel::support::program::has_programs;

fn relabelings(endpoint: &Value) -> Vec<Value> {
    endpoint["relabelings"].as_array().expect("relabelings").clone()
}

fn check(endpoint: &Value) {
    assert_eq!((&endpoint["port"], &endpoint["path"]), (&json!("metrics"), &json!("/metrics")));
    let relabelings = relabelings(endpoint);
    let sets = |label: &str| relabelings.iter().any(|step| step["targetLabel"] == label);
    assert!(sets("job") && sets("node"), "the alerts need them: {relabelings:#?}");
    let drops = relabelings.iter().find(|step| step["action"] == "labeldrop").expect("a labeldrop");
    let dropped: Vec<_> = drops["regex"].as_str().expect("a regex").split('|').collect();
    for label in ["namespace", "pod", "container"] {
        assert!(dropped.contains(&label), "{label} would stand for whose traffic it is");
    }
}

#[test]
fn the_service_monitor_finds_the_service() {
    let monitor = yaml(&deployed("prometheus/servicemonitor.yaml"));
    let service = yaml(&deployed("components/metrics/service.yaml"));
    check(&monitor["spec"]["endpoints"][0]);
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().expect("labels");
    for (label, value) in wanted {
        assert_eq!(&service["metadata"]["labels"][label], value, "{label}");
    }
    let namespace = &service["metadata"]["namespace"];
    assert_eq!(&monitor["spec"]["namespaceSelector"]["matchNames"][0], namespace);
    assert_eq!(service["spec"]["ports"][0]["name"], "metrics");
}

#[test]
fn the_pod_monitor_finds_the_pods() {
    let monitor = yaml(&deployed("prometheus/podmonitor.yaml"));
    let set = yaml(&deployed("base/daemonset.yaml"));
    check(&monitor["spec"]["podMetricsEndpoints"][0]);
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().expect("labels");
    for (label, value) in wanted {
        assert_eq!(&set["spec"]["template"]["metadata"]["labels"][label], value, "{label}");
    }
    assert_eq!(
        &monitor["spec"]["namespaceSelector"]["matchNames"][0],
        &set["metadata"]["namespace"]
    );
    let ports =
        set["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().expect("ports");
    assert!(ports.iter().any(|port| port["name"] == "metrics"), "{ports:?}");
}

/// Debian's promtool knows nothing of Kubernetes: that part is held against the pods here.
#[test]
fn the_plain_configuration_finds_the_pods() {
    let mut config = yaml(&deployed("prometheus/scrape.yaml"));
    for file in config["rule_files"].as_array_mut().expect("files") {
        *file = json!(deployed(&format!("prometheus/{}", file.as_str().expect("a path"))));
    }
    let scrape = &mut config["scrape_configs"][0];
    assert_eq!(scrape["job_name"], "orb8-agent");
    let keep = &scrape["relabel_configs"][0];
    assert_eq!((&keep["action"], &keep["regex"]), (&json!("keep"), &json!("orb8-agent;metrics")));
    let sources = scrape.as_object_mut().expect("a scrape").remove("kubernetes_sd_configs");
    assert_eq!(sources, Some(json!([{"role": "pod", "namespaces": {"names": ["orb8-system"]}}])));
    scrape["static_configs"] = json!([{"targets": ["127.0.0.1:9091"]}]);
    if !has_programs(&["promtool"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prometheus.yaml");
    std::fs::write(&file, config.to_string()).expect("a file");
    promtool(&["check", "config", &file.display().to_string()]);
}
