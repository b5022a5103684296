//! Of all ways that traffic goes, who is at both ends: as each end's own socket tells.

use super::{
    super::support::{
        cluster::{self, RULES},
        node::{Kubepods, NAMELESS4, Network, OTHER4, REMOTE4, REMOTE6, apart},
        views::{
            Review, Side, Told,
            Traffic::{self, Dns, Tcp, Udp},
            Views, Watches,
        },
    },
    Cast, answers, block_on, start,
};
use orb8_k8s::testing::ApiServer;

const WEB: &str = "shop/web-7d4b9c6f5-x2x4k/main";
const HELPER: &str = "shop/web-7d4b9c6f5-x2x4k/helper";
const DB: &str = "shop/db-0/main";
const SETUP: &str = "shop/db-0/setup";
const SIDECAR: &str = "shop/db-0/proxy";
const DEBUG: &str = "shop/db-0/debug";
const BERT: &str = "ml/bert-worker-0/main";
const NAMES: &str = "kube-system/coredns-5dd5756b68-abcde/main";
const PROXY: &str = "kube-system/proxy-a/main";
const EXPORTER: &str = "monitoring/exporter-node-a/main";
/// By its address, on another node.
const CACHE: &str = "shop/cache-0";

/// A connection or an exchange, and who is at its ends as the client's socket tells and as the
/// server's does; `None` where that one is not on this node.
struct Case {
    port: u16,
    traffic: Traffic,
    at_client: Option<[&'static str; 2]>,
    at_server: Option<[&'static str; 2]>,
}

const fn case(
    port: u16,
    traffic: Traffic,
    at_client: [&'static str; 2],
    at_server: [&'static str; 2],
) -> Case {
    Case { port, traffic, at_client: Some(at_client), at_server: Some(at_server) }
}

/// Both ends' sockets tell the same.
const fn alike(port: u16, traffic: Traffic, ends: [&'static str; 2]) -> Case {
    case(port, traffic, ends, ends)
}

const fn out(port: u16, traffic: Traffic, ends: [&'static str; 2]) -> Case {
    Case { port, traffic, at_client: Some(ends), at_server: None }
}

const fn into(port: u16, traffic: Traffic, ends: [&'static str; 2]) -> Case {
    Case { port, traffic, at_client: None, at_server: Some(ends) }
}

#[test]
fn every_way() {
    apart(|| {
        let (mut here, mut away) = (Kubepods::new(), Kubepods::new());
        let Some(network) = Network::new(RULES) else { return };
        let mut cast = Cast::new(&network, &mut here, &mut away);
        block_on(async {
            let api = ApiServer::start().await.expect("an API server");
            cluster::fill(&api);
            let mut agent = start(&here, &api).await;
            let mut watches = Watches::new(&mut agent).await;
            let cases: Vec<Case> = [pods, host_network, services, masqueraded, beyond]
                .iter()
                .flat_map(|go| go(&mut cast))
                .collect();
            loopback(&mut cast);
            let views = watches.views(&mut agent).await;
            let mut review = Review::default();
            review_loopback(&mut review, &views);
            for Case { port, traffic, at_client, at_server } in cases {
                review.expect(&views, port, traffic, at_client, at_server);
            }
            review.finish();
            answers::filters(&mut agent).await;
            answers::owners(&views);
            answers::pods(&mut agent).await;
            answers::status(&mut agent).await;
            agent.stop().await;
        });
    });
}

/// Pods of this node, by their own addresses.
fn pods(cast: &mut Cast) -> Vec<Case> {
    cast.db.call(20_001, "10.244.1.10:8080");
    cast.db.call(20_002, "[fd00:244:1::10]:8080");
    cast.db.send(20_003, "10.244.1.10:8080");
    cast.db.send(20_004, "[fd00:244:1::10]:8080");
    cast.helper.call(20_005, "10.244.1.11:5432");
    cast.setup.call(20_006, "10.244.1.10:8080");
    cast.debug.send(20_007, "10.244.1.12:8080");
    cast.bert.ask(20_008, "10.244.1.13:53", "elsewhere.test");
    vec![
        alike(20_001, Tcp, [DB, WEB]),
        alike(20_002, Tcp, [DB, WEB]),
        alike(20_003, Udp, [DB, WEB]),
        alike(20_004, Udp, [DB, WEB]),
        alike(20_005, Tcp, [HELPER, DB]),
        alike(20_006, Tcp, [SETUP, WEB]),
        alike(20_007, Udp, [DEBUG, BERT]),
        alike(20_008, Dns, [BERT, NAMES]),
    ]
}

/// Two pods share the node's addresses, and only their cgroups tell which it is.
fn host_network(cast: &mut Cast) -> Vec<Case> {
    cast.bert.call(20_010, "10.200.0.1:9100");
    cast.bert.send(20_011, "10.200.0.1:9100");
    cast.bert.call(20_012, "[fd00:200::1]:9100");
    cast.proxy.call(20_013, "10.244.1.10:8080");
    cast.proxy.send(20_014, "10.244.1.10:8080");
    cast.proxy.call(20_015, "[fd00:244:1::10]:8080");
    cast.exporter.call(20_016, "10.244.1.10:8080");
    cast.proxy.call(20_017, "10.200.0.1:9100");
    cast.proxy.call(20_018, "127.0.0.1:9100");
    cast.proxy.send(20_019, "127.0.0.1:9100");
    vec![
        alike(20_010, Tcp, [BERT, EXPORTER]),
        alike(20_011, Udp, [BERT, EXPORTER]),
        alike(20_012, Tcp, [BERT, EXPORTER]),
        alike(20_013, Tcp, [PROXY, WEB]),
        alike(20_014, Udp, [PROXY, WEB]),
        alike(20_015, Tcp, [PROXY, WEB]),
        alike(20_016, Tcp, [EXPORTER, WEB]),
        alike(20_017, Tcp, [PROXY, EXPORTER]),
        alike(20_018, Tcp, [PROXY, EXPORTER]),
        alike(20_019, Udp, [PROXY, EXPORTER]),
    ]
}

/// The client's socket talks to the Service, the server's with the client.
fn services(cast: &mut Cast) -> Vec<Case> {
    cast.db.call(20_020, "10.96.0.10:80");
    cast.db.send(20_021, "10.96.0.10:80");
    cast.db.call(20_022, "[fd00:96::10]:80");
    cast.db.send(20_023, "[fd00:96::10]:80");
    cast.db.ask(20_024, "10.96.0.53:53", "web.test");
    cast.db.ask(20_025, "[fd00:96::53]:53", "web.test");
    cast.db.call(20_026, "10.96.0.30:9100");
    cast.db.call(20_027, "10.96.0.40:6379");
    cast.db.call(20_028, "[fd00:96::40]:6379");
    cast.db.call(20_029, "10.96.0.1:443");
    cast.db.call(20_030, "10.200.0.3:6443");
    const WEB4: &str = "svc:shop/web:http > shop/web-7d4b9c6f5-x2x4k/main at 10.244.1.10";
    const WEB6: &str = "svc:shop/web:http > shop/web-7d4b9c6f5-x2x4k/main at fd00:244:1::10";
    const QUIC4: &str = "svc:shop/web:quic > shop/web-7d4b9c6f5-x2x4k/main at 10.244.1.10";
    const QUIC6: &str = "svc:shop/web:quic > shop/web-7d4b9c6f5-x2x4k/main at fd00:244:1::10";
    const DNS4: &str =
        "svc:kube-system/kube-dns:dns > kube-system/coredns-5dd5756b68-abcde/main at 10.244.1.13";
    const DNS6: &str = "svc:kube-system/kube-dns:dns > kube-system/coredns-5dd5756b68-abcde/main at fd00:244:1::13";
    const METRICS: &str = "svc:monitoring/exporter:metrics > monitoring/exporter-node-a/main at 10.200.0.1 | \
         svc:monitoring/exporter:metrics > monitoring/exporter-node-a/main";
    vec![
        case(20_020, Tcp, [DB, WEB4], [DB, WEB]),
        case(20_021, Udp, [DB, QUIC4], [DB, WEB]),
        case(20_022, Tcp, [DB, WEB6], [DB, WEB]),
        case(20_023, Udp, [DB, QUIC6], [DB, WEB]),
        case(20_024, Dns, [DB, DNS4], [DB, NAMES]),
        case(20_025, Dns, [DB, DNS6], [DB, NAMES]),
        case(20_026, Tcp, [DB, METRICS], [DB, EXPORTER]),
        out(20_027, Tcp, [DB, "svc:shop/cache:db > shop/cache-0 at 10.244.2.5"]),
        out(20_028, Tcp, [DB, "svc:shop/cache:db > shop/cache-0 at fd00:244:2::5"]),
        out(20_029, Tcp, [DB, "svc:default/kubernetes:https > - at 10.200.0.3"]),
        out(20_030, Tcp, [DB, "svc:default/kubernetes:https"]),
    ]
}

/// The node puts an address of its own in place of the client's.
fn masqueraded(cast: &mut Cast) -> Vec<Case> {
    cast.bert.call(20_040, "10.96.0.20:80");
    cast.bert.call(20_041, "[fd00:96::20]:80");
    cast.proxy.call(20_042, "10.96.0.10:80");
    cast.proxy.ask(20_043, "10.96.0.53:53", "web.test");
    cast.db.call(20_044, "10.200.0.1:30080");
    cast.proxy.call(20_045, "10.200.0.1:30080");
    cast.beyond.call(format_args!("{NAMELESS4}:20046"), "10.200.0.1:30080");
    cast.beyond.call(format_args!("{REMOTE4}:20047"), "10.200.0.1:30080");
    const HTTP: &str = "svc:shop/web:http > shop/web-7d4b9c6f5-x2x4k/main at 10.244.1.10";
    // What a process of the node sends is seen when it is translated already, and what it receives
    // before it is.
    const HTTP_OF_NODE: &str = "svc:shop/web:http > shop/web-7d4b9c6f5-x2x4k/main at 10.244.1.10 | \
                                svc:shop/web:http > shop/web-7d4b9c6f5-x2x4k/main";
    const DNS_OF_NODE: &str = "svc:kube-system/kube-dns:dns > kube-system/coredns-5dd5756b68-abcde/main at 10.244.1.13 | \
         svc:kube-system/kube-dns:dns > kube-system/coredns-5dd5756b68-abcde/main";
    const MASKED: &str =
        "node:node-a > kube-system/proxy-a/main at 10.200.0.1 | kube-system/proxy-a/main";
    vec![
        case(
            20_040,
            Tcp,
            [BERT, "svc:ml/bert:api > ml/bert-worker-0/main at 10.244.1.12"],
            ["node:node-a > ml/bert-worker-0/main at 10.244.1.12", BERT],
        ),
        case(
            20_041,
            Tcp,
            [BERT, "svc:ml/bert:api > ml/bert-worker-0/main at fd00:244:1::12"],
            ["node:node-a > ml/bert-worker-0/main at fd00:244:1::12", BERT],
        ),
        case(20_042, Tcp, [PROXY, HTTP_OF_NODE], [MASKED, WEB]),
        case(20_043, Dns, [PROXY, DNS_OF_NODE], [MASKED, NAMES]),
        case(20_044, Tcp, [DB, HTTP], ["node:node-a > shop/db-0/main at 10.244.1.11", WEB]),
        case(20_045, Tcp, [PROXY, HTTP_OF_NODE], [MASKED, WEB]),
        into(20_046, Tcp, ["node:node-a > - at 192.0.2.77", WEB]),
        into(20_047, Tcp, ["node:node-a > shop/cache-0 at 10.244.2.5", WEB]),
    ]
}

/// Other nodes, their pods, and what is no part of the cluster.
fn beyond(cast: &mut Cast) -> Vec<Case> {
    cast.db.call(20_050, "10.244.2.5:6443");
    cast.db.send(20_051, "[fd00:244:2::5]:6443");
    cast.beyond.call(format_args!("{REMOTE4}:20052"), "10.244.1.10:8080");
    cast.beyond.send(format_args!("[{REMOTE6}]:20053"), "[fd00:244:1::10]:8080");
    cast.beyond.call(format_args!("{REMOTE4}:20054"), "10.200.0.1:9100");
    cast.bert.call(20_055, "10.200.0.2:6443");
    cast.beyond.call(format_args!("{OTHER4}:20056"), "10.244.1.10:8080");
    cast.db.call(20_057, "192.0.2.1:6443");
    cast.db.call(20_058, "192.0.2.77:6443");
    cast.bert.call(20_059, "192.0.2.1:6443");
    vec![
        out(20_050, Tcp, [DB, CACHE]),
        out(20_051, Udp, [DB, CACHE]),
        into(20_052, Tcp, [CACHE, WEB]),
        into(20_053, Udp, [CACHE, WEB]),
        into(20_054, Tcp, [CACHE, EXPORTER]),
        out(20_055, Tcp, [BERT, "node:node-b"]),
        into(20_056, Tcp, ["node:node-b", WEB]),
        out(20_057, Tcp, [DB, "name:web.test"]),
        out(20_058, Tcp, [DB, "-"]),
        // Another pod's answers are not its own: elsewhere.test is the same address.
        out(20_059, Tcp, [BERT, "name:elsewhere.test"]),
    ]
}

/// Two containers of one pod, and two of another one with the same addresses and ports.
fn loopback(cast: &mut Cast) {
    for (port, to) in [(20_060, "127.0.0.1:9000"), (20_061, "[::1]:9000")] {
        cast.web.open(port, to);
        cast.db.open(port, to);
        cast.web.talk(port);
        cast.db.talk(port);
    }
    cast.web.send(20_062, "127.0.0.1:9000");
    cast.db.send(20_062, "127.0.0.1:9000");
}

/// Each pod's client talks to its own pod's server.
fn review_loopback(review: &mut Review, views: &Views) {
    for port in [20_060, 20_061, 20_062] {
        let mut told = views.of(port);
        for (client, server) in [(WEB, HELPER), (DB, SIDECAR)] {
            let is_here = |told: &Told| told.agrees(client, server);
            let sides = [Side::Client, Side::Server];
            let found =
                sides.map(|side| told.iter().any(|told| told.local == side && is_here(told)));
            review.check(found == [true, true], || {
                format!("{port}: {client} -> {server}: {found:?}")
            });
            told.retain(|told| !is_here(told));
        }
        review.check(told.is_empty(), || format!("{port} on a loopback device: {told:#?}"));
    }
}
