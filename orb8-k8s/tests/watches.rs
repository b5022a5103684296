//! What the watches ask for and say, where a scenario file cannot tell.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use orb8_k8s::client::{Access, Connection, connect};
use orb8_k8s::index::{Index, Source};
use orb8_k8s::resources::{Part, RESOURCES};
use orb8_k8s::testing::{ApiServer, StreamingLists, objects};
use orb8_k8s::watch::{Timing, WatchConfig, Watches};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> WatchConfig {
    let backoff = (Duration::from_millis(10), Duration::from_millis(50));
    WatchConfig {
        node_name: Some("n1".to_owned()),
        remote_pods: true,
        timing: Timing { backoff, ..Timing::default() },
    }
}

fn start(server: &ApiServer, cancel: &CancellationToken) -> (Index, Watches) {
    start_with(server, config().timing, cancel)
}

fn start_with(server: &ApiServer, timing: Timing, cancel: &CancellationToken) -> (Index, Watches) {
    let (index, writer) = Index::new();
    let config = WatchConfig { timing, ..config() };
    let writer = Arc::new(Mutex::new(writer));
    (index, Watches::start(&server.client(), &config, writer, cancel))
}

/// Waits until every watch is open, the optional ones too.
async fn all_open(watches: &Watches) {
    eventually(|| {
        watches.health().watches().iter().all(|watch| watch.is_connected() && watch.synced)
    })
    .await;
}

async fn eventually(holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(10 * SECOND, waited).await.expect("it holds at last");
}

fn unix_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
}

#[tokio::test]
async fn nothing_but_the_table_is_asked_for_and_all_of_it() {
    let server = ApiServer::start().await.unwrap();
    server.set_streaming_lists(StreamingLists::Refused);
    let (_, watches) = start(&server, &CancellationToken::new());
    all_open(&watches).await;
    let asked: BTreeSet<_> =
        server.asked().into_iter().map(|(verb, resource, _)| (verb, resource)).collect();
    let table: BTreeSet<_> = RESOURCES
        .iter()
        .flat_map(|row| row.verbs.iter().map(|verb| ((*verb).to_owned(), row.name())))
        .collect();
    assert_eq!(asked, table);
    let whole = RESOURCES.iter().filter(|row| row.part == Part::Whole);
    assert_eq!(server.asked_whole(), whole.map(|row| row.name()).collect());
}

#[tokio::test]
async fn streamed_lists_need_no_list() {
    let server = ApiServer::start().await.unwrap();
    let (_, watches) = start(&server, &CancellationToken::new());
    all_open(&watches).await;
    let lists: Vec<_> = server.asked().into_iter().filter(|(verb, ..)| verb == "list").collect();
    assert_eq!(lists, []);
    // One for the pods of this node, and one for the others.
    assert_eq!(server.times_asked("watch", "pods"), 2);
    assert_eq!(server.times_asked("watch", "jobs.batch"), 1);
}

/// What lists were not to be older than, in their order.
fn lists(server: &ApiServer, streaming: StreamingLists) -> Vec<String> {
    let verb = if streaming == StreamingLists::Offered { "watch" } else { "list" };
    let mut lists = server.parameters(verb, "services");
    lists.retain(|list| verb == "list" || list.contains_key("sendInitialEvents"));
    for list in &lists {
        assert_eq!(list["resourceVersionMatch"], "NotOlderThan");
        assert_eq!(list.get("limit"), None, "a limit is for etcd");
    }
    lists.iter().map(|list| list["resourceVersion"].clone()).collect()
}

#[tokio::test]
async fn lists_are_taken_from_the_servers_cache_and_do_not_go_back_in_time() {
    for streaming in [StreamingLists::Refused, StreamingLists::Offered] {
        let server = ApiServer::start().await.unwrap();
        server.set_streaming_lists(streaming);
        server.apply(objects::service("shop", "web", Some("10.96.0.2"), 80));
        server.apply(objects::service("shop", "api", Some("10.96.0.3"), 80));
        let timing = Timing { quiet: SECOND / 2, ..config().timing };
        let (_index, watches) = start_with(&server, timing, &CancellationToken::new());
        let has = |objects| {
            let services = watches.health().watch(Source::Services).unwrap();
            services.is_connected() && services.objects == objects
        };
        eventually(|| has(2)).await;
        // Silence means something once bookmarks came.
        tokio::time::sleep(SECOND / 3).await;

        server.close();
        server.compact();
        server.apply(objects::service("shop", "more", Some("10.96.0.4"), 80));
        server.open().await.unwrap();
        eventually(|| has(3)).await;
        assert_eq!(lists(&server, streaming), ["0", "3"]);

        // What is known is then newer than all that there is: a list says so.
        server.close();
        server.restore();
        server.open().await.unwrap();
        eventually(|| has(0)).await;
        assert_eq!(lists(&server, streaming), ["0", "3", "5", "0"]);
    }
}

#[tokio::test]
async fn a_list_that_comes_in_pages_is_taken_whole() {
    let server = ApiServer::start().await.unwrap();
    server.set_streaming_lists(StreamingLists::Refused);
    server.set_page(Some(500));
    for at in 0..1001 {
        server.apply(objects::pod("shop", &format!("p{at}"), "n2", &[]));
    }
    let (index, watches) = start(&server, &CancellationToken::new());
    assert!(watches.synced(10 * SECOND).await);
    assert_eq!(index.counts().pods, 1001);
    assert_eq!(watches.health().pods_tracked(), 1001);
    // Three pages of the others, and one of this node's.
    assert_eq!(server.times_asked("list", "pods"), 4);
}

