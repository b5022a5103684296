//! Names of well-known ports.
//!
//! A name is a hint about what a port is commonly used for; nothing looks into the packets.

use crate::v1::Protocol;

/// One row of [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownPort {
    /// The port.
    pub port: u16,
    /// Transports that it is used on.
    pub transport: Transport,
    /// The name, lower case.
    pub name: &'static str,
}

/// The transports of a [`KnownPort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP only.
    Tcp,
    /// UDP only.
    Udp,
    /// Both.
    Both,
}

impl Transport {
    const fn carries(self, protocol: Protocol) -> bool {
        matches!(
            (self, protocol),
            (Self::Tcp | Self::Both, Protocol::Tcp) | (Self::Udp | Self::Both, Protocol::Udp)
        )
    }
}

/// Returns the name of a port, where it has one on that protocol.
#[must_use]
pub fn name(protocol: Protocol, port: u16) -> Option<&'static str> {
    let first = TABLE.partition_point(|row| row.port < port);
    let rows = TABLE[first..].iter().take_while(|row| row.port == port);
    rows.into_iter().find(|row| row.transport.carries(protocol)).map(|row| row.name)
}

/// Returns the ports that bear a name, on any transport.
pub fn numbers(name: &str) -> impl Iterator<Item = u16> {
    let mut last = None;
    TABLE
        .iter()
        .filter(move |row| row.name.eq_ignore_ascii_case(name))
        .map(|row| row.port)
        .filter(move |port| last.replace(*port) != Some(*port))
}

const fn tcp(port: u16, name: &'static str) -> KnownPort {
    KnownPort { port, transport: Transport::Tcp, name }
}

const fn udp(port: u16, name: &'static str) -> KnownPort {
    KnownPort { port, transport: Transport::Udp, name }
}

const fn both(port: u16, name: &'static str) -> KnownPort {
    KnownPort { port, transport: Transport::Both, name }
}

/// Every port with a name, by port.
///
/// Registered services that clusters still use, Kubernetes' own ports, and what commonly runs in a
/// cluster. Left out: ports below the ephemeral range that no single use owns (8000, 9000, 3000, …).
pub const TABLE: &[KnownPort] = &[
    tcp(20, "ftp-data"),
    tcp(21, "ftp"),
    tcp(22, "ssh"),
    tcp(23, "telnet"),
    tcp(25, "smtp"),
    both(53, "dns"),
    udp(67, "dhcp"),
    udp(68, "dhcpc"),
    udp(69, "tftp"),
    tcp(80, "http"),
    both(88, "kerberos"),
    tcp(110, "pop3"),
    both(111, "rpcbind"),
    udp(123, "ntp"),
    tcp(143, "imap"),
    udp(161, "snmp"),
    tcp(179, "bgp"),
    tcp(389, "ldap"),
    both(443, "https"),
    tcp(445, "smb"),
    udp(500, "ike"),
    both(514, "syslog"),
    udp(546, "dhcp6c"),
    udp(547, "dhcp6"),
    tcp(587, "smtps"),
    tcp(636, "ldaps"),
    tcp(853, "dns-tls"),
    tcp(873, "rsync"),
    tcp(988, "lustre"),
    tcp(993, "imaps"),
    tcp(1433, "mssql"),
    tcp(1521, "oracle"),
    tcp(1883, "mqtt"),
    tcp(2049, "nfs"),
    tcp(2181, "zookeeper"),
    tcp(2375, "docker"),
    tcp(2376, "docker-tls"),
    tcp(2379, "etcd"),
    tcp(2380, "etcd-peer"),
    tcp(3260, "iscsi"),
    tcp(3306, "mysql"),
    tcp(3389, "rdp"),
    tcp(4222, "nats"),
    tcp(4240, "cilium-health"),
    tcp(4244, "hubble"),
    tcp(4245, "hubble-relay"),
    tcp(4317, "otlp"),
    tcp(4318, "otlp-http"),
    udp(4500, "ipsec-nat"),
    both(4789, "vxlan"),
    udp(4791, "roce"),
    udp(5353, "mdns"),
    tcp(5432, "postgres"),
    tcp(5671, "amqps"),
    tcp(5672, "amqp"),
    udp(6081, "geneve"),
    tcp(6379, "redis"),
    tcp(6380, "redis-tls"),
    tcp(6443, "kube-api"),
    tcp(6818, "slurmd"),
    tcp(7472, "metallb"),
    both(7946, "memberlist"),
    tcp(8008, "http-alt"),
    tcp(8080, "http-alt"),
    tcp(8443, "https-alt"),
    udp(8472, "vxlan"),
    tcp(8786, "dask"),
    tcp(9042, "cassandra"),
    tcp(9090, "prometheus"),
    tcp(9092, "kafka"),
    tcp(9093, "alertmanager"),
    tcp(9100, "node-exporter"),
    tcp(9200, "elastic"),
    tcp(9300, "elastic-peer"),
    tcp(9400, "dcgm"),
    tcp(10001, "ray-client"),
    tcp(10249, "kube-proxy"),
    tcp(10250, "kubelet"),
    tcp(10255, "kubelet-ro"),
    tcp(10256, "kube-proxy-hz"),
    tcp(10257, "kube-cm"),
    tcp(10259, "kube-sched"),
    tcp(11211, "memcached"),
    tcp(15001, "envoy-out"),
    tcp(15006, "envoy-in"),
    tcp(15012, "istiod"),
    tcp(15017, "istio-webhook"),
    tcp(15090, "envoy-stats"),
    tcp(27017, "mongodb"),
    tcp(28028, "nccl-ras"),
    tcp(29500, "torch"),
    tcp(50051, "grpc"),
    udp(51820, "wireguard"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_says_nothing_twice() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].port < pair[1].port, "{pair:?}");
        }
    }

    #[test]
    fn names_fit_a_column_and_look_like_names() {
        for row in TABLE {
            assert!(row.name.len() <= 13, "{row:?}");
            assert!(
                row.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            );
            assert!(row.name.starts_with(|c: char| c.is_ascii_lowercase()), "{row:?}");
        }
    }

    #[test]
    fn a_name_depends_on_the_protocol() {
        assert_eq!(name(Protocol::Tcp, 443), Some("https"));
        assert_eq!(name(Protocol::Udp, 53), Some("dns"));
        assert_eq!(name(Protocol::Tcp, 123), None);
        assert_eq!(name(Protocol::Icmp, 443), None);
        assert_eq!(name(Protocol::Tcp, 40_000), None);
    }

    #[test]
    fn numbers_finds_every_port_of_a_name() {
        assert_eq!(numbers("HTTP-alt").collect::<Vec<_>>(), [8008, 8080]);
        assert_eq!(numbers("dns").collect::<Vec<_>>(), [53]);
        assert_eq!(numbers("nothing").count(), 0);
    }
}
