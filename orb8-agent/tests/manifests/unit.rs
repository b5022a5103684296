//! The systemd unit of packages lets the agent do what it has to.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::super::{Agent, NODE, Node, connect, hierarchy, sees_traffic, wait_for_signals};

const UNIT: &str = include_str!("../../../packaging/orb8-agent.service");

fn value(key: &str) -> &'static str {
    let prefix = format!("{key}=");
    UNIT.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap()
}

/// What systemd makes of these lines. A container may not be let raise the limit, which kernels since
/// 5.11 do without.
const SYSTEMD: &str = r#"
ulimit -l unlimited 2>/dev/null || echo "the limit of locked memory is $(ulimit -l) KiB" >&2
exec setpriv --no-new-privs --inh-caps=-all --bounding-set="-all$0" "$1"
"#;

/// The capabilities and the limit of the unit, and no way to gain more. Needs root, cgroup v2, and
/// util-linux (`setpriv`).
#[tokio::test]
async fn what_the_unit_may_do_is_enough() {
    let Some(mount) = hierarchy("what_the_unit_may_do_is_enough") else { return };
    assert_eq!((value("LimitMEMLOCK"), value("NoNewPrivileges")), ("infinity", "yes"));
    let capabilities = value("CapabilityBoundingSet").to_lowercase().replace("cap_", ",+");
    let capabilities = capabilities.replace(' ', "");
    let (node, folder) = (Node::new(&mount, "unit"), TempDir::new().unwrap());
    let socket = folder.path().join("agent.sock");
    let child = Command::new("bash")
        .args(["-c", SYSTEMD, &capabilities, env!("CARGO_BIN_EXE_orb8-agent")])
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("ORB8_NODE_NAME", NODE)
        // The hierarchy's root is other tests' as well, and so may be the ports.
        .env("ORB8_CGROUP_ROOT", node.root())
        .env("ORB8_KUBERNETES", "off")
        .env("ORB8_LISTEN", "off")
        .env("ORB8_ADMIN_LISTEN", "off")
        .env("ORB8_SOCKET", &socket)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let _agent = Agent::of(child);
    let mut client = connect(&socket).await;
    wait_for_signals(&mut client, node.root()).await;
    sees_traffic(&mut client, &node).await;
}