#[tokio::test]
async fn a_kubeconfig_leads_to_the_server() {
    let server = ApiServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    server.write_kubeconfig(&path).unwrap();
    let access = Access::Kubeconfig { path: Some(path), context: None };
    let Connection::Found(found) = connect(&access).await.unwrap() else { panic!("no client") };
    assert_eq!(found.server, server.url());
    let (_, writer) = Index::new();
    let cancel = CancellationToken::new();
    let watches = Watches::start(&found.client, &config(), Arc::new(Mutex::new(writer)), &cancel);
    assert!(watches.synced(10 * SECOND).await);
}

#[tokio::test]
async fn names_outlive_the_watches_which_end_when_told() {
    let server = ApiServer::start().await.unwrap();
    server.apply(objects::pod("shop", "web", "n1", &["10.0.1.1"]));
    let cancel = CancellationToken::new();
    let (index, watches) = start(&server, &cancel);
    assert!(watches.synced(10 * SECOND).await);
    let health = watches.health().clone();
    cancel.cancel();
    tokio::time::timeout(SECOND, watches.stop()).await.expect("the watches end");
    let pod = index.pod_at("10.0.1.1".parse().unwrap(), unix_ns()).unwrap();
    assert_eq!(&*pod.name, "web");
    let pods = health.watch(Source::LocalPods).unwrap();
    assert!(pods.last_sync.is_some_and(|seconds| seconds > 1_700_000_000), "{pods:?}");
}

#[tokio::test]
async fn nobody_waits_for_ever_for_a_server_that_is_not_there() {
    let server = ApiServer::start().await.unwrap();
    server.close();
    let (_, watches) = start(&server, &CancellationToken::new());
    assert!(!watches.synced(Duration::from_millis(300)).await);
    let services = watches.health().watch(Source::Services).unwrap();
    let error = services.error.unwrap();
    assert!(error.contains("cannot be reached: ") && error.contains("refused"), "{error}");
}

/// A pod on another node that started now.
fn pod_from_now(name: &str) -> serde_json::Value {
    let mut pod = objects::pod("shop", name, "n2", &["10.0.2.1"]);
    let now = k8s_openapi::jiff::Timestamp::now();
    pod["metadata"]["creationTimestamp"] = now.to_string().into();
    pod["status"]["startTime"] = now.to_string().into();
    pod
}

/// Who comes with an address while nobody watches has it from its own start on, also where the
/// watch had ended without a failure.
#[tokio::test]
async fn a_watch_that_the_server_ends_at_once_leaves_a_gap() {
    let server = ApiServer::start().await.unwrap();
    server.apply(pod_from_now("before"));
    let timing = Timing {
        server_timeout: (SECOND, SECOND),
        backoff: (4 * SECOND, 4 * SECOND),
        ..Timing::default()
    };
    let (index, watches) = start_with(&server, timing, &CancellationToken::new());
    let remote = || watches.health().watch(Source::RemotePods).unwrap();
    eventually(|| remote().synced).await;
    eventually(|| !remote().is_connected()).await;
    assert!(remote().error.is_some_and(|error| error.contains("ends watches of `pods` at once")));
    assert!(!watches.health().is_connected());

    server.delete("pods", "shop", "before");
    tokio::time::sleep(SECOND / 10).await;
    server.apply(pod_from_now("after"));
    let flow = unix_ns() + 300_000_000;
    eventually(|| remote().reconnections == 1).await;
    assert!(unix_ns() > flow, "the watch was back before the flow");
    let owner = || index.pod_at("10.0.2.1".parse().unwrap(), flow).map(|pod| pod.name.to_string());
    eventually(|| owner().as_deref() == Some("after")).await;
}

#[tokio::test]
async fn a_version_that_is_always_too_old_is_said_and_not_listed_again_and_again() {
    let server = ApiServer::start().await.unwrap();
    server.set_streaming_lists(StreamingLists::Refused);
    let (_index, watches) = start(&server, &CancellationToken::new());
    all_open(&watches).await;
    server.refuse("watch", "services", 410);
    server.cut();
    tokio::time::sleep(2 * SECOND).await;
    let services = watches.health().watch(Source::Services).unwrap();
    assert!(services.error.is_some_and(|error| error.contains("too old")));
    // Waits of 10, 20, 40... ms; without their growth there would be some 50 lists.
    let lists = server.times_asked("list", "services");
    assert!((3..=12).contains(&lists), "{lists} lists");
}

#[tokio::test]
async fn a_watch_that_is_refused_is_no_reason_to_list_again() {
    let server = ApiServer::start().await.unwrap();
    server.set_streaming_lists(StreamingLists::Refused);
    server.refuse("watch", "services", 405);
    let (_index, watches) = start(&server, &CancellationToken::new());
    tokio::time::sleep(SECOND).await;
    assert_eq!(server.times_asked("list", "services"), 1);
    assert!(server.times_asked("watch", "services") > 5);
    let services = watches.health().watch(Source::Services).unwrap();
    assert!(services.error.is_some_and(|error| error.contains("answers 405 for `services`")));
}

#[tokio::test]
async fn a_server_that_asks_to_be_left_alone_is() {
    let server = ApiServer::start().await.unwrap();
    server.refuse_all(429);
    server.set_retry_after(Some(2 * SECOND));
    let (_index, watches) = start(&server, &CancellationToken::new());
    eventually(|| server.times_asked("watch", "services") == 1).await;
    tokio::time::sleep(3 * SECOND / 2).await;
    assert_eq!(server.times_asked("watch", "services"), 1);
    server.permit();
    assert!(watches.synced(10 * SECOND).await);
}
