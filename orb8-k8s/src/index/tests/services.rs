use super::*;

const TCP: u8 = 6;
const UDP: u8 = 17;

fn node(name: &str, ips: &[&str], created: i64) -> Value {
    let addresses: Vec<_> =
        ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    json!({
        "metadata": {"name": name, "uid": format!("{name}-{created}"), "creationTimestamp": date(created)},
        "status": {"addresses": addresses},
    })
}

/// A slice of `kubernetes` with an endpoint that is no pod.
fn slice(name: &str, ip: &str, port: u16) -> Value {
    let mut slice = object(name);
    slice["metadata"]["labels"] = json!({"kubernetes.io/service-name": "kubernetes"});
    slice["endpoints"] = json!([{"addresses": [ip]}]);
    slice["ports"] = json!([{"name": "https", "port": port}]);
    slice
}

#[test]
fn an_address_is_found_with_its_port_and_alone() {
    let mut world = World::synced();
    let ports =
        json!([{"name": "dns", "protocol": "UDP", "port": 53}, {"name": "web", "port": 80}]);
    let mut both = service("web", "10.96.0.1", &ports);
    both["spec"]["clusterIPs"] = json!(["10.96.0.1", "fd00::1"]);
    both["spec"]["externalIPs"] = json!(["192.0.2.1"]);
    both["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}});
    world.apply(Source::Services, &both);
    let find = |ip, protocol, port| world.service_at(ip, protocol, port);
    for ip in ["10.96.0.1", "fd00::1", "::ffff:10.96.0.1"] {
        assert_eq!(find(ip, UDP, 53).as_deref(), Some("ns/web:53 Cluster"));
        assert_eq!(find(ip, TCP, 80).as_deref(), Some("ns/web:80 Cluster"));
        assert_eq!(find(ip, TCP, 53).as_deref(), Some("ns/web Cluster"));
        assert_eq!(find(ip, 1, 0).as_deref(), Some("ns/web Cluster"));
    }
    for ip in ["192.0.2.1", "203.0.113.1"] {
        assert_eq!(find(ip, TCP, 80).as_deref(), Some("ns/web:80 External"));
        assert_eq!(find(ip, TCP, 81).as_deref(), Some("ns/web External"));
    }
    assert_eq!(find("10.96.0.2", TCP, 80), None);
    let found = world.index.service_at("10.96.0.1".parse().unwrap(), UDP, 53).unwrap();
    assert_eq!(found.port_name.as_deref(), Some("dns"));
}

#[test]
fn a_service_that_changes_or_goes_is_not_found_by_what_it_had() {
    let mut world = World::synced();
    world.apply(Source::Services, &service("web", "10.96.0.1", &json!([{"port": 80}])));
    world.apply(Source::Services, &service("web", "10.96.0.1", &json!([{"port": 81}])));
    assert_eq!(world.service_at("10.96.0.1", TCP, 80).as_deref(), Some("ns/web Cluster"));
    assert_eq!(world.service_at("10.96.0.1", TCP, 81).as_deref(), Some("ns/web:81 Cluster"));
    world.apply(Source::Services, &service("web", "None", &json!([{"port": 81}])));
    assert_eq!(world.service_at("10.96.0.1", TCP, 81), None);
    world.apply(Source::Services, &service("web", "10.96.0.2", &json!([{"port": 81}])));
    world.list(Source::Services, &[]);
    assert_eq!(world.service_at("10.96.0.2", TCP, 81), None);
    assert_eq!(world.index.counts().services, 0);
}

#[test]
fn a_service_that_is_made_anew_keeps_what_the_new_one_has() {
    let mut world = World::synced();
    let old = service("web", "10.96.0.1", &json!([{"port": 80}]));
    world.apply(Source::Services, &old);
    let mut new = old.clone();
    new["metadata"]["uid"] = json!("web-2");
    world.list(Source::Services, &[&new]);
    assert_eq!(world.service_at("10.96.0.1", TCP, 80).as_deref(), Some("ns/web:80 Cluster"));
    world.delete(Source::Services, &old);
    assert_eq!(world.service_at("10.96.0.1", TCP, 80).as_deref(), Some("ns/web:80 Cluster"));
}

#[test]
fn services_that_share_an_address_are_told_by_port_only() {
    let mut world = World::synced();
    for (name, ip, port) in [("a", "10.96.0.1", 80), ("b", "10.96.0.2", 81)] {
        let mut shared = service(name, ip, &json!([{"port": port}]));
        shared["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}});
        world.apply(Source::Services, &shared);
    }
    assert_eq!(world.service_at("203.0.113.1", TCP, 80).as_deref(), Some("ns/a:80 External"));
    assert_eq!(world.service_at("203.0.113.1", TCP, 81).as_deref(), Some("ns/b:81 External"));
    assert_eq!(world.service_at("203.0.113.1", TCP, 82), None);
    world.delete(Source::Services, &object("a"));
    assert_eq!(world.service_at("203.0.113.1", TCP, 82).as_deref(), Some("ns/b External"));
}

#[test]
fn a_node_port_is_found_on_nodes_only() {
    let mut world = World::synced();
    let mut web = service("web", "10.96.0.1", &json!([{"port": 80, "nodePort": 30080}]));
    // As a load balancer without addresses of its own does.
    web["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}});
    world.apply(Source::Services, &web);
    assert_eq!(world.service_at("10.0.0.1", TCP, 22).as_deref(), Some("ns/web External"));
    world.apply(Source::Nodes, &node("n1", &["10.0.0.1", "fd00::a"], 0));
    for ip in ["10.0.0.1", "fd00::a"] {
        assert_eq!(world.service_at(ip, TCP, 30080).as_deref(), Some("ns/web:80 NodePort"));
        assert_eq!(world.service_at(ip, UDP, 30080), None);
        assert_eq!(world.service_at(ip, TCP, 22), None);
    }
    assert_eq!(world.service_at("10.0.0.1", TCP, 80).as_deref(), Some("ns/web:80 External"));
    assert_eq!(world.service_at("10.0.0.2", TCP, 30080), None);
}

#[test]
fn an_endpoint_that_is_no_pod_is_its_services() {
    let mut world = World::synced();
    world.apply(Source::Nodes, &node("n1", &["10.0.0.1"], 0));
    world.apply(Source::EndpointSlices, &slice("s1", "10.0.0.1", 6443));
    assert_eq!(world.service_at("10.0.0.1", TCP, 6443).as_deref(), Some("ns/kubernetes Endpoint"));
    assert_eq!(world.index.counts().endpoints, 1);
    let ports = json!([{"name": "https", "port": 443}]);
    world.apply(Source::Services, &service("kubernetes", "10.96.0.1", &ports));
    let named = Some("ns/kubernetes:443 Endpoint");
    assert_eq!(world.service_at("10.0.0.1", TCP, 6443).as_deref(), named);
    assert_eq!(world.service_at("10.0.0.1", TCP, 443), None);
    // Two slices while one replaces the other.
    world.apply(Source::EndpointSlices, &slice("s2", "10.0.0.1", 6443));
    world.delete(Source::EndpointSlices, &object("s1"));
    assert_eq!(world.service_at("10.0.0.1", TCP, 6443).as_deref(), named);
    world.apply(Source::EndpointSlices, &slice("s2", "10.0.0.1", 6444));
    assert_eq!(world.service_at("10.0.0.1", TCP, 6443), None);
    assert_eq!(world.service_at("10.0.0.1", TCP, 6444).as_deref(), named);
    world.delete(Source::Services, &object("kubernetes"));
    assert_eq!(world.service_at("10.0.0.1", TCP, 6444).as_deref(), Some("ns/kubernetes Endpoint"));
    world.delete(Source::EndpointSlices, &object("s2"));
    assert_eq!(world.service_at("10.0.0.1", TCP, 6444), None);
    assert_eq!(world.index.counts().endpoints, 0);
}

#[test]
fn an_external_address_takes_nothing_from_pods_and_services() {
    let mut world = World::synced();
    let mut greedy = service("greedy", "10.96.0.9", &json!([{"port": 80}, {"port": 443}]));
    greedy["metadata"]["namespace"] = json!("aa");
    greedy["spec"]["externalIPs"] = json!(["10.1.0.1", "10.96.0.1", "192.0.2.1"]);
    world.apply(Source::Services, &greedy);
    world.apply(Source::RemotePods, &pod("a", "10.1.0.1", 0));
    world.apply(Source::Services, &service("web", "10.96.0.1", &json!([{"port": 443}])));
    for port in [80, 443, 12345] {
        assert_eq!(world.service_at("10.1.0.1", TCP, port), None, "{port}");
    }
    assert_eq!(world.service_at("10.96.0.1", TCP, 443).as_deref(), Some("ns/web:443 Cluster"));
    for port in [80, 81] {
        let found = world.service_at("10.96.0.1", TCP, port);
        assert_eq!(found.as_deref(), Some("ns/web Cluster"), "{port}");
    }
    assert_eq!(world.service_at("192.0.2.1", TCP, 80).as_deref(), Some("aa/greedy:80 External"));
    // They are its own again where nobody else is.
    world.delete(Source::RemotePods, &object("a"));
    world.delete(Source::Services, &object("web"));
    assert_eq!(world.service_at("10.1.0.1", TCP, 81).as_deref(), Some("aa/greedy External"));
    assert_eq!(world.service_at("10.96.0.1", TCP, 443).as_deref(), Some("aa/greedy:443 External"));
}

#[test]
fn where_networks_overlap_a_pod_has_the_ports_that_a_service_has_not() {
    let mut world = World::synced();
    world.apply(Source::Services, &service("web", "10.1.0.1", &json!([{"port": 80}])));
    world.apply(Source::LocalPods, &pod("a", "10.1.0.1", 0));
    assert_eq!(world.service_at("10.1.0.1", TCP, 80).as_deref(), Some("ns/web:80 Cluster"));
    assert_eq!(world.service_at("10.1.0.1", TCP, 81), None);
}

#[test]
fn a_pods_address_is_no_services() {
    let mut world = World::synced();
    world.apply(Source::EndpointSlices, &slice("s1", "10.1.0.1", 8443));
    assert!(world.service_at("10.1.0.1", TCP, 8443).is_some());
    world.apply(Source::RemotePods, &pod("a", "10.1.0.1", 0));
    assert_eq!(world.service_at("10.1.0.1", TCP, 8443), None);
    world.delete(Source::RemotePods, &object("a"));
    assert!(world.service_at("10.1.0.1", TCP, 8443).is_some());
}

#[test]
fn nodes_are_found_by_name_and_address() {
    let mut world = World::synced();
    world.apply(Source::Nodes, &node("n1", &["10.0.0.1", "fd00::1"], 0));
    let found = |world: &World, ip: &str| {
        world.index.node_at(ip.parse().unwrap()).map(|node| node.name.to_string())
    };
    assert_eq!(found(&world, "fd00::1").as_deref(), Some("n1"));
    assert_eq!(&*world.index.node("n1").unwrap().ips[0].to_string(), "10.0.0.1");
    world.apply(Source::Nodes, &node("n1", &["10.0.0.1"], 0));
    assert_eq!(found(&world, "fd00::1"), None);
    // Made anew with the address of a node whose end is told of later.
    world.apply(Source::Nodes, &node("n2", &["10.0.0.1"], 5));
    world.apply(Source::Nodes, &node("n1", &["10.0.0.3"], 9));
    assert_eq!(found(&world, "10.0.0.1").as_deref(), Some("n2"));
    world.delete(Source::Nodes, &node("n1", &[], 0));
    assert_eq!(found(&world, "10.0.0.1").as_deref(), Some("n2"));
    assert_eq!(&*world.index.node("n1").unwrap().ips[0].to_string(), "10.0.0.3");
    world.list(Source::Nodes, &[]);
    assert_eq!((found(&world, "10.0.0.1"), world.index.node("n1")), (None, None));
}
