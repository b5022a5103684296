//! The agent may do what its watches ask for, and nothing else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};
use orb8_k8s::index::Index;
use orb8_k8s::resources::RESOURCES;
use orb8_k8s::testing::{ApiServer, StreamingLists};
use orb8_k8s::watch::{WatchConfig, Watches};
use tokio_util::sync::CancellationToken;

use super::documents::{all, daemonset, only};

/// Group, resource, verb.
type Grants = BTreeSet<(String, String, String)>;

fn granted(role: ClusterRole) -> Grants {
    assert!(role.aggregation_rule.is_none(), "rules of others would be added");
    let mut grants = Grants::new();
    for rule in role.rules.unwrap_or_default() {
        let PolicyRule { api_groups, non_resource_urls, resource_names, resources, verbs } = rule;
        assert_eq!((non_resource_urls, resource_names), (None, None));
        let resources = resources.unwrap_or_default();
        for group in api_groups.unwrap_or_default() {
            for resource in &resources {
                for verb in &verbs {
                    let grant = (group.clone(), resource.clone(), verb.clone());
                    assert!(grants.insert(grant.clone()), "twice: {grant:?}");
                }
            }
        }
    }
    grants
}

fn asked() -> Grants {
    let rows = RESOURCES.iter().flat_map(|row| row.verbs.iter().map(move |verb| (row, verb)));
    rows.map(|(row, verb)| (row.group.into(), row.plural.into(), (*verb).into())).collect()
}

#[test]
fn the_role_grants_what_the_table_asks_for() {
    assert_eq!(granted(only("rbac.authorization.k8s.io/v1/ClusterRole")), asked());
}

/// Whatever the table comes to hold.
#[test]
fn nothing_is_written_and_no_secret_is_read() {
    for (group, resource, verb) in granted(only("rbac.authorization.k8s.io/v1/ClusterRole")) {
        assert!(["get", "list", "watch"].contains(&verb.as_str()), "{verb} {resource}");
        assert!(!["secrets", "configmaps", "*"].contains(&resource.as_str()), "{group}/{resource}");
        assert_ne!(group, "*");
    }
}

#[test]
fn the_role_is_bound_to_who_runs_the_agent_and_no_other_role_is() {
    let account: ServiceAccount = only("v1/ServiceAccount");
    let namespace: Namespace = only("v1/Namespace");
    let role: ClusterRole = only("rbac.authorization.k8s.io/v1/ClusterRole");
    let binding: ClusterRoleBinding = only("rbac.authorization.k8s.io/v1/ClusterRoleBinding");
    let agent = daemonset();
    assert_eq!(Some(binding.role_ref.name), role.metadata.name);
    assert_eq!(binding.role_ref.kind, "ClusterRole");
    let subjects = binding.subjects.unwrap();
    let [subject] = subjects.as_slice() else { panic!("{subjects:?}") };
    assert_eq!(subject.kind, "ServiceAccount");
    assert_eq!(Some(&subject.name), account.metadata.name.as_ref());
    assert_eq!(subject.namespace, account.metadata.namespace);
    assert_eq!(subject.namespace, namespace.metadata.name);
    assert_eq!(agent.metadata.namespace, namespace.metadata.name);
    let pod = agent.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.service_account_name, account.metadata.name);
    let kinds = all().into_iter().map(|document| document.kind());
    let mut of_rbac: Vec<String> = kinds.filter(|kind| kind.starts_with("rbac.")).collect();
    of_rbac.sort();
    let role_and_binding = ["ClusterRole", "ClusterRoleBinding"];
    let role_and_binding =
        role_and_binding.map(|kind| format!("rbac.authorization.k8s.io/v1/{kind}"));
    assert_eq!(of_rbac, role_and_binding);
}

/// What a server is asked for until the watches have listed everything, and are watching.
async fn asked_of_a_server(streaming: StreamingLists) -> Grants {
    let server = ApiServer::start().await.unwrap();
    server.set_streaming_lists(streaming);
    let (_index, writer) = Index::new();
    let config =
        WatchConfig { node_name: Some("n1".into()), remote_pods: true, ..WatchConfig::default() };
    let cancel = CancellationToken::new();
    let watches = Watches::start(&server.client(), &config, Arc::new(Mutex::new(writer)), &cancel);
    assert!(watches.synced(Duration::from_secs(20)).await, "{:?}", watches.health());
    let watched = |plural: &str| server.times_asked("watch", plural) > 0;
    for _ in 0..200 {
        if RESOURCES.iter().all(|row| watched(&row.name())) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked = server.asked();
    watches.stop().await;
    let grant = |(verb, name, _): (String, String, u64)| {
        let (plural, group) = name.split_once('.').unwrap_or((&name, ""));
        (group.to_owned(), plural.to_owned(), verb)
    };
    asked.into_iter().map(grant).collect()
}

/// Not only the table: what arrives at a server, new (streaming lists) and old.
#[tokio::test]
async fn the_watches_ask_for_all_that_is_granted_and_nothing_else() {
    let granted = granted(only("rbac.authorization.k8s.io/v1/ClusterRole"));
    let mut asked = asked_of_a_server(StreamingLists::Offered).await;
    assert!(asked.is_subset(&granted), "{:?}", asked.difference(&granted));
    asked.extend(asked_of_a_server(StreamingLists::Refused).await);
    assert_eq!(asked, granted);
}
